"""Identity maps, per sources and block of people: they share their passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from facefocus.benchmark.experiment import Experiment, Saliency
from facefocus.benchmark.explained_images import MemoryImages, SessionImages
from facefocus.benchmark.keys import VERSIONS, fill_of, forward_of, gradients_of, libraries
from facefocus.benchmark.people import CROSS_POSE, Block
from facefocus.benchmark.stages import ARTEFACT, STAGES, Stage, Task
from facefocus.benchmark.stages.embed import chosen_rows, embed_tasks
from facefocus.benchmark.stages.perturb import masked_tasks
from facefocus.benchmark.stages.share import ShareTask, shared_key
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress
from facefocus.core.store import content_key
from facefocus.models.recognizer import Recognizer, is_white_box, white_box
from facefocus.saliency.explainer import Explainer, MapRequest, MapSpec, Passes
from facefocus.saliency.given import ELSEWHERE
from facefocus.saliency.methods import GIVEN, METHODS, Method

if TYPE_CHECKING:
    from facefocus.benchmark.plan import Inputs
    from facefocus.benchmark.session import Session


@dataclass(frozen=True)
class MapOutput:
    """One map artefact: the maps of a block under one spec.

    Attributes:
        sources: The recognizers that the maps are made on; none for a baseline.
    """

    key: str
    sources: tuple[str, ...]
    spec: MapSpec

    @property
    def source(self) -> str | None:
        """The sources as one name, or what they were elsewhere; None for a baseline."""
        return "+".join(self.sources) or self.spec.origin


@dataclass(frozen=True)
class MapTask(Task):
    """All maps of a block that are made on the same recognizers."""

    stage: ClassVar[str] = "maps"
    graph: ClassVar[bool] = True

    sources: tuple[str, ...]
    block: Block
    outputs: tuple[MapOutput, ...]

    @property
    def cost(self) -> int:
        """Roughly, in passes: one per photo, one per ordered pair and objective."""
        graded = {(out.spec.objective, out.spec.max_pairs) for out in self.outputs}
        pairs = sum(self.block.pairs(most) for objective, most in graded if objective)
        steps = sum(int(dict(out.spec.options).get("steps", "0")) for out in self.outputs)
        return self.block.images * (1 + 2 * steps * len(self.sources)) + pairs

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(output.key for output in self.outputs)

    def without(self, present: Collection[str]) -> MapTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(output for output in self.outputs if output.key not in present)
        return replace(self, outputs=left) if left else None

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The sources."""
        return self.sources


@runtime_checkable
class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


Output = TypeVar("Output", bound=_Keyed)


