"""Training on drawn faces: the same weights whenever and however often it is interrupted."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.faces.faceset import FaceSet, make_faceset
from facefocus.faces.sources.synthetic import make_faceset as make_faceset_on_disk
from facefocus.faces.sources.synthetic import render_many
from facefocus.models import zoo
from facefocus.planted.train import loop
from facefocus.planted.train.card import card_failures, train_recognizer
from facefocus.planted.train.data import Split, batch, split, steps_per_epoch
from facefocus.planted.train.recipe import Recipe, parse_recipe
from tests.conftest import Command

NETWORK = {
    "architecture": "iresnet",
    "options": {"depth": 10, "width": 4, "stem_stride": 2, "embedding": 8},
}


def recipe(**training: Any) -> Recipe:
    given = {"epochs": 2, "batch": 6, "learning_rate": 0.01, "growth": 0.0, **training}
    faces = {"world": "all", "identities": 7, "photos": 4, "unseen": 3}
    return parse_recipe({"name": "tiny", "network": NETWORK, "faces": faces, "training": given})


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    drawn = render_many("all", 3, range(7), 4)
    return make_faceset(drawn.frames, drawn.identities.tolist(), drawn.names.tolist(), "drawn")


def weights(trainee: loop.Trainee) -> dict[str, Tensor]:
    return {**trainee.module.state_dict(), "directions": trainee.directions.detach()}


class Shown:
    """A `Progress` that keeps the steps it was told of."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.steps.append(done)


def same(left: loop.Trainee, right: loop.Trainee) -> bool:
    first, second = weights(left), weights(right)
    return all(torch.equal(first[key], second[key]) for key in first)


# --- data -----------------------------------------------------------------------------------------


def test_unseen_people_are_never_trained_on(faces: FaceSet) -> None:
    data = split(faces, recipe())
    assert data.people == 4
    assert len(data.unseen) == 3
    assert not set(data.rows) & set(data.unseen_rows)
    assert sorted([*data.rows, *data.unseen_rows]) == list(range(28))
    for label in range(4):
        assert len(set(faces.identities[data.rows[data.labels == label]])) == 1


def test_an_epoch_shows_every_photo_once(faces: FaceSet) -> None:
    how = recipe(batch=4, erase=0.0)
    data = split(faces, how)
    assert steps_per_epoch(16, how) == 4
    shown = np.concatenate([batch(data, how, step)[0] for step in range(4)])
    wanted = {faces.frames[row].tobytes() for row in data.rows}
    assert {frame.tobytes() for frame in shown} == wanted
    again = np.concatenate([batch(data, how, step)[0] for step in range(4, 8)])
    assert not np.array_equal(shown, again)


def test_a_batch_depends_on_seed_and_step_alone(faces: FaceSet) -> None:
    how = recipe(erase=1.0, flip=True)
    data = split(faces, how)
    frames, labels = batch(data, how, 3)
    again, same_labels = batch(data, how, 3)
    assert np.array_equal(frames, again)
    assert np.array_equal(labels, same_labels)
    other = how.model_copy(update={"seed": 1})
    assert not np.array_equal(frames, batch(data, other, 3)[0])


def erased_shares(faces: FaceSet, steps: int, **how: float) -> np.ndarray:
    """Share of each frame that erasing changes, step by step."""
    hidden, plain = recipe(erase=1.0, **how), recipe(erase=0.0, **how)
    data = split(faces, hidden)
    pairs = [(batch(data, hidden, step)[0], batch(data, plain, step)[0]) for step in range(steps)]
    return np.array(
        [(erased != unchanged).any(axis=-1).mean(axis=(1, 2)) for erased, unchanged in pairs]
    )


def test_erasing_hides_a_part_of_every_frame(faces: FaceSet) -> None:
    """1 to 24 rectangles of 10 % times 10 % on average: 12 % of the frame, less what overlaps."""
    shares = erased_shares(faces, 16)
    assert shares.min() > 0.002
    assert shares.max() < 0.45
    assert 0.07 < shares.mean() < 0.13


def test_erasing_begins_late(faces: FaceSet) -> None:
    """Of 8 epochs with 2 steps each, growing over all of them."""
    shares = erased_shares(faces, 16, epochs=8, growth=1.0)
    assert shares[0].max() == 0.0
    assert (shares[:6] > 0).mean() < 0.4
    assert (shares[10:] > 0).mean() > 0.6


