"""``facefocus report --what truth``: which methods find the planted part, as a Markdown note.

Every figure and every sentence with a figure in it is computed here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facefocus.analysis.labels import changed_options, layer_order
from facefocus.analysis.results import as_named, read_results
from facefocus.analysis.summary import Row, summarize
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import Slice, default_slice
from facefocus.core.errors import UserError
from facefocus.core.files import write_atomically, writing
from facefocus.core.locations import recorded_faces, run_folders
from facefocus.core.text import NOTHING, budget_text, number, percent
from facefocus.evaluation.statistics import Interval
from facefocus.faces.faceset import FaceSet, open_faceset
from facefocus.planted import truth_figures
from facefocus.planted.truth import (
    SHOWN,
    agreement,
    finds,
    one_policy,
    sentence,
    truth_summary,
    worlds,
)
from facefocus.report import figures
from facefocus.report.columns import interval
from facefocus.report.document import (
    Block,
    Facts,
    Heading,
    Listing,
    Note,
    Paragraph,
    Picture,
    plain_table,
)
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.report_data import read_gallery, spread

#: Width of the pictures in inches.
WIDTH = 7.5

#: Worlds whose maps are pictured: one where the part lies in the same place in all people, and one
#: where it does not. Without them, the first two.
PICTURED = ("eyes", "marks")

#: The scores that are compared with what hiding takes, as they are called.
SCORES = {"truth_auc": "ROC AUC", "truth_share": "share"}

#: Rows of the table of degenerate maps.
FLATTEST = 12

#: Functions of the angle alone, whose gradients are parallel (Protocol: objectives).
PARALLEL = ("cosine", "l2", "arcface")

#: What a configuration is besides its world; recognizers differ from world to world.
_SETTING = ("method", "options", "layer", "objective")


@dataclass(frozen=True)
class Material:
    """What the note is made of.

    Attributes:
        results: One row per identity and configuration.
        shown: The budget, fill and split of every table that does not say another.
        by_world: By world, rows of `truth.truth_summary`.
        fixed: The same of each method with the layer and objective of largest mean AUC over the
            worlds: one setting for all, chosen on them.
        images: Where the pictures lie, seen from the note.
        name: What the pictures' names begin with: the note's, without ``results-``.
    """

    results: pl.DataFrame
    shown: Slice
    by_world: Mapping[str, pl.DataFrame]
    fixed: Mapping[str, pl.DataFrame]
    images: Path
    name: str

    @cached_property
    def agreements(self) -> dict[tuple[str, bool], list[Interval]]:
        """By score, and by cosine (or else recognition), the agreement in each world."""
        return {
            (score, cosine): [
                agreement(self.results, _plain(rows), cosine=cosine, score=score)
                for rows in self.by_world.values()
            ]
            for cosine in (True, False)
            for score in SCORES
        }

    @property
    def all(self) -> pl.DataFrame:
        """The rows of all worlds."""
        return pl.concat(list(self.by_world.values()))


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    """Methods with the cosine, or with no objective: what differs by the loss alone counts once."""
    return rows.filter(
        COMPETES & (pl.col("objective").is_null() | (pl.col("objective") == "cosine"))
    )


def write_note(run: Path, out: Path) -> Path:
    """Write the note on a run on synthetic faces, and its pictures to ``images/`` beside it.

    Args:
        run: A run folder; with variants, of one world each.
        out: The Markdown file.

    Raises:
        UserError: The run has no results, its faces have no truth, or a world has maps from
            several recognizers.
    """
    results = read_results(run)
    if "truth_share" not in results.columns:
        raise UserError(
            f"The run must be on synthetic faces, whose truth is known. Got '{run}', which is not."
        )
    results = one_policy(results)
    shown = default_slice(results)
    one_slice = shown.of(results)
    by_world = dict(worlds(truth_summary(one_slice, summarize(one_slice))))
    for world, rows in by_world.items():
        sources = rows["source"].drop_nulls().n_unique()
        if sources > 1:
            raise UserError(
                f"The maps of each world must be from one recognizer. Got {sources} in '{world}'."
            )
    named = out.stem.removeprefix("results-")
    material = Material(results, shown, by_world, _fixed(by_world), Path("images"), named)
    with writing(out):
        pictures = _pictures(run, material, out.parent / material.images)
    parts = (_opening, _short, _methods, _layers, _losses, _budgets, _degenerate, _hiding)
    blocks = [
        Heading("Which method finds the planted part?", 1),
        Note(
            f"Made by `facefocus report {as_named(run)} --what truth --out {out}`; no figure here"
            " is typed by hand."
        ),
        *(block for part in parts for block in part(material)),
        *pictures,
        *_provenance(run),
    ]
    text = markdown_document(blocks)
    write_atomically(out, lambda file: file.write(text.encode()))
    return out


def _fixed(by_world: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    rows = pl.concat(list(by_world.values()))
    means = rows.group_by(_SETTING, maintain_order=True).agg(pl.col("truth_auc").mean())
    best = means.sort("truth_auc", descending=True, maintain_order=True).unique(
        ("method", "options"), keep="first", maintain_order=True
    )
    return {
        world: best.select(_SETTING).join(
            part, on=_SETTING, how="inner", nulls_equal=True, maintain_order="left"
        )
        for world, part in by_world.items()
    }


def _label(row: Row) -> str:
    """``layer-cam @ N/2, l1``: method, layer, and what is not the default: objective, options."""
    layer = f" @ {row['layer']}" if row["layer"] else ""
    other = [row["objective"]] if row["objective"] not in (None, "cosine") else []
    return ", ".join([f"{row['method']}{layer}", *other, *changed_options(row)])


# --- what was done, and the short answer ----------------------------------------------------------


def _opening(material: Material) -> Iterator[Block]:
    rows, results = material.all, material.results
    photos = results["images"].unique().sort().to_list()
    objectives = ", ".join(rows["objective"].drop_nulls().unique(maintain_order=True))
    options = {
        f"{row['method']} ({row['options']})"
        for row in rows.iter_rows(named=True)
        if row["options"] and row["layer"] is None
    }
    budgets = ", ".join(budget_text(budget) for budget in results["budget"].unique().sort())
    yield Paragraph(
        "Drawn faces whose identity lives, by construction, in one part alone, and recognizers"
        " trained on nothing else: here it is known what a map has to show."
        f" Worlds: {', '.join(material.by_world)}; {max(rows['identities'].to_list())} people"
        " each, whom the recognizers never saw, with"
        f" {' to '.join(map(str, dict.fromkeys(photos)))} photos."
        f" Layers {', '.join(_by_depth(rows))};{f' objectives {objectives};' if objectives else ''}"
        f" budgets {budgets}; fill {material.shown.fill}."
        f" Without layer: {'; '.join(sorted(options))}."
    )
    yield Facts(
        {
            "ROC AUC": "how often the map is larger at a planted pixel than at another, over all"
            " photos of a person (chance 0.5)",
            "Share": "how much of the hidden pixels lies in the planted part",
            "Pointing": "whether the map's maximum lies in the planted part",
        }
    )
    yield Paragraph(
        "Means over people with 95 % intervals; a person without a map scores chance. The"
        " definitions are in docs/protocol.md, planted-truth."
    )
    yield plain_table(
        ["world", "recognizer", "clean recognition", "planted share of the frame"],
        [
            [
                world,
                part["source"].drop_nulls()[0],
                number(part["clean_rate"][0]),
                percent(part["truth_chance"][0]),
            ]
            for world, part in material.by_world.items()
        ],
    )
    yield Paragraph(
        "Clean recognition: share of mated pairs at or above the threshold of equal error rate,"
        " nothing hidden. A recognizer that hardly knows its people has hardly anything to show."
    )


def _short(material: Material) -> Iterator[Block]:
    yield Heading("In short", 2)
    sentences = [
        sentence(world, rows, material.results) for world, rows in material.by_world.items()
    ]
    above: dict[str, int] = {}
    for rows in material.fixed.values():
        for row in rows.filter(COMPETES).to_dicts():
            above[row["method"]] = above.get(row["method"], 0) + finds(row)
    every = [method for method, count in above.items() if count == len(material.by_world)]
    never = [method for method, count in above.items() if not count]
    sentences.append(
        "With one layer and objective for all worlds, above chance in every one of them:"
        f" {', '.join(every) or 'no method'}; in none: {', '.join(never) or 'no method'}."
    )
    for (score, cosine), rhos in material.agreements.items():
        if cosine:
            sure = sum(rho.low > 0 for rho in rhos)
            sentences.append(
                f"Hiding by loss of similarity orders methods as the {SCORES[score]} does in"
                f" {sure} of {len(rhos)} worlds (Spearman's rho"
                f" {', '.join(number(rho.value) for rho in rhos)})."
            )
    yield Listing(sentences)


# --- methods, layers, losses ----------------------------------------------------------------------


def _methods(material: Material) -> Iterator[Block]:
    yield Heading("Methods", 2)
    yield Paragraph(
        "Each method with one layer and objective for all worlds: those of largest mean ROC AUC,"
        " chosen on these very people, which makes it slightly too large."
    )
    for score, title in (
        ("truth_auc", "ROC AUC"),
        ("truth_share", f"Share of the hidden pixels in the part, {material.shown}"),
        ("truth_pointing", "Pointing game"),
    ):
        yield plain_table(["", *material.fixed, "mean"], _method_rows(material, score), title)
    yield Picture((f"images/{material.name}-methods.png", 0, 0), "Methods by world")


def _method_rows(material: Material, score: str) -> list[list[str]]:
    by_method: dict[tuple[Any, ...], dict[str, Row]] = {}
    for world, rows in material.fixed.items():
        for row in rows.to_dicts():
            by_method.setdefault(tuple(row[name] for name in _SETTING), {})[world] = row
    ranked = sorted(by_method.values(), key=lambda by_world: -_mean(by_world, score))
    lines = [
        [
            _label(next(iter(by_world.values()))),
            *(
                interval(by_world[world], score) if world in by_world else ""
                for world in material.fixed
            ),
            number(_mean(by_world, score)),
        ]
        for by_world in ranked
    ]
    first = {world: rows.row(0, named=True) for world, rows in material.fixed.items()}
    best = [row[f"{score}_best"] for row in first.values()]
    chance = [0.5 if score == "truth_auc" else row["truth_chance"] for row in first.values()]
    for name, bound in (("best possible", best), ("chance", chance)):
        lines.append([name, *map(number, bound), number(float(np.mean(bound)))])
    return lines


def _mean(by_world: Mapping[str, Row], score: str) -> float:
    return float(np.mean([row[score] for row in by_world.values()]))


def _layers(material: Material) -> Iterator[Block]:
    layered = (pl.col("objective") == "cosine") & pl.col("layer").is_not_null()
    rows = material.all.filter(COMPETES & layered)
    yield Heading("Layers", 2)
    if rows.is_empty():
        yield Paragraph("No method with a layer was tried with the cosine.")
        return
    names = _by_depth(rows)
    yield Paragraph(
        f"Mean ROC AUC over the worlds, objective cosine, and in brackets the share at"
        f" {budget_text(material.shown.budget)}."
    )
    lines = []
    tops = []
    for part in rows.partition_by("method", maintain_order=True):
        means = {
            layer: own.select("truth_auc", "truth_share").mean().row(0)
            for (layer,), own in part.group_by("layer", maintain_order=True)
        }
        lines.append([part["method"][0], *(_pair(means.get(layer)) for layer in names)])
        tops.append(f"{part['method'][0]} at {max(means, key=lambda layer: means[layer][0])}")
    yield plain_table(["", *names], lines)
    yield Paragraph(f"Largest ROC AUC: {', '.join(tops)}.")


def _by_depth(rows: pl.DataFrame) -> list[str]:
    """The layers of some rows, shallow to deep."""
    depth = {row["layer"]: layer_order(row) for row in rows.to_dicts() if row["layer"]}
    return sorted(depth, key=lambda layer: depth[layer])


def _pair(pair: tuple[float, float] | None) -> str:
    """A figure and in brackets another; a method need not have every layer, loss and budget."""
    return NOTHING if pair is None else f"{number(pair[0])} ({number(pair[1])})"


def _losses(material: Material) -> Iterator[Block]:
    rows = material.all.filter(COMPETES & pl.col("objective").is_not_null())
    yield Heading("Losses", 2)
    names = rows["objective"].unique(maintain_order=True).to_list()
    if len(names) < 2:
        yield Paragraph("One objective was tried.")
        return
    means = rows.group_by("method", "objective", maintain_order=True).agg(
        pl.col("truth_auc").mean(), pl.col("truth_share").mean()
    )
    cells = {(method, name): (auc, share) for method, name, auc, share in means.rows()}
    yield Paragraph(
        "Mean over layers and worlds: ROC AUC, and in brackets the share at"
        f" {budget_text(material.shown.budget)}."
    )
    yield plain_table(
        ["", *names],
        [
            [method, *(_pair(cells.get((method, name))) for name in names)]
            for method in dict.fromkeys(key[0] for key in cells)
        ],
    )
    yield Paragraph(_parallel(rows))


def _parallel(rows: pl.DataFrame) -> str:
    """How far the objectives that are functions of the angle differ, for each method."""
    angle = rows.filter(pl.col("objective").str.split("(").list.first().is_in(PARALLEL))
    spread_ = angle.group_by("source", "method", "layer").agg(
        gap=pl.col("truth_auc").max() - pl.col("truth_auc").min()
    )
    gaps = spread_.group_by("method", maintain_order=True).agg(pl.col("gap").max()).sort("method")
    words = ", ".join(f"{row['method']} {number(row['gap'], 4)}" for row in gaps.to_dicts())
    return (
        "Cosine, l2 and ArcFace are functions of the same angle, so their gradients are parallel;"
        f" the largest difference in ROC AUC between them, at any layer of any world: {words}."
    )


# --- budgets, degenerate maps, hiding -------------------------------------------------------------


def _budgets(material: Material) -> Iterator[Block]:
    settings = pl.concat(list(material.fixed.values())).select("faces", *_SETTING)
    slices = material.results.filter(
        pl.col("control").is_null(), fill=material.shown.fill, split=material.shown.split
    )
    keys = ["faces", *_SETTING]
    rows = slices.join(settings, on=keys, how="semi", nulls_equal=True)
    means = rows.group_by(*keys, "budget", maintain_order=True).agg(
        pl.col("truth_share", "truth_share_best", "truth_chance").mean()
    )
    gained = (pl.col("truth_share") - pl.col("truth_chance")) / (
        pl.col("truth_share_best") - pl.col("truth_chance")
    )
    table = (
        means.with_columns(gained=gained)
        .group_by(*_SETTING, "budget")
        .agg(pl.col("gained").mean(), pl.col("truth_share").mean())
    )
    budgets = sorted(table["budget"].unique())
    cells = {
        (row["method"], row["options"], row["budget"]): (row["gained"], row["truth_share"])
        for row in table.to_dicts()
    }
    names = {(row["method"], row["options"]): row for row in table.to_dicts()}
    yield Heading("Budgets", 2)
    yield Paragraph(
        "How much of the way from chance (0) to the best mask of that size (1) a method's mask"
        " goes, mean over worlds, and in brackets its share in the part."
    )
    least = budgets[0]
    ranked = sorted(names, key=lambda name: -cells.get((*name, least), (-math.inf, 0.0))[0])
    lines = [
        [_label(names[name]), *(_pair(cells.get((*name, budget))) for budget in budgets)]
        for name in ranked
    ]
    yield plain_table(["", *(budget_text(budget) for budget in budgets)], lines)


def _degenerate(material: Material) -> Iterator[Block]:
    rows = _plain(material.all)
    flat = rows.filter((pl.col("degenerate_share") > 0) | (pl.col("maps_degenerate_share") > 0))
    yield Heading("Degenerate maps", 2)
    nobody = rows.filter(pl.col("degenerate_share") > 0).height
    yield Paragraph(
        f"Of {rows.height} configurations (objective cosine, or none) {flat.height} have pair maps"
        f" that are flat or not finite (left out of a person's mean map), and {nobody} leave people"
        " without any map, who score chance."
    )
    if flat.is_empty():
        return
    keys = ["faces", "source", *_SETTING]
    mapped = (
        material.shown.of(material.results)
        .filter(~pl.col("degenerate"))
        .group_by(*keys)
        .agg(mapped_auc=pl.col("truth_auc").mean())
    )
    worst = (
        flat.join(mapped, on=keys, how="left", nulls_equal=True)
        .sort("degenerate_share", "maps_degenerate_share", descending=True, maintain_order=True)
        .head(FLATTEST)
    )
    yield Paragraph(f"The {worst.height} with most:")
    yield plain_table(
        ["", "world", "flat pair maps", "people without map", "ROC AUC", "of those with a map"],
        [
            [
                _label(row),
                row["faces"].removeprefix("synthetic-"),
                percent(row["maps_degenerate_share"]),
                percent(row["degenerate_share"]),
                number(row["truth_auc"]),
                number(row["mapped_auc"]),
            ]
            for row in worst.to_dicts()
        ],
    )


def _hiding(material: Material) -> Iterator[Block]:
    yield Heading("Does hiding rank methods in the same order?", 2)
    yield Paragraph(
        "Spearman's rank correlation over configurations (objective cosine, or none) between how"
        " well they find the planted part and how much hiding their masks takes, with 95 %"
        f" intervals over people; {material.shown}. A value of 1 means that hiding"
        " ranks the methods as the planted part does."
    )
    agreements = material.agreements
    headings = [
        f"{SCORES[score]} / {'cosine' if cosine else 'recognition'}" for score, cosine in agreements
    ]
    lines = [
        [world, str(_plain(rows).height), *(rhos[index].text() for rhos in agreements.values())]
        for index, (world, rows) in enumerate(material.by_world.items())
    ]
    yield plain_table(["world", "n", *headings], lines)
    sentences = []
    for heading, rhos in zip(headings, agreements.values(), strict=True):
        sure = sum(rho.low > 0 for rho in rhos)
        against = sum(rho.high < 0 for rho in rhos)
        sentences.append(
            f"{heading}: agree in {sure} of {len(lines)} worlds (interval above 0), disagree in"
            f" {against} (below 0)."
        )
    yield Listing(sentences)


# --- pictures and provenance ----------------------------------------------------------------------


def _pictures(run: Path, material: Material, folder: Path) -> list[Block]:
    """Draw the pictures; returns the blocks that show those of people."""
    folder.mkdir(parents=True, exist_ok=True)
    methods = folder / f"{material.name}-methods.png"
    figures.save(truth_figures.bars(material.fixed, width=WIDTH), methods)
    named = [world for world in PICTURED if world in material.fixed]
    pictured = named or list(material.fixed)[:2]
    blocks: list[Block] = [Heading("Some maps", 2)]
    for run_folder in run_folders(run):
        gallery = read_gallery(run_folder, _faces(run_folder))
        if gallery is None or not gallery.planted:
            continue
        world = str(gallery.rows["faces"][0]).removeprefix("synthetic-")
        if world not in pictured:
            continue
        rows = material.fixed[world].filter(COMPETES)
        people = spread(list(gallery.planted), SHOWN)
        drawn = truth_figures.maps(
            [truth_figures.line(gallery, who, rows) for who in people], width=WIDTH
        )
        name = re.sub(r"[^\w.-]", "_", world)
        drawing = f"{material.name}-maps-{name}.png"
        figures.save(drawn, folder / drawing)
        blocks += [
            Paragraph(
                f"World '{world}'. Outlined: the planted part. The faces are drawn; they are"
                " nobody's."
            ),
            Picture((f"images/{drawing}", 0, 0), f"Maps in world {world}"),
        ]
    return blocks if len(blocks) > 1 else []


def _faces(run: Path) -> FaceSet | None:
    """The drawn faces of a run where they still are."""
    folder = recorded_faces(run)
    try:
        return None if folder is None else open_faceset(folder)
    except UserError:
        return None


def _provenance(run: Path) -> list[Block]:
    """Versions, seeds, passes."""
    records = []
    for folder in run_folders(run):
        path = folder / "provenance.json"
        if path.is_file():
            record = json.loads(path.read_bytes())
            faces, passes = record["faces"]["hash"][:16], sum(record["passes"].values())
            records.append(
                f"{folder.name}: facefocus {record['facefocus']}, faces {faces},"
                f" {record['identities']} people, {passes} passes, finished {record['finished']}."
            )
    return [Heading("Provenance", 2), Listing(records)]
