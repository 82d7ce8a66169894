"""From artefacts to the files of a run folder: one row per identity and configuration.

``results.parquet`` is the run's result; ``gallery.*`` holds a few maps and masks for pictures;
``experiment.toml`` and ``provenance.json`` say what was done, by what. The table is written last.
"""

from __future__ import annotations

import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facefocus.evaluation.retention import Retention, retention
from facefocus.evaluation.truth import (
    COLUMNS,
    best_shares,
    chance,
    mask_shares,
    planted_share,
    pointing,
    roc_auc,
)
from facefocus.files import write_atomically
from facefocus.occlusion.masks import Masks, mask_of, pixel_count
from facefocus.scoring import block_masks, false_matches
from facefocus.seeds import generator
from facefocus.session import Session, is_degenerate
from facefocus.store import Arrays
from facefocus.tasks import Block, MapOutput, OracleTask, Person, ScoreOutput

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
    "control": pl.String,
    "budget": pl.Float64,
    "fill": pl.String,
    "on_degenerate": pl.String,
    "compare": pl.String,
    "threshold_rule": pl.String,
    "threshold": pl.Float64,
    "eer": pl.Float64,
    "seed": pl.Int64,
    "identity": pl.String,
    "images": pl.Int64,
    "pairs": pl.Int64,
    "clean_cosine": pl.Float64,
    "cosine": pl.Float64,
    "clean_rate": pl.Float64,
    "rate": pl.Float64,
    "clean_fmr": pl.Float64,
    "fmr": pl.Float64,
    "budget_pixels": pl.Int64,
    "masked_pixels": pl.Float64,
    "masked_share": pl.Float64,
    "maps": pl.Int64,
    "maps_degenerate": pl.Int64,
    "degenerate": pl.Boolean,
    "draws": pl.Int64,
}

#: Further columns where the face set says where identity is planted. Controls have no map, and so
#: a share only; of the oracle's masks none is kept.
TRUTH_SCHEMA: dict[str, Any] = dict.fromkeys(COLUMNS, pl.Float64)


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
    truths = None if session.planted is None else _Truths(session, session.planted)
    for target in session.experiment.recognizers.targets:
        for split in session.experiment.evaluation.split:
            blocks = [block for block in session.plan.blocks if block.split == split]
            parts: dict[tuple[Any, ...], list[_Part]] = defaultdict(list)
            for block in blocks:
                _gather(session, target, block, parts, truths)
            rows += [_row(session, target, split, key, found) for key, found in parts.items()]
    order = [name for name in SCHEMA if name not in ("cosine", "rate", "fmr")]
    schema = SCHEMA if truths is None else SCHEMA | TRUTH_SCHEMA
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.sort(order, nulls_last=True, maintain_order=True)


@dataclass(frozen=True)
class _Part:
    """One person under one configuration: one of its folds and draws."""

    person: Person
    clean: Retention
    clean_fmr: float
    cosine: float
    rate: float
    fmr: float
    area: float
    fold: int
    maps: int
    degenerate: int
    truth: Mapping[str, float]


def _gather(
    session: Session,
    target: str,
    block: Block,
    parts: dict[tuple[Any, ...], list[_Part]],
    truths: _Truths | None,
) -> None:
    """Add what a block has to say to the parts of every person and configuration."""
    clean = _clean_values(session, target, block)
    false = _clean_false_matches(session, target, block)
    loaded: dict[str, Arrays] = {}
    for output in session.plan.scores[target, block.index]:
        scores = session.store.load(output.key)
        if output.maps.key not in loaded:
            loaded[output.maps.key] = session.store.load(output.maps.key)
        made = loaded[output.maps.key]
        columns = tuple(_score_columns(output).items())
        truth = {} if truths is None else truths.of(block, output, made)
        for index, person in enumerate(block.people):
            for place, budget in enumerate(output.budgets):
                part = _Part(
                    person=person,
                    clean=clean[index],
                    clean_fmr=false[index],
                    **{name: float(scores[name][index, place]) for name in _VALUES},
                    fold=block.fold,
                    maps=int(made["total"][index]),
                    degenerate=int(made["degenerate"][index]),
                    truth={name: float(found[index, place]) for name, found in truth.items()},
                )
                parts[columns, budget, person.name].append(part)
    for task in session.plan.oracles.get((target, block.index), ()):
        _gather_oracle(session, task, clean[task.person], false[task.person], parts)


