"""The saliency methods by name, and what each kind of method is.

A new method is one function and one registration. What a kind's function takes and gives is
written at its class; what every method has in common is `Method`.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import iter_modules
from typing import ClassVar, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.progress import Progress, silent
from facefocus.core.registry import Registry
from facefocus.models.layers import Call, LayerTable, TokenCall
from facefocus.models.recognizer import Recognizer, WhiteBox
from facefocus.models.user_code import own_code
from facefocus.saliency.explainer import Explainer, Hide, Needs, Options


@runtime_checkable
class Option(Protocol):
    """One option of a method; values are text, so that they can be part of a key."""

    @property
    def default(self) -> str:
        """The value where none is given."""

    def problem(self, value: str) -> str | None:
        """What a value must be, if `value` is not that: ``"must be one of a, b. Got 'c'."``."""


class Choice(NamedTuple):
    """One of a few words."""

    default: str
    allowed: tuple[str, ...]

    def problem(self, value: str) -> str | None:
        """See `Option`."""
        if value in self.allowed:
            return None
        known = ", ".join(self.allowed)
        return f"must be one of {known}. Got '{value}'." + did_you_mean(value, self.allowed)


class Whole(NamedTuple):
    """A whole number from `least` to `most`, written with digits only: equal numbers, equal keys.

    More than `most` is a slip of the keyboard that would fill the memory.
    """

    default: str
    least: int
    most: int = 1_000_000

    def problem(self, value: str) -> str | None:
        """See `Option`."""
        digits = value.isdecimal() and len(value) <= len(str(self.most))
        if digits and value == str(int(value)) and self.least <= int(value) <= self.most:
            return None
        return f"must be a whole number from {self.least} to {self.most}. Got '{value}'."


def resolve_options(method: str, options: Mapping[str, Option], given: Options) -> dict[str, str]:
    """All `options` of a method, the defaults replaced by what is `given`.

    Raises:
        UserError: An option the method does not have, or a value it does not allow.
    """
    for name in given:
        if name not in options:
            raise UserError(
                f"The method '{method}' has no option '{name}'."
                f" Known: {', '.join(options) or 'none'}." + did_you_mean(name, options)
            )
    chosen = {name: given.get(name, option.default) for name, option in options.items()}
    for name, value in chosen.items():
        problem = options[name].problem(value)
        if problem is not None:
            raise UserError(f"The '{name}' of the method '{method}' {problem}")
    return chosen


class Fixed(NamedTuple):
    """What a preset stands for: a method with a layer and an objective."""

    method: str
    layer: str
    objective: str


class _MethodBase:
    """What every kind of method has in common.

    Attributes:
        made_by: Module and name of its explainer, which imports this module.
    """

    name: str
    options: Mapping[str, Option]
    fixed: ClassVar[Fixed | None] = None
    made_by: ClassVar[str]

    @property
    def explainer(self) -> Explainer:
        """See `Method`."""
        module, _, name = self.made_by.partition(":")
        return cast(Explainer, getattr(importlib.import_module(module), name))

    def resolve_options(self, given: Options) -> dict[str, str]:
        """All options of the method, the defaults replaced by what is `given`.

        Raises:
            UserError: An option the method does not have, or a value it does not allow.
        """
        return resolve_options(self.name, self.options, given)


@runtime_checkable
class Method(Protocol):
    """What a plan needs to know of any method."""

    @property
    def name(self) -> str:
        """Name in the registry."""

    @property
    def version(self) -> int | str:
        """Another one whenever the same input would give another map; part of artefact keys."""

    @property
    def kind(self) -> str:
        """Which inputs the method's function takes, in a word for lists of methods."""

    @property
    def options(self) -> Mapping[str, Option]:
        """Its options by name."""

    @property
    def fixed(self) -> Fixed | None:
        """What it stands for, if it is a preset."""

    @property
    def explainer(self) -> Explainer:
        """Who makes its maps, together with those of its family."""

    def needs(self, options: Options) -> Needs:
        """What its maps depend on with these options, all of them given."""

    def resolve_options(self, given: Options) -> dict[str, str]:
        """All its options, the defaults replaced by what is given."""


