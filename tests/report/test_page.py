"""The page: complete, escaped, without network, and without a face unless asked for."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from facefocus.analysis.results import unfinished_note
from facefocus.cli.console import print_summary
from facefocus.core.errors import UserError
from facefocus.faces.faceset import IndexRow, open_faceset, write_faceset
from facefocus.paper.study_page import write_study_report
from facefocus.report import figures, sections
from facefocus.report import page as page_module
from facefocus.report.page import write_report
from facefocus.report.report_data import Report
from facefocus.report.run_result import Results
from facefocus.report.section_registry import PageSection
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

PEOPLE = ("Ada", "Bo", "Cy", "Di", "Ed", "Fe")
SAVE = figures.save
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


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures: figures have tests of their own, and most of a page's time goes to them."""
    monkeypatch.setattr(figures, "save", lambda figure, path: path.touch())


@pytest.fixture
def rendered(blank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pictures again."""
    monkeypatch.setattr(figures, "save", SAVE)


@pytest.fixture
def photographed(blank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real PNGs, in which faces would be."""

    def save(figure: Figure, path: Path) -> None:
        SAVE(figure, path) if path.suffix == ".png" else path.touch()

    monkeypatch.setattr(figures, "save", save)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its page; module fixtures are made before `blank`, so its pictures are real."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", small())
    add_gallery(folder, PEOPLE[:1])
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(run / "report" / "index.html")


def test_page_answers_first_and_then_in_the_readers_order(page: Page) -> None:
    assert "that layer-cam (layer N) ranks highest" in page.text
    assert "a drop of 0.500" in page.text and "the method takes 0.375" in page.text.replace(
        "+0.375", "0.375"
    )
    assert [section["id"] for section in page.all("section")] == [
        "experiment", "audit", "winner", "effect", "where", "whom", "numbers", "provenance",
    ]  # fmt: skip
    assert page.text.index("a drop of 0.500") < page.text.index("What was done")


def test_page_needs_nothing_from_outside(run: Path, page: Page) -> None:
    addresses = [
        value
        for _, attributes in page.tags
        for name in ("src", "srcset", "href")
        if (value := attributes.get(name)) and not value.startswith("#")
    ]
    assert addresses
    assert all((run / "report" / address).is_file() for address in addresses)
    assert not re.search(r"https?://|@import|url\(", page.source)


def test_pictures_have_alt_texts_and_sizes_and_tables_headings(page: Page) -> None:
    images = page.all("img")
    assert len(images) == 6  # ranks, layers, budgets, fills, gallery, identities
    assert all(len(image["alt"] or "") > 30 and image["width"] for image in images)
    # The audit's test of the budget, the leading methods, margins, all numbers.
    assert len(page.all("table")) == len(page.all("caption")) == 4
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


def test_shown_sizes_are_those_of_the_files(run: Path, page: Page) -> None:
    (shown,) = [one for one in page.all("img") if "gallery" in (one["src"] or "")]
    with Image.open(run / "report" / str(shown["src"])) as image:
        assert abs(image.width - 2 * int(shown["width"] or 0)) <= 1
        assert abs(image.height - 2 * int(shown["height"] or 0)) <= 1


def test_numbers_stand_beside_their_audit(run: Path, page: Page) -> None:
    assert "0.500 " in page.text and "12/12" not in page.text and "6/6" in page.text
    written = pl.read_csv(run / "report" / "summary.csv")
    assert written.height == 12
    assert written.filter(pl.col("method") == "layer-cam")["rate"].to_list() == [0.5] * 4


def test_provenance_and_experiment_are_there(page: Page) -> None:
    assert "ab12" * 16 in page.text and "2.13.0" in page.text
    assert 'title = "made-up"' in page.text


@pytest.mark.usefixtures("rendered")
def test_same_run_same_bytes(run: Path, tmp_path: Path) -> None:
    again = write_run(tmp_path / "run", small())
    add_gallery(again, PEOPLE[:1])
    write_report(again)
    for path in sorted((run / "report").rglob("*.*")):
        other = again / "report" / path.relative_to(run / "report")
        assert other.read_bytes() == path.read_bytes(), path.name


# ------------------------------------------------------------------------------------- privacy


def shows_skin(folder: Path) -> bool:
    """Whether any picture has a pixel of the planted color."""
    pictures = sorted(folder.rglob("*.png"))
    assert pictures
    found = False
    for path in pictures:
        with Image.open(path) as image:
            found |= bool((np.asarray(image.convert("RGB")) == SKIN).all(2).any())
    return found


