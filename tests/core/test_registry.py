from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from facefocus.core.errors import UserError
from facefocus.core.registry import Registry
from facefocus.saliency.methods import GradientMethod


def test_a_decorated_and_a_lazy_entry_are_found() -> None:
    registry: Registry[object] = Registry("thing")

    @registry.register("here")
    def here() -> None: ...

    registry.add("there", "math:pi")
    assert registry["here"] is here
    assert registry["there"] == math.pi
    assert list(registry) == ["here", "there"]


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    registry: Registry[int] = Registry("fill")
    registry.add("black", 0)
    with pytest.raises(UserError, match=r"No fill is called 'blak'\. Known: black\. Did you mean"):
        registry["blak"]


def test_a_name_is_taken_once() -> None:
    registry: Registry[object] = Registry("fill")
    registry.add("black", math.pi)
    with pytest.raises(UserError, match=r"'black' is registered already\. Choose another name"):
        registry.add("black", math.e)
    registry.add("soft", lambda: 1)
    with pytest.raises(UserError, match="registered already"):
        registry.add("soft", math.sqrt)


CELL = """
def mine(activation, gradient, options):
    return activation.sum(1) * {factor}
"""


def test_a_cell_of_a_notebook_can_be_run_again(caplog: pytest.LogCaptureFixture) -> None:
    registry: Registry[GradientMethod] = Registry("method")

    def run(factor: int, version: int) -> None:
        cell: dict[str, Any] = {"__name__": "__main__"}
        exec(CELL.format(factor=factor), cell)
        registry.add("mine", GradientMethod("mine", cell["mine"], version, True))

    run(1, version=1)
    run(1, version=1)
    assert not caplog.messages
    run(2, version=2)
    assert not caplog.messages
    assert registry["mine"].function(torch.ones(1, 3, 1, 1), torch.ones(0), {}).item() == 6
    run(3, version=2)
    assert registry["mine"].function(torch.ones(1, 3, 1, 1), torch.ones(0), {}).item() == 9
    (message,) = caplog.messages
    assert "'mine' was defined anew with the old version 2" in message


def test_an_entry_that_cannot_be_imported_is_named() -> None:
    registry: Registry[object] = Registry("method")
    registry.add("mine", "no_such_package:thing")
    with pytest.raises(UserError, match=r"method 'mine' is registered as 'no_such_package:thing'"):
        registry["mine"]
