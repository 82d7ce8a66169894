"""One mask, every recognizer's eyes: a spot found in one input, hidden in the frame, seen by all.

Rows: the geometry in whose input the spot (the tip of the nose) was found. Columns: what each
recognizer is shown once the 2 % of the frame under that spot are hidden. The spot must lie on the
nose everywhere. Run: python examples/geometry.py docs/images/geometry.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from facefocus.faces.sources.synthetic import render
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.zoo import describe
from facefocus.occlusion.masks import pixel_count, top_pixels

RECOGNIZERS = {
    "mobilefacenet-ms1m": "112 x 112",
    "mobilefacenet-casia-112x96": "112 x 96",
    "squeezenet-vggface2": "128 gray, central 104",
    "facenet-vggface2": "160 x 160",
}
NOSE = (56.0, 71.7)  # x, y of the ArcFace template's nose tip in the 112 frame


def spot_in_input(reading: Preprocessing) -> torch.Tensor:
    """A map [1, h, w] in a recognizer's input, bright where its input shows the nose tip."""
    y, x = np.mgrid[:112, :112]
    bump = 255 * np.exp(-((x - NOSE[0]) ** 2 + (y - NOSE[1]) ** 2) / (2 * 5.0**2))
    frames = torch.from_numpy(np.repeat(bump[None, ..., None], 3, axis=3).astype(np.float32))
    return reading(frames).mean(dim=1)


def shown(reading: Preprocessing, frame: np.ndarray) -> np.ndarray:
    """A recognizer's input as a picture, its normalization undone."""
    image = reading(torch.from_numpy(frame[None]))[0].permute(1, 2, 0).numpy()
    image = image * np.array(reading.std) + np.array(reading.mean)
    return np.repeat(image, 4 - image.shape[2], axis=2)[..., :3].clip(0, 255).astype(np.uint8)


def main(path: Path) -> None:
    """Draw the grid and print where the spot's centre lies in the frame for every source."""
    readings = {name: describe(name).reader() for name in RECOGNIZERS}
    frame = render("all", 0, 5, 0).frame
    figure, axes = plt.subplots(
        len(readings), len(readings), figsize=(8, 8.6), layout="constrained"
    )
    for row, (source, reading) in enumerate(readings.items()):
        saliency = reading.to_frame(spot_in_input(reading), (112, 112))[0].numpy()
        mask = top_pixels(saliency, pixel_count(0.02, 112, 112), np.random.default_rng(0))
        y, x = (float(np.mean(where)) for where in np.nonzero(mask))
        print(f"{source}: spot at x {x:.2f}, y {y:.2f} (nose tip {NOSE[0]}, {NOSE[1]})")
        hidden = np.where(mask[..., None], 0, frame).astype(np.uint8)
        for column, (target, other) in enumerate(readings.items()):
            axis = axes[row, column]
            axis.imshow(shown(other, hidden))
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"shown to\n{target}\n{RECOGNIZERS[target]}", fontsize=8)
            if column == 0:
                axis.set_ylabel(f"found in\n{source}\n{RECOGNIZERS[source]}", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "geometry.png"))
