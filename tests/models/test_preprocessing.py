from __future__ import annotations

import math
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from facefocus.core.errors import UserError
from facefocus.models.preprocessing import (
    Preprocessing,
    from_mapping,
    read_words,
    scale_doubt,
)

PLAIN = Preprocessing((112, 112), None, "rgb", (127.5,) * 3, (127.5,) * 3)
GEOMETRIES = {
    "whole": PLAIN,
    "112x96": Preprocessing((112, 96), (0, 8, 112, 96), "rgb", (127.5,) * 3, (128.0,) * 3),
    "squeezenet": Preprocessing((128, 128), (4, 4, 104, 104), "gray", (0.0,), (1.0,)),
    "facenet": Preprocessing((160, 160), None, "rgb", (127.5,) * 3, (128.0,) * 3),
    "small": Preprocessing((40, 56), (20, 0, 80, 112), "bgr", (0.0,) * 3, (255.0,) * 3),
}
FRAMES = [(112, 112), (224, 224), (128, 120)]


def noise(count: int, frame: tuple[int, int] = (112, 112)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, *frame, 3), dtype=np.uint8)


def centroid(image: np.ndarray) -> tuple[float, float]:
    """Center of mass of what lies above half of the range; pixel i covers [i, i + 1)."""
    bright = image - (image.min() + image.max()) / 2
    weights = np.clip(bright, 0, None)
    rows, columns = np.indices(image.shape) + 0.5
    return (rows * weights).sum() / weights.sum(), (columns * weights).sum() / weights.sum()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_planted_square_is_found_again(name: str, frame: tuple[int, int]) -> None:
    geometry = GEOMETRIES[name]
    height, width = frame
    for row, column in ((0.3, 0.35), (0.6, 0.5), (0.7, 0.75)):
        top, left = int(row * height), int(column * width)
        frames = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        frames[0, top : top + 9, left : left + 7] = 255
        maps = geometry(frames).mean(1)
        assert maps.shape[1:] == geometry.size
        center = centroid(geometry.to_frame(maps, frame)[0].numpy())
        assert center == pytest.approx((top + 4.5, left + 3.5), abs=1.0)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_cell_of_a_coarse_map_lands_on_its_part_of_the_crop(
    name: str, frame: tuple[int, int]
) -> None:
    geometry = GEOMETRIES[name]
    top, left, height, width = geometry.window(frame)
    maps = torch.zeros(1, 8, 7)
    maps[0, 3, 4] = 1.0
    center = centroid(geometry.to_frame(maps, frame)[0].numpy())
    assert center == pytest.approx((top + 3.5 / 8 * height, left + 4.5 / 7 * width), abs=1.0)


def test_unseen_pixels_get_each_maps_own_minimum() -> None:
    maps = torch.tensor([[[2.0, 3.0], [4.0, 5.0]], [[-1.0, 0.0], [7.0, 7.0]]])
    pasted = GEOMETRIES["112x96"].to_frame(maps)
    assert pasted.shape == (2, 112, 112)
    for index, minimum in enumerate((2.0, -1.0)):
        assert (pasted[index, :, :8] == minimum).all()
        assert (pasted[index, :, 104:] == minimum).all()
    # Corners not aligned: the outer half cells are constant, so corners keep their values.
    assert pasted[0, 0, 8] == 2.0
    assert pasted[0, 111, 103] == 5.0
    assert pasted[0, 55:57, 55:57].mean() == pytest.approx(3.5)


def test_maps_of_the_crops_own_size_are_pasted_unchanged() -> None:
    maps = torch.rand(2, 104, 104)
    pasted = GEOMETRIES["squeezenet"].to_frame(maps)
    assert torch.equal(pasted[:, 4:108, 4:108], maps)
    assert torch.equal(PLAIN.to_frame(torch.ones(1, 112, 112)), torch.ones(1, 112, 112))


def test_crops_scale_with_the_frame() -> None:
    geometry = GEOMETRIES["squeezenet"]
    assert geometry.window((112, 112)) == (4, 4, 104, 104)
    assert geometry.window((224, 336)) == (8, 12, 208, 312)
    assert PLAIN.window((100, 90)) == (0, 0, 100, 90)


