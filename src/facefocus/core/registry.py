"""One registry for everything that can be added: methods, fills, objectives, recognizers, faces.

Built-ins register with a decorator or as a lazy ``"module:attribute"``; other packages through the
entry-point group ``facefocus.<kind>s``, e.g. ``[project.entry-points."facefocus.methods"]``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from facefocus.core.errors import UserError, did_you_mean, located, own_plugin
from facefocus.core.notices import notice

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind by name; lazy ones are imported at the first request.

    Args:
        kind: Singular noun for messages and the entry-point group, spaces as underscores:
            ``"method"``.
        load: Modules whose import registers the built-ins.
    """

    def __init__(self, kind: str, load: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._load = load
        self._entries: dict[str, T | str] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an object under `name`; see `add`."""

        def add(item: T) -> T:
            self.add(name, item)
            return item

        return add

    def add(self, name: str, item: T | str) -> None:
        """Add `item`, or its lazy ``"module:attribute"``, under `name`.

        The same definition once more, as when a cell of a notebook is run again, replaces the
        first.

        Raises:
            UserError: Something else is registered under this name.
        """
        if name in self._entries:
            self._replace(name, self._entries[name], item)
        self._entries[name] = item

    def _replace(self, name: str, before: T | str, item: T | str) -> None:
        if _definition(before) != _definition(item):
            raise UserError(f"The {self.kind} '{name}' is registered already. Choose another name.")
        old, new = (getattr(_function(entry), "__code__", None) for entry in (before, item))
        version = getattr(item, "version", None)
        if old != new and version is not None and version == getattr(before, "version", None):
            notice(
                f"The {self.kind} '{name}' was defined anew with the old version {version}: what"
                " its old code made is reused. Raise its 'version'."
            )

    def __getitem__(self, name: str) -> T:
        """The object called `name`.

        Raises:
            UserError: No such name; the message suggests the nearest one.
        """
        self._fill()
        if name not in self._entries:
            known = ", ".join(self)
            raise UserError(
                f"No {self.kind} is called '{name}'. Known: {known}."
                + did_you_mean(name, self._entries)
            )
        item = self._entries[name]
        if isinstance(item, str):
            item = self._entries[name] = self._import(name, item)
        return item

    def _import(self, name: str, target: str) -> T:
        where, _, attribute = target.partition(":")
        try:
            module = importlib.import_module(where)
            if where.partition(".")[0] != "facefocus":
                own_plugin(getattr(module, "__file__", None) or where)
            return cast(T, getattr(module, attribute))
        # Code of others fails in any way.
        except Exception as error:
            raise UserError(
                f"The {self.kind} '{name}' is registered as '{target}', which cannot be imported:"
                f" {located(error)}."
            ) from error

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(list(self._entries))

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._entries

    def __len__(self) -> int:
        self._fill()
        return len(self._entries)

    def _fill(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for module in self._load:
            importlib.import_module(module)
        for entry in entry_points(group=f"facefocus.{self.kind.replace(' ', '_')}s"):
            if entry.name not in self._entries:
                self._entries[entry.name] = entry.value


def _function(item: object) -> object:
    """What does the work in an entry: a function, or the method's own."""
    functions = (getattr(item, name, None) for name in ("function", "draw", "entries"))
    return next(filter(None, functions), item)


def _definition(item: object) -> tuple[object, ...]:
    """Where in the code an entry was defined; equal for the same cell or file run again."""
    function = _function(item)
    if not hasattr(function, "__qualname__"):
        return type(item), repr(item)
    return type(item), function.__module__, function.__qualname__
