"""Recognizers that somebody else wrote: called as they are, checked and probed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import nullcontext

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.models.calls import Network
from facefocus.models.capture import Capture
from facefocus.models.layers import LayerTable
from facefocus.models.outputs import Adapted, Around
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.probe import probe_code, probe_frames
from facefocus.models.recognizer import Recognizer, WhiteBox, check_finite, is_white_box
from facefocus.models.user_code import digest_of, sources_of


class ForeignRecognizer:
    """A recognizer of the user's or of another package, as given.

    Args:
        made: What embeds by itself.
        around: What each of its calls runs in.
    """

    def __init__(self, made: Recognizer, around: Around = nullcontext) -> None:
        self._made, self._around = made, around
        self._identity = [made.fingerprint, digest_of(sources_of(made))]

    def __getattr__(self, name: str) -> object:
        return getattr(self._made, name)

    @property
    def name(self) -> str:
        """Its own."""
        return self._made.name

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of its own fingerprint, the files that it came from, and the probe."""
        return hashlib.sha256("\n".join(self._identity).encode()).hexdigest()

    def identify(self, text: str) -> None:
        """Add to what the fingerprint is made of."""
        self._identity.append(text)

    def look(self) -> None:
        """Embed the frames of `models.probe`, where it takes frames of their size."""
        try:
            code = probe_code(self.embed(probe_frames()))
        except Exception:
            # What is wrong is said where it is given the frames of a face set.
            code = "no probe"
        self.identify(code)

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Its embeddings.

        Raises:
            UserError: They are not finite, or not one row for each frame.
        """
        return self._checked(self._made.embed, frames)

    def _checked(
        self, embed: Callable[[np.ndarray], object], frames: np.ndarray
    ) -> Float32[np.ndarray, "n d"]:
        with self._around():
            returned = embed(frames)
        if (
            not isinstance(returned, np.ndarray)
            or returned.ndim != 2
            or len(returned) != len(frames)
        ):
            got = (
                list(returned.shape)
                if isinstance(returned, np.ndarray)
                else type(returned).__name__
            )
            raise UserError(
                f"The recognizer '{self.name}' must return float32 [n, d] for n = {len(frames)}"
                f" frames. Got {got}."
            )
        embeddings: np.ndarray = returned.astype(np.float32, copy=False)
        check_finite(embeddings, self.name)
        return embeddings


class ForeignWhiteBox(ForeignRecognizer):
    """A foreign recognizer that shows its layers, too."""

    _made: WhiteBox

    @property
    def module(self) -> Network:
        """Its own, in what its calls run in."""
        return Adapted(self._made.module, around=self._around).seen

    @property
    def preprocessing(self) -> Preprocessing:
        """Its own."""
        return self._made.preprocessing

    def embed_reference(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Its own; see `embed`."""
        return self._checked(self._made.embed_reference, frames)

    def layers(self) -> LayerTable:
        """Its own."""
        with self._around():
            return self._made.layers()

    def capture(
        self,
        frames: UInt8[np.ndarray, "n h w 3"] | Float[Tensor, "n h w 3"],
        layers: Collection[int],
    ) -> Capture:
        """Its own."""
        with self._around():
            return self._made.capture(frames, layers)


def foreign(made: Recognizer, around: Around = nullcontext) -> ForeignRecognizer:
    """Any recognizer as a `ForeignRecognizer`; a white box stays a white box."""
    return (ForeignWhiteBox if is_white_box(made) else ForeignRecognizer)(made, around)
