"""A transformer's layers, and its maps beside each other, on drawn faces.

Left: what `facefocus models layers vit-mini-eyes` prints. Right: three people of world `eyes`, the
planted part outlined; maps of `layer-cam` at the first convolution and at the last normalization of
tokens, and of the three attention methods, which use all attentions.
Run: python examples/transformer.py docs/images/transformer.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import facefocus as ff
from facefocus.cli.model_commands import layer_lines
from facefocus.faces.sources.synthetic import read_truth

MODEL, WORLD, PEOPLE = "vit-mini-eyes", "eyes", 3
#: Method and layer.
MAPS = (
    ("layer-cam", "1"),
    ("layer-cam", "norm:N"),
    ("attention-rollout", ""),
    ("gradient-rollout", ""),
    ("legrad", ""),
)


def main(path: Path) -> None:
    """Draw the table and the maps."""
    faces = ff.load_faces(f"synthetic-{WORLD}")
    assert faces.folder is not None
    truth = read_truth(faces.folder)[WORLD]
    model = ff.load_recognizer(MODEL)
    explained = [
        ff.explain(model, faces, method, layer=layer or "N", people=PEOPLE, max_images=4)
        for method, layer in MAPS
    ]
    figure = plt.figure(figsize=(14.5, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.75))
    left.text(0.02, 0.97, "\n".join(layer_lines(MODEL)), family="monospace", size=6, va="top")
    axes = right.subplots(PEOPLE, 1 + len(MAPS))
    for row, person in zip(axes, explained[0], strict=True):
        first = int((faces.identities == person).nonzero()[0][0])
        row[0].imshow(faces.frames[first])
        for axis, maps in zip(row[1:], explained, strict=True):
            axis.imshow(maps[person], cmap="magma")
        for axis in row:
            axis.contour(truth[first], [0.5], colors="cyan", linewidths=0.8)
            axis.set(xticks=[], yticks=[])
    layer_names = (f"@ {layer}" if layer else "all attentions" for _, layer in MAPS)
    titles = [
        "a photo",
        *(f"{method}\n{at}" for (method, _), at in zip(MAPS, layer_names, strict=True)),
    ]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "transformer.png"))
