from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models import zoo
from facefocus.models.weights import fit, load_into, read_weights


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


def other() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(8, 4))


CATALOG = {"small()": small, "other()": other}


def load(path: Path, module: nn.Module | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    module = module or small()
    notes = load_into(module, read_weights(path), architecture="small()", catalog=CATALOG)
    return module, notes


def state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return {key: torch.rand_like(value.float()) for key, value in small().state_dict().items()}


def assert_loaded(module: nn.Module, expected: dict[str, Tensor]) -> None:
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert value == 0
        else:
            assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    "suffix", [".safetensors", ".SafeTensors", ".pth", ".PTH", ".bin", ".pth.tar", ".ckpt"]
)
def test_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path, tensors = tmp_path / f"w{suffix}", state()
    if suffix.lower() == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    module, notes = load(path)
    assert notes == ()
    assert_loaded(module, tensors)


def test_the_format_of_old_checkpoints(tmp_path: Path) -> None:
    path, tensors = tmp_path / "old.pt", state()
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert_loaded(load(path)[0], tensors)


@pytest.mark.parametrize("nest", ["state_dict", "state_dict_backbone", "model_ema", "nets.0"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "features.module._orig_mod."])
def test_wrappers_are_taken_off(tmp_path: Path, prefix: str, nest: str) -> None:
    path, tensors = tmp_path / "w.pth", state()
    weights: object = {prefix + key: value for key, value in tensors.items()}
    for part in reversed(nest.split(".")):
        weights = [weights] if part.isdecimal() else {part: weights}
    assert isinstance(weights, dict)
    # What training scripts keep beside the weights: numbers, tensors, an optimizer's state.
    beside = {
        "epoch": torch.tensor(3),
        "best_acc": np.float64(0.99),
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "path": Path("/data"),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(beside | weights, path)
    module, notes = load(path)
    assert_loaded(module, tensors)
    assert notes == ()


def test_a_wrapper_inside_a_key(tmp_path: Path) -> None:
    """As torch.compile of a part of a network leaves it."""
    tensors = state()
    torch.save(
        {key.replace(".", "._orig_mod."): v for key, v in tensors.items()}, tmp_path / "w.pth"
    )
    assert_loaded(load(tmp_path / "w.pth")[0], tensors)


def test_of_several_fitting_mappings_the_first_is_taken_and_said(tmp_path: Path) -> None:
    tensors = state()
    others = {f"module.{key}": value + 1 for key, value in tensors.items()}
    torch.save({"state_dict": tensors, "state_dict_ema": others}, tmp_path / "w.pth")
    module, notes = load(tmp_path / "w.pth")
    assert notes == ("'state_dict' was used; 'state_dict_ema' would fit as well.",)
    assert_loaded(module, tensors)


def test_a_teacher_beside_the_network_is_left_out_and_said(tmp_path: Path) -> None:
    tensors = {f"student.{key}": value for key, value in state().items()}
    torch.save(tensors | {f"loss.{i}": torch.ones(2) for i in range(5)}, tmp_path / "w.pth")
    module, notes = load(tmp_path / "w.pth")
    assert notes == (
        "Left out, since the network has no such tensors: 'loss.0', 'loss.1', 'loss.2' and 2 more.",
    )
    assert_loaded(module, state())


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, object] = {"model": state()}
    content["self"] = content
    torch.save(content, tmp_path / "w.pth")
    assert_loaded(load(tmp_path / "w.pth")[0], state())


def test_integers_in_place_of_weights_are_refused(tmp_path: Path) -> None:
    tensors = state()
    tensors["0.weight"] = (tensors["0.weight"] * 40).to(torch.int8)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"'0.weight' is int8: quantized weights cannot be used"):
        load(tmp_path / "w.pth")


def test_where_nothing_fits_the_files_own_keys_are_named(tmp_path: Path) -> None:
    torch.save({"net": {f"enc.{i}.w": torch.ones(2) for i in range(5)}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"own first keys: 'enc.0.w', 'enc.1.w', 'enc.2.w' and 2"):
        load(tmp_path / "w.pth")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"hold no tensors by name .* first keys: 'epoch', 'lr'"):
        load(tmp_path / "w.pth")


