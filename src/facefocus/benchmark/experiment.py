"""What to do: an experiment file (TOML) as frozen specs, with one clear message per wrong field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import read_toml
from facefocus.core.locations import private
from facefocus.core.specs import (
    NAME,
    Name,
    Number,
    Several,
    Spec,
    Whole,
    ZeroOrMore,
    as_tuple,
    check_known,
    distinct,
    parse,
    to_toml,
    user_errors,
    whole_message,
    wrong,
)

if TYPE_CHECKING:
    from facefocus.evaluation.verification import Rule

#: Most draws of a random map or control; their mean is known to 3 % of one draw's spread.
DRAWS = 1000

#: A recognizer's name, as it stands in every result: without the user's.
RecognizerName = Annotated[str, AfterValidator(private)]


def _is_range(value: Any) -> bool:
    whole = isinstance(value, list | tuple) and [type(end) for end in value] == [int, int]
    return whole and 2 <= value[0] <= value[1]


def _layer_name(layer: Any) -> Any:
    """A layer in the one form that keys and tables know: ``3`` and ``" 03 "`` are ``"3"``."""
    if type(layer) is int:
        return str(layer)
    if not isinstance(layer, str):
        return layer
    name = layer.strip()
    return str(int(name)) if name.isdecimal() else name


def option_text(value: bool | int | str) -> str:
    """A method's option as the one text that methods and keys know it by."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _known_fills(value: tuple[str, ...]) -> tuple[str, ...]:
    from facefocus.occlusion.fills import FILLS

    check_known(value, FILLS)
    return value


