"""Experiments that build on each other: the stages of a study, on whatever the user has.

A *stage* is an experiment file with four liberties, so that one file serves every user:

- ``[faces] set`` and ``[recognizers] source`` are lists; what is not here is named and left out.
- Each face set is a run of its own, ``STUDY/<stage>-<faces>``.
- ``identities`` in a ``[[saliency]]`` limits the people of methods that need many passes: they get
  a run of their own, ``STUDY/<stage>-<faces>-<people>``, with the same baselines beside them.
- ``layer = "best"`` and ``objective = "best"`` are read, for each method, from the results of the
  stage that ``[choose]`` names. The choice and its ranking stand in ``choices.json`` of the run.

A *study* is a file that lists stages, and may say for all of them which faces, recognizers and how
many people. Every run has its ``experiment.toml`` with everything filled in, which
``facefocus run`` understands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from facefocus.analysis.results import STUDY, read_results
from facefocus.benchmark.cost import Estimate, experiment_cost
from facefocus.benchmark.experiment import Faces, parse_experiment
from facefocus.benchmark.people import HELDOUT_IMAGES, chosen_people, halves_of
from facefocus.benchmark.run import find_faceset, run_experiment, store_of, worker_pool
from facefocus.core.errors import UserError
from facefocus.core.files import any_path, read_toml, write_atomically
from facefocus.core.locations import StoreAddress, private
from facefocus.core.progress import Progress, silent
from facefocus.core.specs import Name, Several, Spec, Whole, parse, to_toml
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.models.zoo import load
from facefocus.occlusion.controls import SHARED
from facefocus.paper.choices import Choice, choose
from facefocus.saliency.methods import METHODS

#: What a chosen setting is called in a stage, and the settings that can be chosen.
BEST = "best"
CHOSEN = ("layer", "objective")

#: Fields of a stage besides those of an experiment.
_STAGE = ("study", "choose")


class StudyFaces(Spec):
    """``[faces]`` of a study: in place of what its stages say.

    Attributes:
        set: Prepared face sets, by folder or name.
        identities: People of each run.
        limited: People of the methods that stages give to fewer people, at most.
        max_images: Photos of a person, at most.
    """

    set: Several[str] | None = None
    identities: Annotated[Whole, Field(ge=1)] | None = None
    limited: Annotated[Whole, Field(ge=1)] | None = None
    max_images: Annotated[Whole, Field(ge=2)] | None = None


class StudyRecognizers(Spec):
    """``[recognizers]`` of a study: in place of what its stages say.

    Attributes:
        source: Names or files, for every stage.
    """

    source: Several[str] | None = None


class StudyFile(Spec):
    """A study: a file that lists experiment files, the stages.

    Attributes:
        name: What the study is called; its folder, too, unless ``--out`` says another.
        stages: The files, from the study's folder, in the order in which they are run.
    """

    name: Name
    stages: Several[str]
    faces: StudyFaces = StudyFaces()
    recognizers: StudyRecognizers = StudyRecognizers()


@dataclass(frozen=True)
class Wanted:
    """What the user asks for in place of what the files say.

    Attributes:
        faces: Prepared face sets, by folder or name; each must be there.
        models: Recognizers; each must be there.
        identities: People of each run.
        limited: People of runs of limited methods, at most.
        max_images: Photos of a person, at most.
    """

    faces: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    identities: int | None = None
    limited: int | None = None
    max_images: int | None = None


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Attributes:
        folder: The study's folder.
        runs: Its finished runs.
        missing: What was left out and why, a line each.
    """

    folder: Path
    runs: tuple[Path, ...]
    missing: tuple[str, ...]


def is_study_file(file: Path) -> bool:
    """Whether a file is a study or a stage of one, and no experiment that runs by itself.

    Raises:
        UserError: It cannot be read.
    """
    return bool({"stages", *_STAGE} & read_toml(file, "experiment").keys())


