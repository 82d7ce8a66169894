"""Progress of long work: the library calls a function, the command line draws bars.

The library prints nothing. Long functions take a `Progress` and call it after every step.
"""

from __future__ import annotations

from collections.abc import Callable

#: Called as ``progress(stage, done, total)``, counts in the stage's own unit.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing: the default of every function that takes a `Progress`."""
