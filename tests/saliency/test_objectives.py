from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.saliency.objectives import OBJECTIVES, Evidence, Objective, parse_objective

EVERY = [
    ("cosine", True),
    ("l1", True),
    ("l1", False),
    ("l2", True),
    ("l2", False),
    ("arcface(0)", True),
    ("arcface(0.1)", True),
    ("arcface(0.3)", True),
    ("arcface(1.5)", True),
]


def embeddings(seed: int = 0, n: int = 6, d: int = 5) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    e_a = torch.randn(n, d, generator=rng, dtype=torch.float64) * 3
    return e_a, torch.randn(n, d, generator=rng, dtype=torch.float64)


def true_gradient(objective: Objective, e_a: Tensor, e_b: Tensor) -> Tensor:
    leaf = e_a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.value(leaf, e_b).sum(), leaf)
    return gradient


# Literal values: e_a = (3, 4), e_b = (2, 0): u_a = (.6, .8), u_b = (1, 0), cos t = .6, sin t = .8.
VALUES = {
    ("cosine", True): 0.6,
    ("l1", True): -(0.4 + 0.8),
    ("l1", False): -(1 + 4),
    ("l2", True): -math.sqrt(0.16 + 0.64),
    ("l2", False): -math.sqrt(1 + 16),
    # cos(t + m) = cos t cos m - sin t sin m
    ("arcface(0)", True): 0.6,
    ("arcface(0.1)", True): 0.6 * math.cos(0.1) - 0.8 * math.sin(0.1),
    ("arcface(0.3)", True): 0.6 * math.cos(0.3) - 0.8 * math.sin(0.3),
    ("arcface(1.5)", True): 0.6 * math.cos(1.5) - 0.8 * math.sin(1.5),
}


@pytest.mark.parametrize(("text", "normalize"), EVERY)
def test_value_by_hand(text: str, normalize: bool) -> None:
    e_a, e_b = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[2.0, 0.0]]).double()
    objective = parse_objective(text, normalize=normalize)
    assert objective.value(e_a, e_b).item() == pytest.approx(VALUES[text, normalize], abs=1e-12)


@pytest.mark.parametrize("evidence", ["positive", "negative"])
@pytest.mark.parametrize(("text", "normalize"), EVERY)
def test_gradient_is_scale_times_direction(text: str, normalize: bool, evidence: Evidence) -> None:
    objective = parse_objective(text, normalize=normalize, scale=64.0, evidence=evidence)
    e_a, e_b = embeddings()
    product = objective.scale(e_a, e_b)[:, None] * objective.direction(e_a, e_b)
    torch.testing.assert_close(product, true_gradient(objective, e_a, e_b), rtol=1e-10, atol=1e-12)


def test_negative_evidence_flips_value_and_scale_but_not_direction() -> None:
    e_a, e_b = embeddings()
    plus = parse_objective("l2")
    minus = parse_objective("l2", evidence="negative")
    torch.testing.assert_close(minus.value(e_a, e_b), -plus.value(e_a, e_b))
    torch.testing.assert_close(minus.scale(e_a, e_b), -plus.scale(e_a, e_b))
    torch.testing.assert_close(minus.direction(e_a, e_b), plus.direction(e_a, e_b))


def test_families() -> None:
    families = {key: parse_objective(key[0], normalize=key[1]).family for key in EVERY}
    assert families == {
        ("cosine", True): "cosine",
        ("l1", True): "l1",
        ("l1", False): "l1-raw",
        ("l2", True): "cosine",
        ("l2", False): "l2-raw",
        ("arcface(0)", True): "cosine",
        ("arcface(0.1)", True): "cosine",
        ("arcface(0.3)", True): "cosine",
        ("arcface(1.5)", True): "cosine",
    }


def test_members_of_a_family_have_one_direction() -> None:
    e_a, e_b = embeddings()
    direction = parse_objective("cosine").direction(e_a, e_b)
    for text in ("l2", "arcface(0.2)"):
        assert torch.equal(parse_objective(text).direction(e_a, e_b), direction)


