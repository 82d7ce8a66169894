"""The table of a recognizer's layer calls, and the names of its layers (Protocol: layers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.notices import notice
from facefocus.models.calls import (
    LayerCalls,
    Network,
    Seen,
    SeenTokens,
    as_found,
    module_names,
    refuse_script,
)
from facefocus.models.explicit_attention import ExplicitAttention
from facefocus.models.token_grids import TokenGrid, find_grid, probe_images, still_fits

#: The nine layers of the paper, counted over the spatial calls.
NAMES = ("1", "2", "3", "N/4", "N/2", "3N/4", "N-2", "N-1", "N")
#: Groups of layers whose maps are averaged; `all` is every spatial call.
GROUPS = {
    "input": ("1", "2", "3"),
    "middle": ("N/4", "N/2", "3N/4"),
    "output": ("N-2", "N-1", "N"),
}
#: Kinds of calls, and what a message calls several of one.
KINDS = {"conv": "convolutions", "norm": "layer normalizations", "attention": "attentions"}
#: Why no map can be made at a call on tokens: where each lies is not known, or they are parts.
UNPLACED = "its tokens were not placed"
PARTED = "its tokens are those of windows or of another order of axes, not of whole images"


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

    kind: ClassVar[str] = "conv"

    @property
    def note(self) -> str:
        """Why a map there cannot localize; empty where it can."""
        return "" if self.spatial else "1x1, cannot localize"

    @property
    def size(self) -> int:
        """Numbers of the raw output, per image."""
        return self.channels * self.height * self.width

    def on_grid(self, raw: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """The raw output, or its gradient, by channels and places in the image."""
        return raw


@dataclass(frozen=True)
class TokenCall:
    """One call on tokens and its raw output (Protocol: tokens).

    Attributes:
        index: Its number: token calls are counted after all convolutions, in execution order.
        name: Path of the module whose weight it used; of an attention, the last one before it.
        kind: ``norm``: tokens [n, t, d] or [n, h, w, d] after a layer normalization; ``attention``:
            the probabilities [n, heads, t, t] of self-attention, query by key.
        channels: d; of an attention heads * t: a channel for each head and query.
        tokens: t, or h * w.
        windows: How often the call's batch holds the images: 1 unless attention runs in windows.
        after: How many convolutions ran before.
        overwritten: Whether an in-place operation changes the output later in the pass.
        grid: How the tokens lie in the image; None where they cannot be placed.
        read: Places of the queries of an attention whose results reach the embedding.
        note: Why a map there cannot localize; empty where it can.
    """

    index: int
    name: str
    kind: Literal["norm", "attention"]
    channels: int
    tokens: int
    windows: int
    after: int
    overwritten: bool
    grid: TokenGrid | None = None
    read: tuple[int, ...] = ()
    note: str = ""

    @property
    def spatial(self) -> bool:
        """Whether its tokens lie on a grid, and the embedding depends on them."""
        return not self.note

    @property
    def height(self) -> int:
        """Rows of the grid, 0 without one."""
        return self.grid.height if self.grid else 0

    @property
    def width(self) -> int:
        """Columns of the grid, 0 without one."""
        return self.grid.width if self.grid else 0

    @property
    def size(self) -> int:
        """Numbers of the raw output, per image."""
        return self.windows * self.tokens * self.channels

    def on_grid(self, raw: Tensor) -> Float[Tensor, "n k h w"]:
        """The raw output, or its gradient, by channels and places in the image.

        Class and register tokens are left out; as queries of an attention they are channels.
        """
        assert self.grid is not None
        # [n, K, t], a place in the image last.
        flat = raw.flatten(1, 2) if self.kind == "attention" else raw.flatten(1, -2).mT
        chosen = flat[:, :, self.grid.patches(self.tokens)]
        return chosen.reshape(*chosen.shape[:2], self.grid.height, self.grid.width)


Call = ConvCall | TokenCall


@dataclass(frozen=True)
class LayerTable:
    """Every layer call of one forward pass.

    Attributes:
        calls: Convolutions in execution order, then calls on tokens in execution order, so that a
            network's convolutions have the same numbers whatever else it runs.
    """

    calls: tuple[Call, ...]

    @property
    def convolutions(self) -> tuple[ConvCall, ...]:
        """The convolutions, in execution order."""
        return tuple(call for call in self.calls if isinstance(call, ConvCall))

    @property
    def tokens(self) -> tuple[TokenCall, ...]:
        """The calls on tokens, in execution order."""
        return tuple(call for call in self.calls if isinstance(call, TokenCall))

    @property
    def kind(self) -> str:
        """The kind that the network mainly uses: its names count calls of it.

        ``norm`` where more than twice as many spatial calls on tokens as convolutions run, else
        ``conv``: networks of convolutions may normalize after each.
        """
        counts = {kind: len(self.of_kind(kind)) for kind in KINDS}
        return "norm" if counts["norm"] + counts["attention"] > 2 * counts["conv"] else "conv"

    @property
    def spatial(self) -> tuple[int, ...]:
        """Indices of the spatial calls of the main kind; the paper's 1..N."""
        return self.of_kind(self.kind)

    def of_kind(self, kind: str) -> tuple[int, ...]:
        """Indices of the spatial calls of a kind."""
        return tuple(call.index for call in self.calls if call.spatial and call.kind == kind)

    def number(self, seen: Seen | SeenTokens) -> int:
        """The number of a call that is seen as it executes."""
        return seen.index + (len(self.convolutions) if isinstance(seen, SeenTokens) else 0)

    def in_order(self) -> list[Call]:
        """All calls in the order in which they run."""
        return sorted(self.calls, key=_moment)

    def resolve(self, name: str) -> tuple[int, ...]:
        """Indices (1-based, ascending) of a layer name, an integer, or a group.

        An integer is a call's number; ``N`` and its fractions count spatial calls of the main
        kind, or of the kind that comes before: ``attention:N/2``.

        Raises:
            UserError: No such name, or this recognizer has too few calls for it, or no map can be
                made there.
        """
        chosen, _, own = name.rpartition(":")
        if chosen and chosen not in KINDS:
            raise UserError(
                f"The 'kind' of a layer must be one of {', '.join(KINDS)}. Got '{chosen}'."
                + did_you_mean(chosen, KINDS)
            )
        kind = chosen or self.kind
        spatial = self.of_kind(kind)
        if own == "all" and spatial:
            return spatial
        if own in GROUPS and self._has(own, kind):
            return tuple(
                sorted({self._single(member, kind) for member in self._members(own, kind)})
            )
        return (self._single(own, kind, name),)

    def names_of(self, index: int) -> list[str]:
        """Those of the nine names that mean the call `index`."""
        return [name for name in NAMES if self._position(name, self.kind) == index]

    def attention(self, method: str) -> tuple[int, ...]:
        """Indices of all spatial attention calls, for methods that use them together.

        Says so where the recognizer has others, as a Swin has in windows.

        Raises:
            UserError: There are none, or they have different tokens; says what works instead.
        """
        every = [call for call in self.tokens if call.kind == "attention"]
        placed = [call for call in every if call.spatial]
        if len({call.tokens for call in placed}) == 1:
            if left_out := [call for call in every if not call.spatial]:
                notice(
                    f"The method '{method}' uses {len(placed)} of the recognizer's {len(every)}"
                    f" attentions: at {left_out[0].name}, {left_out[0].note}."
                )
            return tuple(call.index for call in placed)
        why = f"the recognizer runs none in its {_counted(self.calls)}"
        if placed:
            grids = dict.fromkeys(f"{call.height}x{call.width}" for call in placed)
            why = f"the recognizer's have different grids of patches: {', '.join(grids)}"
        elif every:
            why = f"no map can be made at the recognizer's {len(every)}: {every[0].note}"
        raise UserError(
            f"The method '{method}' needs self-attention of the image's patches, and {why}. Use"
            " grad-cam, layer-cam, hires-cam, occlusion-gradient, s-rise or corr-rise, which need"
            " none."
        )

    def _single(self, own: str, kind: str, name: str = "") -> int:
        name = name or own
        index = self._position(own, kind)
        if index is not None:
            self._check_single(index, name)
            return index
        expected = f"Expected {', '.join(self._offered(kind))}."
        if own in (*NAMES, *GROUPS, "all") or own.isdecimal():
            raise UserError(
                f"The layer '{name}' does not exist in this recognizer of {_counted(self.calls)}, "
                f"{len(self.of_kind(kind))} of them spatial"
                + (f" {KINDS[kind]}" if kind != "conv" else "")
                + f". {expected}"
            )
        known = [layer for layer in (*NAMES, *GROUPS, "all") if self._has(layer, kind)]
        upper = own.upper()
        hint = f" Did you mean '{upper}'?" if upper in known else did_you_mean(own, known)
        raise UserError(f"The layer '{name}' is unknown. {expected}{hint}")

    def _check_single(self, index: int, name: str) -> None:
        call = self.calls[index - 1]
        if isinstance(call, TokenCall) and not call.spatial:
            raise UserError(f"No map can be made at the layer '{name}' ({call.name}): {call.note}.")
        kind, _, own = name.rpartition(":")
        if kind and kind != call.kind and own.isdecimal():
            others = ", ".join(map(str, self.of_kind(kind))) or "there are none"
            raise UserError(
                f"The layer '{own}' is of the kind {call.kind}, not {kind}. Spatial calls of the"
                f" kind {kind}: {others}."
            )

    def _offered(self, kind: str) -> list[str]:
        """What a layer can be called in this recognizer: exactly what `resolve` takes."""
        last = len(self.calls)
        integers = "1" if last == 1 else f"an integer 1..{last}"
        names = (*NAMES[3:], *GROUPS, "all")
        return [integers, *(layer for layer in names if self._has(layer, kind))]

    def _has(self, name: str, kind: str) -> bool:
        if name == "all":
            return bool(self.of_kind(kind))
        members = self._members(name, kind)
        return bool(members) and all(self._position(x, kind) is not None for x in members)

    def _members(self, name: str, kind: str) -> Sequence[str]:
        if name != "input":
            return GROUPS.get(name, (name,))
        convolutions = tuple(call.index for call in self.convolutions)
        first = (convolutions if kind == "conv" else self.of_kind(kind))[:3]
        return tuple(map(str, first)) if len(first) == 3 else ()

    def _position(self, name: str, kind: str) -> int | None:
        spatial = self.of_kind(kind)
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


