"""What jaxtyping's hook decorates every function with, at a fraction of its cost.

``jaxtyping.jaxtyped`` binds every call to the function's signature and checks the arguments twice:
most of the time of a run of tiny networks. Here beartype checks each argument and result once, and
only functions that name shapes get a context in which a letter stands for one size.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

from jaxtyping import AbstractArray, jaxtyped

Decorator = Callable[[Any], Any]


def checked(decorated: Any = None, *, typechecker: Decorator) -> Any:
    """Check arguments and result of a function, or what a dataclass is made of, at every call."""
    if decorated is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(decorated):
        own = "__init__" in vars(decorated) and dataclasses.is_dataclass(decorated)
        if own and not hasattr(decorated.__init__, "__wrapped__"):
            initialized = _checked_function(decorated.__init__, typechecker)
            decorated.__init__ = initialized  # type: ignore[method-assign]
        return decorated
    # beartype would check all that a generator yields; jaxtyping does not.
    if not inspect.isfunction(decorated) or inspect.isgeneratorfunction(decorated):
        return jaxtyped(decorated, typechecker=typechecker)
    return _checked_function(decorated, typechecker)


def _checked_function(function: Callable[..., Any], typechecker: Decorator) -> Callable[..., Any]:
    hints = _hints(function)
    function.__annotations__ = hints
    checking: Callable[..., Any] = typechecker(function)
    if not any(map(_names_shape, hints.values())):
        return checking

    @functools.wraps(function)
    def with_own_sizes(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):
            return checking(*args, **kwargs)

    return with_own_sizes


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
