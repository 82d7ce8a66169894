"""What is scored, shown and bounded is one and the same mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.labels import series_label, varying
from facefocus.analysis.summary import summarize
from facefocus.benchmark import session as session_module
from facefocus.benchmark.collect import write_run
from facefocus.benchmark.execute import execute
from facefocus.benchmark.experiment import parse_experiment
from facefocus.benchmark.result_columns import COMPETES, HELDOUT_ORACLE, ORACLE
from facefocus.benchmark.session import Session, SessionSpec, is_degenerate
from facefocus.benchmark.stages.oracle import bound
from facefocus.benchmark.stages.perturb import MaskedTask
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError
from facefocus.core.seeds import generator
from facefocus.evaluation.retention import retention
from facefocus.faces.faceset import FaceSet, IndexRow, write_faceset
from facefocus.occlusion.fills import fill_rng, hider
from facefocus.occlusion.masks import top_pixels
from facefocus.occlusion.shapes import cells
from facefocus.saliency.identity import ordered_pairs
from facefocus.saliency.methods import METHODS, PerturbationMethod
from facefocus.saliency.perturbation import (
    mask_set,
    masked_embeddings,
    perturbation_identity_map,
)
from tests.small import SIDE, TinyNet, paint_faceset, tiny_recognizer

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "faces": {"set": "painted", "images": [4, 6]},
    "recognizers": {"source": "a"},
    "saliency": {"method": "layer-cam", "layer": "1"},
    "occlusion": {"budget": [0.05, 0.2]},
}


@pytest.fixture(autouse=True)
def tiny_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load", lambda name, _: tiny_recognizer(name))


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faceset(tmp_path_factory.mktemp("faces") / "painted")


def do(painted: Path, run: Path, **changes: Any) -> tuple[Session, pl.DataFrame]:
    experiment = parse_experiment({**EXPERIMENT, **changes})
    session = Session(SessionSpec(experiment.model_dump_json(), painted, run / "store", "torch"))
    execute(session)
    return session, pl.read_parquet(write_run(session, run, {}, ""))


def left_under(
    faces: FaceSet, rows: np.ndarray, mask: np.ndarray, fill: str, compare: Any = "clean"
) -> float:
    """Mean mated cosine of some photos under a mask, by hand."""
    frames, recognizer = np.asarray(faces.frames[rows]), tiny_recognizer()
    rngs = [fill_rng(0, str(faces.names[row])) for row in rows]
    hidden = recognizer.embed(hider(fill, frames, rngs)(mask))
    return retention(recognizer.embed(frames), hidden, 0.5, compare=compare).cosine


# --- the gallery ----------------------------------------------------------------------------------


def test_the_gallery_shows_the_masks_that_were_scored(painted: Path, tmp_path: Path) -> None:
    """Occlusion gradient in steps makes a map of its own for every budget and fill."""
    stepped = {"method": "occlusion-gradient", "options": {"steps": 3}}
    session, table = do(
        painted,
        tmp_path,
        saliency=[stepped, {"method": "layer-cam", "layer": "1"}, {"method": "random", "draws": 1}],
        occlusion={"budget": [0.05, 0.2], "fill": ["mean", "black"]},
    )
    rows = pl.read_parquet(tmp_path / "gallery.parquet")
    arrays = np.load(tmp_path / "gallery.npz")
    people = {person.name: person.rows for person in session.plan.people}
    assert rows["identity"].n_unique() == 5
    assert rows.group_by("method").len().sort("method")["len"].to_list() == [10, 20, 10]
    for shown in rows.iter_rows(named=True):
        for fill in ("mean", "black") if shown["fill"] is None else (shown["fill"],):
            same = {"fill": fill, **{n: shown[n] for n in ("method", "identity", "budget")}}
            row = table.row(by_predicate=pl.all_horizontal(*(
                pl.col(name) == value for name, value in same.items())), named=True)  # fmt: skip
            mask = arrays["masks"][shown["index"]]
            cosine = left_under(session.faces, people[shown["identity"]], mask, fill)
            assert row["cosine"] == pytest.approx(cosine, abs=1e-6)
    example = rows.filter(pl.col("method") == "layer-cam", pl.col("budget") == 0.05).row(
        0, named=True
    )
    expected = top_pixels(
        arrays["maps"][example["map"]], 51, generator(0, "ties", example["identity"])
    )
    np.testing.assert_array_equal(arrays["masks"][example["index"]], expected)


def test_maps_made_for_one_fill_are_tried_under_every_fill(painted: Path, tmp_path: Path) -> None:
    asked = {"method": "occlusion-gradient", "options": {"steps": 3}}
    session, table = do(
        painted,
        tmp_path,
        saliency=[asked, asked | {"fill": "mean"}],
        occlusion={"budget": 0.05, "fill": ["mean", "black"]},
    )
    options = {"own": "block=1 steps=3", "made": "block=1 steps=3 made_for=mean"}
    tables = {
        (name, fill): table.filter(pl.col("options") == text, pl.col("fill") == fill)
        for name, text in options.items()
        for fill in ("mean", "black")
    }
    assert table.height == 20 and {part.height for part in tables.values()} == {5}
    # Under its own fill it is the very map that is made by default, and made once.
    assert tables["own", "mean"].drop("options").equals(tables["made", "mean"].drop("options"))
    assert not tables["own", "black"]["cosine"].equals(tables["made", "black"]["cosine"])
    gallery = pl.read_parquet(tmp_path / "gallery.parquet")
    made = gallery.filter(pl.col("options") == options["made"])
    assert made["fill"].to_list() == [None] * 5
    masks = np.load(tmp_path / "gallery.npz")["masks"]
    people = {person.name: person.rows for person in session.plan.people}
    for name, index in made.select("identity", "index").iter_rows():
        for fill in ("mean", "black"):
            row = tables["made", fill].row(by_predicate=pl.col("identity") == name, named=True)
            hidden = left_under(session.faces, people[name], masks[index], fill)
            assert row["cosine"] == pytest.approx(hidden, abs=1e-6)
    words = {
        series_label(row, varying(summarize(part)))
        for part in tables.values()
        for row in part.to_dicts()
    }
    assert words == {"occlusion-gradient", "occlusion-gradient, steps=3, made for mean"}


def test_masks_of_cells_are_scored_as_such(painted: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "saliency": [{"method": "layer-cam", "layer": "1"}, {"method": "random", "draws": 1}],
        "faces": {"set": "painted", "people": ["p04", "p09"]},
    }
    keys = {}
    for shape in ("pixels", "cells"):
        occlusion = {"budget": [0.05, 0.2], "shape": shape}
        session, table = do(painted, tmp_path, occlusion=occlusion, **settings)
        outputs = session.plan.planned["scores"]["a", 0]
        keys[shape] = {output.key for output in outputs}
    assert len(keys["pixels"]) == len(keys["cells"]) == 2 and not keys["pixels"] & keys["cells"]
    assert set(table["options"]) == {"shape=cells"}
    for output in outputs:
        maps = session.store.load(output.maps.key)["maps"]
        masks = scored_masks(session, session.store.load(output.key))
        for person, own, made in zip(("p04", "p09"), masks, maps, strict=True):
            for k, mask in zip((51, 205), own, strict=True):
                expected = cells(made, k, generator(0, "ties", person))
                np.testing.assert_array_equal(mask, expected)
    gallery = pl.read_parquet(tmp_path / "gallery.parquet")
    assert set(gallery["options"]) == {"shape=cells"}
    with pytest.raises(UserError, match=r"'shape' of \[occlusion\] must be .*pixels"):
        parse_experiment({**EXPERIMENT, "occlusion": {"budget": 0.1, "shape": "discs"}})


def test_perturbation_hides_by_a_fill_that_is_named(painted: Path, tmp_path: Path) -> None:
    asked = {"method": "s-rise", "options": {"masks": 10}}
    session, table = do(
        painted,
        tmp_path,
        saliency=[asked, asked | {"fill": "inpaint"}],
        occlusion={"budget": 0.2, "fill": "black"},
        faces={"set": "painted", "people": ["p04", "p09"]},
    )
    plain, filled = (f"masks=10 weights=centered{made}" for made in ("", " made_for=inpaint"))
    assert sorted(table["options"].to_list()) == sorted([plain, filled] * 2)
    embedded = [task for task in session.plan.tasks if isinstance(task, MaskedTask)]
    assert [(task.fill, len(task.parts)) for task in embedded] == [(None, 10), ("inpaint", 10)]
    (block,) = session.plan.planned["maps"].values()
    method = METHODS["s-rise"]
    assert isinstance(method, PerturbationMethod)
    for output in block:
        fill, person = output.spec.fill, session.plan.people[0]
        frames = np.asarray(session.faces.frames[person.rows])
        masks, masked = [], []
        for frame, row in zip(frames, person.rows, strict=True):
            name = str(session.faces.names[row])
            own = mask_set(method, (SIDE, SIDE), name, seed=0, options={"masks": "10"}, fill=fill)
            hide = None if fill is None else hider(fill, frame[None], [fill_rng(0, name)])
            masks.append(own)
            masked.append(masked_embeddings(tiny_recognizer(), frame, own, hide=hide))
        pairs = ordered_pairs(len(frames), None, np.random.default_rng())
        clean = tiny_recognizer().embed(frames)
        expected, *_ = perturbation_identity_map(masks, masked, clean, pairs)
        np.testing.assert_array_equal(session.store.load(output.key)["maps"][0], expected)


def blind(name: str, _: object) -> Any:
    """The tiny net without its second layer: no gradient reaches layer 1, so no map."""
    recognizer = tiny_recognizer(name)
    assert isinstance(recognizer.module, TinyNet)
    recognizer.module.second.weight.zero_()
    return recognizer


def test_the_gallery_shows_whole_faces_where_they_were_hidden(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", blind)
    do(painted, tmp_path, occlusion={"budget": 0.05, "on_degenerate": "inclusive"})
    assert np.load(tmp_path / "gallery.npz")["masks"].all()


# --- controls -------------------------------------------------------------------------------------


def test_the_populations_mask_is_of_everybody_else(painted: Path, tmp_path: Path) -> None:
    session, table = do(painted, tmp_path, controls={"control": "population"})
    block = session.plan.blocks[0]
    outputs = session.plan.planned["scores"]["a", block.index]
    made = session.store.load(outputs[0].maps.key)["maps"].astype(np.float64)
    control = next(output for output in outputs if output.control == "population")
    worn = scored_masks(session, session.store.load(control.key))
    for index, person in enumerate(block.people):
        mean = np.delete(made, index, axis=0).mean(axis=0)
        expected = top_pixels(mean, 51, generator(0, "ties", person.name))
        np.testing.assert_array_equal(worn[index, 0], expected)
        row = table.row(
            by_predicate=(pl.col("identity") == person.name)
            & (pl.col("control") == "population")
            & (pl.col("budget") == 0.05),
            named=True,
        )
        assert row["cosine"] == pytest.approx(
            left_under(session.faces, person.tests, expected, "black"), abs=1e-6
        )


@pytest.mark.parametrize("split", ["same", "heldout"])
def test_a_blend_weighs_a_persons_map_by_its_photos(
    split: str, painted: Path, tmp_path: Path
) -> None:
    session, table = do(
        painted,
        tmp_path,
        controls={"control": "blend", "draws": 3},
        evaluation={"split": split},
    )
    seen = set()
    for block in session.plan.blocks:
        if block.split != split:
            continue
        outputs = session.plan.planned["scores"]["a", block.index]
        (control,) = [output for output in outputs if output.control == "blend"]
        made = session.store.load(control.maps.key)["maps"].astype(np.float64)
        worn = scored_masks(session, session.store.load(control.key))
        for index, person in enumerate(block.people):
            own, mean = made[index], np.delete(made, index, axis=0).mean(axis=0)
            shares = [
                (np.less(a.ravel()[:, None], a.ravel()).sum(0) / 2
                 + (np.less_equal(a.ravel()[:, None], a.ravel()).sum(0) - 1) / 2) / (own.size - 1)
                for a in (own, mean)
            ]  # fmt: skip
            count = len(person.rows)
            seen.add(count)
            mixed = (count * shares[0] + 6 * shares[1]) / (count + 6)
            # Equal but for rounding: ties may fall otherwise.
            hidden = np.sort(mixed[worn[index, 1].ravel()])
            np.testing.assert_allclose(hidden, np.sort(mixed)[-hidden.size :], atol=1e-12)
            assert hidden.size == 205
    assert len(seen) > 1
    rows = table.filter(pl.col("control") == "blend")
    assert rows["draws"].unique().to_list() == [1] and rows["rate"].is_not_null().all()
    # Rows of their own, and nothing that a method is said to beat.
    assert not any("blend" in name for name in summarize(table).columns)
    shown = summarize(table, controls=True).filter(pl.col("control") == "blend")
    assert shown["budget"].to_list() == [0.05, 0.2]


@pytest.mark.parametrize("control", ["other", "population", "blend"])
def test_controls_of_other_people_need_other_people(
    control: str, painted: Path, tmp_path: Path
) -> None:
    controls = {"control": [control, "shifted"]}
    with pytest.raises(UserError, match=f"can be {control} only with 2 or more people: their maps"):
        do(painted, tmp_path, faces={"set": "painted", "identities": 1}, controls=controls)
    # p09 alone has six photos, which make two halves; p00 has two.
    with pytest.raises(UserError, match=r"people whose photos can be held out.*Got 1"):
        do(
            painted,
            tmp_path,
            faces={"set": "painted", "images": [6, 6]},
            evaluation={"split": "heldout"},
            controls=controls,
        )


def test_whoever_has_the_only_map_is_left_out_of_controls_of_others(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the person's own mask as another's: it would say that the mask is nobody's own."""
    controls = {"control": ["other", "population", "shifted"], "draws": 2}

    def lonely(made: dict[str, np.ndarray], index: int) -> bool:
        return is_degenerate(made, index) or index > 0

    for module in ("session", "stages.score", "collect"):
        monkeypatch.setattr(f"facefocus.benchmark.{module}.is_degenerate", lonely)
    session, table = do(painted, tmp_path, controls=controls)
    first = session.plan.blocks[0].people[0].name
    rows = table.filter(pl.col("control").is_in(["other", "population"]))
    assert rows.filter(pl.col("identity") == first)["rate"].is_null().all()
    assert rows.filter(pl.col("identity") != first)["rate"].is_not_null().all()
    summary = summarize(table, controls=True)
    for control, lost in (("other", 1), ("population", 1), ("shifted", 0)):
        (row,) = summary.filter(pl.col("control") == control, pl.col("budget") == 0.05).to_dicts()
        assert row["identities"] - row["scored"] == lost
        assert (row["warning"] is None) == (lost == 0)
    assert summarize(table)["specificity"].to_list() == pytest.approx([0.0, 0.0])


