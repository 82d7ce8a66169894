"""``python -m benchmarks.person_evidence STUDY PHOTOS --gallery SET --out FOLDER``: the study of
``facefocus person`` on people with a folder of photographs each.

Each person's rows are kept in FOLDER, a file for each setting: killed and run again, or with more
shapes and budgets in STUDY, it does what is missing. Rows that are done are in
``benchmarks/person_results``; people are numbers there. The document is written by
``python -m benchmarks.person_document FOLDER --out FILE``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import polars as pl
import torch

from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically
from facefocus.core.progress import silent
from facefocus.core.seeds import generator
from facefocus.faces.detect import FaceDetector, detector_model
from facefocus.faces.faceset import open_faceset
from facefocus.faces.images import suffixes
from facefocus.models.zoo import load
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.painting import paint
from facefocus.person.candidates import (
    OWN,
    POPULATION,
    REPAIR,
    SAME_PHOTOS,
    Photos,
    Recipe,
    atlas_maps,
    crossed,
    face_region,
    masked_people,
    masks_of_others,
    own_maps,
    population_map,
    score_of,
    searched_people,
    shaped,
)
from facefocus.person.explanation import (
    WORK,
    Setting,
    Subject,
    judges_of,
    make_setting,
    read_subjects,
)
from facefocus.person.meter import Meter
from facefocus.person.proof import CLEAN, Design, Judge, control_masks, make_design
from facefocus.person.redetect import Redetected, find_again
from facefocus.person.robust_figures import (
    CleanSide,
    crop_robustness,
    measured_again,
    photo_robustness,
)
from facefocus.person.trials import CHOSEN, Crops, Outcome, Team, try_masks
from facefocus.saliency.occlusion_gradient import occlusion_gradient_maps

#: The rival: occlusion gradient of 25 steps, of the same photos and sources.
GRADIENT, GRADIENT_STEPS = "gradient", 25

#: What `--against repair` is compared with: the mask that ignores repair, and regions of any face.
IGNORANT, BAND, INNER_FACE = "own-ignoring-repair", "band", "inner-face"

#: The mask for everybody that is found with repair in the loop on other people.
SHARED = "shared-mask"

#: How hidden photos are seen: the aligned crop, the painted photograph detected anew; repaired.
CROP, PAINTED, REPAIRED, PAINTED_REPAIRED = "crop", "painted", "repaired", "painted repaired"

#: Conditions that are painted on the photographs.
ON_PHOTOS = (OWN, GRADIENT, "shifted", "random", IGNORANT, BAND, INNER_FACE, SHARED)

#: People whose maps are made together: a pass with gradients takes 16 photos, full or not.
TOGETHER = 2


@dataclass(frozen=True)
class Part:
    """One setting of the study.

    Attributes:
        name: Of the setting.
        models: Masks are made on these.
        judges: These judge; those that are no models never saw a mask.
        pixels: Budgets, as of the other shapes.
        cells: Likewise.
        patches: Likewise.
        learned: Budgets that masks are learned for. One of another budget is cut from the map of
            the next larger one of these, or of the largest.
        gradient: Budgets that the occlusion gradient is made for; others as with `learned`. Where
            there are none it is not tried.
        lasting: Budgets at which nuisances and repair are tried.
        draws: Of each control.
        against: ``repair``, or nothing.
    """

    name: str
    models: tuple[str, ...]
    judges: tuple[str, ...]
    pixels: tuple[float, ...]
    cells: tuple[float, ...]
    patches: tuple[float, ...]
    learned: tuple[float, ...]
    gradient: tuple[float, ...]
    lasting: tuple[float, ...]
    draws: int = 1
    against: str = ""

    @property
    def trials(self) -> list[tuple[str, float]]:
        """Shape and budget of every mask."""
        shapes = {"pixels": self.pixels, "cells": self.cells, "patches": self.patches}
        return [(shape, budget) for shape, budgets in shapes.items() for budget in budgets]

    @property
    def lasting_trials(self) -> list[tuple[str, float]]:
        """Those in which nuisances and repair are tried."""
        return [(shape, budget) for shape, budget in self.trials if budget in self.lasting]

    def without(self, trials: Container[tuple[str, float]]) -> Part:
        """The same without some trials."""

        def left(shape: str, budgets: Sequence[float]) -> tuple[float, ...]:
            return tuple(budget for budget in budgets if (shape, budget) not in trials)

        return replace(
            self,
            pixels=left("pixels", self.pixels),
            cells=left("cells", self.cells),
            patches=left("patches", self.patches),
        )


def made_for(budget: float, budgets: Sequence[float]) -> float:
    """Which of some budgets a map of a budget is made for: the next larger, or the largest."""
    return min((larger for larger in budgets if larger >= budget), default=max(budgets))


@dataclass(frozen=True)
class Study:
    """Who is explained, and how; see ``benchmarks/person_study.toml``."""

    people: int
    photos: tuple[int, int]
    most_photos: int
    seed: int
    fill: str
    checker: str
    cuts: tuple[str, ...]
    setting: tuple[Part, ...]
    title: str = "One person's masks: what they hide on photographs that they never saw"

    @property
    def recognizers(self) -> list[str]:
        """All that are needed, once each; the checker comes first."""
        named = [self.checker, *(n for part in self.setting for n in (*part.models, *part.judges))]
        return list(dict.fromkeys(named))


def read_study(path: Path) -> Study:
    """The study of a TOML file."""
    given = tomllib.loads(path.read_text("utf-8"))
    parts = tuple(Part(**_tuples(part)) for part in given.pop("setting"))
    return Study(**_tuples({"cuts": (), **given}), setting=parts)


def _tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def chosen_people(study: Study, photos: Path) -> dict[str, list[Path]]:
    """Names, drawn by the seed among folders with as many photos as the study wants, and files."""
    files_of = {}
    for folder in sorted(path for path in photos.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes())
        if study.photos[0] <= len(files) <= study.photos[1]:
            files_of[folder.name] = files[: study.most_photos]
    names = list(files_of)
    drawn = generator(study.seed, "person evidence").permutation(len(names))[: study.people]
    return {names[number]: files_of[names[number]] for number in drawn.tolist()}


# Masks --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Member:
    """One person of the study.

    Attributes:
        subject: The photos.
        design: The halves.
        judges: Every recognizer, by the name that the study gives it.
        side: What was measured of the clean photos under nuisances.
    """

    subject: Subject
    design: Design
    judges: Mapping[str, Judge]
    side: CleanSide = field(default_factory=CleanSide)

    @property
    def sides(self) -> list[Photos]:
        """Photos that masks are made of."""
        frames, names = self.subject.frames, self.subject.names
        return [Photos(frames[f.made_of], [names[r] for r in f.made_of]) for f in self.design.folds]


def half_maps(
    members: Sequence[Member], part: Part, recipe: Recipe, setting: Setting
) -> list[list[np.ndarray]]:
    """Of each person the maps of both halves, all made together."""
    sources = sources_of(members[0], part)
    sides = [side for member in members for side in member.sides]
    learned = replace(recipe, budget=made_for(recipe.budget, part.learned))
    return _by_person(own_maps(sources, sides, learned, setting.store), "own")


def gradient_maps(members: Sequence[Member], part: Part, recipe: Recipe) -> list[list[np.ndarray]]:
    """The same by occlusion gradient."""
    sides = [side for member in members for side in member.sides]
    made = occlusion_gradient_maps(
        sources_of(members[0], part),
        [side.crops for side in sides],
        [
            hider(recipe.fill, side.crops, [fill_rng(recipe.seed, name) for name in side.names])
            for side in sides
        ],
        steps=GRADIENT_STEPS,
        pixels=recipe.pixels(sides[0].crops.shape[1:3]),
        rngs=[recipe.rng(GRADIENT, *side.names) for side in sides],
    )
    return _by_person([made_map.map for made_map in made], GRADIENT)


def _by_person(maps: Sequence[np.ndarray | None], what: str) -> list[list[np.ndarray]]:
    whole = [saliency for saliency in maps if saliency is not None]
    if len(whole) < len(maps):
        raise UserError(f"A map of '{what}' orders no pixels: the photos of a half are all equal.")
    return [whole[start : start + 2] for start in range(0, len(whole), 2)]


def sources_of(member: Member, part: Part) -> list[Any]:
    """The recognizers that masks of a setting are made on."""
    return [member.judges[name].recognizer for name in part.models]


def team_of(member: Member, part: Part) -> Team:
    """Who makes the masks of a setting, and who judges them."""
    seen = [member.judges[name] for name in part.models]
    judges = [replace(member.judges[name], seen=name in part.models) for name in part.judges]
    return Team(tuple(sources_of(member, part)), tuple(seen), tuple(judges))


# Rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tried:
    """Masks of one person, shape and budget, by condition: [draws, n, h, w]."""

    member: Member
    team: Team
    crops: Crops
    masks: Mapping[str, np.ndarray]

    def on_crops(self, fill: str) -> Outcome:
        """The masks on aligned crops, hidden by a fill."""
        rest = {name: each for name, each in self.masks.items() if name != OWN}
        crops = replace(self.crops, fill=fill)
        own = {OWN: self.masks[OWN][0]}
        return try_masks(self.team, crops, self.member.design, own, lambda _: rest, silent)

    def again(self, name: str, fill: str, detector: FaceDetector) -> list[Redetected]:
        """The first draw painted on the photographs by a fill, detected and aligned anew."""
        redetected = []
        for photo, mask in zip(self.member.subject.photos, self.masks[name][0], strict=True):
            rng = fill_rng(self.crops.seed, photo.name)
            redetected.append(
                find_again(paint(photo.pixels, photo.matrix, mask, fill, rng), photo, detector)
            )
        return redetected


def crop_rows(outcome: Outcome, view: str) -> Iterator[dict[str, Any]]:
    """Means over photos of all conditions on aligned crops."""
    for (condition, recognizer, seen), measures in outcome.values.items():
        name = OWN if condition == CHOSEN else condition
        if condition != OWN:
            yield from _rows(name, view, recognizer, seen, measures, 0)


def painted_rows(
    tried: Tried, fill: str, view: str, detector: FaceDetector
) -> Iterator[dict[str, Any]]:
    """Means over photos of what is painted, for those whose face is found again."""
    for name in (name for name in ON_PHOTOS if name in tried.masks):
        again = tried.again(name, fill, detector)
        lost = sum(not photo.detected for photo in again)
        for judge in tried.team.judges:
            measures = measured_again(judge, again, tried.member.design)
            yield from _rows(name, view, judge.name, judge.seen, measures, lost)


def lasting_rows(tried: Tried, outcome: Outcome) -> Iterator[dict[str, Any]]:
    """The own mask under nuisances and repair, on crops and on painted photographs."""
    member = tried.member
    outcomes = crop_robustness(tried.team, tried.crops, member.design, outcome, member.side)
    outcomes += photo_robustness(
        tried.team, tried.crops, member.subject.photos, member.design, outcome, member.side
    )
    for row in outcomes:
        for condition, cosine in ((CLEAN, row.clean), (OWN, row.hidden)):
            values = {("cosine", ""): cosine} | (dict(row.measures) if condition == OWN else {})
            for (measure, rule), value in values.items():
                yield {
                    "condition": condition,
                    "view": row.nuisance,
                    "recognizer": row.recognizer,
                    "seen": row.seen,
                    "measure": measure,
                    "rule": rule,
                    "value": value,
                    "photos": row.photos,
                    "undetected": row.undetected,
                }


def _rows(
    condition: str,
    view: str,
    recognizer: str,
    seen: bool,
    measures: Mapping[tuple[str, str], np.ndarray],
    undetected: int,
) -> Iterator[dict[str, Any]]:
    for (measure, rule), values in measures.items():
        there = np.isfinite(values)
        yield {
            "condition": condition,
            "view": view,
            "recognizer": recognizer,
            "seen": seen,
            "measure": measure,
            "rule": rule,
            "value": float(values[there].mean()) if there.any() else float("nan"),
            "photos": int(there.sum()),
            "undetected": undetected,
        }


# The work -----------------------------------------------------------------------------------------


class Worker:
    """What a process loads once, and does for one person after the other."""

    def __init__(
        self, study: Study, names: Sequence[str], gallery: Path, store: Path, backend: str
    ) -> None:
        self.study = study
        recipe = Recipe(0.05, "pixels", study.fill, seed=study.seed)
        loaded = [load(name) for name in study.recognizers]
        setting = make_setting(
            loaded, (), recipe, open_faceset(gallery), backend, store, Meter(silent, "person", WORK)
        )
        assert setting.strangers is not None
        # Nobody of the study is among the other people: these are the same for everybody.
        kept = ~np.isin(setting.strangers.people, list(names))
        self.setting = replace(
            setting,
            strangers=setting.strangers.without(names),
            others={name: embeddings[kept] for name, embeddings in setting.others.items()},
        )
        self.named = dict(zip(study.recognizers, loaded, strict=True))
        self.detector = FaceDetector(detector_model(None))

    def member(self, files: Sequence[Path]) -> Member:
        """A person, read and judged as by ``facefocus person``."""
        (subject,) = read_subjects(files, self.setting, False, Meter(silent, "person", WORK))
        design = make_design(subject.frames, self.study.seed)
        # Who is taken for the person among the other people sets no threshold here.
        judges, _, _ = judges_of(subject, self.setting, design)
        if not design.crossed:
            raise UserError(f"The photos of '{subject.name}' have no two halves.")
        return Member(
            subject, design, {n: judges[recognizer.name] for n, recognizer in self.named.items()}
        )

    def people(self, members: Sequence[Member], part: Part) -> list[pl.DataFrame]:
        """The rows of a setting, a table for each person."""
        rows: list[list[dict[str, Any]]] = [[] for _ in members]
        gradients: dict[float, list[list[np.ndarray]]] = {}
        for shape, budget in part.trials:
            recipe = self._recipe(part, shape, budget)
            maps = half_maps(members, part, recipe, self.setting)
            ignorant = (
                half_maps(members, part, replace(recipe, against=""), self.setting)
                if part.against
                else None
            )
            rival = made_for(budget, part.gradient) if part.gradient else None
            if rival is not None and rival not in gradients:
                gradients[rival] = gradient_maps(members, part, replace(recipe, budget=rival))
            for number, member in enumerate(members):
                more = {} if rival is None else {GRADIENT: gradients[rival][number]}
                more |= {} if ignorant is None else {IGNORANT: ignorant[number]}
                tried = self._tried(member, part, recipe, maps[number], more)
                for row in self._rows(tried, part):
                    rows[number].append({"shape": shape, "budget": budget, **row})
        return _tables(rows, part)

    def lasting(self, members: Sequence[Member], part: Part) -> list[pl.DataFrame]:
        """The rows of nuisances and repair, a table for each person."""
        rows: list[list[dict[str, Any]]] = [[] for _ in members]
        for shape, budget in part.lasting_trials:
            recipe = self._recipe(part, shape, budget)
            maps = half_maps(members, part, recipe, self.setting)
            for number, member in enumerate(members):
                team = team_of(member, part)
                own = self._own_masks(member, team, part, recipe, maps[number])[0]
                tried = Tried(member, team, _crops_of(member, recipe), {OWN: own[None]})
                for row in lasting_rows(tried, tried.on_crops(recipe.fill)):
                    rows[number].append({"shape": shape, "budget": budget, **row})
        return _tables(rows, part)

    def _recipe(self, part: Part, shape: str, budget: float) -> Recipe:
        study = self.study
        return Recipe(budget, shape, study.fill, seed=study.seed, against=part.against)

    def _own_masks(
        self, member: Member, team: Team, part: Part, recipe: Recipe, maps: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mask of each photo from the other half, and from its own."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            scores = [score_of(team.sources, side, recipe) for side in member.sides]
            return crossed(maps, scores, member.design, len(member.subject.frames), recipe)

        made: tuple[np.ndarray, np.ndarray] = self._kept(
            (member.subject.names, part.models, recipe), make
        )
        return made

    def _tried(
        self,
        member: Member,
        part: Part,
        recipe: Recipe,
        maps: list[np.ndarray],
        more: Mapping[str, list[np.ndarray]],
    ) -> Tried:
        """All masks of one person, shape and budget."""
        team, count = team_of(member, part), len(member.subject.frames)
        frame = member.subject.frames.shape[1:3]

        def of_halves(halves: list[np.ndarray]) -> np.ndarray:
            return crossed(halves, [None, None], member.design, count, recipe)[0]

        own, same = self._own_masks(member, team, part, recipe, maps)
        masks = {OWN: own[None], SAME_PHOTOS: same}
        masks |= {name: of_halves(halves)[None] for name, halves in more.items()}
        if part.against:
            fixed = fixed_regions(frame, recipe) | {SHARED: self._shared(team, recipe)}
        else:
            fixed, others = self._of_others(team, part, recipe)
            drawn = control_masks(
                own, member.design.folds, face_region(frame), recipe.shape, others, recipe.seed
            )
            masks |= {
                name: each if name == "other" else each[: part.draws]
                for name, each in drawn.items()
            }
        masks |= {name: np.broadcast_to(mask, (1, count, *frame)) for name, mask in fixed.items()}
        return Tried(member, team, _crops_of(member, recipe), masks)

    def _of_others(
        self, team: Team, part: Part, recipe: Recipe
    ) -> tuple[dict[str, np.ndarray], Sequence[np.ndarray]]:
        """Everybody's mask, and masks of other people."""
        assert self.setting.strangers is not None
        people = masked_people(self.setting.strangers)
        learned = replace(recipe, budget=made_for(recipe.budget, part.learned))
        maps = own_maps(team.sources, people, learned, self.setting.store)
        mean = population_map(maps)
        assert mean is not None
        others = self._kept(
            (part.models, recipe), lambda: masks_of_others(team.sources, people, maps, recipe)
        )
        return {POPULATION: shaped(mean, recipe, POPULATION)}, others

    def _shared(self, team: Team, recipe: Recipe) -> np.ndarray:
        """The mask for everybody, found on other people against repair."""
        assert self.setting.strangers is not None
        people = searched_people(self.setting.strangers)
        (saliency,) = own_maps(team.sources, people, recipe, self.setting.store)
        assert saliency is not None
        return shaped(saliency, recipe, SHARED)

    def _kept(self, key: Any, make: Any) -> Any:
        if not hasattr(self, "_memory"):
            self._memory: dict[Any, Any] = {}
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def _rows(self, tried: Tried, part: Part) -> Iterator[dict[str, Any]]:
        outcome = tried.on_crops(self.study.fill)
        yield from crop_rows(outcome, CROP)
        yield from painted_rows(tried, self.study.fill, PAINTED, self.detector)
        if part.against:
            yield from crop_rows(tried.on_crops(REPAIR), REPAIRED)
            yield from painted_rows(tried, REPAIR, PAINTED_REPAIRED, self.detector)


