from __future__ import annotations

import random
import struct
import sys
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from facefocus.faces import images
from facefocus.faces.images import UnusableImage, decode_rgb, suffixes
from tests.faces.pictures import encoded, pixels


def reason(data: bytes) -> str:
    with pytest.raises(UnusableImage) as caught:
        decode_rgb(data, "a.png")
    assert str(caught.value) == f"'a.png' cannot be used: {caught.value.reason}."
    return caught.value.reason


def test_rgb_comes_back_as_it_is() -> None:
    image = pixels(1)
    decoded = decode_rgb(encoded(image), "a")
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, image)


def test_gray_fills_three_channels() -> None:
    gray = pixels(2)[:, :, 0]
    assert np.array_equal(decode_rgb(encoded(gray), "a"), np.stack([gray] * 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert decode_rgb(encoded(image), "a")[:, :, 0].tolist() == [[0, 255], [255, 0]]


def test_palette_gives_its_colors() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert decode_rgb(encoded(image), "a").tolist() == [[[40, 50, 60], [10, 20, 30]]]


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])
def test_transparency_is_laid_on_white(alpha: int, expected: int) -> None:
    # 100 * 128/255 + 255 * 127/255 = 177.2
    color = Image.new("RGBA", (1, 1), (100, 100, 100, alpha))
    assert decode_rgb(encoded(color), "a").tolist() == [[[expected] * 3]]
    gray = Image.new("LA", (1, 1), (100, alpha))
    assert decode_rgb(encoded(gray), "a").tolist() == [[[expected] * 3]]


def test_transparent_palette_color_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    data = encoded(image, transparency=0)
    assert decode_rgb(data, "a").tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert decode_rgb(encoded(image, "TIFF"), "a").tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_gray_of_16_bits_is_scaled_and_not_clipped(kind: str) -> None:
    deep = np.array([[0, 128, 129, 257, 25700, 65535]], np.uint16)
    decoded = decode_rgb(encoded(deep, kind), "a")
    assert decoded[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 100, 255)]


def test_gray_of_16_bits_in_a_netpbm_file() -> None:
    data = b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 25700)
    assert decode_rgb(data, "a")[0].tolist() == [[255] * 3, [100] * 3]


