"""What the tests enforce of every function's types and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float

import facefocus.evaluation.verification as verification
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


@check
@dataclass
class Pair:
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]


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


def test_the_package_is_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        verification.normalize(np.ones(3))