def test_torchscript_is_named_and_its_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images = tmp_path / "scripted.pt", torch.rand(2, 3, 112, 112)
    network = nn.Sequential(nn.Conv2d(3, 2, 3, stride=50), nn.Flatten(), nn.Linear(18, 4)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network), path)
    with pytest.raises(UserError, match=r"scripted.pt' is TorchScript, a program") as caught:
        read_weights(path)
    with pytest.raises(UserError, match="is TorchScript, a program"):
        zoo.load(str(path))
    command = re.search(r'python -c "(.*?)" - and name \'(.*?)\'', str(caught.value))
    assert command
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(command[1])
    session = onnxruntime.InferenceSession(tmp_path / command[2])
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(session.run(None, {"x": images.numpy()})[0], expected, atol=1e-5)


def test_a_modules_own_keys_are_not_taken_for_wrappers(tmp_path: Path) -> None:
    inner = small()
    module = nn.ModuleDict({"model": inner})
    tensors = {f"model.{key}": value for key, value in state().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    load(tmp_path / "w.safetensors", module)
    assert_loaded(inner, state())


def test_half_precision_is_widened_and_said(tmp_path: Path) -> None:
    halves = {key: value.half() for key, value in state().items()}
    torch.save(halves, tmp_path / "w.pth")
    module, notes = load(tmp_path / "w.pth")
    assert notes == ("8 tensors were converted to float32.",)
    assert_loaded(module, {key: value.float() for key, value in halves.items()})


def test_classification_layers_are_left_out_and_said(tmp_path: Path) -> None:
    tensors = state() | {"logits.weight": torch.ones(9, 4), "logits.bias": torch.ones(9)}
    torch.save(tensors, tmp_path / "w.pth")
    module, notes = load(tmp_path / "w.pth")
    expected = "Left out, since the network has no such tensors: 'logits.weight', 'logits.bias'."
    assert notes == (expected,)
    assert_loaded(module, tensors)


def test_a_classifiers_name_is_no_excuse_where_the_network_uses_it() -> None:
    module = nn.ModuleDict({"fc": nn.Linear(2, 2)})
    tensors = dict(module.state_dict())
    assert fit({"": tensors}, module).problem == ""
    more = fit({"": tensors | {"fc.extra": torch.ones(1)}}, module)
    assert "unknown to it, first 'fc.extra'" in more.problem


def test_other_architectures_are_recognized(tmp_path: Path) -> None:
    save_file(other().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "w.safetensors")
    message = str(caught.value)
    assert "do not fit small(): 4 of its 8 tensors are missing, first '1.running_mean'" in message
    assert message.endswith("It fits other().")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, "1 of its 8 tensors are missing, first '0.bias'"),
        ({"0.bias": torch.ones(3)}, r"'0.bias' must be \[2\], got \[3\]"),
        ({"0.bias": torch.tensor([1.0, torch.inf])}, "'0.bias' holds values that are not finite"),
        ({"9.bias": torch.ones(3)}, "1 tensors are unknown to it, first '9.bias'"),
    ],
)
def test_misfits_are_named(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    changed = {key: value for key, value in (state() | change).items() if value is not None}
    save_file(changed, tmp_path / "w.safetensors")
    module = small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load(tmp_path / "w.safetensors", module)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), "a misfit changes nothing"


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_pickles_that_would_run_code_are_called_that(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"epoch": 3, "x": Hostile(mark)}, protocol=protocol))
    with pytest.raises(UserError, match=r"would run code when it is read \('posix.system'\)"):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_are_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    torch.save(state() | {"x": Hostile(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"would run code when it is read \('posix.system'\)"):
        read_weights(path)
    assert not mark.exists()


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=r"would run code .*'torch.nn.modules.container.Sequential'"
    ):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "zeros", "no tensors"])
def test_damaged_files(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"w{suffix}"
    content = {} if damage == "no tensors" else state()
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage in ("empty", "text", "zeros"):
        path.write_bytes({"empty": b"", "text": b"<html>404</html>", "zeros": bytes(4096)}[damage])
    with pytest.raises(UserError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "run code" not in message


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_any_damage_is_one_line(tmp_path: Path, kind: str) -> None:
    path, draw = tmp_path / "w.pth", np.random.default_rng(3)
    if kind == "safetensors":
        save_file(state(), path)
    else:
        torch.save({"epoch": 3, "x": state()}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for position in draw.integers(0, len(whole), 4):
            damaged[position] = draw.integers(256)
        path.write_bytes(damaged)
        with suppress(UserError):
            load(path)


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        read_weights(tmp_path / "w.pth")
    torch.save([torch.ones(2)], tmp_path / "w.pth")
    with pytest.raises(UserError, match="no tensors by name"):
        read_weights(tmp_path / "w.pth")
