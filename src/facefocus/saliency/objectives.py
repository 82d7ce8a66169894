"""What a gradient explains: similarities of a pair of embeddings (Protocol: objectives).

An objective gives its gradient as ``scale * direction``. The direction belongs to a *family*:
cosine, l2 (normalized) and every arcface are functions of the angle alone, so their gradients are
parallel, one backward pass serves them all, and only the scale tells them apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.core.registry import Registry

Evidence = Literal["positive", "negative"]
PairFunction = Callable[[Tensor, Tensor], Tensor]

#: Embeddings nearer to each other than this share of their length count as equal: float32 cannot
#: tell such a distance from rounding, and its direction would be noise.
RESOLUTION = 1e-6
#: The same as a bound on the cosine, 1 - t^2 / 2: acos is clamped inside (-1, 1) there.
LARGEST_COSINE = 1.0 - RESOLUTION**2 / 2


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A similarity of embeddings whose gradient is split into scale and direction.

    Attributes:
        name: Its canonical text, e.g. ``"arcface(0.2)"``.
        family: Objectives of one family have the same `direction` for every pair.
        sign: 1 for positive evidence, -1 for negative.
        similarity: [n, d], [n, d] -> [n]; larger means more alike; differentiable.
        toward: [n, d], [n, d] -> [n, d]; gradient of the family's representative.
        slope: [n, d], [n, d] -> [n]; gradient of `similarity` = slope * toward.
    """

    name: str
    family: str
    sign: float
    similarity: PairFunction
    toward: PairFunction
    slope: PairFunction

    def value(self, e_a: Float[Tensor, "n d"], e_b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The objective of explained images `e_a` and references `e_b`, raw embeddings."""
        return self.sign * self.similarity(e_a, e_b)

    def direction(
        self, e_a: Float[Tensor, "n d"], e_b: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """Gradient of the family's representative with respect to the raw `e_a`.

        Zero where there is none: equal embeddings (by angle: opposite ones too), and a zero or
        non-finite embedding where one has to be normalized.
        """
        gradient = self.toward(e_a.double(), e_b.double())
        usable = gradient.isfinite().all(dim=1, keepdim=True)
        return gradient.where(usable, 0.0).to(e_a.dtype)

    def scale(self, e_a: Float[Tensor, "n d"], e_b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Signed factor of `direction`; not finite where the gradient does not exist."""
        return (self.sign * self.slope(e_a.double(), e_b.double())).to(e_a.dtype)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an objective's factory is given.

    Attributes:
        argument: Text between the parentheses of the name, or None.
        normalize: Whether l1 and l2 compare normalized embeddings.
        arcface_scale: The factor s of arcface.
        sign: 1 for positive evidence, -1 for negative.
    """

    argument: str | None
    normalize: bool
    arcface_scale: float
    sign: float


Factory = Callable[[Settings], Objective]

#: Name without argument -> factory; plug-ins: entry-point group ``facefocus.objectives``.
OBJECTIVES: Registry[Factory] = Registry("objective")


def parse_objective(
    text: str, *, normalize: bool = True, scale: float = 1.0, evidence: Evidence = "positive"
) -> Objective:
    """The objective that `text` names: ``cosine``, ``l1``, ``l2`` or ``arcface(m)``, m in rad.

    Args:
        text: Name with its argument, e.g. ``"arcface(0.2)"``.
        normalize: Whether l1 and l2 compare normalized embeddings; cosine and arcface always do.
        scale: The factor s of arcface, above 0; the others have none.
        evidence: ``"negative"`` flips the sign.

    Raises:
        UserError: Unknown name, missing, unwanted or bad argument, bad scale or evidence.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9_-]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*", text)
    if match is None:
        raise UserError(
            f"The 'objective' must be a name with at most one argument. Got '{text}'."
            " Did you mean 'arcface(0.2)'?"
        )
    if evidence not in ("positive", "negative"):
        raise UserError(f"The 'evidence' must be 'positive' or 'negative'. Got '{evidence}'.")
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(f"The 'arcface_scale' must be a number above 0. Got {scale}.")
    name, argument = match.group(1).lower(), match.group(2)
    settings = Settings(
        argument=argument,
        normalize=normalize,
        arcface_scale=scale,
        sign=1.0 if evidence == "positive" else -1.0,
    )
    return OBJECTIVES[name](settings)


def _no_argument(name: str, settings: Settings) -> None:
    if settings.argument is not None:
        raise UserError(
            f"The 'objective' {name} takes no argument. Got '{name}({settings.argument})'."
            f" Did you mean '{name}'?"
        )