def _moment(call: Call) -> tuple[int, int]:
    """Sorts calls by when they run."""
    return (call.index, 0) if isinstance(call, ConvCall) else (call.after, call.index)


def _counted(calls: Sequence[Call]) -> str:
    """``26 convolutions``; of tokens: ``3 convolutions, 9 layer normalizations, 4 attentions``."""
    counts = {kind: sum(call.kind == kind for call in calls) for kind in KINDS}
    shown = [f"{count} {KINDS[kind]}" for kind, count in counts.items() if count or kind == "conv"]
    return ", ".join(shown)


def trace_layers(network: Network, input_shape: tuple[int, int, int]) -> LayerTable:
    """The layer calls of one forward pass on zeros; where there are tokens, of another on noise.

    Args:
        network: Module, function or exported program; left exactly as found.
        input_shape: (channels, height, width) of the network's input.

    Raises:
        UserError: TorchScript, or no layer ran.
    """
    device, dtype = placement(network)
    return trace(network, torch.zeros(2, *input_shape, device=device, dtype=dtype))


@contextmanager
def _watched(
    network: Network, visit: Callable[[Seen | SeenTokens, Tensor], Tensor]
) -> Iterator[None]:
    """Show every layer call to `visit`, without gradients; the network stays as it was found."""
    # Not inference mode: its tensors keep no version, which tells whether they were overwritten.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        as_found(network),
        LayerCalls(visit),
        ExplicitAttention(),
    ):
        yield


