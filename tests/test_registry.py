from __future__ import annotations

import math

import pytest

from facefocus.errors import UserError
from facefocus.registry import Registry


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
    registry: Registry[int] = Registry("fill")
    registry.add("black", 0)
    with pytest.raises(ValueError, match="registered already"):
        registry.add("black", 1)


def test_an_entry_that_cannot_be_imported_is_named() -> None:
    registry: Registry[object] = Registry("method")
    registry.add("mine", "no_such_package:thing")
    with pytest.raises(UserError, match=r"method 'mine' is registered as 'no_such_package:thing'"):
        registry["mine"]
