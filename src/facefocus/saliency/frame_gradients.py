"""The explainer of methods that take gradients in the frame itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.models.recognizer import white_box
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, Maps, MapSpec, Passes
from facefocus.saliency.methods import METHODS, FrameGradientMethod


class _FrameGradients(Explainer):
    """See `facefocus.saliency.explainer.Explainer`."""

    def maps(self, request: MapRequest, progress: Progress) -> Maps:
        """One call of the method for all people."""
        images, people = request.images, request.people
        recognizers = [
            white_box(images.recognizer(name), "a gradient method") for name in request.sources
        ]
        frames = [np.asarray(images.frames[person.rows]) for person in people]
        for spec in request.specs:
            method = METHODS[spec.method]
            assert isinstance(method, FrameGradientMethod)
            fill = spec.fill
            made = method.function(
                recognizers,
                frames,
                [] if fill is None else [images.hider(person.rows, fill) for person in people],
                pixels=0 if spec.budget is None else images.pixels(spec.budget),
                rngs=[generator(images.seed, "ties", person.name) for person in people],
                options=dict(spec.options),
                progress=progress,
            )
            degenerate = np.array([result.degenerate for result in made])
            yield spec, MapArrays.whole(np.stack([result.map for result in made]), degenerate)

    def passes(self, request: MapRequest, every: Sequence[MapSpec]) -> Passes:
        """A forward and a backward pass an image and step, and one forward pass of references."""
        count = sum(len(person.rows) for person in request.people)
        pairs = sum(len(person.rows) * (len(person.rows) - 1) for person in request.people)
        total = Passes()
        for spec in request.specs:
            method = METHODS[spec.method]
            assert isinstance(method, FrameGradientMethod)
            pixels = 0 if spec.budget is None else request.images.pixels(spec.budget)
            steps = method.rounds(dict(spec.options), pixels)
            total += Passes(
                forward=(1 + steps) * count, backward=steps * count, alone=2 * steps * pairs
            )
        return total


#: The explainer of all methods that take gradients in the frame.
FRAME_GRADIENTS = _FrameGradients()
