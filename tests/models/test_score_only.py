"""Recognizers that only return a score: counted, kept, limited in rate; refused where they must."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import facefocus as ff
from facefocus.benchmark.verify import verify_recognizer
from facefocus.core.errors import UserError
from facefocus.core.store import Store
from facefocus.evaluation.verification import pair_scores
from facefocus.models.recognizer import white_box
from facefocus.models.score_only import ScoreRecognizer, compares_two, from_function
from facefocus.models.zoo import load
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.saliency.perturbation import perturbation_identity_map, scored_identity_map
from tests.conftest import Command
from tests.small import paint_faceset, tiny_recognizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_score.py"
TINY = tiny_recognizer()


def tiny_score(first: np.ndarray, second: np.ndarray) -> float:
    """What the tiny recognizer's embeddings give, 30 times as large."""
    embeddings = TINY.embed(np.stack([first, second]))
    return 30 * float(pair_scores(embeddings, np.array([0]), np.array([1]))[0])


def recognizer(
    tmp_path: Path, function: Callable[..., object] = tiny_score, **options: float
) -> ScoreRecognizer:
    made = from_function(function, **options)  # type: ignore[arg-type]
    made.store = Store(tmp_path / "store")
    return made


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    first, second = images(11), images(11, 1)
    asked = recognizer(tmp_path)
    asked.look()
    assert asked.calls == 3
    scores = asked.scores(first, second)
    assert asked.calls == 3 + 11
    np.testing.assert_array_equal(asked.scores(first, second), scores)
    assert asked.calls == 3 + 11
    again = recognizer(tmp_path)
    np.testing.assert_array_equal(again.scores(first, second), scores)
    assert again.calls == 3 and again.fingerprint == asked.fingerprint
    first[9] += 1
    assert (again.scores(first, second) != scores).tolist() == [False] * 9 + [True, False]
    assert again.calls == 3 + 3, "the group of the changed image, no other"


def test_what_was_asked_before_an_interruption_is_kept(tmp_path: Path) -> None:
    left = [20]

    def failing(first: np.ndarray, second: np.ndarray) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return float(first[0, 0, 0]) - float(second[0, 0, 0])

    asked = recognizer(tmp_path, failing)
    with pytest.raises(KeyboardInterrupt):
        asked.scores(images(30), images(30, 1))
    left[0] = 100
    asked.scores(images(30), images(30, 1))
    # 17 calls after the probe: two groups of 8 are kept, 14 of 30 pairs are left.
    assert 100 - left[0] == 30 - 16


def test_calls_are_limited_in_rate(tmp_path: Path) -> None:
    asked = recognizer(tmp_path, lambda first, second: 1.0, calls_per_second=100)
    start = time.monotonic()
    asked.scores(images(7), images(7, 1))
    assert asked.calls == 10 and time.monotonic() - start >= 9 / 100
    with pytest.raises(UserError, match=r"'calls_per_second' of 'tiny_score' must be above 0"):
        recognizer(tmp_path, calls_per_second=0)


def test_another_recognizer_behind_the_same_function_has_another_fingerprint(
    tmp_path: Path,
) -> None:
    scale = [1.0]

    def scaled(first: np.ndarray, second: np.ndarray) -> float:
        return scale[0] * float(np.mean(first == second))

    before = recognizer(tmp_path, scaled).fingerprint
    assert recognizer(tmp_path, scaled).fingerprint == before
    scale[0] = 1.1
    assert recognizer(tmp_path, scaled).fingerprint != before


@pytest.mark.parametrize("wrong", [None, float("nan"), "high", np.zeros(2)])
def test_a_score_must_be_one_finite_number(tmp_path: Path, wrong: object) -> None:
    asked = recognizer(tmp_path, lambda first, second: wrong)
    with pytest.raises(UserError, match=r"must return one finite number for two images\. Got"):
        asked.scores(images(1), images(1, 1))


def test_verification_is_that_of_the_embeddings(tmp_path: Path) -> None:
    folder = paint_faceset(tmp_path / "painted", listed=True)
    by_score = verify_recognizer(folder, recognizer(tmp_path), store=tmp_path / "store").report
    by_embedding = verify_recognizer(folder, TINY, backend="torch", store=tmp_path / "s").report
    assert by_score.eer == by_embedding.eer and by_score.tmr == by_embedding.tmr
    assert by_score.threshold == pytest.approx(30 * by_embedding.threshold)