@pytest.mark.parametrize("name", ["facenet", "squeezenet", "small"])
def test_resizing_is_pillows(name: str) -> None:
    geometry = replace(GEOMETRIES[name], channels="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    frames = noise(2)
    top, left, height, width = geometry.window((112, 112))
    got = geometry(torch.from_numpy(frames)).numpy()
    for frame, planes in zip(frames, got, strict=True):
        for channel in range(3):
            crop = frame[top : top + height, left : left + width, channel].astype(np.float32)
            resized = Image.fromarray(crop).resize(geometry.size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_allclose(planes[channel], np.asarray(resized), atol=2e-3)


def test_normalization_and_channel_order() -> None:
    frames = noise(3)
    planes = frames.transpose(0, 3, 1, 2).astype(np.float64)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    geometry = Preprocessing((112, 112), None, "rgb", mean, std)
    expected = (planes - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    tensor = torch.from_numpy(frames)
    np.testing.assert_allclose(geometry(tensor).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(PLAIN(tensor).numpy(), (planes - 127.5) / 127.5, atol=1e-6)
    swapped = replace(PLAIN, channels="bgr")(tensor).numpy()
    np.testing.assert_allclose(swapped, (planes[:, ::-1] - 127.5) / 127.5, atol=1e-6)
    gray = Preprocessing((112, 112), None, "gray", (10.0,), (2.0,))(tensor).numpy()
    luma = 0.299 * planes[:, 0] + 0.587 * planes[:, 1] + 0.114 * planes[:, 2]
    np.testing.assert_allclose(gray, ((luma - 10) / 2)[:, None], atol=1e-4)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_gradients_are_the_adjoint(name: str) -> None:
    """For an affine map P(x) = Lx + c the gradient of <P(x), y> is L'y: <Lx, y> = <x, L'y>."""
    geometry = GEOMETRIES[name]
    frames = torch.from_numpy(noise(2)).float().requires_grad_()
    inputs = geometry(frames)
    weights = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((inputs * weights).sum(), frames)
    with torch.no_grad():
        linear = geometry(frames) - geometry(torch.zeros_like(frames))
    left = (linear * weights).double().sum().item()
    assert (frames * gradient).double().sum().item() == pytest.approx(left, rel=1e-3, abs=1.0)
    top, column, height, width = geometry.window((112, 112))
    outside = torch.ones(112, 112, dtype=torch.bool)
    outside[top : top + height, column : column + width] = False
    assert (gradient[:, outside] == 0).all()
    assert (gradient[:, ~outside] != 0).any(dim=-1).float().mean() > 0.99


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_frame_reads_the_same_in_any_company(name: str) -> None:
    geometry = GEOMETRIES[name]
    frames = torch.from_numpy(noise(7))
    together = geometry(frames)
    for index in range(7):
        assert torch.equal(geometry(frames[index : index + 1])[0], together[index])


def test_plain_values_become_preprocessing() -> None:
    values = {"size": [128, 128], "crop": [4, 4, 104, 104], "channels": "gray", "mean": 0, "std": 1}
    assert from_mapping(values) == GEOMETRIES["squeezenet"]
    assert from_mapping({"size": [112, 112], "mean": 127.5, "std": [127.5] * 3}) == PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sise": [1, 1]}, "'sise' of preprocessing must be one of .* Did you mean 'size'"),
        ({"size": [112]}, r"'size' of preprocessing must be 2 whole numbers. Got \[112\]"),
        ({"size": [0, 112]}, "'size' of preprocessing must be positive"),
        ({"size": None}, "'size' of preprocessing must be 2 whole numbers"),
        ({"crop": [0, 0, 112, 113]}, "'crop' of preprocessing .* inside 112x112"),
        ({"crop": [0, 0, 0, 10]}, "'crop' of preprocessing"),
        ({"channels": "RGB"}, "'channels' of preprocessing .* Did you mean 'rgb'"),
        ({"mean": [1, 2]}, "'mean' of preprocessing must be a number or 3 numbers"),
        ({"mean": "zero"}, "'mean' of preprocessing must be a number"),
        ({"std": 0}, "'std' of preprocessing must be positive"),
        ({"std": math.inf}, "'std' of preprocessing must be a number"),
        ({"layout": "NHWC"}, "'layout' of preprocessing .* Did you mean 'nhwc'"),
        ({"dtype": "uint9"}, "'dtype' of preprocessing .* Did you mean 'uint8'"),
        ({"output": 1.5}, r"'output' of preprocessing must be the embedding's place"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"size": [112, 112], "mean": 0, "std": 1}
    with pytest.raises(UserError, match=message):
        from_mapping(values | change)


@pytest.mark.parametrize(
    ("mean", "std", "meant"),
    [
        (
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
            r"mean = \[123.675, 116.28, 103.53\] and std = \[58.395, 57.12, 57.375\]",
        ),
        (0.5, 0.5, r"mean = \[127.5, 127.5, 127.5\]"),
        (0, 0.0039215686, r"std = \[1, 1, 1\]"),
        (127.5, 127.5, None),
        (0, 1, None),
        (0, 255, None),
        (127.5, 1, None),
        (-1, 0.5, None),
    ],
)
def test_statistics_in_0_to_1_are_doubted(mean: object, std: object, meant: str | None) -> None:
    doubt = scale_doubt(from_mapping({"size": [4, 4], "mean": mean, "std": std}))
    assert (doubt is not None and re.search(meant, doubt)) if meant else doubt is None


def test_words_of_the_command_line_are_those_of_a_file() -> None:
    text = 'size = [112, 96], mean = 127.5, std = 128, channels = "bgr", output = "embedding"'
    lines = re.sub(r", (?=[a-z])", "\n", text)
    assert read_words(text) == tomllib.loads(lines)
    for wrong in ("size 112", "size = [112,", "a = 1\nb = 2"):
        with pytest.raises(UserError, match=r"'--preprocessing' must be such as 'size = \[112"):
            read_words(wrong)


def test_the_rest_of_the_interface_is_in_the_canonical_text_only_where_it_is_unusual() -> None:
    assert replace(PLAIN, layout="nchw").canonical == PLAIN.canonical
    assert "layout" not in PLAIN.canonical
    others = [replace(PLAIN, layout="nhwc"), replace(PLAIN, output=1), replace(PLAIN, output="1")]
    assert len({preprocessing.canonical for preprocessing in (PLAIN, *others)}) == 4


def test_channels_and_statistics_must_agree() -> None:
    with pytest.raises(UserError, match="'std' of preprocessing must have 1 numbers for gray"):
        Preprocessing((4, 4), None, "gray", (0.0,), (1.0, 1.0, 1.0))


def test_canonical_text_tells_geometries_apart() -> None:
    texts = {geometry.canonical for geometry in GEOMETRIES.values()}
    assert len(texts) == len(GEOMETRIES)
    assert replace(PLAIN).canonical == PLAIN.canonical
