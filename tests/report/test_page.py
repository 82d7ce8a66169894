"""The page: complete, escaped, without network, and without a face unless asked for."""

from __future__ import annotations

import base64
import errno
import io
import json
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy import stats

from facefocus.analysis.results import run_notes
from facefocus.analysis.summary import summarize
from facefocus.cli.console import print_summary
from facefocus.core.errors import UserError
from facefocus.core.text import number
from facefocus.faces.faceset import FaceSet, IndexRow, open_faceset, write_faceset
from facefocus.paper.study_page import write_study_report
from facefocus.report import explorer_files, packed_tables
from facefocus.report import page as page_module
from facefocus.report.page import write_report, write_reports
from facefocus.report.people_groups import groups_from_file
from facefocus.report.report_data import Report, tile_rows
from facefocus.report.run_result import Results
from facefocus.report.section_registry import PageSection
from tests.conftest import Command
from tests.report.fabricated import (
    NETS,
    PROVENANCE,
    add_gallery,
    large,
    realistic,
    row,
    table,
    write_run,
)
from tests.report.page_files import Packed, read_packed, read_page

PEOPLE = ("Ada", "Bo", "Cy", "Di", "Ed", "Fe")
#: A color no color map, font or outline makes.
SKIN = (255, 0, 200)


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def small() -> pl.DataFrame:
    """Six people, two methods, two budgets, two fills, random pixels."""
    return table(
        row(
            identity=name,
            method=method,
            budget=budget,
            fill=fill,
            rate=rate + (0.02 * (number % 3) - 0.02) * (method == "layer-cam"),
        )
        for number, name in enumerate(PEOPLE)
        for method, rate in (("grad-cam", 0.75), ("layer-cam", 0.5), ("random", 0.875))
        for budget in (0.01, 0.03)
        for fill in ("black", "white")
    )


def make_faces(folder: Path) -> str:
    """A face set whose every pixel has the planted color; returns its hash."""
    folder.mkdir()
    frames = [np.full((112, 112, 3), SKIN, dtype=np.uint8) for _ in PEOPLE]
    rows = [IndexRow(identity=name, name=f"{name}_0001", path=name) for name in PEOPLE]
    write_faceset(folder, title="lfw", rows=rows, frames=frames, size=(112, 112))
    return open_faceset(folder).hash


def with_face_set(tmp_path: Path, **changes: Any) -> Path:
    faces = {"title": "lfw", "hash": make_faces(tmp_path / "set"), "path": str(tmp_path / "set")}
    run = write_run(tmp_path / "run", small(), PROVENANCE | {"faces": faces | changes})
    add_gallery(run, PEOPLE[:1])
    return run


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No charts: browsers have tests of their own, and the library takes seconds to bundle."""
    path = tmp_path_factory.mktemp("library") / "vega.js"
    path.write_text("")
    patch = pytest.MonkeyPatch()
    patch.setattr(explorer_files, "chart_library", lambda: path)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", small())
    add_gallery(folder, PEOPLE[:1])
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(run / "report" / "index.html")


def ids(page: Page) -> list[str | None]:
    return [section["id"] for section in page.all("section")]


def test_page_answers_first_and_has_its_views_in_the_readers_order(page: Page) -> None:
    assert "that layer-cam (layer N) ranks highest" in page.text
    assert "a drop of 0.500" in page.text
    assert ids(page) == [
        "leaderboard", "budgets", "fills", "people", "audit", "provenance",
    ]  # fmt: skip
    assert page.text.index("a drop of 0.500") < page.text.index("Masks keep to the budget")


def test_page_needs_nothing_from_outside_and_runs_no_text_as_code(run: Path, page: Page) -> None:
    addresses = [
        value
        for _, attributes in page.tags
        for name in ("src", "srcset", "href")
        if (value := attributes.get(name)) and not value.startswith("#")
    ]
    assert len(addresses) == 4
    assert all((run / "report" / address).is_file() for address in addresses)
    own = (run / "report" / "explorer.js").read_text() + (
        run / "report" / "explorer.css"
    ).read_text()
    assert not re.search(r"https?://|@import|url\(|innerHTML|eval\(|fetch\(", page.source + own)
    (policy,) = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv")]
    assert policy and "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", page.source)
    assert len((run / "report" / "explorer.js").read_text().splitlines()) <= 800


def test_charts_have_alt_texts_and_tables_headings(page: Page) -> None:
    plots = [tag for tag in page.all("div") if tag.get("class") == "plot"]
    assert len(plots) == 4  # first, budgets, fills, people
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 30 for plot in plots)
    assert len(page.all("table")) == len(page.all("caption")) == 1  # the audit's, of the budget
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


def shown(packed: Packed, name: str) -> list[str]:
    """The figures of a column as the page's script writes them."""
    return [number(value) for value in packed.table[name].to_list()]