@pytest.mark.parametrize(
    ("method", "fill"), [("s-rise", None), ("corr-rise", None), ("corr-rise", "mean")]
)
def test_maps_are_those_of_the_embeddings(tmp_path: Path, method: str, fill: str | None) -> None:
    from facefocus.saliency.perturbation import masks_of

    frames = images(3)
    options = (("masks", "70"),)
    names = [f"image {row}" for row in range(3)]
    masks = [masks_of(method, options, (32, 32), name, 0, fill) for name in names]
    hides = [
        None if fill is None else hider(fill, frames[row : row + 1], [fill_rng(0, name)])
        for row, name in enumerate(names)
    ]
    pairs = np.array([[0, 1], [0, 2], [2, 1]])
    from facefocus.saliency.perturbation import masked_embeddings

    masked = [
        masked_embeddings(TINY, f, m, hide=h) for f, m, h in zip(frames, masks, hides, strict=True)
    ]
    expected, *counts = perturbation_identity_map(masks, masked, TINY.embed(frames), pairs)
    saliency, *scored = scored_identity_map(masks, recognizer(tmp_path), frames, pairs, hides)
    np.testing.assert_allclose(saliency, expected, atol=1e-4)
    assert counts == scored == [3, 0]


def test_explain_takes_a_function_and_refuses_gradients(tmp_path: Path) -> None:
    faces = ff.load_faces(images(4), ["Ada", "Ada", "Ben", "Ben"])
    asked = ff.load_recognizer(tiny_score, name="service", calls_per_second=1e6)
    assert asked.name == "service"
    maps = ff.explain(asked, faces, "s-rise", options={"masks": 16})
    assert set(maps) == {"Ada", "Ben"} and maps["Ada"].shape == (32, 32)
    for needs in ("grad-cam", "occlusion-gradient"):
        with pytest.raises(UserError, match="returns a score for two images, no embeddings"):
            ff.explain(asked, faces, needs, layer="1")
    with pytest.raises(UserError, match="It serves in 'facefocus verify'"):
        ff.evaluate(maps, asked, faces, threshold=0.5)
    with pytest.raises(UserError, match="no embeddings"):
        white_box(asked, "a test")


def test_the_example_serves_in_commands(tmp_path: Path, command: Command) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    paint_faceset(tmp_path / "painted", listed=True)
    done = command("verify", "--faces", "painted", "--model", "my_score.py:similarity")
    assert done.code == 0 and re.search(r"36 pairs|mated", done.out), done
    (tmp_path / "no.toml").write_text(
        'name = "no"\n[faces]\nidentities = 2\n[recognizers]\nsource = "my_score.py:similarity"\n'
        '[[saliency]]\nmethod = "s-rise"\n[occlusion]\nbudget = 0.1\nfill = "black"\n'
    )
    refused = command("run", "no.toml", "--faces", "painted", "--out", "run")
    assert refused.code == 2 and "returns a score for two images" in refused.err


def test_a_file_is_recognized_by_its_two_arguments(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    made = load(f"{tmp_path}/my_score.py:similarity")
    assert isinstance(made, ScoreRecognizer)
    assert (made.name, made.calls_per_second) == ("my_score.similarity", 2000)
    before = made.fingerprint
    file = tmp_path / "my_score.py"
    file.write_text(file.read_text().replace("(8, 8)", "(6, 6)"))
    assert load(f"{tmp_path}/my_score.py:similarity").fingerprint != before
    with pytest.raises(UserError, match="is its own and cannot be given"):
        load(f"{tmp_path}/my_score.py:similarity", {"size": [112, 112], "mean": 0, "std": 1})


def test_conformance_finds_what_tells_nobody_apart(tmp_path: Path) -> None:
    from facefocus.testing import check_recognizer

    def passed(function: Callable[..., object]) -> dict[str, bool]:
        return {
            check.name: check.passed for check in check_recognizer(recognizer(tmp_path, function))
        }

    drawn = np.random.default_rng(0)
    example = load(f"{EXAMPLE}:similarity")
    assert isinstance(example, ScoreRecognizer)
    assert all(passed(example.compare).values())
    assert passed(lambda first, second: 1.0)["scores"] is False
    assert passed(lambda first, second: drawn.random())["deterministic"] is False


def test_what_compares_two_images() -> None:
    assert compares_two(lambda first, second, scale=1: 0.0)
    assert not compares_two(lambda: 0.0)
    assert not compares_two(lambda first: 0.0)
    assert not compares_two(dict)
