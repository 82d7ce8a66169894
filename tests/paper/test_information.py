"""What hiding shows by either reading, and whose map: against values worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.own_maps import Scores, Setting, contest, first, groups
from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import write_run as collect_run
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.session import Session, SessionSpec
from facefocus.core.errors import UserError
from facefocus.paper import information
from facefocus.paper.information import TITLE, information_blocks
from facefocus.report.document import Block
from facefocus.report.html_renderer import html_document
from facefocus.report.latex_renderer import latex_document
from facefocus.report.markdown_renderer import markdown_document
from facefocus.report.text_renderer import text_document
from tests.conftest import Command
from tests.report.fabricated import row, table, write_run
from tests.small import paint_faceset, tiny_recognizer

PEOPLE = [f"P{number:02}" for number in range(20)]
FILLS = ("black", "inpaint", "linear")

#: Recognition at 10 % on the photos of the map: by black, and with the gap filled in.
LEFT = {"dots": (0.1, 0.85), "blob": (0.5, 0.6)}

#: What held-out photos, other people's masks and another recognizer add to it.
UNSEEN, OTHER, POPULATION, ABROAD = 0.05, 0.02, 0.04, {"black": 0.3, "inpaint": 0.0, "linear": 0.0}


def settings() -> Iterator[tuple[dict[str, Any], float]]:
    """Settings and mean recognition of every configuration; clean is 1."""
    for target, split, fill in (
        (target, split, fill)
        for target in ("net", "far")
        for split in ("same", "half", "heldout")
        for fill in FILLS
    ):
        shown = {"target": target, "split": split, "fill": fill, "budget": 0.1}
        unseen = UNSEEN if split == "heldout" else 0.0
        if split != "half":
            yield shown | {"method": "random"}, 0.99
            yield (
                shown
                | {"method": "center-gaussian"}
                | dict.fromkeys(("source", "layer", "layer_calls", "objective")),
                0.8,
            )
        for layer, left in LEFT.items():
            rate = left[fill != "black"] + unseen + (ABROAD[fill] if target == "far" else 0.0)
            mapped = shown | {"method": "layer-cam", "layer": layer, "layer_calls": layer}
            yield mapped, rate
            if split != "half":
                yield mapped | {"control": "other"}, rate + OTHER
                better = -POPULATION if layer == "blob" else POPULATION
                yield mapped | {"control": "population"}, rate + better


def _spread(setting: dict[str, Any]) -> int:
    spread = {None: 0, "blob": 1, "dots": 2}[setting.get("layer")]
    return -spread if setting.get("control") == "population" else spread


def made_up(people: Iterable[str] = PEOPLE) -> pl.DataFrame:
    """Everybody's map is better by .04 than own blobs; people differ by up to .02 either way."""
    names = list(people)
    deviation = np.linspace(-0.02, 0.02, len(names))
    return table(
        row(**setting, identity=name, rate=rate + deviation[i] * _spread(setting),
            images=6 if i % 2 else 9)
        for setting, rate in settings()
        for i, name in enumerate(names)
    )  # fmt: skip


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return information_blocks(made_up())


@pytest.fixture(scope="module")
def text(blocks: list[Block]) -> str:
    return markdown_document(blocks)


def sentence(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"- {start}"))


def cells(text: str, caption: str) -> list[list[str]]:
    """The rows of a table by its caption."""
    after = text.split(f"**{caption}", 1)[1].splitlines()[4:]
    rows = []
    for line in after:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_shared_mask_is_everybodys_and_is_compared_with_the_best_of_each_kind() -> None:
    shared = table(
        row(
            method="shared-mask", layer=None, layer_calls=None, objective=None, target=target,
            split=split, fill=fill, budget=0.1, identity=name, rate=0.5, images=6,
        )
        for target in ("net", "far") for split in ("same", "heldout")
        for fill in FILLS for name in PEOPLE
    )  # fmt: skip
    text = markdown_document(information_blocks(pl.concat([made_up(), shared])))
    assert "layer-cam @ blob hides best of 2 own maps:" in text
    lines = cells(text, "The shared mask, searched on people who are not explained")
    assert len(lines) == 2 * 2 * 2  # targets, fills that see the mask, photos
    target, fill, photos, budget, _, left, *gaps = lines[0]
    assert (target, fill, photos, budget) == ("net", "inpaint", "same", "10 %")
    # By hand: own blobs leave .600, everybody's .560, the blob in the middle .800.
    assert left.startswith("0.500")
    assert [gap.split()[0] for gap in gaps] == ["-0.100", "-0.060", "-0.300"]


# --- the answer -----------------------------------------------------------------------------------


def test_each_reading_has_a_winner_of_its_own(text: str) -> None:
    black = sentence(text, "Behind black")
    assert "layer-cam @ dots hides best of 2 own maps:" in black
    assert "from 1.000 to 0.100 at 10 % on the photos that the map came from" in black
    assert "from 1.000 to 0.150 at 10 % on held-out photos" in black
    filled = sentence(text, "With the gap filled in (inpaint)")
    assert "layer-cam @ blob hides best of 2 own maps:" in filled
    assert "to 0.600 at 10 % on the photos" in filled and "to 0.650 at 10 % on held-out" in filled
    assert "random leaves 0.990 at 10 %; center-gaussian leaves 0.800 at 10 %" in filled