def test_numbers_are_those_of_the_runs_table(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", realistic(7))
    write_report(run)
    board = read_packed(run / "report" / "data" / "board-0.js")
    summary = summarize(realistic(7))
    assert board.table.height == summary.height == 150
    for name in ("rate", "rate_low", "rate_high", "drop", "cosine", "cosine_low"):
        assert shown(board, name) == [number(value) for value in summary[name].to_list()]
    assert board.table["scored"].to_list() == summary["scored"].to_list()
    assert np.allclose(board.table["area_mean"], summary["area_mean"], atol=5e-5)


@pytest.mark.parametrize(
    "value", [0.0625, 0.0005, 0.1235, 0.12349999, 0.1234500001, -0.0005, -0.0625, 0.9995, 12.3455]
)
def test_a_figure_that_ends_in_a_five_is_rounded_as_everywhere(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "x.js"
    path.write_text(packed_tables.script("x", pl.DataFrame({"rate": [value, None]})))
    assert shown(read_packed(path), "rate") == [number(value), number(None)]


def test_what_is_near_a_sum_of_others_is_kept_by_the_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean, rate = rng.uniform(0.8, 1, 500), rng.uniform(0, 1, 500)
    width = rng.uniform(0, 0.2, 500)
    ends = {"rate_low": rate - width, "rate_high": rate + width + rng.uniform(0, 0.01, 500)}
    table = pl.DataFrame({"clean_rate": clean, "rate": rate, **ends, "drop": clean - rate})
    table = table.with_columns(pl.when(pl.col("rate") < 0.9).then(pl.col(*ends, "rate", "drop",
                                                                        "clean_rate")))  # fmt: skip
    (tmp_path / "x.js").write_text(packed_tables.script("x", table))
    back = read_packed(tmp_path / "x.js")
    for name in table.columns:
        assert shown(back, name) == [number(value) for value in table[name]]
    kept = {column["name"]: (column["bytes"], column["sum"]) for column in back.head["columns"]}
    assert kept == {
        "clean_rate": (2, {}), "rate": (2, {}), "rate_low": (2, {"rate": 1}),
        "rate_high": (1, {"rate": 2, "rate_low": -1}), "drop": (1, {"clean_rate": 1, "rate": -1}),
    }  # fmt: skip
    # A middle that is not there carries no end.
    bare = table.with_columns(rate=None).cast({"rate": pl.Float64})
    (tmp_path / "y.js").write_text(packed_tables.script("y", bare))
    assert shown(read_packed(tmp_path / "y.js"), "rate_low") == shown(back, "rate_low")


def test_packed_tables_come_back(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(300)]
    rows = pl.DataFrame({"identity": names, "budget": [0.01, 0.02] * 150, "n": range(300),
                         "layer": [None, "1"] * 150, "rate": [None] + [99.0] * 299})  # fmt: skip
    (tmp_path / "x.js").write_text(packed_tables.script("x", rows, arrays=b"abc", about=1))
    back = read_packed(tmp_path / "x.js")
    assert back.name == "x" and back.table.equals(rows) and back.rest == b"abc"
    assert back.head["about"] == 1
    sizes = {column["name"]: column["bytes"] for column in back.head["columns"]}
    assert sizes == {"identity": 2, "budget": 1, "n": 2, "layer": 1, "rate": 4}


def test_maps_and_masks_are_those_that_were_scored(run: Path) -> None:
    person = read_packed(run / "report" / "data" / "person-0-0.js")
    about = person.head["person"]
    assert about["identity"] == "Ada" and about["face"] is None
    with np.load(run / "gallery.npz") as arrays:
        maps, masks = arrays["maps"], arrays["masks"]
    rows = pl.read_parquet(run / "gallery.parquet")
    at, size = 0, about["map"][0] * about["map"][1]
    for tile in about["tiles"]:
        method, layer = tile["title"].split(", ")[0], tile["title"].split("layer ")[1]
        mine = rows.filter(method=method, layer=layer.split(",")[0])
        steps = np.frombuffer(person.rest, np.uint8, size, at).reshape(about["map"])
        grid = np.cumsum(steps, axis=1, dtype=np.uint8)
        assert grid.max() <= 63
        full = maps[mine["map"][0]].reshape(56, 2, 56, 2).mean((1, 3))
        assert tile["none"] or np.corrcoef(grid.ravel(), full.ravel())[0, 1] > 0.999
        at += size
        bits = np.zeros(112 * 112, np.uint8)
        for budget, pixels in zip(tile["budgets"], tile["pixels"], strict=True):
            packed = np.frombuffer(person.rest, np.uint8, 1568, at)
            bits ^= np.unpackbits(packed, bitorder="little")
            mask = masks[mine.filter(budget=budget)["index"][0]]
            assert (bits.reshape(112, 112) == mask).all() and pixels == mask.sum()
            at += 1568
    assert at == len(person.rest) and len(about["tiles"]) == 9


def test_provenance_and_experiment_are_there(page: Page) -> None:
    assert "ab12" * 16 in page.text and "2.13.0" in page.text
    assert 'title = "made-up"' in page.text


def test_same_run_same_bytes(run: Path, tmp_path: Path) -> None:
    again = write_run(tmp_path / "run", small())
    add_gallery(again, PEOPLE[:1])
    write_report(again)
    for path in sorted((run / "report").rglob("*.*")):
        other = again / "report" / path.relative_to(run / "report")
        assert other.read_bytes() == path.read_bytes(), path.name


# ------------------------------------------------------------------------------------- privacy


def shows_skin(report: Path) -> bool:
    """Whether any file has a picture with a pixel of the planted color."""
    assert not [path for path in report.rglob("*") if path.suffix in (".png", ".svg", ".jpg")]
    with_skin = False
    for path in sorted((report / "data").glob("person-*.js")):
        address = read_packed(path).head["person"]["face"]
        if address is not None:
            picture = base64.b64decode(address.removeprefix("data:image/png;base64,"))
            with Image.open(io.BytesIO(picture)) as image:
                with_skin |= bool((np.asarray(image.convert("RGB")) == SKIN).all(2).any())
    return with_skin


def test_without_faces_the_face_set_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise AssertionError("the face set was opened")

    run = with_face_set(tmp_path)
    monkeypatch.setattr(page_module, "open_faceset", refuse)
    page = Page(write_report(run))
    assert not shows_skin(run / "report")
    assert "This page shows faces" not in page.text


def test_with_faces_they_are_shown_and_a_later_page_without_removes_them(tmp_path: Path) -> None:
    run = with_face_set(tmp_path)
    page = Page(write_report(run, with_faces=True))
    assert shows_skin(run / "report") and "This page shows faces" in page.text
    write_report(run)
    assert not shows_skin(run / "report")
    assert sorted(path.name for path in run.iterdir()) == [
        "experiment.toml", "gallery.npz", "gallery.parquet", "provenance.json", "report",
        "results.parquet",
    ]  # fmt: skip


def test_other_faces_than_the_runs_are_refused(tmp_path: Path) -> None:
    run = with_face_set(tmp_path, hash="0" * 64)
    with pytest.raises(UserError, match=r"must be those of the run, with hash 0{64}\. Got '"):
        write_report(run, with_faces=True)
    assert not (run / "report").exists()


def test_face_set_that_moved_is_found_where_it_is_named(tmp_path: Path) -> None:
    run = with_face_set(tmp_path, path="/nowhere")
    with pytest.raises(UserError, match=r"must be a folder\. Got '/nowhere'"):
        write_report(run, with_faces=True)
    write_report(run, with_faces=True, faces_dir=tmp_path / "set")
    assert shows_skin(run / "report")


def test_faces_need_a_run_that_says_which(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small())
    (run / "provenance.json").write_text("{}")
    with pytest.raises(UserError, match="records its face set"):
        write_report(run, with_faces=True)


# ------------------------------------------------------------------------------------- odd runs


def test_hostile_names_are_text(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>$\\frac{$&"'
    rows = [row(identity=name, experiment=evil, target=evil, source=evil, fill=evil, method=evil,
                layer=evil, layer_calls=evil) for name in (evil, "Bo")]  # fmt: skip
    run = write_run(tmp_path / "run", table(rows), PROVENANCE | {evil: [evil, {evil: evil}]})
    add_gallery(run, [evil])
    page = Page(write_report(run))
    assert len(page.all("script")) == 3 and all(tag["src"] for tag in page.all("script"))
    assert evil in page.text
    assert read_packed(run / "report" / "data" / "board-0.js").table["method"][0] == evil
    described = read_page(run / "report" / "data" / "page.js")
    assert evil in described["looks"] and described["first"]["target"] == evil


def test_run_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no results.parquet; run 'facefocus run' first"):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["results.parquet", "provenance.json"])
def test_broken_file_is_named(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", small())
    (run / name).write_bytes(b"broken")
    with pytest.raises(UserError, match=f"{name}' cannot be read"):
        write_report(run)


def test_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "run", table([]))))
    assert "This run has no results" in page.text
    assert not page.all("section") and not page.all("nav")


def test_one_identity_has_no_intervals_and_no_spread(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "run", small().filter(identity="Ada"))))
    assert "(1 identity; fewer than 5 people: no interval)" in page.text
    assert "95 % interval" not in page.source.split('id="more"')[0]
    assert "strata" not in ids(page)


