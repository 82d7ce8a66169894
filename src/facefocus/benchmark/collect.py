"""From artefacts to the files of a run folder: one row per identity and configuration.

``results.parquet`` is the run's result; ``gallery.*`` holds a few maps and masks for pictures;
``experiment.toml`` and ``provenance.json`` say what was done, by what. The table is written last.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import polars as pl

from facefocus.benchmark.identification import PHOTO_RISKS
from facefocus.benchmark.people import Block, Person, everybody
from facefocus.benchmark.person_values import PERSON_VALUES, person_values
from facefocus.benchmark.result_columns import HELDOUT_ORACLE, MADE_FOR, MAP, ORACLE
from facefocus.benchmark.session import Session, is_degenerate
from facefocus.benchmark.sorted_rows import FOLDER, SortedRows
from facefocus.benchmark.stages import STAGES, RowKey
from facefocus.benchmark.stages.explain import MapOutput
from facefocus.benchmark.stages.oracle import OracleTask
from facefocus.benchmark.stages.score import VALUES, ScoreOutput, false_matches, scored_masks
from facefocus.benchmark.stored_masks import INDEX, STORED_MASKS, read_masks
from facefocus.core.files import write_atomically
from facefocus.core.store import Arrays
from facefocus.evaluation.localization import (
    COLUMNS,
    best_shares,
    chance,
    mask_shares,
    planted_share,
    pointing,
    roc_auc,
)
from facefocus.evaluation.retention import Retention, retention
from facefocus.occlusion.fills import reading
from facefocus.occlusion.masks import pixel_count

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
    "reading": pl.String,
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
    "maps_ill_conditioned": pl.Int64,
    "degenerate": pl.Boolean,
    "draws": pl.Int64,
}

#: Further columns where the face set says where identity is planted. Controls have no map, and so
#: a share only; the oracle's figures are of no one mask.
TRUTH_SCHEMA: dict[str, Any] = dict.fromkeys(COLUMNS, pl.Float64)

#: Further columns where the experiment asks for identification.
PHOTO_RISK_SCHEMA: dict[str, Any] = {
    "gallery_people": pl.Int64,
    **{f"{front}{name}": pl.Float64 for name in PHOTO_RISKS for front in ("clean_", "")},
}


def write_run(session: Session, run: Path, provenance: dict[str, Any], toml: str) -> Path:
    """Gather all artefacts of a finished run; returns the path of ``results.parquet``.

    Raises:
        UserError: The folder cannot be written.
        KeyError: An artefact is missing: the run is not finished.
    """
    index = masks_index(session)
    _write_gallery(session, run, index)
    write_atomically(run / STORED_MASKS, lambda file: index.write_parquet(file))
    people = person_values(session)
    write_atomically(run / PERSON_VALUES, lambda file: people.write_parquet(file))
    for stage in STAGES:
        STAGES[stage].write(session, run)
    write_atomically(run / "experiment.toml", lambda file: file.write(toml.encode()))
    text = json.dumps(provenance, indent=2, sort_keys=True) + "\n"
    write_atomically(run / "provenance.json", lambda file: file.write(text.encode()))
    path = run / "results.parquet"
    with TemporaryDirectory(dir=run, prefix=FOLDER) as folder:
        _result_rows(session, Path(folder)).write(path, statistics=False)
    return path


def collect(session: Session) -> pl.DataFrame:
    """The result table: a row per identity and configuration, in a fixed order."""
    with TemporaryDirectory() as folder:
        return _result_rows(session, Path(folder)).table()


def _result_rows(session: Session, folder: Path) -> SortedRows:
    """The result table in files of `folder`: a few blocks of people are in memory at a time."""
    order = [name for name in SCHEMA if name not in ("cosine", "rate", "fmr")]
    truth = {} if session.truths is None else TRUTH_SCHEMA
    risks = PHOTO_RISK_SCHEMA if session.experiment.evaluation.identification else {}
    schema = SCHEMA | truth | risks
    rows = SortedRows(folder, schema, order)
    splits = dict.fromkeys(block.split for block in session.plan.blocks)
    for target, split in product(session.experiment.recognizers.targets, splits):
        made = finished_parts(session, split, partial(_parts_of_block, session, target))
        rows.add(_row(session, target, split, key, parts) for key, parts in made)
    return rows


def _parts_of_block(session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
    for stage in STAGES:
        yield from STAGES[stage].parts(session, target, block)


P = TypeVar("P")


def finished_parts(
    session: Session, split: str, read: Callable[[Block], Iterable[tuple[RowKey, P]]]
) -> Iterator[tuple[RowKey, list[P]]]:
    """All parts of each row of a split, as soon as the last fold of its person is read.

    Args:
        session: The session.
        split: The split.
        read: Called with each of its blocks: the parts of rows; a row's key ends with the person.
    """
    blocks = [block for block in session.plan.blocks if block.split == split]
    # The folds side by side: their blocks hold about the same people.
    positions: dict[int, Iterator[int]] = defaultdict(count)
    blocks.sort(key=lambda block: (next(positions[block.fold]), block.fold))
    left = Counter(person.name for block in blocks for person in block.people)
    parts: dict[str, dict[RowKey, list[P]]] = defaultdict(lambda: defaultdict(list))
    for block in blocks:
        for key, part in read(block):
            parts[key[-1]][key].append(part)
        for person in block.people:
            left[person.name] -= 1
            if not left[person.name]:
                yield from parts.pop(person.name, {}).items()


@dataclass(frozen=True)
class Part:
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
    ill_conditioned: int
    truth: Mapping[str, float]
    risks: Mapping[str, float]


def score_parts(session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
    """What the scores of a block on a target say of every person and configuration."""
    clean = [clean_scores(session, target, person) for person in block.people]
    searched = [clean_risks(session, target, person) for person in block.people]
    loaded: dict[str, Arrays] = {}
    shape = session.experiment.occlusion.shape
    for output in session.plan.planned["scores"][target, block.index]:
        scores = session.store.load(output.key)
        if output.maps.key not in loaded:
            loaded[output.maps.key] = session.store.load(output.maps.key)
        made = loaded[output.maps.key]
        columns = tuple(score_columns(output, shape).items())
        truth = {} if session.truths is None else session.truths.of(block, output, made, scores)
        for index, person in enumerate(block.people):
            for number, budget in enumerate(output.budgets):
                part = Part(
                    person=person,
                    clean=clean[index][0],
                    clean_fmr=clean[index][1],
                    **{name: float(scores[name][index, number]) for name in VALUES},
                    fold=block.fold,
                    maps=int(made["total"][index]),
                    degenerate=int(made["degenerate"][index]),
                    ill_conditioned=int(made["ill_conditioned"][index]),
                    truth={name: float(values[index, number]) for name, values in truth.items()},
                    risks=_risks(scores, index, number) | searched[index],
                )
                yield (columns, budget, person.name), part


def oracle_parts(session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
    """What the oracle says of every person of a block and budget."""
    for task in session.plan.planned["oracle"].get((target, block.index), ()):
        yield from _parts_of_oracle(session, task, block)


def _parts_of_oracle(
    session: Session, task: OracleTask, block: Block
) -> Iterator[tuple[RowKey, Part]]:
    """The oracle as methods of its own, made on the target that it attacks.

    ``oracle`` is the bound: searched on the very photos that it is tried on, so no mask of a row of
    the same split beats it, in cosine or in rate (`scoring.bound`). ``oracle-heldout`` is what a
    search on the photos that the maps came from is worth on the held-out ones: a rival, no bound.
    """
    searched, person = session.store.load(task.key), task.person
    heldout = not np.array_equal(person.rows, person.tests)
    bounded = Person(person.name, person.tests, person.rows)
    # The half that was searched is the one that the other fold is tried on.
    methods = [(ORACLE, "", 1 - block.fold if heldout else block.fold, bounded)]
    methods += [(HELDOUT_ORACLE, "heldout_", block.fold, person)] if heldout else []
    exact = [
        policy for policy in session.experiment.occlusion.on_degenerate if policy != "inclusive"
    ]
    for method, front, fold, tried in methods:
        clean, false = clean_scores(session, task.recognizer, tried)
        columns = {**dict.fromkeys(MAP), "method": method, "options": ""}
        columns |= {"source": task.recognizer, "control": None}
        columns |= {"fill": task.fill, "reading": reading(task.fill)}
        for policy, (number, budget) in product(exact or ["none"], enumerate(task.budgets)):
            part = Part(
                person=tried,
                clean=clean,
                clean_fmr=false,
                **{name: float(searched[f"{front}{name}"][number]) for name in VALUES},
                fold=fold,
                maps=1,
                degenerate=0,
                ill_conditioned=0,
                truth={},
                risks={},
            )
            key = tuple((columns | {"on_degenerate": policy}).items())
            yield (key, budget, person.name), part


class TruthScores:
    """The truth scores of every mask and map: the same on all targets and under all fills."""

    def __init__(self, session: Session, planted: Mapping[str, np.ndarray]) -> None:
        self._session, self._parts = session, planted
        self._known: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
        self._bounds: dict[tuple[str, int], tuple[np.ndarray, float]] = {}

    def of(
        self, block: Block, output: ScoreOutput, made: Arrays, scores: Arrays
    ) -> dict[str, np.ndarray]:
        """The columns of `TRUTH_SCHEMA` as arrays [people, budgets]; NaN for what there is not.

        Args:
            made: The map artefact of `output`.
            scores: Its score artefact.
        """
        key = (block.index, output.maps.key, output.on_degenerate, output.control, output.draw)
        if key not in self._known:
            masks = scored_masks(self._session, scores)
            mapped = output.control is None
            counts = [pixel_count(budget, *self._session.frame) for budget in output.budgets]
            rows = []
            for index, person in enumerate(block.people):
                if np.isnan(scores["area"][index]).any():
                    rows.append({name: np.full(len(counts), np.nan) for name in COLUMNS})
                    continue
                flat = is_degenerate(made, index)
                saliency = np.zeros(self._session.frame) if flat else made["maps"][index]
                rows.append(self._person(block, person, masks[index], counts, saliency, mapped))
            self._known[key] = {name: np.stack([row[name] for row in rows]) for name in COLUMNS}
        return self._known[key]

    def _person(
        self,
        block: Block,
        person: Person,
        masks: np.ndarray,
        counts: Sequence[int],
        saliency: np.ndarray,
        mapped: bool,
    ) -> dict[str, np.ndarray]:
        """One person's scores, an array over the budgets each."""
        if (person.name, block.index) not in self._bounds:
            planted = planted_share(self._parts, person.tests)
            self._bounds[person.name, block.index] = (planted, roc_auc(planted, planted))
        planted, best = self._bounds[person.name, block.index]
        values = {
            "truth_share": mask_shares(masks, planted),
            "truth_share_best": best_shares(planted, counts),
            "truth_auc": roc_auc(saliency, planted) if mapped else np.nan,
            "truth_auc_best": best,
            "truth_pointing": pointing(saliency, planted) if mapped else np.nan,
            "truth_pointing_best": planted.max(),
            "truth_chance": chance(planted),
        }
        return {name: np.broadcast_to(value, len(counts)) for name, value in values.items()}


