"""A recognizer that sees the nose alone: what is true of its twins, and who finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from facefocus.benchmark import verify
from facefocus.cli import synthetic_commands
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.faces.align import ARCFACE_TEMPLATE
from facefocus.faces.faceset import IndexRow, open_faceset, write_faceset
from facefocus.faces.pair_truth import read_pair_truth
from facefocus.faces.sources import derive_faces
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import Recognizer, TorchRecognizer
from facefocus.planted import truth_pairs
from facefocus.planted.truth_pairs import read_pair_experiment, run_truth_pairs, twins_that_count
from facefocus.planted.truth_pairs_report import advantage, by_person, figure, write_document
from tests.conftest import Command
from tests.written_files import check_arrays, check_table, loaded

PEOPLE = 12


class Nose(nn.Module):
    """The mean colors of 3 x 2 cells of 8 pixels about the nose."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 8, stride=8, bias=False)
        self.out = nn.Linear(3 * 14 * 14, 18, bias=False)
        with torch.no_grad():
            self.cells.weight.zero_()
            for color in range(3):
                self.cells.weight[color, color] = 1 / 64
            self.out.weight.zero_()
            seen = [(c, y, x) for c in range(3) for y in (7, 8, 9) for x in (6, 7)]
            for row, (color, y, x) in enumerate(seen):
                self.out.weight[row, color * 196 + y * 14 + x] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.out(self.cells(x).flatten(1))
        return embedding


