"""What a recognizer's photos go through for its card: hidden parts, and nuisances."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from facefocus.benchmark.keys import fill_of
from facefocus.evaluation.nuisances import nuisance_rng, seen_under
from facefocus.faces.part_atlas import FACE_PARTS, PART_WORDS, parts
from facefocus.occlusion.fills import fill_rng, hider

#: The nuisances of the first table, and those of the table on stability.
FIRST = {
    "jpeg-10": "JPEG of quality 10",
    "shift-6": "shifted by 6 pixels",
    "half": "half the resolution",
}
FURTHER = {
    "jpeg-90": "JPEG of quality 90",
    "jpeg-75": "JPEG of quality 75",
    "jpeg-50": "JPEG of quality 50",
    "shift-1": "shifted by 1 pixel",
    "shift-2": "shifted by 2 pixels",
    "shift-3": "shifted by 3 pixels",
    "scale": "3 % smaller or larger",
    "rotate": "turned by 4 degrees",
    "align": "aligned anew: shift, scale and turn",
    "blur": "blurred, sigma 1 pixel",
    "median-3": "median of 3 x 3 pixels",
    "median-5": "median of 5 x 5 pixels",
}
#: The fills that hide, by reading: an artefact, and lost information (Protocol: fills).
CARD_FILLS = ("black", "inpaint")
#: Raise when a change is made in another way.
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Condition:
    """What becomes of a photo before it is compared with a clean one.

    Attributes:
        name: ``"clean"``, ``"jpeg-10"``, ``"eyes, inpaint"``.
        words: In a table.
        part: What is hidden: a part, ``"outside"`` or ``"inside"`` of the face; or nothing.
        fill: What hides it.
        nuisance: What happens to the photo.
        mask: True where a pixel is hidden.
    """

    name: str
    words: str
    part: str | None = None
    fill: str | None = None
    nuisance: str | None = None
    mask: Bool[np.ndarray, "h w"] | None = None

    @property
    def area(self) -> float:
        """The share of the picture that is hidden."""
        return 0.0 if self.mask is None else float(self.mask.mean())

    def determined_by(self) -> dict[str, Any]:
        """Plain data that the changed photos depend on, for keys."""
        hidden = None if self.mask is None else hashlib.sha256(self.mask.tobytes()).hexdigest()
        return {
            "version": _VERSION,
            "nuisance": self.nuisance,
            "fill": None if self.fill is None else fill_of(self.fill),
            "mask": hidden,
        }

    def changed(
        self, frames: UInt8[np.ndarray, "n h w 3"], names: Sequence[str], seed: int
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The photos under this condition, each by a generator of its name's."""
        hide = hider(self.fill or "black", frames, [fill_rng(seed, name) for name in names])
        if self.nuisance is not None:
            nothing = np.zeros(frames.shape[1:3], bool)
            rngs = [nuisance_rng(seed, self.nuisance, name) for name in names]
            return seen_under(
                self.nuisance, frames, nothing, "black", hide=lambda fill: hide, rngs=rngs
            )
        return frames if self.mask is None else hide(self.mask)


CLEAN = Condition("clean", "clean")


def first_conditions(side: int) -> list[Condition]:
    """Those of the first table, clean first.

    Raises:
        UserError: As `facefocus.faces.part_atlas.parts`.
    """
    drawn = parts(side)
    inside = np.any([drawn[name] for name in FACE_PARTS], axis=0)
    hidden = {
        "outside": ("everything outside the face", ~inside),
        "inside": ("everything inside the face", inside),
        **{name: (PART_WORDS[name], mask) for name, mask in drawn.items()},
    }
    return [
        CLEAN,
        *(Condition(name, words, nuisance=name) for name, words in FIRST.items()),
        *(
            Condition(f"{part}, {fill}", f"{words} hidden, {_HOW[fill]}", part, fill, mask=mask)
            for part, (words, mask) in hidden.items()
            for fill in CARD_FILLS
        ),
    ]


_HOW = {"black": "black", "inpaint": "filled in"}


def further_conditions() -> list[Condition]:
    """Those of the table on stability."""
    return [Condition(name, words, nuisance=name) for name, words in FURTHER.items()]
