"""The one error a user may see, and the wording all its messages share.

Form: ``The 'budget' of [occlusion] must be in (0, 1]. Got 30. Did you mean 0.30?`` - the field,
what was expected, what was found and, where one is likely, the correction.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: shown as one line, without a traceback, exit code 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of `known`, or an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of any exception on one line, for use inside a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
