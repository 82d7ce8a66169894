from __future__ import annotations

import json
import linecache
import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.core.registry import Registry
from facefocus.models import zoo
from facefocus.models.preprocessing import from_mapping
from facefocus.models.recognizer import TorchRecognizer, is_white_box, white_box
from facefocus.models.user_code import OwnCode, own_code
from tests.models import nets

READING = {"size": [16, 12], "mean": 127.5, "std": 128}


def frames(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 16, 12, 3), dtype=np.uint8)


def reference() -> TorchRecognizer:
    return TorchRecognizer("r", nets.inplace(), from_mapping(READING), identity="r")


def export(path: Path, *, dynamic: bool = True) -> Path:
    batch = torch.export.Dim("batch", min=2, max=1024)
    program = torch.export.export(
        nets.inplace().eval(),
        (torch.randn(4, *nets.SHAPE),),
        dynamic_shapes=({0: batch},) if dynamic else None,
    )
    torch.export.save(program, path)
    return path


def test_an_exported_program_is_a_white_box(tmp_path: Path) -> None:
    path = export(tmp_path / "mine.pt2")
    recognizer = zoo.load(str(path), READING)
    assert recognizer.name == "mine"
    box = white_box(recognizer, "a test")
    np.testing.assert_allclose(
        box.embed(frames()), reference().embed(frames()), rtol=1e-5, atol=1e-6
    )
    assert [call.name for call in box.layers().calls] == ["0", "2", "5"]
    ours, theirs = (net.capture(frames(), [1, 2, 3]) for net in (box, reference()))
    directions = torch.ones(5, 7)
    for index, gradient in theirs.gradients(directions).items():
        torch.testing.assert_close(ours.gradients(directions)[index], gradient)
        torch.testing.assert_close(ours.activations[index], theirs.activations[index])
    assert recognizer.fingerprint == zoo.load(str(path), READING).fingerprint
    assert recognizer.fingerprint != zoo.load(str(path), READING | {"std": 1}).fingerprint


def test_programs_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs its preprocessing: size, mean and std"):
        zoo.load(str(export(tmp_path / "mine.pt2")))
    static = export(tmp_path / "static.pt2", dynamic=False)
    with pytest.raises(UserError, match=r"does not run on 2 images .* dynamic batch"):
        zoo.load(str(static), READING)
    with pytest.raises(UserError, match=r"does not run on 2 images of 3x20x20"):
        zoo.load(str(tmp_path / "mine.pt2"), READING | {"size": [20, 20]})


