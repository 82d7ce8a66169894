"""Frames hidden where they are embedded: byte for byte those that numpy hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facefocus.models.occluded_frames import ContentHide, OccludedFrames, multiplied, occlude
from facefocus.models.recognizer import BLOCK, CHUNK, embed_made, made_of
from facefocus.occlusion.fills import FILLS, fill_rng, hider, reading
from facefocus.saliency import rise
from tests.small import tiny_recognizer

CPU = torch.device("cpu")


@pytest.mark.parametrize("fill", [name for name in FILLS if reading(name) == "artefact"])
@pytest.mark.parametrize("shape", [(32, 32), (7, 9)])
def test_every_content_fill_hides_the_same_bytes_in_either_way(
    fill: str, shape: tuple[int, int]
) -> None:
    """What a processor does pixel by pixel and a GPU for all pixels at once, for shuffled photos;
    a frame of 63 pixels has a last byte of mask that is not full."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, *shape, 3), dtype=np.uint8)
    hiders = [
        hider(fill, frames[part], [fill_rng(0, str(row)) for row in range(5)][part])
        for part in (slice(0, 2), slice(2, 5))
    ]
    content = np.concatenate([hide.content for hide in hiders if isinstance(hide, ContentHide)])
    masks = rng.random((4, *shape)) < np.array([0.0, 0.02, 0.6, 1.0])[:, None, None]
    rows, which = np.array([4, 0, 1, 0, 3, 2, 4, 4]), np.array([0, 0, 1, 3, 2, 2, 1, 3])
    wanted = occlude(frames[rows], masks[which], content[rows])
    packed = np.packbits(masks.reshape(4, -1), axis=1)
    photos = OccludedFrames([h for h in hiders if isinstance(h, ContentHide)], CPU)
    np.testing.assert_array_equal(photos.under(rows, packed, which).numpy(), wanted)
    np.testing.assert_array_equal(photos._chosen(rows, packed[which]).numpy(), wanted)
    # And what each person's own hider makes of one mask.
    np.testing.assert_array_equal(wanted[-1], hiders[1](masks[3])[2])


@pytest.mark.parametrize("frame", [(112, 112), (50, 33)])
def test_rise_masks_multiply_to_the_bytes_that_numpy_gets(frame: tuple[int, int]) -> None:
    """The definition in numpy, with matrices of weights and no library's resampling."""
    masks = rise.rise_masks_on(np.random.default_rng(3), 40, frame, {}, CPU)
    again = np.random.default_rng(3)
    grids = (again.random((40, 8, 8)) < 0.5).astype(np.float64)
    weights = []
    for side in frame:
        cell = -(-side // 8)
        shifts = again.integers(0, cell, 40)
        centers = np.clip((np.arange(9 * cell) + 0.5) * 8 / (9 * cell) - 0.5, 0, 7)
        table = np.maximum(1 - np.abs(centers[:, None] - np.arange(8)), 0)
        weights.append(np.stack([table[start : start + side] for start in shifts]))
    smooth = np.einsum("nri,nij,ncj->nrc", weights[0], grids, weights[1])
    np.testing.assert_allclose(masks.numpy(), smooth, atol=rise.STEP)
    picture = np.random.default_rng(4).integers(0, 256, (*frame, 3), dtype=np.uint8)
    # A mask is a whole number of steps: the product is exact in float32, and so is its rounding.
    steps = np.rint(masks.numpy() / rise.STEP).astype(np.int64)[..., None] * picture
    down, rest = np.divmod(steps, round(1 / rise.STEP))
    half = round(0.5 / rise.STEP)
    wanted = down + ((rest > half) | ((rest == half) & (down % 2 == 1)))
    np.testing.assert_array_equal(multiplied(torch.from_numpy(picture), masks).numpy(), wanted)


def test_frames_that_are_made_fill_one_batch_after_the_other() -> None:
    """Over blocks, a batch that is not full is only the last; embeddings are as alone."""
    recognizer = tiny_recognizer()
    count = BLOCK * CHUNK + 37
    frames = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    asked: list[tuple[int, int]] = []

    def make(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        return made_of(frames)(start, stop)

    blocks = list(embed_made(recognizer, count, make))
    assert [len(block) for block in blocks] == [BLOCK * CHUNK, 37]
    assert asked == [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    assert (recognizer.passes, recognizer.padded) == (count + 11, 11)
    embeddings = np.concatenate(blocks)
    for row in (0, CHUNK, count - 38, count - 1):
        np.testing.assert_array_equal(embeddings[row], recognizer.embed(frames[row : row + 1])[0])


def test_references_on_a_gpu_run_as_many_at_once_as_captures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognizer = tiny_recognizer()
    recognizer.batch, recognizer.graph_batch = 4, 32
    frames = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    counts: list[tuple[int, int]] = []
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(type(recognizer), "device", torch.device(device))
        recognizer.passes = recognizer.padded = 0
        made = recognizer.embed_reference(frames)
        counts.append((recognizer.passes, recognizer.padded))
        np.testing.assert_allclose(made, recognizer.embed(frames), rtol=1e-4, atol=1e-4)
    assert counts == [(40, 0), (64, 24)] and recognizer.batch == 4


def test_the_next_block_is_on_its_way_to_a_gpu_while_one_is_worked_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the network only says that it is on a GPU: the order of things is tested, not speed."""
    recognizer = tiny_recognizer()
    count = 3 * BLOCK * CHUNK
    frames = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    wanted = recognizer.embed(frames)
    monkeypatch.setattr(type(recognizer), "device", torch.device("cuda"))
    made = 0

    def make(start: int, stop: int) -> torch.Tensor:
        nonlocal made
        made = stop
        return made_of(frames)(start, stop)

    seen, blocks = [], []
    for block in embed_made(recognizer, count, make):
        seen.append(made)
        blocks.append(block)
    assert seen == [2 * BLOCK * CHUNK, count, count]
    np.testing.assert_array_equal(np.concatenate(blocks), wanted)