class Methods(Registry[Method]):
    """The methods by name; and as ``file.py:NAME`` what a Python file of the user's has.

    There NAME is a method object, or a function from a person's images and a recognizer to a map.
    """

    def __getitem__(self, name: str) -> Method:
        """See `Registry`; also: the file cannot be run, or NAME is no method."""
        if name == GIVEN:
            from facefocus.saliency.given import GivenMethod

            return GivenMethod()
        return _method_of_file(name) if _FILE.fullmatch(name) else super().__getitem__(name)

    @contextmanager
    def holding(self, method: Method) -> Iterator[None]:
        """Know one more method inside, under its own name."""
        before = self._entries.get(method.name)
        self._entries[method.name] = method
        try:
            yield
        finally:
            del self._entries[method.name]
            if before is not None:
                self._entries[method.name] = before

    def __contains__(self, name: object) -> bool:
        return bool(isinstance(name, str) and _FILE.fullmatch(name)) or super().__contains__(name)


#: Stands for maps that were made elsewhere; no method that can be asked for.
GIVEN = "given"
_FILE = re.compile(r".+\.py:[A-Za-z_]\w*")
_FOLDER = Path(__file__).parent


def _method_of_file(name: str) -> Method:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"The file of the method '{name}' does not exist: '{path}'.")
    code = own_code(path, attribute)
    made = getattr(code.namespace, attribute, None)
    # The code is part of the version: results of other code are not taken for its own.
    if isinstance(made, Method):
        if not dataclasses.is_dataclass(made) or isinstance(made, Preset):
            return made
        version = f"{made.version} of {code.digest}"
        return cast(Method, dataclasses.replace(made, name=name, version=version))
    if callable(made) and not isinstance(made, type):

        def with_neighbours(images: np.ndarray, recognizer: Recognizer) -> np.ndarray:
            with code.visible():
                return cast(np.ndarray, made(images, recognizer))

        return FunctionMethod(name, with_neighbours, code.digest)
    known = [key for key, value in vars(code.namespace).items() if callable(value)]
    raise UserError(
        f"'{attribute}' in '{path}' must be a method or a function. Got"
        f" {type(made).__name__}.{did_you_mean(attribute, known)}"
    )


#: Every saliency method, in the order of their modules here and then of their modules' names;
#: plug-ins through the entry-point group ``facefocus.methods``.
METHODS = Methods(
    "method",
    load=(
        "facefocus.saliency.cam",
        "facefocus.saliency.attention_rollout",
        "facefocus.saliency.gradient_rollout",
        "facefocus.saliency.legrad",
        "facefocus.saliency.rise",
        "facefocus.saliency.control_variate",
        "facefocus.saliency.baselines",
        "facefocus.saliency.landmark_atlas",
        "facefocus.saliency.occlusion_gradient",
        "facefocus.saliency.learned_mask",
        "facefocus.saliency.shared_mask",
        # A new method is a file of this folder and needs no line here.
        *(f"facefocus.saliency.{module.name}" for module in iter_modules([str(_FOLDER)])),
    ),
)

#: activation [n, K, h, w], gradient [n, K, h, w], options -> map [n, h, w]
CamFunction = Callable[[Tensor, Tensor, Options], Tensor]
#: The same -> map [n, h, w], and the most that any of its pixels may change [n] where every
#: gradient is off by a share of `GRADIENT_ERROR`
BoundedFunction = Callable[[Tensor, Tensor, Options], tuple[Tensor, Tensor]]

#: Relative error of a gradient that a map has to bear: what float32 leaves of it in a network.
GRADIENT_ERROR = 1e-6
#: A map is ill-conditioned where that error may change a pixel by more than this share of the
#: map's range: on another machine it may be another map.
BEARABLE = 0.01


