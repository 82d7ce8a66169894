"""The paper's questions by both readings: against values worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.paper.information_questions import questions_blocks
from facefocus.report.markdown_renderer import markdown_document
from tests.paper.test_information import PEOPLE, cells, sentence
from tests.report.fabricated import row, table

NETS = ("net", "far")
FILLS = ("black", "inpaint")

#: Recognition at 20 % on held-out photos, black and filled in; the layers differ, losses do not.
CALLS = {"1": "1", "N": "48"}
LAYERS = {"1": (0.2, 0.9), "N": (0.6, 0.5)}
BASELINES = {"random": (0.1, 0.95), "center-gaussian": (0.5, 0.7)}


def settings() -> Iterator[tuple[dict[str, Any], float]]:
    """Settings and mean recognition; clean is 1. Maps from 'far' take .2 less on 'net'."""
    for target in NETS:
        for index, fill in enumerate(FILLS):
            for split in ("same", "heldout"):
                shown = {"target": target, "split": split, "fill": fill, "budget": 0.2}
                for method, left in BASELINES.items():
                    flat = dict.fromkeys(("source", "layer", "layer_calls", "objective"))
                    yield shown | flat | {"method": method}, left[index]
                for layer, left in LAYERS.items():
                    mapped = shown | {"source": target, "method": "layer-cam", "layer": layer,
                                      "layer_calls": CALLS[layer]}  # fmt: skip
                    yield mapped, left[index]
                    if layer == "N":
                        yield mapped | {"objective": "l2"}, left[index]
                if split == "heldout":
                    own = shown | {"source": target, "method": "layer-cam", "layer": "N",
                                   "layer_calls": CALLS["N"]}  # fmt: skip
                    other = next(net for net in NETS if net != target)
                    yield own | {"source": other}, LAYERS["N"][index] + 0.2
                    yield own | {"control": "other"}, LAYERS["N"][index] + 0.1
                    yield own | {"control": "population"}, LAYERS["N"][index] - 0.1


@pytest.fixture(scope="module")
def text() -> str:
    deviation = np.linspace(-0.02, 0.02, len(PEOPLE))
    spread = {"random": 1, "center-gaussian": -1, None: 2, "other": 3, "population": -2}
    results = table(
        row(**setting, identity=name,
            rate=rate + deviation[i] * spread.get(setting.get("control") or setting["method"], 0))
        for setting, rate in settings()
        for i, name in enumerate(PEOPLE)
    )  # fmt: skip
    return markdown_document(questions_blocks(results))


def test_own_maps_stand_beside_random_pixels_and_maps_that_look_at_no_face(text: str) -> None:
    answer = sentence(text, "How much does hiding take?")
    assert (
        "map that sees no photo of the person: black 0 and 2 of 2, inpaint 2 and 2 of 2 (paired"
        in answer
    )
    rows = cells(text, "Recognition on held-out photos. The best own map")
    (filled,) = [line for line in rows if line[:2] == ["net", "inpaint"]]
    assert filled[3].startswith("layer-cam @ N")
    assert [cell.split()[0] for cell in filled[4:8]] == ["1.000", "0.500", "0.950", "0.700"]


def test_the_best_layer_depends_on_the_reading(text: str) -> None:
    answer = sentence(text, "Which layer?")
    assert "the layer of lowest mean is the same by black and inpaint in 0" in answer
    assert "By inpaint, with the number of recognizers: layer-cam N (2)." in answer
    black = cells(text, "Recognition by black at 20 %, own maps")
    assert black == [
        ["layer-cam", "1", "**0.200**", "**0.200**"],
        ["layer-cam", "N", "0.600", "0.600"],
    ]


def test_equal_losses_are_not_shown_to_differ(text: str) -> None:
    answer = sentence(text, "Which loss?")
    assert "by black by 0.000 (median) and at most 0.000, shown in 0 of 2" in answer


def test_own_maps_beside_those_of_another_recognizer(text: str) -> None:
    answer = sentence(text, "Does it transfer?")
    assert "median share that transfers is 50 % with black and 60 % with inpaint" in answer
    assert "at 20 %: black 2 better and 0 worse of 2, inpaint 2 better and 0 worse of 2" in answer
    rows = cells(text, "Recognition by inpaint at 20 % on held-out photos: rows are")
    assert [line[2:] for line in rows] == [["**0.500**", "0.700"], ["0.700", "**0.500**"]]


def test_own_maps_beside_those_of_others(text: str) -> None:
    answer = sentence(text, "Is it the person's own?")
    assert "inpaint: 2 ahead of another person's and 0 behind, of 2" in answer
    assert "0 ahead of everybody's and 2 behind, of 2 (paired" in answer
    rows = cells(text, "Recognition on held-out photos under the own mask")
    (line,) = [cell for cell in rows if cell[:2] == ["net", "inpaint"]]
    assert line[5].startswith("-0.100") and line[7].startswith("+0.100")


def test_layers_are_compared_over_the_people_who_have_all_of_them() -> None:
    """The first layer hides half of the people better; they lack the last one."""
    few = set(PEOPLE[::2])
    results = table(
        row(**setting, identity=name, rate=rate - (0.1 if name in few else 0.0))
        for setting, rate in settings()
        for name in PEOPLE
        if not (setting.get("layer") == "N" and name in few)
    )
    text = markdown_document(questions_blocks(results))
    rows = cells(text, "Recognition by black at 20 %, own maps")
    assert rows[0] == ["layer-cam", "1", "**0.200**", "**0.200**"]


def test_questions_that_no_run_asks_are_left_out() -> None:
    results = table(
        row(**setting, identity=name, rate=rate)
        for setting, rate in settings()
        if setting.get("layer") in (None, "1") and setting["target"] == "net"
        for name in PEOPLE
    )
    text = markdown_document(questions_blocks(results.filter(pl.col("split") == "same")))
    assert "How much does hiding take?" in text
    assert not any(
        f"## {question}" in text for question in ("Which layer", "Which loss", "Does it transfer")
    )
