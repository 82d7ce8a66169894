"""A clean photo is embedded once, whoever asks: verify, evaluate, card and person share a store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import facefocus as ff
from facefocus.models.recognizer import MakeFrames, TorchRecognizer
from facefocus.person import candidates, proof
from tests.small import aligned_faceset, tiny_recognizer


class Counting(TorchRecognizer):
    """Counts how often it embeds each frame."""

    seen: Counter[bytes]

    def _batches(self, start: int, stop: int, make: MakeFrames, size: int) -> Iterator[Tensor]:
        def counted(first: int, end: int) -> Tensor:
            frames = make(first, end)
            self.seen.update(digest(frame) for frame in frames.numpy())
            return frames

        yield from super()._batches(start, stop, counted, size)


def digest(frame: np.ndarray) -> bytes:
    return hashlib.sha256(frame.tobytes()).digest()


def test_clean_photos_of_a_face_set_are_embedded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEFOCUS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(candidates, "STEPS", 1)
    monkeypatch.setattr(proof, "DRAWS", 1)
    faces = aligned_faceset(tmp_path / "painted")
    model = tiny_recognizer()
    model.__class__ = Counting
    assert isinstance(model, Counting)
    model.seen = Counter()
    ff.verify(model, faces, backend="torch")
    maps = {name: np.random.default_rng(0).random((112, 112)) for name in set(faces.identities)}
    ff.evaluate(ff.IdentityMaps.from_arrays(maps, "mine"), model, faces, backend="torch")
    ff.recognizer_card(model, faces, people=3, photos=3, masks=4, backend="torch")
    somebody = np.flip(faces.frames[faces.identities == "p09"], axis=2)
    ff.explain_person(np.array(somebody), model, gallery=faces, backend="torch")
    times = [model.seen[digest(frame)] for frame in faces.frames]
    assert len(times) == 55 and set(times) == {1}
