"""Finding the main face of a photo by YuNet, with further looks in doubt (Protocol: main-face).

The bounds are measured on Labeled Faces in the Wild (13,233 photos of 250x250 pixels; photos made
of them by turning, cropping, enlarging and pasting), see `TRUSTED_SCORE` and `DOUBTFUL_SCORE`.
OpenCV expects BGR; `FaceDetector.detect` is the one place where channels are swapped.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from facefocus.core import locations
from facefocus.core.errors import UserError
from facefocus.faces.images import resized

DETECTOR_FILE = "models/face_detection_yunet_2023mar.onnx"
DETECTOR_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SCORE_THRESHOLD = 0.3

#: A first look with this score ends the search. Upright main faces of LFW have .859 to .954, 5 % of
#: them less than this; the same photos turned by 180 degrees at most .913 (4 of 13,233 reach it),
#: by 90 or 270 degrees at most .886 (of 2,206).
TRUSTED_SCORE = 0.91

#: A turned photo wins only if its face has a score higher by this, and is not doubtful: 3 of the
#: 13,233 upright photos have a better score upside down, by .013 at most. Reduced to faces of 12 to
#: 22 pixels, 33 of 1,764 have a score higher by more than .02 in a wrong turn, of .69 at most.
TURN_MARGIN = 0.02

#: Faces below it are looked for on larger copies and are listed for the user to check. Faces of
#: LFW reduced to 20 pixels on the copy have a median of .84 (their landmarks are off by .18 of the
#: distance of the eyes), to 15 pixels .36; no upright face of LFW is below .859.
DOUBTFUL_SCORE = 0.8

#: The first look is at a copy whose longer side has at most this many pixels: YuNet was trained on
#: faces of about 10 to 300 pixels.
DETECTION_SIDE = 640

#: Longer side of the copy for faces that fill the photo, and its black border as a share of that.
#: Enlarged close-ups whose landmarks are off by .2 of the distance of the eyes or more: 8 of 51 at
#: the first look, with scores below .9; none of 51 at this one.
_CLOSE_UP = (240, 0.5)

#: Longer sides of the copies for small faces; pictures of `images.REDUCED_SIDE` have at most 4,095.
_LARGER_SIDES = (1280, 4096)

#: Faces smaller than this on the first copy are looked at again on a larger one; larger ones than
#: the second number are looked at again as close-ups. Pixels.
_SMALL, _LARGE = 40, 240

#: Larger copies are searched in squares of this side, which bounds the memory. They overlap by the
#: second number: what is larger than that was found on the copy before.
_TILE, _OVERLAP = 1280, 192

#: Boxes whose intersection is at least this share of their union are of one face.
_SAME_FACE = 0.35

#: A turned photo wins only with a face of at least this share of the upright one's rank.
_AS_LARGE = 0.8

#: Small and doubtful faces are seen from near, with boxes of this side. Faces of LFW reduced to 12
#: to 28 pixels then have scores of .84 and more (619 of 619), also where they had .3 at first; 77
#: false detections of .3 to .47, in noise and in photos without people, have .43 at most.
_NEAR_SIDE, _CONFIRMED = 100, 0.6

#: So many faces of a picture are seen from near, by score.
_CANDIDATES = 12

#: How much a face's place counts, see `ranks`.
_CENTER_WEIGHT = 0.7

#: Other faces with at least the first share of the first one's rank make it doubtful whom the photo
#: is of: 425 of the 13,233 photos of LFW. Faces of the second share come into question where the
#: person's other photos can tell.
DOUBTFUL_SHARE, POSSIBLE_SHARE = 0.5, 0.15

_logging = threading.Lock()


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face, in pixels of the picture.

    Attributes:
        box: x and y of the top left corner, width, height; may reach beyond the picture.
        landmarks: (x, y) of left eye, right eye, nose, left and right mouth corner, left as seen
            when the face is upright.
        score: The detector's confidence, 0 to 1.
        turn: Quarter turns counter-clockwise that bring the picture upright.
    """

    box: Float64[np.ndarray, "4"]
    landmarks: Float64[np.ndarray, "5 2"]
    score: float
    turn: int = 0