# --- held-out photos ------------------------------------------------------------------------------


def test_half_rows_are_the_held_out_maps_on_their_own_photos(painted: Path, tmp_path: Path) -> None:
    """By hand: maps of half A on A and of B on B, beside A on B and B on A."""
    random = {"method": "random", "draws": 1}
    session, table = do(
        painted,
        tmp_path,
        saliency=[EXPERIMENT["saliency"], random],
        controls={"control": "shifted", "draws": 1},
        evaluation={"split": ["same", "heldout"]},
    )
    plan = session.plan
    assert len(plan.keys()["maps"]) == len(set(plan.keys()["maps"]))  # nothing is made twice
    half = table.filter(pl.col("split") == "half")
    assert set(half["method"]) == {"layer-cam"} and half["control"].is_null().all()
    expected: dict[str, dict[str, list[float]]] = {}
    for block in plan.blocks:
        if block.split != "heldout":
            continue
        output = plan.planned["scores"]["a", block.index][0]
        assert output.control is None and output.maps.spec.method == "layer-cam"
        worn = scored_masks(session, session.store.load(output.key))[:, 1]
        for person, mask in zip(block.people, worn, strict=True):
            by_split = expected.setdefault(person.name, {"half": [], "heldout": [], "clean": []})
            for split, rows in (("half", person.rows), ("heldout", person.tests)):
                by_split[split].append(left_under(session.faces, rows, mask, "black"))
            nothing = np.zeros(session.frame, bool)
            by_split["clean"].append(left_under(session.faces, person.rows, nothing, "black"))
    own = table.filter(
        pl.col("method") == "layer-cam", pl.col("control").is_null(), pl.col("budget") == 0.2
    )
    for split in ("half", "heldout"):
        cosines = dict(
            own.filter(pl.col("split") == split).select("identity", "cosine").iter_rows()
        )
        means = {name: np.mean(by_split[split]) for name, by_split in expected.items()}
        assert cosines == pytest.approx(means, abs=1e-6)
    summary = summarize(table).filter(COMPETES, pl.col("budget") == 0.2)
    assert set(summary["split"]) == {"same", "heldout"}
    loss = np.mean(
        [np.mean(values["heldout"]) - np.mean(values["half"]) for values in expected.values()]
    )
    drop = np.mean(
        [np.mean(values["clean"]) - np.mean(values["half"]) for values in expected.values()]
    )
    for row in summary.to_dicts():
        assert row["cosine_heldout_loss"] == pytest.approx(loss, abs=1e-6)
        assert row["cosine_half_drop"] == pytest.approx(drop, abs=1e-6)
        assert row["heldout_identities"] == len(expected)


