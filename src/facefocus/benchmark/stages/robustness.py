"""Does it hold? The masks that were scored, tried once more under every nuisance of a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from facefocus.benchmark.keys import VERSIONS, nuisance_of
from facefocus.benchmark.occluded_photos import Job
from facefocus.benchmark.people import Block
from facefocus.benchmark.session import Session
from facefocus.benchmark.sorted_rows import FOLDER, SortedRows
from facefocus.benchmark.stages import STAGES, Stage, Task
from facefocus.benchmark.stages.score import ScoreOutput, retained, scored_masks
from facefocus.core.progress import Progress
from facefocus.core.store import content_key
from facefocus.saliency.explainer import Passes

if TYPE_CHECKING:
    from facefocus.benchmark.plan import Inputs

#: The file of a run folder: a row for each identity, configuration and nuisance.
ROBUSTNESS = "robustness.parquet"

#: What is measured of each person and budget under a nuisance, and of each person's clean photos.
MEASURES = ("cosine", "rate")


@dataclass(frozen=True)
class NuisanceOutput:
    """One artefact: the masks of a score artefact under one nuisance."""

    key: str
    scores: ScoreOutput
    nuisance: str


@dataclass(frozen=True)
class RobustnessTask(Task):
    """The masks of a block on one target under one fill, under every nuisance."""

    stage: ClassVar[str] = "robustness"

    recognizer: str
    block: Block
    fill: str
    outputs: tuple[NuisanceOutput, ...]

    @property
    def cost(self) -> int:
        """Forward passes, if no two masks were equal; clean photos count once a nuisance."""
        masks = sum(len(output.scores.budgets) for output in self.outputs)
        return self.block.tests * (masks + len({output.nuisance for output in self.outputs}))

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(output.key for output in self.outputs)

    def without(self, present: Collection[str]) -> RobustnessTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(output for output in self.outputs if output.key not in present)
        return replace(self, outputs=left) if left else None

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The target."""
        return (self.recognizer,)


class RobustnessStage(Stage):
    """Every own mask that was scored, under every nuisance, where that is asked for."""

    name = "robustness"

    def plan(
        self, inputs: Inputs, planned: Mapping[str, Any]
    ) -> tuple[list[RobustnessTask], Mapping[tuple[str, int], tuple[NuisanceOutput, ...]]]:
        """The tasks, and the outputs of each (target, block index)."""
        wanted = inputs.experiment.robustness
        if wanted is None:
            return [], {}
        outputs = {
            (target, index): tuple(
                NuisanceOutput(_key(scored, nuisance), scored, nuisance)
                for scored in scores
                if scored.control is None
                for nuisance in wanted.nuisances
            )
            for (target, index), scores in planned["scores"].items()
            # Split `half` is a reference for held-out photos.
            if inputs.blocks[index].split != "half"
        }
        tasks = [
            RobustnessTask(target, inputs.blocks[index], fill, of_fill)
            for (target, index), block_outputs in outputs.items()
            for fill in inputs.experiment.occlusion.fill
            if (of_fill := tuple(output for output in block_outputs if output.scores.fill == fill))
        ]
        return tasks, outputs

    def run(self, session: Session, task: RobustnessTask, progress: Progress) -> None:
        """See `disturb`."""
        disturb(session, task, progress)

    def passes(self, session: Session, task: RobustnessTask) -> dict[str, Passes]:
        """At most: equal masks are embedded once."""
        return {task.recognizer: Passes(inference=task.cost, alone=task.cost, exact=False)}

    def write(self, session: Session, run: Path) -> None:
        """`ROBUSTNESS`, where it is asked for."""
        if session.experiment.robustness is not None:
            with TemporaryDirectory(dir=run, prefix=FOLDER) as folder:
                robustness_rows(session, Path(folder)).write(run / ROBUSTNESS, statistics=True)


def _key(scored: ScoreOutput, nuisance: str) -> str:
    # The key of scores determines target, photos, masks, fill and threshold.
    return content_key(
        "robustness",
        version=VERSIONS["robustness"],
        scores=scored.key,
        nuisance=nuisance_of(nuisance),
    )


