"""The explainer of plain functions: images of one person and a recognizer in, a map out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facefocus.core.errors import UserError, blaming_own_code
from facefocus.core.progress import Progress
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, Maps, MapSpec, Passes
from facefocus.saliency.methods import METHODS, FunctionMethod


def checked_map(values: object, frame: tuple[int, int], name: str) -> tuple[np.ndarray, bool]:
    """A map [H, W] as float32, and whether it is degenerate: it is flat or not finite.

    Raises:
        UserError: It is no array of numbers of the frame's height and width.
    """
    try:
        saliency = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            f"A map of '{name}' must be an array of numbers. Got {type(values).__name__}."
        ) from None
    if saliency.shape != frame:
        raise UserError(
            f"A map of '{name}' must have the shape of the aligned crops, {frame}. Got"
            f" {saliency.shape}."
        )
    if not np.isfinite(saliency).all() or saliency.min() == saliency.max():
        return np.zeros(frame, np.float32), True
    return saliency, False


class _Functions(Explainer):
    """See `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """A call for each person."""
        images, people = request.images, request.people
        recognizer = images.recognizer(request.sources[0])
        for spec in request.specs:
            method = METHODS[spec.method]
            assert isinstance(method, FunctionMethod)
            made = []
            for number, person in enumerate(people, start=1):
                with blaming_own_code():
                    values = method.function(np.array(images.frames[person.rows]), recognizer)
                made.append(checked_map(values, images.frame, spec.label))
                progress("maps", number, len(people))
            maps, degenerate = zip(*made, strict=True)
            yield spec, MapArrays.whole(np.stack(maps), np.array(degenerate))

    def passes(self, request: MapRequest, every: Sequence[MapSpec]) -> Passes:
        """Nobody knows what a function runs: at least a pass an image."""
        count = len(request.specs) * sum(len(person.rows) for person in request.people)
        return Passes(inference=count, alone=count, exact=False)


#: The explainer of all plain functions.
FUNCTIONS = _Functions()
