"""Maps that were made elsewhere: read from a file, they compete like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from facefocus.core.errors import UserError, one_line
from facefocus.core.progress import Progress
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, Maps, Needs, Options
from facefocus.saliency.functions import checked_map
from facefocus.saliency.methods import GIVEN, Option

#: The source of maps of which nobody says on what they were made.
ELSEWHERE = "elsewhere"


def read_maps(path: Path) -> dict[str, np.ndarray]:
    """The maps of an ``.npz`` file, by identity; other arrays of it are left out.

    Raises:
        UserError: It cannot be read or holds no map.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"The maps '{path}' cannot be read: {one_line(error)}.") from None
    maps = {name: array for name, array in arrays.items() if array.ndim == 2}
    if not maps:
        raise UserError(
            f"The maps '{path}' must be arrays [H, W] named by identity. Got"
            f" {', '.join(arrays) or 'an empty file'}. Write them with:"
            " numpy.savez('maps.npz', **{identity: map})."
        )
    return maps


def digest_of_maps(maps: Mapping[str, np.ndarray]) -> str:
    """sha256 (hex) of some maps, in any order."""
    digest = hashlib.sha256()
    for name in sorted(maps):
        values = np.ascontiguousarray(maps[name], np.float32)
        digest.update(f"{name}\0{values.shape}\0".encode() + values.tobytes())
    return digest.hexdigest()


def check_given(
    maps: Mapping[str, np.ndarray], name: str, frame: tuple[int, int], identities: np.ndarray
) -> None:
    """Refuse maps of another size, or of nobody in a face set.

    Raises:
        UserError: Says which map, or that no name is known.
    """
    for identity, saliency in maps.items():
        if saliency.shape != frame:
            raise UserError(
                f"The map of '{identity}' in '{name}' must have the shape of the aligned crops,"
                f" {frame}. Got {saliency.shape}."
            )
    known = set(identities.tolist())
    if not known & maps.keys():
        raise UserError(
            f"The maps '{name}' must be named by identities of the face set, such as"
            f" '{min(known)}'. Got {', '.join(list(maps)[:3])}."
        )


@dataclass(frozen=True)
class GivenMethod:
    """Stands for whatever made the maps; ``maps`` is the hash of them."""

    name: str = GIVEN
    version: int | str = 1
    options: Mapping[str, Option] = field(default_factory=dict)

    kind: ClassVar[str] = "maps from a file"
    fixed: ClassVar[None] = None

    @property
    def explainer(self) -> Explainer:
        """See `facefocus.saliency.methods.Method`."""
        return GIVEN_MAPS

    def needs(self, options: Options) -> Needs:
        """See `facefocus.saliency.methods.Method`."""
        return Needs(sources="none", photos="any")

    def resolve_options(self, given: Options) -> dict[str, str]:
        """As they are: the hash of the maps."""
        return dict(given)


class _Given(Explainer):
    """See `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """The maps that are there; who has none is degenerate."""
        for spec in request.specs:
            given = request.images.given(dict(spec.options)["maps"])
            flat = np.zeros(request.images.frame, np.float32)
            made = [
                checked_map(given[person.name], request.images.frame, spec.label)
                if person.name in given
                else (flat, True)
                for person in request.people
            ]
            maps, degenerate = zip(*made, strict=True)
            yield spec, MapArrays.whole(np.stack(maps), np.array(degenerate))


#: The explainer of all maps that were made elsewhere.
GIVEN_MAPS = _Given()