@pytest.mark.parametrize("kind", ["none", "skip"])
def test_method_without_a_map_for_anybody(tmp_path: Path, kind: str) -> None:
    score = {"rate": 1.0, "cosine": 0.6} if kind == "none" else {"rate": None, "cosine": None}
    rows = [row(identity=name, degenerate=True, on_degenerate=kind, maps_degenerate=12,
                masked_pixels=0.0, masked_share=0.0, **score) for name in PEOPLE]  # fmt: skip
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    assert "100\N{NO-BREAK SPACE}% of identities" in page.text
    assert "no method is shown to lower" in page.text or "no method has a score" in page.text


def test_a_run_that_is_not_finished_says_so_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two variants one has results."""
    done = write_run(tmp_path / "run" / "one", small())
    for name in ("one", "two"):
        (tmp_path / "run" / name).mkdir(exist_ok=True)
        (tmp_path / "run" / name / "run.json").write_text("{}")
    page = Page(write_report(tmp_path / "run"))
    note = "Not finished: two has no results yet."
    assert note in page.text
    assert page.text.index(note) < page.text.index("of pixels that layer-cam")
    print_summary(tmp_path / "run")
    assert capsys.readouterr().out.startswith(note)
    shutil.copy(done / "results.parquet", tmp_path / "run" / "two")
    assert run_notes(tmp_path / "run") == [] and run_notes(run) == []


def test_a_study_that_is_not_finished_names_the_runs_that_are_left(tmp_path: Path) -> None:
    (write_run(tmp_path / "rq1-lfw", small()) / "run.json").write_text("{}")
    record = {"name": "s", "missing": [], "runs": ["rq1-lfw", "rq2-lfw"]}
    (tmp_path / "study.json").write_text(json.dumps(record))
    page = Page(write_study_report(tmp_path))
    assert page.text.index("Not finished: rq2-lfw has no results yet") < page.text.index(
        "no winner"
    )


def test_inclusive_masks_are_warned_of_at_the_top(tmp_path: Path) -> None:
    rows = [row(identity=name, on_degenerate="inclusive") for name in PEOPLE]
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    assert page.text.index("flat map hides the whole face") < page.text.index("Leaderboard")


def test_run_without_a_record_has_a_page_without_provenance(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small())
    (run / "provenance.json").unlink()
    (run / "experiment.toml").unlink()
    assert "does not record what made it" in Page(write_report(run)).text


def test_failure_leaves_the_report_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", small())
    before = write_report(run).read_bytes()

    def fail(report: Report) -> None:
        raise MemoryError

    monkeypatch.setattr(page_module, "ordered_sections", lambda: [PageSection(fail, 1)])
    with pytest.raises(MemoryError):
        write_report(run)
    assert (run / "report" / "index.html").read_bytes() == before
    assert not list(run.glob(".report*"))


@pytest.mark.parametrize("limit", [20_000, 1_000])
def test_a_full_disk_is_one_line_and_leaves_the_report_that_was_there(
    limit: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may not grow over a limit, as on a disk that is full: at the table, at a picture."""
    run = write_run(Path("run"), small())
    (run / "report").mkdir()
    (run / "report" / "index.html").write_bytes(before := b"an older page")
    # Bytecode that the limit cuts off would be read again by whoever comes next.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, free[1]))
    try:
        done = command("report", str(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, free)
    assert done.code == 2
    line = f"Cannot write '{run / 'report'}': File too large"
    assert [written[: len(line)] for written in done.err.splitlines()] == [line]
    assert (run / "report" / "index.html").read_bytes() == before
    assert not list(run.glob(".report*"))


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", small())

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"Cannot write '.*report': Read-only file system"):
        write_report(run)


