"""Recognizers of insightface: ``insightface:PACK``, from the packs in the user's folder."""

from __future__ import annotations

from pathlib import Path

from facefocus.core.errors import UserError, did_you_mean
from facefocus.models.onnx_graph import input_sides, read_graph
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer
from facefocus.models.sources import RecognizerSource
from facefocus.models.sources.onnx_file import load_onnx

#: Where insightface puts its packs.
FOLDER = Path(".insightface", "models")
#: Packs that it downloads.
PACKS = {
    "buffalo_l": "insightface-w600k-r50",
    "buffalo_m": "insightface-w600k-r50",
    "buffalo_s": "insightface-w600k-mbf",
    "buffalo_sc": "insightface-w600k-mbf",
    "antelopev2": "iresnet100-glint360k",
}
#: Sides of the input of its recognition models.
_SIDES = (112, 112)


def load_insightface(name: str, preprocessing: Preprocessing | None) -> Recognizer:
    """The recognition model of a pack, such as ``buffalo_l``: RGB, 112 x 112.

    As insightface itself does, mean and std are 127.5, or 0 and 1 where the graph begins with a
    subtraction and a multiplication of its own.

    Raises:
        UserError: The pack is not there, or holds no such model.
    """
    folder = Path.home() / FOLDER
    pack = folder / name
    if not name or not pack.is_dir():
        packs = sorted(path.name for path in folder.glob("*") if path.is_dir())
        known = name in PACKS
        raise UserError(
            f"The pack '{name}' is not in '{folder}', which has {', '.join(packs) or 'none'}."
            f"{'' if known else did_you_mean(name, [*packs, *PACKS])} Get one by: pip install"
            ' insightface, then python -c "from insightface.app import FaceAnalysis; FaceAnalysis'
            f"('{name if known else next(iter(PACKS))}')\"."
        )
    models = [path for path in sorted(pack.glob("*.onnx")) if _recognizes(path)]
    if len(models) != 1:
        names = ", ".join(path.name for path in models) or "none"
        raise UserError(
            f"The pack '{pack}' must hold one recognition model, which takes [n, 3, 112, 112]."
            f" Got {names}. Name the file itself: FILE.onnx."
        )
    own = _normalizes(models[0])
    mean, std = (0.0, 1.0) if own else (127.5, 127.5)
    return load_onnx(str(models[0]), Preprocessing(_SIDES, mean=(mean,) * 3, std=(std,) * 3))


def _recognizes(path: Path) -> bool:
    """Whether a model takes images of 112 x 112 and gives one output, as insightface asks."""
    model = read_graph(path)
    return len(model.graph.output) == 1 and tuple(input_sides(model)[2:]) == _SIDES


def _normalizes(path: Path) -> bool:
    names = [node.name for node in read_graph(path).graph.node[:8]]
    return all(
        any(name.startswith(starts) for name in names)
        for starts in (("Sub", "_minus"), ("Mul", "_mul"))
    )


INSIGHTFACE = RecognizerSource("insightface:PACK", load_insightface, lineages=PACKS)
