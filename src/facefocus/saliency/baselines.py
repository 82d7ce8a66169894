"""Maps that look at no face: what any real method has to beat (Protocol: baselines)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from facefocus.core import seeds
from facefocus.core.progress import Progress
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, Maps, MapSpec
from facefocus.saliency.methods import METHODS, Baseline, BaselineFunction

#: Standard deviation of the center-Gaussian as a share of each side. On a square frame the order
#: of the pixels, and so every mask, is the same for any value.
CENTER_SIGMA = 0.25


def _baseline(name: str, *, version: int) -> Callable[[BaselineFunction], BaselineFunction]:
    def add(function: BaselineFunction) -> BaselineFunction:
        METHODS.add(name, Baseline(name, function, version))
        return function

    return add


@_baseline("random", version=1)
def random_map(shape: tuple[int, int], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Independent uniform pixels in [0, 1)."""
    return rng.random(shape, dtype=np.float32)


@_baseline("center-gaussian", version=1)
def center_gaussian(shape: tuple[int, int], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """A Gaussian about the frame's center, 1 at its peak, sigma a quarter of each side."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (CENTER_SIGMA * side)) ** 2)
        for side in shape
    )
    return np.outer(rows, columns).astype(np.float32)


def baseline_map(
    method: Baseline, shape: tuple[int, int], *, seed: int, identity: str, draw: int = 0
) -> Float32[np.ndarray, "h w"]:
    """The map of one identity: the same for equal arguments, whatever was drawn before.

    Args:
        method: A baseline of the registry.
        shape: Height and width of the frame.
        seed: The experiment's seed.
        identity: Whose map it is.
        draw: Number of the repetition.
    """
    rng = seeds.generator(seed, f"baseline-{method.name}", identity, draw)
    return method.function(shape, rng)


class _Baselines(Explainer):
    """The explainer of all baselines: see `facefocus.saliency.explainer.Explainer`."""

    def check(self, spec: MapSpec, frame: tuple[int, int]) -> None:
        """See `Baseline.check`."""
        method = METHODS[spec.method]
        assert isinstance(method, Baseline)
        if method.check is not None:
            method.check(frame)

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """A draw for each person."""
        images, people = request.images, request.people
        for spec in request.specs:
            method = METHODS[spec.method]
            assert isinstance(method, Baseline)
            drawn = [
                baseline_map(
                    method,
                    images.frame,
                    seed=images.seed,
                    identity=person.name,
                    draw=spec.draw or 0,
                )
                for person in people
            ]
            yield spec, MapArrays.whole(np.stack(drawn), np.zeros(len(people)))


#: The explainer of all baselines.
BASELINES = _Baselines()
