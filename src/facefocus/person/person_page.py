"""The folder of an explanation: a page that opens from disk, pictures, masks, numbers.

Photographs are on the page, because the user asked about their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from facefocus.core.errors import UserError
from facefocus.core.files import check_folder, lives, replace_folder, writing
from facefocus.core.text import budget_text, number, percent, with_bounds
from facefocus.evaluation.part_shares import in_words, part_shares
from facefocus.evaluation.photo_risk import RULES
from facefocus.occlusion.fills import fill_rng
from facefocus.occlusion.mask_files import write_mask
from facefocus.occlusion.painting import paint, write_picture
from facefocus.person.candidates import OWN, POPULATION, SAME_PHOTOS
from facefocus.person.proof import CLEAN, Figure, Judge
from facefocus.person.robust_figures import PHOTOGRAPH, Robustness
from facefocus.person.trials import CHOSEN
from facefocus.person.verdict import CONTROLS, Lookup, mask_words
from facefocus.report.document import (
    Block,
    Cell,
    Details,
    Facts,
    Heading,
    Link,
    Listing,
    Note,
    Picture,
    Section,
    Table,
    plain_table,
)
from facefocus.report.html_renderer import html_page

if TYPE_CHECKING:
    from facefocus.person.explanation import PersonExplanation

#: Crops are shown this many times as large.
ZOOM = 2

#: The file by which a folder of ours is known, and the version of its form.
RECORD, FORMAT = "explanation.json", 1


def write_explanation(made: PersonExplanation, out: Path) -> Path:
    """Write the folder of an explanation, whole or not at all; returns the page.

    Raises:
        UserError: The folder is in the way or cannot be written, or a photograph changed.
    """
    check_out(out)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with writing(out):
            folder.mkdir(parents=True)
            _write(made, folder)
            replace_folder(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out / "index.html"


def check_out(out: Path, *, several: bool = False) -> None:
    """Refuse a folder that cannot be written, or that holds something else, before any work.

    Args:
        out: The folder.
        several: Whether it may hold folders of several people instead.

    Raises:
        UserError: Says which.
    """
    check_folder(out, "--out")
    inside = list(out.iterdir()) if out.is_dir() else []
    people = several and all((path / RECORD).is_file() for path in inside)
    if inside and not people and not (out / RECORD).is_file():
        raise UserError(
            f"The '--out' must be a new folder, or one that 'facefocus person' wrote. Got '{out}',"
            " which holds other files."
        )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        trial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        trial.mkdir(exist_ok=True)
        trial.rmdir()


def _sweep(out: Path) -> None:
    """Remove what a killed process left beside `out`."""
    for folder in out.parent.glob(f".{escape(out.name)}.*.tmp*"):
        process = folder.name.removeprefix(f".{out.name}.").partition(".")[0]
        if process.isdigit() and not lives(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _write(made: PersonExplanation, folder: Path) -> None:
    write_mask(folder / "mask.npz", made.mask)
    write_mask(folder / "mask.png", made.mask)
    (folder / "pictures").mkdir()
    hidden = _hidden_crops(made)
    for name, pixels in _face_pictures(made, hidden):
        write_picture(folder / "pictures" / name, pixels)
    painted = _paint_photos(made, folder)
    (folder / RECORD).write_text(
        json.dumps(record(made), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
    )
    (folder / "index.html").write_text(page(made, painted), "utf-8")


# Pictures -----------------------------------------------------------------------------------------


def _hidden_crops(made: PersonExplanation) -> UInt8[np.ndarray, "n h w 3"]:
    return np.asarray(made.crops.hide()(made.mask))


def _face_pictures(
    made: PersonExplanation, hidden: UInt8[np.ndarray, "n h w 3"]
) -> Iterator[tuple[str, np.ndarray]]:
    """The face with the mask beside the face under it, and every crop, hidden and not."""
    first = made.subject.frames[0]
    pair = [_zoomed(hidden[0]), _zoomed(_marked(first, made.mask))]
    yield "face.png", np.concatenate(pair, axis=1)
    for number_, (clean, dark) in enumerate(zip(made.subject.frames, hidden, strict=True)):
        yield f"crop-{number_ + 1}.png", np.concatenate([clean, dark], axis=1)


def _marked(
    frame: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The face with hidden places tinted red, to see what lies below."""
    tinted = frame.astype(np.float64)
    tinted[mask] = 0.45 * tinted[mask] + 0.55 * np.array([220, 30, 40])
    return np.rint(tinted).astype(np.uint8)


