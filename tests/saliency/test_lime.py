from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge

from facefocus.saliency.lime import COMPACTNESS, lime, local_model, superpixels
from tests.saliency.photos import noise, photo


def test_scikit_learn_gives_the_same_model() -> None:
    rng = np.random.default_rng(1)
    shown, similarities = rng.random((60, 7)) < 0.5, rng.random(60)
    shown[5] = False
    distances = 1 - np.sqrt(shown.sum(axis=1) / 7)  # cosine of 0/1 rows to ones
    weights = np.exp(-(distances**2) / 0.25**2)
    wanted = Ridge(alpha=1.0).fit(shown, similarities, sample_weight=weights).coef_
    np.testing.assert_allclose(local_model(shown, similarities), wanted, rtol=1e-8)


def test_scikit_learn_gives_the_same_superpixels() -> None:
    frame = noise(side=20, seed=4)[0]
    frame[:, :9] //= 4
    centers = [
        [*frame[row, column].astype(float), (row + 0.5) * 4, (column + 0.5) * 4]
        for row in (2, 7, 12, 17)
        for column in (2, 7, 12, 17)
    ]
    assert COMPACTNESS / 5 == 4  # 16 superpixels of 20 x 20 are 5 wide
    rows, columns = np.indices((20, 20)) + 0.5
    points = np.dstack([frame.astype(float), rows * 4, columns * 4]).reshape(-1, 5)
    fitted = KMeans(16, init=np.array(centers), n_init=1, max_iter=9, tol=0).fit(points)
    wanted = np.unique(fitted.labels_, return_inverse=True)[1].reshape(20, 20)
    np.testing.assert_array_equal(superpixels(frame, 16), wanted)


def test_the_superpixel_that_counts_has_the_largest_value() -> None:
    frame = np.full((28, 28, 3), 100, np.uint8)
    labels = superpixels(frame, 49)
    counts = labels == labels[9, 17]

    def score(frames: np.ndarray) -> np.ndarray:
        scores: np.ndarray = frames[..., 1][:, counts].mean(axis=1) / 100
        return scores

    saliency = lime(photo(frame, []), score, {"samples": "200", "superpixels": "49"})
    assert (saliency[counts] == saliency.max()).all() and saliency[
        ~counts
    ].max() < saliency.max() / 5
    assert np.bincount(labels.ravel()).tolist() == [16] * 49