@dataclass(frozen=True)
class GradientMethod(_MethodBase):
    """A map from a layer's activation and the objective's gradient there.

    Attributes:
        function: (activation [n, K, h, w], gradient [n, K, h, w], options) -> map [n, h, w];
            pure, and each image on its own.
        scale_invariant: Whether a positive factor on the gradient changes only the map's factor,
            so that objectives of one family share their maps.
        options: Its options by name.
        bounded: Of a method whose maps may be ill-conditioned: `function` with its bound.
    """

    name: str
    function: CamFunction
    version: int | str
    scale_invariant: bool
    options: Mapping[str, Option] = field(default_factory=dict)
    bounded: BoundedFunction | None = None

    kind: ClassVar[str] = "gradient"
    made_by: ClassVar[str] = "facefocus.saliency.identity:CAMS"

    def needs(self, options: Options) -> Needs:
        """See `Method`."""
        return Needs(layer=True, objective=True, pairs=True, gradients=True)

    def calls_by_map(self, table: LayerTable, layer: str) -> list[tuple[int, ...]]:
        """The calls that each map of a layer or group is made at: one."""
        return [(index,) for index in table.resolve(layer)]

    def maps_at(
        self,
        calls: Sequence[Call],
        activations: Sequence[Tensor],
        gradients: Sequence[Tensor],
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        """`maps` from the raw output of one call and its gradient."""
        grids = [calls[0].on_grid(raw[0]) for raw in (activations, gradients)]
        return self.maps(grids[0], grids[1], options)

    def maps(self, activation: Tensor, gradient: Tensor, options: Options) -> tuple[Tensor, Tensor]:
        """Maps [n, h, w], and which of them are ill-conditioned [n]."""
        if self.bounded is None:
            made = self.function(activation, gradient, options)
            return made, torch.zeros(len(made), dtype=torch.bool, device=made.device)
        made, change = self.bounded(activation, gradient, options)
        return made, change > BEARABLE * (made.amax(dim=(1, 2)) - made.amin(dim=(1, 2)))


#: probabilities [n, heads, t, t] of every attention, their gradients, their calls -> map [n, h, w]
AttentionFunction = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[TokenCall]], Tensor]