def test_everybodys_map_is_ahead_where_it_hides_better(text: str) -> None:
    answer = sentence(text, "Does any person's own map beat everybody's")
    assert "No: it is not shown in any of 2 cases" in answer
    assert "Everybody's is ahead at 10 % on net, 10 % on far." in answer
    assert "own 0.650, everybody's 0.610, own minus everybody's +0.040 [0.02" in answer


def test_own_maps_are_ahead_where_they_hide_better_in_groups_of_photos_too() -> None:
    results = made_up()
    better = pl.col("rate") - pl.when(pl.col("control").is_null()).then(0.1).otherwise(0.0)
    enough = pl.when(pl.col("images") == 9).then(better).otherwise(pl.col("rate"))
    own = markdown_document(information_blocks(results.with_columns(rate=better.clip(0, 1))))
    assert "Yes, in 2 of 2 cases: at 10 % on net, 10 % on far." in own
    assert "own map is ahead from 3 photos on at 10 %" in own
    some = markdown_document(information_blocks(results.with_columns(rate=enough.clip(0, 1))))
    assert "ahead from 4 photos on at 10 %; tried: maps of 3 to 4 photos" in some
    table = cells(some, "Own minus everybody's by the photos")
    assert [line[:3] for line in table[:2]] == [["net", "3", "10"], ["net", "4", "10"]]
    assert table[0][3].startswith("+0.042") and table[1][3].startswith("-0.062")


def test_nothing_is_claimed_of_four_people() -> None:
    text = markdown_document(information_blocks(made_up(PEOPLE[:4])))
    assert "No: it is not shown in any of 2 cases" in text
    assert "Not known: no 5 people have maps of equally many photos" in text
    assert "No intervals: fewer than 5 people." in text


def test_without_a_mean_map_or_held_out_photos_the_question_is_not_answered() -> None:
    results = made_up()
    alone = results.filter(pl.col("control").is_null())
    text = markdown_document(information_blocks(alone))
    assert text.count("Not asked: no mean map of other people was tried") == 2
    same = results.filter(pl.col("split") == "same")
    assert "Not asked: no photos were held out." in markdown_document(information_blocks(same))


def test_a_contest_picks_each_side_on_other_people() -> None:
    """Of two equal maps each person is scored by the one that is best on others."""
    scores = Scores.of(made_up().filter(pl.col("target") == "net"))
    outcome = contest(scores, "net", Setting("heldout", 0.1, "inpaint"))
    assert outcome is not None
    deviation = np.linspace(-0.02, 0.02, len(PEOPLE))
    assert outcome.own == pytest.approx(0.65 + deviation)
    assert outcome.everybody == pytest.approx(0.61 - deviation)
    parts = groups(scores, "net", "inpaint")
    assert [(part.photos, len(part.difference)) for part in parts] == [(3, 10), (4, 10)]


def test_the_first_row_and_those_level_with_it() -> None:
    near = np.linspace(0.4, 0.6, 12)
    other = near + np.where(np.arange(12) % 2, 0.05, -0.04)
    assert first(np.stack([near + 0.2, near, other])) == (1, 1)
    assert first(np.full((2, 3), np.nan)) == (None, 0)


# --- tables ---------------------------------------------------------------------------------------


def test_methods_are_rows_and_fills_by_budget_are_columns(text: str) -> None:
    rows = cells(text, "net, by the person's own map, on the photos that the map came from")
    assert rows == [
        ["layer-cam @ dots", "**0.100**", "0.850", "0.850"],
        ["layer-cam @ blob", "0.500", "**0.600**", "**0.600**"],
        ["random", "0.990", "0.990", "0.990"],
        ["center-gaussian", "0.800", "0.800", "0.800"],
    ]
    everybody = cells(text, "net, by the mean map of all other people, on held-out photos")
    assert everybody[1] == ["layer-cam @ blob", "0.510", "**0.610**", "**0.610**"]


def test_a_method_counts_at_the_layer_that_is_best_with_the_gap_filled_in(text: str) -> None:
    rows = cells(text, "far, black, on held-out photos, each method at its best layer")
    assert [line[:5] for line in rows] == [
        ["layer-cam @ blob, from net", "10 %", "0.850", "0.870", "0.810"]
    ]
    assert rows[0][5].startswith("+0.040")


def test_transfer_is_a_share_of_the_drop_on_the_source(text: str) -> None:
    """Held-out blobs: black .45 of 1 is dropped on net, .15 on far; filled in, .35 on both."""
    (line,) = cells(text, "Transfer by fill")
    assert line[:4] == ["net", "far", "layer-cam @ blob", "10 %"]
    assert [cell.split()[0] for cell in line[4:]] == [
        "0.850", "0.333", "0.650", "1.000", "0.650", "1.000",
    ]  # fmt: skip
    assert "is 33.3 % with black and 100 % with inpaint" in text
    assert "With inpaint it is larger in 1 and smaller in 0" in text


