"""The training itself: step by step, kept safe on the way, the same whether interrupted or not."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facefocus.core.errors import UserError, one_line
from facefocus.core.files import write_atomically
from facefocus.core.progress import Progress, silent
from facefocus.models import zoo
from facefocus.models.weights import read_weights
from facefocus.models.zoo import ARCHITECTURES
from facefocus.planted.train.data import Split, batch, steps_per_epoch
from facefocus.planted.train.heads import HEADS
from facefocus.planted.train.recipe import Recipe, load_recipe
from facefocus.planted.train.schedule import grown, learning_rate
from facefocus.planted.train.validation import figures

CHECKPOINT = "checkpoint.pt"
#: Seconds of work that a killed process may lose.
CHECKPOINT_EVERY = 20.0


@dataclass
class Trainee:
    """Everything that changes while training; batches and schedules are functions of the step.

    Attributes:
        module: The network.
        directions: One learned direction for each person, [people, d].
        optimizer: Of both.
        step: Steps done.
        history: For each epoch done: mean loss, and EER on unseen people.
        losses: Losses of the steps of the epoch that is under way.
        seconds: Spent so far by the wall clock, breaks not counted.
    """

    module: nn.Module
    directions: nn.Parameter
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def train(recipe: Recipe, data: Split, out: Path, progress: Progress = silent) -> Trainee:
    """Train a network, going on from the checkpoint in `out` where there is one.

    Raises:
        UserError: The options do not fit the architecture, the checkpoint is damaged or of
            another recipe or face set, the loss is no number any more, or `out` cannot be written.
    """
    trainee = _fresh(recipe, data)
    _resume(trainee, out, key := _key(recipe, data))
    per_epoch = steps_per_epoch(len(data.rows), recipe)
    steps = recipe.training.epochs * per_epoch
    saved = now = time.monotonic()
    while trainee.step < steps:
        _learn(trainee, recipe, data, steps)
        ended = trainee.step % per_epoch == 0
        if ended:
            loss = float(np.mean(trainee.losses))
            trainee.losses.clear()
            trainee.history.append({"loss": loss, "eer": _eer(trainee.module, recipe, data)})
        before, now = now, time.monotonic()
        trainee.seconds += now - before
        if ended or now - saved > CHECKPOINT_EVERY:
            _save(trainee, out, key)
            saved = now
        progress("train", trainee.step, steps)
    return trainee


def _learn(trainee: Trainee, recipe: Recipe, data: Split, steps: int) -> None:
    """One step."""
    how, step = recipe.training, trainee.step
    for group in trainee.optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, peak=how.learning_rate, warmup=how.warmup)
    margin = grown(step, steps, full=how.margin, growth=how.growth)
    frames, labels = batch(data, recipe, step)
    target = torch.from_numpy(labels)
    embeddings = trainee.module(_inputs(trainee.module, recipe, frames))
    cosines = F.normalize(embeddings) @ F.normalize(trainee.directions).T
    loss = F.cross_entropy(HEADS[how.head](cosines, target, margin, how.scale), target)
    trainee.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    trainee.optimizer.step()
    if not np.isfinite(value := float(loss.detach())):
        raise UserError(
            f"The training diverged at step {step}. The 'learning_rate' of [training] must be "
            f"smaller. Got {how.learning_rate:g}."
        )
    trainee.losses.append(value)
    trainee.step += 1


def _inputs(module: nn.Module, recipe: Recipe, frames: np.ndarray) -> Tensor:
    inputs = recipe.network.reader()(torch.from_numpy(frames))
    return inputs.contiguous(memory_format=_memory_format(module))


def _memory_format(module: nn.Module) -> torch.memory_format:
    """Channels last, the faster one, unless it crashes.

    oneDNN as of torch 2.13 dies in the backward pass of a strided 1x1 convolution, channels last,
    whose channels are no multiple of its block.
    """
    strided = (
        layer.in_channels % 16 or layer.out_channels % 16
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    )
    return torch.contiguous_format if any(strided) else torch.channels_last


def _eer(module: nn.Module, recipe: Recipe, data: Split) -> float:
    module.eval()
    report = figures(module, recipe, data)
    module.train()
    assert report.eer is not None  # as `unseen_report` says
    return report.eer


def _fresh(recipe: Recipe, data: Split) -> Trainee:
    """The seeded start, without a draw from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = build(recipe)
        _start_from(module, recipe)
        width = module.eval()(_inputs(module, recipe, data.faces.frames[:1].copy())).shape[1]
        # Short, because the optimizer turns short directions fast: they find their people early.
        directions = nn.Parameter(0.01 * torch.randn(data.people, width))
    module.train().requires_grad_(True)
    module.to(memory_format=_memory_format(module))  # type: ignore[call-overload]
    decay = recipe.training.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [*_matrices(module), directions], "weight_decay": decay},
        {"params": _vectors(module), "weight_decay": 0.0},
    ]
    return Trainee(module, directions, torch.optim.AdamW(groups, lr=0.0))


