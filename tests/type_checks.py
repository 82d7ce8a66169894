"""What jaxtyping's hook decorates every function with, at a fraction of its cost.

``jaxtyping.jaxtyped`` binds every call to the function's signature and checks the arguments twice:
most of the time of a run of tiny networks. Here beartype checks each argument and result once, and
only functions that name shapes get a context in which a letter stands for one size. Checks are made
at the first call, as most functions of an import are never called, and once for the same code, as
a function within a function is made anew at every call of the outer one.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any, cast, get_args, get_type_hints

import jaxtyping
from jaxtyping import AbstractArray, jaxtyped

Decorator = Callable[[Any], Any]

#: beartype's name for the function that it checks, among the defaults of the one it makes.
FUNCTION = "__beartype_func"

#: Of the code of every function called: its types, their checks, and whether they name shapes.
_CHECKS: dict[tuple[Any, ...], tuple[dict[str, Any], FunctionType, bool]] = {}


def checked(decorated: Any = None, *, typechecker: Decorator) -> Any:
    """Check arguments and result of a function, or what a dataclass is made of, at every call."""
    if decorated is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(decorated):
        own = "__init__" in vars(decorated) and dataclasses.is_dataclass(decorated)
        if own and not hasattr(decorated.__init__, "__wrapped__"):
            initialized = _checked_function(cast(FunctionType, decorated.__init__), typechecker)
            decorated.__init__ = initialized  # type: ignore[method-assign]
        return decorated
    if not inspect.isfunction(decorated):
        return jaxtyped(decorated, typechecker=typechecker)
    return _checked_function(decorated, typechecker)


def _checked_function(function: FunctionType, typechecker: Decorator) -> Callable[..., Any]:
    # Read now: what is called later may run while a test has put another class in a type's place.
    hints = _hints(function)
    checking: Callable[..., Any] | None = None

    @_in_no_message
    @functools.wraps(function)
    def at_a_call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checking
        if checking is None:
            checking = _checking(function, hints, typechecker)
        return checking(*args, **kwargs)

    return at_a_call


def _checking(
    function: FunctionType, hints: dict[str, Any], typechecker: Decorator
) -> Callable[..., Any]:
    # Codes of one text are equal: those of dataclasses of the same fields are.
    key = function.__module__, function.__qualname__, function.__code__, typechecker
    known, checks, shaped = _CHECKS.get(key, (None, None, False))
    if checks is None or known != hints:
        checks, shaped = _checks(function, hints, typechecker)
        _CHECKS[key] = hints, checks, shaped
    defaults = checks.__kwdefaults__ or {}
    if FUNCTION not in defaults:  # beartype found nothing to check
        return function
    checking = FunctionType(checks.__code__, checks.__globals__, function.__name__)
    checking.__kwdefaults__ = {**defaults, FUNCTION: function}
    return _with_own_sizes(checking) if shaped else checking


def _checks(
    function: FunctionType, hints: dict[str, Any], typechecker: Decorator
) -> tuple[FunctionType, bool]:
    """The checks of a copy that is never called, and keeps nothing that the function refers to.

    beartype would check all that a generator yields: the copy is none.
    """
    generates = inspect.isgeneratorfunction(function)
    code = function.__code__
    copy = FunctionType(
        code.replace(co_flags=code.co_flags & ~inspect.CO_GENERATOR),
        function.__globals__,
        argdefs=function.__defaults__,
        closure=function.__closure__ and tuple(CellType() for _ in function.__closure__),
    )
    for name in functools.WRAPPER_ASSIGNMENTS:
        setattr(copy, name, getattr(function, name))
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = {
        name: hint for name, hint in hints.items() if not (generates and name == "return")
    }
    return typechecker(copy), any(map(_names_shape, copy.__annotations__.values()))


def _with_own_sizes(checking: Callable[..., Any]) -> Callable[..., Any]:
    @_in_no_message
    def with_own_sizes(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):
            return checking(*args, **kwargs)

    return with_own_sizes


def _in_no_message(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose lines pass for the library's: messages name the innermost of the user's."""
    named = cast(FunctionType, function)
    named.__code__ = named.__code__.replace(co_filename=jaxtyping.__file__)
    return function


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; anything goes where one names what exists for the type checker alone."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError):
        hints: dict[str, Any] = {}
        for name, text in function.__annotations__.items():
            try:
                alone = type("", (), {"__annotations__": {name: text}})
                hints |= get_type_hints(alone, function.__globals__, {}, include_extras=True)
            except (NameError, AttributeError):
                hints[name] = Any
        return hints


def _names_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_names_shape, get_args(hint)))
