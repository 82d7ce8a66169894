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
from facefocus.benchmark.experiment import (
    NAME,
    Faces,
    Section,
    Several,
    Whole,
    parse,
    parse_experiment,
)
from facefocus.benchmark.people import HELDOUT_IMAGES, chosen_people, halves_of
from facefocus.benchmark.run import find_faceset, run_experiment, store_of
from facefocus.core.errors import UserError
from facefocus.core.files import any_path, read_toml, write_atomically
from facefocus.core.locations import private
from facefocus.core.progress import Progress, silent
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


class StudyFaces(Section):
    """``[faces]`` of a study: in place of what its stages say.

    Attributes:
        set: Prepared face sets, by folder or name.
        identities: People of each run.
        limited: People of runs of limited methods, at most.
        max_images: Photos of a person, at most.
    """

    set: Several[str] | None = None
    identities: Annotated[Whole, Field(ge=1)] | None = None
    limited: Annotated[Whole, Field(ge=1)] | None = None
    max_images: Annotated[Whole, Field(ge=2)] | None = None


class StudyRecognizers(Section):
    """``[recognizers]`` of a study: in place of what its stages say."""

    source: Several[str] | None = None


class StudyFile(Section):
    """A whole study file."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
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
    store: Path | None = None,
    backend: str = "auto",
    workers: int = 1,
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
        progress: Called with run and stage, and done and total in passes.

    Raises:
        UserError: A field is wrong, nothing that is named is here, or a stage needs the results of
            one that has not been run.
    """
    data = read_toml(file, "study")
    name = data.get("study", data.get("name"))
    if "stages" in data:
        study = parse(StudyFile, data, "study")
        data_of_stages = [read_toml(file.parent / stage, "study") for stage in study.stages]
        wanted, name = _merged(study, wanted), study.name
    else:
        data_of_stages = [data]
    for stage in data_of_stages:
        _check(stage)
    folder = out if out is not None else Path("runs") / str(name)
    missing: dict[str, None] = {}
    planned = [one for stage in data_of_stages for one in _runs(stage, wanted, missing)]
    if len({one.name for one in planned}) < len(planned):
        raise UserError("The face sets must have titles of their own. Two have the same.")
    runs = [one.name for one in planned]
    _write(folder / STUDY, {"name": name, "missing": list(missing), "runs": runs})
    done = []
    for number, one in enumerate(planned, start=1):
        label = f"{number}/{len(planned)} {one.name}"
        _prepare(folder, one)
        run = run_experiment(
            folder / one.name / "experiment.toml",
            faces=one.faces,
            out=folder / one.name,
            store=store or store_of(folder),
            backend=backend,
            workers=workers,
            progress=_named(progress, label),
        )
        done.append(run)
    return StudyResult(folder, tuple(done), tuple(missing))


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
    own = [one for one in _listed(controls.get("control", [])) if one not in SHARED]
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
    able = (one for one in chosen if halves_of(faces, one, data.get("seed", 0)))
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
    return {people: [*found, *shared] for people, found in sorted(runs.items(), reverse=True)}


def _here_models(stage: Mapping[str, Any], wanted: Wanted, missing: dict[str, None]) -> list[str]:
    """The recognizers that can be loaded; the user's own choice must be."""
    named = wanted.models or tuple(_listed(_section(stage, "recognizers").get("source", [])))
    preprocessing = _section(stage, "recognizers").get("preprocessing", {})
    found = []
    for name in named:
        try:
            load(name, preprocessing.get(name))
        except UserError as error:
            if wanted.models:
                raise
            missing[f"recognizer {name}: {error}"] = None
        else:
            found.append(name)
    if not found:
        raise UserError(
            f"None of the recognizers of '{stage['name']}' is here: {', '.join(named)}."
            " Name yours with --model; 'facefocus models list' shows what there is."
        )
    return found


def _here_faces(stage: Mapping[str, Any], wanted: Wanted, missing: dict[str, None]) -> list[Path]:
    named = wanted.faces or tuple(_listed(_section(stage, "faces").get("set", "lfw")))
    found = []
    for name in named:
        try:
            found.append(find_faceset(name))
        except UserError as error:
            if wanted.faces:
                raise
            missing[f"faces {name}: {error}"] = None
    if not found:
        raise UserError(
            f"None of the face sets of '{stage['name']}' is here: {', '.join(named)}."
            " Name yours with --faces."
        )
    return found


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
        field: _choices(folder, run, field, stage)
        for field, stage in run.choose.items()
        if any(entry.get(field) == BEST for entry in run.data["saliency"])
    }
    saliency = [one for entry in run.data["saliency"] for one in _filled(entry, choices)]
    place = folder / run.name
    parse_experiment(data := {**run.data, "saliency": saliency})
    words = "".join(f"# {line}\n" for line in _said(choices))
    text = private(words + to_toml(data), str(run.faces))
    write_atomically(place / "experiment.toml", lambda file: file.write(text.encode()))
    if choices:
        record = {
            field: {method: one.as_json() for method, one in found.items()}
            for field, found in choices.items()
        }
        _write(place / "choices.json", record)


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
    place = folder / earlier
    if not (place / "results.parquet").is_file():
        raise UserError(
            f"The {field} of '{run.name}' is chosen from the results of '{stage}', and there are"
            f" none in '{place}'. Run that stage first, with the same --out."
        )
    return {
        method: replace(one, source=earlier)
        for method, one in choose(read_results(place), methods, field).items()
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


def _said(choices: Mapping[str, Mapping[str, Choice]]) -> Iterator[str]:
    for field, found in choices.items():
        for method, one in found.items():
            yield f"{field} of {method}: {one}"


def to_toml(data: Mapping[str, Any]) -> str:
    """Plain data of an experiment as TOML: JSON's texts, numbers and lists are TOML's."""

    def value(one: Any) -> str:
        if isinstance(one, Mapping):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in one.items()) + " }"
        if isinstance(one, list | tuple):
            return f"[{', '.join(map(value, one))}]"
        return json.dumps(one, ensure_ascii=False)

    def fields(section: Mapping[str, Any]) -> str:
        return "".join(f"{name} = {value(one)}\n" for name, one in section.items())

    tables = {name: one for name, one in data.items() if isinstance(one, Mapping)}
    lists = {name: one for name, one in data.items() if _is_tables(one)}
    head = {name: one for name, one in data.items() if name not in tables and name not in lists}
    parts = [fields(head)]
    parts += [f"[{name}]\n{fields(one)}" for name, one in tables.items()]
    parts += [f"[[{name}]]\n{fields(one)}" for name, several in lists.items() for one in several]
    return "\n".join(parts)


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(one, Mapping) for one in value)
    )