def test_near_equal_photos_stay_on_one_side_of_the_halves(tmp_path: Path) -> None:
    """p0 has three pairs of copies; p1 four photos, three of them one picture; p2 four photos."""
    copies = {"p0": [0, 0, 1, 1, 2, 2], "p1": [0, 0, 0, 1], "p2": [0, 1, 2, 3]}
    rows, frames = [], []
    for name, pictures in copies.items():
        for number, picture in enumerate(pictures):
            frame = generator(0, "picture", name, picture).integers(20, 230, (SIDE, SIDE, 3))
            dust = generator(0, "dust", name, number).integers(-3, 4, frame.shape)
            frames.append((frame + dust).astype(np.uint8))
            rows.append(IndexRow(identity=name, name=f"{name}_{number}", path=f"{name}_{number}"))
    folder = tmp_path / "faces"
    folder.mkdir()
    write_faceset(folder, title="copies", rows=rows, frames=frames, size=(SIDE, SIDE))
    experiment = parse_experiment(
        {**EXPERIMENT, "faces": {"set": "x"}, "evaluation": {"split": "heldout"}}
    )
    spec = SessionSpec(experiment.model_dump_json(), folder, tmp_path / "store", "torch")
    people = {
        (block.split, block.fold, person.name): person
        for block in Session(spec).plan.blocks
        for person in block.people
    }
    assert {name for _, _, name in people} == {"p0", "p2"}  # three and one: no mated pair is left
    for (split, _, name), person in people.items():
        pictures = copies[name]
        start = 0 if name == "p0" else 10
        sides = [{pictures[row - start] for row in side} for side in (person.rows, person.tests)]
        assert sides[0] == sides[1] if split == "half" else not sides[0] & sides[1]
    assert sorted(len(people["half", fold, "p0"].rows) for fold in (0, 1)) == [2, 4]