class Faces(Spec):
    """``[faces]``: which face set and whom of it.

    Attributes:
        set: A prepared folder, or the name of one under ``faces/``.
        people: Only these people, by name; everybody by default.
        identities: How many people, seeded; all with at least two images by default.
        images: Take only people who have between these two numbers of images.
        max_images: Use at most this many images of a person, seeded.
        exclude_errata: Leave out the images that LFW's errata call mislabelled.
    """

    set: str = "lfw"
    people: Several[str] | None = None
    identities: Annotated[Whole, Field(ge=1)] | None = None
    images: tuple[int, int] | None = None
    max_images: Annotated[Whole, Field(ge=2)] | None = None
    exclude_errata: bool = False

    @field_validator("images", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        expected = "[least, most] with 2 <= least <= most"
        if type(value) is int and value >= 2:
            raise wrong(expected, value, f" Did you mean [{value}, {value}]?")
        if value is not None and not _is_range(value):
            raise wrong(expected, list(value) if isinstance(value, tuple) else value)
        return value


class Recognizers(Spec):
    """``[recognizers]``: on which the maps are made, and on which the masks are tried.

    Attributes:
        source: Names, files or ``file.py:build``; every map is made on each.
        target: The same; every mask is tried on each. The sources by default.
        transfer: Whether a mask is tried on targets that had no part in its map, too.
        preprocessing: How a recognizer of your own reads a frame, by its name.
    """

    source: Several[RecognizerName]
    target: Several[RecognizerName] | None = None
    transfer: bool = True
    preprocessing: dict[RecognizerName, dict[str, Any]] = Field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, or the sources where none are named."""
        return self.target if self.target is not None else self.source


def _of_kind(value: Mapping[str, Any]) -> dict[str, Any]:
    """``[saliency]`` with its ``kind`` of layer in the layers' names: ``norm:N``."""
    from facefocus.models.layers import KINDS

    kind = value["kind"]
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise whole_message(
            f"The 'kind' of [saliency] must be one of {', '.join(KINDS)}. Got {kind!r}.{hint}"
        )
    layers = [_layer_name(layer) for layer in as_tuple(value.get("layer", "N"))]
    others = {name: given for name, given in value.items() if name != "kind"}
    return {**others, "layer": [f"{kind}:{layer}" for layer in layers]}


class Saliency(Spec):
    """``[saliency]``: the maps. May be given several times as ``[[saliency]]``.

    Attributes:
        method: Names of methods and baselines, or ``file.py:NAME``.
        maps: In place of a method, maps that were made elsewhere: an ``.npz`` file of arrays
            [H, W] named by identity.
        name: What these maps are called in the results; the file's name by default.
        origin: The recognizer that they were made on, for the results.
        layer: ``1 2 3 N/4 N/2 3N/4 N-2 N-1 N``, an integer, or a
            group (Protocol: layers); after ``norm:``, say, those of that kind, which ``kind`` in
            the same table does for all of them.
        objective: ``cosine``, ``l1``, ``l2``, ``arcface(m)`` (Protocol: objectives).
        evidence: What raises the objective, or what lowers it.
        normalize: Whether l1 and l2 compare normalized embeddings.
        arcface_scale: The s of arcface.
        options: The methods' own options, e.g. ``{ steps = 25 }``; see `facefocus list methods`.
        sources: Make one map on these recognizers together, instead of one on each source.
        fill: Make the maps for these fills, whatever those of ``[occlusion]``, and try each under
            every fill of ``[occlusion]``. By default a method that depends on the fill makes a map
            for every fill of ``[occlusion]``, and each is tried under its own. Perturbation
            methods hide by such a fill what their masks would darken.
        max_pairs: At most this many ordered pairs of a person, seeded; all by default.
        draws: How many draws of a random baseline are averaged.
    """

    method: ZeroOrMore[str] = ()
    maps: str | None = None
    name: str | None = None
    origin: str | None = None
    layer: Several[str] = ("N",)
    objective: Several[str] = ("cosine",)
    evidence: Literal["positive", "negative"] = "positive"
    normalize: bool = True
    arcface_scale: Annotated[Number, Field(gt=0)] = 1.0
    options: dict[str, bool | int | str] = Field(default_factory=dict)
    sources: Several[RecognizerName] | None = None
    fill: Several[str] | None = None
    max_pairs: Annotated[Whole, Field(ge=1)] | None = None
    draws: Annotated[Whole, Field(ge=1, le=DRAWS)] = 5

    @field_validator("layer", mode="before")
    @classmethod
    def _layer_text(cls, value: Any) -> Any:
        return tuple(_layer_name(layer) for layer in as_tuple(value))

    @field_validator("options")
    @classmethod
    def _option_texts(cls, value: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        return {name: option_text(option) for name, option in value.items()}

    @field_validator("method")
    @classmethod
    def _method(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from facefocus.saliency.methods import METHODS

        check_known(value, METHODS)
        return value

    @field_validator("fill")
    @classmethod
    def _fill(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else _known_fills(value)

    @model_validator(mode="before")
    @classmethod
    def _method_or_maps(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if "kind" in value:
            value = _of_kind(value)
        maps, method = value.get("maps"), value.get("method")
        text = None
        if maps is None and method is None:
            text = "The 'method' of [saliency] is missing."
        elif maps is None and method in ([], ()):
            text = (
                "The 'method' of [saliency] must be a list with at least one entry."
                f" Got {method!r}."
            )
        elif maps is not None and method:
            text = "[saliency] must have a 'method' or 'maps'. Got both."
        if text is not None:
            raise whole_message(text)
        return {"name": Path(maps).stem, **value} if isinstance(maps, str) else value

    @model_validator(mode="after")
    def _options(self) -> Saliency:
        from facefocus.saliency.methods import METHODS, resolve_options

        methods = [METHODS[name] for name in self.method]
        known = {name: option for method in methods for name, option in method.options.items()}
        given = {name: str(value) for name, value in self.options.items()}
        with user_errors():
            resolve_options("+".join(self.method), known, given)
        if self.fill is not None:
            self._check_fill(given)
        return self

    def _check_fill(self, given: Mapping[str, str]) -> None:
        """Refuse a fill where no map depends on it."""
        from facefocus.saliency.methods import METHODS

        without = [] if self.method else ["maps"]
        for name in self.method:
            method = METHODS[name]
            own = {key: value for key, value in given.items() if key in method.options}
            needs = method.needs(method.resolve_options(own))
            if not needs.fill and not needs.given_fill:
                without.append(name)
        if without:
            raise whole_message(
                "The 'fill' of [saliency] is for methods whose maps depend on the fill"
                " (such as occlusion-gradient, learned-mask, shared-mask, s-rise, corr-rise). Got"
                f" '{without[0]}'. Name fills to try maps under in [occlusion]."
            )

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from facefocus.saliency.objectives import parse_objective

        with user_errors():
            return distinct(tuple(parse_objective(text).name for text in value))


class Occlusion(Spec):
    """``[occlusion]``: how much is hidden, with what, and what a flat map means.

    Attributes:
        budget: Shares of the frame in (0, 1]; 0.01 is 1 %.
        fill: Names of fills (Protocol: fills).
        on_degenerate: What becomes of an identity without a map (Protocol: masks).
        shape: What masks are made of: ``pixels``, or ``cells`` of a grid (Protocol: shapes). Rows
            of other shapes than ``pixels`` say it in their ``options``.
    """

    budget: Several[Number]
    fill: Several[str] = ("black",)
    on_degenerate: Several[Literal["none", "skip", "random", "inclusive"]] = ("none",)
    shape: Literal["pixels", "cells"] = "pixels"

    @field_validator("budget")
    @classmethod
    def _share(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for share in value:
            if not 0 < share <= 1:
                percent = f"{share / 100:.2f}" if share % 1 == 0 else f"{share / 100:g}"
                hint = f" Did you mean {percent}?" if 1 < share <= 100 else ""
                raise wrong("in (0, 1]", int(share) if share % 1 == 0 else share, hint)
        return tuple(sorted(set(value)))

    @field_validator("fill")
    @classmethod
    def _fill(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _known_fills(value)


class Controls(Spec):
    """``[controls]``: masks of equal area that know nothing of the person (Protocol: controls).

    Attributes:
        control: ``shifted``, ``other``, ``population``, ``blend``, ``pixels``, ``blocks``. Those of
            other people's maps, ``other``, ``population`` and ``blend``, need two people.
        draws: How many draws of each are averaged.
    """

    control: Several[str]
    draws: Annotated[Whole, Field(ge=1, le=DRAWS)] = 5

    @field_validator("control")
    @classmethod
    def _control(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from facefocus.occlusion.controls import CONTROLS, SHARED

        check_known(value, (*CONTROLS, *SHARED))
        return value


class Oracle(Spec):
    """``[oracle]``: the bound that no mask of a run passes (Protocol: oracle).

    Attributes:
        block: Side of the blocks that the search hides, in pixels.
        candidates: Blocks that stay in the race after each was tried alone; all by default.
    """

    block: Annotated[Whole, Field(ge=1)] = 8
    candidates: Annotated[Whole, Field(ge=1)] | None = None


class Evaluation(Spec):
    """``[evaluation]``: thresholds and what is compared (Protocol: thresholds, held-out-photos).

    Attributes:
        threshold: ``eer``, ``fmr=1e-2`` (any rate) or ``accuracy``, from the face set's own pairs
            or, as ``eer@FOLDER``, from those of another; or a number. Frozen under occlusion.
        compare: Occluded photos against ``clean`` ones, or ``both`` occluded.
        split: Try masks on the ``same`` photos, or ``heldout``: made on one half of a person's
            photos, tried on the other, both ways; or ``cross-pose``: made on a person's frontal
            photos, tried on turned ones, and the reverse (Protocol: cross-pose).
        identification: Also look for each hidden photo in a gallery of everybody: by any photo of
            the person, by the template, and which template is nearest (Protocol: photo-risk).
    """

    threshold: str = "eer"
    compare: Literal["clean", "both"] = "clean"
    split: Several[Literal["same", "heldout", "cross-pose"]] = ("same",)
    identification: bool = False

    @model_validator(mode="after")
    def _clean_gallery(self) -> Evaluation:
        if self.identification and self.compare != "clean":
            raise whole_message(
                "The 'identification' of [evaluation] looks in a gallery of clean photos. Got"
                f" compare = {self.compare!r}. Set compare = 'clean', or leave identification out."
            )
        return self

    @field_validator("threshold", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        from facefocus.evaluation.verification import parse_rule

        if type(value) not in (str, int, float):
            return value
        with user_errors():
            return str(parse_rule(str(value)))

    @property
    def rule(self) -> Rule:
        """Where the threshold comes from."""
        from facefocus.evaluation.verification import parse_rule

        return parse_rule(self.threshold)


class Robustness(Spec):
    """``[robustness]``: what may happen to a hidden face before it is recognized.

    Attributes:
        nuisances: Names of nuisances and of repair (Protocol: robustness). Every mask of a method
            or baseline is tried under each; controls are not.
    """

    nuisances: Several[str]

    @field_validator("nuisances")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from facefocus.evaluation.nuisances import NUISANCES

        check_known(value, NUISANCES)
        return value


class Stop(Spec):
    """``[stop]``: results block by block, and when they are certain (Protocol: early-stopping).

    Attributes:
        when: Stop when the first place is certain in every table that is shown first
            (``ranking``), when recognition is known to a `width` (``width``), or score everybody
            (``never``). A method whose place or interval is certain is computed no further.
        width: Of every interval of a method's recognition, at most, where `when` is ``width``.
    """

    when: Literal["ranking", "width", "never"]
    width: Annotated[Number, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _width(self) -> Stop:
        if (self.when == "width") != (self.width is not None):
            raise whole_message(
                "The 'width' of [stop] must be given if and only if when = 'width', e.g. 0.1. Got"
                f" when = {self.when!r} and width = {self.width}."
            )
        return self


class Experiment(Spec):
    """A whole experiment file.

    The tables of the file are fields, too, as dicts or objects of this module.

    Attributes:
        name: What the experiment is called; its run folder, too, unless ``--out`` says another.
        seed: Of everything that is drawn: people, photos, pairs, random maps, controls.

    Raises:
        pydantic.ValidationError: A field is wrong.

    Example:
        >>> Experiment(
        ...     name="mine",
        ...     recognizers={"source": "iresnet-mini-eyes"},
        ...     saliency={"method": "layer-cam", "layer": "1"},
        ...     occlusion={"budget": 0.05},
        ... ).occlusion.fill
        ('black',)
    """

    name: Name
    seed: Annotated[Whole, Field(ge=0)] = 0
    faces: Faces = Faces()
    recognizers: Recognizers
    saliency: Several[Saliency]
    occlusion: Occlusion
    controls: Controls | None = None
    evaluation: Evaluation = Evaluation()
    oracle: Oracle | None = None
    robustness: Robustness | None = None
    stop: Stop | None = None


def load_experiment(path: Path) -> Experiment:
    """Read an experiment file without variants.

    Raises:
        UserError: It cannot be read, is no TOML, or a field is wrong; one line per field.
    """
    return parse_experiment(read_toml(path, "experiment"))


def load_variants(path: Path) -> tuple[str, dict[str, Experiment]]:
    """Read all experiments of a file: its name, and each by its variant; ``""`` without any.

    A file may say once what several experiments have in common, and of each ``[[variant]]`` its
    ``name`` and what is its own: a table of the variant replaces fields of the file's table of
    that name, anything else the whole. The experiments are called ``<file's name>-<variant>``.

    Raises:
        UserError: As `load_experiment`, or a variant without a name of its own.
    """
    data = read_toml(path, "experiment")
    variants = data.pop("variant", None)
    if not variants:
        only = parse_experiment(data)
        return only.name, {"": only}
    experiments: dict[str, Experiment] = {}
    for own in variants if isinstance(variants, list) else [variants]:
        name = own.pop("name", None) if isinstance(own, dict) else None
        if not isinstance(name, str) or not re.fullmatch(NAME, name) or name in experiments:
            raise UserError(
                "The 'name' of every [[variant]] must be its own, of letters, digits, '.', '_'"
                f" and '-'. Got {name!r}."
            )
        merged = {**data, **{key: _over(data.get(key), value) for key, value in own.items()}}
        if "name" in data:
            merged["name"] = f"{data['name']}-{name}"
        experiments[name] = parse_experiment(merged)
    return str(data["name"]), experiments


def toml_of(experiment: Path | Experiment) -> str:
    """An experiment as the text of a TOML file: of a file its own."""
    if not isinstance(experiment, Experiment):
        return experiment.read_text(encoding="utf-8")
    return to_toml(experiment)


def _over(common: Any, own: Any) -> Any:
    """A variant's value of a field: its fields over those of the same table, or the whole."""
    return {**common, **own} if isinstance(common, dict) and isinstance(own, dict) else own


def parse_experiment(data: Mapping[str, Any]) -> Experiment:
    """An experiment from plain data, as it stands in a TOML file.

    Raises:
        UserError: A field is wrong; one line per field.
    """
    if "stages" in data or "study" in data:
        raise UserError("This is a study or a stage of one. Run it with: facefocus run FILE.")
    return parse(Experiment, data, "experiment")
