"""Checks that a recognizer, method, fill or nuisance keeps what the program relies on.

For whoever writes one: call `check_recognizer`, `check_method`, `check_fill` or `check_nuisance` in
your own tests, or run ``facefocus models check``. Every check looks at results, so it can fail for
any reason; what a plug-in raises is a finding like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from facefocus.benchmark.explained_images import MemoryImages
from facefocus.core.errors import UserError, located
from facefocus.core.progress import silent
from facefocus.core.seeds import generator
from facefocus.core.text import percent
from facefocus.evaluation.nuisances import NUISANCES, Nuisance, nuisance_rng, seen_under
from facefocus.faces.faceset import check_files, make_faceset, select_identities
from facefocus.faces.sources.synthetic import render
from facefocus.models.layers import LayerTable, TokenCall, trace_layers
from facefocus.models.preprocessing import Preprocessing, scale_doubt
from facefocus.models.recognizer import (
    Recognizer,
    TorchRecognizer,
    WhiteBox,
    is_recognizer,
    is_white_box,
    white_box,
)
from facefocus.models.score_only import ScoreRecognizer
from facefocus.models.token_grids import TokenGrid
from facefocus.models.zoo import load, uninitialized
from facefocus.occlusion.fills import FILLS, Fill, GapFill, fill_rng, hider
from facefocus.saliency.explainer import Explainer, MapArrays, MapRequest, MapSpec, Options
from facefocus.saliency.identity import CAMS, minmax_normalize
from facefocus.saliency.methods import (
    METHODS,
    AttentionMethod,
    Fixed,
    GradientMethod,
    Method,
    PerturbationMethod,
)
from facefocus.saliency.objectives import parse_objective
from facefocus.saliency.perturbation import PERTURBATIONS

#: Largest difference, relative to the size of what is compared, that grouping may make.
TOLERANCE = 1e-5
#: Least distance of the unit embeddings of two different pictures.
APART = 1e-5
#: Largest difference of two maps scaled to [0, 1] that count as the same.
SAME_MAP = 1e-4
#: Pictures that recognizers are tried on: one more than fill a chunk.
_NOISE, _FACES = 4, 11
#: Activations that gradient methods are tried on: images, channels, rows, columns.
_LAYER = (3, 5, 6, 4)
#: Attentions that attention methods are tried on: two layers, a class token and a grid of 2 x 3.
_ATTENTION = (3, 4, 7, 7)
_ATTENTION_CALLS = [
    TokenCall(index, "attention", "attention", 14, 7, 1, 0, False, TokenGrid(2, 3, (0,)), (0,))
    for index in (1, 2)
]
_MASKS, _SMALL = "64", (48, 40)
#: Steps of methods that take many.
_STEPS = "2"
#: What makes the work of a trial small, by option.
_FEW = {"steps": _STEPS, "samples": _STEPS, "rounds": "1", "grid": "2", "stride": "28"}


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Name of the check.
        passed: Whether the plug-in keeps it.
        detail: What was seen, or what is wrong; one line.
    """

    name: str
    passed: bool
    detail: str


#: Says what it saw; raises `_Finding` for what is wrong.
_Check = Callable[[], str]


class _Finding(Exception):
    """Something is wrong; its text says what."""


def check_recognizer(
    recognizer: object, *, again: Callable[[], object] | None = None
) -> list[CheckResult]:
    """Try a recognizer, white box or black box.

    Args:
        recognizer: What is to be a `facefocus.models.recognizer.Recognizer`.
        again: Makes it once more; adds the check that it is the same then.
    """
    first = _result("interface", lambda: _interface(recognizer))
    if not first.passed or not is_recognizer(recognizer):
        return [first]
    if isinstance(recognizer, ScoreRecognizer):
        return [first, *_results(_score_checks(recognizer))]
    trial = _Trial(recognizer)
    checks = trial.checks()
    if is_white_box(recognizer):
        checks |= _WhiteTrial(recognizer, trial).checks()
    else:
        checks["black box"] = lambda: _refused(recognizer)
    reader = getattr(recognizer, "preprocessing", None)
    if isinstance(reader, Preprocessing):
        checks["statistics"] = lambda: _statistics(reader)
    if again is not None:
        checks["made again"] = lambda: trial.made_again(again)
    return [first, *_results(checks)]


def check_method(method: object) -> list[CheckResult]:
    """Try a saliency method or baseline, by name or as an object.

    Raises:
        UserError: No method has this name.
    """
    tried = METHODS[method] if isinstance(method, str) else method
    first = _result("description", lambda: _description(method, tried))
    checks: dict[str, _Check] = {}
    if not first.passed:
        return [first]
    method = cast(Method, tried)
    if method.fixed is None:
        checks = _TRIALS.get(method.explainer, _MapTrial)(method).checks()
    return [first, *_results(checks)]


