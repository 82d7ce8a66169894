"""Decode any picture file to 8-bit RGB, upright, or give the reason why it cannot be."""

from __future__ import annotations

import contextlib
import functools
import importlib
import struct
import threading
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

#: Pictures of more pixels are refused before they are decoded: cameras and phones reach about 108
#: megapixels, and a small file that claims more is more likely an attack than a face.
MAX_PIXELS = 120_000_000

#: Larger pictures are decoded one at a time, whatever the number of threads.
LARGE_PIXELS = 24_000_000
_one_large = threading.Lock()

#: Pictures with a side of twice this or more are reduced by a whole factor; the longer side of
#: the result lies in [2048, 4096). A crop of 112 pixels needs no more, and decoding gets cheaper.
REDUCED_SIDE = 2048

#: Formats Pillow opens that are refused: EPS would start Ghostscript on a stranger's program, the
#: others are stubs without a decoder.
REFUSED_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

#: Read with the extra ``heic``, and a picture of a person without it too: one that cannot be read.
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

#: What a file is that is no picture here, by the first words of its ISO container ("ftyp" boxes;
#: ISO/IEC 14496-12 and 23008-12; the brands of Canon and of Apple's QuickTime).
_HEIC = "HEIC: install pillow-heif 1.1 or later to read it (pip install 'facefocus[heic]')"
#: Before, photographs of phones came out turned: turned already, and said to be still to be turned.
_LEAST_HEIF = (1, 1)
_VIDEO = "a video"
_RAW = "a raw camera file: save it as JPEG"
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1"), _HEIC),
    **dict.fromkeys((b"qt  ", b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"avc1"), _VIDEO),
    b"crx ": _RAW,
}
_VIDEO_SUFFIXES = frozenset({".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})
_RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"})

#: What Pillow's decoders raise on damaged data.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
#: JPEG, and JPEG of several pictures, can be decoded at a reduced size. HEIC would give the preview
#: that lies beside the picture.
_REDUCIBLE = ("JPEG", "MPO")
_AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImage(Exception):
    """One picture cannot be used; `reason` is short and the same for all pictures of its kind."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"'{name}' cannot be used: {reason}.")
        self.name = name
        self.reason = reason


@functools.cache
def formats() -> tuple[str, ...]:
    """The names of the picture formats that are read; HEIC where `pillow-heif` is installed.

    Pillow tries them in this order: what photographs are in comes first.
    """
    Image.init()
    refused = REFUSED_FORMATS | {"HEIF"}
    with contextlib.suppress(ImportError):
        heif = importlib.import_module("pillow_heif")
        if tuple(map(int, heif.__version__.split(".")[:2])) >= _LEAST_HEIF:
            heif.register_heif_opener()
            refused = REFUSED_FORMATS
    return tuple(sorted(set(Image.OPEN) - refused, key=lambda name: (name != "JPEG", name)))


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of pictures, lower case with the dot: of those formats, and of HEIC always."""
    read = formats()
    known = Image.registered_extensions()
    return HEIC_SUFFIXES | {suffix for suffix, name in known.items() if name in read}


def kind_of_file(suffix: str) -> str:
    """The kind of a file that is no picture, by its suffix: short, for a count."""
    if suffix.lower() in _VIDEO_SUFFIXES:
        return _VIDEO
    return _RAW if suffix.lower() in _RAW_SUFFIXES else "no picture"


def decode_rgb(data: bytes, name: str, *, whole: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The first picture of a file as RGB, rotated upright as its EXIF data says.

    Transparent parts are laid on white, as picture viewers show them: what lies under them in the
    file is arbitrary. Gray of 16 bits is divided by 257, so that its white stays white. Very large
    pictures are reduced, see `REDUCED_SIDE`.

    Args:
        data: The file's bytes.
        name: What the picture is called, for the message.
        whole: Whether very large pictures keep their resolution, too.

    Raises:
        UnusableImage: Empty, no picture, damaged, of too many pixels or of unknown range.
    """
    if not data:
        raise UnusableImage(name, "the file is empty")
    try:
        with Image.open(BytesIO(data), formats=formats()) as image:
            return _decode(image, name, 1 if whole else max(image.size) // REDUCED_SIDE)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise UnusableImage(name, _kind_of_data(data)) from error
    except _DAMAGED as error:
        raise UnusableImage(name, "damaged or incomplete") from error


def _kind_of_data(data: bytes) -> str:
    """Why no decoder can read some bytes."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    kind = _BRANDS.get(brand, "not a picture in a known format")
    return "damaged or incomplete" if kind == _HEIC and "HEIF" in formats() else kind


def _decode(image: Image.Image, name: str, factor: int) -> UInt8[np.ndarray, "h w 3"]:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if factor > 1 and image.format in _REDUCIBLE:
        image.draft(None, (image.width // factor, image.height // factor))
    large = image.width * image.height > LARGE_PIXELS
    with _one_large if large else contextlib.nullcontext():
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        # Reduced first, where colors can be averaged as they are: every copy is 4 bytes a pixel.
        first = image.mode in _AVERAGED and "transparency" not in image.info
        if factor > 1:
            rgb = _reduced(_to_rgb(_reduced(image) if first else image, name))
        else:
            rgb = _to_rgb(image, name)
    return np.array(rgb if turn is None else rgb.transpose(turn))


def upright_size(file: Path | BytesIO) -> tuple[int, int] | None:
    """Height and width of the upright picture of a file in its own resolution, from its head.

    None where the file is no picture.
    """
    try:
        with Image.open(file, formats=formats()) as image:
            turned = _orientation(image) in (5, 6, 7, 8)
            return image.size if turned else (image.height, image.width)
    except (*_DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def _reduced(image: Image.Image) -> Image.Image:
    factor = max(image.size) // REDUCED_SIDE
    return image.reduce(factor) if factor > 1 else image


def _too_large(name: str) -> UnusableImage:
    return UnusableImage(name, f"larger than {MAX_PIXELS // 1_000_000} megapixels")


def _orientation(image: Image.Image) -> int:
    # A picture with broken EXIF data is still a picture: taken to be upright.
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DAMAGED:
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise UnusableImage(name, "its pixels are real numbers, whose white is unknown")
    if image.mode.startswith("I"):
        return _deep_gray(image, name).convert("RGB")
    if image.has_transparency_data:
        # Palettes and gray with transparency go by way of RGBA, or Pillow would drop it.
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_gray(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnusableImage(name, "its pixels have 32 bits, whose white is unknown")
    # 65535 / 257 = 255 exactly; adding 128 rounds to nearest.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def resized(image: UInt8[np.ndarray, "h w 3"], scale: float) -> UInt8[np.ndarray, "a b 3"]:
    """The picture reduced by averaging; `scale` is at most 1, no side gets shorter than a pixel."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
