from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import facefocus
from tests.small import paint_faceset

#: The folders in order: what is in one may import those before it. Applications import no other.
ORDER = [
    *("core", "faces", "models", "saliency", "occlusion", "evaluation", "benchmark", "analysis"),
    *("report", "planted", "paper", "person", "recognizer_cards", "submissions", "cli"),
]
APPLICATIONS = {"planted", "paper", "person", "recognizer_cards", "submissions"}
#: Files beside the folders, which may import everything up to the report; the public functions
#: those of a person's photos and of cards, too.
BESIDE = {"testing.py", "api.py"}
SOURCE = Path(facefocus.__file__).parent

#: The public names. Adding one is a decision; removing one breaks somebody's code.
PUBLIC = {
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


#: Runs an experiment up to its first pass, and says which packages were imported that it can do
#: without, or only needs later.
UP_TO_THE_FIRST_PASS = """
import sys
from facefocus.benchmark.run_log import RunLog
from facefocus.cli import main
LATER = ("matplotlib", "onnx", "openvino", "scipy.special", "scipy.stats", "sklearn", "sympy",
         "torch._dynamo", "torchvision", "vl_convert")
RunLog.begin = lambda *_: sys.exit(str([name for name in LATER if name in sys.modules]))
main()
"""


def test_a_run_begins_without_what_it_only_needs_later(tmp_path: Path) -> None:
    """Each of them takes a good part of a second: `facefocus run` is to begin at once."""
    experiment = """
    name = "begin"
    [recognizers]
    source = "iresnet-mini-eyes"
    [[saliency]]
    method = ["grad-cam", "s-rise"]
    [occlusion]
    budget = 0.05
    fill = ["black", "inpaint"]
    """
    file = tmp_path / "begin.toml"
    file.write_text(experiment, encoding="utf-8")
    faces = paint_faceset(tmp_path / "faces")
    options = ["--faces", str(faces), "--out", "run", "--store", "store", "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", UP_TO_THE_FIRST_PASS, "run", str(file), *options],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "[]"), done.stderr


def test_imports_point_one_way() -> None:
    folders = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert folders == set(ORDER)
    for file in SOURCE.rglob("*.py"):
        parts = file.relative_to(SOURCE).parts
        if len(parts) == 1 and parts[0] not in BESIDE:
            continue
        allowed = _allowed(parts[0])
        for name in _imports(file):
            assert name.split(".")[1] in allowed, f"{file} imports {name}"


def test_no_two_modules_share_a_name() -> None:
    names = [file.stem for file in SOURCE.rglob("*.py") if not file.stem.startswith("__")]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def _allowed(importer: str) -> set[str]:
    """The folders that a folder, or a file beside the folders, may import."""
    if importer in BESIDE:
        own = {"person", "recognizer_cards"} if importer == "api.py" else set()
        return set(ORDER[: ORDER.index("report") + 1]) | {"testing", "__version__"} | own
    if importer == "cli":
        return {*ORDER, "testing", "api", "__version__"}
    before = set(ORDER[: ORDER.index(importer) + 1])
    return {*before, "__version__"} - (APPLICATIONS - {importer})


def _imports(file: Path) -> list[str]:
    """Names of the package that a file imports, in functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("facefocus.")]


#: Names that say nothing of the thing.
VAGUE = {"one", "ones", "found", "place", "places", "said", "told", "lean"}


#: Where such a name may be given. Parsing only files that have this takes half the time.
GIVEN = re.compile(rf"\b_*(?:{'|'.join(VAGUE)})_*\s*(?:in\b|[,:()=]|[-+*/|&]=)")


def test_names_say_what_the_thing_is() -> None:
    root = Path(__file__).parents[1]
    folders = SOURCE, *(root / name for name in ("tests", "benchmarks", "examples", "docs"))
    vague = [
        f"{path} {name}"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        if GIVEN.search(text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        for name in [_name_given(node)]
        if name.strip("_") in VAGUE
    ]
    assert not vague


def _name_given(node: ast.AST) -> str:
    """The name that a variable, parameter, attribute, function or class is given here, if any."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.id if isinstance(node, ast.Name) else node.attr
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
        return node.name or ""
    return ""
