"""``[stop]``: tables that grow with rounds of people, and methods that are computed no further."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.benchmark import people as people_module
from facefocus.benchmark import session as session_module
from facefocus.benchmark.early_stopping import STOP, read_stop
from facefocus.benchmark.experiment import Experiment, parse_experiment
from facefocus.benchmark.people import rounds
from facefocus.benchmark.result_columns import MAP
from facefocus.benchmark.run import open_run, run_experiment, run_status
from facefocus.benchmark.run_log import read_log
from facefocus.core.errors import UserError
from facefocus.evaluation.confidence_sequences import first_place
from facefocus.models.recognizer import Recognizer
from tests.small import PHOTOS, paint_faceset, tiny_recognizer, workers_here

EXPERIMENT: dict[str, Any] = {
    "name": "growing",
    "faces": {"set": "painted"},
    "recognizers": {"source": ["a"], "target": ["a"]},
    "saliency": [
        {"method": ["grad-cam", "layer-cam", "hires-cam"], "layer": ["1", "N"]},
        {"method": "occlusion-gradient"},
        {"method": "random", "draws": 2},
    ],
    "occlusion": {"budget": [0.05, 0.2], "fill": ["black"]},
    "controls": {"control": ["shifted", "other", "population"], "draws": 2},
    "evaluation": {"split": ["same", "heldout"]},
}


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, preprocessing: object) -> Recognizer:
        return tiny_recognizer(name, seed="ab".index(name))

    monkeypatch.setattr(session_module, "load", load)
    # Of 18 people there are then six rounds.
    monkeypatch.setattr(people_module, "ROUND", 3)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted")


def asked(**changes: Any) -> Experiment:
    return parse_experiment({**EXPERIMENT, **changes})


class Run:
    """A run, with its table and its `stop.json` after each round."""

    def __init__(self, painted: Path, folder: Path, store: str = "store", **changes: Any) -> None:
        self.tables: list[pl.DataFrame] = []
        self.stops: list[dict[str, Any]] = []
        pool = changes.pop("pool", None)
        self.folder = folder
        run_experiment(
            asked(**changes),
            faces=painted,
            out=folder,
            store=folder.parent / store,
            backend="torch",
            cluster=pool,
            on_round=self._keep,
        )

    def _keep(self, run: Path) -> None:
        self.tables.append(pl.read_parquet((run / "results.parquet").read_bytes()))
        stop = read_stop(run)
        assert stop is not None
        self.stops.append(stop)

    @property
    def done(self) -> set[str]:
        """Keys of the tasks that were computed."""
        return {line["key"] for line in read_log(self.folder) if line["event"] == "end"}


@pytest.fixture(scope="module")
def never(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """All people, round by round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            session_module, "load", lambda name, _: tiny_recognizer(name, "ab".index(name))
        )
        patch.setattr(people_module, "ROUND", 3)
        yield Run(painted, tmp_path_factory.mktemp("never") / "run", stop={"when": "never"})


