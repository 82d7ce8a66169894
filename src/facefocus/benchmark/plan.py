"""From an experiment to tasks: what there is to compute, each piece under its content key.

Stages, each feeding the next:

- *embed*: embeddings of clean photos, per recognizer and chunk of rows;
- *masked*: embeddings of a photo under the masks of a perturbation method, per photo;
- *maps*: identity maps, per sources and block of people - all layers, methods and objectives of a
  block share their forward and backward passes;
- *scores*: what hiding does, per target, block and fill - equal masks are embedded once;
- *oracle*: the bound, per target and person.

A task holds the keys of everything it makes. Whatever the store has already is left out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np

from facefocus.benchmark.experiment import Experiment, Faces, Saliency
from facefocus.benchmark.keys import VERSIONS, fill_of, forward_of, gradients_of, libraries
from facefocus.benchmark.stages.embed import embed_tasks
from facefocus.benchmark.tasks import (
    STAGES,
    Block,
    EmbedTask,
    MapOutput,
    MapSpec,
    MapTask,
    MaskedTask,
    OracleTask,
    Person,
    Scored,
    ScoreOutput,
    ScoreTask,
    Task,
    photos_hash,
    stage_of,
)
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.core.store import content_key
from facefocus.evaluation.verification import check_rule, verification_pairs
from facefocus.faces.faceset import FaceSet, Identity, Pairs, select_identities
from facefocus.faces.halves import LEAST, halves, near_equal
from facefocus.faces.sources.lfw import errata_names
from facefocus.models.recognizer import Recognizer, is_white_box, white_box
from facefocus.occlusion.controls import SHARED
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.methods import (
    METHODS,
    FrameGradientMethod,
    Method,
    PerturbationMethod,
    Preset,
    options_of,
    resolve_options,
)
from facefocus.saliency.perturbation import mask_set

#: People per block: few enough that a killed process loses seconds, enough for full chunks.
PEOPLE_PER_BLOCK = 16

#: Fewest photos of a person that can be held out.
HELDOUT_IMAGES = 2 * LEAST

Output = TypeVar("Output", MapOutput, ScoreOutput)


@dataclass(frozen=True)
class Plan:
    """Everything an experiment needs, in order of dependence.

    Attributes:
        blocks: The chosen people, in blocks; those of the held-out folds after the others.
        pairs: The verification pairs of the face set.
        calibration: The pairs that set the thresholds: these, or those of another face set.
        tasks: All tasks, stage by stage.
        maps: The wanted maps of each block, by its index; several may share a key. Those of a
            ``half`` block are those of the ``heldout`` block with the same people.
        scores: The wanted scores of each (target, block index); several may share a key.
        oracles: The oracle tasks of each (target, block index), searched on the photos that the
            block's maps come from.
    """

    experiment: Experiment
    blocks: tuple[Block, ...]
    pairs: Pairs
    calibration: Pairs
    tasks: tuple[Task, ...]
    maps: Mapping[int, tuple[MapOutput, ...]]
    scores: Mapping[tuple[str, int], tuple[ScoreOutput, ...]]
    oracles: Mapping[tuple[str, int], tuple[OracleTask, ...]]

    @property
    def people(self) -> tuple[Person, ...]:
        """All chosen people with all their photos, sorted by name."""
        return _everybody(self.blocks)

    def keys(self) -> dict[str, list[str]]:
        """The keys of each stage: what `facefocus status` looks for."""
        stages: dict[str, list[str]] = {stage: [] for stage in STAGES}
        for task in self.tasks:
            stages[stage_of(task)] += task.keys
        return {stage: keys for stage, keys in stages.items() if keys}


@dataclass(frozen=True)
class _Inputs:
    """What planning starts from, passed along as one."""

    experiment: Experiment
    faces: FaceSet
    pairs: Pairs
    calibrating: FaceSet
    calibration: Pairs
    lists: tuple[Pairs | None, Pairs | None]
    recognizers: Mapping[str, Recognizer]
    blocks: tuple[Block, ...]

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames."""
        height, width = self.faces.frames.shape[1:3]
        return height, width