def _gather_oracle(
    session: Session,
    task: OracleTask,
    clean: Retention,
    false: float,
    parts: dict[tuple[Any, ...], list[_Part]],
) -> None:
    """The oracle as a method of its own: made on the target it attacks."""
    found = session.store.load(task.key)
    columns = {**dict.fromkeys(_MAP_COLUMNS), "method": "oracle", "options": ""}
    columns |= {"source": task.recognizer, "fill": task.fill, "on_degenerate": "none"}
    columns |= {"control": None}
    person = task.block.people[task.person]
    for place, budget in enumerate(task.budgets):
        values = {name: float(found[name][place]) for name in _VALUES}
        part = _Part(
            person=person,
            clean=clean,
            clean_fmr=false,
            fold=0,
            maps=1,
            degenerate=0,
            truth={},
            **values,
        )
        parts[tuple(columns.items()), budget, person.name].append(part)


class _Truths:
    """The truth scores of every mask and map: the same on all targets and under all fills."""

    def __init__(self, session: Session, planted: Mapping[str, np.ndarray]) -> None:
        self._session, self._parts = session, planted
        self._known: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
        self._bounds: dict[tuple[str, int], tuple[np.ndarray, float]] = {}

    def of(self, block: Block, output: ScoreOutput, made: Arrays) -> dict[str, np.ndarray]:
        """The columns of `TRUTH_SCHEMA` as arrays [people, budgets]; NaN for what there is not."""
        key = (block.index, output.maps.key, output.on_degenerate, output.control, output.draw)
        if key not in self._known:
            rows = [
                self._person(block, person, masks, made["maps"][index], output.control is None)
                for index, (person, masks) in enumerate(
                    zip(block.people, block_masks(self._session, block, output), strict=True)
                )
            ]
            self._known[key] = {name: np.stack([row[name] for row in rows]) for name in COLUMNS}
        return self._known[key]

    def _person(
        self, block: Block, person: Person, masks: Masks, saliency: np.ndarray, mapped: bool
    ) -> dict[str, np.ndarray]:
        """One person's scores, an array over the budgets each; a skipped person has none."""
        count = len(masks.requested)
        if masks.skipped:
            return {name: np.full(count, np.nan) for name in COLUMNS}
        if (person.name, block.index) not in self._bounds:
            found = planted_share(self._parts, person.tests)
            self._bounds[person.name, block.index] = (found, roc_auc(found, found))
        planted, best = self._bounds[person.name, block.index]
        flat = np.zeros_like(planted) if masks.degenerate else saliency
        values = {
            "truth_share": mask_shares(masks.masks, planted),
            "truth_share_best": best_shares(planted, masks.requested.tolist()),
            "truth_auc": roc_auc(flat, planted) if mapped else np.nan,
            "truth_auc_best": best,
            "truth_pointing": pointing(flat, planted) if mapped else np.nan,
            "truth_pointing_best": planted.max(),
            "truth_chance": chance(planted),
        }
        return {name: np.broadcast_to(value, count) for name, value in values.items()}


def _clean_values(session: Session, target: str, block: Block) -> list[Retention]:
    """Mean mated cosine and recognition rate of everybody in a block, nothing hidden."""
    embeddings, level = session.embeddings(target), session.threshold(target)
    photos = [embeddings[person.tests] for person in block.people]
    return [retention(clean, clean, level) for clean in photos]


def _clean_false_matches(session: Session, target: str, block: Block) -> list[float]:
    embeddings = session.embeddings(target)
    return [
        false_matches(session, target, person, embeddings[person.tests]) for person in block.people
    ]


#: What a score artefact holds for each person and budget.
_VALUES = ("cosine", "rate", "fmr", "area")

_MAP_COLUMNS = (
    "source",
    "method",
    "options",
    "layer",
    "layer_calls",
    "objective",
    "evidence",
    "normalize",
    "arcface_scale",
    "max_pairs",
)


def _map_columns(maps: MapOutput) -> dict[str, Any]:
    """The columns that say how a map was made; null where a method has no use for a setting."""
    spec = maps.spec
    graded = spec.objective is not None
    values = (
        maps.source,
        spec.label,
        " ".join(f"{name}={value}" for name, value in spec.options),
        spec.layer,
        ",".join(map(str, spec.calls)) or None,
        spec.objective,
        spec.evidence if graded else None,
        spec.normalize if graded else None,
        spec.arcface_scale if graded else None,
        spec.max_pairs,
    )
    return dict(zip(_MAP_COLUMNS, values, strict=True))


def _score_columns(output: ScoreOutput) -> dict[str, Any]:
    """The columns of a configuration but its budget; draws have the same."""
    return {
        **_map_columns(output.maps),
        "fill": output.fill,
        "on_degenerate": output.on_degenerate,
        "control": output.control,
    }


