"""The job of quick.toml as a user writes it with pytorch-grad-cam, numpy, OpenCV and a loop.

Nothing of facefocus is used: one map for each pair, layer and method; one mask, one fill and one
batch of a person's photos after the other. A threshold at the equal error rate, by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals import grad_cam_tool

#: Images that a user embeds at once.
BATCH = 16
#: Radius of Telea's inpainting, and sigma of the blur, as shares of the frame's side.
RADIUS, SIGMA = 3 / 112, 0.04


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        module: Preprocessed images [n, 3, h, w] to embeddings.
        preprocess: Uint8 RGB frames [n, h, w, 3] to these images.
        layers: The modules whose maps are made, by name.
        frames: Aligned crops [n, h, w, 3].
        people: The rows of each person's photos.
        pairs: Rows of verification pairs [p, 2], and whether both show one person.
    """

    module: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    layers: Mapping[str, nn.Module]
    methods: Sequence[str]
    frames: np.ndarray
    people: Mapping[str, np.ndarray]
    pairs: tuple[np.ndarray, np.ndarray]
    budgets: Sequence[float]
    fills: Sequence[str]
    seed: int = 0


#: (method, layer, person); a layer is None for random pixels.
Place = tuple[str, str | None, str]


@dataclass
class Found:
    """What the job comes to.

    Attributes:
        maps: The map [h, w] of each method, layer and person.
        masks: Of each of these and a budget, the hidden pixels [h, w].
        effects: Of each of these, a budget and a fill: mean cosine and recognition rate.
    """

    maps: dict[Place, np.ndarray] = field(default_factory=dict)
    masks: dict[tuple[Place, float], np.ndarray] = field(default_factory=dict)
    effects: dict[tuple[Place, float, str], tuple[float, float]] = field(default_factory=dict)


def run(job: Job) -> Found:
    """All of it, one after the other."""
    outcome, clean = Found(), unit(embed(job, job.frames))
    level = equal_error_threshold(job, clean)
    for name, rows in job.people.items():
        for key, saliency in person_maps(job, name, rows, clean):
            outcome.maps[key] = saliency
            for budget in job.budgets:
                mask = top_pixels(saliency, budget)
                outcome.masks[key, budget] = mask
                for fill in job.fills:
                    hidden = hide(job.frames[rows], mask, fill, job.seed)
                    probes = unit(embed(job, hidden))
                    scores = np.array(
                        [probes[a] @ clean[rows[b]] for a, b in permutations(range(len(rows)), 2)]
                    )
                    effect = float(scores.mean()), float((scores >= level).mean())
                    outcome.effects[key, budget, fill] = effect
    return outcome


def embed(job: Job, frames: np.ndarray) -> np.ndarray:
    """Embeddings [n, d], batch by batch, eager float32."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            images = job.preprocess(torch.from_numpy(frames[start : start + BATCH]))
            parts.append(job.module(images.contiguous()).numpy())
    return np.concatenate(parts)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    normalized: np.ndarray = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return normalized


def equal_error_threshold(job: Job, clean: np.ndarray) -> float:
    """The cosine at which as many mated pairs are refused as others accepted.

    In the middle between the two scores that it may lie between.
    """
    from sklearn.metrics import roc_curve

    pairs, mated = job.pairs
    scores = (clean[pairs[:, 0]] * clean[pairs[:, 1]]).sum(axis=1)
    accepted, known, levels = roc_curve(mated, scores, drop_intermediate=False)
    crossing = int(np.argmin(np.abs(accepted - (1 - known))))
    return float(levels[crossing : crossing + 2].mean())


def person_maps(
    job: Job, name: str, rows: np.ndarray, clean: np.ndarray
) -> Iterator[tuple[Place, np.ndarray]]:
    """The mean map over all ordered pairs, of each method and layer; then a random one."""
    # The weights are frozen: gradients go to the images.
    images = job.preprocess(torch.from_numpy(job.frames[rows])).contiguous().requires_grad_()
    references = torch.from_numpy(clean[rows])
    for method in job.methods:
        for layer, module in job.layers.items():
            with grad_cam_tool(method)(model=job.module, target_layers=[module]) as cam:
                maps = [
                    cam(input_tensor=images[[a]], targets=[cosine_to(references[b])])[0]
                    for a, b in permutations(range(len(rows)), 2)
                ]
            yield (method, layer, name), np.mean(maps, axis=0)
    rng = np.random.default_rng([job.seed, *name.encode()])
    yield ("random", None, name), rng.random(job.frames.shape[1:3])


def cosine_to(reference: Tensor) -> Callable[[Tensor], Tensor]:
    """What a map explains: the cosine to the other photo."""
    return lambda embedding: nn.functional.cosine_similarity(embedding, reference, dim=0)


def top_pixels(saliency: np.ndarray, budget: float) -> np.ndarray:
    """The share of pixels that the map ranks highest [h, w]."""
    count = int(budget * saliency.size + 0.5)
    mask = np.zeros(saliency.size, bool)
    mask[np.argsort(-saliency.ravel(), kind="stable")[:count]] = True
    return mask.reshape(saliency.shape)


def hide(frames: np.ndarray, mask: np.ndarray, fill: str, seed: int) -> np.ndarray:
    """The photos with the mask's pixels replaced."""
    contents = [_content(frame, mask, fill, seed) for frame in frames]
    return np.where(mask[..., None], np.stack(contents), frames)