def _norm(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return norms


def _unit(e: Tensor) -> Tensor:
    return e / _norm(e)


def _distinct(x: Tensor, y: Tensor) -> Tensor:
    return _norm(x - y) > RESOLUTION * _norm(y)


def _cosine(e_a: Tensor, e_b: Tensor) -> Tensor:
    return (_unit(e_a) * _unit(e_b)).sum(dim=1)


def _through_unit(gradient: Tensor, e: Tensor) -> Tensor:
    """Chain rule of u = e / |e|: project on the tangent plane at u, divide by |e|."""
    u = _unit(e)
    return (gradient - (gradient * u).sum(dim=1, keepdim=True) * u) / _norm(e)


def _cosine_gradient(e_a: Tensor, e_b: Tensor) -> Tensor:
    u_a, u_b = _unit(e_a), _unit(e_b)
    resolved = _distinct(u_a, u_b) & _distinct(u_a, -u_b)
    return _through_unit(u_b, e_a).where(resolved, 0.0)


def _constant_slope(e_a: Tensor, e_b: Tensor) -> Tensor:
    return e_a.new_ones(len(e_a))


@OBJECTIVES.register("cosine")
def _make_cosine(settings: Settings) -> Objective:
    _no_argument("cosine", settings)
    return Objective(
        name="cosine",
        family="cosine",
        sign=settings.sign,
        similarity=_cosine,
        toward=_cosine_gradient,
        slope=_constant_slope,
    )


def _l1_raw(e_a: Tensor, e_b: Tensor) -> Tensor:
    return -(e_a - e_b).abs().sum(dim=1)


def _l1_raw_gradient(e_a: Tensor, e_b: Tensor) -> Tensor:
    return -torch.sign(e_a - e_b).where(_distinct(e_a, e_b), 0.0)


def _l1(e_a: Tensor, e_b: Tensor) -> Tensor:
    return _l1_raw(_unit(e_a), _unit(e_b))


def _l1_gradient(e_a: Tensor, e_b: Tensor) -> Tensor:
    return _through_unit(_l1_raw_gradient(_unit(e_a), _unit(e_b)), e_a)


@OBJECTIVES.register("l1")
def _make_l1(settings: Settings) -> Objective:
    _no_argument("l1", settings)
    return Objective(
        name="l1",
        family="l1" if settings.normalize else "l1-raw",
        sign=settings.sign,
        similarity=_l1 if settings.normalize else _l1_raw,
        toward=_l1_gradient if settings.normalize else _l1_raw_gradient,
        slope=_constant_slope,
    )


def _l2_raw(e_a: Tensor, e_b: Tensor) -> Tensor:
    return -_norm(e_a - e_b).squeeze(1)


def _l2_raw_gradient(e_a: Tensor, e_b: Tensor) -> Tensor:
    return -_unit(e_a - e_b).where(_distinct(e_a, e_b), 0.0)


def _l2(e_a: Tensor, e_b: Tensor) -> Tensor:
    return _l2_raw(_unit(e_a), _unit(e_b))


def _l2_slope(e_a: Tensor, e_b: Tensor) -> Tensor:
    """1 / |u_a - u_b|: the derivative of -sqrt(2 - 2 cos t) with respect to cos t."""
    return 1.0 / _norm(_unit(e_a) - _unit(e_b)).squeeze(1)


@OBJECTIVES.register("l2")
def _make_l2(settings: Settings) -> Objective:
    _no_argument("l2", settings)
    return Objective(
        name="l2",
        family="cosine" if settings.normalize else "l2-raw",
        sign=settings.sign,
        similarity=_l2 if settings.normalize else _l2_raw,
        toward=_cosine_gradient if settings.normalize else _l2_raw_gradient,
        slope=_l2_slope if settings.normalize else _constant_slope,
    )


def _margin(argument: str | None) -> float:
    try:
        margin = float(argument) if argument is not None else math.nan
    except ValueError:
        margin = math.nan
    if not 0.0 <= margin < math.pi / 2:
        got = "'arcface'" if argument is None else f"'arcface({argument})'"
        raise UserError(
            f"The margin of the 'objective' arcface must be in [0, pi/2) rad. Got {got}."
            " Did you mean 'arcface(0.2)'?"
        )
    return abs(margin)  # -0 is 0


@OBJECTIVES.register("arcface")
def _make_arcface(settings: Settings) -> Objective:
    margin, factor = _margin(settings.argument), settings.arcface_scale

    def angle(e_a: Tensor, e_b: Tensor) -> Tensor:
        # Float32 has no number between LARGEST_COSINE and 1: its own last step is then the bound.
        bound = min(LARGEST_COSINE, 1.0 - torch.finfo(e_a.dtype).eps)
        return torch.acos(_cosine(e_a, e_b).clamp(-bound, bound))

    def similarity(e_a: Tensor, e_b: Tensor) -> Tensor:
        return factor * torch.cos(angle(e_a, e_b) + margin)

    def slope(e_a: Tensor, e_b: Tensor) -> Tensor:
        t = angle(e_a, e_b)
        return factor * torch.sin(t + margin) / torch.sin(t)

    short = f"{margin:g}"
    return Objective(
        # One text for one margin: 'arcface( 0.10 )' is 'arcface(0.1)', and no two share one.
        name=f"arcface({short if float(short) == margin else repr(margin)})",
        family="cosine",
        sign=settings.sign,
        similarity=similarity,
        toward=_cosine_gradient,
        slope=slope,
    )
