"""A recognizer that only returns a score for two images: ``--model my_score.py:similarity``.

Yours may ask a service, start a program, or call a library that keeps its embeddings to itself.
"""

from __future__ import annotations

import cv2
import numpy as np


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two aligned crops (RGB, uint8 [h, w, 3]) are; larger is more alike, on any scale.

    Here the correlation of two thumbnails. Where no face is found, return the lowest score.
    """
    small = [cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA) for image in (first, second)]
    return float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1])


# A service may allow few calls: at most so many start in a second. What was asked once is kept.
similarity.calls_per_second = 2000
