"""How a recognizer reads a frame, as data (Protocol: preprocessing).

Crop, resize, channels, mean and standard deviation.

The same object takes maps back from the network's input to the frame, so that one mask fits every
recognizer. Everything is differentiable, so gradients reach the frame's own pixels in 0-255.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import read_toml
from facefocus.core.notices import notice

#: Side of the frame in which every crop is given.
FRAME = 112
#: Rec. 601 luma, what "gray" means to the recognizers here.
GRAY = (0.299, 0.587, 0.114)

Channels = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]
#: What an ONNX file may take its input as.
DTYPES = ("float32", "float16", "uint8")
#: What to tell a user whose recognizer does not say how it reads frames.
_NEEDED = "needs its preprocessing: size, mean and std, and crop and channels where they matter"
#: The words on the interface of a network, with what most have.
INTERFACE = {"layout": "nchw", "dtype": None, "output": None}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Geometry and normalization from an RGB frame to a network's input, and which output counts.

    Attributes:
        size: Height and width of the network's input, pixels.
        crop: (top, left, height, width) in the 112x112 frame, scaled for other frame sizes;
            the whole frame by default.
        channels: Channel order, ``rgb`` by default; ``gray`` is 0.299 R + 0.587 G + 0.114 B.
        mean: Subtracted, per channel, in 0-255 units; not needed where `dtype` is ``uint8``.
        std: Divided by, per channel, in 0-255 units; not needed where `dtype` is ``uint8``.
        layout: Order of the input's axes, ``nchw`` by default.
        dtype: Type of an ONNX file's input; the file's own by default. A network that takes
            ``uint8`` takes pixels as they are.
        output: Which of several outputs is the embedding: its place, from 0, or its name.

    Raises:
        UserError: A value is out of range, or mean and std do not have a number per channel.
    """

    size: tuple[int, int]
    crop: tuple[int, int, int, int] | None = None
    channels: Channels = "rgb"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "nchw"
    dtype: str | None = None
    output: int | str | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __call__(
        self, frames: UInt8[Tensor, "n H W 3"] | Float[Tensor, "n H W 3"]
    ) -> Float[Tensor, "n c h w"]:
        """The network's float32 input of RGB frames in 0-255; differentiable for float frames."""
        images = frames.permute(0, 3, 1, 2).to(torch.float32)
        top, left, height, width = self.window((frames.shape[1], frames.shape[2]))
        images = images[:, :, top : top + height, left : left + width]
        images = _reorder(images, self.channels)
        if (height, width) != self.size:
            images = F.interpolate(
                images, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        # Whole rows, channel after channel as frames lie in memory: 3 values at a time are slow.
        pixels = images.permute(0, 2, 3, 1)
        rows = pixels.flatten(2)
        mean = images.new_tensor(self.mean).repeat(self.size[1])
        std = images.new_tensor(self.std).repeat(self.size[1])
        return (rows - mean).div_(std).view(pixels.shape).permute(0, 3, 1, 2)

    def to_frame(
        self, maps: Float[Tensor, "n h w"], frame: tuple[int, int] = (FRAME, FRAME)
    ) -> Float[Tensor, "n H W"]:
        """Maps that cover the network's input, at any resolution, as maps of the frame.

        Bilinear (corners not aligned) to the crop's size, then pasted at the crop. Pixels that the
        recognizer never sees get each map's own minimum, so they can only be chosen last.
        """
        top, left, height, width = self.window(frame)
        resized = maps
        if maps.shape[1:] != (height, width):
            resized = F.interpolate(
                maps[:, None], (height, width), mode="bilinear", align_corners=False
            )[:, 0]
        if (height, width) == frame:
            return resized
        pasted = maps.amin((1, 2)).view(-1, 1, 1).expand(-1, *frame).clone()
        pasted[:, top : top + height, left : left + width] = resized
        return pasted

    def window(self, frame: tuple[int, int]) -> tuple[int, int, int, int]:
        """The crop (top, left, height, width) in pixels of a frame of this height and width."""
        if self.crop is None:
            return 0, 0, *frame
        top, left, height, width = self.crop
        # Edges are rounded, not sizes: neighbouring crops then still meet.
        first_row, end_row = (round(edge * frame[0] / FRAME) for edge in (top, top + height))
        first_column, end_column = (round(edge * frame[1] / FRAME) for edge in (left, left + width))
        return first_row, first_column, end_row - first_row, end_column - first_column

    @property
    def canonical(self) -> str:
        """One text for equal preprocessing, part of a recognizer's fingerprint."""
        values = dataclasses.asdict(self)
        # The interface is written only where it is not the usual one.
        return json.dumps(
            {name: value for name, value in values.items() if INTERFACE.get(name, ...) != value},
            sort_keys=True,
        )


def read_beside(path: Path) -> Preprocessing | None:
    """The preprocessing in the TOML file beside a recognizer's file: ``x.toml`` for ``x.onnx``.

    Raises:
        UserError: There is one, but it cannot be read or a field is wrong.
    """
    beside = path.with_suffix(".toml")
    if not beside.is_file():
        return None
    return own_reading(read_toml(beside, "preprocessing"), where=f"'{beside}'")


def read_words(text: str) -> dict[str, object]:
    """The words of such a file on one line: ``size = [112, 112], mean = 127.5, std = 128``.

    Raises:
        UserError: They are not that.
    """
    try:
        return dict(tomllib.loads(f"words = {{ {text} }}")["words"])
    except (tomllib.TOMLDecodeError, RecursionError):
        raise UserError(
            "The '--preprocessing' must be such as 'size = [112, 112], mean = 127.5, std = 128, "
            f'channels = "bgr"\'. Got {text!r}.'
        ) from None


def own_reading(values: Mapping[str, object], where: str) -> Preprocessing:
    """`from_mapping` for what a user wrote; says once what was assumed for what was not written.

    Raises:
        UserError: As `from_mapping`.
    """
    reader = from_mapping(values, where)
    assumed = {"crop": "the whole frame", "channels": "rgb"}
    left_out = [f"{name}: {meant}" for name, meant in assumed.items() if name not in values]
    if left_out:
        notice(f"Assumed, since {where} does not say it: {', '.join(left_out)}.")
    return reader


def required(preprocessing: Preprocessing | None, what: str) -> Preprocessing:
    """The preprocessing, which the user must give.

    Raises:
        UserError: There is none.
    """
    if preprocessing is None:
        beside = Path(what).with_suffix(".toml")
        lines = (
            f"in '{beside}', with lines such as size = [112, 112] and mean = 127.5 and std = 128"
        )
        if Path(what).suffix.lower() in (".onnx", ".pt2", ".xml"):
            lines += f" (a proposal: facefocus models check {what} --faces faces/lfw)"
        if ".py:" in what:
            file, _, name = what.rpartition(":")
            values = '{"size": [112, 112], "mean": 127.5, "std": 128}'
            lines = f"by a line of '{file}', such as: {name}.preprocessing = {values}"
        raise UserError(f"The recognizer '{what}' {_NEEDED}, {lines}")
    doubt = scale_doubt(preprocessing)
    if doubt is not None:
        notice(f"The preprocessing of '{what}': {doubt}")
    return preprocessing


def scale_doubt(reader: Preprocessing) -> str | None:
    """Why mean and std look as if they were meant for pixels in [0, 1]; None where they do not."""
    raw = not any(reader.mean) and set(reader.std) == {1.0}
    if raw or min(reader.mean) < 0 or max(*reader.mean, *reader.std) > 1:
        return None
    mean, std = (
        ", ".join(f"{round(255 * value, 4):g}" for value in values)
        for values in (reader.mean, reader.std)
    )
    return (
        "mean and std look as if pixels were in [0, 1], but they are in 0-255 here. Did you mean"
        f" mean = [{mean}] and std = [{std}]?"
    )


def from_mapping(values: Mapping[str, object], where: str = "preprocessing") -> Preprocessing:
    """Preprocessing from plain values, as in TOML.

    Args:
        values: ``size`` [height, width], ``mean`` and ``std`` (a number, or one per channel;
            0-255 units); optional ``crop`` [top, left, height, width], ``channels`` ("rgb"),
            ``layout`` ("nchw"), ``dtype`` and ``output``. A ``uint8`` input needs no mean and
            std: such a network takes pixels as they are.
        where: What holds the values, for messages.

    Raises:
        UserError: A field is unknown, missing or out of range.
    """
    known = [field.name for field in dataclasses.fields(Preprocessing)]
    for name in values:
        if name not in known:
            raise UserError(
                f"The '{name}' of {where} must be one of {', '.join(known)}."
                + did_you_mean(name, known)
            )
    if values.get("dtype") == "uint8":
        values = {"mean": 0, "std": 1} | dict(values)
    channels = _word(values, "channels", ("rgb", "bgr", "gray"), where)
    count = 1 if channels == "gray" else 3
    crop = values.get("crop")
    return Preprocessing(
        size=cast(tuple[int, int], _integers(values, "size", 2, where)),
        crop=None
        if crop is None
        else cast(tuple[int, int, int, int], _integers(values, "crop", 4, where)),
        channels=cast(Channels, channels),
        mean=_numbers(values, "mean", count, where),
        std=_numbers(values, "std", count, where),
        layout=cast(Layout, _word(values, "layout", ("nchw", "nhwc"), where)),
        dtype=None if "dtype" not in values else _word(values, "dtype", DTYPES, where),
        output=_output(values, where),
    )


def _word(values: Mapping[str, object], name: str, known: Sequence[str], where: str) -> str:
    value = values.get(name, known[0])
    if value not in known:
        raise UserError(
            f"The '{name}' of {where} must be one of {', '.join(known)}. Got {value!r}."
            + did_you_mean(str(value), known)
        )
    return str(value)


def _output(values: Mapping[str, object], where: str) -> int | str | None:
    value = values.get("output")
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        raise UserError(
            f"The 'output' of {where} must be the embedding's place among the outputs, from 0, or"
            f" its name. Got {value!r}."
        )
    return value


def _integers(values: Mapping[str, object], name: str, count: int, where: str) -> tuple[int, ...]:
    value = values.get(name)
    if (
        not isinstance(value, Sequence)
        or len(value) != count
        or not all(type(item) is int for item in value)
    ):
        raise UserError(f"The '{name}' of {where} must be {count} whole numbers. Got {value!r}.")
    return tuple(value)


def _numbers(values: Mapping[str, object], name: str, count: int, where: str) -> tuple[float, ...]:
    value = values.get(name)
    items = [value] * count if isinstance(value, int | float) else value
    if (
        not isinstance(items, Sequence)
        or len(items) != count
        or not all(isinstance(item, int | float) and math.isfinite(item) for item in items)
    ):
        raise UserError(
            f"The '{name}' of {where} must be a number or {count} numbers. Got {value!r}."
        )
    return tuple(float(item) for item in items)


def _check(given: Preprocessing) -> None:
    if min(given.size) < 1:
        raise UserError(f"The 'size' of preprocessing must be positive. Got {given.size}.")
    count = 1 if given.channels == "gray" else 3
    for name, values in (("mean", given.mean), ("std", given.std)):
        if len(values) != count:
            raise UserError(
                f"The '{name}' of preprocessing must have {count} numbers for "
                f"{given.channels} input. Got {len(values)}."
            )
    if min(given.std) <= 0:
        raise UserError(f"The 'std' of preprocessing must be positive. Got {given.std}.")
    if given.dtype == "uint8" and (any(given.mean) or set(given.std) != {1.0}):
        raise UserError(
            "The 'mean' and 'std' of preprocessing must be 0 and 1 for the 'dtype' uint8: such a "
            "network takes pixels as they are, so leave them out."
            f" Got {list(given.mean)} and {list(given.std)}."
        )
    if given.crop is not None:
        top, left, height, width = given.crop
        inside = top >= 0 and left >= 0 and top + height <= FRAME and left + width <= FRAME
        if not inside or height < 1 or width < 1:
            raise UserError(
                "The 'crop' of preprocessing must be (top, left, height, width) inside "
                f"{FRAME}x{FRAME}. Got {given.crop}."
            )


def _reorder(images: Tensor, channels: Channels) -> Tensor:
    if channels == "rgb":
        return images
    if channels == "bgr":
        return images.flip(1)
    weights = images.new_tensor(GRAY).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