@pytest.mark.usefixtures("photographed")
def test_without_faces_the_face_set_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise AssertionError("the face set was opened")

    run = with_face_set(tmp_path)
    monkeypatch.setattr(page_module, "open_faceset", refuse)
    page = Page(write_report(run))
    assert not shows_skin(run / "report")
    assert "no face is shown" in page.text and "This page shows faces" not in page.text


@pytest.mark.usefixtures("photographed")
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


@pytest.mark.usefixtures("photographed")
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
    assert page.source.count("<script>") == 1  # the page's own
    assert evil in page.text
    assert all("onerror" not in attributes for _, attributes in page.tags)


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
    assert "95 % interval" not in page.source.split("<section")[0]
    assert "whom" not in [section["id"] for section in page.all("section")]
    assert "where" not in [section["id"] for section in page.all("section")]


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
    said = "Not finished: two has no results yet."
    assert said in page.text
    assert page.text.index(said) < page.text.index("of pixels that layer-cam")
    print_summary(tmp_path / "run")
    assert capsys.readouterr().out.startswith(said)
    shutil.copy(done / "results.parquet", tmp_path / "run" / "two")
    assert unfinished_note(tmp_path / "run") == [] and unfinished_note(run) == []


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
    assert page.text.index("flat map hides the whole face") < page.text.index("What was done")
    assert "flagged" in page.source


def test_run_without_a_record_has_a_page_without_provenance(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small())
    (run / "provenance.json").unlink()
    (run / "experiment.toml").unlink()
    ids = [section["id"] for section in Page(write_report(run)).all("section")]
    assert "provenance" not in ids and "numbers" in ids


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


