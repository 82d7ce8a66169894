from __future__ import annotations

import numpy as np
from scipy.signal import convolve2d

from facefocus.saliency.xface import patches, xface
from tests.saliency.photos import photo

SIDE = 16


def test_an_additive_similarity_gives_a_sum_of_box_sums() -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    worth = rng.standard_normal((SIDE, SIDE))

    def score(frames: np.ndarray) -> np.ndarray:
        found: np.ndarray = 0.25 + (worth * frames[..., 0]).sum(axis=(1, 2))
        return found

    # Of 16 pixels, patches are 1, 2 and 4 wide at a stride of 1.
    wanted = np.zeros((SIDE, SIDE))
    for side in (1, 2, 4):
        box = np.ones((side, side))
        drops = convolve2d(worth * frame[..., 0], box, mode="valid")
        wanted += convolve2d(drops / side**2, box, mode="full")
    found = xface(photo(frame, []), score, {"stride": "5"})
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_patches_of_a_common_frame() -> None:
    # 22, 20 and 17 places along each side.
    masks = patches((112, 112))
    assert len(masks) == 22**2 + 20**2 + 17**2
    assert masks[0, :7, :7].all() and masks[0].sum() == 49
    assert masks[1, :7, 5:12].all() and masks[22**2 + 20, 5:19, :14].all()