def _start_from(module: nn.Module, recipe: Recipe) -> None:
    """Copy the tensors of the recipe's initial recognizer whose name and shape agree.

    Raises:
        UserError: None agrees, or it was trained on other people, perhaps those who are unseen.
    """
    if (name := recipe.network.initial) is None:
        return
    other = load_recipe(name)
    if (other.faces, other.seed) != (recipe.faces, recipe.seed):
        raise UserError(
            f"The 'initial' of [network] must have the recipe's [faces] and seed, or it may have "
            f"seen the people who must be unseen. Got '{name}', which has others."
        )
    path = zoo.describe(name).present()
    assert path is not None  # an embedded recognizer's weights are in the package
    own, given = module.state_dict(), read_weights(path).mappings[""]
    shared = {
        key: value for key, value in given.items() if key in own and value.shape == own[key].shape
    }
    if not shared:
        raise UserError(
            f"The 'initial' of [network] must share tensors with '{recipe.network.architecture}'. "
            f"Got '{name}', which shares none."
        )
    module.load_state_dict(shared, strict=False)


def build(recipe: Recipe) -> nn.Module:
    """The network of a recipe, as initialized by torch's global generator.

    Raises:
        UserError: The architecture does not take these options.
    """
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recipe.network.options.items()
    }
    try:
        return ARCHITECTURES[recipe.network.architecture](**options)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"The 'options' of [network] do not fit '{recipe.network.architecture}': "
            f"{one_line(error, 100)}."
        ) from error


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.ndim > 1]


def _vectors(module: nn.Module) -> list[nn.Parameter]:
    """Biases, batch norms and slopes, which are not pulled to 0."""
    return [parameter for parameter in module.parameters() if parameter.ndim <= 1]


def _key(recipe: Recipe, data: Split) -> str:
    """What a checkpoint must agree in to be gone on from."""
    return hashlib.sha256(f"{recipe.model_dump_json()} {data.faces.hash}".encode()).hexdigest()


def _save(trainee: Trainee, out: Path, key: str) -> None:
    state = {
        "key": key,
        "step": trainee.step,
        "history": trainee.history,
        "losses": trainee.losses,
        "seconds": trainee.seconds,
        "module": trainee.module.state_dict(),
        "directions": trainee.directions.detach(),
        "optimizer": trainee.optimizer.state_dict(),
    }
    write_atomically(out / CHECKPOINT, lambda file: torch.save(state, file))


def _resume(trainee: Trainee, out: Path, key: str) -> None:
    path = out / CHECKPOINT
    if not path.exists():
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] == key:
            trainee.module.load_state_dict(state["module"])
            with torch.no_grad():
                trainee.directions.copy_(state["directions"])
            trainee.optimizer.load_state_dict(state["optimizer"])
            trainee.step, trainee.history = state["step"], state["history"]
            trainee.losses, trainee.seconds = state["losses"], state["seconds"]
            return
    except Exception as error:
        raise UserError(
            f"The checkpoint '{path}' cannot be read: {one_line(error, 100)}. Delete it to begin "
            "again."
        ) from error
    raise UserError(
        f"'{path}' belongs to another recipe or face set. Name another folder by --out, or delete "
        "it to begin again."
    )