def test_arcface_beyond_pi_turns_the_gradient_around() -> None:
    # t = 2.9 rad and m = 0.3: t + m is past pi, where cos(t + m) grows with t again.
    e_a = torch.tensor([[1.0, 0.0]]).double()
    e_b = torch.tensor([[math.cos(2.9), math.sin(2.9)]], dtype=torch.float64)
    scale = parse_objective("arcface(0.3)").scale(e_a, e_b).item()
    assert scale == pytest.approx(math.sin(3.2) / math.sin(2.9), rel=1e-9)
    assert scale < 0


@pytest.mark.parametrize(("text", "normalize"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_embeddings_have_no_direction(text: str, normalize: bool, dtype: torch.dtype) -> None:
    objective = parse_objective(text, normalize=normalize)
    e = embeddings()[0].to(dtype)
    assert objective.direction(e, e).abs().max().item() == 0.0
    assert objective.value(e, e).isfinite().all()
    objective.scale(e, e)  # may be infinite, never an error


@pytest.mark.parametrize("text", ["cosine", "l1", "l2", "arcface(0.2)"])
def test_a_distance_of_rounding_has_no_direction(text: str) -> None:
    e = embeddings(n=50, d=128)[0].float()
    noisy = e * (1 + 2.0**-24)
    assert parse_objective(text).direction(noisy, 2.5 * e).abs().max().item() == 0.0


@pytest.mark.parametrize("text", ["cosine", "l2", "arcface(0.2)"])
def test_opposite_embeddings_have_no_direction_by_angle(text: str) -> None:
    e = embeddings()[0]
    assert parse_objective(text).direction(e, -2 * e).abs().max().item() == 0.0


@pytest.mark.parametrize("zero_first", [True, False])
@pytest.mark.parametrize("text", ["cosine", "l1", "l2", "arcface(0.2)"])
def test_a_zero_embedding_has_no_direction(text: str, zero_first: bool) -> None:
    e = embeddings()[0]
    zero = torch.zeros_like(e)
    pair = (zero, e) if zero_first else (e, zero)
    assert parse_objective(text).direction(*pair).abs().max().item() == 0.0


def test_one_bad_row_leaves_the_others_alone() -> None:
    e_a, e_b = embeddings()
    clean = parse_objective("cosine").direction(e_a, e_b)
    e_a[2] = torch.nan
    directions = parse_objective("cosine").direction(e_a, e_b)
    assert directions[2].abs().max().item() == 0.0
    assert torch.equal(directions[[0, 1, 3, 4, 5]], clean[[0, 1, 3, 4, 5]])


def test_raw_objectives_have_a_direction_at_a_zero_embedding() -> None:
    # -|0 - (3, 4)|: towards (3, 4) with unit length.
    zero, e = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    direction = parse_objective("l2", normalize=False).direction(zero, e)
    torch.testing.assert_close(direction, torch.tensor([[0.6, 0.8]]))


def test_arcface_scale_is_64_times_that_of_1() -> None:
    e_a, e_b = embeddings()
    plain, scaled = parse_objective("arcface(0.2)"), parse_objective("arcface(0.2)", scale=64.0)
    torch.testing.assert_close(scaled.value(e_a, e_b), 64 * plain.value(e_a, e_b))


def test_names_are_canonical() -> None:
    assert parse_objective(" ArcFace( 0.20 ) ").name == "arcface(0.2)"
    assert set(OBJECTIVES) >= {"cosine", "l1", "l2", "arcface"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "No objective is called 'cosin'.*Did you mean 'cosine'"),
        ("cosine(1)", "takes no argument. Got 'cosine\\(1\\)'"),
        ("arcface", "must be in \\[0, pi/2\\) rad. Got 'arcface'"),
        ("arcface(x)", "Got 'arcface\\(x\\)'"),
        ("arcface(nan)", "Got 'arcface\\(nan\\)'"),
        ("arcface(-0.1)", "Got 'arcface\\(-0.1\\)'"),
        ("arcface(1.6)", "Got 'arcface\\(1.6\\)'"),
        ("arcface(0.2", "must be a name with at most one argument"),
        ("", "must be a name"),
    ],
)
def test_bad_text_is_a_user_error(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_objective(text)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_bad_scale_is_a_user_error(scale: float) -> None:
    with pytest.raises(UserError, match="'arcface_scale' must be a number above 0"):
        parse_objective("arcface(0.2)", scale=scale)
