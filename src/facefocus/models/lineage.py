"""What a recognizer learned from and what it is: whether two of them are kin (Protocol: transfer).

A mask transfers better between recognizers that share training data or family, so a result on a
recognizer that never saw the mask is told by lineage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from facefocus.core.errors import UserError

#: What a recognizer says of itself where nobody knows better.
NOT_STATED: Final = "not stated"

#: Whether training data shows real people.
Kind = Literal["real", "synthetic", "not stated"]

#: Transfer by lineage, from the nearest kin to none.
WHITE_BOX, SAME, SIBLING, UNSEEN = "white box", "same", "sibling", "unseen"
LINEAGES = (WHITE_BOX, SAME, SIBLING, UNSEEN, NOT_STATED)

#: Training sets that are cleaned, cut or merged from others, and those others. Two sets share data
#: where they have one of these in common.
COLLECTIONS: Mapping[str, tuple[str, ...]] = {
    "MS1M-refined": ("MS-Celeb-1M",),
    "MS1MV2": ("MS-Celeb-1M",),
    "Glint360K": ("MS-Celeb-1M", "Celeb-500K"),
    "WebFace600K": ("WebFace260M",),
    "WebFace4M": ("WebFace260M",),
    "WebFace12M": ("WebFace260M",),
    # Drawn by a generator that learned from it (Boutros et al., IJCB 2022).
    "SFace": ("CASIA-WebFace",),
    **{
        f"synthetic faces, world {world}": ("faces drawn by facefocus",)
        for world in ("all", "eyes", "nose", "mouth", "brows", "marks")
    },
}


@dataclass(frozen=True)
class Lineage:
    """Where a recognizer comes from.

    Attributes:
        training: Data that it was trained on.
        data: Whether that data shows real people.
        family: Its architecture line: MobileFaceNet, IResNet, ...
        loss: That it was trained with.
        year: Of its publication.
    """

    training: str = NOT_STATED
    data: Kind = NOT_STATED
    family: str = NOT_STATED
    loss: str = NOT_STATED
    year: int | None = None


def stated_lineage(
    *,
    training: str | None = None,
    data: str | None = None,
    loss: str | None = None,
    year: int | None = None,
) -> Lineage | None:
    """What a user says of a recognizer; nothing where nothing is said.

    Raises:
        UserError: `data` is neither real nor synthetic, or the year cannot be one.

    Example:
        >>> stated_lineage(training="MS1MV2", data="real")
        Lineage(training='MS1MV2', data='real', family='not stated', loss='not stated', year=None)
    """
    if all(value is None for value in (training, data, loss, year)):
        return None
    kind = next((known for known in get_args(Kind) if known == (data or NOT_STATED)), None)
    if kind is None:
        raise UserError(f"The 'data' must be real or synthetic. Got '{data}'.")
    if year is not None and not 1960 <= year <= 2100:
        raise UserError(f"The 'year' must be a year of four digits, such as 2019. Got {year}.")
    return Lineage(training or NOT_STATED, kind, loss=loss or NOT_STATED, year=year)


def kinship(source: Lineage, target: Lineage) -> str:
    """How a target is related to the recognizer that a map was made on.

    Returns:
        ``same`` where they share data and family, ``sibling`` where they share one, ``unseen``
        where they share neither; ``not stated`` where that is not known.

    Example:
        >>> ours = Lineage(training="MS1MV2", family="IResNet")
        >>> kinship(ours, Lineage(training="Glint360K", family="IResNet"))
        'same'
        >>> kinship(ours, Lineage(training="VGGFace2", family="SqueezeNet"))
        'unseen'
        >>> kinship(ours, Lineage(training="VGGFace2"))
        'not stated'
    """
    shared = shared_by(source, target)
    if shared:
        return SAME if len(shared) == 2 else SIBLING
    stated = (source.training, source.family, target.training, target.family)
    return NOT_STATED if NOT_STATED in stated else UNSEEN


def shared_by(lineage: Lineage, other: Lineage) -> tuple[str, ...]:
    """What two recognizers are known to share: ``training data``, ``family``."""
    data = _collections(lineage.training) & _collections(other.training)
    family = {_spelling(lineage.family)} & {_spelling(other.family)}
    shared = {"training data": data, "family": family}
    return tuple(what for what, common in shared.items() if common - {_spelling(NOT_STATED)})


def nearest_kinship(sources: str, target: str, lineages: Mapping[str, Lineage]) -> str:
    """The same of a map's sources by name, ``a+b`` for a joint map: that of the nearest kin.

    Returns:
        One of `LINEAGES`: ``white box`` where the target is a source. ``not stated`` where a source
        that might be nearer is not known.
    """
    names = sources.split("+")
    if target in names:
        return WHITE_BOX
    stated = lineages.get(target, Lineage())
    kinships = {kinship(lineages.get(name, Lineage()), stated) for name in names}
    # A source of unknown lineage may be nearer kin than a sibling, but not than the nearest.
    return next(name for name in (SAME, NOT_STATED, SIBLING, UNSEEN) if name in kinships)


def training_kinds(sources: str, target: str, lineages: Mapping[str, Lineage]) -> str:
    """Whether maps and masks come from recognizers of real or synthetic people.

    Example:
        >>> known = {"a": Lineage(data="real"), "b": Lineage(data="synthetic")}
        >>> training_kinds("a", "b", known), training_kinds("a+b", "a", known)
        ('real to synthetic', 'real and synthetic to real')
    """
    kinds = sorted({lineages.get(name, Lineage()).data for name in sources.split("+")})
    return f"{' and '.join(kinds)} to {lineages.get(target, Lineage()).data}"


def _collections(training: str) -> set[str]:
    merged = {_spelling(name): parts for name, parts in COLLECTIONS.items()}
    own = _spelling(training)
    return {_spelling(part) for part in merged.get(own, (own,))}


def _spelling(name: str) -> str:
    """Letters and digits alone: people write VGGFace2, vgg-face2 and VGG Face 2."""
    return re.sub(r"[\W_]", "", name.lower())
