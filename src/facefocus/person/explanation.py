"""`explain_person`: one person's photographs in; what to hide, and the proof, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, UInt8

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import printable
from facefocus.core.locations import StoreAddress, cache_dir, store_dir
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Store
from facefocus.evaluation.photo_risk import person_templates, template_thresholds
from facefocus.evaluation.verification import normalize
from facefocus.faces.align import FRAME_SIDE
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.models.backends import accelerate
from facefocus.models.recognizer import CHUNK, Recognizer, is_recognizer
from facefocus.models.zoo import load
from facefocus.occlusion.fills import FILLS, GapFill
from facefocus.person.candidates import (
    AGAINST,
    REPAIR,
    SHAPES,
    Candidates,
    Photos,
    Recipe,
    make_candidates,
)
from facefocus.person.limits import limits_of
from facefocus.person.meter import Meter
from facefocus.person.other_people import (
    Strangers,
    card_thresholds,
    choose_strangers,
    pair_thresholds,
    stranger_embeddings,
    who_is_the_person,
)
from facefocus.person.person_page import check_out, write_explanation
from facefocus.person.photos import Photo, read_people
from facefocus.person.proof import CLEAN, Design, Figure, Judge, control_masks, make_design
from facefocus.person.repair_cost import (
    RepairCost,
    RepairFigure,
    repair_cost,
    repair_figures,
    repair_sentences,
)
from facefocus.person.robust_figures import (
    CleanSide,
    Robustness,
    crop_robustness,
    photo_robustness,
)
from facefocus.person.trials import Crops, Outcome, Team, try_masks
from facefocus.person.verdict import Lookup, Values, Verdict, numbers_html, verdict

#: Parts of the work, and about how many tenths of a second each takes: for the bar alone.
WORK = {
    "load": 150,
    "photos": 30,
    "strangers": 200,
    "maps": 1000,
    "trials": 120,
    "robustness": 180,
    "photographs": 100,
}

#: The same for masks against repair.
WORK_AGAINST = {"maps": 2000, "repair": 800}


def _work(recipe: Recipe) -> Mapping[str, int]:
    return WORK | WORK_AGAINST if recipe.against else WORK


@dataclass(frozen=True, eq=False)
class Subject:
    """The photos of the person.

    Attributes:
        name: Of the person.
        frames: Aligned crops.
        names: A name for each.
        left_out: Photos that do not count, and why.
        remarks: What was chosen, and what to look at; sentences.
        photos: The photographs that the crops come from, where there are any.
    """

    name: str
    frames: UInt8[np.ndarray, "n h w 3"]
    names: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    photos: tuple[Photo, ...] = ()


@dataclass(frozen=True, eq=False)
class PersonExplanation:
    """What to hide of a person, and what hiding does.

    Attributes:
        subject: The photos.
        recipe: How masks were made.
        mask: The mask that is recommended; True is hidden. Made from all photos.
        map: Its map: larger is hidden first.
        recommended: Which candidate it is: ``own``, ``population`` or a part of the atlas.
        design: Which photos were compared.
        teams: Who made masks and who judged; the first team has all models.
        candidates: The masks of each team.
        outcomes: What each team's masks did.
        robustness: What is left of it under nuisances and repair; nothing in a draft.
        repair: What protection against repair costs; nothing unless it was asked for.
        strangers: The other people, or None.
        limits: What cannot be proven, and why; sentences.
    """

    subject: Subject
    recipe: Recipe
    mask: Bool[np.ndarray, "h w"]
    map: Float[np.ndarray, "h w"]
    recommended: str
    design: Design
    teams: tuple[Team, ...]
    candidates: tuple[Candidates, ...]
    outcomes: tuple[Outcome, ...]
    robustness: tuple[Robustness, ...]
    repair: tuple[RepairFigure, ...]
    strangers: Strangers | None
    limits: tuple[str, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All numbers of all teams."""
        return tuple(figure for outcome in self.outcomes for figure in outcome.figures)

    @property
    def values(self) -> Values:
        """The value of each photo of all teams."""
        return {key: value for outcome in self.outcomes for key, value in outcome.values.items()}

    @cached_property
    def verdict(self) -> Verdict:
        """The first screen, with sentences, four numbers and warnings."""
        picked = {
            (judge.name, judge.seen): outcome.picked
            for team, outcome in zip(self.teams, self.outcomes, strict=True)
            for judge in team.judges
        }
        return verdict(
            picked,
            self.values,
            self.figures,
            self.judges,
            self.robustness,
            budget=self.recipe.budget,
            limits=self.limits,
            repair=self._repair_sentences,
        )

    def repair_cost(self, judge: Judge) -> RepairCost | None:
        """What protection against repair costs on a recognizer; None where it was not asked for."""
        clean = self.lookup.get(CLEAN, judge)
        if clean is None:
            return None
        return repair_cost(self.repair, judge, self.lookup.measure, clean.value)

    def _repair_sentences(self, main: Judge) -> Iterator[str]:
        cost = self.repair_cost(main)
        if cost is not None:
            yield from repair_sentences(cost, main, self.recipe.budget, self.lookup.text)

    @property
    def crops(self) -> Crops:
        """The crops, and what hides masks on them."""
        return Crops(self.subject.frames, self.subject.names, self.recipe.fill, self.recipe.seed)

    @cached_property
    def lookup(self) -> Lookup:
        """Figures by what they are of."""
        return Lookup(self.figures, self.judges)

    def report(self, out: str | Path) -> Path:
        """Write page, pictures, masks and numbers into a folder; returns the page.

        Raises:
            UserError: The folder is in the way or cannot be written, or a photograph changed.
        """
        return write_explanation(self, Path(out))

    def _repr_html_(self) -> str:
        """The sentences and the four numbers, in a notebook."""
        return numbers_html(self.verdict)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """Whose figures there are."""
        return tuple(judge for team in self.teams for judge in team.judges)

    @cached_property
    def table(self) -> pl.DataFrame:
        """The figures, one a row."""
        return pl.DataFrame([vars(figure) for figure in self.figures])


