"""One bar for a job of several parts: how much of all is done."""

from __future__ import annotations

from collections.abc import Mapping

from facefocus.core.progress import Progress


class Meter:
    """The progress of a job whose parts have weights.

    Args:
        progress: What is told: the job's name, and work done and in total.
        name: Of the job.
        weights: The work of each part, in any unit.
    """

    def __init__(self, progress: Progress, name: str, weights: Mapping[str, int]) -> None:
        self._progress, self._name, self._weights = progress, name, dict(weights)
        self._done = dict.fromkeys(weights, 0.0)
        self.tell()

    def share(self, part: str, number: int, count: int) -> Progress:
        """Progress of one of `count` equal shares of a part."""

        def report(stage: str, done: int, total: int) -> None:
            self._done[part] = (number + min(done / max(total, 1), 1.0)) / count
            self.tell()

        return report

    def end(self) -> None:
        """All is done."""
        self._done = dict.fromkeys(self._done, 1.0)
        self.tell()

    def tell(self) -> None:
        """Tell how much is done."""
        total = sum(self._weights.values())
        done = sum(self._weights[part] * share for part, share in self._done.items())
        self._progress(self._name, round(done), round(total))
