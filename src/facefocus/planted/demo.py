"""``facefocus demo``: the main job on drawn faces and embedded recognizers, from nothing to a page.

It is an ordinary experiment with two variants (``experiments/demo.toml`` in the package): `all`
for white box and transfer, and one with planted truth. Each is a run folder of its own under the
demo's; the page is of both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label
from facefocus.analysis.results import read_results
from facefocus.analysis.standing import standing_of
from facefocus.analysis.summary import Row, drops, summarize
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import load_variants
from facefocus.benchmark.result_columns import COMPETES, RANDOM
from facefocus.benchmark.result_slices import default_slice, default_slices
from facefocus.benchmark.run import open_sessions, persist, run_experiment
from facefocus.benchmark.run_log import RunLog, Spent
from facefocus.benchmark.session import Session, is_degenerate
from facefocus.core.files import any_path, writing
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress, silent
from facefocus.core.text import budget_text, number, percent
from facefocus.planted import truth_figures
from facefocus.planted.truth import (
    agreement,
    best_of_methods,
    blind,
    rival,
    truth_summary,
    worlds,
)
from facefocus.planted.truth_figures import Line
from facefocus.report.columns import interval
from facefocus.report.document import Table, plain_table
from facefocus.report.figures import save
from facefocus.report.page import write_report

#: The first picture, in the demo's folder.
PICTURE = "first-maps.png"

#: Said of the perturbation methods, whose masks the demo has fewer of than were published.
FEWER = "s-rise and corr-rise have {masks} masks here (published: 1000 and 500): rougher maps."


#: Whose maps a drop is by.
_WHOSE = ("own maps", "others' maps")


@any_path
def first_picture(
    out: Path,
    *,
    file: Path | None = None,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
    began: float | None = None,
) -> Path:
    """Maps of one person by the demo's first methods, seconds after the start; returns the PNG.

    The run finds these maps in the store: they are made once.

    Args:
        out: As for `run_demo`, and so the others.
        file: Likewise.
        backend: Likewise.
        store: Likewise.
        progress: Likewise.
        began: When the program was started (`time.time`), for the log.

    Raises:
        UserError: The folder cannot be written.
    """
    start = {} if began is None else {"start": Spent(time.time() - began, time.process_time())}
    with _experiment_file(file) as experiment_file:
        variant, experiment = next(iter(load_variants(experiment_file)[1].items()))
    first = experiment.model_copy(update={"saliency": experiment.saliency[:1]})
    made = out / "faces"
    _, sessions = open_sessions(
        first, out=out / variant, store=store, backend=backend, made=made, progress=progress
    )

    with writing(out):
        (out / variant).mkdir(parents=True, exist_ok=True)
    run_log = RunLog(out / variant)
    run_log.write("start")
    for part, spent in (start | sessions[""].opening).items():
        run_log.spent(part, spent)

    def work(session: Session) -> Line:
        execute(session, None, progress, run_log, stages=("maps",))
        return _first_line(session)

    line = persist(sessions[""], work)
    with run_log.timed("picture"):
        save(truth_figures.maps([line], width=7.6), out / PICTURE)
    run_log.write("finish")
    return out / PICTURE


def _first_line(session: Session) -> Line:
    """The first person's photo and maps, and where identity is planted."""
    block = session.plan.blocks[0]
    rows = block.people[0].rows
    planted = session.planted or {}
    tiles = []
    for output in session.plan.planned["maps"][block.index]:
        made = session.store.load(output.key)
        layer = f"\nlayer {output.spec.layer}" if output.spec.layer else ""
        shown = None if is_degenerate(made, 0) else made["maps"][0]
        tiles.append((f"{output.spec.label}{layer}", shown))
    where = np.any([masks[rows] for masks in planted.values()], axis=0).mean(axis=0)
    return Line(where, np.asarray(session.faces.frames[rows[0]]), tiles)


