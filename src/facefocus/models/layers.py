"""The table of a recognizer's convolution calls, and the names of its layers (Protocol: layers)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facefocus.core.errors import UserError, did_you_mean
from facefocus.models.calls import (
    Convolutions,
    Network,
    Seen,
    as_found,
    module_names,
    refuse_script,
)

#: The nine layers of the paper, counted over the spatial calls.
NAMES = ("1", "2", "3", "N/4", "N/2", "3N/4", "N-2", "N-1", "N")
#: Groups of layers whose maps are averaged; `all` is every spatial call.
GROUPS = {
    "input": ("1", "2", "3"),
    "middle": ("N/4", "N/2", "3N/4"),
    "output": ("N-2", "N-1", "N"),
}


@dataclass(frozen=True)
class ConvCall:
    """One convolution call and its raw output.

    Attributes:
        index: Place in execution order, from 1.
        name: Path of the module whose weight it used, or ``conv2d`` in functional code.
        channels: Channels of the output.
        height: Rows of the output.
        width: Columns of the output.
        kernel: Height and width of the kernel.
        stride: Vertical and horizontal stride.
        groups: Groups of the convolution.
        spatial: False where the output is 1x1: a map there cannot localize.
        overwritten: Whether an in-place operation changes the output later in the pass.
    """

    index: int
    name: str
    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    spatial: bool
    overwritten: bool


@dataclass(frozen=True)
class LayerTable:
    """Every convolution call of one forward pass, in execution order."""

    calls: tuple[ConvCall, ...]

    @property
    def spatial(self) -> tuple[int, ...]:
        """Indices of the spatial calls; the paper's 1..N."""
        return tuple(call.index for call in self.calls if call.spatial)

    def resolve(self, name: str) -> tuple[int, ...]:
        """Indices (1-based, ascending) of a layer name, an integer, or a group.

        An integer is a call in execution order; ``N`` and its fractions count spatial calls.

        Raises:
            UserError: No such name, or this recognizer has too few convolutions for it.
        """
        if name == "all" and self.spatial:
            return self.spatial
        if name in GROUPS and self._has(name):
            return tuple(sorted({self._single(member) for member in GROUPS[name]}))
        return (self._single(name),)

    def names_of(self, index: int) -> list[str]:
        """Those of the nine names that mean the call `index`."""
        return [name for name in NAMES if self._position(name) == index]

    def _single(self, name: str) -> int:
        index = self._position(name)
        if index is not None:
            return index
        expected = f"Expected {', '.join(self._offered())}."
        if name in (*NAMES, *GROUPS, "all") or name.isdecimal():
            raise UserError(
                f"The layer '{name}' does not exist in this recognizer of {len(self.calls)} "
                f"convolutions, {len(self.spatial)} of them spatial. {expected}"
            )
        known = [layer for layer in (*NAMES, *GROUPS, "all") if self._has(layer)]
        upper = name.upper()
        hint = f" Did you mean '{upper}'?" if upper in known else did_you_mean(name, known)
        raise UserError(f"The layer '{name}' is unknown. {expected}{hint}")

    def _offered(self) -> list[str]:
        """What a layer can be called in this recognizer: exactly what `resolve` takes."""
        last = len(self.calls)
        integers = "1" if last == 1 else f"an integer 1..{last}"
        return [integers, *(layer for layer in (*NAMES[3:], *GROUPS, "all") if self._has(layer))]

    def _has(self, name: str) -> bool:
        members = GROUPS.get(name, (name,))
        if name == "all":
            return bool(self.spatial)
        return all(self._position(member) is not None for member in members)

    def _position(self, name: str) -> int | None:
        spatial = self.spatial
        count = len(spatial)
        if name.isdecimal():
            return int(name) if 1 <= int(name) <= len(self.calls) else None
        positions = {
            "N/4": count // 4,
            "N/2": count // 2,
            "3N/4": 3 * count // 4,
            "N-2": count - 2,
            "N-1": count - 1,
            "N": count,
        }
        position = positions.get(name, 0)
        return spatial[position - 1] if position >= 1 else None


def trace_layers(network: Network, input_shape: tuple[int, int, int]) -> LayerTable:
    """The convolution calls of one forward pass on zeros.

    Args:
        network: Module, function or exported program; left exactly as found.
        input_shape: (channels, height, width) of the network's input.

    Raises:
        UserError: TorchScript, or no convolution ran.
    """
    device, dtype = placement(network)
    return trace(network, torch.zeros(2, *input_shape, device=device, dtype=dtype))


def trace(network: Network, inputs: Float[Tensor, "n c h w"]) -> LayerTable:
    """The convolution calls of one forward pass on `inputs`; see `trace_layers`."""
    refuse_script(network)
    names = module_names(network)
    calls: list[tuple[Seen, Tensor, int]] = []

    def visit(seen: Seen, out: Tensor) -> Tensor:
        calls.append((seen, out, out._version))
        return out

    # Not inference mode: its tensors keep no version, which tells whether they were overwritten.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        as_found(network),
        Convolutions(visit),
    ):
        network(inputs.clone())
    if not calls:
        raise UserError("The recognizer ran no two-dimensional convolution, so it has no layers.")
    return LayerTable(tuple(_row(seen, out, version, names) for seen, out, version in calls))


def _row(seen: Seen, out: Tensor, version: int, names: dict[int, str]) -> ConvCall:
    channels, height, width = out.shape[1:]
    return ConvCall(
        index=seen.index,
        name=names.get(id(seen.weight), "conv2d"),
        channels=channels,
        height=height,
        width=width,
        kernel=seen.kernel,
        stride=seen.stride,
        groups=seen.groups,
        spatial=height * width > 1,
        overwritten=out._version != version,
    )


def placement(network: Network) -> tuple[torch.device, torch.dtype]:
    """Device and type of a network's first floating parameter; CPU float32 where it has none."""
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32
