"""The public tools, used as their documentation shows, and the direct RISE loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facefocus.saliency.objectives import Objective


def stand_in_for_torchvision() -> None:
    """Names that pytorch-grad-cam imports from torchvision and that nothing here calls.

    There is no torchvision for this torch; the CAMs themselves need none.
    """
    names = {
        "torchvision": (),
        "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
        "torchvision.transforms.functional": ("resize",),
        "torchvision.ops": ("box_iou",),
    }
    for name, members in names.items():
        module = sys.modules.setdefault(name, ModuleType(name))
        for member in members:
            setattr(module, member, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def grad_cam_tool(method: str) -> Any:
    """The class of pytorch-grad-cam that makes maps of a method."""
    stand_in_for_torchvision()
    import pytorch_grad_cam as tool

    classes = {
        "grad-cam": tool.GradCAM,
        "grad-cam++": tool.GradCAMPlusPlus,
        "layer-cam": tool.LayerCAM,
    }
    return classes[method]


def by_grad_cam(
    module: nn.Module, layer: nn.Module, method: str, image: Tensor, target: Callable[..., Tensor]
) -> np.ndarray:
    """One map of pytorch-grad-cam, as its README makes it: [h, w] in [0, 1], input resolution.

    Each call runs the network forward and back down to its input, the weights' gradients included,
    for one image, one layer and one method.
    """
    with grad_cam_tool(method)(model=module, target_layers=[layer]) as cam:
        saliency: np.ndarray = cam(input_tensor=image, targets=[target])[0]
    return saliency


def scaled_by_grad_cam(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A raw map [h, w] brought to the input as pytorch-grad-cam does, to compare with its own."""
    stand_in_for_torchvision()
    from pytorch_grad_cam.utils.image import scale_cam_image

    once = scale_cam_image(np.maximum(raw, 0)[None], size[::-1])
    saliency: np.ndarray = scale_cam_image(once)[0]
    return saliency


def by_captum(
    module: nn.Module, layer: nn.Module, image: Tensor, target: Callable[..., Tensor]
) -> Tensor:
    """One Grad-CAM of captum's LayerGradCam: [h, w] at layer resolution, not rectified."""
    from captum.attr import LayerGradCam

    cam = LayerGradCam(lambda x: target(module(x)[0])[None], layer)
    saliency: Tensor = cam.attribute(image)[0, 0].detach()
    return saliency


def target_of(objective: Objective, reference: Tensor) -> Callable[[Tensor], Tensor]:
    """An objective against one reference embedding, as a tool calls it with one embedding."""

    def target(embedding: Tensor) -> Tensor:
        return objective.value(embedding[None], reference[None])[0]

    return target


def direct_rise(
    module: nn.Module,
    preprocess: Callable[[Tensor], Tensor],
    frame: np.ndarray,
    masks: np.ndarray,
    reference: Tensor,
    batch: int = 16,
) -> np.ndarray:
    """S-RISE of one pair by its definition: mask, embed, weigh; NCHW float32, batch by batch."""
    weights = []
    with torch.inference_mode():
        for start in range(0, len(masks), batch):
            part = masks[start : start + batch]
            masked = np.rint(frame[None] * part[..., None]).astype(np.uint8)
            embedded = module(preprocess(torch.from_numpy(masked)).contiguous())
            weights.append(nn.functional.cosine_similarity(embedded, reference[None]))
    saliency: np.ndarray = (
        np.tensordot(torch.cat(weights).cpu().numpy(), masks, 1) / len(masks) / 0.5
    )
    return saliency