def trace(network: Network, inputs: Float[Tensor, "n c h w"]) -> LayerTable:
    """The layer calls of one forward pass on `inputs`; see `trace_layers`."""
    refuse_script(network)
    names = module_names(network)
    calls: list[tuple[Seen | SeenTokens, Tensor, int]] = []

    def visit(seen: Seen | SeenTokens, out: Tensor) -> Tensor:
        calls.append((seen, out, out._version))
        return out

    with _watched(network, visit):
        network(inputs.clone())
    if not calls:
        raise UserError(
            "The recognizer ran no two-dimensional convolution, and no layer normalization or"
            " attention of tokens, so it has no layers."
        )
    convolutions = tuple(
        _row(seen, out, version, names) for seen, out, version in calls if isinstance(seen, Seen)
    )
    tokens = tuple(
        _token_row(seen, out, version, names, len(convolutions), len(inputs))
        for seen, out, version in calls
        if isinstance(seen, SeenTokens)
    )
    table = LayerTable((*convolutions, *tokens))
    return _placed(table, network, inputs) if tokens and not inputs.is_meta else table


def _row(seen: Seen, out: Tensor, version: int, names: Mapping[int, str]) -> ConvCall:
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


def _token_row(
    seen: SeenTokens,
    out: Tensor,
    version: int,
    names: Mapping[int, str],
    convolutions: int,
    images: int,
) -> TokenCall:
    attends = seen.kind == "attention"
    windows = len(out) // images
    tokens = out.shape[-1] if attends else out[0].numel() // out.shape[-1]
    return TokenCall(
        index=convolutions + seen.index,
        name=names.get(id(seen.weight), "attention" if attends else "layer_norm"),
        kind=seen.kind,
        channels=out.shape[1] * tokens if attends else out.shape[-1],
        tokens=tokens,
        windows=max(windows, 1),
        after=seen.convolutions,
        overwritten=out._version != version,
        note=UNPLACED if len(out) == images else PARTED,
    )