def _crops_of(member: Member, recipe: Recipe) -> Crops:
    return Crops(member.subject.frames, member.subject.names, recipe.fill, recipe.seed)


def _tables(rows: Sequence[Sequence[dict[str, Any]]], part: Part) -> list[pl.DataFrame]:
    """A table for each person."""
    return [pl.DataFrame(own).with_columns(setting=pl.lit(part.name)) for own in rows]


def fixed_regions(frame: tuple[int, int], recipe: Recipe) -> dict[str, np.ndarray]:
    """The band of eyes and brows, and the inner face: grown to the area, the same for all."""
    maps = atlas_maps(frame)
    band = np.maximum(maps["atlas-eyes"], maps["atlas-brows"])
    whole = replace(recipe, shape="pixels")
    return {
        BAND: shaped(band, whole, BAND),
        INNER_FACE: shaped(maps["atlas-inner-face"], whole, INNER_FACE),
    }


def labels_of(people: Iterable[str]) -> dict[str, str]:
    """How rows name the people of the study: by their place in the draw."""
    return {name: f"p{number:02}" for number, name in enumerate(people)}


def file_of(folder: Path, part: Part, label: str) -> Path:
    """Where the rows of a person and setting are kept."""
    setting = part.name.replace(",", "").replace(" ", "-")
    return folder / "rows" / f"{setting}-{label}.parquet"