def test_people_of_held_out_photos_only_are_there_with_all_their_photos(
    painted: Path, tmp_path: Path
) -> None:
    session, table = do(painted, tmp_path, evaluation={"split": "heldout"})
    assert {len(person.rows) for person in session.plan.people} == {4, 5, 6}
    assert table["fmr"].null_count() == table["clean_fmr"].null_count() == 0


# --- oracle ---------------------------------------------------------------------------------------

#: Two people of four photos each.
FOUR = {"set": "painted", "images": [4, 4]}
SEARCH = {"block": 4, "candidates": 12}
EVERYTHING: dict[str, Any] = {
    "saliency": [
        {"method": "layer-cam", "layer": ["1", "N"]},
        {"method": "occlusion-gradient", "options": {"steps": 3}},
        {"method": ["random", "center-gaussian"], "draws": 2},
    ],
    "controls": {"control": ["shifted", "other", "population", "pixels", "blocks"], "draws": 1},
    "oracle": SEARCH,
}


def unbeaten(table: pl.DataFrame) -> None:
    """Every row of at most k pixels beside the bound on the same target, fill and photos."""
    keys = ["identity", "target", "fill", "budget", "split", "compare"]
    bounds = table.filter(pl.col("method") == ORACLE).unique(keys)
    assert bounds.height
    rivals = table.filter(
        pl.col("method") != ORACLE, pl.col("rate").is_not_null(), pl.col("split") != "half",
        pl.col("masked_pixels") <= pl.col("budget_pixels"),
    )  # fmt: skip
    both = rivals.join(bounds.select(*keys, bound="cosine", least="rate"), on=keys, how="left")
    assert both["bound"].null_count() == 0
    assert (both["bound"] <= both["cosine"]).all() and (both["least"] <= both["rate"]).all()


