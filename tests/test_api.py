"""The public API: objects and names alike, and the same numbers as a run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import facefocus as ff
from facefocus.benchmark import session as session_module
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.stages import STAGES
from facefocus.core.errors import UserError
from facefocus.faces.faceset import FaceSet, open_faceset, select_identities
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.methods import METHODS, GradientMethod
from facefocus.saliency.streams import CamConfig
from tests.small import TinyNet, paint_faceset, tiny_recognizer

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    return open_faceset(paint_faceset(tmp_path_factory.mktemp("faces") / "painted", listed=True))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFOCUS_STORE", str(tmp_path / "kept"))
    # Rendering pictures is most of the time of a page, and tested with the figures.
    monkeypatch.setattr("facefocus.report.figures.save", lambda figure, path: path.touch())
    monkeypatch.chdir(tmp_path)


def left_half(images: np.ndarray, recognizer: Any) -> np.ndarray:
    """A map that only knows where left is."""
    height, width = images.shape[1:3]
    return np.tile(np.arange(width, 0, -1, dtype=np.float32), (height, 1))


def test_explain_gives_the_maps_of_the_definition(faces: FaceSet) -> None:
    model = tiny_recognizer("a", 0)
    maps = ff.explain(model, faces, "layer-cam", layer=2, people=3, backend="torch")
    whom = select_identities(faces, count=3)
    config = CamConfig("layer-cam", "2")
    made = cam_identity_maps(model, faces.frames, whom, [config], max_pairs=None, seed=0)[config]
    assert list(maps) == [person.name for person in whom] and maps.source == "a"
    for person, expected in zip(whom, made.maps, strict=True):
        assert np.array_equal(maps[person.name], expected)
    assert maps.table["pair_maps"].to_list() == made.total.tolist()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("grad-cam", {}),
        ("s-rise", {"masks": 32}),
        ("occlusion-gradient", {"steps": 2}),
        ("gradient-x-input", {}),
    ],
)
def test_evaluated_maps_score_as_in_a_run(
    faces: FaceSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    options: dict[str, Any],
) -> None:
    """The same maps, made in a run or brought as an object, are hidden and scored alike."""
    monkeypatch.setattr(session_module, "load", lambda *_: tiny_recognizer("a", 0))
    experiment = parse_experiment(
        {
            "name": "one",
            "faces": {"identities": 4},
            "recognizers": {"source": "a"},
            "saliency": [
                {"method": method, "layer": "1", "options": options},
                {"method": "random", "draws": 1},
            ],
            "occlusion": {"budget": 0.2},
            "controls": {"control": ["shifted", "other"], "draws": 5},
        }
    )
    run = ff.run(experiment, tmp_path / "run", faces=faces.folder, backend="torch")
    people = sorted(set(run.rows["identity"]))
    maps = ff.explain(
        tiny_recognizer("a", 0),
        faces,
        method,
        layer=1,
        people=people,
        budget=0.2,
        options=options,
        backend="torch",
    )
    mine = ff.IdentityMaps.from_arrays(dict(maps), name="mine", source="a")
    result = ff.evaluate(
        mine, tiny_recognizer("a", 0), faces, budget=0.2, controls=["shifted", "other"],
        backend="torch",
    )  # fmt: skip
    keys = ["method", "control", "budget", "identity"]
    figures = ["clean_cosine", "cosine", "rate", "fmr", "masked_pixels", "threshold"]
    expected = run.rows.with_columns(method=pl.col("method").replace(method, "mine"))
    assert (
        result.rows.select(keys + figures)
        .sort(keys)
        .equals(expected.select(keys + figures).sort(keys))
    )
    assert result.table.filter(method="mine")["excess"].is_not_null().all()
    assert result.table.filter(method="mine")["source"].unique().to_list() == ["a"]
    page = result.report(tmp_path / "page").read_text()
    assert "mine" in page and str(tmp_path) not in page


def test_methods_and_maps_come_from_files(
    faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", lambda *_: tiny_recognizer("a", 0))
    # The function imports its neighbour only when it is called.
    Path("neighbour.py").write_text("import numpy as np\n")
    code = "def ramp(images, recognizer):\n    from neighbour import np\n    return np.{}\n"
    ramp = "arange(images[0, ..., 0].size, dtype=float).reshape(images.shape[1:3])"
    Path("own.py").write_text(code.format(ramp))
    names = np.unique(faces.identities)[:4].tolist()
    height, width = faces.frames.shape[1:3]
    other = np.arange(height * width, 0, -1, dtype=np.float32).reshape(height, width)
    given: dict[str, Any] = dict.fromkeys([*names[:3], "nobody"], other)
    np.savez("maps.npz", **given)
    experiment = {
        "name": "files",
        "faces": {"people": names},
        "recognizers": {"source": "a"},
        "saliency": [{"method": "own.py:ramp"}, {"maps": "maps.npz"}],
        "occlusion": {"budget": 0.25},
        "evaluation": {"split": ["same", "heldout"]},
    }
    first = ff.run(parse_experiment(experiment), "run", faces=faces.folder, backend="torch").rows
    same = first.filter(split="same")
    assert set(same["method"]) == {"own.py:ramp", "maps"}
    # A map that was made elsewhere is tried on no held-out photos: nobody knows which it saw.
    assert set(first.filter(split="heldout")["method"]) == {"own.py:ramp"}
    brought = same.filter(method="maps").sort("identity")
    assert brought["degenerate"].to_list() == [False, False, False, True]
    assert brought["masked_pixels"].to_list() == [round(0.25 * height * width)] * 3 + [0]
    # Other code is another method: its results are not taken for those of the old one.
    Path("own.py").write_text(code.format(ramp.replace("size, ", "size, 0, -1, ")))
    second = ff.run(parse_experiment(experiment), "run", faces=faces.folder, backend="torch").rows
    old, new = (
        rows.filter(split="same", method="own.py:ramp")["cosine"] for rows in (first, second)
    )
    assert old.to_list() != new.to_list()


def test_people_with_one_image_are_left_out(faces: FaceSet) -> None:
    rows = np.flatnonzero(np.isin(faces.identities, ["p02", "p03", "p04"]))[:-3]
    some = ff.load_faces(np.asarray(faces.frames[rows]), faces.identities[rows].tolist())
    assert (some.identities == "p04").sum() == 1
    height, width = faces.frames.shape[1:3]
    saliency = np.arange(height * width, dtype=np.float32).reshape(height, width)
    maps = dict.fromkeys(["p02", "p03", "p04"], saliency)
    result = ff.evaluate(maps, tiny_recognizer("a", 0), some, threshold=0.5, backend="torch")
    assert set(result.rows["identity"]) == {"p02", "p03"}


def test_functions_and_method_objects_explain(faces: FaceSet) -> None:
    model = tiny_recognizer("a", 0)
    maps = ff.explain(model, faces, left_half, people=2, backend="torch")
    assert maps.name == "left_half" and "left_half" not in list(METHODS)
    height, width = faces.frames.shape[1:3]
    assert np.array_equal(next(iter(maps.values())), left_half(np.zeros((1, height, width, 3)), 0))

    def product(activation: Any, gradient: Any, options: Any) -> Any:
        return torch.relu(activation * gradient).sum(dim=1)

    method = GradientMethod("product", product, version=1, scale_invariant=True)
    assert ff.explain(model, faces, method, layer=1, people=2, backend="torch").name == "product"
    with pytest.raises(UserError, match=r"A map of 'flat' must have the shape .* Got \(3,\)"):
        ff.explain(model, faces, _named("flat", lambda images, _: np.zeros(3)), people=2)


def _named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


def test_comparing_ranks_the_methods(faces: FaceSet) -> None:
    model = tiny_recognizer("a", 0)
    good = ff.explain(model, faces, "occlusion-gradient", people=8, budget=0.1, backend="torch")
    flat = ff.IdentityMaps.from_arrays(
        {name: np.zeros_like(saliency) for name, saliency in good.items()}, name="flat"
    )
    assert flat.degenerate == frozenset(flat)
    result = ff.compare([flat, good], model, faces, budget=0.1, backend="torch")
    ranking = result.ranking
    assert ranking["name"].to_list()[0].startswith("occlusion-gradient")
    assert ranking["first_share"].to_list() == pytest.approx([1.0, 0.0])
    assert result.to_markdown().count("\n| a |") == len(result.table)
    assert "occlusion-gradient" in result._repr_html_()
    assert r"\begin{" in result.to_latex()
    assert cast(Any, result.plot())._repr_png_()[1:4] == b"PNG"


def test_faces_are_loaded_from_arrays_and_photographs(
    faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    crops = np.asarray(faces.frames[:4])
    loaded = ff.load_faces(crops, ["Ada", "Ada", "Ben", "Ben"])
    assert repr(loaded).startswith("FaceSet 'faces': 4 images of 2 people")
    with pytest.raises(UserError, match=r"'labels' must say who each of 4 crops shows. Got 3"):
        ff.load_faces(crops, ["Ada", "Ada", "Ben"])
    with pytest.raises(UserError, match=r"must be a uint8 array .* Got float64"):
        ff.load_faces(crops / 255.0, ["Ada"] * 4)
    for person in ("Ada", "Ben"):
        for number in range(2):
            file = tmp_path / "photos" / person / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((112, 112, 3), 40 * number + ord(person[0]), np.uint8)
            pixels[:50, : 20 + 30 * number] = 200
            pixels[ord(person[0]) % 50 :, 60:] = 10
            Image.fromarray(pixels).save(file)
    monkeypatch.setattr(
        "facefocus.api.prepare_faces",
        lambda kind, source, out, progress: _prepare(kind, source, out),
    )
    assert repr(ff.load_faces(tmp_path / "photos")) == repr(ff.load_faces(tmp_path / "photos"))


def _prepare(kind: str, source: Path, out: Path) -> Any:
    from facefocus.faces.sources import prepare_faces

    assert not out.exists()  # the second time it is there
    return prepare_faces(kind, source, out, align="none")


def test_modules_become_recognizers(faces: FaceSet) -> None:
    reading = tiny_recognizer().preprocessing
    model = ff.load_recognizer(TinyNet(), reading, name="net")
    assert model.name == "net" and model.embed(np.asarray(faces.frames[:2])).shape[0] == 2
    with pytest.raises(UserError, match="A torch module needs its 'preprocessing'"):
        ff.load_recognizer(TinyNet())


@pytest.fixture
def norms() -> Iterator[None]:
    """The example's stage, registered for one test."""
    spec = importlib.util.spec_from_file_location("my_stage", EXAMPLES / "my_stage.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_stage", module)
        spec.loader.exec_module(module)
        yield
    del STAGES._entries["norms"]


def test_a_stage_is_one_file_and_one_registration(
    faces: FaceSet, monkeypatch: pytest.MonkeyPatch, norms: None
) -> None:
    model = tiny_recognizer("a", 0)
    monkeypatch.setattr(session_module, "load", lambda *_: model)
    experiment = parse_experiment(
        {
            "name": "norms",
            "faces": {"identities": 2},
            "recognizers": {"source": "a"},
            "saliency": {"method": "random", "draws": 1},
            "occlusion": {"budget": 0.1},
        }
    )
    ff.run(experiment, "run", faces=faces.folder, backend="torch")
    table = pl.read_csv("run/norms.csv").sort("image")
    rows = np.isin(faces.names, table["image"].to_numpy())
    expected = np.linalg.norm(model.embed(np.asarray(faces.frames[rows])), axis=1)
    order = np.argsort(faces.names[rows])
    np.testing.assert_allclose(table["norm"], expected[order], rtol=1e-5)
    (status,) = [stage for stage in _status() if stage.stage == "norms"]
    assert (status.done, status.total) == (1, 1)


def _status() -> Any:
    from facefocus.benchmark.run import run_status

    return run_status(Path("run"))
