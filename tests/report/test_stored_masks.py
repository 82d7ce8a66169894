"""Maps and masks of more people than a run folder keeps, read from the store that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark.run import recorded_store, run_experiment
from facefocus.benchmark.stored_masks import STORED_MASKS, read_masks
from facefocus.core.errors import UserError
from facefocus.faces.sources.synthetic import make_faceset
from facefocus.report import explorer_data, explorer_files
from facefocus.report.page import write_report
from tests.report.page_files import read_packed, read_page

TOML = """name = "stored"
[faces]
set = "FACES"
identities = 8
max_images = 2
[recognizers]
source = "mobilefacenet-mini-all"
[[saliency]]
method = "layer-cam"
layer = ["1", "N"]
[[saliency]]
method = "random"
draws = 1
[occlusion]
budget = [0.05, 0.1]
fill = "mean"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people: two more than the run folder's own gallery."""
    folder = tmp_path_factory.mktemp("stored")
    file = folder / "stored.toml"
    make_faceset(folder / "faces", world="all", identities=8, photos=2, seed=3)
    file.write_text(TOML.replace("FACES", str(folder / "faces")))
    return run_experiment(file, out=folder / "run", store=folder / "store")


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vega.js").write_text("")
    monkeypatch.setattr(explorer_files, "chart_library", lambda: tmp_path / "vega.js")


def people(run: Path) -> dict[str, dict[str, Any]]:
    data = run / "report" / "data"
    listed = read_page(data / "page.js")["galleries"]
    return {entry["identity"]: read_packed(data / f"{entry['file']}.js").head["person"]
            for entry in listed}  # fmt: skip


def test_people_beyond_the_gallery_have_the_masks_that_were_scored(run: Path) -> None:
    write_report(run)
    shown = people(run)
    results = pl.read_parquet(run / "results.parquet")
    assert set(shown) == set(results["identity"]) and len(shown) == 8
    assert pl.read_parquet(run / "gallery.parquet")["identity"].n_unique() == 6
    for name, about in shown.items():
        assert len(about["tiles"]) == 3 and about["left"] == 0
        for tile in about["tiles"]:
            method = tile["title"].split(",")[0]
            rows = results.filter(identity=name, method=method).sort("budget")
            assert tile["budgets"] == [0.05, 0.1]
            assert set(tile["pixels"]) == set(rows["masked_pixels"].cast(pl.Int64))
    # The run folder's own gallery is what the store says.
    index, store = pl.read_parquet(run / STORED_MASKS), recorded_store(run)
    assert store is not None
    gallery = pl.read_parquet(run / "gallery.parquet")
    rows, maps, masks = read_masks(store, index, set(gallery["identity"]))
    assert rows.equals(gallery)
    with np.load(run / "gallery.npz") as arrays:
        assert (arrays["maps"] == maps).all() and (arrays["masks"] == masks).all()


def test_where_the_store_is_gone_the_page_has_the_gallery(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recorded_store(run)
    assert store is not None
    (folder := Path(store.location)).rename(moved := folder.with_name("moved"))
    try:
        write_report(run)
        assert set(people(run)) == set(pl.read_parquet(run / "gallery.parquet")["identity"])
    finally:
        moved.rename(folder)


def test_few_bytes_hold_few_people_and_a_named_person_has_every_map(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer_data, "MAPS_BYTES", 1)
    monkeypatch.setattr(explorer_data, "CONFIGURATIONS", 2)
    gallery = set(pl.read_parquet(run / "gallery.parquet")["identity"])
    (other, *_) = sorted(set(pl.read_parquet(run / "results.parquet")["identity"]) - gallery)
    write_report(run, persons=[other])
    shown = people(run)
    assert set(shown) == gallery | {other}
    assert len(shown[other]["tiles"]) == 3 and shown[other]["left"] == 0
    assert all(len(shown[name]["tiles"]) == 2 and shown[name]["left"] == 1 for name in gallery)
    with pytest.raises(UserError, match=r"'--person' must be one of the run\. Got 'Nobody'"):
        write_report(run, persons=["Nobody"])