def make_plan(
    experiment: Experiment,
    faces: FaceSet,
    pairs: Pairs | None,
    recognizers: Mapping[str, Recognizer],
    calibration: tuple[FaceSet, Pairs | None] | None = None,
) -> Plan:
    """Work out all tasks; nothing is computed.

    Args:
        experiment: What to do.
        faces: The photos.
        pairs: The verification list of the face set; a seeded sample of pairs where it has none.
        recognizers: Every source and target, loaded, by the name the experiment uses.
        calibration: The other face set that the threshold comes from, and its list, likewise.

    Raises:
        UserError: Too few people, too few pairs for the threshold, an unknown layer, or a gradient
            method on a black box.
    """
    blocks = _blocks(experiment, faces)
    lists = pairs, pairs if calibration is None else calibration[1]
    pairs = verification_pairs(faces, pairs, experiment.seed)
    calibrating = faces if calibration is None else calibration[0]
    setting = pairs
    if calibration is not None:
        setting = verification_pairs(calibrating, lists[1], experiment.seed)
    mated = int(setting.mated.sum())
    rule = experiment.evaluation.rule
    check_rule(rule, mated, len(setting.mated) - mated, calibrating.title)
    inputs = _Inputs(experiment, faces, pairs, calibrating, setting, lists, recognizers, blocks)
    _check_controls(inputs)
    _check_budgets(experiment, inputs.frame)
    maps = _maps(inputs)
    scores = _scores(inputs, maps)
    oracles = _oracles(inputs, scores)
    tasks: list[Task] = [
        *_embed_tasks(inputs, maps),
        *_masked_tasks(inputs, maps),
        *_map_tasks(inputs, maps),
        *_score_tasks(inputs, scores),
        *(task for found in oracles.values() for task in found),
    ]
    return Plan(experiment, blocks, pairs, setting, tuple(tasks), maps, scores, oracles)


def _check_budgets(experiment: Experiment, frame: tuple[int, int]) -> None:
    """Refuse a budget that hides no pixel of a frame."""
    height, width = frame
    for budget in experiment.occlusion.budget:
        if not pixel_count(budget, height, width):
            least = 1 / (height * width)
            raise UserError(
                f"The 'budget' of [occlusion] must hide at least one of the {height}x{width} pixels"
                f" of an aligned crop. Got {budget:g}. The least is {least:.1e}."
            )