@dataclass(frozen=True, eq=False)
class Setting:
    """What is the same for everybody who is explained.

    Attributes:
        models: Masks are made on these.
        unseen: These judge only.
        recipe: How masks are made.
        strangers: The other people, or None.
        others: Unit embeddings of them by each recognizer that they count for.
        store: Keeps maps, and embeddings of other people.
        backend: What runs the passes.
    """

    models: tuple[Recognizer, ...]
    unseen: tuple[Recognizer, ...]
    recipe: Recipe
    strangers: Strangers | None
    others: Mapping[str, Float[np.ndarray, "s d"]]
    store: Store
    backend: str

    @property
    def recognizers(self) -> tuple[Recognizer, ...]:
        """All of them."""
        return (*self.models, *self.unseen)


def explain_person(
    photos: UInt8[np.ndarray, "n h w 3"] | str | Path | Sequence[str | Path],
    model: str | Recognizer | Sequence[str | Recognizer],
    *,
    unseen: str | Recognizer | Sequence[str | Recognizer] = (),
    budget: float = 0.05,
    shape: str = "pixels",
    fill: str = "black",
    against: str = "",
    gallery: FaceSet | str | Path | None = None,
    keep: bool = False,
    draft: bool = False,
    seed: int = 0,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> PersonExplanation:
    """What to hide so that recognizers do not know a person, tried on photos it never saw.

    Args:
        photos: A folder of photographs of one person, or a list of files; or uint8 RGB crops
            [n, 112, 112, 3] that are aligned already.
        model: The recognizers that the mask is made on, by name or as objects
            (`facefocus.load_recognizer`).
        unseen: Recognizers that only judge. Without any, of several models each is also judged
            with a mask made on the others.
        budget: Share of the pixels of the aligned face that is hidden.
        shape: ``pixels``, ``cells`` or ``patches`` (Protocol: shapes).
        fill: What hides.
        against: ``repair``: masks are found with the gap filled in, so that less comes back when
            somebody repairs the photo (Protocol: repair-cost); empty: as they are painted.
        gallery: A prepared face set of other people, or its name: thresholds, templates, ranks and
            false matches need it. The person may be in it, and is left out.
        keep: Let photos count that seem to show somebody else.
        draft: A first picture soon: rough masks, no robustness.
        seed: Of everything that is drawn.
        backend: What runs the passes.
        store: Where maps and other people's embeddings are kept; the shared store by default.
        progress: Called with a stage, and work done and in total.

    Raises:
        UserError: There is no usable photo, several people's, or a name or a number is wrong.

    Example:
        >>> import facefocus as ff
        >>> faces = ff.load_faces("synthetic-eyes", people=2)
        >>> made = ff.explain_person(faces.frames[:4], "iresnet-mini-eyes", draft=True)
        >>> made.mask.shape, int(made.mask.sum())
        ((112, 112), 627)
        >>> made.table.filter(condition="clean", measure="cosine")["photos"].to_list()
        [4, 4]
    """
    recipe = _recipe(budget, shape, fill, draft, seed, against)
    meter = Meter(progress, "person", _work(recipe))
    setting = make_setting(model, unseen, recipe, gallery, backend, store, meter)
    if isinstance(photos, np.ndarray):
        subject = _of_crops(photos)
        if setting.strangers is None:
            _accelerate(setting.recognizers, setting.backend, subject.frames)
    else:
        subject, *others = read_subjects(photos, setting, keep, meter)
        if others:
            names = ", ".join(each.name for each in (subject, *others))
            raise UserError(
                f"The photos must be of one person. Got those of {names}. Name a folder."
            )
    made = explain_subject(subject, setting, meter)
    meter.end()
    return made


def explain_people(
    photos: str | Path | Sequence[str | Path],
    out: Path,
    model: str | Recognizer | Sequence[str | Recognizer],
    *,
    unseen: str | Recognizer | Sequence[str | Recognizer] = (),
    budget: float = 0.05,
    shape: str = "pixels",
    fill: str = "black",
    against: str = "",
    gallery: FaceSet | str | Path | None = None,
    keep: bool = False,
    draft: bool = False,
    seed: int = 0,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> list[tuple[Path, Verdict]]:
    """`explain_person` and its folder for everybody: photos may hold a folder for each person.

    Args:
        photos: As for `explain_person`; several people's pages lie in ``OUT/NAME``.
        out: Folder of the page.
        model: As for `explain_person`, and so are all others.

    Returns:
        The page of each person, and what its first screen says.

    Raises:
        UserError: As `explain_person`; or the folder cannot be written or holds other files.
    """
    recipe = _recipe(budget, shape, fill, draft, seed, against)
    meter = Meter(progress, "person", _work(recipe))
    check_out(out, several=True)
    setting = make_setting(model, unseen, recipe, gallery, backend, store, meter)
    subjects = read_subjects(photos, setting, keep, meter)
    folders = [out if len(subjects) == 1 else out / each.name for each in subjects]
    for folder in folders:
        check_out(folder)
    pages = []
    for number, (subject, folder) in enumerate(zip(subjects, folders, strict=True)):
        made = explain_subject(subject, setting, meter, number, len(subjects))
        pages.append((made.report(folder), made.verdict))
    meter.end()
    return pages


def make_setting(
    model: str | Recognizer | Sequence[str | Recognizer],
    unseen: str | Recognizer | Sequence[str | Recognizer],
    recipe: Recipe,
    gallery: FaceSet | str | Path | None,
    backend: str,
    store: StoreAddress | None,
    meter: Meter,
) -> Setting:
    """Recognizers, other people and their embeddings; see `explain_person`.

    Raises:
        UserError: One of them cannot be had.
    """
    kept = Store(store or store_dir())
    faces = None if gallery is None else _faces(gallery)
    if recipe.draft:
        # Other people take longer than all else, and to compile longer than a few passes.
        faces, backend = None, "torch" if backend == "auto" else backend
    given = [*_listed(model), *_listed(unseen)]
    if not _listed(model):
        raise UserError("The 'model' must be a recognizer, or several. Got none.")
    _check_names(given)
    progress, loaded = meter.share("load", 0, 1), []
    for number, recognizer in enumerate(given):
        loaded.append(load(recognizer) if isinstance(recognizer, str) else recognizer)
        progress("load", number + 1, len(given))
    _check_names(loaded)
    strangers = None if faces is None else choose_strangers(faces)
    if strangers is not None:
        _accelerate(loaded, backend, strangers.frames)
    others = {}
    if faces is not None and strangers is not None:
        others = _embedded_strangers(loaded, faces, strangers, kept, meter)
    models = len(_listed(model))
    return Setting(
        tuple(loaded[:models]), tuple(loaded[models:]), recipe, strangers, others, kept, backend
    )


def _accelerate(
    recognizers: Sequence[Recognizer], backend: str, frames: UInt8[np.ndarray, "n h w 3"]
) -> None:
    """Let a backend run the passes; it is compared with torch on clean faces, a whole batch."""
    sample = frames[np.arange(CHUNK) % len(frames)]
    for recognizer in recognizers:
        accelerate(recognizer, backend, None, sample)


def read_subjects(
    photos: str | Path | Sequence[str | Path], setting: Setting, keep: bool, meter: Meter
) -> list[Subject]:
    """The photographs of one person, or of several in a folder each.

    Raises:
        UserError: As `facefocus.person.photos.read_people`.
    """
    judge, strangers = setting.models[0], setting.strangers
    level = None
    if strangers is not None and judge.name in setting.others:
        level = pair_thresholds(setting.others[judge.name], strangers.people).get("EER")
    people = read_people(
        photos, judge=judge, threshold=level, keep=keep, progress=meter.share("photos", 0, 1)
    )
    if strangers is None:
        _accelerate(
            setting.recognizers,
            setting.backend,
            np.stack([photo.crop for person in people for photo in person.photos][:CHUNK]),
        )
    return [
        Subject(
            person.name,
            np.stack([photo.crop for photo in person.photos]),
            tuple(photo.name for photo in person.photos),
            tuple((printable(path.name), reason) for path, reason in person.left_out),
            person.remarks,
            person.photos,
        )
        for person in people
    ]


def explain_subject(
    subject: Subject, setting: Setting, meter: Meter, number: int = 0, count: int = 1
) -> PersonExplanation:
    """The explanation of one person, the first of `count` with number 0."""
    recipe = setting.recipe
    design = make_design(subject.frames, recipe.seed)
    judges, strangers, same = judges_of(subject, setting, design)
    teams = _teams(setting.models, setting.unseen, judges)
    by_team = []
    for position, team in enumerate(teams, start=number * len(teams)):

        def progress_of(part: str, position: int = position) -> Progress:
            return meter.share(part, position, count * len(teams))

        by_team.append(_of_team(team, subject, setting, design, strangers, progress_of))
    candidates, outcomes, robustness, repair = zip(*by_team, strict=True)
    best = outcomes[0].recommended
    if same:
        remark = f"{', '.join(same)} of the gallery is taken for the person, and left out of it."
        subject = replace(subject, remarks=(*subject.remarks, remark))
    return PersonExplanation(
        subject=subject,
        recipe=recipe,
        mask=candidates[0].whole[best],
        map=candidates[0].maps[best],
        recommended=best,
        design=design,
        teams=tuple(teams),
        candidates=candidates,
        outcomes=outcomes,
        robustness=tuple(chain.from_iterable(robustness)),
        repair=tuple(chain.from_iterable(repair)),
        strangers=strangers,
        limits=tuple(
            limits_of(
                subject.frames,
                design,
                teams,
                strangers,
                candidates[0].method,
                draft=recipe.draft,
                photographs=bool(subject.photos),
            )
        ),
    )


def _of_team(
    team: Team,
    subject: Subject,
    setting: Setting,
    design: Design,
    strangers: Strangers | None,
    progress_of: Callable[[str], Progress],
) -> tuple[Candidates, Outcome, list[Robustness], list[RepairFigure]]:
    """The masks of a team, what they do, whether it lasts, and what repair costs."""
    recipe, photos = setting.recipe, Photos(subject.frames, subject.names)
    crops = Crops(subject.frames, subject.names, recipe.fill, recipe.seed)
    # People who are nobody to a recognizer give no masks on it.
    serve = strangers is not None and all(map(strangers.serves, team.sources))
    people = strangers if serve else None

    def masks_of(asked: Recipe, progress: Progress) -> Mapping[str, np.ndarray]:
        return make_candidates(
            team.sources, photos, design, people, asked, setting.store, progress, others=False
        ).masks

    made = make_candidates(
        team.sources, photos, design, people, recipe, setting.store, progress_of("maps")
    )
    outcome = _tried(team, crops, design, made, recipe, progress_of("trials"))
    robustness: list[Robustness] = []
    side = CleanSide()
    repair: list[RepairFigure] = []
    if not recipe.draft:
        robustness += crop_robustness(team, crops, design, outcome, side, progress_of("robustness"))
    if recipe.against:
        repair += repair_figures(team, crops, design, masks_of, recipe, progress_of("repair"))
    if not recipe.draft and subject.photos:
        robustness += photo_robustness(
            team, crops, subject.photos, design, outcome, side, progress_of("photographs")
        )
    return made, outcome, robustness, repair


def judges_of(
    subject: Subject, setting: Setting, design: Design
) -> tuple[dict[str, Judge], Strangers | None, list[str]]:
    """Every recognizer as a judge, the other people, and who of them was the person."""
    clean = {
        recognizer.name: normalize(recognizer.embed(subject.frames))
        for recognizer in setting.recognizers
    }
    strangers, others = setting.strangers, dict(setting.others)
    same: list[str] = []
    if strangers is not None and others:
        same = who_is_the_person(
            strangers, subject.frames, [clean[name] for name in others], list(others.values())
        )
        kept = ~np.isin(strangers.people, same)
        strangers, others = strangers.without(same), {n: e[kept] for n, e in others.items()}
    judges = {
        recognizer.name: _judge(
            recognizer, clean[recognizer.name], others.get(recognizer.name), strangers, design
        )
        for recognizer in setting.recognizers
    }
    return judges, strangers, same


def _tried(
    team: Team,
    crops: Crops,
    design: Design,
    made: Candidates,
    recipe: Recipe,
    progress: Progress,
) -> Outcome:
    """The team's masks tried on all its judges, with controls of the one that is chosen."""

    def controls(chosen: np.ndarray) -> Mapping[str, np.ndarray]:
        drawn = control_masks(
            chosen, design.folds, made.face, recipe.shape, made.others, recipe.seed
        )
        if recipe.draft:
            drawn = {name: draws[:1] for name, draws in drawn.items()}
        return {**drawn, **made.same_photos}

    # Against repair, what is left once the gap is filled in decides.
    deciding = replace(crops, fill=REPAIR) if recipe.against else None
    return try_masks(team, crops, design, made.masks, controls, progress, deciding=deciding)


# Recognizers --------------------------------------------------------------------------------------


def _listed(given: str | Recognizer | Sequence[str | Recognizer]) -> list[str | Recognizer]:
    single = isinstance(given, str) or is_recognizer(given)
    return [given] if single else list(given)  # type: ignore[list-item, arg-type]


def _check_names(given: Sequence[str | Recognizer]) -> None:
    names = [recognizer if isinstance(recognizer, str) else recognizer.name for recognizer in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"A recognizer can be named once, as 'model' or as 'unseen'. Got '{twice[0]}' twice:"
            " one that a mask was made on has seen it."
        )


def _teams(
    models: Sequence[Recognizer], unseen: Sequence[Recognizer], judges: Mapping[str, Judge]
) -> list[Team]:
    """All models with all judges; without unseen ones, also each with the masks of the others."""
    seen = tuple(judges[model.name] for model in models)
    fresh = tuple(replace(judges[recognizer.name], seen=False) for recognizer in unseen)
    teams = [Team(tuple(models), seen, (*seen, *fresh))]
    if not unseen and len(models) > 1:
        for left_out in seen:
            others = tuple(judge for judge in seen if judge is not left_out)
            sources = tuple(judge.recognizer for judge in others)
            teams.append(Team(sources, others, (replace(left_out, seen=False),)))
    return teams


def _embedded_strangers(
    recognizers: Sequence[Recognizer],
    faces: FaceSet,
    strangers: Strangers,
    store: Store,
    meter: Meter,
) -> dict[str, np.ndarray]:
    """Unit embeddings of the other people by every recognizer that they can count for."""
    served = [recognizer for recognizer in recognizers if strangers.serves(recognizer)]
    return {
        recognizer.name: stranger_embeddings(
            recognizer, faces, strangers, store, meter.share("strangers", number, len(served))
        )
        for number, recognizer in enumerate(served)
    }


def _judge(
    recognizer: Recognizer,
    clean: Float[np.ndarray, "n d"],
    others: Float[np.ndarray, "s d"] | None,
    strangers: Strangers | None,
    design: Design,
) -> Judge:
    """A recognizer with its thresholds; without other people those of its card, for pairs."""
    if others is None or strangers is None:
        levels = card_thresholds(recognizer)
        origin = "its card: pairs of LFW's View 2, not of these photos" if levels else ""
        return Judge(recognizer, True, clean, pair=levels, origin=origin)
    sizes = np.unique(np.concatenate([m.sum(axis=1) for m in (design.unseen, design.others)]))
    templates = sizes[sizes > 0].tolist()
    return Judge(
        recognizer,
        True,
        clean,
        others,
        strangers.people,
        {size: person_templates(others, strangers.people, size) for size in templates},
        pair_thresholds(others, strangers.people),
        {size: template_thresholds(others, strangers.people, size) for size in templates},
        f"the {len(strangers.names)} people of '{strangers.title}'",
    )


# What is asked for --------------------------------------------------------------------------------


def _recipe(budget: float, shape: str, fill: str, draft: bool, seed: int, against: str) -> Recipe:
    """What is asked for, checked before anything is loaded."""
    recipe = Recipe(budget, shape, fill, draft, seed, against)
    _check(recipe)
    if against:
        _check_against(recipe)
    return recipe


def _check_against(recipe: Recipe) -> None:
    if recipe.against not in AGAINST:
        raise UserError(
            f"The 'against' must be {', '.join(AGAINST)}. Got '{recipe.against}'."
            + did_you_mean(recipe.against, AGAINST)
        )
    if recipe.shape != "pixels":
        raise UserError(
            "Against repair the 'shape' must be pixels: these masks are a few smooth regions"
            f" already. Got '{recipe.shape}'. Leave it out."
        )
    if isinstance(FILLS[recipe.fill], GapFill):
        raise UserError(
            "Against repair the 'fill' must be one that does not fill gaps itself, as black. Got"
            f" '{recipe.fill}'. Leave 'against' out: with this fill, masks are found so already."
        )
    if recipe.draft:
        raise UserError(
            "A 'draft' cannot be 'against' repair, which takes minutes. Leave one of them out."
        )


def _check(recipe: Recipe) -> None:
    if not 0 < recipe.budget < 1:
        percent = f" Did you mean {recipe.budget / 100:g}?" if 1 < recipe.budget < 100 else ""
        raise UserError(f"The 'budget' must be in (0, 1). Got {recipe.budget:g}.{percent}")
    if recipe.shape not in SHAPES:
        raise UserError(
            f"The 'shape' must be one of {', '.join(SHAPES)}. Got '{recipe.shape}'."
            + did_you_mean(recipe.shape, SHAPES)
        )
    FILLS[recipe.fill]


def _faces(gallery: FaceSet | str | Path) -> FaceSet:
    faces = gallery if isinstance(gallery, FaceSet) else _open_gallery(gallery)
    height, width = faces.frames.shape[1:3]
    if (height, width) != (FRAME_SIDE, FRAME_SIDE):
        raise UserError(
            f"The 'gallery' must hold crops of {FRAME_SIDE} x {FRAME_SIDE} pixels, as the person's"
            f" photos are aligned. Got {height} x {width} in '{faces.title}'. Prepare it again"
            " with --crop arcface112."
        )
    return faces


def _open_gallery(gallery: str | Path) -> FaceSet:
    # Only where it is needed: a draft has no gallery, and shall be there within seconds.
    from facefocus.benchmark.run import open_or_make_faceset

    folder = open_or_make_faceset(
        str(gallery), cache_dir() / "faces", otherwise="name its folder with --gallery"
    )
    return open_faceset(folder)


def _of_crops(crops: np.ndarray) -> Subject:
    side = FRAME_SIDE
    if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3) or not len(crops):
        raise UserError(
            f"The photos must be files, or a uint8 array [n, {side}, {side}, 3] of aligned RGB"
            f" crops. Got {crops.dtype} {list(crops.shape)}."
        )
    return Subject("person", np.asarray(crops), tuple(f"photo {n + 1}" for n in range(len(crops))))
