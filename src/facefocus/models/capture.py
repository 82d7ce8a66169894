"""One forward pass whose graph serves many gradients at chosen layer outputs.

The first captured output begins the graph, so nothing before the earliest layer is recorded and
every backward pass stops there by itself. No hook is set; the network is left as it was found,
also after an error.
"""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType

import torch
from jaxtyping import Float
from torch import Tensor

from facefocus.core.errors import UserError
from facefocus.models.calls import (
    ENOUGH,
    LayerCalls,
    Network,
    Seen,
    SeenTokens,
    as_found,
    filled,
    refuse_script,
)
from facefocus.models.explicit_attention import ExplicitAttention
from facefocus.models.layers import LayerTable, trace
from facefocus.models.replaced_operations import ReplacedOperations
from facefocus.models.reproducible import reproducible


class Capture:
    """Embeddings and layer outputs of one forward pass, with the graph between them.

    Attributes:
        embeddings: [n, d], not normalized, without a graph.
        activations: Raw output of each captured call by its number, without a graph: [n, K, h, w]
            of a convolution; of calls on tokens see `layers.TokenCall`, whose `on_grid` gives
            them that form.
    """

    def __init__(
        self,
        embeddings: Float[Tensor, "m d"],
        outputs: dict[int, Tensor],
        count: int,
    ) -> None:
        self.embeddings = embeddings.detach()[:count]
        self.activations = {index: out.detach()[:count] for index, out in outputs.items()}
        self._graph: tuple[Tensor, dict[int, Tensor]] | None = (embeddings, outputs)

    def gradients(self, directions: Float[Tensor, "n d"]) -> dict[int, Tensor]:
        """Vector-Jacobian product of the embeddings with `directions`, at every captured layer.

        Row i is the gradient of ``embeddings[i] . directions[i]`` with respect to the layer's
        output for image i. May be called many times.

        Raises:
            UserError: The capture is closed, or `directions` has another shape.
        """
        if self._graph is None:
            raise UserError("The capture is closed; its gradients are gone.")
        embeddings, outputs = self._graph
        count = len(self.embeddings)
        if directions.shape != self.embeddings.shape:
            raise UserError(
                f"The directions must have the embeddings' shape {tuple(self.embeddings.shape)}. "
                f"Got {tuple(directions.shape)}."
            )
        padded = embeddings.new_zeros(embeddings.shape)
        padded[:count] = directions
        # A layer that the embedding does not depend on has gradient zero: a degenerate map.
        with reproducible(embeddings.device):
            grads = torch.autograd.grad(
                outputs=embeddings,
                inputs=list(outputs.values()),
                grad_outputs=padded,
                retain_graph=True,
                materialize_grads=True,
            )
        return {index: grad[:count] for index, grad in zip(outputs, grads, strict=True)}

    def close(self) -> None:
        """Free the graph; embeddings and activations stay."""
        self._graph = None

    def __enter__(self) -> Capture:
        """Use as a context manager, so that the graph is freed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the graph."""
        self.close()


def capture(
    network: Network,
    inputs: Float[Tensor, "n c h w"],
    layers: Collection[int],
    *,
    table: LayerTable | None = None,
    most: int = ENOUGH,
) -> Capture:
    """Run `network` on `inputs` once and keep the chosen layer outputs.

    Few images are filled up with zeros (see `calls.filled`; on a GPU to `most`), so that the values
    of an image do not depend on its company.

    Args:
        network: Module, function or exported program; evaluated, and left exactly as found.
        inputs: Preprocessed images.
        layers: Numbers of layer calls, from 1.
        table: The network's layers, if known; else one more forward pass finds them.
        most: Up to how many images a few are filled up.

    Raises:
        UserError: No such layer, TorchScript, or embeddings that are not [n, d] or that do not
            depend on the layers.
    """
    refuse_script(network)
    table = table or trace(network, inputs.new_zeros(2, *inputs.shape[1:]))
    wanted = _wanted(layers, table)
    overwritten = {call.index for call in table.calls if call.overwritten}
    with torch.inference_mode(False):
        padded = _padded(inputs, most)
    outputs: dict[int, Tensor] = {}
    versions: dict[int, int] = {}

    def visit(seen: Seen | SeenTokens, out: Tensor) -> Tensor:
        index = table.number(seen)
        if index not in wanted:
            return out
        kept = out if out.requires_grad and outputs else out.detach().requires_grad_()
        outputs[index], versions[index] = kept, kept._version
        # The network may only overwrite a copy: of what was captured, and never a leaf.
        return kept.clone() if index in overwritten else kept

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        as_found(network),
        LayerCalls(visit),
        ReplacedOperations(),
        ExplicitAttention(),
        reproducible(padded.device),
    ):
        embeddings = network(padded)
    _check_embeddings(embeddings, len(padded))
    for index in sorted(wanted):
        _check_output(index, outputs, versions, len(padded))
    ordered = {index: outputs[index] for index in sorted(outputs)}
    return Capture(embeddings, ordered, len(inputs))


def _wanted(layers: Collection[int], table: LayerTable) -> set[int]:
    last = len(table.calls)
    wrong = sorted(index for index in layers if not 1 <= index <= last)
    if wrong:
        raise UserError(f"The layers to capture must be in 1..{last}. Got {wrong[0]}.")
    if not layers:
        raise UserError(f"The layers to capture must be some of 1..{last}. Got none.")
    return set(layers)


def _padded(inputs: Tensor, most: int) -> Tensor:
    # Always a copy: a network may overwrite its input, and a tensor made in inference mode cannot
    # take part in a graph.
    inputs = inputs.detach().clone()
    # The kernels of a GPU, and so its last bits, depend on how many images there are.
    enough = filled(len(inputs)) if inputs.device.type == "cpu" else most
    missing = min(enough, most) - len(inputs)
    if missing <= 0:
        return inputs
    # Same strides for the filler: another memory format would run other kernels.
    return torch.cat([inputs, *[torch.zeros_like(inputs[:1])] * missing])


def _check_embeddings(embeddings: object, count: int) -> None:
    if not isinstance(embeddings, Tensor) or embeddings.dim() != 2 or len(embeddings) != count:
        got = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings)
        raise UserError(
            f"The recognizer must return embeddings [n, d], n = {count} here. Got {got}."
        )
    if not embeddings.requires_grad:
        raise UserError(
            "The embeddings do not depend on the captured layers: the recognizer turns gradients "
            "off (no_grad or inference_mode) or does not use those layers."
        )


def _check_output(
    index: int, outputs: dict[int, Tensor], versions: dict[int, int], count: int
) -> None:
    if index not in outputs:
        raise UserError(f"The layer call {index} did not run for this input.")
    if len(outputs[index]) != count:
        raise UserError(
            f"The layer call {index} ran on a batch of {len(outputs[index])} for "
            f"{count} images, so its output cannot be divided by image."
        )
    if outputs[index]._version != versions[index]:
        raise UserError(
            f"The output of layer call {index} was overwritten in place, but not when the "
            "layers were traced: the recognizer's calls change from one pass to the next."
        )
