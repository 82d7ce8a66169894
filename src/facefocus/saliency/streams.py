"""Which averages a set of configurations needs, and what they share.

A *stream* is the average of pair maps of one layer, method and objective. Configurations share
streams (a layer alone and in a group), streams share gradients (objectives of one family), and
maps where the method does not see the gradient's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facefocus.core.errors import UserError
from facefocus.models.layers import LayerTable
from facefocus.saliency.methods import METHODS, GradientMethod
from facefocus.saliency.objectives import Evidence, Objective, parse_objective


@dataclass(frozen=True)
class CamConfig:
    """One choice of method, layer and objective; hashable.

    Attributes:
        method: Name of a gradient method: ``"grad-cam"``, ``"grad-cam++"``, ``"layer-cam"``.
        layer: A layer or group of layers: ``"N"``, ``"3"``, ``"middle"`` (Protocol: layers).
        objective: ``"cosine"``, ``"l1"``, ``"l2"`` or ``"arcface(m)"``.
        options: The method's options by name, e.g. ``(("variant", "epsilon"),)``.
        evidence: ``"negative"`` explains what lowers the objective.
        normalize: Whether l1 and l2 compare normalized embeddings.
        arcface_scale: The factor s of arcface.
    """

    method: str
    layer: str
    objective: str = "cosine"
    options: tuple[tuple[str, str], ...] = ()
    evidence: Evidence = "positive"
    normalize: bool = True
    arcface_scale: float = 1.0


@dataclass(frozen=True)
class Cam:
    """A gradient method with all its options."""

    method: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Goal:
    """What tells one objective's gradients from another's."""

    name: str
    family: str
    sign: float
    arcface_scale: float


@dataclass(frozen=True)
class Stream:
    """One average of pair maps."""

    layer: int
    cam: Cam
    goal: Goal


@dataclass(frozen=True)
class StreamPlan:
    """What is computed for a set of configurations.

    Attributes:
        methods: The method behind each CAM.
        objectives: The objective behind each goal.
        streams: The streams of each configuration, by ascending layer.
        work: Family -> layer -> CAM -> its goals: what one backward pass serves.
    """

    methods: Mapping[Cam, GradientMethod]
    objectives: Mapping[Goal, Objective]
    streams: Mapping[CamConfig, tuple[Stream, ...]]
    work: Mapping[str, Mapping[int, Mapping[Cam, Sequence[Goal]]]]

    @property
    def layers(self) -> list[int]:
        """Indices of all layers, ascending."""
        return sorted({layer for layers in self.work.values() for layer in layers})

    def family(self, name: str) -> dict[Goal, Objective]:
        """The objectives that share the direction `name`."""
        return {goal: found for goal, found in self.objectives.items() if goal.family == name}


def plan_streams(configs: Sequence[CamConfig], table: LayerTable) -> StreamPlan:
    """The streams of `configs` in a recognizer with these layers.

    Raises:
        UserError: A method that is no gradient method, a bad option, objective or layer.
    """
    methods: dict[Cam, GradientMethod] = {}
    objectives: dict[Goal, Objective] = {}
    streams: dict[CamConfig, tuple[Stream, ...]] = {}
    for config in configs:
        cam, method = _cam(config)
        goal, objective = _goal(config)
        methods.setdefault(cam, method)
        objectives.setdefault(goal, objective)
        streams[config] = tuple(Stream(n, cam, goal) for n in table.resolve(config.layer))
    return StreamPlan(methods, objectives, streams, _work(streams))


def _cam(config: CamConfig) -> tuple[Cam, GradientMethod]:
    method = METHODS[config.method]
    if not isinstance(method, GradientMethod):
        known = [name for name in METHODS if isinstance(METHODS[name], GradientMethod)]
        raise UserError(
            f"The 'method' of a layer's map must be one of {', '.join(known)}."
            f" Got '{config.method}', which is of the kind {method.kind}."
        )
    options = method.resolve_options(dict(config.options))
    return Cam(config.method, tuple(sorted(options.items()))), method


def _goal(config: CamConfig) -> tuple[Goal, Objective]:
    objective = parse_objective(
        config.objective,
        normalize=config.normalize,
        scale=config.arcface_scale,
        evidence=config.evidence,
    )
    goal = Goal(objective.name, objective.family, objective.sign, config.arcface_scale)
    return goal, objective


def _work(
    streams: Mapping[CamConfig, tuple[Stream, ...]],
) -> dict[str, dict[int, dict[Cam, list[Goal]]]]:
    work: dict[str, dict[int, dict[Cam, list[Goal]]]] = {}
    for stream in dict.fromkeys(stream for group in streams.values() for stream in group):
        layers = work.setdefault(stream.goal.family, {})
        layers.setdefault(stream.layer, {}).setdefault(stream.cam, []).append(stream.goal)
    return work