def test_rounds_are_a_seeded_order_of_all_people_and_grow() -> None:
    names = [f"p{number:04}" for number in range(1000)]
    experiment = asked(stop={"when": "never"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people_module, "ROUND", 8)
        drawn_rounds = rounds(experiment, names)
        assert rounds(experiment, names[::-1]) == drawn_rounds
        other = rounds(asked(stop={"when": "never"}, seed=1), names)
    drawn = [name for part in drawn_rounds for name in part]
    assert sorted(drawn) == names
    assert drawn != names
    assert list(other[0]) != list(drawn_rounds[0])
    sizes = [len(part) for part in drawn_rounds]
    assert sizes[:8] == [8] * 8
    done = np.cumsum([0, *sizes])
    # An eighth of who is done, in eights: looks stay few.
    assert all(size <= max(8, start / 8) for size, start in zip(sizes[:-1], done, strict=False))
    assert len(sizes) == 35
    assert rounds(asked(), names) == [dict.fromkeys(names)]


def test_the_table_grows_with_rounds_and_is_that_of_the_people_so_far(never: Run) -> None:
    counts = [table["identity"].n_unique() for table in never.tables]
    assert counts == [3, 6, 9, 12, 15, 18]
    assert [(stop["people"], stop["of"]) for stop in never.stops] == [(n, 18) for n in counts]
    assert [stop["finished"] for stop in never.stops] == [False] * 5 + [True]
    whole = never.tables[-1]
    for table in never.tables[:-1]:
        names = table["identity"].unique().implode()
        assert table.equals(whole.filter(pl.col("identity").is_in(names)))


def test_figures_of_a_person_do_not_depend_on_rounds_but_for_other_peoples_masks(
    never: Run, painted: Path, tmp_path: Path
) -> None:
    """Who is another person is another question where nobody knows yet who will follow."""
    plain = run_experiment(
        asked(), faces=painted, out=tmp_path / "run", store=tmp_path / "store", backend="torch"
    )
    table = pl.read_parquet(plain / "results.parquet")
    alone = ~pl.col("control").is_in(["other", "population"]).fill_null(False)
    assert table.filter(alone).equals(never.tables[-1].filter(alone))
    assert not (plain / STOP).exists()


def test_other_people_are_those_of_the_round(never: Run) -> None:
    session = open_run(never.folder)
    blocks = [block for block in session.plan.blocks if block.split == "same"]
    assert [block.round for block in blocks] == list(range(6))
    output = session.plan.planned["maps"][blocks[1].index][0]
    population = session.population(blocks[1], output)
    assert sorted(population.rows) == sorted(person.name for person in blocks[1].people)


def test_a_run_stops_where_the_first_place_is_certain_and_says_which(
    never: Run, painted: Path
) -> None:
    """Loosened, since 18 tiny people cannot make it certain before the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facefocus.benchmark.early_stopping.LEVEL", 0.9)
        run = Run(painted, never.folder.with_name("ranking"), stop={"when": "ranking"})
    last = run.stops[-1]
    assert last["finished"]
    assert last["people"] < 18
    (verdict,) = last["verdicts"]
    assert verdict["certain"] and verdict["people"] <= last["people"] and verdict["of"] == 18
    assert verdict["first"] in verdict["methods"]
    # The same decision by hand, from the table alone.
    table, order = never.tables[-1], drawn_order(never)
    rows = table.filter(
        pl.col("control").is_null(), pl.col("source").is_not_null(),
        budget=0.05, fill="black", split="same",
    )  # fmt: skip
    parts = rows.partition_by(*MAP, maintain_order=True)
    drops = np.array([
        [part.row(by_predicate=pl.col("identity") == name, named=True)["rate"] for name in order]
        for part in parts
    ])  # fmt: skip
    for count in (3, 6, 9, 12, 15, 18):
        standing = first_place(1 - drops[:, :count], 18, 0.9)
        if standing.first is not None:
            break
    assert count == verdict["people"]
    assert standing.first is not None
    first = parts[standing.first].select(MAP).row(0, named=True)
    assert {name: verdict["first"][name] for name in MAP} == first


def drawn_order(run: Run) -> list[str]:
    names = [f"p{number:02d}" for number in range(len(PHOTOS))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people_module, "ROUND", 3)
        return [name for part in rounds(asked(stop={"when": "never"}), names) for name in part]


def test_a_method_that_is_certain_is_computed_no_further(never: Run, painted: Path) -> None:
    """Wide intervals are soon narrow enough for methods whose people are alike."""
    run = Run(painted, never.folder.with_name("width"), stop={"when": "width", "width": 0.6})
    last = run.stops[-1]
    left_out = [
        (number, configuration)
        for number, part in enumerate(last["left_out"])
        for configuration in part
    ]
    assert left_out, "the test needs a method that is certain before others"
    table = run.tables[-1]
    for number, columns in left_out:
        equal = [pl.col(name).eq_missing(value) for name, value in columns.items()]
        assert table.filter(*equal)["identity"].n_unique() <= 3 * number
        assert table.filter(*equal, pl.col("control").is_not_null()).height > 0
    baselines = table.filter(pl.col("source").is_null(), pl.col("split") == "same")
    assert baselines["identity"].n_unique() == last["people"]
    # What is there is what a run of everybody has, and the folder can be opened.
    keys = [name for name in table.columns if name not in ("rate", "cosine", "fmr")]
    both = table.join(never.tables[-1], on=keys, how="semi", nulls_equal=True)
    assert both.height == table.height
    session = open_run(run.folder)
    assert all(key in session.store for keys in session.plan.keys().values() for key in keys)
    assert all(stage.done == stage.total for stage in run_status(run.folder))
    (verdict,) = last["verdicts"]
    assert all(low <= high for low, high in verdict["intervals"])


def test_another_stop_goes_on_without_repeating(never: Run, painted: Path, tmp_path: Path) -> None:
    first = Run(painted, tmp_path / "run", stop={"when": "width", "width": 0.9})
    assert first.stops[-1]["people"] < 18
    before = first.done
    again = Run(painted, tmp_path / "run", stop={"when": "never"})
    events = list(read_log(again.folder))
    starts = [index for index, line in enumerate(events) if line["event"] == "start"]
    repeated = {line["key"] for line in events[starts[-1] :] if line["event"] == "end"} & before
    assert not repeated
    # Rounds of which all was there are not shown again.
    assert again.stops[0]["people"] > first.stops[-1]["people"]
    assert again.tables[-1].equals(never.tables[-1])
    whole = (never.folder / "results.parquet").read_bytes()
    assert (again.folder / "results.parquet").read_bytes() == whole


def test_a_cluster_makes_the_same_decisions_and_bytes(painted: Path, tmp_path: Path) -> None:
    stop = {"when": "width", "width": 0.75}
    alone = Run(painted, tmp_path / "alone", "one", stop=stop)
    with workers_here(2) as pool:
        shared = Run(painted, tmp_path / "shared", "two", stop=stop, pool=pool)
    for name in ("results.parquet", STOP):
        assert (alone.folder / name).read_bytes() == (shared.folder / name).read_bytes()


def test_what_stop_says_is_checked() -> None:
    with pytest.raises(UserError, match=r"'width' of \[stop\] must be given if and only if"):
        asked(stop={"when": "width"})
    with pytest.raises(UserError, match=r"'width' of \[stop\] must be given if and only if"):
        asked(stop={"when": "ranking", "width": 0.1})
    with pytest.raises(UserError, match=r"'when' of \[stop\]"):
        asked(stop={"when": "sometimes"})


def test_stop_json_is_read_by_others(never: Run) -> None:
    stop = json.loads((never.folder / STOP).read_text())
    assert stop["when"] == "never" and stop["verdicts"] == [] and stop["level"] == 0.05
