"""Every example in a docstring runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import facefocus
from facefocus.benchmark import run as workflow

SOURCE = Path(facefocus.__file__).parent
MODULES = [
    ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(SOURCE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Faces that examples draw are drawn once, of few people."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("doctests")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("FACEFOCUS_STORE", str(folder / "store"))
        patch.setattr(workflow, "SYNTHETIC", {**workflow.SYNTHETIC, "identities": 8})
        yield


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed
