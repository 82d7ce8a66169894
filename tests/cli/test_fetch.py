"""``facefocus fetch`` on a bare machine, from a server here that has stand-ins for all files."""

from __future__ import annotations

import hashlib
import io
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facefocus.core.errors import UserError
from facefocus.faces import detect
from facefocus.faces import downloads as faces
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.models import fetch as fetching
from facefocus.models import zoo
from tests.conftest import Command
from tests.faces.pictures import archive, encoded
from tests.server import Site, serving

PEOPLE = 6
ROOT = Path(__file__).parents[2]
#: A network of the same family as each recognizer's, so small that a run takes seconds.
SMALL = {
    "options": {"width": 8, "embedding": 8, "repeats": [1, 1, 1], "aligned": True},
    "preprocessing": {"size": [64, 64], "mean": 127.5, "std": 128},
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def weights(entry: zoo.Entry) -> bytes:
    torch.manual_seed(3)
    buffer = io.BytesIO()
    torch.save(entry.build().state_dict(), buffer)
    return buffer.getvalue()


def onnx_file() -> bytes:
    """Embeddings [n, 8] of images [n, 3, 112, 112]: a strided convolution, averaged."""
    kernel = np.random.default_rng(1).normal(size=(8, 3, 16, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[16, 16]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


def lfw() -> tuple[dict[str, bytes], bytes]:
    """Painted photographs of a few people, 250 x 250 as LFW's, and a list of pairs."""
    files, mated, others = {}, [], []
    for person in range(PEOPLE):
        pattern = np.random.default_rng(person).integers(40, 215, (10, 10, 3))
        for photo in range(1, 5):
            noise = np.random.default_rng(99 * person + photo).integers(-30, 31, (250, 250, 3))
            picture = (np.kron(pattern, np.ones((25, 25, 1), int)) + noise).clip(0, 255)
            name = f"Person_{chr(65 + person)}"
            data = encoded(picture.astype(np.uint8), "JPEG")
            files[f"lfw/{name}/{name}_{photo:04d}.jpg"] = data
        mated += [f"{name} {a} {b}" for a in range(1, 5) for b in range(a + 1, 5)]
        others += [f"{name} {a} Person_{chr(65 + (person + 1) % PEOPLE)} {a}" for a in range(1, 5)]
        others += [f"{name} {a} Person_{chr(65 + (person + 2) % PEOPLE)} 1" for a in (1, 2)]
    return files, "\n".join([f"1 {len(mated)}", *mated, *others, ""]).encode()


@dataclass
class Machine:
    """A machine with nothing on it, and a server that has everything."""

    home: Path
    site: Site
    cache: Path = field(init=False)

    def __post_init__(self) -> None:
        self.cache = self.home / "cache/facefocus"


@pytest.fixture
def machine(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SCIKIT_LEARN_DATA", raising=False)
    photos, pairs = lfw()
    packed = archive(tmp_path_factory.mktemp("lfw") / "lfw.tgz", photos).read_bytes()
    known = dict(zoo.packaged())
    small = known["facenet-vggface2"].model_copy(update=SMALL)
    published = {
        faces.YUNET.name: b"stand-in of YuNet",
        "lfw.tgz": packed,
        "pairs.txt": pairs,
        "20180402-114759-vggface2.pt": weights(small),
        "mobilenetv1_0.25.onnx": onnx_file(),
    }
    with serving() as serve:
        site = serve(Site({f"/{name}": data for name, data in published.items()}))

        def at(name: str) -> dict[str, str]:
            return {"url": f"{site.url}/{name}", "sha256": sha256(published[name])}

        known["facenet-vggface2"] = small.model_copy(update=at("20180402-114759-vggface2.pt"))
        box = known["uniface-mobilenetv1-025"]
        known["uniface-mobilenetv1-025"] = box.model_copy(update=at("mobilenetv1_0.25.onnx"))
        monkeypatch.setattr(zoo, "packaged", lambda: known)
        for table, key in ((faces.LFW_ARCHIVES, "original"),):
            moved = at(table[key].name)
            monkeypatch.setitem(
                table, key, replace(table[key], urls=(moved["url"],), sha256=moved["sha256"])
            )
        for name in ("LFW_PAIRS", "YUNET"):
            file = getattr(faces, name)
            moved = at(file.name)
            file = replace(file, urls=(moved["url"],), sha256=moved["sha256"])
            monkeypatch.setattr(fetching, name, file)
        monkeypatch.setattr(detect, "DETECTOR_SHA256", sha256(published[faces.YUNET.name]))
        monkeypatch.setattr(detect, "FaceDetector", PaintedFaces)
        yield Machine(tmp_path, site)


class PaintedFaces(detect.FaceDetector):
    """Finds the one face of a painted photograph: its eyes, nose and mouth are where they must."""

    def __init__(self, model: bytes) -> None:
        assert model == b"stand-in of YuNet"

    def detect(self, image: np.ndarray, *_: object) -> list[detect.Face]:
        return [detect.Face(np.array([70.0, 70, 112, 112]), ARCFACE_TEMPLATE + 69.0, 0.98)]


@pytest.fixture
def bare(command: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("FACEFOCUS_DATA")
    (machine.home / "experiments").mkdir()
    for name, people in (("facenet", 20), ("black-box", 12)):
        text = (ROOT / f"experiments/{name}.toml").read_text(encoding="utf-8")
        assert f"identities = {people}\n" in text
        text = text.replace(f"identities = {people}", "identities = 5")
        text = text.replace("masks = 500", "masks = 16").replace('"1", "N/2", "N"', '"N"')
        (machine.home / f"experiments/{name}.toml").write_text(text)
    return command


def answers(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def manual_commands(*beginnings: str) -> list[str]:
    """The commands of the manual's first steps, block by block."""
    text = (ROOT / "docs/from-photographs.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    facefocus ")]
    start = next(i for i, line in enumerate(lines) if line.startswith(beginnings[0]))
    commands = lines[start : start + len(beginnings)]
    assert [line[: len(begin)] for line, begin in zip(commands, beginnings, strict=True)] == list(
        beginnings
    )
    return commands


WHITE = (
    "facefocus fetch yunet lfw FN_V",
    "facefocus prepare lfw",
    "facefocus verify",
    "facefocus run experiments/facenet.toml",
    "facefocus report",
)
BLACK = (
    "facefocus fetch uniface-mobilenetv1-025",
    "facefocus run experiments/black-box.toml",
)


def test_the_manuals_first_steps_work_on_a_bare_machine(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of both paths, and what a command says comes next; pictures stay empty."""
    monkeypatch.setattr("facefocus.report.figures.save", lambda figure, path: path.touch())
    needed = bare("prepare", "lfw")
    assert needed.code == 2 and "facefocus fetch lfw" in needed.err
    outputs = {}
    for line in (*manual_commands(*WHITE), *manual_commands(*BLACK)):
        answers(monkeypatch, "y\n")
        done = bare(*shlex.split(line)[1:])
        assert done.code == 0, (line, done)
        outputs[line] = done.out.splitlines()
    fetched, prepared, verified, ran, reported, boxed, black = outputs.values()
    assert fetched[0].startswith("yunet: YuNet 2023mar") and "MIT" in fetched[0]
    assert any(line.startswith("facenet-vggface2: FaceNet") for line in fetched)
    assert fetched[-1] == "Next: facefocus prepare lfw"
    assert prepared[:2] == ["faces faces/lfw", f"images {4 * PEOPLE} of {PEOPLE} people"]
    assert any(line.startswith(f"pairs {12 * PEOPLE} ") for line in prepared)
    assert any(line.startswith(f"pairs {12 * PEOPLE} ") for line in verified)
    assert "layer-cam" in "\n".join(ran) and "s-rise" in "\n".join(black)
    following = boxed[-1].removeprefix("Next: facefocus ")
    assert following == "verify --faces faces/lfw --model uniface-mobilenetv1-025"
    assert bare(*shlex.split(following)).code == 0
    page = machine.home / reported[-1].split()[-1]
    assert page.is_file(), reported


def test_the_manuals_experiment_is_the_file() -> None:
    text = (ROOT / "docs/from-photographs.md").read_text(encoding="utf-8")
    block = text.partition("An experiment is a TOML file:\n")[2].partition("`facefocus list")[0]
    written = (ROOT / "experiments/facenet.toml").read_text(encoding="utf-8")
    shown = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    assert tomllib.loads(shown) == {
        key: value for key, value in tomllib.loads(written).items() if key != "seed"
    }


def test_without_names_it_lists_what_there_is(bare: Command, machine: Machine) -> None:
    def states() -> dict[str, str]:
        lines = bare("fetch").out.splitlines()
        assert lines[-1].startswith("Next: facefocus fetch NAME")
        return {line.split()[0]: line.split()[1] for line in lines[:-1]}

    before = states()
    assert {"yunet", "lfw", "lfw-funneled", "facenet-vggface2", "adaface-ir18"} <= set(before)
    assert set(before.values()) == {"-"}
    assert "iresnet50-glint360k" not in before and "mobilefacenet-mini-all" not in before
    assert bare("fetch", "yunet").code == 0
    assert states() == before | {"yunet": "here"}


def test_the_detector_needs_no_consent_and_goes_where_prepare_looks(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "")
    with pytest.raises(UserError, match="Get it by: facefocus fetch yunet"):
        detect.detector_model()
    done = bare("fetch", "yunet")
    path = machine.cache / "models" / faces.YUNET.name
    assert done.out.splitlines() == [
        "yunet: YuNet 2023mar: MIT. Commercial use is allowed.",
        f"file {path} sha256 {sha256(b'stand-in of YuNet')} (as published)",
        "Next: facefocus fetch lfw",
    ]
    assert detect.detector_model() == b"stand-in of YuNet"
    assert bare("fetch", "yunet").out.startswith(f"'yunet' is here: {path}")
    assert len(machine.site.asked) == 1


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_terms_come_first_and_a_refusal_fetches_nothing(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    answers(monkeypatch, answer)
    done = bare("fetch", "lfw", "FN_V")
    assert done.code == 1
    assert "lfw: Labeled Faces in the Wild: photographs" in done.out
    assert (
        "facenet-vggface2: FaceNet" in done.out and "commercial use is allowed is not" in done.out
    )
    assert done.err.splitlines() == [
        "'lfw' was not fetched: its terms were not accepted.",
        "'facenet-vggface2' was not fetched: its terms were not accepted.",
    ]
    assert machine.site.asked == [] and not machine.cache.exists()


def test_one_failure_of_several_is_1_and_says_what_to_do_by_hand(
    bare: Command, machine: Machine
) -> None:
    del machine.site.files["/20180402-114759-vggface2.pt"]
    done = bare("fetch", "FN_V", "yunet", "IR50", "mobilefacenet-ms1m", "--yes")
    assert done.code == 1
    assert f"file {machine.cache / 'models' / faces.YUNET.name} sha256" in done.out
    broken, page, nowhere = done.err.splitlines()[-3:]
    assert broken.startswith("'facenet-vggface2' was not fetched: ")
    assert "404 Not Found" in broken
    assert broken.endswith("Or: facefocus models add facenet-vggface2 FILE")
    assert page.startswith(
        "'iresnet50-glint360k' has no direct link. Get backbone.pth from https://"
    )
    assert page.endswith("then run: facefocus models add iresnet50-glint360k FILE.")
    assert nowhere.startswith("'mobilefacenet-ms1m' has no direct link. No link to them is known")


def test_another_file_than_the_published_one_is_refused_with_both_hashes(
    bare: Command, machine: Machine
) -> None:
    machine.site.files["/20180402-114759-vggface2.pt"] = b"another file"
    done = bare("fetch", "FN_V", "--yes")
    assert done.code == 1
    pin = zoo.describe("FN_V").sha256
    assert f"its sha256 must be {pin}, got {sha256(b'another file')}" in done.err
    assert not list(machine.cache.rglob("*vggface2*"))


def test_without_a_pin_the_first_hash_is_kept_unless_the_file_does_not_fit(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(zoo.packaged())
    moved = {"sha256": None, "pinned_by": ""}
    known["facenet-vggface2"] = known["facenet-vggface2"].model_copy(update=moved)
    monkeypatch.setattr(zoo, "packaged", lambda: known)
    good = machine.site.files["/20180402-114759-vggface2.pt"]
    buffer = io.BytesIO()
    torch.save({"a.weight": torch.ones(2)}, buffer)
    machine.site.files["/20180402-114759-vggface2.pt"] = buffer.getvalue()
    assert "do not fit inception_resnet_v1" in bare("fetch", "FN_V", "--yes").err
    assert not [path for path in machine.cache.rglob("*") if path.is_file()]
    machine.site.files["/20180402-114759-vggface2.pt"] = good
    assert "the publisher states none: kept in" in bare("fetch", "FN_V", "--yes").out


def test_a_broken_download_goes_on(bare: Command, machine: Machine) -> None:
    machine.site.breaks = [1000, 0]
    assert "The part that arrived is kept" in bare("fetch", "FN_V", "--yes").err
    assert bare("fetch", "FN_V", "--yes").code == 0
    assert [asked for _, asked, _ in machine.site.asked] == [None, "bytes=1000-", "bytes=1000-"]
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    assert zoo.load("FN_V").embed(frames).shape == (1, 8)


def test_a_mirror_is_a_file_or_a_folder(bare: Command, machine: Machine) -> None:
    site = machine.site
    site.files = {f"/m{path}": data for path, data in site.files.items()}
    site.files["/m/id=5"] = site.files["/m/20180402-114759-vggface2.pt"]
    assert bare("fetch", "FN_V", "--yes", "--url", f"{site.url}/m/id=5").code == 0
    assert bare("fetch", "yunet", "--url", f"{site.url}/m/").code == 0
    assert bare("fetch", "lfw", "--yes", "--url", f"{site.url}/m/lfw.tgz").code == 0
    assert (machine.cache / "lfw/pairs.txt").read_bytes() == site.files["/m/pairs.txt"]
    several = bare("fetch", "yunet", "lfw", "--url", site.url)
    assert several.code == 2 and "'--url' is for one name at a time. Got yunet, lfw" in several.err


def test_an_address_serves_what_has_no_link_of_its_own(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(zoo.packaged())
    known["iresnet50-sface"] = known["iresnet50-sface"].model_copy(
        update={"options": {"depth": 18, "width": 2, "embedding": 4}}
    )
    monkeypatch.setattr(zoo, "packaged", lambda: known)
    machine.site.files["/share"] = weights(known["iresnet50-sface"])
    done = bare("fetch", "IR50_S", "--yes", "--url", f"{machine.site.url}/share")
    assert done.code == 0 and "the publisher states none: kept in" in done.out
    assert zoo.load("IR50_S").embed(np.zeros((1, 112, 112, 3), np.uint8)).shape == (1, 4)


def test_unknown_names_are_2_before_anything_is_asked(bare: Command, machine: Machine) -> None:
    done = bare("fetch", "yunet", "uniface-mobilnetv2")
    assert done.code == 2 and "Did you mean 'uniface-mobilenetv2'?" in done.err
    assert machine.site.asked == []


@pytest.mark.parametrize("variable", [False, True])
def test_the_folder_of_scikit_learn_is_used(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    kept = machine.home / ("elsewhere" if variable else "scikit_learn_data") / "lfw_home"
    if variable:
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(kept.parent))
    photos, pairs = lfw()
    for name, data in photos.items():
        path = kept / "lfw_funneled" / name.removeprefix("lfw/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (kept / "pairs.txt").write_bytes(pairs)
    assert bare("fetch", "yunet").out.splitlines()[-1] == "Next: facefocus prepare lfw"
    done = bare("fetch", "lfw")
    assert done.out.splitlines()[0] == f"'lfw' is here: {kept / 'lfw_funneled'}"
    assert len(machine.site.asked) == 1
    prepared = bare("prepare", "lfw").out.splitlines()
    assert prepared[1:] == [
        f"images {4 * PEOPLE} of {PEOPLE} people", f"pairs {12 * PEOPLE} (0 missing)",
    ]  # fmt: skip


def test_the_pins_of_lfw_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import _lfw

    theirs = {(file.url, file.checksum) for file in (_lfw.ARCHIVE, _lfw.FUNNELED_ARCHIVE)}
    theirs |= {(file.url, file.checksum) for file in _lfw.TARGETS if file.filename == "pairs.txt"}
    files = [*faces.LFW_ARCHIVES.values(), faces.LFW_PAIRS]
    assert {(file.urls[0], file.sha256) for file in files if file.sha256} == theirs
    assert [file.name for file in files if not file.sha256] == ["lfw-deepfunneled.tgz"]


def test_every_link_and_hash_has_its_form() -> None:
    for item in fetching.items().values():
        assert item.files and len({file.name for file in item.files}) == len(item.files)
        for file in item.files:
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
            assert all(url.startswith("http") for url in file.urls)
    unpinned = {item.name for item in fetching.items().values() if None in
                {file.sha256 for file in item.files}}  # fmt: skip
    assert unpinned == {"lfw-deepfunneled", "facenet-casia"}


def test_lists_offer_no_name_without_saying_what_comes_first(
    bare: Command, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states() -> dict[str, str]:
        lines = bare("models", "list").out.splitlines()
        last = lines[0].index("here?")
        return {line.split()[0]: line[last:] for line in lines[1:]}

    before = states()
    assert before["iresnet-mini-eyes"] == "here"
    assert before["facenet-vggface2"] == "facefocus fetch facenet-vggface2"
    assert before["iresnet50-sface"] == "facefocus models show iresnet50-sface"
    box = "uniface-mobilenetv1-025"
    for command in (before["facenet-vggface2"], before[box]):
        assert bare(*command.split()[1:], "--yes").code == 0
    after = states()
    assert after["facenet-vggface2"] == after[box] == "here"
    monkeypatch.setattr("facefocus.models.openvino.find_spec", lambda name: None)
    assert states()[box] == "pip install onnxruntime onnx"
