from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import facefocus

ROOMS = ["faces", "models", "saliency", "occlusion", "evaluation", "report"]
#: What knows the rooms, and is known by none.
AFTER = ("plan", "run", "results", "workflow", "training", "planted", "cli")
SOURCE = Path(facefocus.__file__).parent

#: The public names. Adding one is a decision; removing one breaks somebody's code.
PUBLIC = {
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
}


def test_the_public_names_are_these_and_all_exist() -> None:
    assert set(facefocus.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(facefocus, name) is not None


def test_importing_the_package_and_the_command_line_loads_no_torch() -> None:
    code = (
        "import sys, facefocus, facefocus.cli;"
        "print([m for m in ('torch', 'cv2', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_point_one_way() -> None:
    for place, room in enumerate(ROOMS):
        later = {f"facefocus.{name}" for name in ROOMS[place + 1 :]}
        later |= {f"facefocus.{name}" for name in AFTER}
        for file in (SOURCE / room).glob("*.py"):
            for name in _imports(file):
                wrong = [one for one in later if name == one or name.startswith(one + ".")]
                assert not wrong, f"{file} imports {name}"


def _imports(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found
