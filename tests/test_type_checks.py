"""What the tests enforce of every function's types and shapes."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float

import facefocus.evaluation.verification as verification
from facefocus.core.errors import located
from tests.type_checks import checked

if TYPE_CHECKING:
    from fractions import Fraction


Decorated = TypeVar("Decorated")


def check(decorated: Decorated) -> Decorated:
    done: Decorated = checked(decorated, typechecker=beartype)
    return done


@check
def added(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"], exact: Fraction | None = None
) -> Float[np.ndarray, "n d"]:
    """A wrong result where both are 1 x 1."""
    return first + second if first.size > 1 else np.zeros((2, 1))


@check
def named(count: int) -> str:
    return "many" if count else b"none"  # type: ignore[return-value]


@check
def each(count: int) -> Iterator[int]:
    yield from range(count)


def scaled_by(factor: float) -> Callable[..., np.ndarray]:
    """A function within a function, which is made anew at every call."""

    @check
    def scaled(array: Float[np.ndarray, "n n"], power: int = 1) -> Float[np.ndarray, "n n"]:
        return factor**power * array if factor else array[0]

    return scaled


@check
@dataclass
class Pair:
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]


@check
@dataclass
class Names:
    """Of the same fields."""

    first: str
    second: str


def test_shapes_of_one_call_agree_and_those_of_two_need_not() -> None:
    for shape in ((2, 3), (4, 1)):
        assert added(np.ones(shape), np.ones(shape)).shape == shape
    for other in (np.ones((3, 2)), np.ones(2), np.ones((2, 3), int)):
        with pytest.raises(BeartypeCallHintViolation, match="second"):
            added(np.ones((2, 3)), other)
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        added(np.ones((1, 1)), np.ones((1, 1)))


def test_plain_types_generators_and_what_a_dataclass_is_made_of_are_checked() -> None:
    assert named(1) == "many" and list(each(2)) == [0, 1]
    with pytest.raises(BeartypeCallHintViolation, match="count"):
        named("1")  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        named(0)
    with pytest.raises(Exception, match="count"):
        each("1")  # type: ignore[arg-type]
    assert Pair(np.ones(2), np.ones(2)).first.size == 2
    with pytest.raises(BeartypeCallHintViolation, match="second"):
        Pair(np.ones(2), np.ones(3))
    assert Names("a", "b").second == "b"
    with pytest.raises(BeartypeCallHintViolation, match="first"):
        Names(np.ones(2), "b")  # type: ignore[arg-type]


def test_functions_within_functions_share_their_checks_and_nothing_else() -> None:
    twice, thrice, wrong = map(scaled_by, (2, 3, 0))
    for function, factor in ((twice, 2), (thrice, 3), (twice, 2)):
        np.testing.assert_array_equal(function(np.eye(2)), factor * np.eye(2))
        np.testing.assert_array_equal(function(np.eye(3), power=2), factor**2 * np.eye(3))
        with pytest.raises(BeartypeCallHintViolation, match="array"):
            function(np.ones((2, 3)))
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        wrong(np.eye(2))


def test_what_a_function_within_a_function_refers_to_is_not_kept() -> None:
    class Large:
        pass

    def make(large: Large) -> Callable[[int], bool]:
        @check
        def holding(count: int) -> bool:
            return large is not None and count > 0

        return holding

    large = Large()
    gone = weakref.ref(large)
    holding = make(large)
    assert holding(1)
    del large, holding
    gc.collect()
    assert gone() is None


def test_types_are_those_of_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    @check
    def first_of(pair: Pair) -> np.ndarray:
        return pair.first

    pair = Pair(np.ones(2), np.ones(2))
    monkeypatch.setattr(sys.modules[__name__], "Pair", Names)
    assert first_of(pair) is pair.first
    with pytest.raises(BeartypeCallHintViolation, match="pair"):
        first_of(Names("a", "b"))  # type: ignore[arg-type]


def test_a_message_names_the_line_that_called_what_is_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation) as wrong:
        verification.normalize(np.ones(3))
    assert located(wrong.value).startswith("'tests/test_type_checks.py' line ")


def test_the_package_is_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        verification.normalize(np.ones(3))
