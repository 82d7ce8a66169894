"""Photographs of W9 in files, with known landmarks: drawn ones, and the first of LFW's list."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.networks import faces
from facefocus.core.locations import find
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.detect import FaceDetector, detector_model, find_faces
from facefocus.faces.images import decode_rgb
from facefocus.faces.lists import read_list
from facefocus.faces.sources import SOURCES

#: Photographs that are embedded, and their side where they are drawn: that of LFW's.
COUNT, SIDE = 64, 250
#: Likewise, the quality that makes drawn files about as long as LFW's.
QUALITY = 90


@dataclass(frozen=True)
class Listed:
    """Photographs to be embedded.

    Attributes:
        title: What they are.
        files: JPEG files.
        landmarks: Five points (x, y) of the face in each [5, 2].
    """

    title: str
    files: list[Path]
    landmarks: list[np.ndarray]


def drawn(folder: Path, count: int = COUNT) -> Listed:
    """Pictures with a drawn face somewhere on a smooth ground."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files, landmarks = [], []
    for number, frame in enumerate(np.resize(faces(8, 4), (count, 112, 112, 3))):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        top, left = rng.integers(20, SIDE - 132, 2)
        picture[top : top + 112, left : left + 112] = frame[..., ::-1]
        files.append(folder / f"{number}.jpg")
        cv2.imwrite(str(files[-1]), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        landmarks.append(ARCFACE_TEMPLATE + np.array([left, top]) + rng.normal(0, 1, (5, 2)))
    return Listed("drawn photographs", files, landmarks)


def of_lfw(folder: Path, count: int = COUNT) -> Listed:
    """The first photographs, by name, of LFW's verification list; landmarks by YuNet.

    Raises:
        UserError: LFW or the detector is not at hand.
    """
    hint = "Get it by: facefocus fetch lfw."
    archive = find("lfw/lfw-deepfunneled.tgz", "LFW", hint)
    pairs = find("lfw/pairs.txt", "LFW's list", hint)
    wanted = sorted(read_list(pairs, SOURCES["lfw"].image_name).people)[:count]
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            if Path(member.name).stem in wanted and (file := tar.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(file.read())
    detector = FaceDetector(detector_model())
    files = [folder / f"{name}.jpg" for name in wanted]
    detected = [find_faces(decode_rgb(file.read_bytes(), file.name), detector) for file in files]
    return Listed("photographs of LFW's list", files, [some[0].landmarks for some in detected])