def unique(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """One output per key: specs that come to the same thing are computed once."""
    return tuple({output.key: output for output in outputs}.values())


class ExplainStage(Stage):
    """The maps of a block of people: all layers, methods and objectives on the same sources."""

    name = "maps"

    def plan(
        self, inputs: Inputs, planned: Mapping[str, Any]
    ) -> tuple[list[Task], Mapping[int, tuple[MapOutput, ...]]]:
        """The maps, and the embeddings that they need; second, the maps of each block."""
        maps = _maps(inputs)
        tasks: list[Task] = [*_needed_tasks(inputs, maps), *_map_tasks(inputs, maps)]
        return tasks, maps

    def run(self, session: Session, task: MapTask, progress: Progress) -> None:
        """Each family of methods makes its maps together."""
        request = _request(session, task)
        for explainer, specs in _families(task.outputs).items():
            keys: dict[MapSpec, list[str]] = defaultdict(list)
            for output in specs:
                keys[output.spec].append(output.key)
            for spec, made in explainer.maps(replace(request, specs=list(keys)), progress):
                for key in keys[spec]:
                    session.store.save(key, asdict(made))

    def passes(self, session: Session, task: MapTask) -> dict[str, Passes]:
        """What each family of methods says."""
        request, total = _request(session, task), Passes()
        wanted = [
            output
            for output in session.plan.planned["maps"][task.block.index]
            if output.sources == task.sources
        ]
        every = _families(wanted)
        for explainer, outputs in _families(task.outputs).items():
            specs, all_specs = (
                [output.spec for output in part] for part in (outputs, every[explainer])
            )
            total += explainer.passes(replace(request, specs=specs), all_specs)
        return dict.fromkeys(task.sources or ("-",), total)

    def size(self, session: Session, task: MapTask, lengths: Mapping[str, int]) -> int:
        """A map for each person and output."""
        height, width = session.frame
        return len(task.outputs) * (ARTEFACT + 4 * height * width * len(task.block.people))


def _request(session: Session, task: MapTask) -> MapRequest:
    """What a task asks of any family of methods; the specs are still to be filled in."""
    people = [person.identity for person in task.block.people]
    return MapRequest((), task.sources, people, SessionImages(session))


def _families(outputs: Sequence[MapOutput]) -> dict[Explainer, list[MapOutput]]:
    families: dict[Explainer, list[MapOutput]] = defaultdict(list)
    for output in outputs:
        families[METHODS[output.spec.method].explainer].append(output)
    return families


# --- planning -------------------------------------------------------------------------------------


def _maps(inputs: Inputs) -> dict[int, tuple[MapOutput, ...]]:
    """The wanted maps of every block."""
    specs = dict.fromkeys(_all_specs(inputs))
    height, width = inputs.faces.frames.shape[1:3]
    for _, spec in specs:
        METHODS[spec.method].explainer.check(spec, (height, width))
    determined = [(*made, _determined(inputs, *made), _splits(made[1])) for made in specs]
    return {
        block.index: tuple(
            MapOutput(content_key("maps", **parts, people=block.mapped), sources, spec)
            for sources, spec, parts, splits in determined
            if block.split in splits and inputs.wants(block, (sources, spec))
        )
        for block in inputs.blocks
    }


def _all_specs(inputs: Inputs) -> Iterator[tuple[tuple[str, ...], MapSpec]]:
    for saliency in inputs.experiment.saliency:
        if saliency.maps is not None:
            yield (), _given_spec(inputs, saliency)
        for label in saliency.method:
            for sources in _sources(inputs.experiment, saliency, METHODS[label]):
                experiment, recognizers = inputs.experiment, inputs.recognizers
                for spec in specs_of(experiment, recognizers, saliency, label, sources):
                    yield sources, spec


def _sources(experiment: Experiment, saliency: Saliency, method: Method) -> list[tuple[str, ...]]:
    """On which recognizers a method's maps are made: each source, all together, or none."""
    needs = method.needs(_options(saliency, method))
    if needs.sources == "none":
        return [()]
    if saliency.sources is None:
        return [(name,) for name in experiment.recognizers.source]
    if needs.sources != "several":
        raise UserError(
            "The 'sources' of [saliency] are for methods that can combine recognizers (such as"
            f" occlusion-gradient, learned-mask, searched-mask). Got '{method.name}'."
        )
    return [saliency.sources]


def specs_of(
    experiment: Experiment,
    recognizers: Mapping[str, Recognizer],
    saliency: Saliency,
    label: str,
    sources: tuple[str, ...],
) -> Iterator[MapSpec]:
    """All maps of one method on some sources.

    Raises:
        UserError: An option is wrong, a layer is unknown, or the method needs a white box.
    """
    method = METHODS[label]
    options = _options(saliency, method)
    needs = method.needs(options)
    for source in sources:
        if needs.gradients:
            white_box(recognizers[source], f"the method '{label}'")
    layers: Sequence[str | None] = saliency.layer if needs.layer else [None]
    objectives: Sequence[str | None] = saliency.objective if needs.objective else [None]
    if method.fixed is not None:
        layers, objectives = [method.fixed.layer], [method.fixed.objective]
    fills: Sequence[str | None] = [None]
    if needs.fill or (needs.given_fill and saliency.fill is not None):
        fills = saliency.fill or experiment.occlusion.fill
    for layer, objective, fill, budget, draw in product(
        layers,
        objectives,
        fills,
        experiment.occlusion.budget if needs.budget else [None],
        range(saliency.draws) if needs.draws else [None],
    ):
        family = (objective or "").partition("(")[0]
        yield MapSpec(
            label=label,
            method=label if method.fixed is None else method.fixed.method,
            options=tuple(sorted(options.items())),
            layer=layer,
            calls=_calls(method, recognizers, sources, layer),
            objective=objective,
            evidence=saliency.evidence if objective else "positive",
            # What an objective does not read is not part of its key.
            normalize=saliency.normalize or family in ("", "cosine", "arcface"),
            arcface_scale=1.0 if family in ("", "cosine", "l1", "l2") else saliency.arcface_scale,
            max_pairs=saliency.max_pairs if needs.pairs else None,
            fill=fill,
            budget=budget,
            draw=draw,
            every_fill=saliency.fill is not None,
        )


def _options(saliency: Saliency, method: Method) -> dict[str, str]:
    """All options of a method, of those that its table gives to several."""
    given = {name: str(value) for name, value in saliency.options.items()}
    return method.resolve_options({k: v for k, v in given.items() if k in method.options})


def _given_spec(inputs: Inputs, saliency: Saliency) -> MapSpec:
    """Maps that were made elsewhere, under the name that the experiment gives them."""
    digest, _ = inputs.given[saliency.maps or ""]
    name = saliency.name or "maps"
    origin, options = saliency.origin or ELSEWHERE, (("maps", digest[:12]),)
    return MapSpec(label=name, method=GIVEN, options=options, origin=origin)


def _splits(spec: MapSpec) -> tuple[str, ...]:
    """Where the maps of a spec can be judged."""
    photos = METHODS[spec.method].needs(dict(spec.options)).photos
    if photos == "any":  # made elsewhere: nothing says from which photos
        return ("same",)
    # A baseline has seen no photo, so it has nothing to lose on others.
    judged = ("same", "heldout", *CROSS_POSE)
    return judged if photos == "none" else (*judged, "half")


def _calls(
    method: Method, recognizers: Mapping[str, Recognizer], sources: Sequence[str], layer: str | None
) -> tuple[int, ...]:
    """The calls that a map is made at."""
    if layer is None and not method.needs(method.resolve_options({})).attention:
        return ()
    recognizer = recognizers[sources[0]]
    assert is_white_box(recognizer)
    table = recognizer.layers()
    return table.attention(method.name) if layer is None else table.resolve(layer)


def _determined(inputs: Inputs, sources: tuple[str, ...], spec: MapSpec) -> dict[str, Any]:
    """What determines the maps under a spec, besides the people: the parts of their keys."""
    method = METHODS[spec.method]
    determined = asdict(spec)
    # The method and the calls say it, whatever they are called here.
    del determined["label"], determined["layer"], determined["origin"]
    # Where a map is tried does not change it.
    del determined["every_fill"]
    recognizers = [inputs.recognizers[name] for name in sources]
    needs = method.needs(dict(spec.options))
    passes = gradients_of if needs.gradients else forward_of
    drawn = spec.max_pairs is not None or needs.seed
    shared = {"shared": _shared_key(inputs, sources, spec)} if needs.shared else {}
    return {
        "version": [VERSIONS["maps"], method.version],
        "recognizers": [recognizer.fingerprint for recognizer in recognizers],
        "passes": [passes(recognizer) for recognizer in recognizers],
        "libraries": libraries(),
        "faces": inputs.faces.hash,
        "spec": determined,
        "fill": None if spec.fill is None else fill_of(spec.fill),
        "seed": inputs.experiment.seed if drawn else None,
        **shared,
    }


def _shared_key(inputs: Inputs, sources: tuple[str, ...], spec: MapSpec) -> str:
    """What the maps of everybody are stored under."""
    faces, seed = inputs.faces, inputs.experiment.seed
    rows = np.concatenate([person.rows for person in inputs.people])
    images = MemoryImages(faces, inputs.recognizers, seed, rows)
    return shared_key(images, faces, spec, sources)


def _map_tasks(inputs: Inputs, maps: Mapping[int, Sequence[MapOutput]]) -> Iterator[Task]:
    """Maps of one block on the same sources share a task, and with it their passes."""
    for block in inputs.blocks:
        if block.split == "half":
            continue
        by_sources: dict[tuple[str, ...], list[MapOutput]] = defaultdict(list)
        for output in maps[block.index]:
            by_sources[output.sources].append(output)
        for names, outputs in by_sources.items():
            yield MapTask(names, block, unique(outputs))


def _needed_tasks(inputs: Inputs, maps: Mapping[int, Sequence[MapOutput]]) -> list[Task]:
    """What maps are made of: embeddings of photos under masks, and maps of everybody."""
    tasks: dict[tuple[str, ...], Task] = {}
    asked: dict[tuple[Any, ...], tuple[MapOutput, dict[Block, None]]] = {}
    wanted_of = [(block, output) for block in inputs.blocks for output in maps[block.index]]
    for block, output in wanted_of:
        spec = output.spec
        wanted = (output.sources, spec.method, spec.options, spec.fill, spec.budget)
        asked.setdefault(wanted, (output, {}))[1][block] = None
    for output, blocks in asked.values():
        spec = output.spec
        needs = METHODS[spec.method].needs(dict(spec.options))
        if not (needs.masks or needs.shared):
            continue
        if needs.shared:
            key = _shared_key(inputs, output.sources, spec)
            tasks[(key,)] = ShareTask(key, output.sources, spec)
            continue
        (source,) = output.sources
        needed: list[Task] = [*masked_tasks(inputs, source, spec, blocks)]
        if source not in inputs.experiment.recognizers.targets:
            recognizer, rows = inputs.recognizers[source], chosen_rows(inputs)
            needed += embed_tasks(source, recognizer, inputs.faces, inputs.lists[0], rows)
        tasks |= {task.keys: task for task in needed}
    return list(tasks.values())


STAGES.add("maps", ExplainStage())
