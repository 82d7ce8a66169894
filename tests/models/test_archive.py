"""Archives that would run code: each creates a file when torch itself reads it."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._export.serde.schema import ScalarType

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.archive import load_archive

READING = {"size": [4, 4], "mean": 127.5, "std": 128}
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"


class Net(nn.Module):
    """A size that follows from the batch, and a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.shift: torch.Tensor
        self.register_buffer("shift", torch.tensor([1.0, 2.0]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).reshape(x.shape[0] * 2, 4).view(x.shape[0], 8)
        with torch.no_grad():
            total = (self.shift * torch.tensor([3.0, 4.0])).sum()
        out: torch.Tensor = y.abs() + total
        return out


@pytest.fixture(scope="module")
def program() -> dict[str, bytes]:
    """The entries of a program, by their names below the archive's folder."""
    torch.manual_seed(1)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        Net().eval(), (torch.randn(4, 3, 4, 4),), dynamic_shapes=({0: batch},)
    )
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(entries: dict[str, bytes], path: Path, folder: str = "p/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"{folder}{name}", data)
    return path


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edited(entries: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    content = json.loads(entries[name])
    change(content)
    entries[name] = json.dumps(content).encode()


def replaced(entries: dict[str, bytes], before: str, after: str) -> None:
    """Another text in the graph, wherever it stands as a whole."""
    text = entries[GRAPH].decode()
    assert json.dumps(before) in text
    entries[GRAPH] = text.replace(json.dumps(before), json.dumps(after)).encode()


def code(mark: Path) -> str:
    return f"__import__('os').system('touch {mark}')"


def marked_pickle(entries: dict[str, bytes], mark: Path) -> None:
    edited(entries, WEIGHTS, lambda index: index["config"]["conv.bias"].update(use_pickle=True))
    entries["data/weights/weight_1"] = saved(Hostile(mark))


def object_constant(entries: dict[str, bytes], mark: Path) -> None:
    def add(index: Any) -> None:
        payload = next(iter(json.loads(entries[WEIGHTS])["config"].values()))
        payload["tensor_meta"] |= {"dtype": int(ScalarType.BYTE), "requires_grad": False}
        index["config"]["x"] = payload | {"path_name": "opaque_obj_0"}

    edited(entries, CONSTANTS, add)
    entries["data/constants/opaque_obj_0"] = pickle.dumps(Hostile(mark))


def example_inputs(entries: dict[str, bytes], mark: Path) -> None:
    entries["data/sample_inputs/model.pt"] = saved(Hostile(mark))


def old_weights(entries: dict[str, bytes], mark: Path) -> None:
    entries["data/weights/model.pt"] = saved({"conv.bias": Hostile(mark)})


def size(entries: dict[str, bytes], mark: Path) -> None:
    text = entries[GRAPH].decode()
    start = text.index('"expr_str": "') + len('"expr_str": "')
    entries[GRAPH] = (text[:start] + code(mark) + text[text.index('"', start) :]).encode()


def input_name(entries: dict[str, bytes], mark: Path) -> None:
    replaced(entries, "x", f"x={code(mark)}")


def guard(entries: dict[str, bytes], mark: Path) -> None:
    edited(entries, GRAPH, lambda model: model["guards_code"].append(f"{code(mark)} == 0"))


def tree(entries: dict[str, bytes], mark: Path) -> None:
    (mark.parent / "hostile.py").write_text(f"import os; os.system('touch {mark}')\n")
    spec = {
        "type": "collections.defaultdict",
        "context": {
            "default_factory_module": "hostile",
            "default_factory_name": "x",
            "dict_context": [],
        },
        "children_spec": [],
    }
    leaf = json.dumps([1, {"type": None, "context": None, "children_spec": []}])
    replaced(entries, leaf, json.dumps([1, spec]))


ATTACKS = {
    "its index marks 'conv.bias' as a pickle": marked_pickle,
    "'x' in its index is no tensor but 'opaque_obj_0'": object_constant,
    r"sample_inputs/model.pt' in it would run code when it is read \('posix.system'\)": (
        example_inputs
    ),
    r"weights/model.pt' in it would run code when it is read \('posix.system'\)": old_weights,
    "its graph has the expr_str '__import__": size,
    "its graph has the name 'x=__import__": input_name,
    "its inputs or outputs are of the type 'collections.defaultdict'": tree,
}


@pytest.mark.parametrize("reason", ATTACKS)
def test_an_archive_that_would_run_code_is_refused(
    program: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    entries, mark = dict(program), tmp_path / "ran"
    ATTACKS[reason](entries, mark)
    path = write(entries, tmp_path / "evil.pt2")
    with pytest.raises(UserError, match=f"evil.pt2' was refused, and nothing in it.*{reason}") as e:
        zoo.load(str(path), READING)
    assert "\n" not in str(e.value)
    assert not mark.exists()
    assert_real(path, mark)


def assert_real(path: Path, mark: Path) -> None:
    """Torch itself runs the code: the test is of an attack."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(path).module()(torch.zeros(2, 3, 4, 4))
    assert mark.exists()


def test_guards_are_left_out(program: dict[str, bytes], tmp_path: Path) -> None:
    """They are Python by design; the sizes of frames are checked when a program is loaded."""
    entries, mark = dict(program), tmp_path / "ran"
    guard(entries, mark)
    path = write(entries, tmp_path / "evil.pt2")
    zoo.load(str(path), READING)
    assert not mark.exists()
    assert_real(path, mark)


def test_what_is_copied_computes_the_same(program: dict[str, bytes], tmp_path: Path) -> None:
    path = write(program, tmp_path / "p.pt2")
    images = torch.randn(5, 3, 4, 4)
    ours = load_archive(path)(images)
    assert torch.equal(ours, torch.export.load(path).module()(images))


def test_archives_of_older_versions_of_torch(program: dict[str, bytes], tmp_path: Path) -> None:
    """Torch before 2.8: the graph and three pickles without a folder."""
    with zipfile.ZipFile(write(program, tmp_path / "p.pt2")) as archive:
        graph = archive.read(f"p/{GRAPH}")
    exported = torch.export.load(tmp_path / "p.pt2")
    entries = {
        "version": b"8.9",
        "serialized_exported_program.json": graph,
        "serialized_state_dict.pt": saved(dict(exported.state_dict)),
        "serialized_constants.pt": saved(dict(exported.constants)),
        "serialized_example_inputs.pt": saved(((torch.zeros(4, 3, 4, 4),), {})),
    }
    old = write(entries, tmp_path / "old.pt2", folder="")
    images = torch.randn(5, 3, 4, 4)
    expected = exported.module()(images)
    assert torch.equal(load_archive(old)(images), expected)
    entries["serialized_constants.pt"] = saved({"x": Hostile(tmp_path / "ran")})
    with pytest.raises(UserError, match=r"constants.pt' in it would run code"):
        load_archive(write(entries, tmp_path / "evil.pt2", folder=""))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (GRAPH, b"{}", "its model.json is not the graph of torch.export"),
        (GRAPH, b'[{"class_name": "Sequential"}]', "its model.json is not the graph"),
        (GRAPH, b"[" * 100_000, "its graph cannot be read"),
        (GRAPH, b"\xff\xfe", "its graph cannot be read"),
        (WEIGHTS, b"[]", "its index of tensors is not one of torch.export"),
        ("data/aotinductor/model/x.so", b"", "it holds compiled code, 'data/aotinductor/model"),
        ("models/other.json", b"{}", "'models/other.json' in it is neither tensors nor the graph"),
        ("../../home/.profile", b"", "in it is neither tensors nor the graph"),
        ("code/__torch__.py", b"", "it is TorchScript"),
    ],
)
def test_other_archives_are_named(
    program: dict[str, bytes], tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    path = write(program | {name: data}, tmp_path / "other.pt2")
    with pytest.raises(UserError, match=reason):
        zoo.load(str(path), READING)


def test_links_and_compressed_entries_are_refused(
    program: dict[str, bytes], tmp_path: Path
) -> None:
    path = write(program, tmp_path / "p.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("p/data/weights/weight_9")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="it holds a link, 'p/data/weights/weight_9'"):
        load_archive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/data/weights/weight_0", bytes(10_000))
    with pytest.raises(UserError, match="is compressed"):
        load_archive(path)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save",
        "_operator.attrgetter",
        "torch.os.system",
        "torchx.y",
    ],
)
def test_operations_beyond_tensors_are_refused(
    program: dict[str, bytes], tmp_path: Path, target: str
) -> None:
    entries = dict(program)
    replaced(entries, "torch.ops.aten.abs.default", target)
    with pytest.raises(UserError, match=f"the operation '{target}', which is not one of a network"):
        load_archive(write(entries, tmp_path / "evil.pt2"))