def test_deep_pixels_without_a_known_white_are_refused() -> None:
    assert "32 bits" in reason(encoded(Image.new("I", (1, 1), 70000), "TIFF"))
    assert "32 bits" in reason(encoded(Image.new("I", (1, 1), -1), "TIFF"))
    assert "real numbers" in reason(encoded(Image.new("F", (1, 1), 0.5), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    image = pixels(3, 4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }[orientation]
    assert np.array_equal(decode_rgb(encoded(image, exif=exif), "a"), expected)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_means_upright() -> None:
    image = pixels(3, 4, 6)
    data = encoded(image, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(decode_rgb(data, "a"), image)


#: The head of a phone's HEIC file, and nothing after it.
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_read_upright_where_pillow_heif_is_installed(orientation: int) -> None:
    pytest.importorskip("pillow_heif", reason="the extra 'heic' is not installed")
    assert "HEIF" in images.formats()
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = (200, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "HEIF", exif=exif.tobytes(), quality=-1)
    upright = decode_rgb(encoded(image, exif=exif), "a").astype(int)
    # A photo that was sent on is often called .jpg: the content counts, not the name.
    decoded = decode_rgb(data, "a.jpg")
    assert np.abs(decoded - upright).max() <= 3
    assert reason(HEIC_HEAD) == "damaged or incomplete"


@pytest.fixture(params=["absent", "1.0.0"])
def without_heif(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Without pillow-heif, or with one that turns photographs of phones twice."""
    suffixes()  # Registers all formats before one is taken away.
    old = None if request.param == "absent" else SimpleNamespace(__version__=request.param)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", old)
        if old is None:
            patch.delitem(Image.OPEN, "HEIF", raising=False)
        images.formats.cache_clear()
        images.suffixes.cache_clear()
        yield
    images.formats.cache_clear()
    images.suffixes.cache_clear()


@pytest.mark.usefixtures("without_heif")
def test_heic_is_named_with_the_remedy_where_pillow_heif_is_absent_or_old() -> None:
    assert "HEIF" not in images.formats()
    assert {".heic", ".heif"} <= suffixes()
    expected = "HEIC: install pillow-heif 1.1 or later to read it (pip install 'facefocus[heic]')"
    assert reason(HEIC_HEAD) == expected


def test_other_things_are_named_by_their_content() -> None:
    assert reason(HEIC_HEAD.replace(b"heic", b"qt  ")) == "a video"
    assert reason(HEIC_HEAD.replace(b"heic", b"crx ")).startswith("a raw camera file")


def test_color_of_16_bits_is_scaled() -> None:
    raw = np.array([[[0, 65535, 25700]]], ">u2")
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = _png(header, zlib.compress(b"\0" + raw.tobytes()))
    assert decode_rgb(data, "a").tolist() == [[[0, 255, 100]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_the_first_picture_of_an_animation(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert (decode_rgb(data, "a") == (255, 0, 0)).all()


def test_large_pictures_are_averaged_down_by_a_whole_factor() -> None:
    image = np.zeros((8, 4096, 3), np.uint8)
    image[:, 1::2] = 200
    decoded = decode_rgb(encoded(image), "a")
    assert decoded.shape == (4, 2048, 3)
    assert (decoded == 100).all()
    assert decode_rgb(encoded(image[:, :4095]), "a").shape == (8, 4095, 3)


def test_large_transparent_pictures_are_laid_on_white() -> None:
    image = np.zeros((8, 4096, 4), np.uint8)
    image[:, 1::2] = (200, 100, 50, 255)
    decoded = decode_rgb(encoded(image), "a")
    # Half of every pixel is (200, 100, 50), half is white; the hidden black counts nothing.
    assert np.abs(decoded.astype(int) - (227, 177, 152)).max() <= 1


def test_large_jpegs_are_reduced_alike_and_keep_their_colors() -> None:
    data = encoded(Image.new("RGB", (9000, 600), (200, 100, 50)), "JPEG")
    decoded = decode_rgb(data, "a")
    # 9000 / 2048 = 4: the decoder itself can reduce by 4.
    assert decoded.shape == (150, 2250, 3)
    assert np.abs(decoded.astype(int) - (200, 100, 50)).max() <= 2


def test_unusable_files_say_why() -> None:
    good = encoded(pixels(4, 40, 40))
    assert reason(b"") == "the file is empty"
    assert reason(b"hello, this is text") == "not a picture in a known format"
    assert reason(good[: len(good) // 2]) == "damaged or incomplete"
    jpeg = encoded(pixels(4, 40, 40), "JPEG")
    assert reason(jpeg[: len(jpeg) // 2]) == "damaged or incomplete"


def test_postscript_is_not_run() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    assert reason(data) == "not a picture in a known format"


def _png(header: bytes, pixels: bytes) -> bytes:
    def block(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    blocks = block(b"IHDR", header) + block(b"IDAT", pixels) + block(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + blocks


def _claimed_png(width: int, height: int) -> bytes:
    return _png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(b"\0"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_955, 14_000, 100_000])
def test_decompression_bombs_are_refused_unread(side: int) -> None:
    # 120, 196 and 10,000 megapixels: over our limit and over Pillow's error.
    assert reason(_claimed_png(side, side)) == "larger than 120 megapixels"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photo_of_100_megapixels_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (11_600, 8_700), 77), compress_level=1)
    held: list[bool] = []
    whole = images._to_rgb

    def watched(image: Image.Image, name: str) -> Image.Image:
        held.append(images._one_large.locked())
        return whole(image, name)

    monkeypatch.setattr(images, "_to_rgb", watched)
    decoded = decode_rgb(data, "a")
    # 11,600 / 2,048 = 5.
    assert decoded.shape == (1740, 2320, 3)
    assert (decoded == 77).all()
    decode_rgb(encoded(pixels(1)), "a")
    assert held == [True, False]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"])
def test_damaged_files_never_raise_anything_else(kind: str) -> None:
    good = encoded(pixels(5, 32, 32), kind)
    draw = random.Random(kind)
    for _ in range(60):
        data = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        try:
            decoded = decode_rgb(bytes(data[: draw.randint(1, len(data))]), "a")
        except UnusableImage:
            continue
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3


def test_suffixes_are_those_of_readable_formats() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif"} <= suffixes()
    assert not {".eps", ".pdf", ".txt", ".h5"} & suffixes()


def test_limit_is_on_the_claimed_size_and_not_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert decode_rgb(encoded(pixels(1, 10, 10)), "a").shape == (10, 10, 3)
    with pytest.raises(UnusableImage):
        decode_rgb(encoded(pixels(1, 10, 11)), "a")