@dataclass(frozen=True)
class AttentionMethod(_MethodBase):
    """A map from the probabilities of all self-attentions, and the objective's gradient there.

    Attributes:
        function: (probabilities [n, heads, t, t] of each attention, query by key, in the order in
            which they run; their gradients; their calls) -> map [n, h, w] of the patches; pure,
            and each image on its own. There are no gradients where none are used.
        scale_invariant: As of a `GradientMethod`.
        uses_gradient: Whether gradients, and so an objective, enter the map.
        options: None: the functions take none.
    """

    name: str
    function: AttentionFunction
    version: int | str
    scale_invariant: bool
    uses_gradient: bool = True
    options: Mapping[str, Option] = field(default_factory=dict, init=False)

    kind: ClassVar[str] = "attention"
    made_by: ClassVar[str] = "facefocus.saliency.identity:CAMS"

    def needs(self, options: Options) -> Needs:
        """See `Method`."""
        return Needs(attention=True, objective=self.uses_gradient, pairs=True, gradients=True)

    def calls_by_map(self, table: LayerTable, layer: str) -> list[tuple[int, ...]]:
        """All attentions at once, whatever the layer.

        Raises:
            UserError: There are none.
        """
        return [table.attention(self.name)]

    def maps_at(
        self,
        calls: Sequence[Call],
        activations: Sequence[Tensor],
        gradients: Sequence[Tensor],
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        """Maps [n, h, w], and that none of them is ill-conditioned [n]."""
        attentions = [call for call in calls if isinstance(call, TokenCall)]
        made = self.function(activations, gradients, attentions)
        return made, torch.zeros(len(made), dtype=torch.bool, device=made.device)


#: Methods that look into layers, and share their passes.
LayerMethod = GradientMethod | AttentionMethod


@runtime_checkable
class Masks(Protocol):
    """A set of masks, made anew each time it is gone through, so that it is never held whole."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of each."""

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """All options of the method, by name."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Float32 blocks [g, height, width] in order, values in [0, 1]."""


@runtime_checkable
class DeviceMasks(Masks, Protocol):
    """Masks that can be made where maps are made of them."""

    def tensors(self) -> Iterator[Tensor]:
        """The same blocks, on the device that they are for."""


#: generator, number g, (height, width), options -> float32 masks [g, height, width]
MaskFunction = Callable[[np.random.Generator, int, tuple[int, int], Options], np.ndarray]
#: similarities float64 [p, n] under each of n masks, the masks -> float64 maps [p, height * width]
CombineFunction = Callable[[np.ndarray, Masks], np.ndarray]


@dataclass(frozen=True)
class PerturbationMethod(_MethodBase):
    """A map from how similar an image stays to its reference under many masks.

    Attributes:
        draw: (generator, g, (height, width), options) -> float32 masks [g, height, width]: what
            each pixel is multiplied by, from 0 to 1.
        combine: (similarities float64 [p, n], the n masks) -> float64 maps [p, height * width];
            each row from its own similarities alone.
        options: Its options by name; ``masks``, their number, is one of them.
        shaping: Those options, besides ``masks``, that the masks themselves depend on.
        draw_on: `draw` of a device, as last argument: a tensor there of the very same masks.
        fillable: Whether its maps can be made for a fill.
    """

    name: str
    draw: MaskFunction
    combine: CombineFunction
    version: int | str
    options: Mapping[str, Option]
    shaping: tuple[str, ...] = ()
    draw_on: Callable[..., Tensor] | None = None
    fillable: bool = True

    kind: ClassVar[str] = "black-box"
    made_by: ClassVar[str] = "facefocus.saliency.perturbation:PERTURBATIONS"

    def needs(self, options: Options) -> Needs:
        """See `Method`."""
        return Needs(given_fill=self.fillable, pairs=True, seed=True, masks=True)


@dataclass(frozen=True, eq=False)
class OcclusionMap:
    """A person's map in the frame.

    Attributes:
        map: Larger means hide first; zeros where degenerate; always finite.
        degenerate: It carries no ranking: every value is equal or some are not finite.
    """

    map: Float32[np.ndarray, "h w"]
    degenerate: bool


@runtime_checkable
class FrameFunction(Protocol):
    """Maps of people from gradients in the frame itself."""

    def __call__(
        self,
        recognizers: Sequence[WhiteBox],
        people: Sequence[np.ndarray],
        hiders: Sequence[Hide],
        *,
        pixels: int,
        rngs: Sequence[np.random.Generator],
        options: Options,
        progress: Progress = silent,
        mates: Sequence[np.ndarray] | None = None,
    ) -> list[OcclusionMap]:
        """One map per person.

        Args:
            recognizers: The sources; their maps are combined into one.
            people: All frames of each person, uint8 [m, H, W, 3].
            hiders: What hides masks on each person's frames by the fill; empty for a method
                that needs no fill.
            pixels: The budget; 0 where the map serves every budget.
            rngs: One generator per person, for ties.
            options: All options of the method, resolved.
            progress: Called per backward pass.
            mates: Frames that each person's are compared with, for maps of pairs; without, the
                person's other frames.
        """


@dataclass(frozen=True)
class FrameGradientMethod(_MethodBase):
    """A map from the gradient of a person's similarity with respect to the frames' own pixels.

    The objective is the mean cosine to the person's other images; there is no layer.

    Attributes:
        function: Makes the maps of several people, each person's on its own.
        needs_fill: Whether the map depends on what pixels are replaced with.
        options: Its options by name.
        needs_budget: Whether the map depends on how many pixels will be hidden, whatever the
            options; a method with ``steps`` above 1 always does.
        rounds: (options, pixels that will be hidden) -> how often each image's gradient is taken.
    """

    name: str
    function: FrameFunction
    version: int | str
    needs_fill: bool
    options: Mapping[str, Option] = field(default_factory=dict)
    needs_budget: bool = False
    rounds: Callable[[Options, int], int] = lambda options, pixels: 1

    kind: ClassVar[str] = "frame-gradient"
    made_by: ClassVar[str] = "facefocus.saliency.frame_gradients:FRAME_GRADIENTS"

    def needs(self, options: Options) -> Needs:
        """See `Method`; made in steps, a map depends on how many pixels will be hidden."""
        budget = self.needs_budget or options.get("steps", "1") != "1"
        return Needs(
            fill=self.needs_fill, budget=budget, seed=True, gradients=True, sources="several"
        )


@dataclass(frozen=True)
class Preset:
    """A name for a gradient method with a layer and an objective, as a publication uses it.

    A plan puts `method`, `layer` and `objective` in its place; artefacts are those of the method,
    so that nothing is computed twice.
    """

    name: str
    method: str
    layer: str
    objective: str

    @property
    def fixed(self) -> Fixed:
        """See `Method`."""
        return Fixed(self.method, self.layer, self.objective)

    @property
    def version(self) -> int | str:
        """The method's."""
        return METHODS[self.method].version

    @property
    def kind(self) -> str:
        """The method's."""
        return METHODS[self.method].kind

    @property
    def options(self) -> Mapping[str, Option]:
        """The method's."""
        return METHODS[self.method].options

    @property
    def explainer(self) -> Explainer:
        """The method's."""
        return METHODS[self.method].explainer

    def needs(self, options: Options) -> Needs:
        """The method's, but for the layer and the objective, which it brings."""
        return replace(METHODS[self.method].needs(options), layer=False, objective=False)

    def resolve_options(self, given: Options) -> dict[str, str]:
        """The method's."""
        return METHODS[self.method].resolve_options(given)


#: (height, width), generator -> map [height, width]
BaselineFunction = Callable[[tuple[int, int], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Baseline(_MethodBase):
    """A map that knows neither the face nor the recognizer.

    Attributes:
        function: (frame's height and width, generator) -> float32 map [height, width].
        drawn: Whether draws may differ; else there is one.
        check: Raises `UserError` for a frame that it has no map for.
    """

    name: str
    function: BaselineFunction
    version: int | str
    options: Mapping[str, Option] = field(default_factory=dict)
    drawn: bool = True
    check: Callable[[tuple[int, int]], None] | None = None

    kind: ClassVar[str] = "baseline"
    made_by: ClassVar[str] = "facefocus.saliency.baselines:BASELINES"

    def needs(self, options: Options) -> Needs:
        """See `Method`."""
        return Needs(draws=self.drawn, seed=self.drawn, sources="none", photos="none")


#: uint8 images [m, H, W, 3] of one person, the recognizer -> map [H, W], larger: hide first
PersonFunction = Callable[[np.ndarray, Recognizer], np.ndarray]


@dataclass(frozen=True)
class FunctionMethod(_MethodBase):
    """Any function that makes a map of one person.

    Attributes:
        function: (images uint8 [m, H, W, 3] of the person, recognizer) -> map [H, W]; larger
            values are hidden first. The same input must give the same map.
        version: Another one whenever the function gives other maps; its code's hash, if it comes
            from a file.
    """

    name: str
    function: PersonFunction
    version: int | str
    options: Mapping[str, Option] = field(default_factory=dict)

    kind: ClassVar[str] = "function"
    made_by: ClassVar[str] = "facefocus.saliency.functions:FUNCTIONS"

    def needs(self, options: Options) -> Needs:
        """See `Method`."""
        return Needs()