def clean_scores(session: Session, target: str, person: Person) -> tuple[Retention, float]:
    """Mated scores and FMR of a person's tested photos, nothing hidden."""
    embeddings = session.embeddings(target)[person.tests]
    false = false_matches(session, target, person.name, person.tests, embeddings)
    return retention(embeddings, embeddings, session.threshold(target)), false


def clean_risks(session: Session, target: str, person: Person) -> dict[str, float]:
    """`PHOTO_RISKS` of a person's tested photos, nothing hidden; empty where not asked for."""
    if not session.experiment.evaluation.identification:
        return {}
    clean = session.embeddings(target)[person.tests]
    risks = session.gallery(target).risks(person.name, clean, clean)
    return {f"clean_{name}": value for name, value in risks.items()}


def _gallery_people(session: Session, target: str) -> dict[str, int]:
    asked = session.experiment.evaluation.identification
    return {"gallery_people": session.gallery(target).people} if asked else {}


def _risks(scores: Arrays, row: int, column: int) -> dict[str, float]:
    return {name: float(scores[name][row, column]) for name in PHOTO_RISKS if name in scores}


def map_columns(maps: MapOutput, shape: str) -> dict[str, Any]:
    """The columns that say how a map was made; null where a method has no use for a setting.

    Options end with the shape of the masks, where they are not of pixels.
    """
    spec = maps.spec
    graded = spec.objective is not None
    options = [f"{name}={value}" for name, value in spec.options]
    options += [f"{MADE_FOR}{spec.fill}"] if spec.every_fill else []
    options += [f"shape={shape}"] if shape != "pixels" else []
    values = (
        maps.source,
        spec.label,
        " ".join(options),
        spec.layer,
        ",".join(map(str, spec.calls)) if spec.layer else None,
        spec.objective,
        spec.evidence if graded else None,
        spec.normalize if graded else None,
        spec.arcface_scale if graded else None,
        spec.max_pairs,
    )
    return dict(zip(MAP, values, strict=True))