def _unique(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """One output per key: specs that come to the same thing are computed once."""
    return tuple({output.key: output for output in outputs}.values())


# --- people ---------------------------------------------------------------------------------------


def _blocks(experiment: Experiment, faces: FaceSet) -> tuple[Block, ...]:
    chosen = _people(experiment, faces)
    blocks: list[Block] = []
    for (split, fold), people in _folds(experiment, faces, chosen).items():
        if not people:
            raise UserError(
                "The 'split' of [evaluation] can be heldout only for people with"
                f" {HELDOUT_IMAGES} or more photos that make two halves without near-equal photos"
                " across them. None of those chosen has as many."
            )
        # People with equally many photos share a block, so that chunks of a backward pass are full.
        people.sort(key=lambda person: (len(person.rows), person.name))
        for start in range(0, len(people), PEOPLE_PER_BLOCK):
            part = tuple(people[start : start + PEOPLE_PER_BLOCK])
            blocks.append(Block(len(blocks), split, fold, part))
    return tuple(blocks)


def _people(experiment: Experiment, faces: FaceSet) -> list[Person]:
    chosen = chosen_people(experiment.faces, faces, experiment.seed)
    return [Person(one.name, one.rows, one.rows) for one in chosen]


def chosen_people(wanted: Faces, faces: FaceSet, seed: int) -> list[Identity]:
    """The people of a face set whom an experiment is about, sorted by name.

    Raises:
        UserError: A name is unknown, or there are fewer people than asked for.
    """
    errata = set(errata_names()) & set(faces.names.tolist()) if wanted.exclude_errata else set()
    return select_identities(
        faces,
        people=wanted.people,
        count=wanted.identities,
        images=wanted.images,
        max_images=wanted.max_images,
        exclude=errata,
        seed=seed,
    )


def _folds(
    experiment: Experiment, faces: FaceSet, chosen: Sequence[Person]
) -> dict[tuple[str, int], list[Person]]:
    """The people of each (split, fold).

    Held-out photos have a reference: the same maps, tried on the very photos they came from.
    """
    found: dict[tuple[str, int], list[Person]] = {}
    for split in experiment.evaluation.split:
        if split == "same":
            found[split, 0] = list(chosen)
            continue
        named = (
            (person.name, halves_of(faces, person.identity, experiment.seed)) for person in chosen
        )
        both = [(name, *cut) for name, cut in named if cut is not None]
        found["heldout", 0] = [Person(name, first, second) for name, first, second in both]
        found["heldout", 1] = [Person(name, second, first) for name, first, second in both]
        found["half", 0] = [Person(name, first, first) for name, first, _ in both]
        found["half", 1] = [Person(name, second, second) for name, _, second in both]
    return found


def halves_of(faces: FaceSet, person: Identity, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of the two halves of a person's photos; None for whom they cannot be held out."""
    rows = person.rows
    if len(rows) < HELDOUT_IMAGES:
        return None
    groups = near_equal(np.asarray(faces.frames[rows]))
    cut = halves(groups, generator(seed, "halves", person.name))
    return None if cut is None else (rows[cut[0]], rows[cut[1]])


def _everybody(blocks: Sequence[Block]) -> tuple[Person, ...]:
    """All chosen people with all photos that are used of them, sorted by name."""
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for person in (person for block in blocks for person in block.people):
        rows[person.name] += [person.rows, person.tests]
    known = {name: np.unique(np.concatenate(parts)) for name, parts in sorted(rows.items())}
    return tuple(Person(name, own, own) for name, own in known.items())


# --- clean and masked embeddings ------------------------------------------------------------------


def _embed_tasks(inputs: _Inputs, maps: Mapping[int, Sequence[MapOutput]]) -> list[EmbedTask]:
    photos = [person.rows for block in inputs.blocks for person in block.people]
    chosen, targets = np.unique(np.concatenate(photos)), inputs.experiment.recognizers.targets
    needed = dict.fromkeys(targets, np.union1d(_rows_of(inputs.pairs), chosen))
    for output in (output for found in maps.values() for output in found):
        if METHODS[output.spec.method].kind == "black-box":
            needed.setdefault(output.sources[0], chosen)
    tasks = [
        task
        for name, rows in needed.items()
        for task in embed_tasks(name, inputs.recognizers[name], inputs.faces, inputs.lists[0], rows)
    ]
    if inputs.calibrating is inputs.faces:
        return tasks
    faces, listed = inputs.calibrating, inputs.lists[1]
    setting = _rows_of(inputs.calibration)
    for name in targets:
        recognizer = inputs.recognizers[name]
        tasks += embed_tasks(name, recognizer, faces, listed, setting, calibrates=True)
    return tasks


def _rows_of(pairs: Pairs) -> np.ndarray:
    return np.unique(np.concatenate([pairs.first, pairs.second]))


def masked_key(
    recognizer: Recognizer, faces: FaceSet, row: int, determined: Mapping[str, Any]
) -> str:
    """Key of the embeddings of one photo under a mask set (`MaskSet.determined_by`)."""
    return content_key(
        "masked",
        version=VERSIONS["masked"],
        recognizer=recognizer.fingerprint,
        forward=forward_of(recognizer),
        libraries=libraries(),
        faces=faces.hash,
        row=row,
        masks=determined,
    )


def _masked_tasks(inputs: _Inputs, maps: Mapping[int, Sequence[MapOutput]]) -> list[MaskedTask]:
    tasks: dict[str, MaskedTask] = {}
    for block in inputs.blocks:
        for output in maps[block.index]:
            method = METHODS[output.spec.method]
            if not isinstance(method, PerturbationMethod):
                continue
            name, options = output.sources[0], output.spec.options
            for row in (int(row) for person in block.people for row in person.rows):
                masks = mask_set(
                    method,
                    inputs.frame,
                    str(inputs.faces.names[row]),
                    seed=inputs.experiment.seed,
                    options=dict(options),
                )
                key = masked_key(inputs.recognizers[name], inputs.faces, row, masks.determined_by)
                tasks[key] = MaskedTask(key, name, row, output.spec.method, options)
    return list(tasks.values())


# --- maps -----------------------------------------------------------------------------------------


def _maps(inputs: _Inputs) -> dict[int, tuple[MapOutput, ...]]:
    """The wanted maps of every block."""
    specs = dict.fromkeys(_all_specs(inputs))
    return {
        block.index: tuple(
            MapOutput(_map_key(inputs, sources, spec, block), sources, spec)
            for sources, spec in specs
            # A baseline has seen no photo, so it has nothing to lose on others.
            if sources or block.split != "half"
        )
        for block in inputs.blocks
    }


def _all_specs(inputs: _Inputs) -> Iterator[tuple[tuple[str, ...], MapSpec]]:
    for saliency in inputs.experiment.saliency:
        for label in saliency.method:
            for sources in _sources(inputs.experiment, saliency, METHODS[label]):
                for spec in _specs(inputs, saliency, label, sources):
                    yield sources, spec


def _sources(experiment: Experiment, saliency: Saliency, method: Method) -> list[tuple[str, ...]]:
    """On which recognizers a method's maps are made: each source, all together, or none."""
    if method.kind == "baseline":
        return [()]
    if saliency.sources is None:
        return [(name,) for name in experiment.recognizers.source]
    if method.kind != "frame-gradient":
        raise UserError(
            f"The 'sources' of [saliency] are for methods that can combine recognizers"
            f" (occlusion-gradient). Got '{method.name}'."
        )
    return [saliency.sources]


def _specs(
    inputs: _Inputs, saliency: Saliency, label: str, sources: tuple[str, ...]
) -> Iterator[MapSpec]:
    """All maps of one method on some sources."""
    shown = METHODS[label]
    name = shown.method if isinstance(shown, Preset) else label
    method = METHODS[name]
    for source in sources:
        if method.kind in ("gradient", "frame-gradient"):
            white_box(inputs.recognizers[source], f"the method '{label}'")
    given = {name: str(value) for name, value in saliency.options.items()}
    known = options_of(method)
    options = resolve_options(name, known, {k: v for k, v in given.items() if k in known})
    layers, objectives = list(saliency.layer), list(saliency.objective)
    if isinstance(shown, Preset):
        layers, objectives = [shown.layer], [shown.objective]
    fills, budgets = _serves(inputs.experiment, method, options)
    for layer, objective, fill, budget, draw in product(
        layers if method.needs_layer else [None],
        objectives if method.needs_objective else [None],
        fills,
        budgets,
        range(saliency.draws) if method.kind == "baseline" else [None],
    ):
        family = (objective or "").partition("(")[0]
        yield MapSpec(
            label=label,
            method=name,
            options=tuple(sorted(options.items())),
            layer=layer,
            calls=() if layer is None else _calls(inputs.recognizers[sources[0]], layer),
            objective=objective,
            evidence=saliency.evidence if objective else "positive",
            # What an objective does not read is not part of its key.
            normalize=saliency.normalize or family in ("", "cosine", "arcface"),
            arcface_scale=1.0 if family in ("", "cosine", "l1", "l2") else saliency.arcface_scale,
            max_pairs=saliency.max_pairs if method.kind in ("gradient", "black-box") else None,
            fill=fill,
            budget=budget,
            draw=draw,
        )


def _serves(
    experiment: Experiment, method: Method, options: Mapping[str, str]
) -> tuple[Sequence[str | None], Sequence[float | None]]:
    """The fills and budgets that a method makes maps for; None where one map serves all."""
    if not isinstance(method, FrameGradientMethod):
        return [None], [None]
    occlusion = experiment.occlusion
    return (
        occlusion.fill if method.needs_fill else [None],
        occlusion.budget if method.needs_budget(options) else [None],
    )


def _calls(recognizer: Recognizer, layer: str) -> tuple[int, ...]:
    assert is_white_box(recognizer)
    return recognizer.layers().resolve(layer)


def _map_key(inputs: _Inputs, sources: tuple[str, ...], spec: MapSpec, block: Block) -> str:
    method = METHODS[spec.method]
    determined = asdict(spec)
    # The method and the calls say it, whatever they are called here.
    del determined["label"], determined["layer"]
    recognizers = [inputs.recognizers[name] for name in sources]
    passes = forward_of if method.kind == "black-box" else gradients_of
    drawn = spec.max_pairs is not None or method.kind in ("baseline", "black-box", "frame-gradient")
    return content_key(
        "maps",
        version=[VERSIONS["maps"], method.version],
        recognizers=[recognizer.fingerprint for recognizer in recognizers],
        passes=[passes(recognizer) for recognizer in recognizers],
        libraries=libraries(),
        faces=inputs.faces.hash,
        people=block.mapped,
        spec=determined,
        fill=None if spec.fill is None else fill_of(spec.fill),
        seed=inputs.experiment.seed if drawn else None,
    )


def _map_tasks(inputs: _Inputs, maps: Mapping[int, Sequence[MapOutput]]) -> list[MapTask]:
    """Maps of one block on the same sources share a task, and with it their passes."""
    tasks = []
    for block in inputs.blocks:
        if block.split == "half":
            continue
        by_sources: dict[tuple[str, ...], list[MapOutput]] = defaultdict(list)
        for output in maps[block.index]:
            by_sources[output.sources].append(output)
        tasks += [MapTask(names, block, _unique(found)) for names, found in by_sources.items()]
    return tasks


# --- scores ---------------------------------------------------------------------------------------


def _scores(
    inputs: _Inputs, maps: Mapping[int, Sequence[MapOutput]]
) -> dict[tuple[str, int], tuple[ScoreOutput, ...]]:
    shared = {
        (block.split, block.fold, place): _population(inputs, maps, block, place)
        for block in inputs.blocks
        for place in range(len(maps[block.index]))
    }
    scores = {}
    for target in inputs.experiment.recognizers.targets:
        common = _common(inputs, target)
        for block in inputs.blocks:
            scores[target, block.index] = tuple(
                _score_output(common, block, output, fill, policy, control, number, population)
                for place, output in enumerate(maps[block.index])
                if _is_tried(inputs.experiment, output, target)
                for population in (shared[block.split, block.fold, place],)
                for fill in inputs.experiment.occlusion.fill
                if output.spec.fill in (None, fill)
                for policy in inputs.experiment.occlusion.on_degenerate
                for control, number in _controls(inputs.experiment, block, output, policy)
            )
    return scores


def _is_tried(experiment: Experiment, output: MapOutput, target: str) -> bool:
    """Whether the masks of a map are tried on a target; those of baselines always are."""
    return experiment.recognizers.transfer or not output.sources or target in output.sources


def _population(
    inputs: _Inputs, maps: Mapping[int, Sequence[MapOutput]], block: Block, place: int
) -> str:
    """Hash of the maps of everybody in a fold: what shared controls depend on."""
    keys = [
        maps[other.index][place].key
        for other in inputs.blocks
        if (other.split, other.fold) == (block.split, block.fold)
    ]
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _common(inputs: _Inputs, target: str) -> dict[str, Any]:
    """What every score on one target depends on."""
    recognizer = inputs.recognizers[target]
    evaluation = inputs.experiment.evaluation
    return {
        # Impostors are drawn from everybody who was chosen.
        "chosen": photos_hash((one.name, one.rows) for one in _everybody(inputs.blocks)),
        "version": VERSIONS["scores"],
        "target": recognizer.fingerprint,
        "forward": forward_of(recognizer),
        "libraries": libraries(),
        "faces": inputs.faces.hash,
        "threshold": _threshold_key(inputs),
        "compare": evaluation.compare,
        "budgets": inputs.experiment.occlusion.budget,
        "seed": inputs.experiment.seed,
    }


def _check_controls(inputs: _Inputs) -> None:
    """Refuse controls that are made of other people's maps where there are no other people."""
    wanted = inputs.experiment.controls
    shared = [] if wanted is None else [one for one in wanted.control if one in SHARED]
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for block in inputs.blocks:
        counts[block.split, block.fold] += len(block.people)
    for (split, _), count in counts.items():
        if shared and count < 2:
            held = " whose photos can be held out" if split != "same" else ""
            raise UserError(
                f"The 'control' of [controls] can be {' and '.join(shared)} only with 2 or more"
                f" people{held}: their maps make it. Got {count}. Choose more people, or leave it"
                " out."
            )


def _threshold_key(inputs: _Inputs) -> list[Any]:
    """What determines a threshold besides the recognizer."""
    rule = inputs.experiment.evaluation.rule
    if rule.kind == "given":
        return [rule.kind, rule.value]
    pairs = hashlib.sha256()
    for column in (inputs.calibration.first, inputs.calibration.second, inputs.calibration.mated):
        pairs.update(np.ascontiguousarray(column).astype(np.int64).tobytes())
    return [rule.kind, rule.value, inputs.calibrating.hash, pairs.hexdigest()]


def _controls(
    experiment: Experiment, block: Block, output: MapOutput, policy: str
) -> Iterator[tuple[str | None, int]]:
    """The maps' own masks, then every draw of every control that fits them."""
    yield None, 0
    wanted = experiment.controls
    # Controls have equal areas by definition; a baseline is a control itself.
    if wanted is None or policy == "inclusive" or not output.sources or block.split == "half":
        return
    for control in wanted.control:
        for draw in range(1 if control == "population" else wanted.draws):
            yield control, draw


def _score_output(
    common: Mapping[str, Any],
    block: Block,
    output: MapOutput,
    fill: str,
    policy: str,
    control: str | None,
    draw: int,
    population: str,
) -> ScoreOutput:
    budgets = common["budgets"] if output.spec.budget is None else (output.spec.budget,)
    key = content_key(
        "scores",
        **{**common, "budgets": budgets},
        maps=output.key,
        tested=block.tested,
        fill=fill_of(fill),
        on_degenerate=policy,
        control=[control, draw, population if control in SHARED else None],
    )
    return ScoreOutput(key, output, fill, policy, control, draw, budgets)


def _score_tasks(
    inputs: _Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]]
) -> list[ScoreTask]:
    return [
        ScoreTask(target, inputs.blocks[index], fill, _unique(of_fill))
        for (target, index), found in scores.items()
        for fill in inputs.experiment.occlusion.fill
        if (of_fill := [output for output in found if output.fill == fill])
    ]