def nose_reader(name: str, _: object = None) -> Recognizer:
    reading = Preprocessing(
        size=(112, 112), crop=None, channels="rgb", mean=(127.5,) * 3, std=(127.5,) * 3
    )
    return TorchRecognizer(name, Nose().eval().requires_grad_(False), reading, identity="nose")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People with patterns of cells, two photos each, and both sets made of them."""
    root = tmp_path_factory.mktemp("pairs")
    rows, frames = [], []
    for person in range(PEOPLE):
        pattern = generator(0, "pattern", person).integers(20, 236, (14, 14, 3))
        for photo in range(2):
            noise = generator(0, "noise", person, photo).integers(-20, 21, (112, 112, 3))
            big = np.kron(pattern, np.ones((8, 8, 1), np.int64))
            frames.append((big + noise).clip(0, 255).astype(np.uint8))
            name = f"p{person:02d}_{photo}"
            points = tuple(ARCFACE_TEMPLATE.ravel())
            rows.append(IndexRow(f"p{person:02d}", name, name, landmarks=points))
    (root / "cells").mkdir()
    write_faceset(root / "cells", title="cells", rows=rows, frames=frames, size=(112, 112))
    for name in ("patch-lfw", "transplant"):
        derive_faces(name, root / "cells", root / name)
    return root


@pytest.fixture(autouse=True)
def noses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (truth_pairs, verify):
        monkeypatch.setattr(module, "load", nose_reader)


def experiment(folder: Path, **fields: Any) -> Path:
    chosen = {
        "name": "noses",
        "patches": str(folder / "patch-lfw"),
        "transplants": str(folder / "transplant"),
        "recognizers": ["nose"],
        "methods": ["random", "center-gaussian", "occlusion-gradient", "xface"],
        "layers": ["1"],
        "pairs": 6,
        "fewer": {"xface": 2},
        "threshold": "0.6",
        **fields,
    }
    file = folder / "noses.toml"
    file.write_text(truth_pairs_toml(chosen))
    return file


def truth_pairs_toml(fields: dict[str, Any]) -> str:
    from facefocus.core.specs import to_toml

    return to_toml(fields)


@pytest.fixture(scope="module")
def table(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        for module in (truth_pairs, verify):
            patch.setattr(module, "load", nose_reader)
        return run_truth_pairs(experiment(folder), folder / "run", backend="torch")


def mean(table: pl.DataFrame, score: str, **chosen: Any) -> float:
    return float(np.mean(table.filter(**chosen)[score].to_numpy()))


def test_the_files_are_as_the_manual_says(folder: Path, table: pl.DataFrame) -> None:
    check_table("pairs.parquet, of truth-pairs", table)
    for name in ("patch-lfw", "transplant"):
        check_arrays("pair-truth.npz", loaded(folder / name / "pair-truth.npz"))


def test_only_twins_with_another_nose_count(folder: Path, table: pl.DataFrame) -> None:
    faces, truth = open_faceset(folder / "transplant"), read_pair_truth(folder / "transplant")
    recognizer = nose_reader("nose")
    counts = twins_that_count(recognizer, faces.frames, truth, 0.6)
    assert set(truth.part[counts].tolist()) == {"nose"} and counts.sum() >= 6
    units = recognizer.embed(np.asarray(faces.frames))
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    for pair in range(len(truth)):
        probe, mate, twin, donor = (
            units[rows[pair]]
            for rows in (truth.explained, truth.reference, truth.edited, truth.donor)
        )
        by_hand = probe @ mate >= 0.6 > probe @ twin and donor @ twin > probe @ twin
        assert counts[pair] == by_hand
    rows = table.filter(game="transplants", method="truth")
    assert rows["part"].unique().to_list() == ["nose"] and rows["person"].n_unique() == 6


def test_a_method_that_sees_the_recognizer_finds_the_truth(table: pl.DataFrame) -> None:
    for game in ("patches", "transplants"):
        assert mean(table, "auc", game=game, method="truth") == 1.0
        assert mean(table, "overlap", game=game, method="truth") == 1.0
        assert mean(table, "auc", game=game, method="random") == pytest.approx(0.5, abs=0.02)
    twins = {"game": "transplants"}
    assert mean(table, "auc", **twins, method="xface") > 0.8
    # A gradient is 0 outside of what is seen, and of either sign inside: dark cells count as well.
    assert mean(table, "pointing", **twins, method="occlusion-gradient") == 1.0
    # With the whole part back, the twin is the mate again; with random pixels, later.
    truth, random = (mean(table, "error", **twins, method=name) for name in ("truth", "random"))
    assert truth < random
    chance = mean(table, "chance", **twins, method="random")
    assert mean(table, "share", **twins, method="random") == pytest.approx(chance, abs=0.01)


def test_pairs_are_of_different_people_and_fewer_are_a_beginning(table: pl.DataFrame) -> None:
    patches = table.filter(game="patches")
    for mated in (True, False):
        assert patches.filter(method="random", mated=mated)["person"].n_unique() == 6
    every, few = (patches.filter(method=name)["image"].to_list() for name in ("random", "xface"))
    assert (len(every), few) == (12, every[:4])
    assert patches["deletion"].is_nan().all() and not patches["auc"].is_nan().any()


def test_a_run_is_resumed_and_changes_nothing(
    folder: Path, table: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth_pairs, "score_pairs", None)
    seen: list[tuple[str, int, int]] = []
    again = run_truth_pairs(
        experiment(folder), tmp_path, backend="torch", progress=lambda *at: seen.append(at)
    )
    assert again.equals(table)
    assert pl.read_parquet(tmp_path / "pairs.parquet").equals(table)
    done = [at for at in seen if at[0] == "noses"]
    assert done[-1][1] == done[-1][2] and len(done) == 5


def test_the_document_has_every_method_and_says_what_was_cut(
    folder: Path, table: pl.DataFrame, tmp_path: Path
) -> None:
    more = pl.concat([table, table.with_columns(recognizer=pl.lit("again"))])
    text = write_document(more, "facefocus truth-pairs x.toml", tmp_path / "out.md").read_text()
    assert "Made by `facefocus truth-pairs x.toml`" in text
    for label in ("occlusion-gradient", "xface", "center-gaussian", "random", "truth"):
        assert f"| {label} |" in text
    assert "xface 2." in text and "| nose | 0.600 | 6 + 6 |" in text
    assert "insertion - deletion" in text and "nan" not in text.lower()


def test_figures_count_each_person_once() -> None:
    rows = pl.DataFrame(
        {
            "recognizer": ["a", "b", "a", "a", "a", "a", "a"],
            "image": [f"i{i}" for i in range(7)],
            "person": ["x", "x", "y", "z", "u", "v", "w"],
            "auc": [0.2, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9],
        }
    )
    assert sorted(by_person(rows, "auc").tolist()) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert figure(rows, "auc").value == pytest.approx(0.65)
    others = rows.head(3).with_columns(auc=pl.lit(0.1))
    gain = advantage(rows, others, "auc")
    # x gains (0.1 + 0.5) / 2, y 0.4; the others have no pair in common.
    assert gain.value == pytest.approx(0.35)


def test_what_is_wrong_with_an_experiment_is_said(folder: Path, command: Command) -> None:
    with pytest.raises(UserError, match=r"'patches' of the experiment must be a face set with"):
        run_truth_pairs(
            experiment(folder, patches=str(folder / "transplant")), folder / "x", backend="torch"
        )
    with pytest.raises(
        UserError, match=r"'fewer' of the experiment must name its methods\. Got 'y'"
    ):
        read_pair_experiment(experiment(folder, fewer={"y": 2}))
    with pytest.raises(UserError, match="explains a person, not a pair"):
        read_pair_experiment(experiment(folder, methods=["searched-mask"]))
    with pytest.raises(UserError, match=r"No twin of .* counts for 'nose'"):
        run_truth_pairs(experiment(folder, threshold="-1"), folder / "x", backend="torch")
    done = command("truth-pairs", "absent.toml")
    assert done.code == 2 and "Cannot read the experiment 'absent.toml'" in done.err
    assert command("truth-pairs", "--help").code == 0
    assert synthetic_commands.truth_pairs.__doc__


@pytest.mark.parametrize("name", ["fast", "all"])
def test_the_shipped_experiments_are_valid(name: str) -> None:
    file = Path(__file__).parents[2] / "experiments" / "truth-pairs" / f"{name}.toml"
    spec = read_pair_experiment(file)
    assert len(spec.recognizers) == 4 and spec.pairs >= 8