def test_mirroring_turns_about_half_of_the_photos(faces: FaceSet) -> None:
    how, plain = recipe(erase=0.0, flip=True), recipe(erase=0.0)
    data = split(faces, how)
    turned = 0
    for step in range(16):
        pairs = zip(batch(data, how, step)[0], batch(data, plain, step)[0], strict=True)
        for got, frame in pairs:
            mirrored = np.array_equal(got, frame[:, ::-1])
            assert mirrored or np.array_equal(got, frame)
            turned += mirrored
    assert 30 < turned < 66  # of 96; 48 is the mean, 5 the standard deviation


def test_too_few_people_or_photos_are_said(faces: FaceSet) -> None:
    wrong = recipe().model_copy(update={"faces": recipe().faces.model_copy(update={"unseen": 6})})
    with pytest.raises(
        UserError, match=r"'unseen' of \[faces\] .* Got 6 of the 7 people of 'drawn'"
    ):
        split(faces, wrong)
    with pytest.raises(UserError, match=r"'batch' of \[training\] .* 16 photos .* Got 17\."):
        split(faces, recipe(batch=17))


# --- loop -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(faces: FaceSet) -> Split:
    return split(faces, recipe())


@pytest.fixture(scope="module")
def whole(data: Split, tmp_path_factory: pytest.TempPathFactory) -> loop.Trainee:
    """A training that nothing interrupted."""
    return loop.train(recipe(), data, tmp_path_factory.mktemp("whole"))


