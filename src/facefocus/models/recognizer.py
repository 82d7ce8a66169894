"""The recognizer protocols, and the recognizer that runs on torch.

A black box only embeds. A white box also shows its layers, so gradients and activations of
its layers can be had.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from inspect import getattr_static
from typing import Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.models.calls import ENOUGH, Network, as_found
from facefocus.models.capture import Capture
from facefocus.models.capture import capture as capture_network
from facefocus.models.explicit_attention import ExplicitAttention
from facefocus.models.layers import LayerTable, placement, trace_layers
from facefocus.models.memory import TOO_LITTLE, out_of_memory
from facefocus.models.occluded_frames import sent
from facefocus.models.outputs import Adapted, Around, embedding_in, find_embedding, not_finite
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.probe import probe_code, probe_frames
from facefocus.models.reproducible import reproducible
from facefocus.models.score_only import ScoreRecognizer, refused

T = TypeVar("T")

#: Every forward pass without gradients runs on exactly this many images (on a GPU, on so many that
#: it is busy), the last ones padded: embeddings are then bit-identical however frames are grouped.
#: Fewer run only where they were seen to give the same bits: see `images_of_pass`.
CHUNK = ENOUGH
#: Batches of preprocessed images, channels last, to their embeddings, in order.
Forward = Callable[[Iterable[Tensor]], Iterator[Tensor]]
#: Whether a smaller batch gives the same bits as a full one.
Allows = Callable[[int], bool]
#: ``make(start, stop)``: these of the frames to be embedded, uint8 [stop - start, h, w, 3], on any
#: device.
MakeFrames = Callable[[int, int], Tensor]
#: Batches whose embeddings are brought from the device together.
BLOCK = 16
#: Of so many frames, one image may only fill up a batch: 5 %.
FILLED = 20


@runtime_checkable
class Recognizer(Protocol):
    """Anything that embeds frames."""

    @property
    def name(self) -> str:
        """Short name, unique in an experiment."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of everything that determines the embeddings."""
        ...

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings, not normalized, of RGB frames."""
        ...


@runtime_checkable
class WhiteBox(Recognizer, Protocol):
    """A recognizer whose layers can be seen."""

    @property
    def module(self) -> Network:
        """Preprocessed images [n, C, h, w] to embeddings [n, d]; differentiable."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames become the module's input."""
        ...

    def embed_reference(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings by the module itself, whatever else may embed faster."""
        ...

    def layers(self) -> LayerTable:
        """Every layer call of a forward pass."""
        ...

    def capture(
        self,
        frames: UInt8[np.ndarray, "n h w 3"] | Float[Tensor, "n h w 3"],
        layers: Collection[int],
    ) -> Capture:
        """Embeddings and layer outputs with the graph between them."""
        ...


def is_recognizer(made: object) -> TypeGuard[Recognizer]:
    """Whether an object has what a `Recognizer` has. Nothing of it is evaluated."""
    return not isinstance(made, type) and _has(made, ("name", "fingerprint", "embed"))


def is_white_box(made: object) -> TypeGuard[WhiteBox]:
    """Whether a recognizer has what a `WhiteBox` has besides. Nothing of it is evaluated."""
    shown = ("module", "preprocessing", "embed_reference", "layers", "capture")
    return is_recognizer(made) and _has(made, shown)


def _has(made: object, names: Iterable[str]) -> bool:
    # `hasattr` would evaluate properties, and a fingerprint takes a forward pass.
    return all(getattr_static(made, name, None) is not None for name in names)


def white_box(recognizer: Recognizer, purpose: str) -> WhiteBox:
    """The recognizer as a white box.

    Args:
        recognizer: Any recognizer.
        purpose: What needs gradients, for the message: ``"the method 'gradcam'"``.

    Raises:
        UserError: It only embeds.
    """
    if is_white_box(recognizer):
        return recognizer
    if isinstance(recognizer, ScoreRecognizer):
        raise refused(recognizer.name)
    raise UserError(
        f"The recognizer '{recognizer.name}' is a black box: it gives embeddings only, while "
        f"{purpose} needs its activations and gradients. Use a method that needs embeddings only "
        "(s-rise, corr-rise), or a recognizer in torch."
    )


class TorchRecognizer:
    """A white box around a torch network.

    Args:
        name: Short name, unique in an experiment.
        module: Preprocessed images to raw embeddings [n, d]; never changed.
        preprocessing: How frames become its input.
        identity: Text that, with the weights and the preprocessing, determines the embeddings:
            architecture and options, or a hash of the code.
        around: What each pass of the network runs in.
    """

    def __init__(
        self,
        name: str,
        module: Network,
        preprocessing: Preprocessing,
        *,
        identity: str,
        around: Around = nullcontext,
    ) -> None:
        self.name = name
        # Compiled modules hide their convolutions, and compute the same without.
        network = getattr(module, "_orig_mod", module)
        self._adapted = (
            network
            if isinstance(network, Adapted)
            else Adapted(network, preprocessing.layout, around)
        )
        self.preprocessing = preprocessing
        #: Runs inference without gradients, batch by batch; may be replaced by a faster function
        #: of equal results.
        self.forward: Forward = self._eager
        #: Images of a pass, and of one that keeps its graph.
        self.batch = self.graph_batch = CHUNK
        #: Whether these are halved for good where memory does not suffice. Where what comes of a
        #: pass is stored, they are part of its key and stay.
        self.halves = True
        #: Images that went through passes without gradients, and how many of them only filled up
        #: a batch: at most one in `FILLED` of what is embedded together, where `forward` allows it.
        self.passes = self.padded = 0
        #: What `forward` runs on, for provenance; set together with it.
        self.precision = f"torch {torch.__version__} {placement(module)[1]}".replace("torch.", "")
        self._identity = identity
        self._code: str | None = None

    @property
    def module(self) -> Network:
        """Preprocessed images [n, C, h, w] to embeddings [n, d]; differentiable."""
        return self._adapted.seen

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of identity, preprocessing, weights and the code of `models.probe`.

        Raises:
            UserError: As `look`.
        """
        if self._code is None:
            self.look()
        digest = hashlib.sha256(f"{self._identity}\n{self.preprocessing.canonical}\n".encode())
        network = self._adapted.network
        state = network.state_dict() if isinstance(network, nn.Module) else {}
        for key in sorted(state):
            value = state[key]
            if isinstance(value, Tensor) and not key.endswith("num_batches_tracked"):
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
                # As bytes: numpy has no bfloat16.
                plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(plain.numpy().tobytes())
        digest.update(f"{self._code}\n".encode())
        return digest.hexdigest()

    def identify(self, text: str) -> None:
        """Add to what the fingerprint is made of."""
        self._identity += f"\n{text}"
        self.__dict__.pop("fingerprint", None)

    def run_in(self, around: Around) -> None:
        """Run each pass of the network inside the context that `around` makes."""
        self._adapted.around = around

    def look(self) -> None:
        """Embed the frames of `models.probe`: finds the embedding in what the network returns.

        Raises:
            UserError: It returns none, several of which none was named, or one that is not
                finite; says what to do.
        """
        frames, reader = probe_frames(), self.preprocessing
        with torch.inference_mode(False), torch.no_grad(), as_found(self.module):
            inputs = self._inputs(torch.from_numpy(frames))
            with reproducible(inputs.device):
                output = self._adapted.outputs(inputs)
        key = find_embedding(output, len(frames), reader.output, self.name)
        embeddings = embedding_in(output, key)
        self._adapted.key, self._adapted.flat = key, embeddings is output
        if not embeddings.isfinite().all():
            cause = not_finite(self._adapted.network) or (
                "all weights are finite, so its preprocessing must be wrong, or numbers grow too"
                " large on the way"
            )
            raise UserError(f"The embeddings of '{self.name}' are not finite: {cause}.")
        # In half precision, signs would differ from one machine to the next.
        exact = placement(self.module)[1] in (torch.float32, torch.float64)
        self._code = probe_code(embeddings.double().cpu().numpy()) if exact else "inexact"

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw embeddings, not normalized, of RGB frames.

        Raises:
            UserError: `frames` are not uint8 RGB, or an embedding is not finite.
        """
        return self._embed(frames, self.forward)

    def embed_made(self, count: int, make: MakeFrames) -> Iterator[Float32[np.ndarray, "b d"]]:
        """The same of `count` frames that are made batch by batch, in full batches.

        On a GPU, embeddings stay there until a block of `BLOCK` batches is done, and the next block
        is on its way while the caller works on one.

        Raises:
            UserError: An embedding is not finite.
        """
        return self._blocks(count, make, self.forward)

    def embed_reference(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """The same by the module itself, whatever `forward` runs on: maps rest on these.

        On a GPU in as many images at once as captures have, which gives them the same bits.

        Raises:
            UserError: As `embed`.
        """
        if self.device.type == "cpu":
            return self._embed(frames, self._eager)
        batch, self.batch = self.batch, self.graph_batch
        try:
            return self._embed(frames, self._eager)
        finally:
            self.batch = batch

    def _embed(
        self, frames: UInt8[np.ndarray, "n h w 3"], forward: Forward
    ) -> Float32[np.ndarray, "n d"]:
        check_frames(frames)
        count, given = len(frames), frames
        if not count:  # a pass tells the embedding's length
            given = np.zeros((1, *frames.shape[1:]), np.uint8)
        return np.concatenate(list(self._blocks(len(given), made_of(given), forward)))[:count]

    def _blocks(self, count: int, make: MakeFrames, forward: Forward) -> Iterator[np.ndarray]:
        def blocks() -> Iterator[Tensor]:
            start = 0
            while start < count:
                stop = min(start + BLOCK * self.batch, count)
                yield self._block(start, stop, make, forward, count // FILLED)
                start = stop

        return map(self._brought, in_flight(blocks(), int(self.device.type == "cuda")))

    def _block(
        self, start: int, stop: int, make: MakeFrames, forward: Forward, spare: int
    ) -> Tensor:
        """Embeddings of some frames, where the network is; `spare` images may fill up a batch."""
        parts: list[Tensor] = []
        done, allows = start, allowed_by(forward)
        with torch.inference_mode():
            while done < stop:
                try:
                    size = images_of_pass(stop - done, self.batch, spare, allows)
                    some = max((stop - done) // size * size, size)
                    for part in forward(self._batches(done, min(done + some, stop), make, size)):
                        parts.append(part.float())
                        done += len(part)
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error) or self.batch == 1 or not self.halves:
                        raise
                    self.batch //= 2
            return torch.cat(parts)[: stop - start]

    def _brought(self, embeddings: Tensor) -> Float32[np.ndarray, "b d"]:
        array: np.ndarray = embeddings.cpu().numpy()
        check_finite(array, self.name)
        return array

    def batches(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Iterator[Tensor]:
        """What `forward` is given for `frames`: preprocessed, channels last, the last padded."""
        return self._batches(0, len(frames), made_of(frames), self.batch)

    def _batches(self, start: int, stop: int, make: MakeFrames, size: int) -> Iterator[Tensor]:
        for first in range(start, stop, size):
            frames = make(first, min(first + size, stop))
            missing = size - len(frames)
            self.passes += size
            self.padded += missing
            if missing:
                # Never with black ones: a backend that is compared with torch is judged on real
                # frames.
                frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
            yield self._inputs(frames)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return placement(self.module)[0]

    def layers(self) -> LayerTable:
        """Every layer call of a forward pass; found once."""
        return self._layers

    def capture(
        self,
        frames: UInt8[np.ndarray, "n h w 3"] | Float[Tensor, "n h w 3"],
        layers: Collection[int],
    ) -> Capture:
        """Run `frames` (0-255) once and keep the outputs of the layer calls `layers`.

        Raises:
            UserError: No such layer; see `facefocus.models.capture.capture`.
        """
        # Copied, because memory-mapped frames are read-only and torch warns of such arrays.
        given = torch.from_numpy(np.array(frames)) if isinstance(frames, np.ndarray) else frames
        with torch.no_grad():
            inputs = self._inputs(given)
        table, most = self._layers, self.graph_batch
        return capture_network(self.module, inputs, layers, table=table, most=most)

    @cached_property
    def _layers(self) -> LayerTable:
        channels = 1 if self.preprocessing.channels == "gray" else 3
        return trace_layers(self.module, (channels, *self.preprocessing.size))

    def _inputs(self, frames: Tensor) -> Tensor:
        device, dtype = placement(self.module)
        with reproducible(device):
            inputs = self.preprocessing(sent(frames, device)).to(dtype)
        return inputs.contiguous(memory_format=torch.channels_last)

    def _eager(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for inputs in batches:
            with as_found(self.module), ExplicitAttention(), reproducible(inputs.device):
                part = self.module(inputs)
            yield part


def in_flight(begun: Iterable[T], ahead: int) -> Iterator[T]:
    """Each of what is begun on a device, after so many more were begun.

    Example:
        >>> list(in_flight(map(print, "ab"), 1))
        a
        b
        [None, None]
    """
    waiting: deque[T] = deque()
    for result in begun:
        waiting.append(result)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def images_of_pass(left: int, batch: int, spare: int, allows: Allows) -> int:
    """Images of the next pass: a full batch, or for what is left a half, a quarter, ... of it.

    The largest of which at most `spare` images only fill it up; where not all of these are allowed,
    the least that is.

    Example:
        >>> images_of_pass(300, 256, 15, lambda size: True)
        256
        >>> images_of_pass(44, 256, 15, lambda size: True)
        32
        >>> images_of_pass(12, 256, 15, lambda size: size >= 64)
        64
    """
    size = batch
    while size - left > spare and size > 1 and allows(size // 2):
        size //= 2
    return size


def allowed_by(forward: Forward) -> Allows:
    """What a function `allows` of smaller batches; one that says nothing is given full ones."""
    allows: Allows = getattr(forward, "allows", lambda size: False)
    return allows


def made_of(frames: UInt8[np.ndarray, "n h w 3"]) -> MakeFrames:
    """Frames that are there."""
    # Copied, because memory-mapped frames are read-only and torch warns of such arrays.
    return lambda start, stop: torch.from_numpy(np.array(frames[start:stop]))


def in_parts(lengths: Sequence[int], part: Callable[[int], Tensor]) -> MakeFrames:
    """Frames that come in parts of known lengths; one that lies across batches is made once.

    Example:
        >>> parts = [torch.full((length, 1, 1, 3), length) for length in (2, 3)]
        >>> in_parts([2, 3], parts.__getitem__)(1, 4).flatten(1)[:, 0].tolist()
        [2, 3, 3]
    """
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    last: tuple[int, Tensor] = -1, torch.empty(0)

    def make(start: int, stop: int) -> Tensor:
        nonlocal last
        begin, end = np.searchsorted(bounds, [start, stop - 1], side="right") - 1
        pieces = []
        for number in range(begin, end + 1):
            if last[0] != number:
                last = number, part(number)
            pieces.append(last[1][max(start - bounds[number], 0) : stop - bounds[number]])
        return torch.cat(pieces)

    return make


def embed_made(
    recognizer: Recognizer, count: int, make: MakeFrames
) -> Iterator[Float32[np.ndarray, "b d"]]:
    """`TorchRecognizer.embed_made` of any recognizer: a black box is given frames block by block.

    Raises:
        UserError: An embedding is not finite.
    """
    if isinstance(recognizer, TorchRecognizer):
        yield from recognizer.embed_made(count, make)
        return
    for start in range(0, count, BLOCK * CHUNK):
        yield recognizer.embed(make(start, min(start + BLOCK * CHUNK, count)).cpu().numpy())


def device_of(recognizer: Recognizer) -> torch.device:
    """Where frames for a recognizer are best made: a black box takes them from the processor."""
    return recognizer.device if isinstance(recognizer, TorchRecognizer) else torch.device("cpu")


def hold_batches(recognizer: Recognizer) -> None:
    """Let a recognizer keep its batches where memory does not suffice, and raise instead."""
    if isinstance(recognizer, TorchRecognizer):
        recognizer.halves = False


@contextmanager
def held_batches(recognizer: Recognizer) -> Iterator[None]:
    """Context in which a recognizer keeps its batches: see `hold_batches`."""
    before = getattr(recognizer, "halves", True)
    hold_batches(recognizer)
    try:
        yield
    finally:
        if isinstance(recognizer, TorchRecognizer):
            recognizer.halves = before


def halve(recognizer: Recognizer) -> None:
    """Let a recognizer embed half as many images at once from now on.

    Raises:
        UserError: Its batch cannot be smaller.
    """
    if not isinstance(recognizer, TorchRecognizer) or recognizer.batch < 2:
        raise UserError(TOO_LITTLE)
    recognizer.batch //= 2


def check_frames(frames: np.ndarray) -> None:
    """Raise unless `frames` are RGB uint8 [n, h, w, 3].

    Raises:
        UserError: Says what was given instead.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise UserError(
            f"The frames must be uint8 RGB [n, height, width, 3]. Got {frames.dtype} "
            f"{list(frames.shape)}."
        )


def check_finite(embeddings: Float32[np.ndarray, "n d"], name: str) -> None:
    """Raise if any embedding holds a value that is not finite.

    Raises:
        UserError: Names the recognizer and counts the frames.
    """
    wrong = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if wrong:
        raise UserError(
            f"The recognizer '{name}' gave embeddings that are not finite for {wrong} of "
            f"{len(embeddings)} frames. Its weights or preprocessing must be wrong."
        )


def chunks(frames: UInt8[np.ndarray, "n h w 3"], size: int) -> Iterator[np.ndarray]:
    """Copies of `size` frames each, the last filled up with copies of its last frame.

    Never with black ones: a backend that is compared with torch is judged on real frames. One
    chunk, of black frames, also for no frames: the forward pass tells the embedding's length.
    """
    for start in range(0, max(len(frames), 1), size):
        part = frames[start : start + size]
        chunk = np.zeros((size, *frames.shape[1:]), dtype=np.uint8)
        chunk[: len(part)] = part
        chunk[len(part) :] = part[-1:] if len(part) else 0
        yield chunk