def check_fill(fill: str | Fill) -> list[CheckResult]:
    """Try a fill, by name, as a function or as a `GapFill`.

    Raises:
        UserError: No fill has this name.
    """
    tried = FILLS[fill] if isinstance(fill, str) else fill
    frames = generator(0, "check", "fill").integers(0, 256, (4, 20, 16, 3), dtype=np.uint8)
    mask = generator(0, "check", "mask").random((20, 16)) < 0.3
    mask[5:12, 4:10] = True

    def called(given: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        rngs = [fill_rng(0, f"image {row}") for row in rows]
        if isinstance(tried, GapFill):
            return np.asarray(tried.prepare(given, rngs)(mask))
        return np.asarray(tried(given, rngs))

    def made(rows: Sequence[int], given: np.ndarray = frames) -> np.ndarray:
        return called(given[list(rows)].copy(), rows)

    def content() -> str:
        _need_array(made(range(4)), np.uint8, frames.shape, "content")
        return "uint8, the shape of the frames"

    def alone() -> str:
        others = np.roll(frames, 7, axis=2)
        others[2] = frames[2]
        batch = made(range(4))
        _need_equal(made([2]), batch[2:3], "an image alone is filled otherwise than among others")
        _need_equal(made(range(4), others)[2], batch[2], "an image's content depends on the others")
        return "the same content whatever the other images"

    def pure() -> str:
        given = frames.copy()
        called(given, range(4))
        _need_equal(given, frames, "the frames were changed")
        return "the frames stay as they were"

    checks: dict[str, _Check] = {
        "content": content,
        "deterministic": lambda: _repeats(lambda: made(range(4))),
        "each on its own": alone,
        "pure": pure,
    }
    if isinstance(tried, GapFill):
        checks |= _gap_checks(tried, frames, mask)
    return _results(checks)


def _gap_checks(fill: GapFill, frames: np.ndarray, mask: np.ndarray) -> dict[str, _Check]:
    """What is asked of a fill that sees the mask."""

    def rngs() -> list[np.random.Generator]:
        return [fill_rng(0, f"image {row}") for row in range(len(frames))]

    def filled(given: np.ndarray) -> np.ndarray:
        return np.asarray(fill.prepare(given.copy(), rngs())(mask))

    def gap_only() -> str:
        _need_equal(filled(frames)[:, ~mask], frames[:, ~mask], "a visible pixel was changed")
        return "visible pixels stay as they were"

    def blind() -> str:
        others = np.where(mask[..., None], 255 - frames, frames)
        _need_equal(filled(others), filled(frames), "content depends on hidden pixels")
        return "content depends on no pixel that the mask hides"

    def each_mask() -> str:
        masks = np.stack([np.roll(mask, shift, axis=1) for shift in range(len(frames))])
        masks[-1] = True
        hide = hider(fill, frames.copy(), rngs())
        together = hide(masks)
        for row, own in enumerate(masks):
            _need_equal(hide(own)[row], together[row], "a mask of one image is filled otherwise")
        return "one mask for all images or one for each; also all of an image"

    return {"visible pixels": gap_only, "hidden pixels": blind, "each mask": each_mask}


def check_nuisance(nuisance: str | Nuisance) -> list[CheckResult]:
    """Try a nuisance, by name or as an object.

    Raises:
        UserError: No nuisance has this name.
    """
    tried = NUISANCES[nuisance] if isinstance(nuisance, str) else nuisance
    frames = generator(0, "check", "nuisance").integers(1, 256, (4, 20, 16, 3), dtype=np.uint8)
    mask = np.zeros((20, 16), bool)
    mask[5:12, 4:10] = True

    def made(rows: Sequence[int], given: np.ndarray = frames, hidden: bool = True) -> np.ndarray:
        names = [f"image {row}" for row in rows]
        given = given[list(rows)]
        before = given.copy()
        seen = seen_under(
            tried,
            given,
            mask & hidden,
            "black",
            hide=lambda fill: hider(fill, given, [fill_rng(0, name) for name in names]),
            rngs=[nuisance_rng(0, "check", name) for name in names],
        )
        _need_equal(given, before, "the frames were changed")
        return np.asarray(seen)

    def content() -> str:
        for hidden in (True, False):
            _need_array(made(range(4), hidden=hidden), np.uint8, frames.shape, "frames")
        return "uint8, the shape of the frames, hidden and clean"

    def alone() -> str:
        others = np.roll(frames, 7, axis=2)
        others[2] = frames[2]
        batch = made(range(4))
        _need_equal(made([2]), batch[2:3], "an image alone is changed otherwise than among others")
        _need_equal(made(range(4), others)[2], batch[2], "an image depends on the others")
        return "the same whatever the other images"

    return _results(
        {
            "content": content,
            "deterministic": lambda: _repeats(lambda: made(range(4))),
            "each on its own": alone,
        }
    )


# What all checks share ----------------------------------------------------------------------------


def _results(checks: Mapping[str, _Check]) -> list[CheckResult]:
    return [_result(name, check) for name, check in checks.items()]


def _result(name: str, check: _Check) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except _Finding as finding:
        return CheckResult(name, False, str(finding))
    # Whatever the plug-in raises is what there is to report.
    except Exception as error:
        return CheckResult(name, False, f"raised {located(error)}")


def _need(condition: object, otherwise: str) -> None:
    if not condition:
        raise _Finding(otherwise)


def _need_array(array: object, dtype: type, shape: tuple[int, ...], what: str) -> None:
    right = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
    wanted = f"{np.dtype(dtype).name} {list(shape)}"
    _need(right, f"the {what} must be {wanted}, got {_shown(array)}")


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray | Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _need_equal(actual: np.ndarray, wanted: np.ndarray, otherwise: str) -> None:
    same = actual.shape == wanted.shape and actual.tobytes() == wanted.tobytes()
    _need(same, otherwise)


def _repeats(make: Callable[[], np.ndarray]) -> str:
    _need_equal(make(), make(), "two calls with the same input differ")
    return "the same bits twice"


def _largest_difference(actual: np.ndarray, wanted: np.ndarray) -> float:
    """Largest distance of two rows, relative to the wanted row's length; infinite where NaN."""
    if actual.shape != wanted.shape:
        return float("inf")
    a, b = (value.reshape(len(value), -1).astype(np.float64) for value in (actual, wanted))
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    sizes = np.maximum(np.linalg.norm(b, axis=1), np.finfo(np.float32).tiny)
    worst = float((np.linalg.norm(a - b, axis=1) / sizes).max())
    return worst if np.isfinite(worst) else float("inf")


def _close(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """That each two are the same to `TOLERANCE`; says whether bit for bit."""
    worst = 0.0
    for how, (actual, wanted) in pairs.items():
        difference = _largest_difference(actual, wanted)
        _need(difference <= TOLERANCE, f"{how}: the result differs by {difference:.1e}")
        worst = max(worst, difference)
    return "bit for bit" if worst == 0 else f"to {worst:.1e}"


# Recognizers --------------------------------------------------------------------------------------


def _interface(recognizer: object) -> str:
    lacking = [name for name in ("name", "fingerprint", "embed") if not hasattr(recognizer, name)]
    _need(not lacking, f"it lacks {', '.join(lacking)}")
    name, fingerprint = (getattr(recognizer, field) for field in ("name", "fingerprint"))
    _need(isinstance(name, str) and name, f"its name must be a text, got {name!r}")
    _need(
        isinstance(fingerprint, str) and fingerprint,
        f"its fingerprint must be a text, got {fingerprint!r}",
    )
    return f"'{name}'"


@cache
def _pictures() -> dict[str, np.ndarray]:
    """Frames of four kinds, uint8 [n, 112, 112, 3]."""
    faces = np.stack([render("all", 0, person, 0).frame for person in range(_FACES)])
    noise = generator(0, "check", "noise").integers(0, 256, (_NOISE, *faces.shape[1:]), np.uint8)
    black = np.zeros_like(faces[:1])
    return {"black": black, "white": ~black, "noise": noise, "face-like": faces}


def _score_checks(recognizer: ScoreRecognizer) -> dict[str, _Check]:
    """The checks of a recognizer that gives scores only; none of them is answered by the store."""
    faces = _pictures()["face-like"][:3]

    def scores() -> str:
        own = [recognizer.compare(face, face) for face in faces]
        others = [recognizer.compare(faces[a], faces[b]) for a, b in ((0, 1), (1, 2), (2, 0))]
        higher = min(own) > max(others)
        _need(higher, "a picture must be more alike itself than another person's")
        return f"{min(own):.4g} and more for equal pictures, up to {max(others):.4g} for others"

    def deterministic() -> str:
        return _repeats(lambda: np.array(recognizer.compare(faces[0], faces[1])))

    def order() -> str:
        first, second = (recognizer.compare(faces[a], faces[b]) for a, b in ((0, 1), (1, 0)))
        return "the same" if first == second else f"matters: {first:.4g}, {second:.4g}"

    return {"scores": scores, "deterministic": deterministic, "order of the two": order}


class _Trial:
    """The checks of any recognizer; embeddings are made once where that is enough."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self.kinds = _pictures()
        self.frames = np.concatenate(list(self.kinds.values()))

    @cached_property
    def embeddings(self) -> np.ndarray:
        return self.embed(self.frames)

    @cached_property
    def by_kind(self) -> dict[str, np.ndarray]:
        """The same, each kind of picture in a call of its own."""
        return {kind: self.embed(frames) for kind, frames in self.kinds.items()}

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return self.recognizer.embed(frames.copy())

    def checks(self) -> dict[str, _Check]:
        return {
            "embeddings": self.shape,
            "finite": self.finite,
            "evaluation mode": self.evaluation_mode,
            "deterministic": self.deterministic,
            "grouping": self.grouping,
            "pure": self.pure,
            "distinct": self.distinct,
            "colors": self.colors,
            "fingerprint": self.fingerprint,
        }

    def evaluation_mode(self) -> str:
        """Batch normalization and dropout depend on the batch and on chance in training mode."""
        if isinstance(self.recognizer, TorchRecognizer):
            return "set for every pass"
        made = getattr(self.recognizer, "_made", self.recognizer)
        held = [*getattr(made, "__dict__", {}).values(), getattr(made, "module", None)]
        for network in (value for value in held if isinstance(value, nn.Module)):
            training = [name for name, part in network.named_modules() if _learns(part)]
            listed = ", ".join(f"'{name}'" for name in training[:2])
            _need(not training, f"{listed} are in training mode: call eval() on the network")
        return "no network of torch is seen in training mode"

    def colors(self) -> str:
        """Said, never failed: a recognizer may well see gray."""
        pictures = self.kinds["face-like"][:4]
        seen = _largest_difference(self.embed(pictures[..., ::-1]), self.embed(pictures))
        if seen == 0:
            return "swapping red and blue changes nothing: it sees no color"
        return f"swapping red and blue changes an embedding by up to {percent(seen, 0)}"

    def shape(self) -> str:
        array: object = self.embeddings
        count = len(array) if isinstance(array, np.ndarray) and array.ndim else len(self.frames)
        rows = f"{len(self.frames)} frames gave {count} embeddings: each needs its own row"
        _need(count == len(self.frames), rows)
        ndim = array.ndim if isinstance(array, np.ndarray) else 0
        length = self.embeddings.shape[1] if ndim == 2 else 0
        _need_array(array, np.float32, (len(self.frames), length or 2), "embeddings")
        return f"float32 [{len(self.frames)}, {length}]"

    def finite(self) -> str:
        for kind, embeddings in self.by_kind.items():
            finite = np.isfinite(embeddings).all()
            _need(finite, f"an embedding of a {kind} picture is not finite")
        return ", ".join(self.kinds)

    def deterministic(self) -> str:
        again = self.embed(self.frames)
        _need_equal(again, self.embeddings, "the same frames have other embeddings the second time")
        return "the same bits twice"

    def grouping(self) -> str:
        wanted = self.embeddings
        order = generator(0, "check", "order").permutation(len(self.frames))
        shuffled = np.empty_like(wanted)
        shuffled[order] = self.embed(self.frames[order])
        alone = self.embed(self.frames[-1:])
        return _close(
            {
                "in another order": (shuffled, wanted),
                "in smaller groups": (np.concatenate(list(self.by_kind.values())), wanted),
                "one alone": (alone, wanted[-1:]),
                "on another number of threads": (self.on_other_threads(), wanted),
            }
        )

    def on_other_threads(self) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(1 if before > 1 else 2)
        try:
            return self.embed(self.frames)
        finally:
            torch.set_num_threads(before)

    def pure(self) -> str:
        given = self.kinds["noise"].copy()
        wanted = self.recognizer.embed(given)
        _need_equal(given, self.kinds["noise"], "the frames were changed")
        given.setflags(write=False)
        seen = _largest_difference(self.recognizer.embed(given), wanted)
        _need(seen <= TOLERANCE, f"read-only frames are embedded otherwise, by {seen:.1e}")
        return "the frames stay as they were"

    def distinct(self) -> str:
        # Pictures without structure may look alike to a recognizer, so they are left out.
        rows = self.embeddings[-(_NOISE + _FACES) :].astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        _need((lengths > 0).all(), "an embedding is zero, so it has no direction")
        units = rows / lengths
        distances = np.linalg.norm(units[:, None] - units[None], axis=2)
        least = distances[np.triu_indices(len(units), 1)].min()
        _need(least > APART, f"two different pictures are {least:.1e} apart")
        return f"at least {least:.1e} apart"

    def fingerprint(self) -> str:
        before = self.recognizer.fingerprint
        self.embed(self.frames[:2])
        _need(self.recognizer.fingerprint == before, "it changed after embedding")
        return before[:12]

    def made_again(self, make: Callable[[], object]) -> str:
        other = make()
        _need(is_recognizer(other), f"it is a {type(other).__name__} the second time")
        assert is_recognizer(other)
        same = other.fingerprint == self.recognizer.fingerprint
        _need(same, "its fingerprint differs from the first one's: are its weights random?")
        _need_equal(other.embed(self.frames.copy()), self.embeddings, "its embeddings differ")
        return "the same fingerprint and embeddings"


def _statistics(reader: Preprocessing) -> str:
    doubt = scale_doubt(reader)
    _need(doubt is None, doubt or "")
    return "mean and std are in 0-255, as pixels are"


def _refused(recognizer: Recognizer) -> str:
    fields = ("module", "preprocessing", "layers", "capture")
    shown = [field for field in fields if hasattr(recognizer, field)]
    lacking = ", ".join(field for field in fields if field not in shown)
    # A black box may well keep its preprocessing; layers or a capture say that it means to show.
    half = "layers" in shown or "capture" in shown
    _need(not half, f"it has {', '.join(shown)} but lacks {lacking}, so it is no white box")
    try:
        white_box(recognizer, "this check")
    except UserError as error:
        _need("\n" not in str(error), "the refusal is more than one line")
        return "gradients are refused with a message"
    raise _Finding("gradients were not refused")


def _learns(part: nn.Module) -> bool:
    """Whether a layer does in training mode what it does not otherwise."""
    kinds = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    return part.training and isinstance(part, kinds)


class _WhiteTrial:
    """The further checks of a white box."""

    def __init__(self, box: WhiteBox, trial: _Trial) -> None:
        self.box = box
        self.trial = trial
        self.frames = trial.frames[-(_NOISE + _FACES) :][:6]

    def checks(self) -> dict[str, _Check]:
        return {
            "layers": self.layers,
            "capture": self.capture,
            "gradients": self.gradients,
            "left as found": self.left_as_found,
        }

    def tried_layers(self) -> list[int]:
        """First, middle and last spatial layer."""
        spatial = self.box.layers().spatial
        _need(spatial, "no layer is spatial")
        return sorted({spatial[0], spatial[len(spatial) // 2], spatial[-1]})

    def layers(self) -> str:
        table = self.box.layers()
        _need(isinstance(table, LayerTable) and table.calls, "the table of layers is empty")
        reader = self.box.preprocessing
        channels = 1 if reader.channels == "gray" else 3
        traced = trace_layers(self.box.module, (channels, *reader.size))
        same = self.box.layers() == table and traced == table
        _need(same, "the layers change from one pass to the next")
        beside = f" and {len(table.tokens)} calls on tokens" if table.tokens else ""
        count = len(table.convolutions)
        return f"{count} convolutions{beside}, {len(table.spatial)} of them spatial"

    def capture(self) -> str:
        indices = self.tried_layers()
        with self.box.capture(self.frames, indices) as captured:
            embeddings = captured.embeddings.float().cpu().numpy()
            calls = {index: self.box.layers().calls[index - 1] for index in indices}
            outputs = captured.activations
            shapes = {index: tuple(calls[index].on_grid(outputs[index]).shape) for index in indices}
        for index, call in calls.items():
            shape = (len(self.frames), call.channels, call.height, call.width)
            _need(
                shapes[index] == shape,
                f"the output of layer {index} must be {list(shape)}, got {list(shapes[index])}",
            )
        start = len(self.trial.frames) - _NOISE - _FACES
        wanted = self.trial.embeddings[start : start + len(self.frames)]
        seen = _largest_difference(embeddings, wanted)
        # Two ways through the network, perhaps in two libraries: looser than one way twice.
        _need(seen <= 1e-3, f"the captured embeddings differ from those of embed by {seen:.1e}")
        return f"layers {', '.join(map(str, indices))}"

    def gradients(self) -> str:
        with self.box.capture(self.frames, self.tried_layers()) as captured:
            # Another image's embedding: along its own, one of unit length has no gradient.
            gradients = captured.gradients(captured.embeddings.roll(1, 0))
        for index in self.tried_layers():
            _need(gradients[index].isfinite().all(), f"the gradient at layer {index} is not finite")
            _need(gradients[index].any(), f"the gradient at layer {index} is zero")
        return f"layers {', '.join(map(str, self.tried_layers()))}"

    def left_as_found(self) -> str:
        indices = self.tried_layers()
        before = dict(_state(self.box.module))
        with self.box.capture(self.frames[:2], indices) as captured:
            captured.gradients(torch.ones_like(captured.embeddings))
        _compare(before, dict(_state(self.box.module)), "after a capture")
        try:
            self.box.capture(self.frames[:2], [0])
        except UserError:
            pass
        else:
            raise _Finding("a layer 0, which does not exist, was captured")
        _compare(before, dict(_state(self.box.module)), "after an error")
        return "modes, flags, gradients, hooks and weights"


def _state(network: object) -> Iterator[tuple[str, object]]:
    """Everything of a network that a capture could leave changed."""
    yield "torch's gradient mode", torch.is_grad_enabled()
    if not isinstance(network, nn.Module):
        return
    for path, part in network.named_modules():
        yield f"the mode of '{path}'", part.training
        hooks = {key: tuple(value) for key, value in vars(part).items() if key.endswith("_hooks")}
        yield f"a hook of '{path}'", hooks
    for path, parameter in network.named_parameters():
        yield f"requires_grad of '{path}'", parameter.requires_grad
        yield f"the gradient of '{path}'", _digest(parameter.grad)
    for path, value in network.state_dict(keep_vars=True).items():
        yield f"the value of '{path}'", _digest(value)


def _digest(value: object) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()


def _compare(before: dict[str, object], after: dict[str, object], when: str) -> None:
    changed = [what for what in before | after if before.get(what) != after.get(what)]
    _need(not changed, f"{when}, {changed[0]} was not as before" if changed else "")


# Methods ------------------------------------------------------------------------------------------


def _description(given: object, method: object) -> str:
    parts = ("name", "version", "kind", "options", "explainer", "needs", "resolve_options")
    # The class first: a property of a preset may raise.
    lacking = [
        part for part in parts if not hasattr(type(method), part) and not hasattr(method, part)
    ]
    _need(not lacking, f"it is no method: it lacks {', '.join(lacking)}")
    method = cast(Method, method)
    if isinstance(given, str):
        _need(method.name == given, f"it is registered as '{given}' but named '{method.name}'")
    if method.fixed is not None:
        _fixed(method.fixed)
    version = method.version
    # A text is the version of a method from a file: its code's hash.
    right = isinstance(version, str) or (type(version) is int and version > 0)
    _need(right, "its version must be 1 or more")
    for name, option in method.options.items():
        problem = option.problem(option.default)
        _need(problem is None, f"the default of '{name}' {problem}")
    return f"{method.kind}, version {str(version)[:12]}"


def _fixed(fixed: Fixed) -> None:
    """What a preset stands for."""
    _need(fixed.method in METHODS, f"there is no method '{fixed.method}'")
    needs = METHODS[fixed.method].needs(METHODS[fixed.method].resolve_options({}))
    _need(needs.layer and needs.objective, f"'{fixed.method}' is no gradient method")
    parse_objective(fixed.objective)


def _variants(method: Method, given: Options) -> list[dict[str, str]]:
    """The default options, and every other word of each option that is a choice."""
    chosen = [dict(given)]
    for name, option in method.options.items():
        words = getattr(option, "allowed", ())
        chosen += [{**given, name: word} for word in words if word != option.default]
    return [method.resolve_options(options) for options in chosen]


def _each(variants: Sequence[Options], check: Callable[[Options], str]) -> _Check:
    """The check for all variants; the detail is the first one's."""

    def run() -> str:
        details = []
        for options in variants:
            try:
                details.append(check(options))
            except _Finding as finding:
                shown = ", ".join(f"{name}={value}" for name, value in options.items())
                raise _Finding(f"{finding}" + f" ({shown})" * bool(shown)) from None
        return details[0] + f" ({len(variants)} variants)" * (len(variants) > 1)

    return run


class _GradientTrial:
    """Checks of a method that maps activation and gradient to a map."""

    #: Of what it is given, and of its maps.
    given: tuple[int, ...] = _LAYER
    wanted: tuple[int, ...] = (_LAYER[0], *_LAYER[2:])

    def __init__(self, method: Any) -> None:
        self.method = method
        rng = generator(0, "check", "layer")
        self.activation, self.gradient = (
            torch.from_numpy(rng.standard_normal(self.given, np.float32)) for _ in range(2)
        )
        self.senseless = {
            "a gradient that is not a number": (self.activation, self.activation * 0 + torch.nan)
        }

    def call(self, activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
        """The method's function."""
        made: Tensor = self.method.function(activation, gradient, options)
        return made

    def checks(self) -> dict[str, _Check]:
        checks = {
            "map": self.shape,
            "deterministic": lambda options: _repeats(lambda: self.map(options).numpy()),
            "each on its own": self.alone,
            "degenerate input": self.degenerate,
            "pure": self.pure,
        }
        if self.method.scale_invariant:
            checks["scale invariant"] = self.scale
        variants = _variants(self.method, {})
        return {name: _each(variants, check) for name, check in checks.items()}

    def map(self, options: Options, rows: slice | list[int] = slice(None)) -> Tensor:
        activation, gradient = self.activation[rows].clone(), self.gradient[rows].clone()
        return self.call(activation, gradient, options)

    def shape(self, options: Options) -> str:
        saliency_map: object = self.map(options)
        right = isinstance(saliency_map, Tensor) and saliency_map.is_floating_point()
        right = right and cast(Tensor, saliency_map).shape == self.wanted
        _need(right, f"the map must be floats {list(self.wanted)}, got {_shown(saliency_map)}")
        _need(self.map(options).isfinite().all(), "the map of a finite input is not finite")
        return "floats [n, h, w], finite"

    def alone(self, options: Options) -> str:
        batch = self.map(options).numpy()
        back = list(range(_LAYER[0]))[::-1]
        return _close(
            {
                "one alone": (self.map(options, slice(1, 2)).numpy(), batch[1:2]),
                "in another order": (self.map(options, back).numpy(), batch[back]),
            }
        )

    def degenerate(self, options: Options) -> str:
        """That nothing raises, and that no ranking is made of nothing."""
        zeros = torch.zeros(self.given)
        nothing = {"zeros": (zeros, zeros), **self.senseless}
        harmless = {
            "a gradient of zero": (self.activation, zeros),
            "an activation of zero": (zeros, self.gradient),
            "an infinite gradient": (self.activation, self.gradient / 0),
        }
        for what, (activation, gradient) in (nothing | harmless).items():
            saliency_map = self.call(activation.clone(), gradient.clone(), options)
            _need(saliency_map.shape == self.wanted, f"{what}: the map must be {list(self.wanted)}")
            ranks = bool(minmax_normalize(saliency_map)[1].any())
            _need(what not in nothing or not ranks, f"{what}: the map ranks pixels all the same")
        return "no error, and no ranking out of nothing"

    def pure(self, options: Options) -> str:
        given = self.activation.clone(), self.gradient.clone()
        self.call(*given, options)
        for name, after, wanted in zip(
            ("activation", "gradient"), given, (self.activation, self.gradient), strict=True
        ):
            _need_equal(after.numpy(), wanted.numpy(), f"the {name} was changed")
        return "its input stays as it was"

    def scale(self, options: Options) -> str:
        wanted, ranked = minmax_normalize(self.map(options))
        for factor in (0.5, 1000.0):
            scaled = self.call(self.activation.clone(), self.gradient * factor, options)
            normalized, usable = minmax_normalize(scaled)
            worst = float((normalized - wanted).abs().max())
            same = worst <= SAME_MAP and torch.equal(usable, ranked)
            _need(same, f"{factor:g} times the gradient moves the scaled map by {worst:.1e}")
        return "as it declares"


class _AttentionTrial(_GradientTrial):
    """Checks of a method that maps all attentions and their gradients to a map."""

    given = _ATTENTION
    wanted = (_ATTENTION[0], 2, 3)

    def __init__(self, method: AttentionMethod) -> None:
        super().__init__(method)
        self.activation = self.activation.softmax(-1)
        if not method.uses_gradient:
            self.senseless = {}

    def call(self, activation: Tensor, gradient: Tensor, options: Options) -> Tensor:
        """The method's function, on two layers of two heads."""
        layers = [[raw[:, :2], raw[:, 2:]] for raw in (activation, gradient)]
        pulls = layers[1] if self.method.uses_gradient else []
        made: Tensor = self.method.function(layers[0], pulls, _ATTENTION_CALLS)
        return made


def _layer_trial(method: GradientMethod | AttentionMethod) -> _GradientTrial:
    return (
        _AttentionTrial(method) if isinstance(method, AttentionMethod) else _GradientTrial(method)
    )


@dataclass(frozen=True)
class _Drawn:
    """A set of masks that is held: see `facefocus.saliency.methods.Masks`."""

    masks: np.ndarray
    frame: tuple[int, int]
    options: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.masks)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(np.split(self.masks.copy(), 2))


class _PerturbationTrial:
    """Checks of a method that compares an image under many masks."""

    def __init__(self, method: PerturbationMethod) -> None:
        self.method = method
        rng = generator(0, "check", "similarities")
        self.similarities = rng.uniform(-0.2, 1, (3, int(_MASKS)))

    def checks(self) -> dict[str, _Check]:
        checks = {
            "masks": self.masks,
            "masks deterministic": lambda options: _repeats(lambda: self.draw(options)),
            "map": self.shape,
            "each on its own": self.alone,
            "pure": self.pure,
        }
        variants = _variants(self.method, {"masks": _MASKS})
        return {name: _each(variants, check) for name, check in checks.items()}

    def draw(self, options: Options) -> np.ndarray:
        return self.method.draw(generator(0, "check", "masks"), int(_MASKS), _SMALL, options)

    def map(self, options: Options, similarities: np.ndarray) -> np.ndarray:
        held = _Drawn(self.draw(options), _SMALL, tuple(sorted(options.items())))
        return self.method.combine(similarities, held)

    def masks(self, options: Options) -> str:
        masks = self.draw(options)
        _need_array(masks, np.float32, (int(_MASKS), *_SMALL), "masks")
        inside = masks.min() >= 0 and masks.max() <= 1
        _need(inside, f"masks must lie in [0, 1], got {masks.min():g}..{masks.max():g}")
        return "float32 in [0, 1]"

    def shape(self, options: Options) -> str:
        maps = self.map(options, self.similarities.copy())
        _need_array(maps, np.float64, (3, _SMALL[0] * _SMALL[1]), "maps")
        _need(np.isfinite(maps).all(), "a map of finite similarities is not finite")
        return "float64 [pairs, pixels], finite"

    def alone(self, options: Options) -> str:
        wanted = self.map(options, self.similarities.copy())
        return _close(
            {"one alone": (self.map(options, self.similarities[1:2].copy()), wanted[1:2])}
        )

    def pure(self, options: Options) -> str:
        given = self.similarities.copy()
        self.map(options, given)
        _need_equal(given, self.similarities, "the similarities were changed")
        return "its input stays as it was"


def _frame_of(method: Method) -> tuple[int, int]:
    """A frame to try a method on: not square, unless its maps are of square frames alone."""
    spec = MapSpec(label="map", method=method.name, options=())
    try:
        with METHODS.holding(method):
            method.explainer.check(spec, (24, 20))
    except UserError:
        return 24, 24
    return 24, 20


class _MapTrial:
    """Checks of any method by the maps that its explainer makes, with a small network."""

    def __init__(self, method: Method) -> None:
        self.method = method
        people = ["a", "a", "a", "b", "b"]
        if method.needs(method.resolve_options({})).shared:
            people += [f"other {number}" for number in range(8) for _ in range(2)]
        size = (len(people), *_frame_of(method), 3)
        frames = generator(0, "check", "people").integers(0, 256, size, dtype=np.uint8)
        names = [f"image {row}" for row in range(len(people))]
        self.faces = make_faceset(frames, people, names, "check")
        self.people = select_identities(self.faces, people=["a", "b"])
        self.box = _small_white_box()
        #: The first maps of both people, by the options.
        self._first: dict[tuple[tuple[str, str], ...], np.ndarray] = {}

    def checks(self) -> dict[str, _Check]:
        checks = {
            "map": self.shape,
            "deterministic": self.deterministic,
            "each on its own": self.alone,
            "pure": self.pure,
        }
        few = {
            name: few
            for name, few in _FEW.items()
            if name in self.method.options and self.method.options[name].default != "1"
        }
        variants = _variants(self.method, few)
        return {name: _each(variants, check) for name, check in checks.items()}

    def made(self, options: Options, rows: slice, labels: Sequence[str]) -> list[MapArrays]:
        needs = self.method.needs(options)
        layer = self.box.layers().spatial[-1]
        specs = [
            MapSpec(
                label=label,
                method=self.method.name,
                options=tuple(sorted(options.items())),
                layer=str(layer) if needs.layer else None,
                calls=(layer,) if needs.layer else (),
                objective="cosine" if needs.objective else None,
                fill="black" if needs.fill else None,
                budget=1 / 16 if needs.budget else None,
                draw=0 if needs.draws else None,
            )
            for label in labels
        ]
        sources = [] if needs.sources == "none" else [self.box.name]
        images = MemoryImages(self.faces, {self.box.name: self.box}, 0, np.arange(5))
        with METHODS.holding(self.method):
            request = MapRequest(specs, sources, self.people[rows], images)
            return [arrays for _, arrays in self.method.explainer.maps(request, silent)]

    def maps(self, options: Options, rows: slice = slice(None)) -> np.ndarray:
        return self.made(options, rows, ["map"])[0].maps

    def first(self, options: Options) -> np.ndarray:
        key = tuple(sorted(options.items()))
        if key not in self._first:
            self._first[key] = self.maps(options)
        return self._first[key]

    def shape(self, options: Options) -> str:
        maps = self.first(options)
        count = len(maps) if isinstance(maps, np.ndarray) else 0
        _need(count == 2, f"there must be 1 map for each of 2 people, got {count}")
        _need_array(maps, np.float32, (2, *self.faces.frames.shape[1:3]), "maps")
        _need(np.isfinite(maps).all(), "a map is not finite")
        return "float32 [people, h, w], finite"

    def deterministic(self, options: Options) -> str:
        calls = iter((self.first, self.maps))
        return _repeats(lambda: next(calls)(options))

    def alone(self, options: Options) -> str:
        return _close({"one alone": (self.maps(options, slice(1, 2)), self.first(options)[1:])})

    def pure(self, options: Options) -> str:
        first, second = self.made(options, slice(1, 2), ["map", "again"])
        _need_equal(second.maps, first.maps, "the frames were changed: a second map differs")
        return "the frames stay as they were"


def _small_white_box() -> TorchRecognizer:
    module = uninitialized(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 8),
        )
    )
    rng = generator(0, "check", "weights")
    for value in module.state_dict().values():
        value.copy_(torch.from_numpy(rng.standard_normal(value.shape) / 4))
    reading = Preprocessing((24, 20), None, "rgb", (127.5,) * 3, (127.5,) * 3)
    module.eval().requires_grad_(False)
    return TorchRecognizer("small", module, reading, identity="small")