def disturb(session: Session, task: RobustnessTask, progress: Progress) -> None:
    """Retention of every person under every scored mask and nuisance, and with nothing hidden."""
    tables: dict[NuisanceOutput, dict[str, np.ndarray]] = {}
    entries: dict[Job, list[tuple[NuisanceOutput, int | None]]] = defaultdict(list)
    nothing = np.packbits(np.zeros(session.frame, bool)).tobytes()
    for output in task.outputs:
        scores = session.store.load(output.scores.key)
        people, budgets = scores["cosine"].shape
        tables[output] = {name: np.full((people, budgets), np.nan) for name in MEASURES}
        tables[output] |= {f"clean_{name}": np.full(people, np.nan) for name in MEASURES}
        masks = scored_masks(session, scores)
        for person in range(people):
            entries[Job(person, nothing, output.nuisance)].append((output, None))
            for budget in np.flatnonzero(np.isfinite(scores["cosine"][person])).tolist():
                mask = np.packbits(masks[person, budget]).tobytes()
                entries[Job(person, mask, output.nuisance)].append((output, budget))
    jobs = sorted(entries, key=lambda job: (job.person, job.nuisance, job.mask))
    retentions = retained(session, task.recognizer, task.block.people, task.fill, jobs)
    for done, (job, values) in enumerate(retentions, start=1):
        progress("robustness", done, len(jobs))
        for output, budget_index in entries[job]:
            for name in MEASURES:
                if budget_index is None:
                    tables[output][f"clean_{name}"][job.person] = values[name]
                else:
                    tables[output][name][job.person, budget_index] = values[name]
    for output, arrays in tables.items():
        session.store.save(output.key, arrays)


# --- the table ------------------------------------------------------------------------------------

#: Columns beyond those of a configuration.
SCHEMA: dict[str, Any] = {
    "identity": pl.String,
    "nuisance": pl.String,
    **{
        f"{front}{clean}{name}": pl.Float64
        for front in ("", "nuisance_")
        for name in MEASURES
        for clean in ("clean_", "")
    },
}


def robustness_rows(session: Session, folder: Path) -> SortedRows:
    """A row for each identity, configuration and nuisance, in the order of the result table.

    ``nuisance_rate`` and ``nuisance_clean_rate`` are recognition under the nuisance, of hidden and
    of clean photos; ``rate`` and ``clean_rate`` without it, as in the result table; likewise
    ``cosine``. Means over folds and draws; null for who was left out.
    The rows lie in files of `folder`.
    """
    from facefocus.benchmark.collect import SCHEMA as RESULTS
    from facefocus.benchmark.collect import finished_parts, mean
    from facefocus.benchmark.result_columns import CONFIGURATION

    schema = {name: RESULTS[name] for name in CONFIGURATION} | SCHEMA
    order = [*CONFIGURATION, "identity", "nuisance"]
    rows = SortedRows(folder, schema, order)
    splits = dict.fromkeys(block.split for block in session.plan.blocks)
    for target, split in product(session.experiment.recognizers.targets, splits):
        made = finished_parts(session, split, partial(_parts, session, target))
        rows.add(
            {
                **dict(configuration),
                "identity": identity,
                "nuisance": nuisance,
                **{name: mean(part[name] for part in parts) for name in parts[0]},
            }
            for (configuration, nuisance, identity), parts in made
        )
    return rows


def _parts(
    session: Session, target: str, block: Block
) -> Iterator[tuple[tuple[Any, ...], dict[str, float]]]:
    """Each person of a block under each configuration and nuisance: one fold and draw."""
    from facefocus.benchmark.collect import clean_scores, configuration, score_columns

    clean = [clean_scores(session, target, person)[0] for person in block.people]
    for output in session.plan.planned["robustness"].get((target, block.index), ()):
        under, scored = (session.store.load(key) for key in (output.key, output.scores.key))
        for number, budget in enumerate(output.scores.budgets):
            columns = score_columns(output.scores, session.experiment.occlusion.shape)
            about = configuration(session, target, block.split, columns, budget)
            for index, person in enumerate(block.people):
                before = {"cosine": clean[index].clean_cosine, "rate": clean[index].clean_rate}
                part = {}
                for name in MEASURES:
                    part[f"clean_{name}"] = before[name]
                    part[name] = float(scored[name][index, number])
                    part[f"nuisance_clean_{name}"] = float(under[f"clean_{name}"][index])
                    part[f"nuisance_{name}"] = float(under[name][index, number])
                yield (tuple(about.items()), output.nuisance, person.name), part


STAGES.add("robustness", RobustnessStage())
