"""Groups of photos and people, and whether a figure differs between them (Protocol: strata).

Pose and quality come from the landmarks and the detector's score that a prepared face set holds;
any other group from a CSV file of the user's. A face set in memory has no landmarks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy
from jaxtyping import Bool, Float, Float64, UInt8

from facefocus.core.errors import UserError, did_you_mean, one_line
from facefocus.core.seeds import generator
from facefocus.faces.faceset import LANDMARK_COLUMNS, FaceSet

#: The nose's tip lies so far in front of the eyes, as a share of the distance between the pupils:
#: 43 of 63 mm. A face turned by t shows its nose beside the middle of its eyes by this share times
#: tan t of their distance.
NOSE_DEPTH = 43 / 63
#: Degrees of yaw from which on a face is half in profile, and in profile.
HALF_PROFILE, PROFILE = 15.0, 40.0
#: Photos that are held in memory at once: 38 MB.
READ = 1_000
#: Names of `photo_values`.
YAW, ROLL = "yaw, degrees", "roll, degrees"
#: With fewer people in a stratum, or beside it, nothing is said of a difference.
FEWEST_COMPARED = 10
#: What the first column of a CSV file may name.
_PLURAL = {"identity": "people", "image": "images"}
#: Permutations of a test.
PERMUTATIONS = 9_999


@dataclass(frozen=True, eq=False)
class Stratum:
    """Some photos of a face set.

    Attributes:
        grouping: What they were grouped by: ``"yaw"``, or the CSV file's column.
        name: Which group, with its bounds.
        photos: Which rows of the face set.
    """

    grouping: str
    name: str
    photos: Bool[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Pose:
    """How heads are held, in degrees: 0 is upright, straight ahead.

    Attributes:
        roll: Angle of the line of the eyes, clockwise as seen in the picture.
        yaw: Turned to the picture's right.
        nod: Where the nose is between the line of the eyes (0) and that of the mouth (1): it grows
            as the head is lowered. Not an angle, since noses differ.
    """

    roll: Float64[np.ndarray, " n"]
    yaw: Float64[np.ndarray, " n"]
    nod: Float64[np.ndarray, " n"]


def pose(landmarks: Float[np.ndarray, "n 5 2"]) -> Pose:
    """Pose from eyes, nose and corners of the mouth in the photograph, however it is turned.

    Example:
        >>> from facefocus.faces.align import ARCFACE_TEMPLATE
        >>> angles = pose(ARCFACE_TEMPLATE[None])
        >>> round(float(angles.yaw[0])), round(float(angles.nod[0]), 2)
        (0, 0.49)
    """
    left, right, nose, mouth_left, mouth_right = landmarks.transpose(1, 0, 2).astype(np.float64)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    across = right - left
    distance = np.linalg.norm(across, axis=1)
    along = across / distance[:, None]
    down = np.stack([-along[:, 1], along[:, 0]], axis=1)
    beside = ((nose - eyes) * along).sum(axis=1) / distance
    return Pose(
        roll=np.degrees(np.arctan2(across[:, 1], across[:, 0])),
        yaw=np.degrees(np.arctan(beside / NOSE_DEPTH)),
        nod=((nose - eyes) * down).sum(axis=1) / ((mouth - eyes) * down).sum(axis=1),
    )


def sharpness(frames: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, " n"]:
    """Variance of the Laplacian of each gray crop: the smaller, the more blurred."""
    return np.array(
        [
            cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
            for frame in frames
        ]
    )


def photo_strata(
    faces: FaceSet, index: Sequence[Mapping[str, Any]], rows: np.ndarray
) -> list[Stratum]:
    """Strata by pose and quality, as far as the face set holds them.

    Yaw by fixed angles; the others by thirds of the photos in `rows`, bounds in their names.

    Args:
        faces: The face set.
        index: Its index (`facefocus.faces.faceset.read_index`); empty for one in memory.
        rows: The photos that are divided.
    """
    values = photo_values(faces, index, rows)
    yaw, _ = values.pop(YAW, None), values.pop(ROLL, None)
    strata = [] if yaw is None else _by_yaw(yaw, rows, len(faces.frames))
    for grouping, value in values.items():
        strata += _by_thirds(grouping, value, rows, len(faces.frames))
    return strata


def photo_values(
    faces: FaceSet, index: Sequence[Mapping[str, Any]], rows: np.ndarray
) -> dict[str, Float64[np.ndarray, " n"]]:
    """Pose and quality of some photos by name, as far as the face set holds them.

    `YAW` and `ROLL` are in degrees, to either side.

    Args:
        faces: The face set.
        index: Its index (`facefocus.faces.faceset.read_index`); empty for one in memory.
        rows: The photos.
    """
    known, values = _detected(index, rows), {}
    if len(known) == len(rows):
        landmarks = _landmarks(known)
        held = pose(landmarks)
        values = {
            YAW: np.abs(held.yaw),
            ROLL: np.abs(held.roll),
            "nose between eyes and mouth": held.nod,
            "distance of the eyes, px": np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1),
            "detector's score": np.array([row["score"] for row in known], np.float64),
        }
    parts = [rows[start : start + READ] for start in range(0, len(rows), READ)]
    sharp = np.concatenate([sharpness(np.asarray(faces.frames[part])) for part in parts])
    return {**values, "sharpness": sharp}


def photo_yaw(
    index: Sequence[Mapping[str, Any]], rows: np.ndarray
) -> Float64[np.ndarray, " n"] | None:
    """Degrees of yaw of some photos, to either side; None where one has no landmarks."""
    known = _detected(index, rows)
    return np.abs(pose(_landmarks(known)).yaw) if len(known) == len(rows) else None


def _detected(index: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Mapping[str, Any]]:
    """Lines of the index, of those photos that have landmarks."""
    by_row = {line["row"]: line for line in index if line["row"] is not None}
    known = [by_row[int(row)] for row in rows if int(row) in by_row]
    return [line for line in known if line["left_eye_x"] is not None]


def _landmarks(lines: Sequence[Mapping[str, Any]]) -> Float64[np.ndarray, "n 5 2"]:
    flat = np.array([[line[column] for column in LANDMARK_COLUMNS] for line in lines], np.float64)
    return flat.reshape(-1, 5, 2)


def _by_yaw(yaw: np.ndarray, rows: np.ndarray, count: int) -> list[Stratum]:
    bounds = [0.0, HALF_PROFILE, PROFILE, 90.1]
    names = (
        f"frontal: below {HALF_PROFILE:g} degrees",
        f"half-profile: {HALF_PROFILE:g} to {PROFILE:g} degrees",
        f"profile: {PROFILE:g} degrees and more",
    )
    return [
        _stratum("yaw", name, rows[(yaw >= low) & (yaw < high)], count)
        for name, low, high in zip(names, bounds[:-1], bounds[1:], strict=True)
    ]


def _by_thirds(grouping: str, values: np.ndarray, rows: np.ndarray, count: int) -> list[Stratum]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    if low == high:
        return []
    # Four digits, whatever the unit.
    first, second = (f"{bound:.4g}" for bound in (low, high))
    named = {
        f"up to {first}": values <= low,
        f"{first} to {second}": (values > low) & (values <= high),
        f"above {second}": values > high,
    }
    return [_stratum(grouping, name, rows[inside], count) for name, inside in named.items()]


def _stratum(grouping: str, name: str, rows: np.ndarray, count: int) -> Stratum:
    photos = np.zeros(count, bool)
    photos[rows] = True
    return Stratum(grouping, name, photos)


def read_groups(path: Path, faces: FaceSet) -> list[Stratum]:
    """The groups of a CSV file with the columns ``identity,GROUP`` or ``image,GROUP``.

    There may be several columns of groups; an empty cell is in none. People or images that the
    file does not name are in no group.

    Raises:
        UserError: The file cannot be read, has other columns, or names nobody of the face set.
    """
    kind, groupings = read_group_file(path)
    names = faces.identities if kind == "identity" else faces.names
    require_known(path, kind, groupings, set(names.tolist()), faces.title)
    return [
        Stratum(grouping, group, np.isin(names, [name for name in groups if groups[name] == group]))
        for grouping, groups in groupings.items()
        for group in sorted(set(groups.values()))
    ]


def read_group_file(path: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """What a file of groups names, ``identity`` or ``image``, and each grouping's group by name.

    Raises:
        UserError: The file cannot be read, or has other columns.
    """
    try:
        table = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"The groups '{path}' cannot be read: {one_line(error)}.") from error
    header = [cell.strip() for cell in table[0]] if table else []
    if len(header) < 2 or header[0] not in _PLURAL:
        raise UserError(
            f"The first line of the groups '{path}' must be identity,GROUP or image,GROUP. Got"
            f" '{','.join(header)[:80]}'."
        )
    rows: dict[str, list[str]] = {}
    for line, cells in enumerate(table[1:], 2):
        row = [cell.strip() for cell in cells]
        if not any(row):
            continue
        if len(row) != len(header):
            raise UserError(
                f"Line {line} of the groups '{path}' must have {len(header)} cells. Got {len(row)}."
            )
        if rows.setdefault(row[0], row) != row:
            raise UserError(
                f"Line {line} of the groups '{path}' gives '{row[0]}' other groups than a line"
                " before. Keep one of the lines."
            )
    return header[0], {
        grouping: {name: row[column] for name, row in rows.items() if row[column]}
        for column, grouping in enumerate(header[1:], 1)
    }


def require_known(
    path: Path, kind: str, groupings: Mapping[str, Mapping[str, str]], known: set[str], title: str
) -> None:
    """Refuse groups that name nobody of `known`, the people or images of `title`."""
    named = [name for groups in groupings.values() for name in groups]
    if not known.intersection(named):
        example = named[0] if named else ""
        raise UserError(
            f"The groups '{path}' must name {_PLURAL[kind]} of '{title}'. Got '{example}' and no"
            f" other that is one.{did_you_mean(example, known)}"
        )


def difference_p(
    inside: Mapping[str, float], outside: Mapping[str, float], *, seed: int = 0
) -> float:
    """Two-sided p-value of a permutation test: do people inside a stratum differ from the others?

    People who are on both sides, as with photos of two poses, are compared with themselves: signs
    of their differences are flipped. Where people are on one side only, labels are permuted. All
    permutations where there are few, else a seeded sample of 9,999.

    Args:
        inside: A figure of each person, over their photos in the stratum.
        outside: The same over their other photos.
        seed: Of the sample.

    Returns:
        NaN with fewer than `FEWEST_COMPARED` people on a side; of people on both sides, with fewer
        such people, where there are any.
    """
    both = sorted(set(inside) & set(outside))
    rng = generator(seed, "permutations")
    if both:
        if len(both) < FEWEST_COMPARED:
            return float("nan")
        differences = np.array([inside[name] - outside[name] for name in both])
        samples, kind = (differences,), "samples"
        statistic: Any = lambda x, axis: np.mean(x, axis=axis)  # noqa: E731
    else:
        if min(len(inside), len(outside)) < FEWEST_COMPARED:
            return float("nan")
        sides = [np.array([side[name] for name in sorted(side)]) for side in (inside, outside)]
        samples, kind = tuple(sides), "independent"  # type: ignore[assignment]
        statistic = lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis)  # noqa: E731
    tested = scipy.stats.permutation_test(
        samples,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=PERMUTATIONS,
        random_state=rng,
    )
    return float(tested.pvalue)
