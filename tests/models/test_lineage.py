"""Which recognizers are kin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facefocus.core.errors import UserError
from facefocus.models.lineage import (
    Lineage,
    kinship,
    nearest_kinship,
    stated_lineage,
    training_kinds,
)
from facefocus.models.zoo import entries, lineage
from tests.small import tiny_recognizer

CASIA, MS1M, NARROW, GRAY = (
    "mobilefacenet-casia",
    "mobilefacenet-ms1m",
    "mobilefacenet-casia-112x96",
    "squeezenet-vggface2",
)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (CASIA, NARROW, "same"),
        (MS1M, CASIA, "sibling"),
        (GRAY, CASIA, "unseen"),
        (GRAY, "facenet-vggface2", "sibling"),  # the data
        ("iresnet18-glint360k", "arcface-resnet100", "same"),  # Glint360K holds MS-Celeb-1M
        ("dlib", MS1M, "unseen"),
        ("iresnet50-sface", CASIA, "sibling"),  # SFace is drawn after CASIA-WebFace
        ("iresnet-mini-all", "vit-mini-eyes", "sibling"),  # one program draws both worlds
        ("sface", MS1M, "sibling"),  # the family; data not stated
        ("sface", GRAY, "not stated"),  # the data might be the same
        ("mine.py:build", GRAY, "not stated"),
        ("insightface:buffalo_s", MS1M, "sibling"),
    ],
)
def test_kinship_of_known_recognizers(source: str, target: str, expected: str) -> None:
    assert kinship(lineage(source), lineage(target)) == expected
    assert kinship(lineage(target), lineage(source)) == expected


def test_a_joint_map_is_as_near_as_its_nearest_source() -> None:
    known = {name: lineage(name) for name in (CASIA, MS1M, NARROW, GRAY, "mine")}
    assert nearest_kinship(f"{MS1M}+{GRAY}", CASIA, known) == "sibling"
    assert nearest_kinship(f"{MS1M}+{NARROW}", CASIA, known) == "same"
    assert nearest_kinship(f"{MS1M}+{CASIA}", CASIA, known) == "white box"
    # A source that might be nearer kin than the others.
    assert nearest_kinship(f"{MS1M}+mine", CASIA, known) == "not stated"
    assert nearest_kinship(f"{NARROW}+mine", CASIA, known) == "same"
    assert nearest_kinship("mine", "mine", known) == "white box"
    assert nearest_kinship("gone", CASIA, {}) == "not stated"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("vgg-face2", "sibling"),
        ("VGG Face 2", "sibling"),
        ("ms1mv2", "unseen"),
        (None, "not stated"),
    ],
)
def test_what_a_user_states_is_read_in_any_spelling(training: str | None, expected: str) -> None:
    stated = stated_lineage(training=training, data="real")
    assert stated is not None
    mine = replace(stated, family="IResNet")
    assert kinship(mine, lineage(GRAY)) == kinship(lineage(GRAY), mine) == expected


def test_a_wrong_statement_is_refused() -> None:
    assert stated_lineage() is None
    with pytest.raises(UserError, match=r"The 'data' must be real or synthetic. Got 'reel'."):
        stated_lineage(data="reel")
    with pytest.raises(UserError, match=r"The 'year' must be .* Got 19."):
        stated_lineage(year=19)


def test_real_and_synthetic_training_data() -> None:
    known = {name: lineage(name) for name in (CASIA, "iresnet50-sface")}
    assert training_kinds(CASIA, "iresnet50-sface", known) == "real to synthetic"
    assert training_kinds("mine", CASIA, known) == "not stated to real"


def test_what_a_recognizer_says_of_itself_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = tiny_recognizer("mine")
    mine = Lineage("my photos", "real", "my network")
    monkeypatch.setattr(recognizer, "lineage", mine, raising=False)
    assert lineage(CASIA, recognizer).training == "my photos"
    assert lineage(CASIA).training == "CASIA-WebFace"
    assert lineage("FN_C").family == "Inception-ResNet"


def test_every_recognizer_of_the_zoo_states_its_family() -> None:
    assert not [name for name, entry in entries().items() if entry.family == "not stated"]