def detector_model(path: Path | None = None) -> bytes:
    """The YuNet model's bytes, from `path` or from the usual places, checked.

    Raises:
        UserError: Not found, not readable, or a different file than landmarks are defined by.
    """
    if path is None:
        path = locations.find(
            DETECTOR_FILE,
            "The face detector YuNet",
            "Get it by: facefocus fetch yunet - or give its path with --detector.",
        )
    try:
        model = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The 'detector' must be the file of YuNet. Got '{path}': {error.strerror}."
        ) from error
    got = hashlib.sha256(model).hexdigest()
    if got != DETECTOR_SHA256:
        raise UserError(
            f"The 'detector' must be face_detection_yunet_2023mar.onnx with sha256 "
            f"{DETECTOR_SHA256}. Got '{path}' with {got}."
        )
    return model


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV 5 prints a warning on stderr for every network it makes; the library is silent.

    The level is one for the process, so threads take turns.
    """
    with _logging:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            cv2.utils.logging.setLogLevel(level)


class FaceDetector:
    """YuNet through OpenCV. Holds state while it runs: use one for each thread.

    Args:
        model: The bytes that `detector_model` returns.
    """

    def __init__(self, model: bytes) -> None:
        with _quiet_opencv():
            self._network = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(model, np.uint8),
                np.empty(0, np.uint8),
                (DETECTION_SIDE, DETECTION_SIDE),
                score_threshold=SCORE_THRESHOLD,
            )

    def detect(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        side: int = DETECTION_SIDE,
        border: float = 0.0,
        turn: int = 0,
    ) -> list[Face]:
        """The faces of an RGB picture with a score of at least `SCORE_THRESHOLD`.

        Args:
            image: The picture.
            side: It is reduced until its longer side has at most this many pixels.
            border: Black border around the reduced picture, as a share of its longer side.
            turn: Quarter turns counter-clockwise before faces are looked for.
        """
        height, width = image.shape[:2]
        scale = min(1.0, side / max(height, width))
        small = resized(image, scale) if scale < 1.0 else image
        edge = round(border * max(small.shape[:2]))
        step = np.array([width / small.shape[1], height / small.shape[0]])
        turned = np.ascontiguousarray(np.rot90(small, turn))
        shape = (turned.shape[0], turned.shape[1])
        copy = np.pad(cv2.cvtColor(turned, cv2.COLOR_RGB2BGR), ((edge, edge), (edge, edge), (0, 0)))
        return [_face(row, edge, -turn % 4, shape, step) for row in self._rows(copy)]

    def _rows(self, copy: UInt8[np.ndarray, "h w 3"]) -> list[Float64[np.ndarray, "15"]]:
        """What the network finds on a BGR picture, large ones square by square."""
        rows: list[Float64[np.ndarray, "15"]] = []
        for top in _starts(copy.shape[0]):
            for left in _starts(copy.shape[1]):
                tile = np.ascontiguousarray(copy[top : top + _TILE, left : left + _TILE])
                self._network.setInputSize((tile.shape[1], tile.shape[0]))
                detections = self._network.detect(tile)[1]
                for row in () if detections is None else detections.astype(np.float64):
                    row[[0, 4, 6, 8, 10, 12]] += left
                    row[[1, 5, 7, 9, 11, 13]] += top
                    rows.append(row)
        return rows


def _starts(length: int) -> range:
    """Where squares of `_TILE` pixels begin that cover a side."""
    return range(0, max(1, length - _OVERLAP), _TILE - _OVERLAP)


def _face(
    row: Float64[np.ndarray, "15"],
    edge: int,
    turn: int,
    shape: tuple[int, int],
    step: Float64[np.ndarray, "2"],
) -> Face:
    """A row of the detector in pixels of the picture.

    Args:
        row: Box, landmarks and score on the copy.
        edge: Width of the copy's border.
        turn: Quarter turns that take the copy back.
        shape: Height and width of the copy without its border.
        step: Pixels of the picture for each of the copy, across and down.
    """
    box = turned_box(row[:4] - [edge, edge, 0, 0], turn, *shape) * np.tile(step, 2)
    points = _turned(row[4:14].reshape(5, 2) - edge, turn, *shape, last=1)
    # Landmarks are pixel centers: the same half-pixel rule as in `align.crop`.
    return Face(box, (points + 0.5) * step - 0.5, float(row[14]), -turn % 4)


def _turned(
    points: Float64[np.ndarray, "p 2"], turn: int, height: int, width: int, *, last: int
) -> Float64[np.ndarray, "p 2"]:
    """Where (x, y) lie after `turn` quarter turns counter-clockwise of a picture.

    Args:
        points: In pixels of the picture.
        turn: As of `np.rot90`.
        height: Of the picture.
        width: Of the picture.
        last: 1 where whole numbers are centers of pixels, 0 where they are borders.
    """
    for _ in range(turn):
        points = np.column_stack([points[:, 1], width - last - points[:, 0]])
        height, width = width, height
    return points


def turned_box(
    box: Float64[np.ndarray, "4"], turn: int, height: int, width: int
) -> Float64[np.ndarray, "4"]:
    """A box (x, y, width, height) after quarter turns counter-clockwise of its picture."""
    if turn == 0:
        return box  # To the bit.
    corners = _turned(np.stack([box[:2], box[:2] + box[2:]]), turn, height, width, last=0)
    start = corners.min(axis=0)
    return np.concatenate([start, corners.max(axis=0) - start])


# Which face ---------------------------------------------------------------------------------------


def ranks(faces: Sequence[Face], height: int, width: int) -> Float64[np.ndarray, " n"]:
    """A rank for each face: large, certain and central faces rank high.

    Side of the box (root of its area), times how far the score lies above the threshold, times
    1 - 0.7 d, with d the distance of the box's center from the picture's center as a share of half
    the diagonal. Only ratios matter, so the picture's resolution does not, and wherever the largest
    face lies, none of less than .3 of its side goes before it. In LFW, whose people are in the
    middle, the first face is the one of "largest area - 2 distance^2" in all 13,233 photos.
    """
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    offset = boxes[:, :2] + boxes[:, 2:] / 2 - np.array([width, height]) / 2
    distance = np.hypot(offset[:, 0], offset[:, 1]) / (np.hypot(width, height) / 2)
    weights = np.array([_weight(face) for face in faces])
    return np.asarray(weights * np.maximum(1.0 - _CENTER_WEIGHT * distance, 0.0))


def rivals(faces: Sequence[Face], height: int, width: int, share: float) -> list[Face]:
    """The faces with at least this share of the first one's rank, of faces sorted by rank."""
    order = ranks(faces, height, width)
    return [face for face, rank in zip(faces, order, strict=True) if rank >= share * order[0]]


