"""Weights that the user brings, for a recognizer of the zoo or under a name of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.add import add_weights
from facefocus.models.lineage import Lineage

TINY = {
    "title": "Tiny IResNet",
    "architecture": "iresnet",
    "options": {"depth": 18, "width": 2, "embedding": 4, "final_size": [1, 1]},
    "preprocessing": {"size": [16, 16], "mean": 127.5, "std": 127.5},
    "training": "nothing",
    "data": "synthetic",
    "source": "these tests",
    "license": "research only",
    "commercial": "no",
    "file": "tiny/backbone.safetensors",
    "aliases": ["TINY"],
}


def content() -> bytes:
    torch.manual_seed(5)
    return save(zoo.Entry.model_validate(TINY).build().state_dict())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FACEFOCUS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facefocus.core.locations.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def know(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    entries = {"tiny": zoo.Entry.model_validate(TINY | changes)}
    monkeypatch.setattr(zoo, "packaged", lambda: entries)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_the_user_is_added(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Whatever it was called: the copy has the zoo's name."""
    know(monkeypatch, file="tiny/backbone.pth")
    torch.manual_seed(5)
    state = zoo.describe("tiny").build().state_dict()
    state["logits.weight"] = torch.ones(3, 4)
    mine = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, mine)
    else:
        save_file(state, mine)
    path, lines = add_weights("TINY", mine)
    assert path == cache / "models/tiny/backbone.pth"
    assert path.read_bytes() == mine.read_bytes()
    assert list(path.parent.iterdir()) == [path]
    assert "NOT allowed" in lines[0]
    assert lines[1] == "Left out, since the network has no such tensors: 'logits.weight'."
    assert zoo.load("tiny").embed(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 4)


def test_what_is_absent_says_how_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def advice() -> str:
        with pytest.raises(UserError, match="The weights of 'tiny' was not found") as caught:
            zoo.load("tiny")
        return str(caught.value).partition("safetensors. ")[2]

    know(monkeypatch, url="https://example.org/x")
    assert advice() == "Get them by: facefocus fetch tiny."
    know(monkeypatch, page="https://example.org/share")
    assert advice() == (
        "Get backbone.safetensors from https://example.org/share, then run: "
        "facefocus models add tiny FILE."
    )
    know(monkeypatch)
    assert advice().startswith("No link to them is known: with the file, run facefocus models add")


def test_a_wrong_file_is_not_added(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, sha256="1" * 64)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(content())
    with pytest.raises(
        UserError, match="is not the published file of Tiny IResNet: its sha256 must be 1111"
    ):
        add_weights("tiny", mine)
    mine.write_bytes(content()[:500])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        add_weights("tiny", mine)
    assert not cache.exists()


def reading(name: str) -> dict[str, object]:
    return dict(zoo.describe(name).preprocessing)


def test_weights_under_a_name_of_the_users_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    monkeypatch.setitem(zoo.NETWORKS, "tinynet", "tiny")
    mine, other = tmp_path / "epoch 9.PTH.TAR", tmp_path / "other.bin"
    state = zoo.describe("tiny").build().state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, mine)
    torch.save({key: value + 1 for key, value in state.items()}, other)
    words = {"channels": "bgr", "mean": [1, 2, 3]}
    path, lines = add_weights("mine", mine, architecture="tinynet", preprocessing=words)
    assert path == cache / "models/own/mine.weights"
    assert lines[0].startswith("mine, from epoch 9.PTH.TAR: not stated.")
    assert reading("mine") == {"size": [16, 16], "std": 127.5} | words
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    first = zoo.load("mine").embed(frames)
    with pytest.raises(UserError, match=r"'mine' has other weights already: .*--force"):
        add_weights("mine", other, architecture="tinynet")
    assert np.array_equal(zoo.load("mine").embed(frames), first)
    torch.save({f"backbone.{key}": value for key, value in state.items()}, tmp_path / "same.pt")
    origin = Lineage("VGGFace2", "real", loss="ArcFace", year=2018)
    add_weights(
        "mine", tmp_path / "same.pt", architecture="tinynet", preprocessing=words, lineage=origin
    )
    assert zoo.lineage("mine") == origin  # the family is that of the network, which states none
    add_weights("mine", other, architecture="tiny", force=True)
    assert zoo.lineage("mine") == Lineage()
    assert not np.allclose(zoo.load("mine").embed(frames), first)
    assert reading("mine") == TINY["preprocessing"]
    assert zoo.names() == ["tiny", "mine"]


def test_weights_alone_are_told_what_they_fit(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch)
    mine, strange = tmp_path / "mine.safetensors", tmp_path / "strange.pth"
    mine.write_bytes(content())
    torch.save({"a.weight": torch.ones(2)}, strange)
    for call in (lambda: zoo.load(str(mine)), lambda: add_weights("mine", mine)):
        with pytest.raises(UserError, match="They fit tiny") as caught:
            call()
        assert f"models add mine {mine} --architecture tiny, then name 'mine'" in str(caught.value)
    with pytest.raises(UserError, match="fit no network that is known here"):
        zoo.load(str(strange))


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("a/b", {}, "must be new, of letters, digits, - and _. Got 'a/b'"),
        ("mine.onnx", {}, "must be new, of letters"),
        ("mine", {"architecture": "iresnet51"}, "Got 'iresnet51'. Did you mean 'iresnet50'"),
        ("mine", {"preprocessing": {"std": 0}}, "'std' of preprocessing must be positive"),
        ("tiny", {"architecture": "tiny"}, "the training of 'tiny' are known"),
        ("tiny", {"architecture": None, "lineage": Lineage(year=2019)}, "training of 'tiny' are"),
    ],
)
def test_wrong_names_and_words_of_own_weights(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: dict[str, Any],
    message: str,
) -> None:
    know(monkeypatch)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(content())
    with pytest.raises(UserError, match=message):
        add_weights(name, mine, **{"architecture": "tiny"} | words)
    assert not cache.exists()


def test_a_damaged_record_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "models/own").mkdir(parents=True)
    (cache / "models/own/mine.json").write_text("{")
    with pytest.raises(UserError, match=r"record '.*mine.json' of an added .* damaged. Delete it"):
        zoo.load("mine")