def _content(frame: np.ndarray, mask: np.ndarray, fill: str, seed: int) -> np.ndarray:
    side = frame.shape[0]
    if fill == "black":
        return np.zeros_like(frame)
    if fill == "white":
        return np.full_like(frame, 255)
    if fill == "mean":
        color = np.floor(frame.mean(axis=(0, 1)) + 0.5).astype(np.uint8)
        return np.broadcast_to(color, frame.shape)
    if fill == "random":
        rng = np.random.default_rng([seed, int(frame.sum())])
        return rng.integers(0, 256, frame.shape, dtype=np.uint8)
    if fill == "blur":
        width = 2 * int(4 * SIGMA * side + 0.5) + 1
        smooth = cv2.GaussianBlur(
            frame.astype(np.float32), (width, width), SIGMA * side, borderType=cv2.BORDER_REFLECT
        )
        return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
    shown = np.where(mask[..., None], np.uint8(0), frame)
    return cv2.inpaint(shown, mask.astype(np.uint8), RADIUS * side, cv2.INPAINT_TELEA)


def person_map(module: nn.Module, images: Tensor, layer: nn.Module, method: str) -> np.ndarray:
    """One person explained: the mean map over all ordered pairs of photos [h, w]."""
    with torch.inference_mode():
        references = module(images)
    with grad_cam_tool(method)(model=module, target_layers=[layer]) as cam:
        maps = [
            cam(input_tensor=images[[a]], targets=[cosine_to(references[b])])[0]
            for a, b in permutations(range(len(images)), 2)
        ]
    mean: np.ndarray = np.mean(maps, axis=0)
    return mean


class InsightFace:
    """insightface's way from a photograph to an embedding: `norm_crop`, a blob, a session.

    The few lines of its package are written out here, for it wants more than this needs.

    Args:
        model: An ONNX file of images [n, 3, 112, 112].
        mean: Of pixels in 0-255, for each channel.
        std: Likewise.
        batch: Images of a call; its own `get` has 1.
    """

    #: Its `arcface_dst`: eyes, nose and corners of the mouth in 112 x 112 pixels.
    TEMPLATE = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
         [70.7299, 92.2041]],
    )  # fmt: skip

    def __init__(
        self, model: str, mean: Sequence[float], std: Sequence[float], batch: int = 1
    ) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as anybody here has
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._mean, self._std, self._batch = mean, std, batch
        uneven = (std[0] / np.array(std, np.float32)).reshape(3, 1, 1)
        self._uneven = None if (uneven == 1).all() else uneven

    def embed(self, files: Sequence[Path], landmarks: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings of photographs whose landmarks [5, 2] are known."""
        parts = []
        for start in range(0, len(files), self._batch):
            some = slice(start, start + self._batch)
            crops = [
                norm_crop(np.asarray(cv2.imread(str(file))), points)
                for file, points in zip(files[some], landmarks[some], strict=True)
            ]
            parts.append(self.embed_crops(crops))
        return np.concatenate(parts)

    def embed_crops(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings of BGR crops: one call."""
        blob = cv2.dnn.blobFromImages(crops, 1 / self._std[0], (112, 112), self._mean, swapRB=True)
        if self._uneven is not None:
            np.multiply(blob, self._uneven, out=blob)
        embeddings: np.ndarray = self._session.run(None, {self._input: blob})[0]
        return embeddings


def norm_crop(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Its `face_align.norm_crop`: Umeyama's transform (1991), as scikit-image estimates it."""
    middle, wanted = landmarks.mean(axis=0), InsightFace.TEMPLATE.mean(axis=0)
    apart, goal = landmarks - middle, InsightFace.TEMPLATE - wanted
    left, sizes, right = np.linalg.svd(goal.T @ apart / len(apart))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = sizes @ signs / apart.var(axis=0).sum() * (left * signs) @ right
    moved = np.column_stack([turn, wanted - turn @ middle])
    return cv2.warpAffine(picture, moved, (112, 112), borderValue=0.0)