def _weight(face: Face) -> float:
    """The rank that the face would have in the middle of a picture."""
    sure = (face.score - SCORE_THRESHOLD) / (1.0 - SCORE_THRESHOLD)
    return _side(face) * max(sure, 0.0)


def _side(face: Face) -> float:
    return float(np.sqrt(face.box[2] * face.box[3]))


def find_faces(image: UInt8[np.ndarray, "h w 3"], detector: FaceDetector) -> list[Face]:
    """All faces of a picture by falling `ranks`: the first is the main face.

    Where a look finds no face that is trusted, the next ones are taken: a small copy with a border,
    for faces that fill the picture; the picture turned by 90, 180 and 270 degrees; larger copies,
    for small faces. Small and doubtful faces are then looked at one by one at a size that suits the
    detector, which tells them from what only looks like a face from afar.
    """
    search = _Search(image, detector)
    close = search.close_up(0)
    if not search.trusted(0):
        for turn in (1, 2, 3):
            search.look(turn)
            if close:
                search.close_up(turn)
    for smaller, side in pairwise((DETECTION_SIDE, *_LARGER_SIDES)):
        best = search.best_turn()
        if smaller >= max(image.shape[:2]) or not search.too_small(best, smaller):
            break
        for turn in range(4) if smaller == DETECTION_SIDE else sorted({0, best}):
            search.look(turn, side)
    best = search.best_turn()
    return search.confirmed() if search.too_small(best, DETECTION_SIDE) else search.faces[best]


