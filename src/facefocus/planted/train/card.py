"""From a recipe to a recognizer with its card: what ``facefocus synthetic train`` does.

A *card* is a TOML file beside the weights: the recipe, word for word, and what came of it. So a
card is a recipe, too.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from facefocus import __version__
from facefocus.core.errors import UserError
from facefocus.core.files import read_toml, write_atomically
from facefocus.core.locations import expanded, private
from facefocus.core.progress import Progress, silent
from facefocus.core.specs import to_toml
from facefocus.core.text import number
from facefocus.evaluation.verification import VerificationReport
from facefocus.faces.faceset import MANIFEST, FaceSet, open_faceset, read_manifest
from facefocus.faces.sources.synthetic import make_faceset, planted
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.user_code import sha256
from facefocus.models.weights import load_into, read_weights
from facefocus.planted.reliance import check_planted, planted_record
from facefocus.planted.train.data import Split, split
from facefocus.planted.train.loop import Trainee, build, train
from facefocus.planted.train.recipe import Recipe, load_recipe
from facefocus.planted.train.validation import unseen_report

#: Folder of the drawn faces under the output folder.
FACES = "faces"
#: EER on unseen people that a recognizer has at most, or it has learned too little.
MOST_EER = 0.25


def train_recognizer(
    which: str, out: Path, *, faces: Path | None = None, progress: Progress = silent
) -> Path:
    """Draw the faces, train, validate, and write weights and card; returns the card.

    Killed at any moment and called again with the same arguments, it goes on where it was, and
    the weights are the same as without the break.

    Args:
        which: A recipe file, a card, or the name of an embedded recognizer.
        out: Folder of everything that is written.
        faces: The recipe's face set where it is prepared already.

    Raises:
        UserError: The recipe, the faces or `out` cannot be used; see `training.loop.train`.
    """
    recipe = load_recipe(which)
    data = split(_faces(recipe, out, faces, progress), recipe)
    trainee = train(recipe, data, out, progress)
    weights = out / f"{recipe.name}.safetensors"
    write_atomically(weights, lambda file: file.write(save(_half(trainee.module))))
    recognizer = _shipped(recipe, weights)
    record = {
        **recipe.model_dump(exclude_none=True),
        "result": _result(which, weights, data, trainee),
        "validation": _validation(unseen_report(recognizer, recipe, data), data),
    }
    world = recipe.faces.world
    if world is not None and planted(world) == (world,):
        record["planted"] = planted_record(check_planted(recognizer, world, progress=progress))
    card = out / f"{recipe.name}.toml"
    text = private(card_text(record), recipe.faces.set)
    write_atomically(card, lambda file: file.write(text.encode()))
    return card


def _faces(recipe: Recipe, out: Path, given: Path | None, progress: Progress) -> FaceSet:
    """The face set of a recipe; a world is drawn into `out` unless it is there already."""
    if recipe.faces.set is not None:
        return open_faceset(given or Path(expanded(recipe.faces.set)))
    drawn = ("world", "identities", "photos", "seed")
    wanted = {name: getattr(recipe.faces, name) for name in drawn}
    if given is not None:
        record = read_manifest(given)["record"]
        if record != wanted:
            raise UserError(
                f"'{given}' must hold the faces of the recipe, {wanted}. Got {record}. Name "
                "another set by 'set' in [faces]."
            )
        return open_faceset(given)
    folder = out / FACES
    if not (folder / MANIFEST).is_file() or read_manifest(folder)["record"] != wanted:
        make_faceset(folder, **wanted, progress=progress)
    return open_faceset(folder)


def _half(module: nn.Module) -> dict[str, torch.Tensor]:
    """Weights in half precision, without batch counters: what is shipped."""
    return {
        key: value.detach().half().contiguous()
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def _shipped(recipe: Recipe, weights: Path) -> TorchRecognizer:
    """The recognizer as its user will have it: every figure of the card is of this one."""
    module = build(recipe).requires_grad_(False)
    load_into(module, read_weights(weights), architecture=recipe.name, catalog={})
    return TorchRecognizer(recipe.name, module.eval(), recipe.network.reader(), identity="")


def _result(which: str, weights: Path, data: Split, trainee: Trainee) -> dict[str, Any]:
    return {
        "command": f"facefocus synthetic train {which}",
        "license": "Apache-2.0",
        "faces": data.faces.title,
        "faces_sha256": data.faces.hash,
        "people": data.people,
        "photos": len(data.rows),
        "parameters": sum(value.numel() for value in trainee.module.parameters()),
        "weights_sha256": sha256(weights),
        "weights_bytes": weights.stat().st_size,
        "loss_by_epoch": [round(epoch["loss"], 4) for epoch in trainee.history],
        "eer_by_epoch": [round(epoch["eer"], 4) for epoch in trainee.history],
        "minutes": round(trainee.seconds / 60, 1),
        "facefocus": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def _validation(report: VerificationReport, data: Split) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "people": len(data.unseen),
        "photos": len(data.unseen_rows),
        "mated": report.mated,
        "non_mated": report.non_mated,
        "tmr_at_fmr_1e2": report.tmr_at_fmr_1e2,
        "tmr_at_fmr_1e3": report.tmr_at_fmr_1e3,
        "eer": report.eer,
        "accuracy": report.folds.mean if report.folds else None,
    }
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None
    }


def card_failures(card: Path) -> list[str]:
    """What a card's recognizer fails in, one line each: unseen people, the planted part.

    Example:
        >>> from facefocus.models import zoo
        >>> card_failures(zoo.card("iresnet-mini-eyes"))
        []
    """
    record = read_toml(card, "card")
    failures = []
    if (eer := record["validation"]["eer"]) > MOST_EER:
        failures.append(
            f"it recognizes too few unseen people: EER {number(eer, 4)}, at most {MOST_EER:g} "
            "expected"
        )
    if hidden := record.get("planted", {}).get("failure"):
        failures.append(hidden)
    return failures


def card_text(record: Mapping[str, Any]) -> str:
    """A card in TOML: plain values first, then one section for each mapping."""
    plain = json.loads(json.dumps(record, default=lambda value: value.item()))
    return to_toml(plain, ["Recipe and results of `facefocus synthetic train`; written by it."])
