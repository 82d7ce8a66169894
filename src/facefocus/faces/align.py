"""From a face in a picture to an aligned crop: fit five landmarks, warp.

Protocol: aligned-crops. YuNet landmarks, ArcFace template, similarity transform. The other crop,
``facenet160``, is the detector's box with a margin, not rotated: what FaceNet was trained on.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image

from facefocus.faces.detect import Face, turned_box
from facefocus.faces.images import resized

#: Side of the aligned frame in pixels.
FRAME_SIDE = 112

#: (x, y) in the frame of left eye, right eye, nose, left and right mouth corner, left as seen in
#: the image (ArcFace, Deng et al. 2019).
ARCFACE_TEMPLATE: Float64[np.ndarray, "5 2"] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
ARCFACE_TEMPLATE.setflags(write=False)

#: The kinds of crop, and the side of each in pixels.
CROP_SIDES = {"arcface112": FRAME_SIDE, "facenet160": 160}

#: What `box_crop` adds to a box, as a share of its side, half of it on either end. FaceNet's public
#: training crops (D. Sandberg, facenet, align_dataset_mtcnn with image_size 182 and margin 44) are
#: boxes with 44 pixels of the photograph added, scaled to 182. Counted in pixels of the photograph
#: a margin shrinks as photographs grow; a share of the box gives one face one crop in any size.
BOX_MARGIN = 44 / 182


def similarity_transform(
    landmarks: Float[np.ndarray, "p 2"], template: Float[np.ndarray, "p 2"]
) -> Float64[np.ndarray, "2 3"]:
    """The 2x3 matrix of the scale, rotation and shift that best takes `landmarks` to `template`.

    Least squares in closed form: with points as complex numbers z, w about their means, a
    similarity is w = a z, and a = sum(conj(z) w) / sum(|z|^2). No complex factor is a reflection
    or a shear, so neither can come out.

    Raises:
        ValueError: All landmarks are one point, or a coordinate is not finite.

    Example:
        >>> twice = 2 * ARCFACE_TEMPLATE
        >>> similarity_transform(twice, ARCFACE_TEMPLATE).round(6) + 0.0
        array([[0.5, 0. , 0. ],
               [0. , 0.5, 0. ]])
    """
    source = landmarks[:, 0].astype(np.float64) + 1j * landmarks[:, 1].astype(np.float64)
    target = template[:, 0].astype(np.float64) + 1j * template[:, 1].astype(np.float64)
    centered = source - source.mean()
    spread = float(np.sum(np.abs(centered) ** 2))
    if not np.isfinite(spread) or spread == 0.0:
        raise ValueError("A similarity transform needs two different, finite points.")
    factor = np.sum(np.conj(centered) * (target - target.mean())) / spread
    shift = target.mean() - factor * source.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def crop(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float64[np.ndarray, "2 3"], size: int = FRAME_SIDE
) -> UInt8[np.ndarray, "size size 3"]:
    """The picture warped by `matrix`, bilinear, black where the picture ends.

    Bilinear sampling reads four pixels, so a source with more than two pixels per frame pixel is
    first averaged down by a whole factor; detail the frame cannot hold would become noise.

    Args:
        image: The picture.
        matrix: Takes (x, y, 1) of the picture to the frame; pixel centers at whole numbers.
        size: Side of the frame in pixels.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    factor = int(1.0 / scale) if scale > 0.0 else 1
    if factor >= 2:
        image, matrix = _shrunk(image, matrix, factor)
    return np.asarray(
        cv2.warpAffine(
            image,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(0, 0, 0),
        ),
        dtype=np.uint8,
    )


def _shrunk(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float64[np.ndarray, "2 3"], factor: int
) -> tuple[UInt8[np.ndarray, "a b 3"], Float64[np.ndarray, "2 3"]]:
    """The picture reduced by about `factor`, and the matrix from it to the same frame."""
    small = resized(image, 1.0 / factor)
    step = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]])
    # Pixel i of the small picture is centered on (i + 0.5) * step - 0.5 of the large one.
    linear = matrix[:, :2] * step
    offset = matrix[:, 2] + matrix[:, :2] @ (0.5 * step - 0.5)
    return small, np.column_stack([linear, offset])


def box_crop(
    image: UInt8[np.ndarray, "h w 3"], box: Float64[np.ndarray, "4"]
) -> UInt8[np.ndarray, "size size 3"]:
    """The box with its margin, cut off where the picture ends and resized to a square.

    Width and height are scaled each on its own and nothing is rotated, as FaceNet's faces were
    prepared (see `BOX_MARGIN`). Bilinear, averaged where the box is larger than the frame.

    Args:
        image: The picture.
        box: x and y of the top left corner, width, height; may reach beyond the picture.
    """
    side = CROP_SIDES["facenet160"]
    height, width = image.shape[:2]
    x, y, w, h = box
    left, right = _extended(float(x), float(w), width)
    top, bottom = _extended(float(y), float(h), height)
    resized = Image.fromarray(image).resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    return np.asarray(resized, dtype=np.uint8)


def _extended(start: float, length: float, limit: int) -> tuple[float, float]:
    """Both ends with the margin, inside the picture and at least one pixel apart."""
    extra = BOX_MARGIN / 2 * length
    low = min(max(start - extra, 0.0), limit - 1.0)
    return low, min(max(start + length + extra, low + 1.0), float(limit))


def align_face(
    image: UInt8[np.ndarray, "h w 3"], face: Face, kind: str = "arcface112"
) -> UInt8[np.ndarray, "side side 3"]:
    """The crop of a face, of a kind in `CROP_SIDES`, upright also where the picture is not."""
    if kind == "facenet160":
        box = turned_box(face.box, face.turn, *image.shape[:2])
        return box_crop(np.ascontiguousarray(np.rot90(image, face.turn)), box)
    return crop(image, similarity_transform(face.landmarks, ARCFACE_TEMPLATE))
