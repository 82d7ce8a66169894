"""The one error a user may see, and the wording all its messages share.

Form: ``The 'budget' of [occlusion] must be in (0, 1]. Got 30. Did you mean 0.30?`` - the field,
what was expected, what was found and, where one is likely, the correction.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


class UserError(Exception):
    """A mistake in what the user gave: shown as one line, without a traceback, exit code 2."""

    #: The program's exit code.
    code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of `known`, or an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of any exception on one line, for use inside a message."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int = 200) -> str:
    """The beginning of a text that may be long, for use inside a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def is_own_code(file: str | None) -> bool:
    """Whether a source file is the user's: neither Python's, nor installed, nor of this package."""
    if (
        not file
        or file.startswith("<")
        or {"site-packages", "dist-packages"} & set(Path(file).parts)
    ):
        return False
    return not any(Path(file).absolute().is_relative_to(root) for root in _not_own())


#: Files and folders of other packages that add to this one.
_plugins: set[Path] = set()


def own_plugin(file: str) -> None:
    """Count the module in `file`, of an installed package, as the user's own code."""
    path = Path(file)
    _plugins.add(path.parent if (path.parent / "__init__.py").is_file() else path)


@contextmanager
def blaming_own_code() -> Iterator[None]:
    """Context that turns exceptions of the user's own code into a `UserError` of one line.

    For a recognizer's or a method's file, when it is imported, built or called in a pass.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _origin(error) is None:
            raise
        raise UserError(f"{located(error)}. --traceback shows all.") from error


def located(error: Exception) -> str:
    """An exception on one line: where in the user's own code, if there, its type and its text."""
    # Python repeats the line in the text of a syntax error.
    text = error.msg if isinstance(error, SyntaxError) else one_line(error).removesuffix(".")
    origin = _origin(error)
    return f"{origin}: " * bool(origin) + f"{type(error).__name__}: {text}"


def _origin(error: Exception) -> str | None:
    """The innermost line of the user's own code that an exception came through."""
    if isinstance(error, SyntaxError) and error.filename and is_own_code(error.filename):
        return f"'{_shown(error.filename)}' line {error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if is_own_code(frame.filename)
    ]
    if not frames:
        return None
    inside = "" if frames[-1].name == "<module>" else f" in {frames[-1].name}"
    return f"'{_shown(frames[-1].filename)}' line {frames[-1].lineno}{inside}"


def _shown(file: str) -> str:
    """A file as its user would write it: from where the program runs, if it is below."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


@cache
def _not_own() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    roots = [paths["stdlib"], paths["platstdlib"], str(Path(__file__).parents[1])]
    return tuple(
        {Path(root).absolute() for root in roots} | {Path(root).resolve() for root in roots}
    )