@pytest.mark.parametrize("content", [b"", b"text", bytes(3000), None])
def test_files_that_are_no_programs(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.pt2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad.pt2' (cannot be read|does not exist)") as caught:
        zoo.load(str(path), READING)
    assert "\n" not in str(caught.value)


FACTORY = """
from tests.models import nets
from facefocus.models.preprocessing import from_mapping

def build():
    return nets.inplace()

def reading():
    return nets.inplace()
reading.preprocessing = from_mapping({"size": [16, 12], "mean": 127.5, "std": 128})

def owned():
    module = nets.inplace()
    module.preprocessing = from_mapping({"size": [16, 12], "mean": 127.5, "std": 128})
    return module

def function():
    return nets.functional()

def script():
    return nets.scripted(nets.inplace())

def nothing():
    return 3

class Whole:
    name = "whole"
    fingerprint = "0"
    def embed(self, frames):
        return frames.mean((1, 2)).astype("float32")
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize(
    ("name", "reading"), [("build", READING), ("reading", None), ("owned", None)]
)
def test_a_function_that_makes_a_network(
    factory: Path, name: str, reading: dict[str, object] | None
) -> None:
    recognizer = zoo.load(f"{factory}:{name}", reading)
    assert recognizer.name == f"mine.{name}"
    assert is_white_box(recognizer)
    assert isinstance(recognizer.module, nn.Module)
    assert not recognizer.module.training
    assert np.array_equal(recognizer.embed(frames()), reference().embed(frames()))


def test_functional_code_and_whole_recognizers(factory: Path) -> None:
    recognizer = zoo.load(f"{factory}:function", READING)
    assert recognizer.embed(frames()).shape == (5, 5)
    assert len(white_box(recognizer, "a test").layers().calls) == 2
    whole = zoo.load(f"{factory}:Whole")
    np.testing.assert_allclose(whole.embed(frames()), frames().mean((1, 2)), rtol=1e-6)
    with pytest.raises(UserError, match="'whole' is a black box"):
        white_box(whole, "a test")


def test_the_code_is_part_of_the_fingerprint(factory: Path) -> None:
    first = zoo.load(f"{factory}:reading").fingerprint
    assert zoo.load(f"{factory}:reading").fingerprint == first
    assert zoo.load(f"{factory}:owned").fingerprint != first
    factory.write_text(FACTORY + "\n# changed\n")
    assert zoo.load(f"{factory}:reading").fingerprint != first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", "needs its preprocessing"),
        ("bild", r"no function called 'bild'. Did you mean 'build'"),
        ("nothing", "must return a network. Got int"),
        ("script", "TorchScript, which hides"),
    ],
)
def test_wrong_functions_are_named(factory: Path, name: str, message: str) -> None:
    reading = READING if name == "script" else None
    with pytest.raises(UserError, match=message):
        zoo.load(f"{factory}:{name}", reading)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.py. does not exist"):
        zoo.load(f"{tmp_path}/absent.py:build")
    (tmp_path / "broken.py").write_text("def build(:\n")
    with pytest.raises(UserError, match=r"broken.py' line 1: SyntaxError"):
        zoo.load(f"{tmp_path}/broken.py:build")
    with pytest.raises(UserError, match=r"The weights 'some/weights.safetensors' do not exist"):
        zoo.load("some/weights.safetensors")
    with pytest.raises(UserError, match="preprocessing of 'IR50' is its own"):
        zoo.load("IR50", READING)


NEIGHBOURLY = """
import net
def build():
    return net.make()
build.preprocessing = {"size": [16, 12], "mean": 127.5, "std": 128}

def late():
    def network(x):
        import helper
        return helper.network(x)
    return network
late.preprocessing = build.preprocessing
"""

NET = """
import torch
from torch import nn
def make():
    torch.manual_seed({seed})
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(560, 6))
"""

HELPER = """
def network(x):
    return x.mean((2, 3)) * {factor}
"""


def neighbours(folder: Path, seed: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rec.py").write_text(NEIGHBOURLY)
    (folder / "net.py").write_text(NET.format(seed=seed))
    (folder / "helper.py").write_text(HELPER.format(factor=seed + 1))
    return folder / "rec.py"


def test_files_of_two_folders_have_neighbours_of_one_name(tmp_path: Path) -> None:
    path, modules = list(sys.path), set(sys.modules)
    first_file, second_file = (neighbours(tmp_path / f"folder{seed}", seed) for seed in (1, 2))
    first, second = (
        zoo.load(f"{file}:build").embed(frames()) for file in (first_file, second_file)
    )
    assert not np.allclose(first, second)
    assert np.array_equal(zoo.load(f"{first_file}:build").embed(frames()), first)
    # One that imports at each pass sees its own neighbour, also after the other was loaded.
    late = [zoo.load(f"{file}:late") for file in (first_file, second_file)]
    for recognizer, factor in zip(late, (2, 3), strict=True):
        expected = (frames().mean((1, 2)) - 127.5) / 128 * factor
        np.testing.assert_allclose(recognizer.embed(frames()), expected, rtol=1e-4, atol=1e-5)
    assert sys.path == path
    assert not {"net", "helper", "rec"} & (sys.modules.keys() - modules)


def test_modules_of_the_program_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "net.py").write_text("here = True")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    import net  # type: ignore[import-not-found]

    monkeypatch.setitem(sys.modules, "net", net)
    zoo.load(f"{neighbours(tmp_path / 'mine', 1)}:build")
    assert sys.modules["net"] is net and net.here


def test_the_file_itself_counts_wherever_it_is(tmp_path: Path) -> None:
    # As in a package that is installed, whose other files are not the user's.
    (tmp_path / "site-packages").mkdir()
    name = f"{neighbours(tmp_path / 'site-packages', 1)}:build"
    first = zoo.load(name).fingerprint
    file = tmp_path / "site-packages" / "rec.py"
    file.write_text(file.read_text() + "# another\n")
    assert zoo.load(name).fingerprint != first


def test_what_one_function_imports_is_no_part_of_another(tmp_path: Path) -> None:
    early, later = (neighbours(tmp_path / name, 1) for name in ("early", "later"))
    first = zoo.load(f"{early}:build").fingerprint
    zoo.load(f"{later}:late")
    assert zoo.load(f"{later}:build").fingerprint == first


@pytest.mark.parametrize("changed", ["net.py", "helper.py"])
def test_a_changed_neighbour_changes_the_fingerprint(tmp_path: Path, changed: str) -> None:
    file = neighbours(tmp_path / "mine", 1)
    name = f"{file}:{'build' if changed == 'net.py' else 'late'}"
    first = zoo.load(name).fingerprint
    assert zoo.load(name).fingerprint == first
    neighbour = file.with_name(changed)
    neighbour.write_text(neighbour.read_text() + "# another\n")
    assert zoo.load(name).fingerprint != first


READS = """
import json
from pathlib import Path
import torch
from torch import nn
import tests.models.nets
SEEN = Path(__file__).parent / "seen.txt"

