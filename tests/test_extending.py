"""The examples of docs/extending.md, run as their readers run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facefocus.cli.model_commands import layer_lines
from facefocus.models.zoo import load
from facefocus.testing import check_recognizer
from tests.small import PHOTOS, paint_faceset

EXAMPLES = Path(__file__).parents[1] / "examples"

EXPERIMENT = """
name = "extended"
[faces]
identities = 3
[recognizers]
source = "my_recognizer.py:build"
target = ["my_recognizer.py:build", "thumbnail"]
[[saliency]]
method = "product-cam"
[occlusion]
budget = 0.1
fill = ["black", "shuffle"]
"""


#: Several commands in one process; a line with the exit code after each.
COMMANDS = """
import sys
from facefocus.cli import main
for arguments in {commands!r}:
    sys.argv = ["facefocus", *arguments.split()]
    try:
        main()
    except SystemExit as ended:
        print(f"exit {{ended.code}}")
"""


def installed(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python with the example package installed, as pip would leave it."""
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    shutil.copy(EXAMPLES / "my_recognizer.py", folder)
    shutil.copytree(EXAMPLES / "my_package", folder / "site")
    project = tomllib.loads((folder / "site" / "pyproject.toml").read_text())["project"]
    info = folder / "site" / f"my_facefocus-{project['version']}.dist-info"
    info.mkdir()
    named = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + named)
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def test_a_package_brings_a_method_a_fill_and_a_recognizer(folder: Path) -> None:
    paint_faceset(folder / "painted")
    (folder / "extended.toml").write_text(EXPERIMENT)
    commands = [
        "list methods",
        "list fills",
        "models check --method product-cam",
        "models check --fill shuffle",
        "models check thumbnail",
        "run extended.toml --faces painted --out run",
    ]
    done = installed(folder, COMMANDS.format(commands=commands))
    assert done.stdout.count("exit 0\n") == len(commands), done.stdout + done.stderr
    methods, fills, *checks, _ = done.stdout.split("exit 0\n")[: len(commands)]
    assert "product-cam (gradient)" in methods.splitlines()
    assert "shuffle" in fills.split()
    assert [text.split("\n")[-2] for text in checks] == [
        "7 checks, 0 failed",
        "4 checks, 0 failed",
        "12 checks, 0 failed",
    ]
    table = pl.read_parquet(folder / "run" / "results.parquet")
    assert len(table) == 3 * 2 * 2 and len(PHOTOS) > 3
    for column, values in {
        "method": {"product-cam"},
        "fill": {"black", "shuffle"},
        "target": {"my_recognizer.py:build", "thumbnail"},
    }.items():
        assert set(table[column]) == values


def test_a_name_is_taken_by_an_entry_point_or_a_decorator_not_both(folder: Path) -> None:
    code = """
from facefocus.saliency.cam import gradient_method
from facefocus.saliency.methods import METHODS

def cam(activation, gradient, options):
    return activation[:, 0]

gradient_method("product-cam", version=1, scale_invariant=True)(cam)
print(METHODS["product-cam"].function.__name__, len(METHODS))
gradient_method("product-cam", version=1, scale_invariant=True)(print)
"""
    done = installed(folder, code)
    assert done.stdout.startswith("cam ")
    assert done.stderr.strip().endswith(
        "The method 'product-cam' is registered already. Choose another name."
    )


FAILING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.passes = 0

    def forward(self, x):
        self.passes += len(x) > 4
        if self.passes > 1:
            raise KeyError("no such face")
        return self.conv(x).mean((2, 3))

def build():
    torch.manual_seed(0)
    return Net()
build.preprocessing = {"size": [32, 32], "mean": 127.5, "std": 128}
"""

FAILING_RUN = """
name = "failing"
[faces]
identities = 3
[recognizers]
source = "failing.py:build"
[[saliency]]
method = "grad-cam"
[occlusion]
budget = 0.1
"""


def test_an_exception_in_a_users_pass_is_one_line_and_traceback_shows_all(folder: Path) -> None:
    paint_faceset(folder / "faces" / "lfw")
    (folder / "failing.py").write_text(FAILING)
    (folder / "failing.toml").write_text(FAILING_RUN)
    verify = "verify --faces faces/lfw --model failing.py:build --backend torch"
    line = "'failing.py' line 14 in forward: KeyError: 'no such face'. --traceback shows all."
    run = "run failing.toml --backend torch --cluster local:1 --out failed"
    commands = [verify, f"{verify} --traceback", run]
    done = installed(folder, COMMANDS.format(commands=commands))
    assert done.stdout.count("exit 2\n") == len(commands), done.stdout
    errors, _, shown = done.stderr.partition("Traceback")
    assert line in errors.splitlines()
    assert shown.count("Traceback") == 1 and 'raise KeyError("no such face")' in shown
    assert done.stderr.splitlines()[-1] == line


def test_the_example_recognizer_conforms() -> None:
    name = f"{EXAMPLES}/my_recognizer.py:build"
    results = check_recognizer(load(name), again=lambda: load(name))
    assert [result for result in results if not result.passed] == []
    assert [line.split()[1] for line in layer_lines(name)][:3] == [
        "convolutions.0",
        "convolutions.2",
        "convolutions.4",
    ]


def test_an_exported_program_with_a_preprocessing_file(tmp_path: Path) -> None:
    original = load(f"{EXAMPLES}/my_recognizer.py:build")
    module = getattr(original, "module")  # noqa: B009 - mypy sees a plain Recognizer
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        module.eval(), (torch.zeros(4, 3, 112, 112),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, tmp_path / "mine.pt2")
    shutil.copy(EXAMPLES / "mine.toml", tmp_path)
    lines = list(layer_lines(str(tmp_path / "mine.pt2")))
    assert [line.split()[0] for line in lines] == ["1", "2", "3", *["group"] * 4]
    assert lines[-3] == "group middle   none: too few convolutions"
    exported = load(str(tmp_path / "mine.pt2"))
    frames = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    np.testing.assert_allclose(exported.embed(frames), original.embed(frames), rtol=1e-4, atol=1e-5)
    results = check_recognizer(exported)
    assert [result for result in results if not result.passed] == []


def test_a_function_that_loads_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    weight = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32) / 20
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["map"], strides=[8, 8]),
            helper.make_node("Relu", ["map"], ["positive"]),
            helper.make_node("GlobalMaxPool", ["positive"], ["most"]),
            helper.make_node("Flatten", ["most"], ["embedding"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(weight, "weight")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "mine.onnx")
    shutil.copy(EXAMPLES / "my_file.py", tmp_path)
    recognizer = load(f"{tmp_path}/my_file.py:build")
    assert recognizer.name == "mine"
    shutil.copy(EXAMPLES / "mine.toml", tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    same = load(str(tmp_path / "mine.onnx"))
    assert np.array_equal(recognizer.embed(frames), same.embed(frames))
    results = check_recognizer(recognizer)
    assert [result for result in results if not result.passed] == []
    details = {result.name: result.detail for result in results}
    assert details["capture"].startswith("layers 1")