# Where tokens lie ---------------------------------------------------------------------------------


def _placed(table: LayerTable, network: Network, inputs: Tensor) -> LayerTable:
    """The table with the grids of its token calls, from their values on `probe_images`.

    Gradients, which tell what the embedding reads, need two of the images only.
    """
    from facefocus.models.capture import capture

    whole = [call for call in table.tokens if call.note == UNPLACED and call.tokens > 1]
    last = {call.tokens: call.index for call in whole if call.kind == "attention"}
    wanted = [*(call.index for call in whole if call.kind == "norm"), *last.values()]
    if not wanted:
        return table
    probes = probe_images(inputs)
    try:
        with capture(network, probes[:2], wanted, table=table, most=2) as captured:
            # Any direction but one along which a normalized embedding cannot change.
            numbers = torch.Generator().manual_seed(1)
            direction = torch.randn(captured.embeddings.shape, generator=numbers)
            pulls = captured.gradients(direction.to(captured.embeddings))
    # A network that hides its gradients has a table, too; a capture will say what is wrong.
    except UserError:
        return table
    outputs = _norms(table, network, probes)
    grids: dict[int, TokenGrid] = {}
    placed = {call.index: _with_grid(call, outputs, pulls, grids) for call in whole}
    return LayerTable(tuple(placed.get(call.index, call) for call in table.calls))


def _norms(table: LayerTable, network: Network, inputs: Tensor) -> dict[int, Tensor]:
    """The outputs of the layer normalizations of tokens, without a graph."""
    outputs: dict[int, Tensor] = {}

    def visit(seen: Seen | SeenTokens, out: Tensor) -> Tensor:
        if isinstance(seen, SeenTokens) and seen.kind == "norm":
            # A copy, should the network overwrite it.
            outputs[table.number(seen)] = out.clone()
        return out

    with _watched(network, visit):
        network(inputs)
    return outputs


def _with_grid(
    call: TokenCall,
    outputs: Mapping[int, Tensor],
    pulls: Mapping[int, Tensor],
    grids: dict[int, TokenGrid],
) -> TokenCall:
    """A call with its grid, given those met so far by their number of tokens."""
    grid = grids.get(call.tokens)
    if call.kind == "attention":
        if grid is None:
            return replace(call, note="no tokens of its number were placed before it")
        read = tuple(range(call.tokens))
        if call.index in pulls:
            read = tuple(pulls[call.index].abs().sum((0, 1, 3)).nonzero().flatten().tolist())
        return replace(call, grid=grid, read=read, note="")
    raw = outputs[call.index]
    shape = (raw.shape[1], raw.shape[2]) if raw.dim() == 4 else None
    tokens = raw.flatten(1, -2)
    if grid is None:
        grid = find_grid(tokens, shape)
    elif not still_fits(tokens, grid):
        grid = None
    if grid is None:
        grids.pop(call.tokens, None)
        return replace(call, note="its tokens lie in no order of rows and columns")
    grids[call.tokens] = grid
    with_grid = replace(call, grid=grid, note="")
    if not bool(with_grid.on_grid(pulls[call.index]).any()):
        return replace(with_grid, note="the embedding reads none of its patches")
    return with_grid


def placement(network: Network) -> tuple[torch.device, torch.dtype]:
    """Device and type of a network's first floating parameter; CPU float32 where it has none."""
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32
