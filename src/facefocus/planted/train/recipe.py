"""What to train, on which faces and how: a TOML file as frozen specs, one line a mistake.

A recipe leaves nothing open: the same recipe on the same faces gives the same weights. A *card*
(see `facefocus.planted.train.card`) is a recipe with its results and can be given in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import read_toml
from facefocus.core.specs import (
    Name,
    Number,
    Spec,
    Whole,
    check_known,
    parse,
    user_errors,
    whole_message,
)
from facefocus.faces.sources.synthetic import WORLDS
from facefocus.models import zoo
from facefocus.models.preprocessing import Preprocessing, from_mapping
from facefocus.models.zoo import ARCHITECTURES, Option
from facefocus.planted.train.heads import HEADS

#: Sections of a card that are no part of its recipe.
RESULTS = ("result", "validation", "planted")


#: How a network reads a frame unless its recipe says otherwise.
READER = {"size": [112, 112], "mean": 127.5, "std": 127.5}


class Network(Spec):
    """``[network]``: what is trained.

    Attributes:
        architecture: Name of an architecture of the zoo.
        options: Its keyword arguments.
        initial: An embedded recognizer of the same faces and seed, so that unseen people stay
            unseen: training starts from its tensors wherever name and shape agree.
        preprocessing: How it reads a frame, as in the TOML file beside a weights file.
    """

    architecture: str
    options: dict[str, Option] = Field(default_factory=dict)
    initial: str | None = None
    preprocessing: dict[str, Any] = Field(default_factory=lambda: dict(READER))

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        check_known([value], ARCHITECTURES)
        return value

    @field_validator("initial")
    @classmethod
    def _embedded(cls, value: str | None) -> str | None:
        check_known([] if value is None else [value], zoo.embedded())
        return value

    @field_validator("preprocessing")
    @classmethod
    def _readable(cls, value: dict[str, Any]) -> dict[str, Any]:
        with user_errors():
            from_mapping(value)
        return value

    def reader(self) -> Preprocessing:
        """How the network reads a frame."""
        return from_mapping(self.preprocessing)


class Faces(Spec):
    """``[faces]``: a world of synthetic faces to be drawn, or a prepared face set.

    Attributes:
        world: Where identity lives: ``all``, ``eyes``, ``nose``, ``mouth``, ``brows``, ``marks``.
        identities: People to draw.
        photos: Photos of each.
        seed: Of the drawn faces.
        set: Folder of a prepared face set instead; people with one image are left out.
        unseen: People kept out of training, to validate on.
    """

    world: str | None = None
    identities: Annotated[Whole, Field(ge=3, le=10_000)] = 600
    photos: Annotated[Whole, Field(ge=2, le=10_000)] = 16
    seed: Annotated[Whole, Field(ge=0)] = 0
    set: str | None = None
    unseen: Annotated[Whole, Field(ge=2)] = 100

    @field_validator("world")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        check_known([] if value is None else [value], WORLDS)
        return value

    @model_validator(mode="after")
    def _world_or_set(self) -> Faces:
        if (self.world is None) == (self.set is None):
            raise whole_message("[faces] must name either a 'world' or a 'set'.")
        return self


class Training(Spec):
    """``[training]``: how.

    Attributes:
        head: ``cosface`` or ``arcface``.
        margin: Its margin: a cosine for cosface, radians for arcface.
        scale: Its scale.
        growth: Share of the training over which margin and erasing grow from 0.
        epochs: Times every photo is seen.
        batch: Photos of a step.
        learning_rate: Highest rate of AdamW.
        weight_decay: Its decay of convolutions, matrices and directions of people.
        warmup: Share of the training over which the rate rises.
        erase: Chance that a photo has random rectangles hidden, black, in its mean color, or by
            noise: whoever is tested with hidden regions should have seen some.
        flip: Mirror every second photo; not where a side tells who it is.
    """

    head: Literal["cosface", "arcface"] = "cosface"
    margin: Annotated[Number, Field(ge=0, lt=1.5)] = 0.2
    scale: Annotated[Number, Field(gt=0)] = 12.0
    growth: Annotated[Number, Field(ge=0, le=1)] = 0.7
    epochs: Annotated[Whole, Field(ge=1)] = 5
    batch: Annotated[Whole, Field(ge=2)] = 32
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    warmup: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    erase: Annotated[Number, Field(ge=0, le=1)] = 0.5
    flip: bool = False

    @field_validator("head", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        check_known([value], HEADS)
        return value


class Recipe(Spec):
    """A whole recipe.

    Attributes:
        name: What the recognizer is called.
        seed: Of everything that is drawn in training.
    """

    name: Name
    seed: Annotated[Whole, Field(ge=0)] = 0
    network: Network
    faces: Faces
    training: Training = Training()


def load_recipe(which: str) -> Recipe:
    """The recipe in a file, or of an embedded recognizer by its name; a card will do.

    Raises:
        UserError: No such file or recognizer, no TOML, or a field is wrong; one line per field.
    """
    path = Path(which)
    if not path.suffix and not path.exists():
        if which not in zoo.embedded():
            raise UserError(
                f"'{which}' is neither a recipe file nor an embedded recognizer. Known: "
                f"{', '.join(zoo.embedded())}.{did_you_mean(which, zoo.embedded())}"
            )
        path = zoo.card(which)
    data = read_toml(path, "recipe")
    return parse_recipe({key: value for key, value in data.items() if key not in RESULTS})


def world_of(name: str) -> str:
    """The world in which an embedded recognizer was trained.

    Raises:
        UserError: Not an embedded recognizer, or one that was trained on a face set.
    """
    world = load_recipe(str(zoo.card(name))).faces.world
    if world is None:
        raise UserError(f"'{name}' was not trained in a world of synthetic faces. Name one.")
    return world


def parse_recipe(data: dict[str, Any]) -> Recipe:
    """A recipe from plain data, as it stands in a TOML file.

    Raises:
        UserError: A field is wrong; one line per field.
    """
    return parse(Recipe, data, "recipe")
