"""Recognizers that only return a score for two images: a service, a program, a closed library.

The function gets two aligned crops, RGB uint8 [h, w, 3], and returns a number that is larger the
more alike the faces are. Calls may cost money or time: they are counted, kept (nothing is asked
twice) and, where wanted, limited in rate.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64, Int, UInt8

from facefocus.core.errors import UserError, blaming_own_code
from facefocus.core.locations import store_dir
from facefocus.core.progress import Progress, silent
from facefocus.core.store import Missing, Store, content_key
from facefocus.models.outputs import Around
from facefocus.models.probe import probe_frames

#: ``similarity(first [h, w, 3], second [h, w, 3]) -> float``, RGB uint8 in, larger is more alike.
Similarity = Callable[[np.ndarray, np.ndarray], float]

#: Pairs of an artefact: few, since a call that is interrupted with its group is made again.
GROUP = 8
#: Digits of a score that tell one recognizer from another; machines may differ in later ones.
_DIGITS = 4
_VERSION = 1


class ScoreRecognizer:
    """A recognizer that compares two images and shows nothing else.

    Args:
        name: Short name, unique in an experiment.
        similarity: Compares two images.
        identity: Text that changes with the code behind `similarity`.
        calls_per_second: At most so many calls start in a second; None for no limit.
        around: What each call runs in.

    Attributes:
        calls: How often `similarity` was called so far.
        store: Where scores are looked for and kept; the shared store by default.

    Raises:
        UserError: `calls_per_second` is not above 0.
    """

    def __init__(
        self,
        name: str,
        similarity: Similarity,
        *,
        identity: str,
        calls_per_second: float | int | None = None,
        around: Around = nullcontext,
    ) -> None:
        if calls_per_second is not None and not calls_per_second > 0:
            raise UserError(
                f"The 'calls_per_second' of '{name}' must be above 0. Got {calls_per_second}."
            )
        self.name, self.calls_per_second = name, calls_per_second
        self.calls = 0
        self.store = Store(store_dir())
        self._similarity, self._around = similarity, around
        self._identity = [identity]
        self._last_call = -math.inf

    def identify(self, text: str) -> None:
        """Add to what the fingerprint is made of."""
        self._identity.append(text)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of its identity and of the scores of a few built-in images."""
        return hashlib.sha256("\n".join([*self._identity, self._probe]).encode()).hexdigest()

    @cached_property
    def _probe(self) -> str:
        """Scores of built-in images, coarse: three calls."""
        first, second, third, _ = probe_frames()
        try:
            scores = [
                self.compare(*pair) for pair in ((first, first), (first, second), (first, third))
            ]
            return " ".join(f"{score:.{_DIGITS}g}" for score in scores)
        except Exception:
            # What is wrong is said where it is given faces; some find none in these images.
            return "no probe"

    def look(self) -> None:
        """Take the fingerprint."""
        _ = self.fingerprint

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> NoReturn:
        """Refuse: there are no embeddings.

        Raises:
            UserError: Always; says what it can be used for.
        """
        raise refused(self.name)

    def scores(
        self, first: UInt8[np.ndarray, "n h w 3"], second: UInt8[np.ndarray, "n h w 3"]
    ) -> Float64[np.ndarray, " n"]:
        """The score of each pair of images, from the store or by a call.

        Args:
            first: RGB.
            second: RGB, as many.

        Raises:
            UserError: A score is no finite number, or the function raises.
        """
        scores = np.empty(len(first))
        for start in range(0, len(first), GROUP):
            part = slice(start, start + GROUP)
            scores[part] = self._group(first[part], second[part])
        return scores

    def row_scores(
        self,
        frames: UInt8[np.ndarray, "n h w 3"],
        pairs: Int[np.ndarray, "p 2"],
        progress: Progress = silent,
    ) -> Float64[np.ndarray, " p"]:
        """`scores` of pairs of rows of `frames`, which may lie on a disk.

        Raises:
            UserError: As `scores`.
        """
        scores = np.empty(len(pairs))
        for start in range(0, len(pairs), GROUP):
            first, second = pairs[start : start + GROUP].T
            scores[start : start + GROUP] = self._group(frames[first], frames[second])
            progress("scores", min(start + GROUP, len(pairs)), len(pairs))
        return scores

    def _group(self, first: np.ndarray, second: np.ndarray) -> Float64[np.ndarray, " g"]:
        key = content_key(
            "pair scores",
            version=_VERSION,
            recognizer=self.fingerprint,
            pairs=[[_digest(a), _digest(b)] for a, b in zip(first, second, strict=True)],
        )
        try:
            return self.store.load(key)["scores"]
        except Missing:
            made = np.array([self.compare(a, b) for a, b in zip(first, second, strict=True)])
            self.store.save(key, {"scores": made})
            return made

    def compare(self, first: np.ndarray, second: np.ndarray) -> float:
        """The score of two images by a call, whatever the store holds.

        Raises:
            UserError: As `scores`.
        """
        if self.calls_per_second is not None:
            wait = self._last_call + 1 / self.calls_per_second - time.monotonic()
            if wait > 0:
                time.sleep(wait)
        self._last_call = time.monotonic()
        self.calls += 1
        with blaming_own_code(), self._around():
            score: Any = self._similarity(first.copy(), second.copy())
        try:
            value = float(score)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise UserError(
                f"The recognizer '{self.name}' must return one finite number for two images. Got"
                f" {str(score)[:50]}. Return the lowest score where it finds no face."
            )
        return value


def compares_two(function: object) -> bool:
    """Whether a function must be given two arguments: then it compares two images."""
    if isinstance(function, type) or not callable(function):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) == 2


def from_function(
    function: Similarity, name: str | None = None, *, calls_per_second: float | int | None = None
) -> ScoreRecognizer:
    """A recognizer of a function of two images; its source is part of the fingerprint.

    Raises:
        UserError: As `ScoreRecognizer`.
    """
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):
        code = "no source"
    label = name or str(getattr(function, "__name__", type(function).__name__))
    return ScoreRecognizer(label, function, identity=code, calls_per_second=calls_per_second)


def refused(name: str) -> UserError:
    """Why something that needs embeddings does not take a recognizer that gives scores only."""
    return UserError(
        f"The recognizer '{name}' returns a score for two images, no embeddings, which are needed"
        " here (experiments, gradients, templates, galleries). It serves in 'facefocus verify', in"
        " 'facefocus card', and in facefocus.explain with s-rise or corr-rise."
    )


def _digest(image: np.ndarray) -> str:
    text = f"{image.shape}".encode()
    return hashlib.sha256(text + np.ascontiguousarray(image).tobytes()).hexdigest()