def test_controls_are_no_methods_anywhere_on_the_page(tmp_path: Path) -> None:
    rows = [row(identity=name, rate=0.45 + 0.02 * index) for index, name in enumerate(PEOPLE)]
    rows += [row(identity=name, control="shifted", rate=0.0, layer_calls="7") for name in PEOPLE]
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    board = read_packed(tmp_path / "run" / "report" / "data" / "board-0.js").table
    assert board.height == 1 and "excess" not in board.columns  # the control is of another map
    assert "takes the recognition rate of net from 1.000 to 0.500" in page.text


def test_held_out_run_shows_held_out_rows(tmp_path: Path) -> None:
    rows = [row(identity=name, split="heldout") for name in PEOPLE]
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    assert "Maps and effects come from different images of a person" in page.text
    board = read_packed(tmp_path / "run" / "report" / "data" / "board-0.js").table
    assert board["split"].to_list() == ["heldout"] and board["fill"].to_list() == ["black"]


def test_slices_say_where_random_pixels_take_as_much(tmp_path: Path) -> None:
    rates = {(0.01, "grad-cam"): 0.2, (0.01, "random"): 0.8, (0.03, "grad-cam"): 0.5,
             (0.03, "random"): 0.5}  # fmt: skip
    rows = table(
        row(identity=name, budget=budget, method=method, rate=rate + 0.01 * (index % 3))
        for (budget, method), rate in rates.items()
        for index, name in enumerate(f"P{number:02}" for number in range(20))
    )
    rows = rows.with_columns(
        pl.when(pl.col("method") != "random").then(pl.col(name)).alias(name)
        for name in ("source", "layer", "layer_calls", "objective")
    )
    write_report(write_run(tmp_path / "run", rows))
    answers = read_packed(tmp_path / "run" / "report" / "data" / "answers.js").table
    assert dict(answers.select("budget", "no_more").rows()) == {0.01: False, 0.03: True}


