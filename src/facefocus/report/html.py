"""The page of a run: one folder that opens from disk, without network.

`SECTIONS` is the page: functions in the order in which a reader asks. A section returns blocks,
and the template knows how to show each kind of block; a new section is one function here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from facefocus.errors import UserError, one_line
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.occlusion.fills import FILLS, fill_rng, occlude
from facefocus.report import figures
from facefocus.report.answer import Check, answer, best, checks, place
from facefocus.report.summary import Row, summarize, warnings
from facefocus.report.tables import (
    NOTHING,
    Slice,
    columns,
    default_slice,
    leading,
    number,
    percent,
    read_results,
    slice_note,
    to_csv,
    to_html,
)

#: Widths in inches of the two versions of every figure: 96 CSS pixels each.
WIDE, NARROW = 11.0, 3.6

#: How many of the people who lose most are named.
LISTED = 5


# Blocks: what a section is made of ---------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """A file beside the page."""

    kind: ClassVar[str] = "link"
    file: str
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Checks:
    """The findings of the audit."""

    kind: ClassVar[str] = "checks"
    items: Sequence[Check]


@dataclass(frozen=True)
class Table:
    """A table made by `tables.to_html` (escaped there) and the name its scroll region gets."""

    kind: ClassVar[str] = "table"
    html: Markup
    label: str


@dataclass(frozen=True)
class Facts:
    """Names and values; a value may be facts itself."""

    kind: ClassVar[str] = "facts"
    items: Mapping[str, Any]


@dataclass(frozen=True)
class Code:
    """Text as it is."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that open on a click."""

    kind: ClassVar[str] = "details"
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Picture:
    """A figure at two widths, each as address, width and height in CSS pixels."""

    kind: ClassVar[str] = "picture"
    wide: tuple[str, int, int]
    narrow: tuple[str, int, int]
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page under a question."""

    key: str
    title: str
    lead: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Report:
    """What the sections read, and the folder their pictures go to.

    Attributes:
        run: The run's folder.
        results: Its result rows.
        provenance: What made them; empty where not recorded.
        experiment: The experiment file's text; empty where not recorded.
        folder: Where the page is being built.
        faces: The face set where faces may be shown; None shows no face pixel anywhere.
    """

    run: Path
    results: pl.DataFrame
    provenance: Mapping[str, Any]
    experiment: str
    folder: Path
    faces: FaceSet | None = None
    _names: list[str] = field(default_factory=list)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One row per configuration."""
        return summarize(self.results)

    @cached_property
    def shown(self) -> Slice:
        """The budget and fill of the first look."""
        return default_slice(self.summary)

    @property
    def title(self) -> str:
        """The experiment's name, or the folder's."""
        if self.results.is_empty():
            return self.run.resolve().name
        return ", ".join(self.results["experiment"].unique(maintain_order=True).to_list())

    def targets(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Each attacked recognizer and its summary rows."""
        for part in self.summary.partition_by("target", maintain_order=True):
            yield part["target"][0], part

    def heading(self, target: str) -> list[Heading]:
        """The recognizer's name where there are several."""
        return [Heading(target)] if self.summary["target"].n_unique() > 1 else []

    def picture(
        self, draw: Callable[[float], Figure], name: str, *, alt: str, caption: str, kind: str
    ) -> Picture:
        """Draw a figure at both widths and write it; `kind` is ``"svg"`` or ``"png"``."""
        stem = f"{len(self._names) + 1:02}-{name}"
        self._names.append(stem)
        images = self.folder / "images"
        images.mkdir(exist_ok=True)
        written = []
        for width, ending in ((WIDE, ""), (NARROW, "-narrow")):
            figure = draw(width)
            path = images / f"{stem}{ending}.{kind}"
            figures.save(figure, path)
            across, down = (96 * figure.get_size_inches()).round().astype(int).tolist()
            written.append((f"images/{path.name}", across, down))
        return Picture(written[0], written[1], alt, caption)


# Sections ----------------------------------------------------------------------------------------


def experiment(report: Report) -> Section | None:
    """What was done, in a few facts."""
    rows = report.summary
    faces = report.provenance.get("faces")
    frames = f" ({faces['frames']} images)" if isinstance(faces, dict) and "frames" in faces else ""
    limits = rows.select("target", "threshold_rule", "threshold").unique(maintain_order=True)
    facts = {
        "Faces": _listed(rows["faces"]) + frames,
        "Identities": str(report.results["identity"].n_unique()),
        "Recognizers attacked": _listed(rows["target"]),
        "Maps from": _listed(rows["source"].drop_nulls()) or NOTHING,
        "Methods": _listed(rows["method"]),
        "Layers": _listed(rows["layer"].drop_nulls()) or NOTHING,
        "Budgets": ", ".join(percent(one, 2) for one in rows["budget"].unique().sort()),
        "Fills": _listed(rows["fill"]),
        "Compared with": _listed(rows["compare"]),
        "Thresholds": "; ".join(
            f"{row['target']}: {number(row['threshold'])} ({row['threshold_rule']})"
            for row in limits.iter_rows(named=True)
        ),
    }
    blocks: list[Any] = [Facts(facts)]
    if report.experiment:
        blocks.append(Details("The experiment file, as it was run", [Code(report.experiment)]))
    lead = (
        "Pixels that a method calls important are hidden; the recognizer then compares the hidden "
        "face with the person's other images. Recognition is the share of those pairs at or above "
        "the threshold."
    )
    return Section("experiment", "What was done", lead, blocks)


def _listed(values: pl.Series) -> str:
    return ", ".join(map(str, values.unique(maintain_order=True)))


def audit(report: Report) -> Section | None:
    """Whether the numbers can be trusted."""
    if report.summary.is_empty():
        return None
    lead = "Read this first. What is marked 'look' does not make a number wrong, but limits it."
    return Section("audit", "Can the numbers be trusted?", lead, [Checks(checks(report.summary))])


def winner(report: Report) -> Section | None:
    """Which method lowers recognition most, at one budget and fill."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        part = report.shown.of(rows)
        few = leading(part)
        left = (
            f" (of {part.height} rows the first {few.height})" if few.height < part.height else ""
        )
        caption = f"{target}: {report.shown}; baselines first, then largest drop{left}"
        table = to_html(few, caption=caption, omit=("Recognizer", "Budget", "Fill"))
        blocks += [*report.heading(target), Table(Markup(table), caption)]
        if part["layer"].drop_nulls().len():
            blocks.append(_heatmap(report, target, part))
    blocks.append(_column_notes(report.summary))
    return Section(
        "winner",
        "Which method lowers recognition most?",
        slice_note(report.summary, report.shown),
        blocks,
    )


def _heatmap(report: Report, target: str, part: pl.DataFrame) -> Picture:
    top = best(part)
    said = f" Largest: {place(top)}, {number(top['drop'], signed=True)}." if top else ""
    return report.picture(
        lambda width: figures.layer_heatmap(part, width=width),
        "layers",
        alt=f"Heat map of the drop of recognition of {target} by layer and method.{said} "
        "The table above has the numbers.",
        caption=f"Drop of the recognition rate, {report.shown}. Darker is larger.",
        kind="svg",
    )


def _column_notes(summary: pl.DataFrame) -> Details:
    notes = {one.title: one.note for one in columns(summary)}
    return Details("What the columns mean", [Facts(notes)])


def effect(report: Report) -> Section | None:
    """How much: budgets and fills."""
    if report.summary.is_empty():
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        found: list[Any] = []
        filled = rows.filter(pl.col("fill") == report.shown.fill)
        if filled["budget"].n_unique() > 1:
            found.append(_curves(report, target, filled))
        if rows["fill"].n_unique() > 1:
            found.append(_fills(report, target, rows))
        blocks += [*report.heading(target), *found] if found else []
    if not blocks:
        return None
    lead = "Bands and bars are 95 % bootstrap intervals of the mean over identities."
    return Section("effect", "By how much?", lead, blocks)


def _curves(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    return report.picture(
        lambda width: figures.budget_curves(rows, width=width),
        "budgets",
        alt=f"Recognition rate of {target} against the budget, one panel per layer, one line per "
        "method, beside clean faces and random pixels. The numbers are in the last table.",
        caption=f"Recognition against the budget, fill {report.shown.fill}. "
        "What does not lie below the gray line does no better than random pixels.",
        kind="svg",
    )


def _fills(report: Report, target: str, rows: pl.DataFrame) -> Picture:
    chosen = _best_layers(report.shown.of(rows)).select(_SERIES)
    series = rows.filter(pl.col("budget") == report.shown.budget).join(
        chosen, on=_SERIES, how="semi", nulls_equal=True, maintain_order="left"
    )
    return report.picture(
        lambda width: figures.fills(series, width=width),
        "fills",
        alt=f"Recognition rate of {target} under each fill, for each method at its best layer.",
        caption=f"What the hidden pixels are painted with, at {percent(report.shown.budget, 2)}; "
        f"each method at the layer with its largest drop under {report.shown.fill}.",
        kind="svg",
    )


#: What tells one line of a chart from another.
_SERIES = ["source", "method", "options", "layer", "objective", "evidence", "split",
           "on_degenerate", "compare", "threshold_rule", "seed", "experiment", "faces"]  # fmt: skip


def _best_layers(rows: pl.DataFrame) -> pl.DataFrame:
    """Of every series the layer with the largest drop, baselines as they are."""
    others = [name for name in _SERIES if name != "layer"]
    largest = rows.sort("drop", descending=True, nulls_last=True, maintain_order=True)
    return largest.unique(others, keep="first", maintain_order=True)


def where(report: Report) -> Section | None:
    """The maps and masks of a few people."""
    path = report.run / "gallery.parquet"
    if not path.is_file() or not (report.run / "gallery.npz").is_file():
        return None
    rows = pl.read_parquet(path)
    with np.load(report.run / "gallery.npz", allow_pickle=False) as arrays:
        maps, masks, budgets = arrays["maps"], arrays["masks"], arrays["budgets"]
    nearest = int(np.argmin(np.abs(budgets - report.shown.budget)))
    blocks: list[Any] = []
    for part in rows.partition_by("identity", "source", maintain_order=True):
        who = part["identity"][0]
        many = rows["source"].n_unique() > 1
        blocks.append(Heading(f"{who}, maps from {part['source'][0]}" if many else who))
        tiles = [
            figures.Tile(title, maps[row["index"]], masks[row["index"], nearest], row["degenerate"])
            for title, row in _tile_rows(part)
        ]
        blocks.append(_gallery(report, who, part, tiles, float(budgets[nearest])))
    shown = "the faces" if report.faces is not None else "a drawn outline: no face is shown"
    lead = (
        f"Above, each method's map of a person (bright: important); below, what is hidden at "
        f"{percent(float(budgets[nearest]), 2)}. Both on {shown}."
    )
    return Section("where", "Where do they look?", lead, blocks) if blocks else None


def _tile_rows(part: pl.DataFrame) -> list[tuple[str, Row]]:
    """Title and row of each distinct map of an identity: other images of it share the map."""
    rows = part.unique(
        ("method", "options", "layer", "objective"), keep="first", maintain_order=True
    )
    varies = [
        name
        for name in ("options", "objective")
        if any(one[name].n_unique() > 1 for one in rows.partition_by("method"))
    ]
    titled = []
    for row in rows.iter_rows(named=True):
        said = [f"layer {row['layer']}"] if row["layer"] else []
        said += [str(row[name]) for name in varies if row[name]]
        titled.append((f"{row['method']}\n{', '.join(said)}", row))
    return titled


def _gallery(
    report: Report, who: str, part: pl.DataFrame, tiles: Sequence[figures.Tile], budget: float
) -> Picture:
    face, hidden = _frames(report, int(part["image"][0]), tiles)
    none = [tile.title.replace("\n", ", ") for tile in tiles if tile.degenerate]
    without = f" No map: {'; '.join(none)}." if none else ""
    return report.picture(
        lambda width: figures.gallery(tiles, width=width, face=face, hidden=hidden),
        "gallery",
        alt=f"Maps and masks of {who}: {len(tiles)} method and layer choices.{without}",
        caption=f"{who}: maps above, {percent(budget, 2)} hidden below.{without}",
        kind="png",
    )


def _frames(
    report: Report, image: int, tiles: Sequence[figures.Tile]
) -> tuple[UInt8[np.ndarray, "h w 3"] | None, list[UInt8[np.ndarray, "h w 3"]]]:
    """The clean frame and what each tile's mask leaves of it; nothing without a face set."""
    if report.faces is None:
        return None, []
    frame = np.asarray(report.faces.frames[image])
    seed = int(report.results["seed"][0]) if report.results.height else 0
    rng = fill_rng(seed, str(report.faces.names[image]))
    content = FILLS[report.shown.fill](frame[None], [rng])
    return frame, [occlude(frame[None], tile.mask, content)[0] for tile in tiles]


def whom(report: Report) -> Section | None:
    """How the effect is spread over people."""
    if report.results["identity"].n_unique() < 2:
        return None
    blocks: list[Any] = []
    for target, rows in report.targets():
        first = report.shown.of(rows)
        part = report.shown.of(report.results.filter(pl.col("target") == target)).join(
            leading(first).select(_SERIES),
            on=_SERIES,
            how="semi",
            nulls_equal=True,
            maintain_order="left",
        )
        if part["rate"].drop_nulls().is_empty():
            continue
        blocks += [*report.heading(target), _spread(report, target, part)]
        top = best(first)
        if top is not None:
            blocks.append(_extremes(part, top))
    lead = "A mean hides people: some lose everything, some nothing."
    return Section("whom", "On whom?", lead, blocks) if blocks else None


def _spread(report: Report, target: str, part: pl.DataFrame) -> Picture:
    return report.picture(
        lambda width: figures.identities(part, width=width),
        "identities",
        alt=f"Drop of the recognition rate of {target} for every identity, one row per method and "
        "layer, largest mean first.",
        caption=f"One dot per identity, {report.shown}. Thick bar: middle half; upright line: "
        "median; diamond: mean.",
        kind="svg",
    )


def _extremes(part: pl.DataFrame, top: Row) -> Facts:
    keys = [*_SERIES, "layer_calls"]
    one = pl.DataFrame([{key: top[key] for key in keys}], schema={k: part.schema[k] for k in keys})
    rows = part.join(one, on=keys, how="semi", nulls_equal=True, maintain_order="left")
    drops = (
        rows.filter(pl.col("rate").is_not_null())
        .with_columns(drop=pl.col("clean_rate") - pl.col("rate"))
        .sort("drop", "identity", descending=[True, False])
    )
    spared = drops.filter(pl.col("drop") <= 0).height
    worst = drops.head(LISTED).iter_rows(named=True)
    return Facts(
        {
            f"Lose most: {place(top)}": ", ".join(
                f"{row['identity']} {number(row['drop'], signed=True)}" for row in worst
            ),
            "Lose nothing": f"{spared} of {drops.height} identities",
        }
    )


def everything(report: Report) -> Section | None:
    """Every configuration in one table."""
    if report.summary.is_empty():
        return None
    (report.folder / "summary.csv").write_text(to_csv(report.summary), encoding="utf-8")
    count = f"{report.summary.height} configurations"
    table = Table(Markup(to_html(report.summary)), "Every configuration")
    return Section(
        "numbers",
        "All numbers",
        "Every budget, fill, method and layer, each with its audit.",
        [
            Link("summary.csv", "The same with full precision: summary.csv"),
            Details(f"{count}; a click on a heading sorts", [table]),
        ],
    )


def provenance(report: Report) -> Section | None:
    """Versions, hashes, machine."""
    if not report.provenance:
        return None
    lead = "What made these numbers: the same inputs on the same kind of machine give them again."
    return Section("provenance", "Provenance", lead, [Facts(report.provenance)])


#: The page, in the order in which a reader asks.
SECTIONS: tuple[Callable[[Report], Section | None], ...] = (
    experiment,
    audit,
    winner,
    effect,
    where,
    whom,
    everything,
    provenance,
)


# The page ----------------------------------------------------------------------------------------


def write_report(run: Path, *, with_faces: bool = False, faces_dir: Path | None = None) -> Path:
    """Write ``RUN/report/index.html`` with its pictures, replacing a report that is there.

    Args:
        run: The run's folder.
        with_faces: Show face pixels in the gallery. Without it no output holds any.
        faces_dir: Where the face set lies, if not where the run found it.

    Returns:
        The path of the page.

    Raises:
        UserError: There are no results, a file cannot be read, or, with faces, the face set is not
            the one the run used.
    """
    results = read_results(run)
    recorded = _read_provenance(run)
    faces = _open_faces(recorded, faces_dir) if with_faces else None
    toml = run / "experiment.toml"
    folder = run / f".report-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        text = toml.read_text(encoding="utf-8") if toml.is_file() else ""
        page = _render(Report(run, results, recorded, text, folder, faces))
        (folder / "index.html").write_text(page, encoding="utf-8")
        _replace(folder, run / "report")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run / "report" / "index.html"


def _read_provenance(run: Path) -> dict[str, Any]:
    path = run / "provenance.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error


def _open_faces(recorded: Mapping[str, Any], faces_dir: Path | None) -> FaceSet:
    used = recorded.get("faces")
    if not isinstance(used, dict) or "hash" not in used:
        raise UserError("Faces need a run that records its face set. Got none in provenance.json.")
    if faces_dir is None and not used.get("path"):
        raise UserError("The run does not record where its faces lie. Name their folder.")
    folder = faces_dir if faces_dir is not None else Path(used["path"])
    faces = open_faceset(folder)
    if faces.hash != used["hash"]:
        raise UserError(
            f"The faces must be those of the run, with hash {used['hash']}. "
            f"Got '{folder}' with {faces.hash}."
        )
    return faces


def _render(report: Report) -> str:
    sections = [] if report.summary.is_empty() else [build(report) for build in SECTIONS]
    rows = report.summary
    shown = None if rows.is_empty() else report.shown
    environment = Environment(
        loader=PackageLoader("facefocus.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tie"] = _tie
    return environment.get_template("report.html.j2").render(
        title=report.title,
        answer=answer(rows, shown),
        warnings=warnings(rows),
        sections=[section for section in sections if section is not None],
        with_faces=report.faces is not None,
        version=report.provenance.get("facefocus", ""),
        finished=report.provenance.get("finished", ""),
    )


def _tie(text: str) -> str:
    """The text with its percent signs kept on the line of their numbers."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _replace(folder: Path, report: Path) -> None:
    """Put `folder` in the place of `report`; what was there goes whole, older face pictures too."""
    old = folder.with_name(folder.name + "-old")
    if report.exists():
        report.rename(old)
    folder.rename(report)
    shutil.rmtree(old, ignore_errors=True)