class _Search:
    """What has been found so far in a picture; `faces` has the ranked ones for each turn."""

    def __init__(self, image: UInt8[np.ndarray, "h w 3"], detector: FaceDetector) -> None:
        self._image, self._detector = image, detector
        self.faces: dict[int, list[Face]] = {}
        self.look(0)
        self._first = self.faces[0]

    def look(self, turn: int, side: int = DETECTION_SIDE, border: float = 0.0) -> None:
        faces = self._detector.detect(self._image, side, border, turn)
        if self.faces.get(turn) or side > _TILE:
            faces = _merged([*self.faces.get(turn, []), *faces])
        self.faces[turn] = self._ranked(faces)

    def close_up(self, turn: int) -> bool:
        """Look once more where the face fills the picture, is cut off, doubtful or absent."""
        if self.trusted(turn):
            return False
        height, width = self._image.shape[:2]
        main = next(iter(self.faces[turn]), None)
        if main is not None and main.score >= DOUBTFUL_SCORE:
            x, y, w, h = main.box
            inside = min(x, y) >= 0 and x + w <= width and y + h <= height
            if inside and _side(main) * self._scale(DETECTION_SIDE) <= _LARGE:
                return False
        self.look(turn, *_CLOSE_UP)
        return True

    def trusted(self, turn: int) -> bool:
        """Whether the main face needs no further look."""
        faces = self.faces[turn]
        return bool(faces) and faces[0].score >= TRUSTED_SCORE

    def too_small(self, turn: int, side: int) -> bool:
        """Whether a copy larger than `side` may show the main face better."""
        if self.trusted(turn):
            return False
        main = next(iter(self.faces[turn]), None)
        if main is None or main.score < DOUBTFUL_SCORE:
            return True
        return _side(main) * self._scale(side) < _SMALL

    def best_turn(self) -> int:
        """The turn whose main face has the highest score, if it is clearly better than upright."""
        mains = {turn: faces[0] for turn, faces in self.faces.items() if faces}
        best = max(mains, key=lambda turn: mains[turn].score, default=0)
        if best == 0 or mains[best].score < DOUBTFUL_SCORE:
            return 0
        if 0 not in mains:
            return best
        rank, upright = ranks([mains[best], mains[0]], *self._image.shape[:2])
        better = mains[best].score > mains[0].score + TURN_MARGIN and rank > _AS_LARGE * upright
        return best if better else 0

    def confirmed(self) -> list[Face]:
        """The faces confirmed in a close look; without any, those of the first, upright looks."""
        candidates = _merged([face for faces in self.faces.values() for face in faces])
        near = [self._from_near(face) for face in candidates[:_CANDIDATES]]
        sure = [face for face in near if face.score >= _CONFIRMED]
        return self._ranked(_merged(sure)) if sure else self._first

    def _from_near(self, face: Face) -> Face:
        """The face in its surroundings, enlarged or reduced; of score 0 if it is not found there.

        The turn counts in which its score is highest, upright if that is about as good.
        """
        middle, side = face.box[:2] + face.box[2:] / 2, _side(face)
        last = np.array(self._image.shape[1::-1]) - 1
        # At least a pixel, also of a face that lies beyond the edge.
        start = np.clip(np.floor(middle - 1.5 * side), 0, last).astype(int)
        end = np.maximum(np.ceil(middle + 1.5 * side), start + 1).astype(int)
        part = self._image[start[1] : end[1], start[0] : end[0]]
        old = np.array(part.shape[1::-1])
        new = np.maximum(np.round(old * (_NEAR_SIDE / side)), 1).astype(int)
        way = cv2.INTER_CUBIC if side < _NEAR_SIDE else cv2.INTER_AREA
        part = np.asarray(cv2.resize(part, new.tolist(), interpolation=way), np.uint8)
        scale = new / old
        seen = replace(face, score=0.0)
        for turn in range(4):
            for detection in self._detector.detect(part, border=_CLOSE_UP[1], turn=turn):
                box, points = (
                    detection.box / np.tile(scale, 2),
                    (detection.landmarks + 0.5) / scale - 0.5 + start,
                )
                box[:2] += start
                candidate = Face(box, points, detection.score, turn)
                margin = TURN_MARGIN if seen.score and seen.turn == 0 and turn else 0.0
                if candidate.score > seen.score + margin and _shared(candidate, face) > _SAME_FACE:
                    seen = candidate
        return seen

    def _ranked(self, faces: Sequence[Face]) -> list[Face]:
        order = np.argsort(-ranks(faces, *self._image.shape[:2]), kind="stable")
        return [faces[i] for i in order]

    def _scale(self, side: int) -> float:
        return float(min(1.0, side / max(self._image.shape[:2])))


def _merged(faces: Sequence[Face]) -> list[Face]:
    """Each face once, with the highest score of its detections."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_shared(face, other) < _SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _shared(first: Face, second: Face) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(first.box[:2], second.box[:2])
    high = np.minimum(first.box[:2] + first.box[2:], second.box[:2] + second.box[2:])
    width, height = np.maximum(high - low, 0.0)
    both = float(width * height)
    return both / (_side(first) ** 2 + _side(second) ** 2 - both)