def both_readings() -> pl.DataFrame:
    """Black: layer-cam first, 0.9 to 0.2; inpaint: grad-cam first, 0.9 to 0.5; random 0.3, 0.8."""
    rates = {
        "black": {"layer-cam": 0.2, "grad-cam": 0.6, "random": 0.3},
        "inpaint": {"layer-cam": 0.85, "grad-cam": 0.5, "random": 0.8},
    }
    return table(
        row(identity=name, fill=fill, method=method, clean_rate=0.9, rate=rate + 0.01 * (index % 3))
        for fill, methods in rates.items()
        for method, rate in methods.items()
        for index, name in enumerate(PEOPLE)
    )


def test_run_with_everything_has_every_view_and_every_score(tmp_path: Path) -> None:
    one_slice = (pl.col("budget") == 0.01) & (pl.col("fill") == "black")
    run = write_run(tmp_path / "run", large(12).filter(one_slice))
    add_gallery(run, PEOPLE[:1])
    page = Page(write_report(run))
    assert ids(page) == [
        "leaderboard", "layers", "transfer", "lineage", "people", "strata", "audit", "provenance",
    ]  # fmt: skip
    marks = [tag["class"] for tag in page.all("details") if tag.get("class") in ("good", "look")]
    assert marks == ["good"] * 9
    described = read_page(run / "report" / "data" / "page.js")
    assert [score[0] for score in described["scores"]] == [
        "rate", "cosine", "excess", "specificity", "oracle_share",
    ]  # fmt: skip
    answers = read_packed(run / "report" / "data" / "answers.js").table
    assert set(answers["target"]) == set(NETS) and set(answers["maps"]) == {"own", "transferred"}
    more = "\n".join(answers["more"])
    for words in ("the method beats it by", "On photos that the map never saw", "it reaches"):
        assert words in more
    own = answers.filter(maps="own")["answer"].to_list()
    assert not any("maps from" in text for text in own)
    assert all("maps from" in text for text in answers.filter(maps="transferred")["answer"])