@any_path
def run_study(
    file: Path,
    wanted: Wanted = Wanted(),
    *,
    out: Path | None = None,
    store: StoreAddress | None = None,
    backend: str = "auto",
    workers: int = 1,
    memory: int | None = None,
    cluster: str | None = None,
    progress: Progress = silent,
) -> StudyResult:
    """Run the stages of a study, or one stage; what is done already is not done again.

    Args:
        file: A study or a stage (TOML).
        wanted: In place of what the files say.
        out: The study's folder; ``runs/<study>`` by default.
        store: Folder of the artefacts; the study's own where it has one, else the shared one.
        backend: See `facefocus.models.backends`.
        workers: Processes; the results do not depend on it.
        memory: Bytes that the passes may take in all; see `run_experiment`.
        cluster: Where the tasks run; see `run_experiment`.
        progress: Called with run and stage, and done and total in passes.

    Raises:
        UserError: A field is wrong, nothing that is named is here, or a stage needs the results of
            one that has not been run.
    """
    plan = _plan(file, wanted, out)
    names = [run.name for run in plan.runs]
    _write(plan.folder / STUDY, {"name": plan.name, "missing": list(plan.missing), "runs": names})
    done = []
    with worker_pool(cluster, workers) as pool:
        for label, run in plan.labelled():
            _prepare(plan.folder, run)
            folder = run_experiment(
                plan.folder / run.name / "experiment.toml",
                faces=run.faces,
                out=plan.folder / run.name,
                store=store or store_of(plan.folder),
                backend=backend,
                memory=memory,
                cluster=pool,
                progress=_named(progress, label),
            )
            done.append(folder)
    return StudyResult(plan.folder, tuple(done), plan.missing)


@dataclass(frozen=True)
class RunCost:
    """What one run of a study will cost.

    Attributes:
        name: Of the run.
        cost: What is left of it.
        notes: What is not known yet and was counted as something else, a line each.
    """

    name: str
    cost: Estimate
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StudyCost:
    """What a study will cost: its folder, its runs, and what is left out and why."""

    folder: Path
    runs: tuple[RunCost, ...]
    missing: tuple[str, ...]


@any_path
def study_cost(
    file: Path,
    wanted: Wanted = Wanted(),
    *,
    out: Path | None = None,
    store: StoreAddress | None = None,
    backend: str = "auto",
    workers: int = 1,
    memory: int | None = None,
    cluster: str | None = None,
    progress: Progress = silent,
) -> StudyCost:
    """What each run of a study will cost; writes nothing. The arguments are those of `run_study`.

    A setting that an earlier stage has yet to choose is counted as its default. What two runs
    share is counted for both.

    Raises:
        UserError: As `run_study`.
    """
    plan, costs = _plan(file, wanted, out), []
    for label, run in plan.labelled():
        choices, unknown = _known_choices(plan, run)
        _, cost = experiment_cost(
            parse_experiment(_chosen(run, choices)),
            faces=run.faces,
            out=plan.folder / run.name,
            store=store or store_of(plan.folder),
            backend=backend,
            workers=workers,
            memory=memory,
            cluster=cluster,
            progress=_named(progress, label),
        )
        notes = tuple(
            f"The {field} that '{stage}' will choose is counted as the default."
            for field, stage in unknown.items()
        )
        costs.append(RunCost(run.name, cost, notes))
    return StudyCost(plan.folder, tuple(costs), plan.missing)


def _named(progress: Progress, label: str) -> Progress:
    return lambda stage, done, total: progress(f"{label} {stage}", done, total)


# --- files ----------------------------------------------------------------------------------------