def build():
    weights = torch.load(Path(__file__).parents[1] / "weights" / "mine.pth", weights_only=True)
    factor = json.loads((Path(__file__).parents[1] / "settings.json").read_text())
    with SEEN.open("a") as file:
        file.write("built")
    weight = weights["weight"]
    return lambda x: nn.functional.conv2d(x, weight).flatten(1) + 0 * factor
build.preprocessing = {"size": [16, 12], "mean": 127.5, "std": 128}
"""


def test_every_file_that_is_read_counts_and_none_that_is_written(tmp_path: Path) -> None:
    def write(folder: str, factor: int = 1, scale: float = 1.0) -> str:
        root = tmp_path / folder
        for name in ("code", "weights"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "code" / "rec.py").write_text(READS)
        (root / "settings.json").write_text(json.dumps(factor))
        torch.manual_seed(0)
        torch.save({"weight": scale * torch.randn(5, 3, 16, 12)}, root / "weights" / "mine.pth")
        return f"{root}/code/rec.py:build"

    first = zoo.load(write("one")).fingerprint
    assert zoo.load(write("one")).fingerprint == first
    assert zoo.load(write("elsewhere")).fingerprint == first
    # The embeddings' directions stay the same, so that no probe sees it.
    assert zoo.load(write("one", scale=2.0)).fingerprint != first
    assert zoo.load(write("one", factor=2)).fingerprint != first


def test_code_of_the_user_counts_wherever_it_was_imported_first(tmp_path: Path) -> None:
    code = OwnCode(
        write_file(tmp_path / "rec.py", "def build():\n    from tests.models import nets")
    )
    with code.active():
        pass
    assert {Path(file).name for file in code.files} >= {"rec.py", "nets.py"}
    with code.active():
        linecache.clearcache()
        linecache.getlines(str(Path(__file__)))
    assert not any(file == str(Path(__file__)) for file in code.files)


def write_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


WRONG = """
import torch
from torch import nn

def build():
    return helper()

def helper():
    raise ValueError("no weights\\nhere")

class Net(nn.Module):
    def forward(self, x):
        return self.head(x)
    def head(self, x):
        return torch.ones(3, 4) @ torch.ones(3, 4)

def network():
    return Net()
network.preprocessing = {"size": [16, 12], "mean": 127.5, "std": 128}
"""


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (WRONG, "build", r"rec\.py' line 9 in helper: ValueError: no weights here\."),
        (WRONG, "network", r"rec\.py' line 15 in head: RuntimeError: mat1 and mat2 shapes"),
        ("x = 1\nx.y", "build", r"rec\.py' line 2: AttributeError: 'int' object has no"),
        ("import nowhere", "build", r"rec\.py' line 1: ModuleNotFoundError: No module named 'now"),
        ("def build(:", "build", r"rec\.py' line 1: SyntaxError: invalid syntax\."),
    ],
)
def test_what_the_users_code_raises_is_one_line_that_says_where(
    tmp_path: Path, text: str, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        zoo.load(f"{write_file(tmp_path / 'rec.py', text)}:{name}")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("--traceback shows all.")


@pytest.mark.parametrize("change", [{}, {"channels": "bgr", "crop": [0, 8, 112, 96]}])
def test_a_preprocessing_may_be_a_dict(
    tmp_path: Path, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    values = {"size": [16, 12], "mean": 127.5, "std": 128, **change}
    text = "from tests.models import nets\ndef build(): return nets.inplace()\n"
    text += f"build.preprocessing = {values}"
    file = write_file(tmp_path / "rec.py", text)
    recognizer = zoo.load(f"{file}:build")
    assert isinstance(recognizer, TorchRecognizer)
    assert recognizer.preprocessing == from_mapping(values)
    zoo.load(f"{file}:build")
    assumed = [line for line in caplog.messages if line.startswith("Assumed")]
    assert len(assumed) == (not change)
    if assumed:
        assert assumed[0].endswith("does not say it: crop: the whole frame, channels: rgb.")
    write_file(file, text.replace("'mean'", "'maen'"))
    with pytest.raises(UserError, match=r"'maen' of the 'preprocessing' of .* Did you mean 'mean'"):
        zoo.load(f"{file}:build")


WHOLE = """
import numpy as np
class Whole:
    name = "whole"
    fingerprint = "always the same"
    factor = {factor}
    def embed(self, frames):
        found = np.sin(self.factor * frames.reshape(len(frames), -1)[:, :9].astype(np.float32))
        return {result}
