"""facefocus: which regions of a face make a recognizer know this person, and is it true?

Importing this loads no torch: every public name is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facefocus.benchmark.experiment import Experiment, load_experiment
    from facefocus.benchmark.run import run_experiment, run_status
    from facefocus.core.errors import UserError
    from facefocus.faces.faceset import FaceSet, Identity, open_faceset, select_identities
    from facefocus.models.recognizer import Recognizer, WhiteBox
    from facefocus.models.zoo import load as load_recognizer
    from facefocus.occlusion.masks import top_pixels
    from facefocus.saliency.identity import cam_identity_maps
    from facefocus.saliency.methods import METHODS

__version__ = "0.1.0"

_WHERE = {
    "Experiment": "facefocus.benchmark.experiment:Experiment",
    "FaceSet": "facefocus.faces.faceset:FaceSet",
    "Identity": "facefocus.faces.faceset:Identity",
    "METHODS": "facefocus.saliency.methods:METHODS",
    "Recognizer": "facefocus.models.recognizer:Recognizer",
    "UserError": "facefocus.core.errors:UserError",
    "WhiteBox": "facefocus.models.recognizer:WhiteBox",
    "cam_identity_maps": "facefocus.saliency.identity:cam_identity_maps",
    "load_experiment": "facefocus.benchmark.experiment:load_experiment",
    "load_recognizer": "facefocus.models.zoo:load",
    "open_faceset": "facefocus.faces.faceset:open_faceset",
    "run_experiment": "facefocus.benchmark.run:run_experiment",
    "run_status": "facefocus.benchmark.run:run_status",
    "select_identities": "facefocus.faces.faceset:select_identities",
    "top_pixels": "facefocus.occlusion.masks:top_pixels",
}

__all__ = [
    "METHODS",
    "Experiment",
    "FaceSet",
    "Identity",
    "Recognizer",
    "UserError",
    "WhiteBox",
    "__version__",
    "cam_identity_maps",
    "load_experiment",
    "load_recognizer",
    "open_faceset",
    "run_experiment",
    "run_status",
    "select_identities",
    "top_pixels",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'facefocus' has no attribute '{name}'")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