@pytest.mark.parametrize(
    ("compare", "splits"), [("clean", ["same", "heldout"]), ("both", ["same"])]
)
def test_no_mask_that_was_scored_beats_the_oracle(
    compare: str, splits: list[str], painted: Path, tmp_path: Path
) -> None:
    _, table = do(
        painted,
        tmp_path,
        **EVERYTHING,
        faces=FOUR,
        occlusion={"budget": [0.05, 0.2], "on_degenerate": ["none", "random", "inclusive"]},
        evaluation={"split": splits, "compare": compare},
    )
    unbeaten(table)
    shares = summarize(table).filter(COMPETES, pl.col("cosine_oracle_share").is_not_null())
    assert set(shares["split"]) == set(splits)
    assert set(shares["on_degenerate"]) == {"none", "random"}
    assert (shares["cosine_oracle_share"] <= 1 + 1e-12).all()


@pytest.mark.parametrize("policy", ["skip", "random", "inclusive"])
def test_the_oracle_starts_from_masks_of_every_policy(
    policy: str, painted: Path, tmp_path: Path
) -> None:
    """With ``skip`` alone no seed was found, and a method took 1.377 of the bound's drop."""
    saliency = [EVERYTHING["saliency"][1], {"method": "random", "draws": 1}]
    _, table = do(
        painted,
        tmp_path,
        faces=FOUR,
        saliency=saliency,
        occlusion={"budget": 0.05, "on_degenerate": policy},
        oracle={"block": 32, "candidates": 1},
    )
    unbeaten(table)
    if policy != "inclusive":
        (row,) = summarize(table).filter(COMPETES).to_dicts()
        assert row["cosine_oracle_share"] is not None and row["cosine_oracle_share"] <= 1


