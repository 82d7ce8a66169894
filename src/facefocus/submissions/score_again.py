"""The masks of a submission, tried again on the faces; and the maps of its methods, made again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facefocus.benchmark.execute import execute, left_of
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.keys import forward_of, gradients_of
from facefocus.benchmark.occluded_photos import Job
from facefocus.benchmark.people import CROSS_POSE
from facefocus.benchmark.run import calibration_faces
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.benchmark.stages.score import retained
from facefocus.benchmark.task_outcome import run_task
from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress
from facefocus.evaluation.retention import macro_average
from facefocus.faces.faceset import FaceSet
from facefocus.models.backends import BACKENDS, absent
from facefocus.models.recognizer import is_white_box
from facefocus.models.zoo import load
from facefocus.saliency.methods import METHODS
from facefocus.submissions.submission import (
    MASKS,
    METHODS_FILE,
    PROVENANCE,
    RESULTS,
    RUN,
    Submission,
    masks_of,
    pseudonyms,
)
from facefocus.submissions.submission_figures import SETTING, Finding, Verdict, rows_with_masks

#: What is scored again.
FIGURES = ("cosine", "rate", "fmr")

#: Largest difference of a figure where the passes are the very same.
SAME_PASSES = 1e-9

#: Largest difference of a cosine where other machines, libraries or precisions ran the passes; a
#: rate may differ by the pairs whose cosine lies so near the threshold: see `_near`.
OTHER_PASSES = 0.01


@dataclass(eq=False)
class Checker:
    """One run of a submission, and the faces that it is of.

    Attributes:
        submission: The file.
        part: What stands before the names of the run's files.
        faces: The face set.
        store: Where what is computed is kept.
        backend: What runs passes; "auto": what ran the submission's, where it runs here.
        progress: Called with what is done, and done and total.
    """

    submission: Submission
    part: str
    faces: FaceSet
    store: StoreAddress
    backend: str
    progress: Progress

    def findings(self, methods: Sequence[str]) -> Iterator[Finding]:
        """What scoring again says; and of the methods named, what making their maps again says.

        Raises:
            UserError: The experiment cannot be read, or a method is not of it.
        """
        faces = self.submission.plain(self.part + PROVENANCE).get("faces")
        stated = faces.get("hash") if isinstance(faces, Mapping) else None
        if stated != self.faces.hash:
            yield Finding(
                "not checked",
                f"{self.part}The face set '{self.faces.title}' is not the one that was used: its"
                f" hash is {self.faces.hash[:12]}, not {str(stated)[:12]}.",
            )
            return
        here, findings = self._recognizers()
        yield from findings
        if here:
            yield from self._scores(here)
            yield from self._maps(here, methods)

    def _recognizers(self) -> tuple[list[str], list[Finding]]:
        """The recognizers that are here with the very weights that were used."""
        stated = self.submission.recognizers(self.part)
        reading = self._asked()["recognizers"].get("preprocessing", {})
        here, findings = [], []
        for name, about in stated.items():
            if ".py:" in name:
                # Whoever handed it in chose the name: no file is run that the user did not name.
                text = f"{self.part}{name} is code in a file: a check does not run it."
                findings.append(Finding("not checked", text))
                continue
            try:
                fingerprint = load(name, reading.get(name)).fingerprint
            except UserError as error:
                text = f"{self.part}{name} is not here, so nothing on it is tried again: {error}"
                findings.append(Finding("not checked", text))
                continue
            if fingerprint == about.get("fingerprint"):
                here.append(name)
                continue
            findings.append(
                Finding("does not hold", f"{self.part}{name} here has other weights or another"
                        " preprocessing: its fingerprint differs.")
            )  # fmt: skip
        return here, findings

    def _asked(self) -> dict[str, Any]:
        """The experiment as plain data, with the people's names in place of pseudonyms."""
        asked = self.submission.experiment(self.part)
        if people := asked["faces"].get("people"):
            asked["faces"]["people"] = [
                self._names.get(pseudonym, pseudonym) for pseudonym in people
            ]
        return asked

    @cached_property
    def _pseudonyms(self) -> dict[str, str]:
        return pseudonyms(self.faces)

    @cached_property
    def _names(self) -> dict[str, str]:
        return {pseudonym: name for name, pseudonym in self._pseudonyms.items()}

    def _session(self, changes: Mapping[str, Any]) -> Session:
        asked = {**self._asked(), "controls": None, "oracle": None, "robustness": None, **changes}
        experiment = parse_experiment(asked)
        run = self.submission.plain(self.part + RUN)
        known = {*experiment.recognizers.source, *experiment.recognizers.targets}
        batches = tuple(tuple(batch) for batch in run.get("batches", ()) if batch[0] in known)
        assert self.faces.folder is not None
        other = calibration_faces(experiment.evaluation.rule, Path("faces"))
        return Session(
            SessionSpec(
                experiment.model_dump_json(), self.faces.folder, self.store,
                self._backend(str(run.get("backend"))), calibration=other, batches=batches,
            )
        )  # fmt: skip

    def _backend(self, recorded: str) -> str:
        usable = recorded in BACKENDS and absent(recorded) is None
        return recorded if self.backend == "auto" and usable else self.backend

    # --- scores -----------------------------------------------------------------------------------

    def _scores(self, here: Sequence[str]) -> Iterator[Finding]:
        rows = self.submission.table(self.part + RESULTS)
        targets = [name for name in here if name in set(rows["target"])]
        masks = self.submission.table(self.part + MASKS)
        unknown = set(rows["identity"]) - set(self._names)
        if unknown:
            text = f"{self.part}{len(unknown)} people of the results are not in the face set."
            yield Finding("does not hold", text)
            return
        if not targets:
            return
        only = {"source": targets, "target": targets, "transfer": False}
        session = self._session(
            {
                "recognizers": {**self._asked()["recognizers"], **only},
                "saliency": [{"method": "random", "draws": 1}],
            }
        )
        for task in session.plan.tasks:
            if task.stage == "embed" and (rest := left_of(session, task)) is not None:
                run_task(session, rest, self.progress)
        packed = self.submission.masks(self.part)
        for target in targets:
            mine = rows_with_masks(
                rows.filter(pl.col("target") == target), masks["identity"].unique().to_list()
            )
            wanted = masks.join(mine, on=SETTING, how="semi", nulls_equal=True)
            scored = self._scored(session, target, wanted, packed)
            yield self._compared(session, target, mine, scored)

    def _scored(
        self, session: Session, target: str, masks: pl.DataFrame, packed: np.ndarray
    ) -> pl.DataFrame:
        """`masks` with the figures of each on a target."""
        folds = masks.partition_by("split", "fold", "fill", maintain_order=True)
        parts, done = [], 0
        for part in folds:
            split, fold, fill = part.select("split", "fold", "fill").row(0)
            people = [
                person
                for block in session.plan.blocks
                if (block.split, block.fold) == (split, fold)
                for person in block.people
            ]
            index_of = {person.name: number for number, person in enumerate(people)}
            jobs = [
                Job(index_of[self._names[pseudonym]], packed[mask].tobytes())
                for pseudonym, mask in part.select("identity", "mask").iter_rows()
            ]
            figures: dict[Job, dict[str, float]] = {}
            for job, values in retained(session, target, people, fill, sorted(
                set(jobs), key=lambda job: (job.person, job.mask)
            )):  # fmt: skip
                figures[job] = values
                self.progress(f"masks on {target}", done + len(figures), len(masks))
            done += len(part)
            columns = {name: [figures[job][name] for job in jobs] for name in FIGURES}
            parts.append(
                part.with_columns(**{key: pl.Series(column) for key, column in columns.items()})
            )
        return pl.concat(parts) if parts else masks.with_columns(
            **{name: pl.lit(None, pl.Float64) for name in FIGURES}
        )  # fmt: skip

    def _compared(
        self, session: Session, target: str, rows: pl.DataFrame, scored: pl.DataFrame
    ) -> Finding:
        """Whether the rows of a target say what its masks give."""
        stated = self.submission.recognizers(self.part)[target]
        same = stated.get("forward") == forward_of(session.recognizers[target])
        parts: dict[tuple[Any, ...], list[tuple[float, ...]]] = defaultdict(list)
        for row in scored.iter_rows(named=True):
            parts[tuple(row[key] for key in SETTING)].append(tuple(row[key] for key in FIGURES))

        def agrees(row: Mapping[str, Any]) -> bool:
            made = parts[tuple(row[key] for key in SETTING)]
            again = [macro_average(values) for values in zip(*made, strict=True)]
            return len(made) > 0 and all(
                _near(row, *pair, same=same) for pair in zip(FIGURES, again, strict=True)
            )

        wrong = [row for row in rows.iter_rows(named=True) if not agrees(row)]
        how = "to the last digit" if same else "within rounding (other passes ran here)"
        if not wrong:
            text = f"{self.part}{target}: {len(rows):,} rows of {rows['identity'].n_unique()}"
            return Finding("holds", f"{text} people, scored again, give the same figures {how}.")
        first = wrong[0]
        text = (
            f"{self.part}{target}: {len(wrong):,} of {len(rows):,} rows, scored again, give other"
            f" figures; the first is {first['identity']} {first['method']} {first['budget']:g}"
            f" {first['fill']}."
        )
        return Finding("does not hold", text)

    # --- maps -------------------------------------------------------------------------------------

    def _maps(self, here: Sequence[str], methods: Sequence[str]) -> Iterator[Finding]:
        """What the masks of methods become when their maps are made again."""
        versions = self.submission.plain(self.part + METHODS_FILE)
        for method in methods:
            name = next((recorded for recorded in versions if _same_method(recorded, method)), None)
            if name is None:
                raise UserError(
                    f"The '--method' must be one of the submission's: {', '.join(versions)}. Got"
                    f" '{method}'.{did_you_mean(method, versions)}"
                )
            if versions[name] != str(METHODS[method].version):
                yield Finding(
                    "does not hold",
                    f"{self.part}{method}: other code than the submission's. Its maps are made"
                    " all the same.",
                )
            yield from self._made_again(here, name, method)

    def _made_again(self, here: Sequence[str], name: str, method: str) -> Iterator[Finding]:
        if METHODS[method].needs(METHODS[method].resolve_options({})).shared:
            text = f"{self.part}{method}: its map is everybody's, searched on other people."
            yield Finding("not checked", text)
            return
        asked = self._asked()
        entries = [
            {**entry, "method": [method]}
            for entry in asked["saliency"]
            if name in (entry.get("method") or ()) and set(entry.get("sources") or here) <= {*here}
        ]
        sources = [source for source in asked["recognizers"]["source"] if source in here]
        if not entries or not sources:
            text = f"{self.part}{method}: its recognizers are not here."
            yield Finding("not checked", text)
            return
        masks = self.submission.table(self.part + MASKS)
        people = [
            self._names[pseudonym] for pseudonym in masks["identity"].unique(maintain_order=True)
        ]
        # Of people with few photos none can be held out.
        tried = {"half": "heldout", **dict.fromkeys(CROSS_POSE, "cross-pose")}
        splits = {tried.get(split, split) for split in masks["split"].unique()}
        only = {"source": sources, "target": sources, "transfer": False}
        session = self._session(
            {
                "faces": {**asked["faces"], "people": people, "identities": None},
                "recognizers": {**asked["recognizers"], **only},
                "saliency": entries,
                "evaluation": {**asked["evaluation"], "split": sorted(splits)},
            }
        )
        execute(session, None, self.progress)
        again, packed = masks_of(session, people, self._pseudonyms)
        yield self._same_masks(session, name, method, again, packed)

    def _same_masks(
        self, session: Session, name: str, method: str, again: pl.DataFrame, packed: np.ndarray
    ) -> Finding:
        keys = [key for key in (*SETTING, "fold", "map_draw", "control_draw") if key != "method"]
        stated = self.submission.table(self.part + MASKS).filter(
            pl.col("method") == name,
            pl.col("control").is_null(),
            pl.col("source").is_in(again["source"].unique().to_list()),
        )
        both = stated.join(again, on=keys, how="left", nulls_equal=True, suffix="_again")
        old = self.submission.masks(self.part)
        equal = [
            second is not None and bool((old[first] == packed[second]).all())
            for first, second in both.select("mask", "mask_again").iter_rows()
        ]
        recorded = self.submission.recognizers(self.part)
        same = all(
            recorded[model].get("gradients")
            == (gradients_of(recognizer) if is_white_box(recognizer) else None)
            for model, recognizer in session.recognizers.items()
        )
        text = f"{self.part}{method}: {sum(equal):,} of {len(equal):,} masks are the same when its"
        text += " maps are made again"
        verdict: Verdict = "holds" if all(equal) else "does not hold"
        if not all(equal) and not same:
            verdict, text = (
                "not checked",
                f"{text}; other libraries ran here, which can change some",
            )
        return Finding(verdict, f"{text}.")


def _near(row: Mapping[str, Any], name: str, again: float, *, same: bool) -> bool:
    """Whether a figure is what it was, given whether the same passes ran."""
    before: float | None = row[name]
    if before is None or math.isnan(again):
        return before is None and math.isnan(again)
    if same:
        return abs(before - again) <= SAME_PASSES
    # Two pairs of a person may lie at the threshold, and a twentieth of the non-mated ones: some
    # have no more than 40.
    pair = 1 / max(int(row["pairs"]), 1)
    bearable = {"cosine": OTHER_PASSES, "rate": 2 * pair, "fmr": 0.05}[name]
    return abs(before - again) <= bearable + SAME_PASSES


def _same_method(recorded: str, given: str) -> bool:
    """Whether two names are of one method: files lie in other folders elsewhere."""
    if ":" not in recorded or ":" not in given:
        return recorded == given
    (file, _, attribute), (other, _, second) = recorded.rpartition(":"), given.rpartition(":")
    return attribute == second and Path(file).name == Path(other).name
