"""``python -m benchmarks.explorer``: the page of a fabricated run of the paper's full size.

Seven recognizers with maps of each other, three data sets, 5 methods, 13 layers, 7 losses, 6
budgets, 5 fills, same and held-out photos, controls: about a million summary rows. The summary is
made up as a table, not computed: a thousand million result rows would be the run's work, not the
page's. The results hold what the people view reads: 1,680 people under the named configurations.
Prints the time of the page, its peak memory and size, and what Chromium takes to open it and to
follow a selector.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from facefocus.analysis.summary import summarize
from facefocus.report.page import explorer
from facefocus.report.report_data import Report
from tests.report.fabricated import PROVENANCE, add_gallery, row, table, write_run

NETS = tuple(f"recognizer-{number}" for number in range(1, 8))
SETS = ("lfw", "celeba", "vggface2")
METHODS = ("grad-cam", "grad-cam++", "layer-cam", "hires-cam", "eigen-cam")
LAYERS = tuple(str(4 * number + 1) for number in range(13))
LOSSES = ("cosine", "arcface", "triplet", "l2", "softmax", "contrastive", "logit")
BUDGETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
FILLS = ("black", "white", "mean", "random", "inpaint")
PEOPLE = 1680


def results() -> pl.DataFrame:
    """Result rows of 1,680 people: 14 configurations of the first recognizer on the first set."""
    draw = np.random.default_rng(1)
    names = [f"Person_{number:04}" for number in range(PEOPLE)]
    clean = np.clip(1 - draw.gamma(0.6, 0.06, PEOPLE), 0.4, 1)
    shown = [(method, layer) for method in METHODS for layer in (LAYERS[0], LAYERS[6])]
    rows = []
    for (method, layer), budget, fill in product(
        [*shown, ("random", None)], (0.01, 0.05), ("black", "inpaint")
    ):
        lost = draw.gamma(2.0, 0.08, PEOPLE)
        rows += [
            row(method=method, layer=layer, source=NETS[0] if layer else None, target=NETS[0],
                faces=SETS[0], budget=budget, fill=fill, identity=name, clean_rate=before,
                rate=max(0.0, before - less), experiment="full")
            for name, before, less in zip(names, clean.tolist(), lost.tolist(), strict=True)
        ]  # fmt: skip
    return table(rows)


def summary(some: pl.DataFrame) -> pl.DataFrame:
    """About a million rows with the columns of `some`: every figure that a page shows is filled."""
    draw = np.random.default_rng(2)
    keys = pl.DataFrame(
        list(product(SETS, NETS, ("same", "heldout"), FILLS, BUDGETS)),
        schema=["faces", "target", "split", "fill", "budget"], orient="row",
    )  # fmt: skip
    own = list(product(METHODS, LAYERS, LOSSES))
    maps = [(net, *parts) for net in NETS for parts in own]
    made = pl.DataFrame(maps, schema=["source", "method", "layer", "objective"], orient="row")
    # Every recognizer's maps on itself, and a sixth of the layers and losses on the others.
    rows = keys.join(made, how="cross").filter(
        (pl.col("source") == pl.col("target"))
        | (pl.col("layer").is_in(LAYERS[::2]) & pl.col("objective").is_in(LOSSES[:3]))
    )
    base = some.filter(pl.col("source").is_not_null()).head(1)
    rows = rows.join(base.drop(rows.columns), how="cross")
    reading = pl.when(pl.col("fill") == "inpaint").then(pl.lit("information"))
    rows = rows.with_columns(reading=reading.otherwise(pl.lit("artefact")))
    clean = draw.uniform(0.9, 1.0, rows.height)
    # The configurations of which there are people come first, so that the page names them.
    with_people = rows.select(
        (pl.col("source") == NETS[0]) & (pl.col("target") == NETS[0])
        & pl.col("layer").is_in((LAYERS[0], LAYERS[6])) & (pl.col("objective") == LOSSES[0])
    ).to_series()  # fmt: skip
    drop = np.where(with_people, 0.9, draw.beta(2, 5, rows.height))
    figures = {"clean_rate": clean, "clean_cosine": 0.6 * clean, "rate": clean - drop, "drop": drop,
               "cosine": 0.6 - 0.5 * drop, "excess": drop / 2, "specificity": drop / 4,
               "oracle_share": drop, "heldout_drop": 0.9 * drop,
               "beyond_random": drop / 3}  # fmt: skip
    for name, values in figures.items():
        width = draw.uniform(0.01, 0.05, rows.height)
        rows = rows.with_columns(
            pl.Series(name, values), pl.Series(f"{name}_low", values - width),
            pl.Series(f"{name}_high", values + width),
        )  # fmt: skip
    return rows.select(some.columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("explorer-benchmark"))
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    few = results()
    rows = summary(summarize(few))
    run = write_run(asked.out / "run", few, PROVENANCE)
    add_gallery(run, [f"Person_{number:04}" for number in range(200)])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    page = asked.out / "page" / "index.html"
    page.parent.mkdir()
    report = Report(run, few, PROVENANCE, "", page.parent, summarized=rows)
    page.write_text(explorer([report], page.parent), encoding="utf-8")
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"rows {rows.height}; people {PEOPLE}; page {taken:.0f} s ({processor:.0f} s of processor)"
    )
    print(f"peak {after.ru_maxrss / 2**20:.2f} GiB; folder {size / 1e6:.1f} MB")
    open_in_browser(page)


def open_in_browser(page: Path) -> None:
    """Time to the first screen, and of a selector's change, in headless Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page()
        start = time.perf_counter()
        shown.goto(page.resolve().as_uri())
        shown.wait_for_selector("body[data-drawn]", state="attached")
        print(f"first screen {time.perf_counter() - start:.2f} s")
        for name, value in (
            ("fill", "inpaint"),
            ("budget", "0.05"),
            ("target", NETS[3]),
            ("score", "excess"),
        ):
            for again in (False, True):
                took = shown.evaluate(_CHANGE, [f"select-{name}", value])
                print(f"{name} = {value}: {took:.0f} ms{' (again)' if again else ''}")
                if not again:
                    shown.evaluate(_CHANGE, [f"select-{name}", None])
        browser.close()


#: Changes a selector, and waits until everything that follows it is drawn; milliseconds.
_CHANGE = """async ([id, value]) => {
  const select = document.getElementById(id), before = document.body.dataset.drawn;
  const start = performance.now();
  select.value = value ?? select.options[0].value;
  select.dispatchEvent(new Event("change"));
  while (document.body.dataset.drawn === before) await new Promise((go) => setTimeout(go, 2));
  return performance.now() - start;
}"""

if __name__ == "__main__":
    main()