def test_a_search_on_the_maps_photos_is_told_from_the_bound(painted: Path, tmp_path: Path) -> None:
    """The bound of a half is searched on it; ``oracle-heldout`` on the other, and is beaten."""
    session, table = do(
        painted, tmp_path, faces=FOUR, oracle=SEARCH, evaluation={"split": ["same", "heldout"]}
    )
    assert set(table.filter(pl.col("method") == HELDOUT_ORACLE)["split"]) == {"heldout"}
    rows = table.filter(pl.col("split") == "heldout", pl.col("budget") == 0.2)
    cosines = {
        method: dict(rows.filter(pl.col("method") == method).select("identity", "cosine").rows())
        for method in (ORACLE, HELDOUT_ORACLE)
    }
    better = [cosines[ORACLE][name] <= cosines[HELDOUT_ORACLE][name] for name in cosines[ORACLE]]
    assert all(better) and len(better) == 2
    clean = rows.filter(pl.col("method") == ORACLE)["clean_cosine"].mean()
    assert np.mean(list(cosines[ORACLE].values())) < np.mean(list(cosines[HELDOUT_ORACLE].values()))
    assert isinstance(clean, float) and np.mean(list(cosines[HELDOUT_ORACLE].values())) < clean
    # Its search may know masks of maps that saw the searched photos, and baselines; no others.
    for (_, index), tasks in session.plan.planned["oracle"].items():
        block = session.plan.blocks[index]
        for task in tasks:
            starts = {rival.key for rival in task.rivals if rival.starts}
            others = {rival.key for rival in task.rivals} - starts
            assert starts and bool(others) == (block.split == "heldout")
            own = [b for b in session.plan.blocks if b.split in ("same", "half")]
            assert starts <= {
                o.key for b in own for o in session.plan.planned["scores"]["a", b.index]
            }


