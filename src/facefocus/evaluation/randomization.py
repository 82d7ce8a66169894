"""Sanity checks (Protocol: sanity-checks): randomized networks, and impostors under occlusion.

A map that stays the same when the network's weights are destroyed does not depend on what the
network has learned (Adebayo et al., 2018). And hiding should not make strangers look alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.overrides import TorchFunctionMode

from facefocus.core.errors import UserError
from facefocus.core.progress import Progress, silent
from facefocus.core.seeds import generator
from facefocus.faces.faceset import Identity
from facefocus.models.calls import as_found
from facefocus.models.layers import placement
from facefocus.models.recognizer import TorchRecognizer
from facefocus.saliency.identity import cam_identity_maps
from facefocus.saliency.streams import CamConfig

#: Shares of the weight layers that the randomization test destroys in turn.
SHARES = (0.05, 0.25, 0.5, 0.75, 1.0)


# Randomized networks ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RankCorrelations:
    """Rank correlation of two sets of maps.

    Attributes:
        values: Spearman's rho of each identity; NaN where a map is degenerate.
        degenerate: How many are NaN.
        mean: Mean of the others; None where there are none.
    """

    values: Float[np.ndarray, " i"]
    degenerate: int
    mean: float | None


@dataclass(frozen=True, eq=False)
class Randomization:
    """One depth of the randomization test of one configuration.

    Attributes:
        share: Share of the weight layers that was destroyed, from the embedding down.
        layers: Their number.
        correlations: Maps of the destroyed network against those of the intact one.
    """

    config: CamConfig
    share: float
    layers: int
    correlations: RankCorrelations


def weight_layers(recognizer: TorchRecognizer) -> list[tuple[str, ...]]:
    """Parameter names of every convolution and linear layer, in the order in which they run.

    A layer is any torch call with a parameter of two or more dimensions; all parameters of the
    call belong to it. A weight that is used several times counts where it is used last.

    Raises:
        UserError: The recognizer is no ``nn.Module`` or uses no weights.
    """
    module = _module(recognizer)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    layers: dict[tuple[str, ...], None] = {}

    def visit(parameters: list[nn.Parameter]) -> None:
        # Parameters of no name belong to nobody that could be copied.
        layer = tuple(names[id(parameter)] for parameter in parameters if id(parameter) in names)
        if any(parameter.dim() > 1 for parameter in parameters) and layer:
            layers.pop(layer, None)
            layers[layer] = None

    device, dtype = placement(module)
    channels = 1 if recognizer.preprocessing.channels == "gray" else 3
    inputs = torch.zeros(2, channels, *recognizer.preprocessing.size, device=device, dtype=dtype)
    with torch.no_grad(), as_found(module), _ParameterCalls(visit):
        module(inputs)
    if not layers:
        raise UserError(f"The recognizer '{recognizer.name}' ran no layer with weights.")
    return list(layers)


def randomized(recognizer: TorchRecognizer, share: float, *, seed: int) -> TorchRecognizer:
    """A copy with permuted weights in its last layers (Adebayo et al., 2018, cascading).

    The entries of each weight and bias are permuted: their distribution stays, so activations keep
    their scale. Batch norms and activations stay as they are. A layer is permuted alike at every
    depth that includes it. The original is not touched.

    Args:
        recognizer: The trained one.
        share: Share of the weight layers, rounded up, counted from the embedding down; 0 is a
            mere copy, 1 destroys all.
        seed: The experiment's seed.

    Raises:
        UserError: `share` is outside [0, 1], or as `weight_layers`.
    """
    chosen = _last_layers(recognizer, share)
    module = copy.deepcopy(_module(recognizer))
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name in dict.fromkeys(name for layer in chosen for name in layer):
            values = parameters[name]
            order = generator(seed, "randomized", name).permutation(values.numel())
            indices = torch.from_numpy(order).to(values.device)
            values.copy_(values.flatten()[indices].reshape(values.shape))
    return TorchRecognizer(
        f"{recognizer.name}, {share:.0%} randomized",
        module,
        recognizer.preprocessing,
        identity=f"{recognizer.fingerprint} randomized",
    )


def randomization_test(
    recognizer: TorchRecognizer,
    frames: np.ndarray,
    identities: Sequence[Identity],
    configs: Sequence[CamConfig],
    *,
    shares: Sequence[float] = SHARES,
    max_pairs: int | None,
    seed: int,
    progress: Progress = silent,
) -> list[Randomization]:
    """Maps of increasingly randomized networks against those of the intact one.

    Args:
        recognizer: The trained one.
        frames: All frames, uint8 [n, H, W, 3]; may be memory-mapped.
        identities: Whose maps, by rows of `frames`.
        configs: What to compute (see `cam_identity_maps`).
        shares: Depths; see `randomized`.
        max_pairs: At most so many ordered pairs of each identity, or None for all.
        seed: The experiment's seed: which pairs, and how weights are permuted.
        progress: Called with networks done and in total.

    Raises:
        UserError: As `randomized` and `cam_identity_maps`.
    """

    def maps(network: TorchRecognizer) -> Mapping[CamConfig, np.ndarray]:
        made = cam_identity_maps(
            network, frames, identities, configs, max_pairs=max_pairs, seed=seed
        )
        return {config: identity_maps.maps for config, identity_maps in made.items()}

    depths = [len(_last_layers(recognizer, share)) for share in shares]
    intact = maps(recognizer)
    progress("networks", 1, len(shares) + 1)
    results = []
    for number, (share, layers) in enumerate(zip(shares, depths, strict=True), start=2):
        destroyed = maps(randomized(recognizer, share, seed=seed))
        for config in configs:
            alike = map_rank_correlation(intact[config], destroyed[config])
            results.append(Randomization(config, share, layers, alike))
        progress("networks", number, len(shares) + 1)
    return results


def map_rank_correlation(
    maps_a: Float[np.ndarray, "i h w"], maps_b: Float[np.ndarray, "i h w"]
) -> RankCorrelations:
    """Spearman's rho over the pixels of each pair of maps, ties at their average rank."""
    values = np.array(
        [_rho(a.ravel(), b.ravel()) for a, b in zip(maps_a, maps_b, strict=True)], dtype=np.float64
    )
    usable = values[~np.isnan(values)]
    mean = math.fsum(usable) / len(usable) if len(usable) else None
    return RankCorrelations(values, len(values) - len(usable), mean)


