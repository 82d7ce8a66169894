"""Notices for the user where nothing is wrong: one line on standard error, once per process."""

from __future__ import annotations

import logging
from multiprocessing import parent_process

#: Its lines go to standard error unless the program that calls does something else with them.
log = logging.getLogger("facefocus")

_given: set[str] = set()


def notice(text: str) -> None:
    """Say `text` once per process; a worker leaves it to the process that started it."""
    if text in _given or parent_process() is not None:
        return
    _given.add(text)
    log.warning(text)