# --- oracle ---------------------------------------------------------------------------------------


def _oracles(
    inputs: _Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]]
) -> dict[tuple[str, int], tuple[OracleTask, ...]]:
    """A search on all photos, and one on each half where photos are held out."""
    wanted = inputs.experiment.oracle
    oracles: dict[tuple[str, int], tuple[OracleTask, ...]] = {}
    if wanted is None:
        return oracles
    budgets = inputs.experiment.occlusion.budget
    for target in inputs.experiment.recognizers.targets:
        common, rivals = _common(inputs, target), _rivals(inputs, scores, target)
        for block in inputs.blocks:
            if block.split == "half":
                continue
            tasks = []
            for fill, person in product(inputs.experiment.occlusion.fill, block.people):
                found = tuple(dict.fromkeys(rivals[fill, person.name, person.rows.tobytes()]))
                key = content_key(
                    "oracle",
                    version=VERSIONS["oracle"],
                    common=common,
                    search=wanted.model_dump(),
                    person=[person.name, person.rows.tolist(), person.tests.tolist()],
                    fill=fill_of(fill),
                    rivals=[[one.key, one.row, one.starts] for one in found],
                )
                tasks.append(OracleTask(key, target, person, fill, found, budgets))
            oracles[target, block.index] = tuple(tasks)
    return oracles


def _rivals(
    inputs: _Inputs, scores: Mapping[tuple[str, int], Sequence[ScoreOutput]], target: str
) -> dict[tuple[str, str, bytes], list[Scored]]:
    """All scores on a target by fill, person and tested photos."""
    found: dict[tuple[str, str, bytes], list[Scored]] = defaultdict(list)
    for block in inputs.blocks:
        for output, (row, person) in product(scores[target, block.index], enumerate(block.people)):
            own = np.array_equal(person.rows, person.tests)
            place = output.fill, person.name, person.tests.tobytes()
            found[place].append(Scored(output.key, row, own or not output.maps.sources))
    return found