def test_each_measure_is_bounded_by_itself_and_by_smaller_masks() -> None:
    def values(*rows: tuple[float, float, float, float]) -> dict[str, np.ndarray]:
        return dict(zip(("cosine", "rate", "fmr", "area"), np.array(rows).T, strict=True))

    searched = values((0.5, 0.6, 0.01, 10), (0.4, 0.5, 0.02, 20))
    rivals = values(
        (0.3, 0.9, 0.03, 15), (0.6, 0.2, 0.04, 9), (0.1, 0.1, 0.05, 21), (0.45, 0.7, 0.06, 10)
    )
    got = bound(searched, rivals, [10, 20])
    np.testing.assert_array_equal(got["cosine"], [0.45, 0.3])
    np.testing.assert_array_equal(got["rate"], [0.2, 0.2])
    np.testing.assert_array_equal(got["fmr"], [0.06, 0.03])
    np.testing.assert_array_equal(got["area"], [10, 15])


def test_controls_of_people_without_a_map_are_never_their_own_random_pixels(
    painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``on_degenerate = "random"`` who has no map has a mask, and so controls of it."""

    def flat_first(made: dict[str, np.ndarray], index: int) -> bool:
        return is_degenerate(made, index) or index == 0

    for module in ("session", "stages.score", "collect"):
        monkeypatch.setattr(f"facefocus.benchmark.{module}.is_degenerate", flat_first)
    session, _ = do(
        painted,
        tmp_path,
        occlusion={"budget": 0.05, "on_degenerate": "random"},
        controls={"control": ["other", "population", "blend", "shifted"], "draws": 1},
    )
    worn = {
        output.control: scored_masks(session, session.store.load(output.key))[:, 0]
        for output in session.plan.planned["scores"]["a", 0]
    }
    names = [person.name for person in session.plan.blocks[0].people]
    made = session.store.load(session.plan.planned["maps"][0][0].key)["maps"]
    masks = [
        top_pixels(saliency, 51, generator(0, "ties", name))
        for saliency, name in zip(made, names, strict=True)
    ]
    assert any(np.array_equal(worn["other"][0], mask) for mask in masks[1:])
    mean = top_pixels(made[1:].astype(np.float64).mean(axis=0), 51, generator(0, "ties", names[0]))
    np.testing.assert_array_equal(worn["population"][0], mean)
    np.testing.assert_array_equal(worn["blend"][0], mean)
    assert (worn["blend"][1] != worn["population"][1]).any()
    for control in ("other", "population", "shifted"):
        assert worn[control][0].sum() == 51 and (worn[control][0] != worn[None][0]).any()
