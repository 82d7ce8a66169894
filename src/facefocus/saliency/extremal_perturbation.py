"""Extremal perturbation: the smooth mask of a fixed area that hides most (photo-maps)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from facefocus.models.layers import placement
from facefocus.models.recognizer import WhiteBox
from facefocus.saliency.explainer import Options
from facefocus.saliency.mated_gradients import cosine_gradient, inputs_of
from facefocus.saliency.methods import METHODS, Choice, Whole
from facefocus.saliency.photo_maps import Photo, PhotoGradientMethod, stacked_frames

#: Points of the mask along each side, and the side of the picture on which they become smooth: a
#: quarter of 112 pixels.
POINTS, SMOOTH = 14, 28
#: Standard deviation of the bump of a point, as a share of the side; temperature of the maximum.
SIGMA, TEMPERATURE = 1 / 28, 1 / 20
#: What the similarity counts: the authors' weights are for logits of a classifier, which ArcFace
#: makes of cosines by this factor.
LOGIT = 64.0
#: Weight of the area in the first and in the last step, and stochastic gradient descent, as in the
#: authors' code.
AREA = (300.0, 300.0 * 1.0035**800)
RATE, MOMENTUM = 0.01, 0.9


def extremal_perturbation(
    recognizer: WhiteBox,
    photos: Sequence[Photo],
    *,
    options: Options,
    calls: Sequence[int],
    pixels: int,
) -> Float64[np.ndarray, "n h w"]:
    """Extremal perturbations (Fong et al., ICCV 2019): the mask m of fixed area, by descent.

    m is the smooth maximum over 14 x 14 points of their values in [0, 1], each times a Gaussian
    bump about it (4 px of 112). What m covers is replaced by the fill: (1 - m) x + m c. ``game``
    ``delete`` lowers the similarity of that; ``preserve``, the authors' default, hides 1 - m
    instead and raises it. The similarity counts 64-fold, as a logit of ArcFace, since the authors
    lower logits. Added is w mean((sort(m) - a)^2), a the values of a mask of exactly
    `pixels` pixels, equal values of m in random order; w grows from 300 in equal ratios to what it
    is in the authors' code after 800 steps. Descent with step 0.01 and momentum 0.9, from 0.5
    everywhere, `steps` times (the authors: 800). c is what the fill leaves of a photo that is
    hidden whole; theirs is a pyramid of blurs.

    Args:
        recognizer: The source.
        photos: What is explained; each with a fill.
        options: ``steps``, ``game``.
        calls: Not used.
        pixels: The area.
    """
    device, _ = placement(recognizer.module)
    frames = torch.from_numpy(stacked_frames(photos)).to(device)
    contents = torch.from_numpy(np.stack([photo.baseline for photo in photos])).to(frames)
    references = torch.from_numpy(np.stack([photo.reference for photo in photos])).to(device)
    steps, size = int(options["steps"]), (frames.shape[1], frames.shape[2])
    deletes = options["game"] == "delete"
    area = area_template(size, pixels).to(frames)
    points = torch.full((len(photos), POINTS * POINTS), 0.5, device=device).requires_grad_()
    velocity = torch.zeros_like(points)
    # Equal values are in random order, else the area would begin to grow in a corner.
    ties = torch.from_numpy(np.stack([photo.rng.permutation(area.numel()) for photo in photos]))
    for step in range(steps):
        mask = smooth_mask(points, size)
        covers = mask if deletes else 1 - mask
        seen = frames + covers[..., None] * (contents - frames)
        similar = cosine_gradient(recognizer, seen, inputs_of(recognizer, seen), references)
        (pulled,) = torch.autograd.grad(
            seen, points, similar if deletes else -similar, retain_graph=True
        )
        ordered = mask.flatten(1).gather(1, ties.to(device)).sort(dim=1, stable=True).values
        weight = AREA[0] * (AREA[1] / AREA[0]) ** (step / max(steps - 1, 1))
        missed = weight * (ordered - area).square().mean(dim=1)
        (held,) = torch.autograd.grad(missed, points, torch.ones_like(missed))
        velocity = MOMENTUM * velocity + LOGIT * pulled + held
        with torch.no_grad():
            points = (points - RATE * velocity).clamp(0, 1).requires_grad_()
    masks: np.ndarray = smooth_mask(points.detach(), size).double().cpu().numpy()
    return masks


def area_template(size: tuple[int, int], pixels: int) -> Float32[Tensor, " p"]:
    """The sorted values of a mask of exactly `pixels` pixels."""
    template = torch.zeros(size[0] * size[1])
    if pixels:
        template[-pixels:] = 1
    return template


def smooth_mask(points: Float[Tensor, "n points"], size: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """The smooth maximum over points: sum v exp(v / T) / sum exp(v / T), v = value times bump.

    Example:
        >>> none = torch.zeros(1, POINTS * POINTS)
        >>> float(smooth_mask(none, (56, 56)).abs().max())
        0.0
    """
    centers, positions = ((torch.arange(count) + 0.5) / count for count in (POINTS, SMOOTH))
    bumps = torch.exp(-0.5 * ((positions[:, None] - centers) / SIGMA).square()).to(points)
    around = (bumps[:, None, :, None] * bumps[None, :, None, :]).reshape(SMOOTH**2, POINTS**2)
    values = around * points[:, None]
    weights = torch.softmax(values / TEMPERATURE, dim=2)
    coarse = (values * weights).sum(dim=2).view(-1, 1, SMOOTH, SMOOTH)
    return F.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0]


METHODS.add(
    "extremal-perturbation",
    PhotoGradientMethod(
        "extremal-perturbation",
        extremal_perturbation,
        version=1,
        passes=lambda options: (int(options["steps"]), int(options["steps"])),
        options={
            "steps": Whole("100", 1, 10_000),
            "game": Choice("delete", ("delete", "preserve")),
        },
        needs_fill=True,
        needs_budget=True,
    ),
)
