"""A few built-in frames, and a coarse code of how a recognizer embeds them.

The code is part of every fingerprint beside the hashes of files and weights, which are its main
part: it notices embeddings that change though no file and no weight that was seen does. It has to
be the same on every machine. So it is coarse: 16 signs of each of 4 frames. A sign is that of the
embedding's product with a seeded vector of ones and minus ones, so it changes with a probability of
a third of the relative change of the embedding. Threads, processors and releases of torch move
float32 embeddings by about 1e-6: one recognizer in 50,000 then has another code. A change of the
embeddings by a fifth is missed once in 60 times, other weights never.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float, UInt8

#: Frames, signs of each, and side of a frame and of its blocks.
FRAMES, SIGNS, SIDE, BLOCK = 4, 16, 112, 14


def probe_frames() -> UInt8[np.ndarray, "4 112 112 3"]:
    """Blocks of colors with an oval and three dark spots, like a mask of a face; integers only."""
    row, column = np.mgrid[:SIDE, :SIDE]
    oval = ((row - 60) * 3) ** 2 + ((column - 56) * 4) ** 2 < 150**2
    spots = [(45, 38), (45, 74), (85, 56)]
    dark = np.any([(row - r) ** 2 + (column - c) ** 2 < 64 for r, c in spots], axis=0)
    frames = []
    for number in range(FRAMES):
        cells = SIDE // BLOCK
        drawn = _bytes(f"frame {number}", cells * cells * 3 + 6)
        blocks = drawn[6:].reshape(cells, cells, 3)
        frame = np.kron(blocks, np.ones((BLOCK, BLOCK, 1), np.uint8))
        frame[oval] = frame[oval] // 4 + drawn[:3] // 2 + 64
        frame[dark] = drawn[3:6] // 4
        frames.append(frame)
    return np.stack(frames)


def probe_code(embeddings: Float[np.ndarray, "4 d"]) -> str:
    """The signs as hexadecimal digits."""
    rows = embeddings.astype(np.float64)
    dimensions = rows.shape[1]
    signs = []
    for number, row in enumerate(rows):
        drawn = _bytes(f"vectors {number}", SIGNS * dimensions) & 1
        vectors = drawn.reshape(SIGNS, dimensions).astype(np.float64) * 2 - 1
        signs.append(vectors @ row > 0)
    return np.packbits(signs).tobytes().hex()


def _bytes(what: str, count: int) -> np.ndarray:
    """Bytes that are the same everywhere, whatever generators a library has."""
    made = b"".join(
        hashlib.sha256(f"facefocus probe {what} {number}".encode()).digest()
        for number in range(-(-count // 32))
    )
    return np.frombuffer(made, np.uint8)[:count]