def score_columns(output: ScoreOutput, shape: str) -> dict[str, Any]:
    """The columns of a configuration but its budget; draws have the same."""
    return {
        **map_columns(output.maps, shape),
        "fill": output.fill,
        "reading": reading(output.fill),
        "on_degenerate": output.on_degenerate,
        "control": output.control,
    }


def _row(
    session: Session, target: str, split: str, key: tuple[Any, ...], parts: Sequence[Part]
) -> dict[str, Any]:
    """One person under one configuration: the mean over folds and draws."""
    columns, budget, _ = key
    person, pixels = parts[0].person, math.prod(session.frame)
    folds = {part.fold: part for part in parts}
    area = mean(part.area for part in parts)
    maps, degenerate, ill_conditioned = (
        sum(getattr(part, name) for part in folds.values())
        for name in ("maps", "degenerate", "ill_conditioned")
    )
    return {
        **configuration(session, target, split, dict(columns), budget),
        "eer": session.operating(target).eer,
        "identity": person.name,
        "images": sum(len(part.person.tests) for part in folds.values()),
        "pairs": sum(part.clean.pairs for part in folds.values()),
        "clean_cosine": mean(part.clean.clean_cosine for part in folds.values()),
        "cosine": mean(part.cosine for part in parts),
        "clean_rate": mean(part.clean.clean_rate for part in folds.values()),
        "rate": mean(part.rate for part in parts),
        "clean_fmr": mean(part.clean_fmr for part in folds.values()),
        "fmr": mean(part.fmr for part in parts),
        "budget_pixels": pixel_count(budget, *session.frame),
        "masked_pixels": area,
        "masked_share": None if area is None else area / pixels,
        "maps": maps,
        "maps_degenerate": degenerate,
        "maps_ill_conditioned": ill_conditioned,
        "degenerate": maps == degenerate,
        "draws": len(parts) // len(folds),
        **{name: mean(part.truth[name] for part in parts) for name in parts[0].truth},
        **_gallery_people(session, target),
        **{name: mean(part.risks[name] for part in parts) for name in parts[0].risks},
    }