#: Explainers whose methods are functions that can be tried by themselves, in every detail.
_TRIALS: dict[Explainer, Callable[[Any], _GradientTrial | _PerturbationTrial | _MapTrial]] = {
    CAMS: _layer_trial,
    PERTURBATIONS: _PerturbationTrial,
}


def check_named(
    recognizer: str | None = None,
    *,
    method: str | None = None,
    fill: str | None = None,
    nuisance: str | None = None,
    faces: Path | None = None,
    preprocessing: Mapping[str, object] | None = None,
) -> list[CheckResult]:
    """The checks of one recognizer, method, fill or nuisance, by name, or of a prepared face set.

    Args:
        recognizer: Anything that `load_recognizer` takes.
        method: Name of a saliency method or baseline.
        fill: Name of a fill.
        nuisance: Name of a nuisance.
        preprocessing: How a recognizer from a file reads frames; see `load_recognizer`.
        faces: Folder of a face set, whose files are compared with their hashes; beside a
            recognizer, see `propose_preprocessing`.

    Raises:
        UserError: Not exactly one of the five is named, or it cannot be loaded.
    """
    given = (recognizer, method, fill, nuisance, faces)
    named = [str(name) for name in given if name is not None]
    if len(named) != 1:
        raise UserError(
            "Name what to check: a recognizer, or one --method, --fill, --nuisance or --faces. "
            f"Got {', '.join(named) or 'nothing'}."
        )
    if faces is not None:
        return [
            CheckResult(name, problem is None, problem or "as it was written")
            for name, problem in check_files(faces).items()
        ]
    if method is not None:
        return check_method(method)
    if fill is not None:
        return check_fill(fill)
    if nuisance is not None:
        return check_nuisance(nuisance)
    name = named[0]
    return check_recognizer(load(name, preprocessing), again=lambda: load(name, preprocessing))