def test_the_order_of_two_maps_turns_over_between_the_readings(text: str) -> None:
    rows = cells(text, "Order of own maps")
    assert rows[0] == [
        "net", "same", "10 %",
        "-1.000 [-1.000, -1.000]", "1.000 [1.000, 1.000]",
    ]  # fmt: skip


def test_the_audit_counts_people_photos_and_maps(text: str) -> None:
    assert "**net, held-out photos**: 20 people, 150 photos, clean recognition 1.000" in text
    assert "**Thresholds**: net 0.290 (eer); far 0.290 (eer)" in text
    assert "**Maps**: 4, of which 4 order the pixels of everybody" in text
    flat = made_up().with_columns(
        degenerate=(pl.col("layer") == "dots") & (pl.col("identity") == "P00")
    )
    line = ["layer-cam @ dots", "none", "5 %", "0 %", "0 %"]
    assert cells(markdown_document(information_blocks(flat)), "The other maps") == [line]


# --- what is refused, what is joined --------------------------------------------------------------


def test_runs_of_several_sources_are_joined_and_baselines_count_once() -> None:
    results = made_up()
    second = results.with_columns(
        experiment=pl.lit("second"), source=pl.col("source").replace("net", "far")
    )
    text = markdown_document(information_blocks(pl.concat([results, second])))
    rows = cells(text, "far, by the person's own map, on held-out photos")
    assert [line[0] for line in rows] == [
        "layer-cam @ dots", "layer-cam @ blob", "random", "center-gaussian",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fill": "black"}, 'needs a fill that sees the mask. Got black. .* "inpaint"'),
        ({"source": None}, "needs maps of a recognizer"),
    ],
)
def test_what_gives_no_answer_is_refused(change: dict[str, Any], message: str) -> None:
    results = made_up().filter(pl.col("fill") == "inpaint")
    changed = results.with_columns(pl.lit(value).cast(results.schema[name]).alias(name)
                                   for name, value in change.items())  # fmt: skip
    with pytest.raises(UserError, match=message):
        information_blocks(changed)


@pytest.mark.parametrize(("name", "value"), [("faces", "calfw"), ("seed", 1), ("threshold", 0.3)])
def test_runs_of_several_experiments_are_refused(name: str, value: object) -> None:
    results = made_up()
    other = results.with_columns(pl.lit(value).cast(results.schema[name]).alias(name))
    with pytest.raises(UserError, match=f"is of one experiment, with one {name}"):
        information_blocks(pl.concat([results, other]))


def test_every_format_has_the_same_answer(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, blocks: list[Block]
) -> None:
    """By the command, from the run for one format; the others show the same blocks."""
    run = write_run(tmp_path / "run", made_up())
    for form, mark in (
        ("markdown", f"# {TITLE}"), ("html", f"<h1>{TITLE}</h1>"),
        ("latex", rf"\section*{{{TITLE}}}"), ("text", TITLE),
    ):  # fmt: skip
        done = command("report", str(run), "--what", "information", "--format", form)
        assert done.code == 0, done.err
        monkeypatch.setattr(information, "information_blocks", lambda *_: blocks)
        assert mark in done.out
        assert "everybody's 0.610" in re.sub(r"\s+", " ", done.out.replace("&#39;", "'"))


# --- a real run -----------------------------------------------------------------------------------

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "images": [4, 6]},
    "recognizers": {"source": "a", "target": ["a", "b"]},
    "saliency": [
        {"method": "layer-cam", "layer": ["1", "N"]},
        {"method": "random", "draws": 1},
        {"method": "center-gaussian"},
    ],
    "occlusion": {"budget": 0.3, "fill": list(FILLS)},
    "controls": {"control": ["population", "other", "blend"], "draws": 1},
    "evaluation": {"split": ["same", "heldout"]},
}


def test_a_real_run_is_reported_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        session_module, "load", lambda name, _: tiny_recognizer(name, seed=name == "b")
    )
    faces = paint_faceset(tmp_path / "painted")
    spec = parse_experiment(EXPERIMENT).model_dump_json()
    session = Session(SessionSpec(spec, faces, tmp_path / "store", "torch"))
    execute(session)
    results = pl.read_parquet(collect_run(session, tmp_path, {}, ""))
    blocks = information_blocks(results)
    text = markdown_document(blocks)
    own = results.filter(
        pl.col("control").is_null(), pl.col("target") == "b", pl.col("split") == "heldout",
        pl.col("layer") == "1", pl.col("fill") == "linear", pl.col("budget") == 0.3,
    )  # fmt: skip
    rows = cells(text, "b, by the person's own map, on held-out photos")
    assert [line[0] for line in rows] == [
        "layer-cam @ 1, from a", "layer-cam @ N, from a", "random", "center-gaussian",
    ]  # fmt: skip
    assert float(rows[0][3].strip("*")) == pytest.approx(own["rate"].mean(), abs=5e-4)
    assert "nan" not in text.lower().replace("gnan", "")
    for render in (latex_document, text_document, lambda given: html_document(given, TITLE)):
        assert render(blocks)
