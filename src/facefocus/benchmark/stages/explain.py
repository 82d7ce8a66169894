"""Embeddings and maps of one task, by the methods of every kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from facefocus.benchmark.plan import masked_key
from facefocus.benchmark.session import Session
from facefocus.benchmark.tasks import MapOutput, MapTask, MaskedTask, Person
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.models.recognizer import WhiteBox, white_box
from facefocus.occlusion.fills import FILLS, fill_rng
from facefocus.occlusion.masks import pixel_count
from facefocus.saliency.baselines import baseline_map
from facefocus.saliency.identity import cam_identity_maps, ordered_pairs
from facefocus.saliency.methods import METHODS, Baseline, FrameGradientMethod, PerturbationMethod
from facefocus.saliency.perturbation import (
    MaskSet,
    mask_set,
    masked_embeddings,
    perturbation_identity_map,
)
from facefocus.saliency.streams import CamConfig


def embed_masked(session: Session, task: MaskedTask, progress: Progress) -> None:
    """Embeddings of one photo under every mask of a perturbation method."""
    masks = _mask_set(session, task.method, task.options, task.row)
    frame = np.asarray(session.faces.frames[task.row])
    recognizer = session.recognizers[task.recognizer]
    embeddings = masked_embeddings(recognizer, frame, masks, progress=progress)
    session.store.save(task.key, {"embeddings": embeddings})


def _mask_set(
    session: Session, name: str, options: tuple[tuple[str, str], ...], row: int
) -> MaskSet:
    method, image = METHODS[name], str(session.faces.names[row])
    assert isinstance(method, PerturbationMethod)
    seed = session.experiment.seed
    return mask_set(method, session.frame, image, seed=seed, options=dict(options))


def make_maps(session: Session, task: MapTask, progress: Progress) -> None:
    """All maps of a block on the same sources."""
    by_kind: dict[str, list[MapOutput]] = defaultdict(list)
    for output in task.outputs:
        by_kind[METHODS[output.spec.method].kind].append(output)
    for kind, outputs in by_kind.items():
        _MAKERS[kind](session, task, outputs, progress)


def _save(
    session: Session,
    output: MapOutput,
    maps: np.ndarray,
    total: np.ndarray,
    degenerate: np.ndarray,
    ill_conditioned: np.ndarray | None = None,
) -> None:
    """Keep the maps [i, H, W] of a block, and of each person the numbers of pair maps [i]."""
    ill = np.zeros_like(total) if ill_conditioned is None else ill_conditioned
    counts = {"total": total, "degenerate": degenerate, "ill_conditioned": ill}
    session.store.save(output.key, {"maps": maps, **counts})


def _gradient_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    """All CAMs of a block from shared passes; pairs are capped alike within one call."""
    recognizer = _white_box(session, task.sources[0])
    by_cap: dict[int | None, list[MapOutput]] = defaultdict(list)
    for output in outputs:
        by_cap[output.spec.max_pairs].append(output)
    for max_pairs, found in by_cap.items():
        configs = {output: _cam_config(output) for output in found}
        maps = cam_identity_maps(
            recognizer,
            session.faces.frames,
            [person.identity for person in task.block.people],
            list(dict.fromkeys(configs.values())),
            max_pairs=max_pairs,
            seed=session.experiment.seed,
            progress=progress,
        )
        for output, config in configs.items():
            made = maps[config]
            counts = made.total, made.degenerate, made.ill_conditioned
            _save(session, output, made.maps, *counts)


def _white_box(session: Session, name: str) -> WhiteBox:
    return white_box(session.recognizers[name], "a gradient method")


def _cam_config(output: MapOutput) -> CamConfig:
    spec = output.spec
    assert spec.layer is not None and spec.objective is not None
    return CamConfig(
        method=spec.method,
        layer=spec.layer,
        objective=spec.objective,
        options=spec.options,
        evidence=spec.evidence,
        normalize=spec.normalize,
        arcface_scale=spec.arcface_scale,
    )


def _perturbation_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    """Maps from embeddings under masks, which the store holds photo by photo."""
    name = task.sources[0]
    clean, seed = session.embeddings(name), session.experiment.seed
    for output in outputs:
        spec, made = output.spec, []
        for person in task.block.people:
            rng = generator(seed, "pairs", person.name)
            pairs = ordered_pairs(len(person.rows), spec.max_pairs, rng)
            masks = [_mask_set(session, spec.method, spec.options, int(r)) for r in person.rows]
            masked = _Masked(session, name, masks, person)
            made.append(perturbation_identity_map(masks, masked, clean[person.rows], pairs))
        maps, total, degenerate = zip(*made, strict=True)
        _save(session, output, np.stack(maps), np.array(total), np.array(degenerate))


class _Masked(Sequence[Any]):
    """The masked embeddings of a person's photos, read one photo at a time."""

    def __init__(
        self, session: Session, name: str, masks: Sequence[MaskSet], person: Person
    ) -> None:
        recognizer = session.recognizers[name]
        self._store = session.store
        self._keys = [
            masked_key(recognizer, session.faces, int(row), own.determined_by)
            for row, own in zip(person.rows, masks, strict=True)
        ]
        self._read: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        if self._read is None or self._read[0] != index:
            self._read = (index, self._store.load(self._keys[index])["embeddings"])
        return self._read[1]


def _frame_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    """Maps from gradients in the frame, one call for the whole block."""
    recognizers = [_white_box(session, name) for name in task.sources]
    people = task.block.people
    frames = [np.asarray(session.faces.frames[person.rows]) for person in people]
    seed = session.experiment.seed
    for output in outputs:
        method, spec = METHODS[output.spec.method], output.spec
        assert isinstance(method, FrameGradientMethod)
        made = method.function(
            recognizers,
            frames,
            [] if spec.fill is None else list(_contents(session, people, frames, spec.fill)),
            pixels=0 if spec.budget is None else pixel_count(spec.budget, *session.frame),
            rngs=[generator(seed, "ties", person.name) for person in people],
            options=dict(spec.options),
            progress=progress,
        )
        degenerate = np.array([one.degenerate for one in made], np.int64)
        maps, total = np.stack([one.map for one in made]), np.ones(len(people), np.int64)
        _save(session, output, maps, total, degenerate)


def _contents(
    session: Session, people: Sequence[Person], frames: Sequence[np.ndarray], fill: str
) -> Iterator[np.ndarray]:
    for person, photos in zip(people, frames, strict=True):
        names = [str(session.faces.names[row]) for row in person.rows]
        yield FILLS[fill](photos, [fill_rng(session.experiment.seed, name) for name in names])


def _baseline_maps(
    session: Session, task: MapTask, outputs: Sequence[MapOutput], progress: Progress
) -> None:
    people, seed = task.block.people, session.experiment.seed
    for output in outputs:
        method, draw = METHODS[output.spec.method], output.spec.draw or 0
        assert isinstance(method, Baseline)
        maps = [
            baseline_map(method, session.frame, seed=seed, identity=one.name, draw=draw)
            for one in people
        ]
        counts = np.ones(len(people), np.int64)
        _save(session, output, np.stack(maps), counts, np.zeros_like(counts))


_Maker = Callable[[Session, MapTask, Sequence[MapOutput], Progress], None]
_MAKERS: dict[str, _Maker] = {
    "gradient": _gradient_maps,
    "black-box": _perturbation_maps,
    "frame-gradient": _frame_maps,
    "baseline": _baseline_maps,
}
