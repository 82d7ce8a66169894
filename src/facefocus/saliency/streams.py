"""Which averages a set of configurations needs, and what they share.

A *stream* is the average of pair maps of one method and objective at one layer, or at all
attentions together. Configurations share streams (a layer alone and in a group), streams share
gradients (objectives of one family), and maps where the method does not see the gradient's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facefocus.core.errors import UserError
from facefocus.models.layers import LayerTable
from facefocus.saliency.methods import METHODS, GradientMethod, LayerMethod
from facefocus.saliency.objectives import Evidence, Objective, parse_objective

#: The family of methods without an objective: they need no backward pass.
FORWARD = "forward"


@dataclass(frozen=True)
class CamConfig:
    """One choice of method, layer and objective; hashable.

    Attributes:
        method: Name of a gradient or attention method: ``"grad-cam"``, ``"legrad"``.
        layer: A layer or group of layers: ``"N"``, ``"3"``, ``"middle"`` (Protocol: layers);
            attention methods use all attentions, whatever it is.
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
    """A gradient or attention method with all its options."""

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
    """One average of pair maps; `calls` are those that each map is made at."""

    calls: tuple[int, ...]
    cam: Cam
    goal: Goal


@dataclass(frozen=True)
class StreamPlan:
    """What is computed for a set of configurations.

    Attributes:
        methods: The method behind each CAM.
        objectives: The objective behind each goal; none behind those of the family `FORWARD`.
        streams: The streams of each configuration, by ascending layer.
        work: Family -> calls -> CAM -> its goals: what one backward pass serves.
    """

    methods: Mapping[Cam, LayerMethod]
    objectives: Mapping[Goal, Objective]
    streams: Mapping[CamConfig, tuple[Stream, ...]]
    work: Mapping[str, Mapping[tuple[int, ...], Mapping[Cam, Sequence[Goal]]]]

    @property
    def layers(self) -> list[int]:
        """Numbers of all calls, ascending."""
        groups = {calls for by_calls in self.work.values() for calls in by_calls}
        return sorted({index for calls in groups for index in calls})

    def family(self, name: str) -> dict[Goal, Objective]:
        """The objectives that share the direction `name`."""
        return {
            goal: objective for goal, objective in self.objectives.items() if goal.family == name
        }


def plan_streams(configs: Sequence[CamConfig], table: LayerTable) -> StreamPlan:
    """The streams of `configs` in a recognizer with these layers.

    Raises:
        UserError: A method that looks into no layer, a bad option, objective or layer.
    """
    methods: dict[Cam, LayerMethod] = {}
    objectives: dict[Goal, Objective] = {}
    streams: dict[CamConfig, tuple[Stream, ...]] = {}
    for config in configs:
        cam, method = _cam(config)
        methods.setdefault(cam, method)
        goal = Goal("", FORWARD, 1.0, 1.0)
        if isinstance(method, GradientMethod) or method.uses_gradient:
            goal, objective = _goal(config)
            objectives.setdefault(goal, objective)
        calls_by_map = method.calls_by_map(table, config.layer)
        streams[config] = tuple(Stream(calls, cam, goal) for calls in calls_by_map)
    return StreamPlan(methods, objectives, streams, _work(streams))


def _cam(config: CamConfig) -> tuple[Cam, LayerMethod]:
    method = METHODS[config.method]
    if not isinstance(method, LayerMethod):
        known = [name for name in METHODS if isinstance(METHODS[name], LayerMethod)]
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
) -> dict[str, dict[tuple[int, ...], dict[Cam, list[Goal]]]]:
    work: dict[str, dict[tuple[int, ...], dict[Cam, list[Goal]]]] = {}
    for stream in dict.fromkeys(stream for group in streams.values() for stream in group):
        by_calls = work.setdefault(stream.goal.family, {})
        by_calls.setdefault(stream.calls, {}).setdefault(stream.cam, []).append(stream.goal)
    return work