def _rho(a: np.ndarray, b: np.ndarray) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    # Ranks less their mean are multiples of a half: the sums of products are exact.
    middle = (len(a) + 1) / 2
    x, y = scipy.stats.rankdata(a) - middle, scipy.stats.rankdata(b) - middle
    spread = float((x * x).sum()) * float((y * y).sum())
    return float((x * y).sum()) / math.sqrt(spread) if spread > 0 else math.nan


class _ParameterCalls(TorchFunctionMode):
    """Calls `visit` with the parameters that a torch call is given directly, if any."""

    def __init__(self, visit: Callable[[list[nn.Parameter]], None]) -> None:
        super().__init__()
        self._visit = visit

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Look at the arguments, and run the call."""
        given = (*args, *(kwargs or {}).values())
        parameters = [value for value in given if isinstance(value, nn.Parameter)]
        # Reading an attribute (`weight.device`) is a call too, but computes nothing.
        if parameters and getattr(func, "__name__", "") not in ("__get__", "__set__"):
            with torch._C.DisableTorchFunction():
                self._visit(parameters)
        return func(*args, **(kwargs or {}))


def _module(recognizer: TorchRecognizer) -> nn.Module:
    if not isinstance(recognizer.module, nn.Module):
        raise UserError(
            f"The recognizer '{recognizer.name}' is no torch module, so its weights cannot be"
            " randomized."
        )
    return recognizer.module


def _last_layers(recognizer: TorchRecognizer, share: float) -> list[tuple[str, ...]]:
    if not 0 <= share <= 1:
        percent = f" Did you mean {share / 100:g}?" if 1 < share <= 100 else ""
        raise UserError(
            f"The share of layers to randomize must be in [0, 1]. Got {share:g}.{percent}"
        )
    layers = weight_layers(recognizer)
    return layers[len(layers) - math.ceil(share * len(layers)) :]


# Impostors ----------------------------------------------------------------------------------------


def impostor_pairs(people: Sequence[Identity], count: int, *, seed: int) -> Int[np.ndarray, "p 2"]:
    """Seeded non-mated pairs (probe row, reference row), person by person.

    Every person is the probe equally often, give or take one; each pair of an own photo and
    another person's is equally likely, and none comes twice. Where a person has too few, all of
    them are taken.
    """
    quotas = np.full(len(people), count // max(len(people), 1))
    extra = generator(seed, "impostors").permutation(len(people))[: count - int(quotas.sum())]
    quotas[extra] += 1
    parts = [np.empty((0, 2), np.int64), *_drawn_pairs(people, quotas, seed)]
    return np.concatenate(parts)


def _drawn_pairs(
    people: Sequence[Identity], quotas: Int[np.ndarray, " i"], seed: int
) -> Iterator[Int[np.ndarray, "p 2"]]:
    everybody = np.concatenate([np.empty(0, np.int64), *(person.rows for person in people)])
    start = 0
    for person, quota in zip(people, quotas, strict=True):
        count = len(everybody) - len(person.rows)
        available = len(person.rows) * count
        rng = generator(seed, "impostors", person.name)
        drawn = rng.choice(available, min(int(quota), available), replace=False)
        own, other = np.divmod(drawn, max(count, 1))
        # The other people's rows are all but the person's own, which lie together.
        other += len(person.rows) * (other >= start)
        yield np.stack([person.rows[own], everybody[other]], axis=1)
        start += len(person.rows)