def _row(
    session: Session, target: str, split: str, key: tuple[Any, ...], parts: Sequence[_Part]
) -> dict[str, Any]:
    """One person under one configuration: the mean over folds and draws."""
    columns, budget, _ = key
    experiment = session.experiment
    person, pixels = parts[0].person, math.prod(session.frame)
    folds = {part.fold: part for part in parts}
    area = _mean(part.area for part in parts)
    maps, degenerate = (
        sum(getattr(part, name) for part in folds.values()) for name in ("maps", "degenerate")
    )
    return {
        "experiment": experiment.name,
        "faces": session.faces.title,
        "target": target,
        **dict(columns),
        "split": split,
        "budget": budget,
        "compare": experiment.evaluation.compare,
        "threshold_rule": experiment.evaluation.threshold,
        "threshold": session.threshold(target),
        "eer": session.operating(target).eer,
        "seed": experiment.seed,
        "identity": person.name,
        "images": sum(len(part.person.tests) for part in folds.values()),
        "pairs": sum(part.clean.pairs for part in folds.values()),
        "clean_cosine": _mean(part.clean.clean_cosine for part in folds.values()),
        "cosine": _mean(part.cosine for part in parts),
        "clean_rate": _mean(part.clean.clean_rate for part in folds.values()),
        "rate": _mean(part.rate for part in parts),
        "clean_fmr": _mean(part.clean_fmr for part in folds.values()),
        "fmr": _mean(part.fmr for part in parts),
        "budget_pixels": pixel_count(budget, *session.frame),
        "masked_pixels": area,
        "masked_share": None if area is None else area / pixels,
        "maps": maps,
        "maps_degenerate": degenerate,
        "degenerate": maps == degenerate,
        "draws": len(parts) // len(folds),
        **{name: _mean(part.truth[name] for part in parts) for name in parts[0].truth},
    }


def _mean(values: Iterable[float]) -> float | None:
    """The mean, or None where a value is missing: a skipped identity has none."""
    listed = list(values)
    return None if any(map(math.isnan, listed)) else math.fsum(listed) / len(listed)


# --- gallery --------------------------------------------------------------------------------------


def _write_gallery(session: Session, run: Path) -> None:
    """Maps and masks of a few identities spread over the run, one draw each."""
    people = session.plan.people
    chosen = {people[i].name for i in np.linspace(0, len(people) - 1, GALLERY).round().astype(int)}
    budgets = session.experiment.occlusion.budget
    rows: list[dict[str, Any]] = []
    maps: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for person, output, made, index in _gallery_maps(session, chosen):
        degenerate = is_degenerate(made, index)
        columns = _map_columns(output)
        row = {"index": len(rows), "faces": session.faces.title, "identity": person.name}
        row |= {"image": int(person.rows[0])}
        rows.append(row | {name: columns[name] for name in _SHOWN} | {"degenerate": degenerate})
        maps.append(made["maps"][index])
        rng = generator(session.experiment.seed, "ties", person.name)
        cut = mask_of(made["maps"][index], degenerate=degenerate, budgets=budgets, rng=rng)
        masks.append(cut.masks)
    arrays = {"maps": np.stack(maps), "masks": np.stack(masks), "budgets": np.array(budgets)}
    if session.planted is not None:
        photos = {one.name: one.rows for one in people}
        shown = dict.fromkeys(row["identity"] for row in rows)
        arrays["planted"] = np.stack([planted_share(session.planted, photos[n]) for n in shown])
    schema = {"index": pl.Int64, "faces": pl.String, "identity": pl.String, "image": pl.Int64}
    schema |= dict.fromkeys(_SHOWN, pl.String) | {"degenerate": pl.Boolean}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(run / "gallery.npz", lambda file: file.write(buffer.getvalue()))
    write_atomically(run / "gallery.parquet", lambda file: table.write_parquet(file))


_SHOWN = ("source", "method", "options", "layer", "layer_calls", "objective")


def _gallery_maps(
    session: Session, chosen: set[str]
) -> Iterator[tuple[Person, MapOutput, Arrays, int]]:
    """Maps from all photos; of a map that serves one fill or budget only, the first of each."""
    fill, budget = session.experiment.occlusion.fill[0], session.experiment.occlusion.budget[0]
    first = session.experiment.evaluation.split[0]
    for block in session.plan.blocks:
        wanted = [i for i, one in enumerate(block.people) if one.name in chosen]
        if block.split != first or block.fold or not wanted:
            continue
        for output in session.plan.maps[block.index]:
            spec = output.spec
            if spec.draw or spec.fill not in (None, fill) or spec.budget not in (None, budget):
                continue
            made = session.store.load(output.key)
            for index in wanted:
                yield block.people[index], output, made, index
