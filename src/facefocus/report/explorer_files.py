"""The files beside the page: its script and style, the charts' library, and tables as scripts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from facefocus.report import charts
from facefocus.report.answer import checks
from facefocus.report.chart_library import chart_library
from facefocus.report.comparability import comparability
from facefocus.report.document import Chart, Check
from facefocus.report.explorer_data import (
    KEYS,
    answers,
    board,
    first_look,
    galleries,
    layer_order,
)
from facefocus.report.figures import STROKES, looks
from facefocus.report.packed_tables import plain_script, script
from facefocus.report.report_data import Report

#: Rows of one file of the leaderboard; a longer run has one for each fill of a recognizer.
ROWS = 20_000

#: What the score selector offers: column, title, what it means, whether less hides better.
SCORES = (
    ("rate", "Recognition", "share of mated pairs at or above the threshold, hidden; less hides"
     " better", True),
    ("cosine", "Cosine", "mean cosine of mated pairs, hidden; less hides better", True),
    ("excess", "Excess over control", "drop of recognition beyond the same mask shifted to random"
     " places; more hides better", False),
    ("specificity", "Specificity", "drop by the person's own mask minus the drop by other people's"
     " masks; more is more of this person's own", False),
    ("oracle_share", "Share of oracle", "of the drop that a greedy search reaches: random pixels"
     " are 0, the search is 1", False),
    ("any_rate", "Found by any photo", "share of hidden photos that match one or more of the"
     " person's clean photos; less hides better", True),
    ("template_rate", "Found by template", "share of hidden photos that match the person's"
     " template; less hides better", True),
    ("rank_one", "Found first", "share of hidden photos to which the person's template is the"
     " nearest of everybody's; less hides better", True),
)  # fmt: skip

#: Files of our own, each of some templates.
_OWN = {"explorer.js": ("explorer.js",), "explorer.css": ("report.css", "explorer.css")}

#: Shapes of marks, by those of the static figures.
_SHAPES = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
           "d": "diamond", ">": "triangle-right", "<": "triangle-left", "P": "cross",
           "+": "cross"}  # fmt: skip

#: The first picture: methods beside clean faces, random pixels, the control and the oracle.
_FIRST = Chart(
    "first",
    charts.intervals(control=True),
    "The selected score of the best methods and of the references, with 95 % intervals. The"
    " leaderboard has the numbers.",
    "",
    top=12,
)


def write_files(
    reports: Sequence[Report], folder: Path, shown: Iterable[Chart]
) -> Mapping[str, Any]:
    """Write everything beside the page; returns what its head shows.

    Args:
        reports: Of runs that have results.
        folder: Where the page is being built.
        shown: The charts of all sections.
    """
    data = folder / "data"
    data.mkdir()
    shutil.copyfile(chart_library(), data / "vega.js")
    own = files(__package__) / "templates"
    for name, parts in _OWN.items():
        text = "".join((own / part).read_text(encoding="utf-8") for part in parts)
        (folder / name).write_text(text, encoding="utf-8")
    boards = [board(report) for report in reports]
    rows = pl.concat(boards, how="diagonal")
    answer_rows = pl.concat([answers(report) for report in reports])
    first = first_look(reports[0])
    page: dict[str, Any] = {
        "first": first,
        "scores": [score for score in SCORES if score[0] in rows.columns],
        "looks": _looks(rows["method"].unique(maintain_order=True).to_list()),
        "layers": list(dict.fromkeys(layer for r in reports for layer in layer_order(r.summary))),
        "readings": dict(rows.select("fill", "reading").unique(maintain_order=True).rows()),
        "parts": [part for table in boards for part in _write_parts(table, data)],
        "combinations": rows.select(*KEYS, "maps").unique(maintain_order=True).rows(),
        "sources": _sources(rows),
        "columns": rows.columns,
        "charts": {chart.name: _chart(chart, data) for chart in (_FIRST, *shown)},
        "answers": _write(data, "answers", answer_rows),
        "galleries": [gallery for i, report in enumerate(reports)
                      for gallery in _write_galleries(report, data, i)],
        "persons": reports[0].persons,
        "outline": _outline(),
    }  # fmt: skip
    (data / "page.js").write_text(plain_script("page", page), encoding="utf-8")
    at_first = answer_rows.filter(
        *(pl.col(name) == first[name] for name in KEYS), pl.col("maps") == "own"
    )
    return {
        "first": _FIRST,
        "answer": at_first["answer"][0] if at_first.height else "",
        "badges": _badges(reports),
        "comparisons": comparability(reports) if len(reports) > 1 else [],
        "loaded": ["data/page.js", "data/vega.js"],
    }


def _write(data: Path, name: str, table: pl.DataFrame, **more: Any) -> str:
    (data / f"{name}.js").write_text(script(name, table, **more), encoding="utf-8")
    return name


def _write_parts(rows: pl.DataFrame, data: Path) -> list[dict[str, Any]]:
    """The leaderboard's rows as one file, or as one for each fill of a recognizer."""
    split = ("run", "faces", "target", "split", "fill") if rows.height > ROWS else ("run",)
    parts = []
    for part in rows.partition_by(split, maintain_order=True):
        file = f"board-{len(list(data.glob('board-*.js')))}"
        part = part.select(
            column for column in part if column.is_not_null().any() or column.name in KEYS
        )
        parts.append({name: part[name][0] for name in split} | {"file": _write(data, file, part)})
    return parts


def _write_galleries(report: Report, data: Path, number: int) -> list[dict[str, Any]]:
    entries = []
    for index, (about, arrays) in enumerate(galleries(report)):
        name = _write(data, f"person-{number}-{index}", pl.DataFrame(), arrays=arrays, person=about)
        entries.append({"run": report.name, "faces": about["faces"], "identity": about["identity"],
                        "file": name})  # fmt: skip
    return entries


def _chart(chart: Chart, data: Path) -> dict[str, Any]:
    entry = {name: getattr(chart, name) for name in ("spec", "alt", "free", "each", "top", "click")}
    if chart.rows is not None:
        entry["rows"] = _write(data, f"rows-{re.sub(r'[^a-z0-9-]', '-', chart.name)}", chart.rows)
    return entry


def _looks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Color and shape of each method; nearly black is the page's own ink, on dark as on light."""
    return {
        name: ("currentColor" if color == "#111827" else color, _SHAPES.get(marker, "circle"))
        for name, (color, marker) in looks(methods).items()
    }


def _sources(rows: pl.DataFrame) -> list[tuple[str, ...]]:
    other = rows.filter(maps="transferred").select("run", "target", "source")
    return other.unique(maintain_order=True).rows()


def _badges(reports: Sequence[Report]) -> list[Check]:
    """The audit in short: each opens its explanation."""
    if len(reports) == 1:
        return checks(reports[0].summary)
    by_title: dict[str, list[tuple[str, Check]]] = {}
    for report in reports:
        for check in checks(report.summary):
            by_title.setdefault(check.title, []).append((report.name, check))
    return [
        Check(
            all(check.good for _, check in each),
            title,
            " ".join(f"{name}: {check.detail}" for name, check in each),
        )
        for title, each in by_title.items()
    ]


def _outline() -> str:
    """The schematic face as an SVG path in a frame of 112 pixels."""
    strokes = []
    for (x, y), *rest in STROKES:
        strokes.append(f"M{x} {y}C{' '.join(f'{a} {b}' for a, b in rest)}")
    return "".join(strokes)