@any_path
def run_demo(
    out: Path,
    *,
    file: Path | None = None,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> Path:
    """Run the demo, or the rest of it, in the folder `out`; returns the path of its runs' page.

    Args:
        out: Run folders, drawn faces and the page go here.
        file: Another experiment of the same form than the package's own.
        backend: As for `workflow.run_experiment`.
        store: As for `workflow.run_experiment`.
        progress: As for `workflow.run_experiment`.

    Raises:
        UserError: The folder cannot be written.
    """
    with _experiment_file(file) as experiment_file:
        run_experiment(
            experiment_file,
            out=out,
            store=store,
            backend=backend,
            made=out / "faces",
            progress=progress,
        )
    # These faces are nobody's, so they can be shown.
    return write_report(out, with_faces=True)


def _experiment_file(file: Path | None) -> AbstractContextManager[Path]:
    own = files(__package__) / "experiments" / "demo.toml"
    return as_file(own) if file is None else nullcontext(file)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the demo found.

    Attributes:
        world: In which it is known what a map must find; the name of its run folder.
        finding: In one sentence.
        sentences: What else it means, and what to know before any of it is believed.
        truth: Who finds what is planted.
        ranking: Whose masks take most recognition.
    """

    world: str
    finding: str
    sentences: Sequence[str]
    truth: Table
    ranking: Table


def outcome(run: Path) -> Outcome:
    """What the demo found.

    Args:
        run: The demo's folder.

    Raises:
        UserError: It has no results yet.
    """
    results = read_results(run)
    summary = summarize(results)
    shown = default_slice(summary)
    rows = shown.of(summary)
    (world, planted), *others = worlds(truth_summary(results, rows))
    best = best_of_methods(planted).to_dicts()
    columns = {
        "Method @ layer": [*(place_label(row, []) for row in best), "chance", "best possible"],
        f"Finds the {world}:\nROC AUC": [
            *(interval(row, "truth_auc") for row in best),
            number(0.5),
            number(best[0]["truth_auc_best"]),
        ],
        f"Hidden in\nthe {world}": [
            percent(share, 0)
            for share in (
                *(row["truth_share"] for row in best),
                best[0]["truth_chance"],
                best[0]["truth_share_best"],
            )
        ],
        f"Drop,\nworld '{world}'": [*(number(row["drop"]) for row in best), "", ""],
    }
    for other, part in others:
        across = rows.filter(pl.col("faces") == part["faces"][0])
        for whose, own in zip(_WHOSE, (True, False), strict=True):
            drops_of = (_mean_drop(results, across, row, own) for row in best)
            columns[f"Drop, world '{other}',\n{whose}"] = [*drops_of, "", ""]
    table = plain_table(list(columns), list(zip(*columns.values(), strict=True)), f"Hiding {shown}")
    of_world = summary.filter(pl.col("faces") == planted["faces"][0])
    strongest = {
        str(setting): _strongest(setting.of(of_world), results)
        for setting in default_slices(summary)
    }
    return Outcome(
        world,
        finding(results, world, planted),
        [_size(results), *_notes(rows), *meaning(results, planted, world, strongest)],
        table,
        _ranking(of_world, world),
    )


def _ranking(summary: pl.DataFrame, world: str) -> Table:
    """Of each method, at the layer where it takes most, what its masks leave of recognition."""
    shown = default_slices(summary)
    best: dict[str, list[Row]] = {}
    for setting in shown:
        ranked = setting.of(summary).sort("rate", maintain_order=True)
        for row in ranked.unique("method", keep="first", maintain_order=True).to_dicts():
            best.setdefault(row["method"], []).append(row)
    rows = [
        [method, *(_left(row) for row in best_rows)]
        for method, best_rows in sorted(best.items(), key=lambda item: item[1][0]["rate"])
    ]
    headings = ["Method", *(f"Recognition left,\n{setting.filled}" for setting in shown)]
    caption = f"Hiding {budget_text(shown[0].budget)} of the pixels, world '{world}'"
    return plain_table(headings, rows, caption)


def _left(row: Row) -> str:
    layer = f"@ {row['layer']}: " if row["layer"] else ""
    return f"{layer}{interval(row, 'rate')}"


def finding(results: pl.DataFrame, world: str, planted: pl.DataFrame) -> str:
    """One sentence: who finds what is planted, and whether hiding it takes recognition."""
    who, top = _who(results, world, planted)
    random = planted.filter(pl.col("method") == RANDOM).head(1).to_dicts()
    beside = f", as many random pixels to {number(random[0]['rate'])}" if random else ""
    return (
        f"{who}; hiding the {budget_text(top['budget'])} of pixels that {place_label(top, [])}"
        f" ranks highest takes recognition from {number(top['clean_rate'])} to"
        f" {number(top['rate'])}{beside}."
    )


def _who(results: pl.DataFrame, world: str, planted: pl.DataFrame) -> tuple[str, Row]:
    """Who finds what is planted, in words, and the best map's row."""
    methods = planted.filter(COMPETES)
    best = best_of_methods(methods).to_dicts()
    lost = blind(methods)
    top = next((row for row in best if row["method"] not in lost), best[0])
    if top["method"] in lost:
        return f"No method is shown to find the {world}, where identity was planted", top
    tied = rival(top, methods, results)
    best_ = "best " if tied is None else f"as {place_label(tied, [])} does "
    none = f", {' and '.join(lost)} not better than chance" if lost else ""
    return (
        f"{place_label(top, [])} finds the {world}, where identity was planted, {best_}(ROC AUC"
        f" {number(top['truth_auc'])}, chance 0.5){none}"
    ), top


def _size(results: pl.DataFrame) -> str:
    """How small the demo is."""
    worlds_, people = results["faces"].n_unique(), results["identity"].n_unique()
    photos = results["images"].to_numpy().max()
    return f"{people} people of each of {worlds_} worlds, {photos} photos each: intervals are wide."


def _mean_drop(results: pl.DataFrame, across: pl.DataFrame, row: Row, own: bool) -> str:
    """Mean drop by a method's maps at that layer, on their own recognizer or on the others.

    Over people; of each person the mean over recognizers.
    """
    same = [pl.col(name).eq_missing(pl.lit(row[name])) for name in ("method", "options", "layer")]
    met = (pl.col("source") == pl.col("target")) == own
    # Random pixels have no recognizer of their own.
    configurations = across.filter(*same, met if row["source"] is not None else pl.lit(own))
    if configurations.is_empty():
        return ""
    return number(float(np.nanmean(drops(results, configurations).mean(axis=0))))


def _notes(rows: pl.DataFrame) -> Iterator[str]:
    rise_rows = rows.filter(pl.col("method").is_in(["s-rise", "corr-rise"])).sort("method")
    masks = [
        dict(part.split("=") for part in text.split())["masks"]
        for text in rise_rows["options"].unique(maintain_order=True)[::-1]
    ]
    if masks:
        yield FEWER.format(masks=" and ".join(masks))


def meaning(
    results: pl.DataFrame, planted: pl.DataFrame, world: str, strongest: Mapping[str, str]
) -> Iterator[str]:
    """Who takes most recognition, and whether hiding tells the same as what is planted.

    `strongest` says for each reading, by its slice in words, who takes most recognition.
    """
    for shown, words in strongest.items():
        yield f"With {shown}, {words}."
    rho = agreement(results, planted.filter(COMPETES), cosine=True, score="truth_share")
    alike = (
        "order methods alike"
        if rho.low > 0
        else "order methods against each other"
        if rho.high < 0
        else "are not shown to order methods alike"
    )
    yield (
        f"How much of a mask lies in the {world} and the similarity it takes {alike} (Spearman's"
        f" rho {rho.text()})."
    )


def _strongest(rows: pl.DataFrame, results: pl.DataFrame) -> str:
    """Who takes most recognition, if anybody is shown to."""
    standing = standing_of(rows, results)
    if standing is None:
        return "no method has a score"

    def change(row: Row) -> str:
        return f"{number(row['clean_rate'])} to {number(row['rate'])}"

    top = f"{place_label(standing.top, [])} ({change(standing.top)})"
    if standing.below_random and standing.random is not None:
        return (
            f"random pixels ({change(standing.random)}) take as much recognition as {top} or more"
        )
    if standing.wins:
        return f"{top} takes most recognition"
    return f"no method is shown to take most recognition; at most, {top} does"