def test_the_same_recipe_gives_the_same_weights(
    data: Split, whole: loop.Trainee, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    torch.manual_seed(99)
    torch.randn(3)
    assert same(whole, loop.train(recipe(), data, tmp_path / "again"))
    other = recipe().model_copy(update={"seed": 1})
    assert not same(whole, loop.train(other, data, tmp_path / "other"))
    torch.set_rng_state(before)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_killed_at_any_step_goes_on_to_the_same_weights(
    data: Split,
    whole: loop.Trainee,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    """With a checkpoint after every step, and with the last one only at the end of an epoch."""
    for every in (0.0, 1e9):
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY", every)
        out = tmp_path / f"broken-{every}"

        def kill(stage: str, done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe(), data, out, kill)
        shown = Shown()
        resumed = loop.train(recipe(), data, out, shown)
        kept = stop if every == 0 else 2 * (stop // 2)
        assert shown.steps == list(range(kept + 1, 5))
        assert same(whole, resumed)
        assert resumed.history == whole.history


def test_training_lowers_the_loss_and_learns_unseen_people(faces: FaceSet, tmp_path: Path) -> None:
    how = recipe(epochs=12, batch=8, erase=0.0)
    trainee = loop.train(how, split(faces, how), tmp_path)
    losses = [epoch["loss"] for epoch in trainee.history]
    assert losses[-1] < 0.5 * losses[0]
    assert trainee.history[-1]["eer"] < 0.35


def test_training_starts_from_the_tensors_that_agree() -> None:
    """A transformer's stem is that of the recognizer it starts from; the rest is fresh."""
    options = {"depth": 1, "width": 16, "heads": 4, "embedding": 32}
    faces = {"world": "eyes", "identities": 700, "photos": 14, "seed": 1}
    network = {"architecture": "vision_transformer", "options": options}
    how = parse_recipe(
        {"name": "t", "network": {**network, "initial": "iresnet-mini-eyes"}, "faces": faces}
    )
    path, module = zoo.describe("iresnet-mini-eyes").present(), loop.build(how)
    assert path is not None
    fresh = {key: value.clone() for key, value in module.state_dict().items()}
    loop._start_from(module, how)
    started, key = module.state_dict(), "layer4.0.conv2.weight"
    assert torch.equal(started[key], load_file(path)[key].float())
    assert not torch.equal(started[key], fresh[key])
    assert torch.equal(started["join.weight"], fresh["join.weight"])
    other = how.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match=r"have the recipe's .faces. and seed.*seen the people"):
        loop._start_from(module, other)
    small = how.network.model_copy(update={"options": {**options, "width": 4, "embedding": 8}})
    other = how.model_copy(update={"network": small})
    with pytest.raises(UserError, match=r"with 'vision_transformer'.*shares none"):
        loop._start_from(loop.build(other), other)
    with pytest.raises(UserError, match=r"iresnet-mini-eye'.*iresnet-mini-eyes"):
        parse_recipe({"name": "t", "network": {**network, "initial": "iresnet-mini-eye"}})


def test_another_recipe_does_not_go_on_from_a_checkpoint(data: Split, tmp_path: Path) -> None:
    loop.train(recipe(epochs=1), data, tmp_path)
    with pytest.raises(UserError, match="belongs to another recipe or face set"):
        loop.train(recipe(epochs=2), data, tmp_path)


def test_a_damaged_checkpoint_is_said(data: Split, tmp_path: Path) -> None:
    (tmp_path / loop.CHECKPOINT).write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(UserError, match=r"checkpoint\.pt' cannot be read: .* Delete it"):
        loop.train(recipe(), data, tmp_path)


def test_a_rate_that_is_too_high_is_said(data: Split, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged .* 'learning_rate' of \[training\]"):
        loop.train(recipe(learning_rate=1e30), data, tmp_path)


def test_options_that_do_not_fit_are_said(data: Split, tmp_path: Path) -> None:
    network = {"architecture": "iresnet", "options": {"depth": 10, "widht": 4}}
    wrong = parse_recipe({"name": "x", "network": network, "faces": {"world": "all"}})
    with pytest.raises(UserError, match=r"'options' of \[network\] do not fit 'iresnet': .*widht"):
        loop.train(wrong, data, tmp_path)


@pytest.mark.parametrize(("width", "last"), [(4, False), (16, True)])
def test_channels_last_only_where_it_is_safe(width: int, last: bool) -> None:
    network = {**NETWORK, "options": {**NETWORK["options"], "width": width}}  # type: ignore[dict-item]
    how = parse_recipe({"name": "x", "network": network, "faces": {"world": "all"}})
    layout = loop._memory_format(loop.build(how))
    assert layout == (torch.channels_last if last else torch.contiguous_format)


# --- the whole command ----------------------------------------------------------------------------


def test_a_world_becomes_a_recognizer_with_its_card(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(
        'name = "tiny"\n[network]\narchitecture = "iresnet"\n'
        "options = { depth = 10, width = 4, stem_stride = 2, embedding = 8 }\n"
        '[faces]\nworld = "all"\nidentities = 7\nphotos = 4\nunseen = 3\n'
        "[training]\nepochs = 1\nbatch = 8\n"
    )
    out = tmp_path / "out"
    card = train_recognizer(str(file), out)
    record = tomllib.loads(card.read_text(encoding="utf-8"))
    assert record["result"]["people"] == 4
    assert record["validation"]["people"] == 3
    assert "planted" not in record
    tensors = load_file(out / "tiny.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    drawn = (out / "faces" / "frames.npy").stat().st_mtime_ns
    again = train_recognizer(str(card), out)
    after = tomllib.loads(again.read_text(encoding="utf-8"))
    assert after["result"]["weights_sha256"] == record["result"]["weights_sha256"]
    assert (out / "faces" / "frames.npy").stat().st_mtime_ns == drawn
    other = tmp_path / "other"
    make_faceset_on_disk(other, world="all", identities=7, photos=4, seed=9)
    with pytest.raises(UserError, match=r"must hold the faces of the recipe, .*'seed': 0"):
        train_recognizer(str(file), out, faces=other)
    assert after["result"]["minutes"] == record["result"]["minutes"]
    for contents in (record, after):
        del contents["result"]["command"]
    assert after == record


def test_a_training_that_learned_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Figures of a training whose loss never fell; the command ends with code 1."""
    card = tmp_path / "unlearned.toml"
    failure = "it recognizes people with the planted part hidden"
    card.write_text(f"[validation]\neer = 0.25\n[planted]\nfailure = '{failure}'\n")
    assert card_failures(card) == [failure]
    card.write_text("[validation]\neer = 0.5\n")
    (few,) = card_failures(card)
    assert few == "it recognizes too few unseen people: EER 0.5000, at most 0.25 expected"
    monkeypatch.setattr("facefocus.planted.train.card.train_recognizer", lambda *_, **__: card)
    ended = command("synthetic", "train", "any")
    assert (ended.code, ended.out.splitlines()[-1]) == (1, f"FAILED: {few}")
