"""What to train, on which faces and how: a TOML file as frozen specs, one line a mistake.

A recipe leaves nothing open: the same recipe on the same faces gives the same weights. A *card*
(see `facefocus.planted.train.card`) is a recipe with its results and can be given in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from facefocus.benchmark.experiment import NAME, Section
from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import read_toml
from facefocus.faces.sources.synthetic import WORLDS
from facefocus.models import zoo
from facefocus.models.preprocessing import Preprocessing, from_mapping
from facefocus.models.zoo import ARCHITECTURES, Option
from facefocus.planted.train.heads import HEADS

#: Sections of a card that are no part of its recipe.
RESULTS = ("result", "validation", "planted")


#: How a network reads a frame unless its recipe says otherwise.
READER = {"size": [112, 112], "mean": 127.5, "std": 127.5}


class Network(Section):
    """``[network]``: what is trained.

    Attributes:
        architecture: Name of an architecture of the zoo.
        options: Its keyword arguments.
        preprocessing: How it reads a frame, as in ``zoo.toml``.
    """

    architecture: str
    options: dict[str, Option] = Field(default_factory=dict)
    preprocessing: dict[str, Any] = Field(default_factory=lambda: dict(READER))

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ARCHITECTURES:
            expected = f"one of {', '.join(ARCHITECTURES)}"
            raise _wrong(f"be {expected}", value, did_you_mean(value, ARCHITECTURES))
        return value

    @field_validator("preprocessing")
    @classmethod
    def _readable(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            from_mapping(value)
        except UserError as error:
            raise PydanticCustomError("own", "{text}", {"text": str(error)}) from None
        return value

    def reader(self) -> Preprocessing:
        """How the network reads a frame."""
        return from_mapping(self.preprocessing)


class Faces(Section):
    """``[faces]``: a world of synthetic faces to be drawn, or a prepared face set.

    Attributes:
        world: Where identity lives; see `facefocus.faces.sources.synthetic`.
        identities: People to draw.
        photos: Photos of each.
        seed: Of the drawn faces.
        set: Folder of a prepared face set instead; people with one image are left out.
        unseen: People kept out of training, to validate on.
    """

    world: str | None = None
    identities: Annotated[int, Field(ge=3, le=10_000)] = 600
    photos: Annotated[int, Field(ge=2, le=10_000)] = 16
    seed: Annotated[int, Field(ge=0)] = 0
    set: str | None = None
    unseen: Annotated[int, Field(ge=2)] = 100

    @field_validator("world")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in WORLDS:
            raise _wrong(f"be one of {', '.join(WORLDS)}", value, did_you_mean(value, WORLDS))
        return value

    @model_validator(mode="after")
    def _one(self) -> Faces:
        if (self.world is None) == (self.set is None):
            text = "[faces] must name either a 'world' or a 'set'."
            raise PydanticCustomError("own", "{text}", {"text": text})
        return self


class Training(Section):
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
    margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.2
    scale: Annotated[float, Field(gt=0)] = 12.0
    growth: Annotated[float, Field(ge=0, le=1)] = 0.7
    epochs: Annotated[int, Field(ge=1)] = 5
    batch: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    erase: Annotated[float, Field(ge=0, le=1)] = 0.5
    flip: bool = False

    @field_validator("head", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value not in HEADS:
            raise _wrong(f"be one of {', '.join(HEADS)}", value, did_you_mean(str(value), HEADS))
        return value


class Recipe(Section):
    """A whole recipe."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    seed: Annotated[int, Field(ge=0)] = 0
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
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = dict.fromkeys(_line(detail) for detail in error.errors())
        raise UserError("\n".join(lines)) from None


def _wrong(expected: str, got: object, hint: str) -> PydanticCustomError:
    return PydanticCustomError("field", "{text}", {"text": f"must {expected}. Got {got!r}.{hint}"})


def _line(detail: Any) -> str:
    """``The 'batch' of [training] must ...`` for one of pydantic's findings."""
    *sections, field = (str(part) for part in detail["loc"] or ("recipe",))
    section = f" of [{'.'.join(sections)}]" if sections else ""
    kind, message = detail["type"], detail["msg"]
    if kind == "own":
        return str(message)
    if kind == "missing":
        return f"The '{field}'{section or ' of the recipe'} is missing."
    if kind == "field":
        return f"The '{field}'{section} {message}"
    if kind == "extra_forbidden":
        models: dict[str, type[Section]] = {
            "network": Network, "faces": Faces, "training": Training,
        }  # fmt: skip
        known = models.get(sections[0] if sections else "", Recipe).model_fields
        where = f"[{sections[0]}]" if sections else "A recipe"
        return f"{where} has no field '{field}'. Known: {', '.join(known)}." + did_you_mean(
            field, known
        )
    must = message.replace("Input should be", "be").replace("String should ", "")
    return f"The '{field}'{section} must {must}. Got {detail['input']!r}."