def kept_rows(file: Path) -> pl.DataFrame | None:
    """The rows of a file; None where there is none."""
    return pl.read_parquet(file) if file.is_file() else None


#: Views of photos under no nuisance.
PLAIN = (CROP, PAINTED, REPAIRED, PAINTED_REPAIRED)


def trials_of(rows: pl.DataFrame | None, lasting: bool = False) -> set[tuple[str, float]]:
    """Shape and budget of what was tried: at all, or under nuisances and repair."""
    if rows is None:
        return set()
    asked = pl.col("view").is_in(PLAIN) != lasting
    return set(rows.filter(asked).select("shape", "budget").unique().rows())


def missing(part: Part, rows: pl.DataFrame | None) -> tuple[Part, Part]:
    """What is to be tried yet, and what under nuisances and repair."""
    lasting = part.without(trials_of(rows, lasting=True))
    return part.without(trials_of(rows)), lasting.without(
        set(lasting.trials) - set(lasting.lasting_trials)
    )


def work(
    study: Study,
    people: Mapping[str, Sequence[Path]],
    groups: Sequence[Sequence[str]],
    arguments: tuple[Path, Path, str],
    out: Path,
) -> Iterator[tuple[str, str]]:
    """Do some groups of people; gives each person and setting that is done."""
    torch.set_num_threads(1)
    gallery, store, backend = arguments
    worker = Worker(study, list(people), gallery, store, backend)
    labels = labels_of(people)
    for group in groups:
        members: dict[str, Member] = {}
        for part in study.setting:
            files = {name: file_of(out, part, labels[name]) for name in group}
            # Nuisances come after all else, with the masks that are there then.
            for stage, make in enumerate((worker.people, worker.lasting)):
                wanted = {name: missing(part, kept_rows(files[name]))[stage] for name in group}
                for left in dict.fromkeys(wanted.values()):
                    names = [name for name in group if wanted[name] == left]
                    if not left.trials:
                        continue
                    for name in names:
                        if name not in members:
                            members[name] = worker.member(people[name])
                    made = make([members[name] for name in names], left)
                    for name, table in zip(names, made, strict=True):
                        _add_rows(files[name], table.with_columns(person=pl.lit(labels[name])))
                        yield name, part.name


