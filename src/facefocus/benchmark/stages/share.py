"""Masks for everybody, searched on people who are not explained: maps need no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from facefocus.benchmark.keys import VERSIONS, fill_of, forward_of, libraries
from facefocus.benchmark.stages import ARTEFACT, STAGES, Stage, Task
from facefocus.core.progress import Progress
from facefocus.core.store import content_key
from facefocus.faces.faceset import FaceSet
from facefocus.saliency.explainer import Images, MapSpec, Passes
from facefocus.saliency.methods import METHODS
from facefocus.saliency.shared_mask import rows_of_others, search, searched_photos

if TYPE_CHECKING:
    from facefocus.benchmark.plan import Inputs
    from facefocus.benchmark.session import Session


@dataclass(frozen=True)
class ShareTask(Task):
    """The map of everybody for one fill and budget."""

    stage: ClassVar[str] = "shared"

    key: str
    sources: tuple[str, ...]
    spec: MapSpec

    @property
    def cost(self) -> int:
        """Forward passes, at most."""
        return searched_photos(dict(self.spec.options)) * len(self.sources)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all it makes."""
        return (self.key,)

    @property
    def recognizers(self) -> tuple[str, ...]:
        """The sources."""
        return self.sources


def shared_key(images: Images, faces: FaceSet, spec: MapSpec, sources: Sequence[str]) -> str:
    """Key of the map of everybody under a spec.

    Raises:
        UserError: Too few people are left to search it on.
    """
    recognizers = [images.recognizer(name) for name in sources]
    options = dict(spec.options)
    return content_key(
        "shared",
        version=[VERSIONS["shared"], METHODS[spec.method].version],
        recognizers=[recognizer.fingerprint for recognizer in recognizers],
        forward=[forward_of(recognizer) for recognizer in recognizers],
        libraries=libraries(),
        faces=faces.hash,
        rows=rows_of_others(images.others(), options, images.seed).tolist(),
        options=sorted(options.items()),
        fill=fill_of(spec.fill or ""),
        pixels=images.pixels(spec.budget or 0.0),
        seed=images.seed,
    )


class ShareStage(Stage):
    """The map of everybody, per sources, fill and budget."""

    name = "shared"

    def plan(self, inputs: Inputs, planned: Mapping[str, Any]) -> tuple[list[Task], None]:
        """None of its own: maps ask for what they need (`shared_task`)."""
        return [], None

    def run(self, session: Session, task: ShareTask, progress: Progress) -> None:
        """See `facefocus.saliency.shared_mask.search`."""
        from facefocus.benchmark.explained_images import SessionImages

        shared_map = search(task.spec, task.sources, SessionImages(session), progress)
        session.store.save(task.key, {"map": shared_map})

    def passes(self, session: Session, task: ShareTask) -> dict[str, Passes]:
        """Steps that change no mask take none."""
        each = task.cost // len(task.sources)
        return dict.fromkeys(task.sources, Passes(inference=each, alone=each, exact=False))

    def size(self, session: Session, task: ShareTask, lengths: Mapping[str, int]) -> int:
        """A map."""
        height, width = session.frame
        return ARTEFACT + 4 * height * width


STAGES.add("shared", ShareStage())
