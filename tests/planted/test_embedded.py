"""The recognizers that the package brings: there, small, and as good as their cards say."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefocus.cli.model_commands import card_lines
from facefocus.evaluation.verification import pair_scores, sample_pairs, tmr_at_fmr
from facefocus.faces.sources.synthetic import WORLDS, Rendered, render_many
from facefocus.models import zoo
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.token_grids import TokenGrid
from facefocus.models.user_code import sha256
from facefocus.planted.reliance import CHANCE, KEPT, KNOWN
from facefocus.planted.train.card import MOST_EER, card_failures
from facefocus.planted.train.recipe import load_recipe

NAMES = zoo.embedded()


@functools.cache
def drawn_faces(world: str) -> Rendered:
    return render_many(world, 77, range(20), 4)


def card(name: str) -> dict[str, Any]:
    return tomllib.loads(zoo.card(name).read_text(encoding="utf-8"))


def test_every_family_is_there_and_every_world() -> None:
    families = {zoo.describe(name).architecture for name in NAMES if name.endswith("-all")}
    assert families == {"iresnet", "mobilefacenet", "inception_resnet_v1", "vision_transformer"}
    assert {name.rpartition("-")[2] for name in NAMES} == set(WORLDS)


def test_they_load_offline_from_the_package_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACEFOCUS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")
    for name in NAMES:
        recognizer = zoo.load(name)
        assert isinstance(recognizer, TorchRecognizer)
        assert recognizer.layers().calls[recognizer.layers().resolve("N")[0] - 1].height == 7


def test_a_transformers_table_of_layers_is_that_of_its_weights() -> None:
    """A fresh block changes nothing, so that without weights no normalization would be read."""
    table = zoo.layers("vit-mini-eyes")
    kinds = [call.kind for call in table.in_order()]
    assert (kinds.count("conv"), kinds.count("norm"), kinds.count("attention")) == (12, 7, 3)
    assert all((call.grid, call.note) == (TokenGrid(7, 7, ()), "") for call in table.tokens)


def test_their_weights_take_little_room() -> None:
    files = [zoo.describe(name).present() for name in NAMES]
    assert sum(file.stat().st_size for file in files if file) <= 8_000_000


@pytest.mark.parametrize("name", NAMES)
def test_card_weights_and_zoo_belong_together(name: str) -> None:
    entry, recipe, result = zoo.describe(name), load_recipe(name), card(name)["result"]
    assert recipe.name == name
    assert (recipe.network.architecture, recipe.network.options) == (
        entry.architecture,
        entry.options,
    )
    assert recipe.network.reader() == entry.reader()
    assert recipe.faces.world == name.rpartition("-")[2]
    path = entry.present()
    assert path is not None
    assert result["weights_sha256"] == sha256(path)
    assert result["license"] == entry.license == "Apache-2.0"
    assert entry.commercial == "yes"


@pytest.mark.parametrize("name", NAMES)
def test_they_keep_what_is_asked_of_them(name: str) -> None:
    figures = card(name)
    if name.endswith("-all"):
        assert figures["validation"]["tmr_at_fmr_1e2"] >= 0.9
    else:
        assert figures["planted"]["clean_tmr"] >= KNOWN
        assert figures["planted"]["part_tmr"] <= CHANCE
        assert figures["planted"]["kept"] >= KEPT
        assert figures["planted"]["passed"] is True
    assert figures["validation"]["eer"] <= MOST_EER
    assert card_failures(zoo.card(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_other_unseen_people_are_recognized_as_the_card_says(name: str) -> None:
    """20 people, 4 photos: 120 mated pairs, so three standard errors are 0.14 at most."""
    drawn = drawn_faces(name.rpartition("-")[2])
    assert load_recipe(name).faces.seed != 77
    pairs = sample_pairs(drawn.identities, count=2000, seed=0)
    scores = pair_scores(zoo.load(name).embed(drawn.frames), pairs.first, pairs.second)
    tmr = tmr_at_fmr(scores[pairs.mated], scores[~pairs.mated], 1e-2)
    assert tmr == pytest.approx(card(name)["validation"]["tmr_at_fmr_1e2"], abs=0.2)
    # Weights that know nobody would be at the FMR, which the weakest card is not far from.
    assert tmr > 5 * 1e-2


def test_a_recognizer_of_one_world_is_lost_in_another() -> None:
    """Whoever reads eyes knows nobody in a world where identity lies in the mouth."""
    drawn = render_many("mouth", 78, range(20), 4)
    pairs = sample_pairs(drawn.identities, count=2000, seed=0)
    embeddings = zoo.load("iresnet-mini-eyes").embed(drawn.frames)
    scores = pair_scores(embeddings, pairs.first, pairs.second)
    assert tmr_at_fmr(scores[pairs.mated], scores[~pairs.mated], 1e-2) < 0.15
    assert np.isfinite(scores).all()


def test_the_note_shows_the_cards() -> None:
    note = Path(__file__).parents[2] / "docs" / "embedded.md"
    text = note.read_text(encoding="utf-8")
    begin, end = "<!-- facefocus models cards -->\n", "<!-- end -->"
    shown = text.partition(begin)[2].partition(end)[0].strip().splitlines()
    assert shown == list(card_lines())