def _merged(study: StudyFile, wanted: Wanted) -> Wanted:
    """What the user asks for, else what the study says."""
    return Wanted(
        faces=wanted.faces or study.faces.set or (),
        models=wanted.models or study.recognizers.source or (),
        identities=wanted.identities or study.faces.identities,
        limited=wanted.limited or study.faces.limited,
        max_images=wanted.max_images or study.faces.max_images,
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plan(file: Path, wanted: Wanted, out: Path | None) -> _Plan:
    """The runs of a study or of one stage, after every mistake in the files was looked for."""
    data = read_toml(file, "study")
    name = str(data.get("study", data.get("name")))
    stages = [data]
    if "stages" in data:
        study = parse(StudyFile, data, "study")
        stages = [read_toml(file.parent / stage, "study") for stage in study.stages]
        wanted, name = _merged(study, wanted), study.name
    for stage in stages:
        _check(stage)
    missing: dict[str, None] = {}
    runs = [run for stage in stages for run in _runs(stage, wanted, missing)]
    if len({run.name for run in runs}) < len(runs):
        raise UserError("The face sets must have titles of their own. Two have the same.")
    return _Plan(name, out if out is not None else Path("runs") / name, runs, tuple(missing))


# --- runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """One run of a stage: an experiment but for what is still to be chosen.

    Attributes:
        name: Of its folder.
        faces: Folder of its face set.
        title: Title of its face set.
        data: The experiment as plain data; a setting may still be ``best``.
        choose: For each setting that may be, the stage whose results say.
    """

    name: str
    faces: Path
    title: str
    data: dict[str, Any]
    choose: dict[str, str]


@dataclass(frozen=True)
class _Plan:
    """A study's name, its folder, its runs, and what is left out and why."""

    name: str
    folder: Path
    runs: Sequence[_Run]
    missing: tuple[str, ...]

    def labelled(self) -> Iterator[tuple[str, _Run]]:
        """Each run, and what progress calls it."""
        for number, run in enumerate(self.runs, start=1):
            yield f"{number}/{len(self.runs)} {run.name}", run


def _runs(stage: Mapping[str, Any], wanted: Wanted, missing: dict[str, None]) -> Iterator[_Run]:
    """The runs of a stage on what is here; what is not is added to `missing`."""
    models = _here_models(stage, wanted, missing)
    for folder in _here_faces(stage, wanted, missing):
        faces = open_faceset(folder)
        settings = {k: v for k, v in _section(stage, "faces").items() if k != "set"}
        if wanted.identities is not None:
            settings["identities"] = wanted.identities
        if wanted.max_images is not None:
            settings["max_images"] = wanted.max_images
        everybody = {k: v for k, v in settings.items() if k != "identities"}
        seed = stage.get("seed", 0)
        many = len(chosen_people(parse(Faces, everybody, "stage"), faces, seed))
        most = min(settings.get("identities", many), many)
        for people, saliency in _by_people(stage, most, wanted.limited).items():
            data = {
                **{key: value for key, value in stage.items() if key not in _STAGE},
                "faces": {**settings, "set": str(folder), "identities": people},
                "recognizers": {**_section(stage, "recognizers"), "source": models},
                "saliency": saliency,
            }
            few = f"-{people}" if people < most else ""
            name = f"{stage['name']}-{faces.title}{few}"
            _drop_impossible(name, data, faces, missing)
            yield _Run(name, folder, faces.title, data, dict(_section(stage, "choose")))


def _drop_impossible(
    name: str, data: dict[str, Any], faces: FaceSet, missing: dict[str, None]
) -> None:
    """Leave out what too few people allow: held-out photos, and controls of other people's maps."""
    evaluation, controls = _section(data, "evaluation"), _section(data, "controls")
    splits = _listed(evaluation.get("split", "same"))
    own = [control for control in _listed(controls.get("control", [])) if control not in SHARED]
    shared = len(own) < len(_listed(controls.get("control", [])))
    if "heldout" not in splits and not shared:
        return
    wanted = parse(Faces, data["faces"], "stage")
    chosen = chosen_people(wanted, faces, data.get("seed", 0))
    if shared and len(chosen) < 2:
        missing[f"controls of other people's maps in {name}: there is one person only"] = None
        data.pop("controls")
        data |= {"controls": {**controls, "control": own}} if own else {}
        shared = False
    needed = 2 if shared else 1
    able = (person for person in chosen if halves_of(faces, person, data.get("seed", 0)))
    if "heldout" in splits and len(list(islice(able, needed))) < needed:
        few = "nobody has" if needed == 1 else "fewer than 2 people have"
        why = f"{few} {HELDOUT_IMAGES} photos that make two halves"
        missing[f"held-out photos of {name}: {why}"] = None
        data["evaluation"] = {**evaluation, "split": ["same"]}


def _section(stage: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = stage.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"[{name}] of '{stage['name']}' must be a table of fields.")
    return section


def _by_people(
    stage: Mapping[str, Any], most: int, limited: int | None
) -> dict[int, list[dict[str, Any]]]:
    """The saliency entries of each run, by how many people it has; baselines are in every one."""
    runs: dict[int, list[dict[str, Any]]] = {}
    shared = []
    for entry in _listed(stage.get("saliency", [])):
        own = {key: value for key, value in entry.items() if key != "identities"}
        methods = [METHODS[m] for m in _listed(entry.get("method")) if m in METHODS]
        if methods and all(m.needs(m.resolve_options({})).sources == "none" for m in methods):
            shared.append(own)
            continue
        limit = entry.get("identities")
        people = most if limit is None else min(most, limit, limited or limit)
        runs.setdefault(people, []).append(own)
    runs = runs or {most: []}
    return {people: [*entries, *shared] for people, entries in sorted(runs.items(), reverse=True)}


def _here_models(stage: Mapping[str, Any], wanted: Wanted, missing: dict[str, None]) -> list[str]:
    """The recognizers that can be loaded; the user's own choice must be."""
    named = wanted.models or tuple(_listed(_section(stage, "recognizers").get("source", [])))
    preprocessing = _section(stage, "recognizers").get("preprocessing", {})
    loadable = []
    for name in named:
        try:
            load(name, preprocessing.get(name))
        except UserError as error:
            if wanted.models:
                raise
            missing[f"recognizer {name}: {error}"] = None
        else:
            loadable.append(name)
    if not loadable:
        raise UserError(
            f"None of the recognizers of '{stage['name']}' is here: {', '.join(named)}."
            " Name yours with --model; 'facefocus models list' shows what there is."
        )
    return loadable


def _here_faces(stage: Mapping[str, Any], wanted: Wanted, missing: dict[str, None]) -> list[Path]:
    named = wanted.faces or tuple(_listed(_section(stage, "faces").get("set", "lfw")))
    folders = []
    for name in named:
        try:
            folders.append(find_faceset(name))
        except UserError as error:
            if wanted.faces:
                raise
            missing[f"faces {name}: {error}"] = None
    if not folders:
        raise UserError(
            f"None of the face sets of '{stage['name']}' is here: {', '.join(named)}."
            " Name yours with --faces."
        )
    return folders


def _check(stage: Mapping[str, Any]) -> None:
    """Every mistake in the fields of a stage, before anything of it is read or run."""
    name = stage.get("name")
    if not isinstance(name, str):
        raise UserError(f"The 'name' of a stage must be a text in quotes. Got {name!r}.")
    choose = _section(stage, "choose")
    for field, earlier in choose.items():
        if field not in CHOSEN or not isinstance(earlier, str):
            raise UserError(
                f"[choose] must name a stage for {' or '.join(CHOSEN)}. Got {field} = {earlier!r}."
            )
    plain = {key: value for key, value in stage.items() if key not in _STAGE}
    for section, field in (("faces", "set"), ("recognizers", "source")):
        # A stage may name several face sets, and recognizers that the user replaces.
        plain[section] = {**_section(stage, section), field: "any"}
    plain["saliency"] = [_plain_entry(entry, choose) for entry in _listed(stage.get("saliency"))]
    parse_experiment(plain)


def _plain_entry(entry: Any, choose: Mapping[str, str]) -> Any:
    """A saliency entry of a stage without what an experiment does not know."""
    if not isinstance(entry, dict):
        return entry
    for field in CHOSEN:
        if entry.get(field) == BEST and field not in choose:
            raise UserError(
                f"The {field} 'best' needs a stage to be chosen from: [choose] {field} = ..."
            )
    limit = entry.get("identities")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(
            f"The 'identities' of [saliency] must be a whole number of at least 1. Got {limit!r}."
        )
    return {
        key: value
        for key, value in entry.items()
        if key != "identities" and (key not in CHOSEN or value != BEST)
    }


# --- choices --------------------------------------------------------------------------------------


def _prepare(folder: Path, run: _Run) -> None:
    """Write the run's experiment with every choice made, and the choices beside it."""
    choices = {
        field: _choices(folder, run, field, stage) for field, stage in _open_settings(run).items()
    }
    data = _chosen(run, choices)
    parse_experiment(data)
    comments = [
        f"{field} of {method}: {choice}"
        for field, chosen in choices.items()
        for method, choice in chosen.items()
    ]
    text = private(to_toml(data, comments), str(run.faces))
    target = folder / run.name
    write_atomically(target / "experiment.toml", lambda file: file.write(text.encode()))
    if choices:
        record = {
            field: {method: choice.as_json() for method, choice in chosen.items()}
            for field, chosen in choices.items()
        }
        _write(target / "choices.json", record)


def _open_settings(run: _Run) -> dict[str, str]:
    """The settings that are still ``best``, and the stage that chooses each."""
    entries = run.data["saliency"]
    return {
        field: stage
        for field, stage in run.choose.items()
        if any(entry.get(field) == BEST for entry in entries)
    }


def _chosen(run: _Run, choices: Mapping[str, Mapping[str, Choice]]) -> dict[str, Any]:
    """The experiment of a run with its choices; what is not chosen is left at its default."""
    entries = [
        {key: value for key, value in filled.items() if key not in CHOSEN or value != BEST}
        for entry in run.data["saliency"]
        for filled in _filled(entry, choices)
    ]
    return {**run.data, "saliency": entries}


def _known_choices(
    plan: _Plan, run: _Run
) -> tuple[dict[str, Mapping[str, Choice]], dict[str, str]]:
    """The choices that can be made today, and the settings whose stage of this study comes first.

    Raises:
        UserError: A setting is chosen from a stage that is neither planned nor finished.
    """
    choices: dict[str, Mapping[str, Choice]] = {}
    unknown = {}
    for field, stage in _open_settings(run).items():
        earlier = f"{stage}-{run.title}"
        finished = (plan.folder / earlier / "results.parquet").is_file()
        if not finished and earlier in {planned.name for planned in plan.runs}:
            unknown[field] = stage
        else:
            choices[field] = _choices(plan.folder, run, field, stage)
    return choices, unknown


def _write(path: Path, data: object) -> None:
    text = private(json.dumps(data, indent=2)) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _choices(folder: Path, run: _Run, field: str, stage: str) -> dict[str, Choice]:
    """The best setting of every method that leaves it open, from the runs of an earlier stage."""
    earlier = f"{stage}-{run.title}"
    methods = [
        method
        for entry in run.data["saliency"]
        if entry.get(field) == BEST
        for method in _listed(entry["method"])
    ]
    run_folder = folder / earlier
    if not (run_folder / "results.parquet").is_file():
        raise UserError(
            f"The {field} of '{run.name}' is chosen from the results of '{stage}', and there are"
            f" none in '{run_folder}'. Run that stage first, with the same --out."
        )
    return {
        method: replace(choice, source=earlier)
        for method, choice in choose(read_results(run_folder), methods, field).items()
    }


def _filled(
    entry: dict[str, Any], choices: Mapping[str, Mapping[str, Choice]]
) -> Iterator[dict[str, Any]]:
    """The entry, or one for each method where a setting is chosen."""
    open_fields = [field for field in choices if entry.get(field) == BEST]
    if not open_fields:
        yield entry
        return
    for method in _listed(entry["method"]):
        chosen = {field: choices[field][method].value for field in open_fields}
        yield {**entry, "method": method, **chosen}
