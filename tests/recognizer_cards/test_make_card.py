from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facefocus as ff
from facefocus.core.errors import UserError
from facefocus.recognizer_cards.make_card import RecognizerCard, make_card, write_card
from tests.conftest import Command
from tests.small import paint_faceset, tiny_recognizer
from tests.written_files import check_arrays, check_json, loaded

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_score.py"


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("card") / "painted")


@pytest.fixture(scope="module")
def card(painted: Path) -> RecognizerCard:
    groups = painted.parent / "groups.csv"
    lines = [f"p{number:02d},{'even' if number % 2 == 0 else 'odd'}" for number in range(18)]
    groups.write_text("\n".join(["identity,parity", *lines]) + "\n")
    return make_card(
        tiny_recognizer(), painted, groups=groups, masks=16, backend="torch",
        store=painted.parent / "store",
    )  # fmt: skip


def test_a_card_has_every_table(card: RecognizerCard) -> None:
    assert (card.people, card.calls) == (18, None) and card.photos > 40
    assert len(card.rows) == 26 and len(card.further) == 13
    assert card.rows[0].rates["eer"].tmr.value > 0.8
    hidden = {row.condition.name: row.rates["eer"].tmr.value for row in card.rows}
    assert hidden["inside, black"] < hidden["clean"]
    assert {row.stratum.grouping for row in card.strata} == {"parity", "sharpness"}
    assert card.maps is not None and card.maps.people == 18
    assert sum(share.share.value for share in card.maps.shares) == pytest.approx(1)


def test_the_page_and_the_data_say_the_same(card: RecognizerCard, tmp_path: Path) -> None:
    page = write_card(card, tmp_path / "out").read_text()
    data = json.loads((tmp_path / "out" / "card.json").read_text())
    check_json("card.json", data)
    check_arrays("population.npz", loaded(tmp_path / "out" / "population.npz"))
    clean = card.rows[0].rates["eer"].tmr
    assert data["conditions"][0]["rates"]["eer"]["tmr"] == [clean.value, clean.low, clean.high]
    assert clean.text() in page and "What tiny needs of a face" in page
    assert set(data["maps"]["shares"]) >= {"eyes", "hair-ears", "background"}
    assert not re.search(r"\bnan\b", page)
    assert np.load(tmp_path / "out" / "population.npz")["population"].shape == (32, 32)
    assert (tmp_path / "out" / "population.png").stat().st_size > 1000


def test_an_interrupted_card_goes_on(painted: Path, tmp_path: Path, card: RecognizerCard) -> None:
    """With all that it needs in the store, no pass is run again, and the figures are the same."""
    recognizer = tiny_recognizer()
    seen = []

    def stop(stage: str, done: int, total: int) -> None:
        seen.append((stage, done))
        if stage == "maps" and done == 5:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"masks": 12, "backend": "torch", "people": 8, "photos": 2}
    with pytest.raises(KeyboardInterrupt):
        make_card(recognizer, painted, store=tmp_path / "s", progress=stop, **settings)
    whole = make_card(recognizer, painted, store=tmp_path / "s", **settings)
    passes = []
    forward = recognizer.forward
    recognizer.forward = lambda batches: passes.append(1) or forward(batches)  # type: ignore[func-returns-value]
    again = make_card(recognizer, painted, store=tmp_path / "s", **settings)
    assert not passes and {stage for stage, _ in seen} == {"embed", "photos", "maps"}
    assert again.maps is not None and whole.maps is not None
    np.testing.assert_array_equal(again.maps.population, whole.maps.population)


def test_scores_only(tmp_path: Path, command: Command) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    paint_faceset(tmp_path / "listed", listed=True)
    arguments = ["card", "my_score.py:similarity", "--faces", "listed", "--people", "6",
                 "--photos", "2", "--masks", "8", "--rate", "1000000"]  # fmt: skip
    done = command(*arguments)
    assert done.code == 0 and done.out.strip() == "card/index.html", done
    data = json.loads(Path("card/card.json").read_text())
    assert data["calls"] > 500 and data["non_mated_pairs"] == 0
    assert data["conditions"][0]["fmr"] is None
    # The list has 18 non-mated pairs.
    assert set(data["thresholds"]) == {"eer"} and "needs 1,000" in data["warnings"][0]
    assert "calls of the recognizer" in Path("card/index.html").read_text()
    assert command(*arguments).code == 0
    # All scores are kept: only the three calls of the fingerprint are made again.
    assert json.loads(Path("card/card.json").read_text())["calls"] == 3


def test_few_people_claim_nothing(painted: Path, tmp_path: Path) -> None:
    made = ff.recognizer_card(
        tiny_recognizer(), str(painted), tmp_path / "few", people=6, photos=2, masks=8,
        backend="torch",
    )  # fmt: skip
    page = (tmp_path / "few" / "index.html").read_text()
    assert "with fewer than 10 this page gives figures and claims nothing" in page
    assert not any(rate.shown for row in made.rows for rate in row.rates.values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "grad-cam"}, r"'method' of a card must be one of .*s-rise"),
        ({"people": 0}, r"'people' of a card must be at least 1\. Got 0"),
        ({"rate": 3}, "'rate' is for recognizers that give scores only"),
        ({"masks": 1}, "masks"),
        ({"photos": 1}, "'max_images' must be at least 2"),
    ],
)
def test_wrong_options_are_said(painted: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        make_card(tiny_recognizer(), painted, backend="torch", **options)  # type: ignore[arg-type]


def test_other_crops_are_refused(painted: Path) -> None:
    faces = ff.load_faces(np.zeros((4, 20, 30, 3), np.uint8), ["A", "A", "B", "B"])
    with pytest.raises(UserError, match=r"must be square .arcface112. crops\. Got 20x30"):
        make_card(tiny_recognizer(), faces)