def _add_rows(file: Path, rows: pl.DataFrame) -> None:
    kept = kept_rows(file)
    whole = rows if kept is None else pl.concat([kept, rows])
    write_atomically(file, whole.write_parquet)


def _work(queue: Any, *arguments: Any) -> None:
    for done in work(*arguments):
        queue.put(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("photos", type=Path, help="a folder for each person")
    parser.add_argument("--gallery", type=Path, required=True, help="a prepared face set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="where maps are kept; OUT/store by default")
    parser.add_argument("--backend", default="openvino-bf16")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--people", type=int, help="only the first so many")
    asked = parser.parse_args()
    study = read_study(asked.study)
    people = chosen_people(study, asked.photos)
    names = list(people)[: asked.people]
    labels = labels_of(people)
    (asked.out / "rows").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(asked.study, asked.out / "study.toml")
    groups = [names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)]
    rest = (asked.gallery, asked.store or asked.out / "store", asked.backend)
    total = sum(
        bool(left.trials)
        for part in study.setting
        for name in names
        for left in missing(part, kept_rows(file_of(asked.out, part, labels[name])))
    )
    start = time.monotonic()
    most = min(asked.workers, len(groups))
    context = get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        with ProcessPoolExecutor(most, context) as pool:
            jobs = [
                pool.submit(
                    _work, queue, study, people, groups[n :: asked.workers], rest, asked.out
                )
                for n in range(most)
            ]
            done = 0
            while done < total and not any(job.done() and job.exception() for job in jobs):
                try:
                    name, part = queue.get(timeout=5)
                except Empty:
                    continue
                done += 1
                left = (time.monotonic() - start) / done * (total - done)
                print(f"{done} of {total}: {part}, {name}; {left / 60:.0f} min left", flush=True)
            for job in as_completed(jobs):
                job.result()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