def configuration(
    session: Session, target: str, split: str, columns: Mapping[str, Any], budget: float
) -> dict[str, Any]:
    """The columns that tell one configuration from another; `columns` are those of its scores."""
    experiment = session.experiment
    return {
        "experiment": experiment.name,
        "faces": session.faces.title,
        "target": target,
        **columns,
        "split": split,
        "budget": budget,
        "compare": experiment.evaluation.compare,
        "threshold_rule": experiment.evaluation.rule.shown,
        "threshold": session.threshold(target),
        "seed": experiment.seed,
    }


def mean(values: Iterable[float]) -> float | None:
    """The mean, or None where a value is missing: a skipped identity has none."""
    listed = list(values)
    return None if any(map(math.isnan, listed)) else math.fsum(listed) / len(listed)


# --- gallery --------------------------------------------------------------------------------------


def masks_index(session: Session) -> pl.DataFrame:
    """Where the store has everybody's own masks, of the first fold: see `stored_masks.INDEX`.

    Of the rules for degenerate maps that of exactly k pixels, or else the first; where a map
    serves every fill, so does its mask.
    """
    asked = session.experiment
    policies, fill = asked.occlusion.on_degenerate, asked.occlusion.fill[0]
    policy = "none" if "none" in policies else policies[0]
    rows: list[dict[str, Any]] = []
    for block in session.plan.blocks:
        if block.split != asked.evaluation.split[0] or block.fold:
            continue
        shown: dict[MapOutput, ScoreOutput] = {}
        for target in asked.recognizers.targets:
            for output in session.plan.planned["scores"][target, block.index]:
                own = output.control is None and output.on_degenerate == policy
                served = output.maps.spec.tried_fill or fill
                if own and not output.maps.spec.draw and output.fill == served:
                    shown.setdefault(output.maps, output)
        about = {"block": block.index, "faces": session.faces.title, "on_degenerate": policy}
        about |= {"people": [person.name for person in block.people]}
        about |= {"images": [int(person.tests[0]) for person in block.people]}
        rows += [
            about
            | {"maps": output.maps.key, "scores": output.key, "budgets": list(output.budgets)}
            | {"fill": output.maps.spec.tried_fill}
            | map_columns(output.maps, asked.occlusion.shape)
            for output in shown.values()
        ]
    return pl.DataFrame(rows, schema=INDEX, orient="row")


def _write_gallery(session: Session, run: Path, index: pl.DataFrame) -> None:
    """Maps of a few identities spread over the run, one draw each, with the masks that were scored.

    ``gallery.parquet`` has a row for each mask: of which map, for which budget, under which rule
    for degenerate maps; `map` and `index` are its places among the ``maps`` and ``masks`` of
    ``gallery.npz``. `fill` is null where map and mask serve every fill.
    """
    people = everybody(session.plan.blocks)
    indices = np.linspace(0, len(people) - 1, GALLERY).round().astype(int)
    table, maps, masks = read_masks(session.store, index, {people[i].name for i in indices})
    arrays = {
        "maps": np.reshape(maps, (-1, *session.frame)),
        "masks": np.reshape(masks, (-1, *session.frame)),
    }
    if session.planted is not None:
        photos = {person.name: person.rows for person in people}
        shown = table["identity"].unique(maintain_order=True)
        arrays["planted"] = np.stack([planted_share(session.planted, photos[n]) for n in shown])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(run / "gallery.npz", lambda file: file.write(buffer.getvalue()))
    write_atomically(run / "gallery.parquet", lambda file: table.write_parquet(file))
