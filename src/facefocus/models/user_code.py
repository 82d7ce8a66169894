"""The user's Python files: run with their folder on the path, with a record of all files read.

Two recognizers may have neighbours of the same name, so nobody sees the modules of another. What
determines embeddings may lie in any file that is imported or read while a recognizer is loaded, so
all of them are hashed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import tokenize
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from facefocus.core.errors import UserError, blaming_own_code, is_own_code, one_line

#: Folders of the system: what is read there differs from one machine to the next.
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/", "/usr/lib", "/usr/share/", "/var/cache/")

#: What is being recorded now; the innermost last.
_recording: list[set[str]] = []
_hooked = False


@contextmanager
def files_read() -> Iterator[set[str]]:
    """The files that Python opens for reading inside, as absolute paths; not what it imports."""
    global _hooked
    if not _hooked:
        # The frame before this one is what opens the file.
        sys.addaudithook(
            lambda event, args: (
                _note(args, sys._getframe(1).f_code.co_filename)
                if event == "open" and _recording
                else None
            )
        )
        _hooked = True
    files: set[str] = set()
    _recording.append(files)
    try:
        yield files
    finally:
        _recording.pop()


def digest_of(files: Iterable[str]) -> str:
    """sha256 (hex) of the names and contents of files, in any order; not of those that are gone."""
    paths = [path for path in map(Path, files) if path.is_file()]
    rows = {f"{path.name} {sha256(path)}" for path in paths}
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _FreshLoader(SourceFileLoader):
    """Runs what the file says now: bytecode tells files of one second and size not apart."""

    def get_code(self, fullname: str) -> CodeType:
        """The file's code, compiled anew."""
        try:
            return self.source_to_code(self.get_data(self.path), self.path)
        except (SyntaxError, ValueError) as error:
            # Of a syntax error the line is shown.
            if isinstance(error, SyntaxError) and error.filename:
                raise
            raise UserError(
                f"The file '{self.path}' is no Python file: {one_line(error)}."
            ) from error


class OwnCode:
    """A Python file of the user's, run, with the modules that it imports.

    Attributes:
        namespace: The file as a module.
        files: All that was read and imported in `active`.
        seen: Its digest when `active` was last left.

    Raises:
        UserError: The file cannot be run; says in which line.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent.absolute()
        self._path = [str(self._folder)]
        self._modules: dict[str, ModuleType] = {}
        self._names = set(_importable(path.parent))
        self.files = {str(path.absolute())}
        name = f"facefocus_custom_{path.stem}"
        loader = _FreshLoader(name, str(path))
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        if spec is None or spec.loader is None:
            raise UserError(f"The file '{path}' is no Python file.")
        self.namespace = importlib.util.module_from_spec(spec)
        self._modules[spec.name] = self.namespace
        importlib.invalidate_caches()
        with self.active():
            spec.loader.exec_module(self.namespace)

    @property
    def digest(self) -> str:
        """Changes with any file that the code has read or imported so far."""
        return digest_of(self.files)

    @contextmanager
    def active(self) -> Iterator[None]:
        """`visible`; what is read or imported inside counts, and what is raised is blamed."""
        with blaming_own_code(), self.visible(), files_read() as opened:
            before = set(sys.modules)
            yield
            modules = [*self._modules.values(), *_new(before).values()]
            self.files |= _sources(modules) | set(filter(self._counts, opened))
        self.seen = self.digest

    @contextmanager
    def visible(self) -> Iterator[None]:
        """The folder is first on the path, and the modules are those of this code, inside only."""
        path = list(sys.path)
        tops = self._names.union(name.partition(".")[0] for name in self._modules)
        hidden = _loaded_own(tops) if any(top in sys.modules for top in tops) else {}
        for name in hidden:
            del sys.modules[name]
        before = set(sys.modules)
        sys.path[:0] = self._path
        sys.modules.update(self._modules)
        # Neighbors that are edited within a second would be taken from stale bytecode.
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            yield
        finally:
            sys.dont_write_bytecode = writes
            self._modules.update(_new(before))
            for name in self._modules.keys() & sys.modules.keys():
                del sys.modules[name]
            sys.modules.update(hidden)
            # What the code itself put on the path is there for it alone.
            self._path += [entry for entry in sys.path if entry not in (*path, *self._path)]
            sys.path[:] = path

    def _counts(self, file: str) -> bool:
        """Whether a file that was read is the user's."""
        if "__pycache__" in file or not is_own_code(file):
            return False
        return not file.startswith(_SYSTEM) or Path(file).is_relative_to(self._folder)

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnCode:
        return self


#: What was run, for each function: what one reads and imports is no part of another.
_held: dict[tuple[Path, str], OwnCode] = {}


def own_code(path: Path, function: str) -> OwnCode:
    """The code of a file for one of its functions, run again only when what it read has changed.

    Python, too, imports a module once; some may not be imported twice.

    Raises:
        UserError: As `OwnCode`.
    """
    key = path.absolute(), function
    if key not in _held or _held[key].digest != _held[key].seen:
        _held[key] = OwnCode(path)
    return _held[key]


def sources_of(made: object) -> set[str]:
    """The user's files that an object's class is from, with what they import."""
    module = sys.modules.get(type(made).__module__)
    return _sources([module]) if module is not None and _is_own(module) else set()


def _note(args: tuple[Any, ...], opener: str) -> None:
    """Record a file that is opened for reading as data, by the arguments of the audit event."""
    path, mode, flags = args
    reads = "r" in mode or "+" in mode if mode else flags & os.O_ACCMODE != os.O_WRONLY
    # What is imported is known by its module, also where Python has it compiled; and `tokenize`
    # reads lines of code to show them.
    code = opener.startswith("<frozen importlib") or opener == tokenize.__file__
    if reads and not code and isinstance(path, str | bytes):
        for files in _recording:
            files.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - called very often


def _origin(module: ModuleType) -> str | None:
    """The file of a module, or a folder of a package that has none."""
    file = getattr(module, "__file__", None)
    return file or next(iter(getattr(module, "__path__", ())), None)


def _is_own(module: object) -> bool:
    return isinstance(module, ModuleType) and is_own_code(_origin(module))


def _loaded_own(tops: Collection[str]) -> dict[str, ModuleType]:
    """The user's modules that are loaded, whose names begin with one of `tops`."""
    return {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in tops and name != "__main__" and _is_own(module)
    }


def _new(before: Collection[str]) -> dict[str, ModuleType]:
    """The user's modules that were imported since."""
    return {
        name: module
        for name, module in sys.modules.items()
        if name not in before and _is_own(module)
    }


def _importable(folder: Path) -> Iterator[str]:
    """Names that an import would find in a folder."""
    for entry in folder.iterdir():
        if entry.suffix in (".py", ".so", ".pyd") or entry.is_dir():
            yield entry.name.partition(".")[0]


def _sources(modules: Iterable[ModuleType]) -> set[str]:
    """The files of some modules and of all of the user's that they import, also inside functions.

    Read from the code, so that it does not matter which of them were loaded before.
    """
    own: dict[str, ModuleType] = {}
    left = list(modules)
    while left:
        module = left.pop()
        if module.__name__ in own or not _is_own(module):
            continue
        own[module.__name__] = module
        left += [sys.modules[name] for name in _imports(module) if name in sys.modules]
    return {file for module in own.values() if (file := getattr(module, "__file__", None))}


def _imports(module: ModuleType) -> Iterator[str]:
    """Names of the modules that the import statements of a module may mean."""
    try:
        tree = ast.parse(Path(str(module.__file__)).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = f"{module.__package__}.x".split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))