def test_tiles_of_methods_without_a_layer() -> None:
    rows = pl.DataFrame([row(layer=None), row(method="layer-cam", layer="N/2")])
    titles = [title for title, _ in tile_rows(rows.with_columns(map=pl.int_range(2)))]
    assert titles == ["grad-cam", "layer-cam\nlayer N/2"]


def test_readings_stand_apart_in_every_answer_and_fill(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", both_readings())
    page = Page(write_report(run))
    assert "Black (artefact): hiding the 1 % of pixels that layer-cam" in page.text
    answers = read_packed(run / "report" / "data" / "answers.js").table
    texts = {record["fill"]: record for record in answers.to_dicts()}
    assert "that layer-cam" in texts["black"]["answer"] and texts["black"]["reading"] == "artefact"
    filled = "With the gap filled in (inpaint, information): hiding the 1 % of pixels that grad-cam"
    assert texts["inpaint"]["answer"].startswith(filled)
    assert "inpaint" not in texts["black"]["answer"] + texts["black"]["more"]
    assert "only: this shows what upsets" not in page.text


def test_several_runs_on_one_page_say_what_is_comparable(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", small())
    other = small().with_columns(threshold_rule=pl.lit("far=0.001"))
    older = {name: value for name, value in PROVENANCE.items() if name != "faces"}
    second = write_run(tmp_path / "second", other, older)
    page = Page(write_reports([first, second], tmp_path / "page"))
    assert "Not the same: first: eer; second: far=0.001. Do not compare rates" in page.text
    assert "Not recorded by second: whether it is the same is not known." in page.text
    assert "The same in all runs: clean." in page.text
    described = read_page(tmp_path / "page" / "data" / "page.js")
    assert [part["run"] for part in described["parts"]] == ["first", "second"]
    assert ids(page).count("leaderboard") == 1 and page.text.count("layer-cam") > 1
    assert page.text.count("What the columns mean") == 1
    with pytest.raises(UserError, match="named once"):
        write_reports([first, first], tmp_path / "page")


def test_pairs_are_tested_and_own_maps_and_held_out_photos_compared(tmp_path: Path) -> None:
    draw = np.random.default_rng(7)
    means = {"a": 0.4, "b": 0.36, "c": 0.2}
    drops = {name: mean + draw.uniform(-0.15, 0.15, 12) for name, mean in means.items()}
    rows = [
        row(identity=f"P{i:02}", method=name, source=source, split=split,
            rate=1 - share * more * values[i])
        for name, values in drops.items()
        for source, share in (("net", 1.0), ("other", 0.25))
        for split, more in (("same", 1), ("half", 1), ("heldout", 0.9))
        for i in range(12)
    ]  # fmt: skip
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    board = read_packed(tmp_path / "run" / "report" / "data" / "board-0.js").table
    board = board.filter(split="same")
    own = {record["method"]: record for record in board.filter(source="net").to_dicts()}
    raw = [
        max(stats.ttest_rel(drops["a"], drops[name]).pvalue,
            stats.wilcoxon(drops["a"] - drops[name]).pvalue)
        for name in ("b", "c")
    ]  # fmt: skip
    small, large = sorted(raw)
    corrected = {small: 2 * small, large: max(2 * small, large)}
    assert own["a"]["p_first"] is None
    for name, p_value in zip(("b", "c"), raw, strict=True):
        assert own[name]["p_first"] == pytest.approx(min(1, corrected[p_value]), abs=6e-4)
        assert own[name]["own_share"] is None
    shares = board.filter(source="other")["own_share"].to_list()
    assert shares == pytest.approx([0.25] * 3, abs=1e-6)
    assert "Kendall's tau of 3 methods and layers, 12 people: 1.000 [" in page.text


def test_groups_of_a_file_are_shown_with_their_intervals(tmp_path: Path) -> None:
    names = [f"P{number:02}" for number in range(16)]
    drops = np.random.default_rng(4).uniform(0, 0.5, 16).round(2)
    rows = [row(identity=name, source="net", rate=1 - drop)
            for name, drop in zip(names, drops, strict=True)]  # fmt: skip
    run = write_run(tmp_path / "run", table(rows))
    groups = tmp_path / "groups.csv"
    lines = [f"{name},{'old' if number < 6 else 'young' if number < 12 else 'new'}"
             for number, name in enumerate(names)]  # fmt: skip
    groups.write_text("\n".join(["identity,age", *lines, "Nobody,old"]))
    page = Page(write_report(run, groups=groups))
    strata = read_packed(run / "report" / "data" / "rows-strata.js").table
    strata = strata.filter(pl.col("stratum").str.starts_with("age"))
    assert strata["stratum"].to_list() == ["age: old", "age: young"]  # of the new, there are four
    for part, shown_value in zip((drops[:6], drops[6:12]), strata["value"], strict=True):
        assert shown_value == pytest.approx(part.mean(), abs=5e-4)
    assert (strata["low"] < strata["value"]).all() and (strata["value"] < strata["high"]).all()
    assert "With --groups" not in page.text and "fewer than 5 people" in page.text
    groups.write_text("identity,age\nSomebody,old\n")
    with pytest.raises(UserError, match=r"must name people of 'these runs'\. Got 'Somebody'"):
        write_report(run, groups=groups)


def test_groups_of_images_leave_out_who_is_in_several(tmp_path: Path) -> None:
    run = with_face_set(tmp_path)
    groups = tmp_path / "groups.csv"
    groups.write_text("image,light\nAda_0001,day\nBo_0001,day\nCy_0001,night\n")
    assert "No group has 5 people who were scored" in Page(write_report(run, groups=groups)).text
    frames = [np.zeros((8, 8, 3), np.uint8)] * 3
    faces = FaceSet(np.stack(frames), np.array(["Ada", "Ada", "Bo"]), np.array(["a", "b", "c"]),
                    "s", "")  # fmt: skip
    groups.write_text("image,light\na,day\nb,night\nc,day\n")
    assigned = groups_from_file(groups, PEOPLE, lambda: [faces])
    assert assigned.rows() == [("Bo", "light: day"), ("Ada", None)]


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, small()) for name in ("a/x/r", "b/x/r", "b/s")]
    write_reports(runs, tmp_path / "page")
    described = read_page(tmp_path / "page" / "data" / "page.js")
    assert [part["run"] for part in described["parts"]] == ["a/x/r", "b/x/r", "s"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="must be new, empty or a page"):
        write_reports([run], tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_page_of_artefacts_alone_says_what_it_does_not_show(tmp_path: Path) -> None:
    black = both_readings().filter(pl.col("fill") == "black")
    page = Page(write_report(write_run(tmp_path / "run", black)))
    assert (
        "Pixels were hidden by black only: this shows what upsets a recognizer, not what it knew"
        " from the pixels." in page.text
    )
    assert 'fill = ["black", "inpaint"]' in page.text


def test_methods_are_ranked_within_a_reading() -> None:
    ranking = Results(both_readings()).ranking
    assert ranking.select("reading", "name", "rank").rows() == [
        ("artefact", "layer-cam @ N", 1.0), ("artefact", "grad-cam @ N", 2.0),
        ("information", "grad-cam @ N", 1.0), ("information", "layer-cam @ N", 2.0),
    ]  # fmt: skip