@pytest.mark.parametrize("limit", [1_000, 20_000])
def test_a_full_disk_is_one_line_and_leaves_the_report_that_was_there(
    tmp_path: Path, limit: int
) -> None:
    """Files may not grow over a limit, as on a disk that is full: at the table, at a picture."""
    run = write_run(tmp_path / "run", small())
    (run / "report").mkdir()
    (run / "report" / "index.html").write_bytes(before := b"an older page")
    program = (
        # Bytecode that the limit cuts off would be read again by whoever comes next.
        "import resource, sys; sys.dont_write_bytecode = True; from facefocus.cli import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        f"sys.argv = ['facefocus', 'report', {str(run)!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"Cannot write '{run / 'report'}': File too large")
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


def test_several_recognizers_each_have_their_part(tmp_path: Path) -> None:
    results = realistic(6, ("net-a", "net-b")).filter(pl.col("fill") == "black")
    page = Page(write_report(write_run(tmp_path / "run", results)))
    assert "rate of net-a from" in page.text and "rate of net-b from" in page.text
    # Two tables of each (methods, margins), the audit of the budget, all numbers.
    assert len(page.all("table")) == 6 and len(page.all("img")) == 8


def test_run_with_everything_has_every_section_in_order(tmp_path: Path) -> None:
    one_slice = (pl.col("budget") == 0.01) & (pl.col("fill") == "black")
    run = write_run(tmp_path / "run", large(12).filter(one_slice))
    add_gallery(run, PEOPLE[:1])
    page = Page(write_report(run))
    assert [section["id"] for section in page.all("section")] == [
        "experiment", "audit", "winner", "effect", "heldout", "person", "transfer", "where",
        "whom", "numbers", "provenance",
    ]  # fmt: skip
    for said in ("the method beats it by", "On photos that the map never saw", "it reaches",
                 "Kendall's tau", "Share of oracle", "Of white-box"):  # fmt: skip
        assert said in page.text
    marks = [attributes["class"] for name, attributes in page.tags if name == "li"]
    assert marks == ["good"] * 9
    everything = pl.read_csv(run / "report" / "summary.csv", infer_schema_length=None)
    assert set(everything["control"].drop_nulls()) == {
        "shifted", "other", "population", "pixels", "blocks"
    }  # fmt: skip
    shown = pl.read_csv(run / "report" / "transfer.csv", infer_schema_length=None)
    own = shown.filter(pl.col("source") == pl.col("target"))["relative"].drop_nulls()
    assert set(own.round(9)) == {1.0}
    assert set(shown["target"]) == set(NETS) and shown["split"].unique().to_list() == ["same"]


def test_controls_are_no_methods_anywhere_on_the_page(tmp_path: Path) -> None:
    rows = [row(identity=name, rate=0.45 + 0.02 * place) for place, name in enumerate(PEOPLE)]
    rows += [row(identity=name, control="shifted", rate=0.0, layer_calls="7") for name in PEOPLE]
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    assert "1 configurations" in page.text and "(7)" not in page.text
    assert "takes the recognition rate of net from 1.000 to 0.500" in page.text


def test_tiles_of_methods_without_a_layer_and_of_baselines(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small())
    add_gallery(run, PEOPLE[:1])
    rows = pl.read_parquet(run / "gallery.parquet")
    first = pl.col("map") == 0
    rows = rows.with_columns(
        pl.when(~first).then("layer").alias("layer"),
        pl.when(~first).then("source").alias("source"),
        pl.when(first).then(pl.lit("center-gaussian")).otherwise("method").alias("method"),
    )
    (part,) = sections.people_shown(rows)
    titles = [title for title, _ in sections.tile_rows(part)]
    assert titles[0] == "grad-cam\nlayer N/2" and titles[-1] == "center-gaussian"
    rows.write_parquet(run / "gallery.parquet")
    assert "maps from None" not in Page(write_report(run)).text


def test_held_out_run_shows_held_out_rows(tmp_path: Path) -> None:
    rows = [row(identity=name, split="heldout") for name in PEOPLE]
    page = Page(write_report(write_run(tmp_path / "run", table(rows))))
    assert "fill black (artefact), held-out photos" in page.text
    assert "Effects are on photos that the maps never saw" in page.text


def test_gallery_shows_the_budget_of_the_first_look(tmp_path: Path) -> None:
    results = small().filter(pl.col("budget") == 0.03)
    run = write_run(tmp_path / "run", results)
    add_gallery(run, PEOPLE[:1])
    page = Page(write_report(run))
    assert "what is hidden at 3\N{NO-BREAK SPACE}%" in page.text
    assert json.loads((run / "provenance.json").read_text()) == PROVENANCE


def both_readings() -> pl.DataFrame:
    """Black: layer-cam first, 0.9 to 0.2; inpaint: grad-cam first, 0.9 to 0.5; random 0.3, 0.8."""
    rates = {
        "black": {"layer-cam": 0.2, "grad-cam": 0.6, "random": 0.3},
        "inpaint": {"layer-cam": 0.85, "grad-cam": 0.5, "random": 0.8},
    }
    return table(
        row(identity=name, fill=fill, method=method, clean_rate=0.9, rate=rate + 0.01 * (place % 3))
        for fill, methods in rates.items()
        for method, rate in methods.items()
        for place, name in enumerate(PEOPLE)
    )


def test_a_page_shows_the_readings_apart_and_never_mixes_them(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "run", both_readings())))
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Black (artefact): hiding the 1 % of pixels that layer-cam" in text
    filled = "With the gap filled in (inpaint, information): hiding the 1 % of pixels that grad-cam"
    assert filled in text
    html = page.source
    for name in ("winner", "effect", "whom"):
        part = html.split(f'<section id="{name}"')[1].split("</section>")[0]
        artefact, information = part.split("<h3>Information: what it knew from the pixels</h3>")
        assert "<h3>Artefact: what upsets the recognizer</h3>" in artefact
        assert "inpaint" not in artefact and "black" not in information
    assert "only: this shows what upsets" not in page.text


def test_a_page_of_artefacts_alone_says_what_it_does_not_show(tmp_path: Path) -> None:
    black = both_readings().filter(pl.col("fill") == "black")
    page = Page(write_report(write_run(tmp_path / "run", black)))
    assert (
        "Pixels were hidden by black only: this shows what upsets a recognizer, not what it knew"
        " from the pixels." in page.text
    )
    assert 'fill = ["black", "inpaint"]' in page.text
    assert "Artefact: what upsets" not in page.text  # one reading needs no heading


def test_methods_are_ranked_within_a_reading() -> None:
    ranking = Results(both_readings()).ranking
    assert ranking.select("reading", "name", "rank").rows() == [
        ("artefact", "layer-cam @ N", 1.0), ("artefact", "grad-cam @ N", 2.0),
        ("information", "grad-cam @ N", 1.0), ("information", "layer-cam @ N", 2.0),
    ]  # fmt: skip
