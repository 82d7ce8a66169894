"""facefocus: which regions of a face make a recognizer know this person, and is it true?

Importing this loads no torch: every public name is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facefocus.api import (
        compare,
        evaluate,
        explain,
        load_faces,
        load_recognizer,
        open_run,
        recognizer_card,
        run,
        verify,
    )
    from facefocus.benchmark.experiment import Experiment
    from facefocus.core.errors import UserError
    from facefocus.faces.faceset import FaceSet
    from facefocus.models.preprocessing import Preprocessing
    from facefocus.models.recognizer import Recognizer, WhiteBox
    from facefocus.person.apply_mask import apply_mask
    from facefocus.person.explanation import PersonExplanation, explain_person
    from facefocus.report.run_result import Results
    from facefocus.saliency.identity_maps import IdentityMaps

__version__ = "0.1.0"

_MODULES = {
    "Experiment": "facefocus.benchmark.experiment",
    "FaceSet": "facefocus.faces.faceset",
    "IdentityMaps": "facefocus.saliency.identity_maps",
    "Preprocessing": "facefocus.models.preprocessing",
    "Recognizer": "facefocus.models.recognizer",
    "Results": "facefocus.report.run_result",
    "UserError": "facefocus.core.errors",
    "WhiteBox": "facefocus.models.recognizer",
    "PersonExplanation": "facefocus.person.explanation",
    "apply_mask": "facefocus.person.apply_mask",
    "explain_person": "facefocus.person.explanation",
}

__all__ = [
    "Experiment",
    "FaceSet",
    "IdentityMaps",
    "PersonExplanation",
    "Preprocessing",
    "Recognizer",
    "Results",
    "UserError",
    "WhiteBox",
    "__version__",
    "apply_mask",
    "compare",
    "evaluate",
    "explain",
    "explain_person",
    "load_faces",
    "load_recognizer",
    "open_run",
    "recognizer_card",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'facefocus' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES.get(name, "facefocus.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