def _zoomed(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    size = (frame.shape[1] * ZOOM, frame.shape[0] * ZOOM)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _paint_photos(made: PersonExplanation, folder: Path) -> list[tuple[str, int, int]]:
    """``hidden/NAME.png`` of every photograph; address, width and height of each."""
    painted = []
    for photo in made.subject.photos:
        pixels = photo.pixels
        rng = fill_rng(made.recipe.seed, photo.name)
        file = f"hidden/{Path(photo.name).name}.png"
        write_picture(folder / file, paint(pixels, photo.matrix, made.mask, made.recipe.fill, rng))
        painted.append((file, pixels.shape[1], pixels.shape[0]))
    return painted


# The page -----------------------------------------------------------------------------------------


def page(made: PersonExplanation, painted: Sequence[tuple[str, int, int]]) -> str:
    """The text of the page."""
    shown = made.verdict
    height, width = made.subject.frames.shape[1:3]
    halves = " This mask is made from all photos; figures are of masks from half of them."
    lead: list[Block] = [
        Picture(
            ("pictures/face.png", 2 * ZOOM * width, ZOOM * height),
            "The face with the mask, and where the mask lies",
            f"Left: the face with {budget_text(made.recipe.budget)} hidden. Right: where."
            f"{halves if made.design.crossed else ''}",
            ("pictures/face.png", min(2 * ZOOM * width, 320), round(160 * height / width)),
        ),
        Facts({figure.title: f"{figure.value} ({figure.detail})" for figure in shown.numbers}),
    ]
    sections = [
        _parts(made),
        _proof(made),
        _repair(made),
        _lasting(made),
        _photographs(made, painted),
        _not_proven(made),
        _origin(made),
    ]
    return html_page(
        f"{made.subject.name}: what to hide",
        [section for section in sections if section is not None],
        answer=shown.sentences,
        warnings=shown.warnings,
        lead=lead,
        with_faces=True,
        version=version("facefocus"),
        finished="",
    )


def _parts(made: PersonExplanation) -> Section:
    shares = part_shares([made.mask])
    rows = [
        (share.part, percent(share.share.value), percent(share.area))
        for share in sorted(shares, key=lambda share: -share.share.value)
    ]
    return Section(
        "parts",
        "Which parts are hidden?",
        in_words(shares, what="the hidden pixels", over="one mask"),
        [plain_table(["Part", "Of the mask", "Of the picture"], rows, "Where the mask lies")],
    )


#: Columns of the proof: title, measure, what it means.
_COLUMNS = (
    ("Template, EER", ("template", "EER"), "photos matched by the mean of the gallery photos"),
    ("Template, FMR 1e-3", ("template", "FMR 1e-3"), "the same at one false match in 1000"),
    ("Any photo, EER", ("any", "EER"), "photos matched by one gallery photo or more"),
    ("Rank 1", ("rank-1", ""), "the nearest template of all people is the person's"),
    ("Pairs, EER", ("pair", "EER"), "share of pairs of photos that match"),
    ("Similarity", ("cosine", ""), "mean cosine of pairs of photos"),
    ("Strangers, EER", ("false-match", "EER"), "share of other people's photos that match"),
)


def _proof(made: PersonExplanation) -> Section:
    look = made.lookup
    blocks: list[Block] = []
    ordered = sorted(made.judges, key=lambda judge: judge.seen)
    for index, judge in enumerate(ordered):
        table = _proof_table(made, look, judge)
        blocks.append(table if index < 2 else Details(table.caption, [table]))
    people = made.candidates[0].population
    everybody = f" Everybody's mask comes from {people} other people." if people else ""
    blocks.append(
        Note(
            "Intervals are of 95 %, over photos. Controls are means over draws. Your own mask, same"
            " photos: tried on the photos that it was made from. EER: the threshold where as many"
            " people are refused as strangers let in. Figures with all other photos as the gallery"
            f" are in explanation.json.{everybody}"
        )
    )
    halves = (
        "Photos are cut into two halves. The mask from one half is tried on the other, and compared"
        " with clean photos of that half, which it never saw either. "
        if made.design.crossed
        else ""
    )
    chosen = (
        "The chosen mask is the one that did best on the other half, by the recognizers that masks"
        " were made on: it was not chosen by the figures that are shown."
        if made.design.crossed
        else "The chosen mask is the one that did best on these very photos, which flatters it."
    )
    return Section("proof", "Does it hide this person?", halves + chosen, blocks)


def _proof_table(made: PersonExplanation, look: Lookup, judge: Judge) -> Table:
    control = look.control(judge)
    names = {
        CLEAN: "Nothing hidden",
        CHOSEN: f"Chosen: {_picked(made, judge)}",
        **{name: _candidate(name) for name in made.outcomes[0].candidates},
        SAME_PHOTOS: "Your own mask, same photos",
        **{
            name: ("Strongest control: " if name == control else "Control: ") + words
            for name, words in CONTROLS.items()
        },
    }
    columns = [column for column in _COLUMNS if look.get(CLEAN, judge, column[1]) is not None]
    rows: list[list[Cell | str]] = [
        [title, *(_cell(look.get(name, judge, measure)) for _, measure, _ in columns)]
        for name, title in names.items()
        if look.get(name, judge, ("cosine", "")) is not None
    ]
    made_on = "the mask was made on it" if judge.seen else "never seen by the mask"
    return plain_table(
        {"Hidden": "", **{title: note for title, _, note in columns}},
        rows,
        f"{judge.name}: {made_on}",
    )


def _picked(made: PersonExplanation, judge: Judge) -> str:
    outcome = next(
        outcome
        for team, outcome in zip(made.teams, made.outcomes, strict=True)
        if any(other is judge for other in team.judges)
    )
    return " and ".join(dict.fromkeys(_candidate(name).lower() for name in outcome.picked))


def _candidate(name: str) -> str:
    if name == OWN:
        return "Your own mask"
    if name == POPULATION:
        return "Everybody's mask, from other people"
    return f"Part: {name.removeprefix('atlas-').replace('-', ' ')}"


def _cell(figure: Figure | None) -> Cell:
    if figure is None:
        return Cell("", missing=True)
    interval = with_bounds(0.0, figure.low, figure.high).partition(" ")[2]
    if figure.measure in ("template", "any", "rank-1"):
        count = figure.value * figure.photos
        whole = abs(count - round(count)) < 0.05
        text = f"{round(count) if whole else number(count, 1)} of {figure.photos}"
        return Cell(text, interval)
    return Cell(number(figure.value), interval)


def _repair(made: PersonExplanation) -> Section | None:
    if not made.repair:
        return None
    look = made.lookup
    rows = []
    for judge in sorted(made.judges, key=lambda judge: judge.seen):
        cost = made.repair_cost(judge)
        if cost is None:
            continue
        largest = budget_text(cost.against[-1][0])
        reached = f"not up to {largest}" if cost.hides else "hides nothing"
        rows.append(
            [
                judge.name,
                "yes" if judge.seen else "no",
                look.text(cost.unrepaired),
                look.text(cost.repaired),
                *(look.text(figure) for _, figure in cost.against),
                reached if cost.least is None else budget_text(cost.least),
            ]
        )
    asked = budget_text(made.recipe.budget)
    kind = "mean similarity" if look.measure == ("cosine", "") else "photos matched"
    headings = {
        "Recognizer": "",
        "Mask made on it": "",
        f"Without, {asked}": f"{kind} under a mask found without repair, not repaired",
        f"Without, {asked}, repaired": "the same mask, the photos repaired",
        **{
            f"Against repair, {budget_text(budget)}": "found with repair in the loop, repaired"
            for budget in sorted({row.budget for row in made.repair})
        },
        "Area it costs": "the least area tried at which repair leaves as little as in the third"
        " column",
    }
    return Section(
        "repair",
        "What does protection against repair cost?",
        "Repair here fills in the hidden places from their surroundings, and is given where they"
        " are. Masks are found by hill climbing, the score taken after repair.",
        [plain_table(headings, rows, "After repair, photos that the mask never saw")],
    )


def _lasting(made: PersonExplanation) -> Section | None:
    if not made.robustness:
        return None
    look = made.lookup
    blocks: list[Block] = []
    for judge in sorted(made.judges, key=lambda judge: judge.seen):
        own = [
            row for row in made.robustness if (row.recognizer, row.seen) == (judge.name, judge.seen)
        ]
        rows = [
            (
                row.title,
                number(row.clean),
                number(row.hidden),
                _surviving(row.surviving),
                _matched(row.measures.get(look.measure), row.photos, look),
                *(_found_again(row) if made.subject.photos else ()),
            )
            for row in own
        ]
        headings = {
            "What happens": "",
            "Clean": "mean similarity, nothing hidden",
            "Hidden": "mean similarity",
            "Effect that survives": "share of the drop; the loss without a mask is not credited",
            "Still matched": "photos, as in the first line of the page",
        }
        if made.subject.photos:
            headings |= {
                "Face not found": "photos in which the face is no longer detected",
                "Moved, px": "mean distance of landmarks from where they were, in the crop",
            }
        made_on = "the mask was made on it" if judge.seen else "never seen by the mask"
        blocks.append(plain_table(headings, rows, f"{judge.name}: {made_on}"))
    return Section(
        "robustness",
        "Does it last?",
        "The same masks, when the photo or the mask suffers a little, and when somebody repairs the"
        " photo. What survives is the share of the effect that is left.",
        blocks,
    )


def _found_again(row: Robustness) -> tuple[str, str]:
    """Photos in which the face is lost, and how far landmarks moved; nothing on crops."""
    if not row.nuisance.startswith(PHOTOGRAPH):
        return "", ""
    return f"{row.undetected} of {row.photos + row.undetected}", number(row.moved, 1)


def _surviving(interval: Any) -> str:
    return with_bounds(interval.value, interval.low, interval.high)


def _matched(value: float | None, photos: int, look: Lookup) -> str:
    if value is None or look.measure == ("cosine", ""):
        return ""
    return f"{round(value * photos)} of {photos}"


def _photographs(made: PersonExplanation, painted: Sequence[tuple[str, int, int]]) -> Section:
    blocks: list[Block] = []
    height, width = made.subject.frames.shape[1:3]
    for file, across, down in painted:
        scale = min(1.0, 480 / across)
        size = (file, round(across * scale), round(down * scale))
        blocks.append(Picture(size, f"{file}, hidden", file))
    blocks += [
        Picture(
            (f"pictures/crop-{index + 1}.png", 4 * width, 2 * height),
            f"{name}, aligned, not hidden and hidden",
            name,
            (f"pictures/crop-{index + 1}.png", 2 * width, height),
        )
        for index, name in enumerate(made.subject.names)
    ]
    crops = [block for block in blocks if isinstance(block, Picture)][len(painted) :]
    return Section(
        "photographs",
        "What does it look like?",
        "Photographs with the recommended mask lie in the folder 'hidden', without any metadata."
        if painted
        else "The aligned faces, not hidden and hidden.",
        [*blocks[: len(painted)], Details("The aligned faces", crops)] if painted else crops,
    )


def _not_proven(made: PersonExplanation) -> Section | None:
    left_out = [f"{path}: {reason}" for path, reason in made.subject.left_out]
    blocks: list[Block] = []
    if made.limits:
        blocks += [Heading("What is not proven"), Listing(made.limits)]
    if made.subject.remarks:
        blocks += [Heading("What to look at"), Listing(made.subject.remarks)]
    if left_out:
        blocks += [Heading("Photos that do not count"), Listing(left_out)]
    if not blocks:
        return None
    return Section("limits", "What is missing?", "", blocks)


def _origin(made: PersonExplanation) -> Section:
    recipe = made.recipe
    facts: dict[str, Any] = {
        "Photos": f"{len(made.subject.frames)} of {made.subject.name}",
        "Hidden": f"{made.mask.sum()} pixels of {made.mask.size}, {recipe.shape}, {recipe.fill}",
        "Mask": mask_words(made.recommended),
        "Maps made by": made.candidates[0].method,
        "Masks made on": ", ".join(source.name for source in made.teams[0].sources),
        "Other people": "none were given"
        if made.strangers is None
        else f"{len(made.strangers.names)} people, {len(made.strangers.frames)} photos of"
        f" '{made.strangers.title}'",
        "Thresholds": {judge.name: _thresholds(judge) for judge in made.judges},
        "Seed": str(recipe.seed),
    }
    return Section(
        "origin",
        "Where do the figures come from?",
        "Nothing left this machine. Photographs of the person are embedded on this page and lie in"
        " this folder: 'pictures', 'hidden'. Embeddings of other people and maps of this person are"
        " kept in the store of facefocus on this machine ('facefocus store clear' removes them).",
        [
            Facts(facts),
            Link("explanation.json", "All figures: explanation.json"),
            Link("mask.npz", "The mask: mask.npz, for 'facefocus apply'"),
            Link("mask.png", "The mask as a picture: mask.png"),
        ],
    )


def _thresholds(judge: Judge) -> str:
    if not judge.pair:
        return "none: no rates"
    levels = ", ".join(f"{name} {number(level)}" for name, level in judge.pair.items())
    return f"pairs: {levels}; from {judge.origin}"


# The record ---------------------------------------------------------------------------------------


def record(made: PersonExplanation) -> dict[str, Any]:
    """What ``explanation.json`` holds; see docs/person.md."""
    return {
        "format": FORMAT,
        "facefocus": version("facefocus"),
        "person": made.subject.name,
        "photos": list(made.subject.names),
        "left_out": [{"photo": path, "reason": why} for path, why in made.subject.left_out],
        "remarks": list(made.subject.remarks),
        "recipe": {
            **vars(made.recipe),
            "against": made.recipe.against or None,
            "method": made.candidates[0].method,
        },
        "mask": {
            "recommended": made.recommended,
            "pixels": int(made.mask.sum()),
            "parts": {share.part: share.share.value for share in part_shares([made.mask])},
        },
        "halves": [
            {"made_of": fold.made_of.tolist(), "tried_on": fold.tried_on.tolist()}
            for fold in made.design.folds
        ],
        "teams": [
            {
                "sources": [source.name for source in team.sources],
                "picked": list(outcome.picked),
                "recommended": outcome.recommended,
            }
            for team, outcome in zip(made.teams, made.outcomes, strict=True)
        ],
        "recognizers": [_recognizer(made, judge) for judge in made.judges],
        "rules": dict(RULES),
        "other_people": None
        if made.strangers is None
        else {
            "title": made.strangers.title,
            "hash": made.strangers.hash,
            "people": len(made.strangers.names),
            "photos": len(made.strangers.frames),
        },
        "sentences": list(made.verdict.sentences),
        "warnings": list(made.verdict.warnings),
        "limits": list(made.limits),
        "figures": [_plain(vars(figure)) for figure in made.figures],
        "robustness": [_robust(row) for row in made.robustness],
        "repair": [
            _plain(
                {
                    "against": row.against,
                    "budget": row.budget,
                    "repaired": row.repaired,
                    **vars(row.figure),
                }
            )
            for row in made.repair
        ],
        "repair_cost": [
            {"recognizer": judge.name, "seen": judge.seen, "budget": cost.least}
            for judge in made.judges
            if (cost := made.repair_cost(judge)) is not None
        ],
    }


def _recognizer(made: PersonExplanation, judge: Judge) -> dict[str, Any]:
    sizes = {str(size): dict(levels) for size, levels in judge.by_template.items()}
    return {
        "name": judge.name,
        "fingerprint": judge.recognizer.fingerprint,
        "seen": judge.seen,
        "thresholds": dict(judge.pair),
        "template_thresholds": sizes,
        "thresholds_from": judge.origin,
        "strongest_control": made.lookup.control(judge),
    }


def _robust(row: Robustness) -> dict[str, Any]:
    surviving = _plain(vars(row.surviving))
    measures = [
        _plain({"measure": measure, "rule": rule, "value": value})
        for (measure, rule), value in row.measures.items()
    ]
    return {**_plain(vars(row)), "surviving": surviving, "measures": measures}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values for JSON, which knows no NaN."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }
