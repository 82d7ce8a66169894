"""Photos to train on and people to validate on: every batch is a function of its step alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.faces.faceset import FaceSet, Identity, select_identities
from facefocus.planted.train.recipe import Recipe
from facefocus.planted.train.schedule import grown

#: Most rectangles that are erased together, and their sides as shares of the frame's.
_MOST_ERASED, _ERASED = 24, (0.05, 0.15)


@dataclass(frozen=True, eq=False)
class Split:
    """Who is trained on, and who is unseen.

    Attributes:
        faces: The whole set.
        rows: Frames to train on.
        labels: Who each shows, from 0.
        people: How many people are trained on.
        unseen: People that training never sees.
    """

    faces: FaceSet
    rows: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    people: int
    unseen: list[Identity]

    @property
    def unseen_rows(self) -> Int64[np.ndarray, " m"]:
        """Frames of the unseen people, ascending."""
        return np.sort(np.concatenate([person.rows for person in self.unseen]))


def split(faces: FaceSet, recipe: Recipe) -> Split:
    """Keep a seeded sample of people out of training; people with one image are left out.

    Raises:
        UserError: Fewer than two people, or fewer photos than a batch, are left to train on.
    """
    everyone = select_identities(faces)
    held = recipe.faces.unseen
    if len(everyone) < held + 2:
        raise UserError(
            f"The 'unseen' of [faces] must leave at least 2 people to train on. Got {held} of the "
            f"{len(everyone)} people of '{faces.title}' who have two images or more."
        )
    unseen = select_identities(faces, count=held, seed=recipe.seed)
    names = {person.name for person in unseen}
    trained = [person for person in everyone if person.name not in names]
    rows = np.concatenate([person.rows for person in trained])
    if len(rows) < recipe.training.batch:
        raise UserError(
            f"The 'batch' of [training] must be at most the {len(rows)} photos to train on. "
            f"Got {recipe.training.batch}."
        )
    labels = np.repeat(np.arange(len(trained)), [len(person.rows) for person in trained])
    return Split(faces, rows, labels, len(trained), unseen)


def steps_per_epoch(photos: int, recipe: Recipe) -> int:
    """Whole batches of an epoch; the photos left over are others in every epoch."""
    return photos // recipe.training.batch


def batch(
    data: Split, recipe: Recipe, step: int
) -> tuple[UInt8[np.ndarray, "b h w 3"], Int64[np.ndarray, " b"]]:
    """Frames, erased and mirrored as the recipe says, and labels of one step."""
    size = recipe.training.batch
    epoch, step_in_epoch = divmod(step, steps_per_epoch(len(data.rows), recipe))
    order = generator(recipe.seed, "order", epoch).permutation(len(data.rows))
    # Ascending, so that a file on the disk is read in one direction.
    chosen = np.sort(order[step_in_epoch * size : (step_in_epoch + 1) * size])
    frames = np.array(data.faces.frames[data.rows[chosen]])
    rng = generator(recipe.seed, "augmentation", step)
    if recipe.training.flip:
        mirrored = rng.random(size) < 0.5
        frames[mirrored] = frames[mirrored, :, ::-1]
    steps = recipe.training.epochs * steps_per_epoch(len(data.rows), recipe)
    chance = grown(step, steps, full=recipe.training.erase, growth=recipe.training.growth)
    for frame in frames:
        if rng.random() < chance:
            _erase(frame, rng)
    return frames, data.labels[chosen]


def _erase(frame: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> None:
    """Hide random rectangles of `frame` by one content: black, its mean color, or noise."""
    height, width = frame.shape[:2]
    content = (
        np.zeros(3, np.uint8),
        frame.mean(axis=(0, 1)).astype(np.uint8),
        rng.integers(0, 256, frame.shape, dtype=np.uint8),
    )[rng.integers(3)]
    hidden = np.zeros((height, width, 1), dtype=bool)
    for _ in range(rng.integers(1, _MOST_ERASED + 1)):
        tall, wide = (int(rng.uniform(*_ERASED) * side) + 1 for side in (height, width))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        hidden[top : top + tall, left : left + wide] = True
    np.copyto(frame, content, where=hidden)
