"""Finding the embedding among a network's outputs.

A network may return its embedding alone, as [n, d] or [n, d, 1, 1], or among other things in a
tuple or a mapping: with its norm, with logits, with features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facefocus.core.errors import UserError
from facefocus.core.notices import notice
from facefocus.models.preprocessing import Layout

#: Where in what a network returns the embedding is; None where it is all that is returned.
Key = int | str | None


def find_embedding(output: object, count: int, wanted: Key, what: str) -> Key:
    """Where the embedding is in what a network returned for `count` images.

    Taken is the output that the user named, else the only one of floats [n, d] with d of two and
    more; a notice names it, once.

    Args:
        output: A tensor, or a tuple, list or mapping of some.
        count: Number of images.
        wanted: Place or name that the user gave.
        what: The recognizer, for messages.

    Raises:
        UserError: There is no embedding, or there are several and none was named; says which line
            to write.
    """
    outputs = dict(_outputs(output))
    shown = ", ".join(f"{_named(key)}{_shape(value)}" for key, value in outputs.items())
    fitting = {
        key: value
        for key, value in outputs.items()
        if isinstance(value, Tensor) and _fits(value, count)
    }
    if wanted is not None:
        named = dict(enumerate(outputs)) | {key: key for key in outputs}
        key = named.get(wanted, wanted)
        if key not in fitting:
            raise UserError(
                f"The 'output' of the preprocessing of '{what}' must be an embedding [n, d], for"
                f" {count} images here. Got {wanted!r} of {shown}."
            )
        return key
    if len(outputs) == 1 and fitting:
        return next(iter(fitting))
    wide = [key for key, value in fitting.items() if value.numel() > count]
    if len(wide) == 1:
        notice(f"'{what}' returns {shown}: {_named(wide[0])}is taken for the embedding.")
        return wide[0]
    remedy = "It must return embeddings [n, d]."
    if wide:
        lines = " or ".join(f"output = {_written(key)}" for key in wide)
        remedy = f"Say which is the embedding, in its preprocessing: {lines}."
    raise UserError(f"'{what}' returns {shown or 'nothing'} for {count} images. {remedy}")


def embedding_in(output: object, key: Key) -> Float[Tensor, "n d"]:
    """The embedding at `key` of what a network returned."""
    embedding: Tensor = output if key is None else output[key]  # type: ignore[assignment,index]
    return embedding if embedding.dim() == 2 else embedding.flatten(1)


#: Makes what a pass runs in.
Around = Callable[[], AbstractContextManager[object]]


class Adapted(nn.Module):
    """A network of another kind as one from images [n, C, h, w] to embeddings [n, d].

    Args:
        network: Kept as it is.
        layout: Order of the axes of its input.
        around: What each of its passes runs in.

    Attributes:
        key: Where the embedding is in what the network returns.
        flat: Whether it is [n, d] there, and not [n, d, 1, 1].
    """

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        layout: Layout = "nchw",
        around: Around = nullcontext,
    ) -> None:
        super().__init__()
        self.network = network
        self.layout, self.around = layout, around
        self.key: Key = None
        self.flat = True
        self.training = getattr(network, "training", False)

    @property
    def seen(self) -> Callable[[Tensor], Tensor]:
        """The network itself where nothing needs adapting, else this; functions stay functions."""
        usual = self.layout == "nchw" and self.around is nullcontext
        if usual and self.key is None and self.flat:
            return self.network
        return self if isinstance(self.network, nn.Module) else self.forward

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, where the network has them."""
        return embedding_in(self.outputs(images), self.key)

    def outputs(self, images: Tensor) -> Any:
        """What the network returns."""
        with self.around():
            return self.network(images.permute(0, 2, 3, 1) if self.layout == "nhwc" else images)


def not_finite(network: object) -> str | None:
    """The first weights of a network with NaN or infinite values, and how many; None if none."""
    state = network.state_dict() if isinstance(network, nn.Module) else {}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            wrong = int((~torch.isfinite(value)).sum())
            if wrong:
                return f"{wrong} of {value.numel()} values of '{name}' are NaN or infinite"
    return None


def _outputs(output: object) -> Iterator[tuple[Key, object]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, tuple | list):
        yield from enumerate(output)
    else:
        yield None, output


def _fits(value: Tensor, count: int) -> bool:
    """Whether a value is floats, one row for each image."""
    if not value.is_floating_point() or value.dim() < 2:
        return False
    return len(value) == count and max(value.shape[1:]) * count == value.numel() > 0


def _shape(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _named(key: Key) -> str:
    return "" if key is None else f"{_written(key)} "


def _written(key: Key) -> str:
    return f'"{key}"' if isinstance(key, str) else str(key)
