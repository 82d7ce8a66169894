"""The stages of a run, each in a file of its own; later ones need what earlier ones made.

A new stage is a `Stage` and its registration; other packages add one through the entry-point group
``facefocus.stages``. Planning, execution, cost and collection go through all that are registered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from facefocus.core.progress import Progress
from facefocus.core.registry import Registry

if TYPE_CHECKING:
    from facefocus.benchmark.collect import Part
    from facefocus.benchmark.people import Block
    from facefocus.benchmark.plan import Inputs
    from facefocus.benchmark.session import Session
    from facefocus.saliency.explainer import Passes

#: Bytes that an artefact takes beyond its arrays: headers of the archive and of its arrays.
ARTEFACT = 1024


@dataclass(frozen=True)
class Task(ABC):
    """A piece of work: plain data that can be sent to another process.

    Attributes:
        stage: The name of its stage.
        graph: Whether its passes keep their graph for gradients.
    """

    stage: ClassVar[str]
    graph: ClassVar[bool] = False

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Keys of all artefacts that it makes."""

    @property
    @abstractmethod
    def cost(self) -> int:
        """Roughly, its passes: the unit of progress."""

    @property
    @abstractmethod
    def recognizers(self) -> tuple[str, ...]:
        """The recognizers that it runs."""

    def without(self, present: Collection[str]) -> Task | None:
        """What is left of it when the keys in `present` exist."""
        return None if all(key in present for key in self.keys) else self


#: The columns of a configuration, its budget and the person: whose parts make one result row.
RowKey = tuple[Any, ...]


class Stage(ABC):
    """What a stage does. `plan` and `run` are its own; the other defaults suit most."""

    name: ClassVar[str]

    @abstractmethod
    def plan(self, inputs: Inputs, planned: Mapping[str, Any]) -> tuple[Sequence[Task], Any]:
        """Its tasks, with those of earlier stages that only it needs; and what later ones may use.

        Args:
            inputs: The experiment, the faces, the recognizers, the people in blocks.
            planned: What the plans of earlier stages gave as second, by their names.
        """

    @abstractmethod
    def run(self, session: Session, task: Any, progress: Progress) -> None:
        """Compute a task and store every one of its artefacts."""

    def parts(self, session: Session, target: str, block: Block) -> Iterator[tuple[RowKey, Part]]:
        """What it has to say in the result table; nothing by default."""
        return iter(())

    def write(self, session: Session, run: Path) -> None:  # noqa: B027 - a default, not abstract
        """Write files of its own into the folder of a finished run; none by default."""

    def passes(self, session: Session, task: Any) -> dict[str, Passes]:
        """What a task runs, by recognizer; by default its cost in forward passes."""
        from facefocus.saliency.explainer import Passes

        count = Passes(inference=task.cost, alone=task.cost)
        return dict.fromkeys(task.recognizers, count)

    def size(self, session: Session, task: Any, lengths: Mapping[str, int]) -> int:
        """Bytes of what a task stores, given the length of each recognizer's embeddings."""
        return ARTEFACT * len(task.keys)


STAGES: Registry[Stage] = Registry(
    "stage",
    load=tuple(
        f"facefocus.benchmark.stages.{name}"
        for name in ("embed", "perturb", "share", "explain", "score", "robustness", "oracle")
    ),
)
