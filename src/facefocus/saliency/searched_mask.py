"""The mask of one person, searched on the person's photos with the fill in the loop.

Protocol: searched-mask. As `facefocus.saliency.shared_mask`, but on the photos that are explained.
Only embeddings are used: the recognizer may be a black box, the fill anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, UInt8

from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.models.recognizer import Recognizer
from facefocus.models.zoo import entries
from facefocus.saliency.explainer import (
    Explainer,
    Hide,
    MapArrays,
    MapRequest,
    Maps,
    Needs,
    Options,
    Passes,
)
from facefocus.saliency.methods import METHODS, Option, Whole, _MethodBase
from facefocus.saliency.shared_mask import People, climb_of_people, units_of


def searched_mask(
    recognizers: Sequence[Recognizer],
    frames: UInt8[np.ndarray, "n h w 3"],
    hide: Hide,
    pixels: int,
    *,
    steps: int,
    rng: np.random.Generator,
    photos: int | None = None,
    progress: Progress = silent,
) -> Float32[np.ndarray, "h w"]:
    """The map whose `pixels` largest values leave fewest pairs of these photos matched.

    What is lowered is the mean over the recognizers of `People.matched`, at `soft_threshold`.

    Args:
        recognizers: The sources.
        frames: RGB, of one person, or of several one after another.
        hide: What hides a mask on all of them.
        pixels: How many will be hidden.
        steps: Masks that are tried.
        rng: For the Gaussians.
        photos: Photos of each person; by default all are of one.
        progress: Called per step.

    Returns:
        Ranks in (0, 1]; zeros for a single photo, which no other can be compared with.

    Example:
        >>> import facefocus as ff
        >>> from facefocus.occlusion.fills import fill_rng, hider
        >>> frames = ff.load_faces("synthetic-eyes", people=1).frames[:2]
        >>> hide = hider("inpaint", frames, [fill_rng(0, name) for name in "ab"])
        >>> model = ff.load_recognizer("iresnet-mini-eyes")
        >>> rng = np.random.default_rng(0)
        >>> searched_mask([model], frames, hide, 627, steps=5, rng=rng).shape
        (112, 112)
    """
    shape = (frames.shape[1], frames.shape[2])
    each = photos or len(frames)
    if each == 1:
        return np.zeros(shape, np.float32)
    people = []
    for recognizer in recognizers:
        units = units_of(recognizer.embed(frames))
        units = units.reshape(-1, each, units.shape[1])
        people.append(People(units, soft_threshold(recognizer, units)))
    return climb_of_people(
        recognizers, hide, people, shape, pixels, steps=steps, rng=rng, progress=progress
    )


def soft_threshold(recognizer: Recognizer, units: Float[np.ndarray, "p m d"]) -> float:
    """The cosine at which a pair counts half: the card's threshold for pairs.

    Without one, half the mean cosine of the mated pairs of `units`: photos of one person alone
    have no non-mated pairs to set a threshold by.
    """
    known = entries().get(recognizer.name)
    if known is not None and known.pair_threshold is not None:
        return known.pair_threshold
    other = ~np.eye(units.shape[1], dtype=bool)
    return float(np.einsum("pid,pjd->pij", units, units)[:, other].mean()) / 2


class _SearchedMasks(Explainer):
    """See `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """A search for each person."""
        images, people = request.images, len(request.people)
        recognizers = [images.recognizer(name) for name in request.sources]
        for spec in request.specs:
            assert spec.fill is not None and spec.budget is not None
            steps = int(dict(spec.options)["steps"])
            made = []
            for number, person in enumerate(request.people):

                def tried(_: str, done: int, steps: int, before: int = number) -> None:
                    progress("searched mask", before * steps + done, people * steps)

                made.append(
                    searched_mask(
                        recognizers,
                        np.asarray(images.frames[person.rows]),
                        images.hider(person.rows, spec.fill),
                        images.pixels(spec.budget),
                        steps=steps,
                        rng=generator(images.seed, "searched-mask", person.name),
                        progress=tried,
                    )
                )
            degenerate = np.array([len(person.rows) == 1 for person in request.people])
            yield spec, MapArrays.whole(np.stack(made), degenerate)

    def passes(self, request: MapRequest, every: Sequence[object]) -> Passes:
        """A pass an image and step, at most: steps that change no mask take none."""
        count = sum(len(person.rows) for person in request.people)
        total = sum(count * (2 + int(dict(spec.options)["steps"])) for spec in request.specs)
        return Passes(inference=total, alone=total, exact=False)


#: The explainer of the one method.
SEARCHED_MASKS = _SearchedMasks()


@dataclass(frozen=True)
class SearchedMask(_MethodBase):
    """The method; see `facefocus.saliency.methods.Method`."""

    name: str = "searched-mask"
    version: int | str = 1
    options: Mapping[str, Option] = field(
        default_factory=lambda: {"steps": Whole("300", 1, 100_000)}
    )

    kind: ClassVar[str] = "black-box"
    made_by: ClassVar[str] = "facefocus.saliency.searched_mask:SEARCHED_MASKS"

    def needs(self, options: Options) -> Needs:
        """See `Method`: a map for every fill and budget."""
        return Needs(fill=True, budget=True, seed=True, sources="several")


METHODS.add("searched-mask", SearchedMask())