"""


def test_a_whole_recognizer_is_probed_and_checked(tmp_path: Path) -> None:
    file = write_file(tmp_path / "rec.py", WHOLE.format(factor=1, result="found"))
    first = zoo.load(f"{file}:Whole")
    assert first.fingerprint == zoo.load(f"{file}:Whole").fingerprint != "always the same"
    write_file(file, WHOLE.format(factor=2, result="found"))
    assert zoo.load(f"{file}:Whole").fingerprint != first.fingerprint
    for result, message in {
        "found[:2]": r"must return float32 \[n, d\] for n = 5 frames\. Got \[2, 9\]",
        "list(found)": r"must return .* Got list",
        "found / 0": "not finite for 5 of 5 frames",
    }.items():
        write_file(file, WHOLE.format(factor=1, result=result))
        with np.errstate(all="ignore"), pytest.raises(UserError, match=message):
            zoo.load(f"{file}:Whole").embed(frames())


def test_a_plugin_is_told_from_another_of_its_name_by_the_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Constant(Plugin):
        def embed(self, frames: np.ndarray) -> np.ndarray:
            return -super().embed(frames)

    fingerprints = []
    for made in (Plugin(), Constant()):
        registry: Registry[object] = Registry("recognizer")
        registry.add("mine", made)
        monkeypatch.setattr(zoo, "PLUGINS", registry)
        fingerprints.append(zoo.load("mine").fingerprint)
    assert fingerprints[0] != fingerprints[1]


class Plugin:
    name = "plugged"
    fingerprint = "1"

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return np.ones((len(frames), 2), np.float32)


@pytest.mark.parametrize("value", ["Plugin", "PLUGGED"])
def test_other_packages_bring_recognizers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("plugged", f"{__name__}:{value}", "facefocus.recognizers")
    monkeypatch.setattr(
        "facefocus.core.registry.entry_points",
        lambda group: [entry] if group == "facefocus.recognizers" else [],
    )
    monkeypatch.setattr(zoo, "PLUGINS", Registry("recognizer"))
    assert zoo.load("plugged").embed(frames(2)).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(UserError, match="Did you mean 'plugged'"):
        zoo.load("pluged")
    # `models show` and `fetch` take neither plug-ins nor files, so they offer none.
    with pytest.raises(UserError) as caught:
        zoo.describe("pluged")
    assert "plugged" not in str(caught.value) and "FILE" not in str(caught.value)


PLUGGED = Plugin()


def test_a_network_on_which_nothing_is_spatial_still_embeds(tmp_path: Path) -> None:
    weight = torch.ones(2, 3, 16, 12) / 576

    def network(x: Tensor) -> Tensor:
        return F.conv2d(x, weight).flatten(1)

    recognizer = TorchRecognizer("flat", network, from_mapping(READING), identity="flat")
    expected = (frames().mean((1, 2, 3)) - 127.5) / 128
    np.testing.assert_allclose(recognizer.embed(frames())[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert recognizer.layers().spatial == ()
    with pytest.raises(UserError, match="1 convolutions, 0 of them spatial"):
        recognizer.layers().resolve("N")


def test_a_file_and_its_neighbor_edited_within_a_second_are_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytecode is told by time in seconds and size: files of one length would be run as before."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "near.py").write_text("B = 1\n")
    file = tmp_path / "mine.py"
    for number in (1, 2):
        file.write_text(f"from near import B\nA = {number}\n")
        (tmp_path / "near.py").write_text(f"B = {number}\n")
        for path in tmp_path.glob("*.py"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        namespace = own_code(file, "A").namespace
        assert (number, number) == (namespace.A, namespace.B)
    assert not list(tmp_path.rglob("*.pyc"))
