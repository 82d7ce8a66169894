"""Masks in files: ``mask.npz`` and ``mask.png`` (Protocol: mask-files)."""

from __future__ import annotations

import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from facefocus.core.errors import UserError
from facefocus.core.files import any_path, write_atomically
from facefocus.faces.align import ARCFACE_TEMPLATE, FRAME_SIDE
from facefocus.faces.images import UnusableImage, decode_rgb

#: The crop that masks of photographs are made for.
CROP = "arcface112"

#: Files of this many bytes are read at most: a mask has a few thousand.
_MOST_BYTES = 2**22


def write_mask(path: Path, mask: Bool[np.ndarray, "112 112"]) -> None:
    """Save a mask of the crop ``arcface112``: as ``.npz``, or as ``.png`` with hidden pixels white.

    Raises:
        UserError: The folder cannot be written, or the disk is full.

    Example:
        >>> mask = np.zeros((112, 112), bool)
        >>> mask[40:60, 30:80] = True
        >>> write_mask(Path("mask.npz"), mask)
        >>> bool((read_mask("mask.npz") == mask).all())
        True
    """
    buffer = BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(buffer, "PNG")
    else:
        np.savez_compressed(buffer, mask=mask, crop=np.array(CROP), landmarks=ARCFACE_TEMPLATE)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


@any_path
def read_mask(path: Path | str) -> Bool[np.ndarray, "112 112"]:
    """A mask from a file that `write_mask` wrote, or from a black and white picture.

    Raises:
        UserError: It is no mask, hides nothing, or was made for another crop.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _no_mask(path, f"more than {_MOST_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read the mask '{path}': {error.strerror}.") from error
    mask = _of_arrays(path, data) if data.startswith(b"PK") else _of_picture(path, data)
    if not mask.any():
        raise _no_mask(path, "one that hides nothing")
    return mask


def _of_arrays(path: Path, data: bytes) -> Bool[np.ndarray, "112 112"]:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            missing = [key for key in ("mask", "crop", "landmarks") if key not in arrays.files]
            if missing:
                raise _no_mask(path, f"a file without the array '{missing[0]}'")
            mask, made_for, landmarks = (arrays[key] for key in ("mask", "crop", "landmarks"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _no_mask(path, "a damaged file") from error
    if str(made_for) != CROP:
        raise _other_crop(path, f"made for the crop '{made_for}'")
    if mask.shape != (FRAME_SIDE, FRAME_SIDE):
        raise _other_crop(path, f"made for a crop of {'x'.join(map(str, mask.shape))} pixels")
    if mask.dtype != np.bool_:
        raise _no_mask(path, f"values of type {mask.dtype} instead of bool")
    if landmarks.shape != (5, 2) or not np.allclose(landmarks, ARCFACE_TEMPLATE, atol=0.01):
        raise _other_crop(path, "made for faces whose landmarks are aligned elsewhere")
    return np.asarray(mask)


def _of_picture(path: Path, data: bytes) -> Bool[np.ndarray, "112 112"]:
    try:
        picture = decode_rgb(data, path.name)
    except UnusableImage as error:
        raise _no_mask(path, f"a file that is {error.reason}") from error
    if picture.shape[:2] != (FRAME_SIDE, FRAME_SIDE):
        height, width = picture.shape[:2]
        raise _other_crop(path, f"made for a crop of {height}x{width} pixels")
    white = (picture == 255).all(axis=2)
    if not (white | (picture == 0).all(axis=2)).all():
        raise _no_mask(path, "a picture with colors or grays; hidden is white, the rest is black")
    return np.asarray(white)


def _no_mask(path: Path, got: str) -> UserError:
    return UserError(f"The mask must be a mask.npz or mask.png of facefocus. Got '{path}': {got}.")


def _other_crop(path: Path, got: str) -> UserError:
    return UserError(
        f"The mask must be made for the crop {CROP}, {FRAME_SIDE}x{FRAME_SIDE} pixels with the eyes"
        f" and the mouth at fixed places. Got '{path}': {got}. Make it anew: facefocus person."
    )
