"""Embeddings of every photo under the masks of a perturbation method: its maps need no more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from facefocus.benchmark.keys import VERSIONS, fill_of, forward_of, libraries
from facefocus.benchmark.stages import ARTEFACT, STAGES, Stage, Task
from facefocus.core.progress import Progress
from facefocus.core.seeds import generator
from facefocus.core.store import content_key
from facefocus.faces.faceset import FaceSet
from facefocus.models.recognizer import Recognizer
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.saliency.explainer import MapSpec, Passes
from facefocus.saliency.identity import ordered_pairs
from facefocus.saliency.perturbation import (
    MaskedFrame,
    MaskSet,
    embeddings_of_masked,
    masks_depend_on,
    masks_of,
)

if TYPE_CHECKING:
    from facefocus.benchmark.people import Block
    from facefocus.benchmark.plan import Inputs
    from facefocus.benchmark.session import Session


#: Passes of a task: photos share batches, of which only the last is not full.
PASSES = 8192


@dataclass(frozen=True)
class MaskedTask(Task):
    """Embeddings of some photos under every mask of a perturbation method.

    Attributes:
        parts: The key of each artefact, and its row.
    """

    stage: ClassVar[str] = "masked"

    parts: tuple[tuple[str, int], ...]
    recognizer: str
    method: str
    options: tuple[tuple[str, str], ...]
    fill: str | None

    @property
    def cost(self) -> int:
        """Forward passes."""
        return int(dict(self.options)["masks"]) * len(self.parts)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return tuple(key for key, _ in self.parts)

    def without(self, present: Collection[str]) -> MaskedTask | None:
        """What is left of it when the keys in `present` exist."""
        left = tuple(part for part in self.parts if part[0] not in present)
        return replace(self, parts=left) if left else None

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The one."""
        return (self.recognizer,)


def masked_key(recognizer: Recognizer, faces: FaceSet, row: int, masks: MaskSet) -> str:
    """Key of the embeddings of one photo under a mask set."""
    determined = dict(masks.determined_by)
    if masks.fill is not None:
        determined["fill"] = fill_of(masks.fill)
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


class PerturbStage(Stage):
    """Embeddings of a photo under the masks of a perturbation method, per photo."""

    name = "masked"

    def plan(self, inputs: Inputs, planned: Mapping[str, Any]) -> tuple[list[Task], None]:
        """None of its own: maps ask for what they need (`masked_tasks`)."""
        return [], None

    def run(self, session: Session, task: MaskedTask, progress: Progress) -> None:
        """See `embeddings_of_masked`."""
        seed, faces = session.experiment.seed, session.faces
        recognizer = session.recognizers[task.recognizer]
        hidden = []
        for _, row in task.parts:
            image, frame = str(faces.names[row]), np.asarray(faces.frames[row])
            masks = masks_of(task.method, task.options, session.frame, image, seed, task.fill)
            hide = None
            if task.fill is not None:
                hide = hider(task.fill, frame[None], [fill_rng(seed, image)])
            hidden.append(MaskedFrame(frame, masks, hide))
        frame_embeddings = embeddings_of_masked(recognizer, hidden, progress)
        for (key, _), embeddings in zip(task.parts, frame_embeddings, strict=True):
            session.store.save(key, {"embeddings": embeddings})

    def passes(self, session: Session, task: MaskedTask) -> dict[str, Passes]:
        """Without sharing, a photo would be masked anew for each of its pair maps."""
        each = task.cost // len(task.parts)
        alone = each * sum(_pair_maps(session, task, row) for _, row in task.parts)
        return {task.recognizer: Passes(inference=task.cost, alone=alone)}

    def size(self, session: Session, task: MaskedTask, lengths: Mapping[str, int]) -> int:
        """A vector a mask."""
        return len(task.parts) * ARTEFACT + 4 * task.cost * lengths[task.recognizer]


def masked_tasks(
    inputs: Inputs, source: str, spec: MapSpec, blocks: Iterable[Block]
) -> list[MaskedTask]:
    """The tasks for the maps of a perturbation method on one source, of the people of `blocks`."""
    parts = []
    for row in dict.fromkeys(int(r) for b in blocks for p in b.people for r in p.rows):
        image, seed = str(inputs.faces.names[row]), inputs.experiment.seed
        masks = masks_of(spec.method, spec.options, inputs.frame, image, seed, spec.fill)
        parts.append((masked_key(inputs.recognizers[source], inputs.faces, row, masks), row))
    step = max(1, PASSES // int(dict(spec.options)["masks"]))
    return [
        MaskedTask(tuple(parts[start : start + step]), source, spec.method, spec.options, spec.fill)
        for start in range(0, len(parts), step)
    ]


def _pair_maps(session: Session, task: MaskedTask, row: int) -> int:
    """The number of pair maps that are made of a masked photo."""
    drawn, count = masks_depend_on(task.method, task.options), 0
    for block, person in session.plan.explained[row]:
        for output in session.plan.planned["maps"][block.index]:
            spec = output.spec
            made = output.sources, spec.method, spec.fill
            same = made == ((task.recognizer,), task.method, task.fill)
            if same and masks_depend_on(spec.method, spec.options) == drawn:
                rng = generator(session.experiment.seed, "pairs", person.name)
                pairs = ordered_pairs(len(person.rows), spec.max_pairs, rng)
                count += int((pairs[:, 0] == person.rows.tolist().index(row)).sum())
    return count


STAGES.add("masked", PerturbStage())
