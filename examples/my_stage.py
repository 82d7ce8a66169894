"""A stage of your own: one file and one registration.

Import it before a run (or name it as an entry point of the group ``facefocus.stages``): every run
then also writes ``norms.csv``, the length of the embedding of every photo of its people. In face
recognition the length is often taken for the quality of a photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facefocus.benchmark.plan import Inputs
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages import STAGES, Stage, Task
from facefocus.core.progress import Progress
from facefocus.core.store import content_key


@dataclass(frozen=True)
class NormTask(Task):
    """The lengths of the embeddings of all people's photos on one target."""

    stage: ClassVar[str] = "norms"

    key: str
    recognizer: str
    rows: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """One artefact."""
        return (self.key,)

    @property
    def cost(self) -> int:
        """No pass: the embeddings are there."""
        return len(self.rows)

    @property
    def recognizers(self) -> tuple[str, ...]:
        """It runs none."""
        return ()


class NormStage(Stage):
    """The lengths of embeddings, from what the stage `embed` made."""

    name = "norms"

    def plan(self, inputs: Inputs, planned: Mapping[str, Any]) -> tuple[list[NormTask], None]:
        """A task for each target."""
        people = [person for block in inputs.blocks for person in block.people]
        rows = tuple(np.unique(np.concatenate([person.rows for person in people])).tolist())
        tasks = []
        for name in inputs.experiment.recognizers.targets:
            fingerprint = inputs.recognizers[name].fingerprint
            key = content_key("norms", of=fingerprint, faces=inputs.faces.hash, rows=rows)
            tasks.append(NormTask(key, name, rows))
        return tasks, None

    def run(self, session: Session, task: NormTask, progress: Progress) -> None:
        """Store the lengths."""
        embeddings = session.embeddings(task.recognizer)[list(task.rows)]
        session.store.save(task.key, {"norms": np.linalg.norm(embeddings, axis=1)})
        progress("norms", task.cost, task.cost)

    def write(self, session: Session, run: Path) -> None:
        """A line for each photo and target."""
        lines = ["target,image,norm"]
        for task in (task for task in session.plan.tasks if isinstance(task, NormTask)):
            norms = session.store.load(task.key)["norms"]
            names = session.faces.names[list(task.rows)]
            lines += [f"{task.recognizer},{n},{v:.6g}" for n, v in zip(names, norms, strict=True)]
        (run / "norms.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


STAGES.add("norms", NormStage())
