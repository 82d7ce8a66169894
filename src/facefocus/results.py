"""From artefacts to the files of a run folder: one row per identity and configuration.

``results.parquet`` is the run's result; ``gallery.*`` holds a few maps and masks for pictures;
``experiment.toml`` and ``provenance.json`` say what was done, by what. The table is written last.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facefocus.evaluation.retention import Retention, retention
from facefocus.faces.faceset import Identity
from facefocus.files import write_atomically
from facefocus.occlusion.masks import mask_of, pixel_count
from facefocus.plan import Block, MapOutput, MapTask, ScoreOutput
from facefocus.run import Session
from facefocus.saliency.methods import METHODS
from facefocus.seeds import generator
from facefocus.store import Arrays

#: Identities whose maps go to the gallery.
GALLERY = 6

SCHEMA: dict[str, Any] = {
    "experiment": pl.String,
    "faces": pl.String,
    "source": pl.String,
    "target": pl.String,
    "method": pl.String,
    "options": pl.String,
    "layer": pl.String,
    "layer_calls": pl.String,
    "objective": pl.String,
    "evidence": pl.String,
    "normalize": pl.Boolean,
    "arcface_scale": pl.Float64,
    "max_pairs": pl.Int64,
    "split": pl.String,
    "budget": pl.Float64,
    "fill": pl.String,
    "on_degenerate": pl.String,
    "compare": pl.String,
    "threshold_rule": pl.String,
    "threshold": pl.Float64,
    "seed": pl.Int64,
    "identity": pl.String,
    "images": pl.Int64,
    "pairs": pl.Int64,
    "clean_cosine": pl.Float64,
    "cosine": pl.Float64,
    "clean_rate": pl.Float64,
    "rate": pl.Float64,
    "budget_pixels": pl.Int64,
    "masked_pixels": pl.Float64,
    "masked_share": pl.Float64,
    "maps": pl.Int64,
    "maps_degenerate": pl.Int64,
    "degenerate": pl.Boolean,
    "draws": pl.Int64,
}


def write_run(session: Session, run: Path, provenance: dict[str, Any], toml: str) -> Path:
    """Gather all artefacts of a finished run; returns the path of ``results.parquet``.

    Raises:
        UserError: The folder cannot be written.
        KeyError: An artefact is missing: the run is not finished.
    """
    table = collect(session)
    _write_gallery(session, run)
    write_atomically(run / "experiment.toml", lambda file: file.write(toml.encode()))
    text = json.dumps(provenance, indent=2, sort_keys=True) + "\n"
    write_atomically(run / "provenance.json", lambda file: file.write(text.encode()))
    path = run / "results.parquet"
    write_atomically(path, lambda file: table.write_parquet(file, statistics=False))
    return path


def collect(session: Session) -> pl.DataFrame:
    """The result table: a row per identity and configuration, in a fixed order."""
    rows: list[dict[str, Any]] = []
    for target in session.experiment.recognizers.targets:
        clean = _clean_values(session, target)
        for block in session.plan.blocks:
            found = session.plan.scores[target, block.index]
            for outputs in _by_configuration(found).values():
                rows += _rows(session, target, block, outputs, clean)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort(
        [name for name in SCHEMA if name not in ("cosine", "rate")],
        nulls_last=True,
        maintain_order=True,
    )


def _clean_values(session: Session, target: str) -> dict[str, Retention]:
    """Mean mated cosine and recognition rate of every identity, nothing hidden."""
    embeddings, level = session.embeddings(target), session.threshold(target)
    people = session.plan.identities
    photos = {person.name: embeddings[person.rows] for person in people}
    return {name: retention(clean, clean, level) for name, clean in photos.items()}


def _by_configuration(
    outputs: Sequence[ScoreOutput],
) -> dict[tuple[Any, ...], list[ScoreOutput]]:
    """Score outputs that differ only in their draw, together."""
    groups: dict[tuple[Any, ...], list[ScoreOutput]] = defaultdict(list)
    for output in outputs:
        spec = output.maps.spec
        key = (output.maps.source, *_spec_columns(output.maps).values())
        groups[*key, spec.calls, output.fill, output.on_degenerate].append(output)
    return groups


def _spec_columns(maps: MapOutput) -> dict[str, Any]:
    """The columns that say how a map was made; null where a method has no use for a setting."""
    spec = maps.spec
    graded = spec.objective is not None
    return {
        "method": spec.method,
        "options": " ".join(f"{name}={value}" for name, value in spec.options),
        "layer": spec.layer,
        "layer_calls": ",".join(map(str, spec.calls)) or None,
        "objective": spec.objective,
        "evidence": spec.evidence if graded else None,
        "normalize": spec.normalize if graded else None,
        "arcface_scale": spec.arcface_scale if graded else None,
        "max_pairs": spec.max_pairs if graded else None,
    }


def _rows(
    session: Session,
    target: str,
    block: Block,
    outputs: Sequence[ScoreOutput],
    clean: dict[str, Retention],
) -> Iterator[dict[str, Any]]:
    """Rows of one configuration and block; draws are averaged."""
    experiment, first = session.experiment, outputs[0]
    scores = [session.store.load(output.key) for output in outputs]
    mean = {name: np.mean([score[name] for score in scores], axis=0) for name in scores[0]}
    maps = session.store.load(first.maps.key)
    height, width = session.faces.frames.shape[1:3]
    for index, person in enumerate(block.identities):
        for column, budget in enumerate(experiment.occlusion.budget):
            area = mean["area"][index, column]
            yield {
                "experiment": experiment.name,
                "faces": session.faces.title,
                "source": first.maps.source,
                "target": target,
                **_spec_columns(first.maps),
                "split": "same",
                "budget": budget,
                "fill": first.fill,
                "on_degenerate": first.on_degenerate,
                "compare": experiment.evaluation.compare,
                "threshold_rule": experiment.evaluation.threshold,
                "threshold": session.threshold(target),
                "seed": experiment.seed,
                "identity": person.name,
                "images": len(person.rows),
                "pairs": len(person.rows) * (len(person.rows) - 1),
                "clean_cosine": clean[person.name].clean_cosine,
                "cosine": _value(mean["cosine"][index, column]),
                "clean_rate": clean[person.name].clean_rate,
                "rate": _value(mean["rate"][index, column]),
                "budget_pixels": pixel_count(budget, height, width),
                "masked_pixels": _value(area),
                "masked_share": _value(area / (height * width)),
                "maps": int(maps["total"][index]),
                "maps_degenerate": int(maps["degenerate"][index]),
                "degenerate": bool(maps["total"][index] == maps["degenerate"][index]),
                "draws": len(outputs),
            }


def _value(number: float) -> float | None:
    """A number, or null where a skipped identity has none."""
    return None if np.isnan(number) else float(number)


# --- gallery --------------------------------------------------------------------------------------


def _write_gallery(session: Session, run: Path) -> None:
    """Maps and masks of a few identities spread over the run, one draw each."""
    people = session.plan.identities
    chosen = {people[i].name for i in np.linspace(0, len(people) - 1, GALLERY).round().astype(int)}
    rows: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    budgets = session.experiment.occlusion.budget
    for person, output, arrays, index in _gallery_maps(session, chosen):
        degenerate = bool(arrays["total"][index] == arrays["degenerate"][index])
        rows.append(
            {
                "index": len(rows),
                "identity": person.name,
                "image": int(person.rows[0]),
                "source": output.source,
                **{k: v for k, v in _spec_columns(output).items() if k in _GALLERY_COLUMNS},
                "degenerate": degenerate,
            }
        )
        maps.append(arrays["maps"][index])
        made = mask_of(
            arrays["maps"][index],
            degenerate=degenerate,
            budgets=budgets,
            on_degenerate="none",
            rng=generator(session.experiment.seed, "ties", person.name),
        )
        masks.append(made.masks)
    schema = {"index": pl.Int64, "identity": pl.String, "image": pl.Int64, "source": pl.String}
    schema |= dict.fromkeys(_GALLERY_COLUMNS, pl.String) | {"degenerate": pl.Boolean}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, maps=np.stack(maps), masks=np.stack(masks), budgets=np.array(budgets)
    )
    write_atomically(run / "gallery.npz", lambda file: file.write(buffer.getvalue()))
    write_atomically(run / "gallery.parquet", lambda file: table.write_parquet(file))


_GALLERY_COLUMNS = ("method", "options", "layer", "objective")


def _gallery_maps(
    session: Session, chosen: set[str]
) -> Iterator[tuple[Identity, MapOutput, Arrays, int]]:
    for task in session.plan.tasks:
        if not isinstance(task, MapTask):
            continue
        wanted = [i for i, one in enumerate(task.block.identities) if one.name in chosen]
        if not wanted:
            continue
        for output in task.outputs:
            if METHODS[output.spec.method].kind == "baseline" and output.spec.draw:
                continue
            arrays = session.store.load(output.key)
            for index in wanted:
                yield task.block.identities[index], output, arrays, index
