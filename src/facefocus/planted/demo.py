"""``facefocus demo``: the main job on drawn faces and embedded recognizers, from nothing to a page.

It is an ordinary experiment with two variants (``experiments/demo.toml`` in the package): `all`
for white box and transfer, and one with planted truth. Each is a run folder of its own under the
demo's; the page is of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.labels import place_label
from facefocus.analysis.results import read_results
from facefocus.analysis.standing import standing_of
from facefocus.analysis.summary import Row, drops, summarize
from facefocus.benchmark.result_columns import COMPETES
from facefocus.benchmark.result_slices import default_slice, default_slices
from facefocus.benchmark.run import run_experiment
from facefocus.core.files import any_path
from facefocus.core.locations import StoreAddress
from facefocus.core.progress import Progress, silent
from facefocus.core.text import number, percent
from facefocus.planted.truth import (
    agreement,
    best_of_methods,
    blind,
    rival,
    truth_summary,
    worlds,
)
from facefocus.report.columns import interval
from facefocus.report.document import Table, plain_table
from facefocus.report.page import write_report

#: Said of the perturbation methods, whose masks the demo has fewer of than were published.
FEWER = "s-rise and corr-rise have {masks} masks here (published: 1000 and 500): rougher maps."


#: Whose maps a drop is by.
_WHOSE = ("own maps", "others' maps")


@any_path
def run_demo(
    out: Path,
    *,
    file: Path | None = None,
    backend: str = "auto",
    store: StoreAddress | None = None,
    progress: Progress = silent,
) -> Path:
    """Run the demo, or the rest of it, in the folder `out`; returns the page's path.

    Args:
        out: Run folders, drawn faces and the page go here.
        file: Another experiment of the same form than the package's own.
        backend: As for `workflow.run_experiment`.
        store: As for `workflow.run_experiment`.
        progress: As for `workflow.run_experiment`.

    Raises:
        UserError: The folder cannot be written.
    """
    own = files(__package__) / "experiments" / "demo.toml"
    with as_file(own) as shipped:
        run_experiment(
            file or shipped,
            out=out,
            store=store,
            backend=backend,
            made=out / "faces",
            progress=progress,
        )
    # These faces are nobody's, so they can be shown.
    return write_report(out, with_faces=True)


def outcome(run: Path) -> tuple[Table, list[str]]:
    """What the demo found: a small table, and what it means.

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
    strongest = {
        str(one): _strongest(
            one.of(summary).filter(pl.col("faces") == planted["faces"][0]), results
        )
        for one in default_slices(summary)
    }
    return table, [*_notes(rows), meaning(results, world, planted, strongest)]


def _mean_drop(results: pl.DataFrame, across: pl.DataFrame, row: Row, own: bool) -> str:
    """Mean drop by a method's maps at that layer, on their own recognizer or on the others.

    Over people; of each person the mean over recognizers.
    """
    same = [pl.col(name).eq_missing(pl.lit(row[name])) for name in ("method", "options", "layer")]
    met = (pl.col("source") == pl.col("target")) == own
    # Random pixels have no recognizer of their own.
    found = across.filter(*same, met if row["source"] is not None else pl.lit(own))
    if found.is_empty():
        return ""
    return number(float(np.nanmean(drops(results, found).mean(axis=0))))


def _notes(rows: pl.DataFrame) -> Iterator[str]:
    found = rows.filter(pl.col("method").is_in(["s-rise", "corr-rise"])).sort("method")
    masks = [
        dict(part.split("=") for part in text.split())["masks"]
        for text in found["options"].unique(maintain_order=True)[::-1]
    ]
    if masks:
        yield FEWER.format(masks=" and ".join(masks))


def meaning(
    results: pl.DataFrame, world: str, planted: pl.DataFrame, strongest: Mapping[str, str]
) -> str:
    """One sentence: who finds what is planted, who does not, and whether hiding tells the same.

    `strongest` says for each reading, by its slice in words, who takes most recognition.
    """
    methods = planted.filter(COMPETES)
    best = best_of_methods(methods).to_dicts()
    lost = blind(methods)
    top = next((row for row in best if row["method"] not in lost), best[0])
    tied = rival(top, methods, results)
    best_ = "best " if tied is None else f"as {place_label(tied, [])} does "
    who = (
        f"{place_label(top, [])} finds the {world}, where identity was planted, {best_}(ROC AUC"
        f" {number(top['truth_auc'])}, chance 0.5)"
        if top["method"] not in lost
        else f"no method is shown to find the {world}, where identity was planted"
    )
    none = (
        f", {' and '.join(lost)} not better than chance"
        if lost and top["method"] not in lost
        else ""
    )
    rho = agreement(results, methods, cosine=True, score="truth_share")
    taken = "; ".join(f"with {shown}, {words}" for shown, words in strongest.items())
    alike = (
        "order methods alike"
        if rho.low > 0
        else "order methods against each other"
        if rho.high < 0
        else "are not shown to order methods alike"
    )
    return (
        f"What it means: {who}{none}; {taken}; how"
        f" much of a mask lies in the {world} and the similarity it takes {alike} (Spearman's rho"
        f" {rho.text()})."
    )


def _strongest(rows: pl.DataFrame, results: pl.DataFrame) -> str:
    """Who takes most recognition, if anybody is shown to."""
    found = standing_of(rows, results)
    if found is None:
        return "no method has a score"

    def change(row: Row) -> str:
        return f"{number(row['clean_rate'])} to {number(row['rate'])}"

    top = f"{place_label(found.top, [])} ({change(found.top)})"
    if found.below_random and found.random is not None:
        return f"random pixels ({change(found.random)}) take as much recognition as {top} or more"
    if found.wins:
        return f"{top} takes most recognition"
    return f"no method is shown to take most recognition; at most, {top} does"
