"""Do maps depend on what the recognizer learned? Parameter randomization on a face set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facefocus.core.errors import UserError
from facefocus.core.files import any_path
from facefocus.core.progress import Progress, silent
from facefocus.evaluation.randomization import SHARES, Randomization, randomization_test
from facefocus.faces.faceset import open_faceset, select_identities
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.zoo import load
from facefocus.saliency.methods import METHODS
from facefocus.saliency.streams import CamConfig


@any_path
def randomized_maps(
    folder: Path,
    model: str,
    methods: Sequence[str],
    layers: Sequence[str],
    *,
    identities: int = 10,
    max_pairs: int | None = 10,
    seed: int = 0,
    preprocessing: Mapping[str, object] | None = None,
    progress: Progress = silent,
) -> list[Randomization]:
    """Rank correlation of maps before and after ever more of the weights are shuffled.

    Args:
        folder: A prepared face set.
        model: A white box.
        methods: Names of gradient methods.
        layers: Layers and groups.
        identities: How many people, seeded.
        max_pairs: At most so many ordered pairs of each.
        seed: Seed of every draw.
        preprocessing: How a recognizer from a file reads frames; see `zoo.load`.
        progress: Called with networks done and in total.

    Raises:
        UserError: The face set, the recognizer or a name is wrong.
    """
    for name in methods:
        if not METHODS[name].needs(METHODS[name].resolve_options({})).layer:
            raise UserError(
                f"The method '{name}' has no layer, so weights cannot be shuffled to it."
            )
    recognizer = load(model, preprocessing)
    if not isinstance(recognizer, TorchRecognizer):
        raise UserError(f"The recognizer '{model}' is a black box: its weights cannot be shuffled.")
    faces = open_faceset(folder)
    people = select_identities(faces, count=identities, max_images=6, seed=seed)
    configs = [CamConfig(method, layer) for method in methods for layer in layers]
    return randomization_test(
        recognizer,
        faces.frames,
        people,
        configs,
        shares=SHARES,
        max_pairs=max_pairs,
        seed=seed,
        progress=progress,
    )
