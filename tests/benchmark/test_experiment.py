from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facefocus.benchmark.experiment import (
    Experiment,
    load_experiment,
    load_variants,
    parse_experiment,
)
from facefocus.core.errors import UserError
from facefocus.core.specs import tables
from facefocus.models.preprocessing import read_beside
from facefocus.paper.study import run_study
from facefocus.planted.train.recipe import load_recipe

MINIMAL: dict[str, Any] = {
    "name": "x",
    "recognizers": {"source": "mobilefacenet-ms1m"},
    "saliency": {"method": "grad-cam"},
    "occlusion": {"budget": 0.01},
}


def changed(section: str, **fields: Any) -> dict[str, Any]:
    return {**MINIMAL, section: {**MINIMAL.get(section, {}), **fields}}


def message(data: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        parse_experiment(data)
    return str(error.value)


def test_scalars_and_lists_mean_the_same() -> None:
    listed = {**MINIMAL, "saliency": [{"method": ["grad-cam"], "layer": [1, "N/2"]}]}
    scalar = changed("saliency", layer=[1, "N/2"])
    assert parse_experiment(listed) == parse_experiment(scalar)
    assert parse_experiment(scalar).saliency[0].layer == ("1", "N/2")


def test_one_request_has_one_form_however_it_is_written() -> None:
    written = [
        "Cosine",
        " cosine",
        "arcface(0)",
        "arcface( 0.0 )",
        "arcface(-0)",
        "ArcFace( 0.10 )",
        "arcface(.1)",
    ]
    got = parse_experiment(changed("saliency", objective=written, layer=["03", 3, " N/2"]))
    assert got.saliency[0].objective == ("cosine", "arcface(0)", "arcface(0.1)")
    assert got.saliency[0].layer == ("3", "N/2")
    assert got == parse_experiment(
        changed(
            "saliency", objective=["cosine", "arcface(0)", "arcface(0.1)"], layer=[3, "N/2", "N/2"]
        )
    )
    close = parse_experiment(changed("saliency", objective=["arcface(0.1)", "arcface(0.10000001)"]))
    assert close.saliency[0].objective == ("arcface(0.1)", "arcface(0.10000001)")


@pytest.mark.parametrize(
    ("section", "asked", "other"),
    [
        (
            "recognizers",
            {"source": ["a", "b", "a"], "target": ["b", "b"]},
            {"source": ["a", "b"], "target": "b"},
        ),
        ("saliency", {"method": ["grad-cam", "grad-cam"]}, {"method": "grad-cam"}),
        (
            "saliency",
            {"method": "s-rise", "options": {"masks": "20"}},
            {"method": "s-rise", "options": {"masks": 20}},
        ),
        (
            "occlusion",
            {"budget": [1e-2, 0.01], "fill": ["black", "black"]},
            {"budget": 0.01, "fill": "black"},
        ),
        (
            "occlusion",
            {"budget": 0.1, "on_degenerate": ["skip", "skip"]},
            {"budget": 0.1, "on_degenerate": "skip"},
        ),
        ("evaluation", {"threshold": "fmr=1e-2"}, {"threshold": "fmr=0.010"}),
        ("evaluation", {"threshold": "0.240"}, {"threshold": 0.24}),
        ("evaluation", {"split": ["same", "same"]}, {"split": "same"}),
    ],
)
def test_what_is_asked_for_twice_or_in_another_spelling_is_one_request(
    section: str, asked: dict[str, Any], other: dict[str, Any]
) -> None:
    got, wanted = (parse_experiment({**MINIMAL, section: value}) for value in (asked, other))
    assert got == wanted


def test_targets_are_the_sources_by_default() -> None:
    assert parse_experiment(MINIMAL).recognizers.targets == ("mobilefacenet-ms1m",)


def test_budgets_are_sorted_and_distinct() -> None:
    got = parse_experiment(changed("occlusion", budget=[0.05, 0.01, 0.05]))
    assert got.occlusion.budget == (0.01, 0.05)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            changed("occlusion", budget=30),
            "The 'budget' of [occlusion] must be in (0, 1]. Got 30. Did you mean 0.30?",
        ),
        (
            changed("saliency", fill="blur"),
            "The 'fill' of [saliency] is for methods whose maps depend on the fill"
            " (such as occlusion-gradient, learned-mask, shared-mask, s-rise, corr-rise). Got"
            " 'grad-cam'. Name fills to try maps under in [occlusion].",
        ),
        (
            changed("saliency", method=["occlusion-gradient", "random"], fill="blur"),
            "The 'fill' of [saliency] is for methods whose maps depend on the fill"
            " (such as occlusion-gradient, learned-mask, shared-mask, s-rise, corr-rise). Got"
            " 'random'. Name fills to try maps under in [occlusion].",
        ),
        (
            changed("occlusion", budget=[0.01, 2.5]),
            "The 'budget' of [occlusion] must be in (0, 1]. Got 2.5. Did you mean 0.025?",
        ),
        (
            changed("saliency", draws=1_000_000_000),
            "The 'draws' of [saliency] must be at most 1000. Got 1000000000.",
        ),
        (
            {**MINIMAL, "controls": {"control": "shifted", "draws": 1_000_000_000}},
            "The 'draws' of [controls] must be at most 1000. Got 1000000000.",
        ),
        (
            changed("saliency", method="s-rise", options={"masks": 10**9}),
            "The 'masks' of the method 's-rise' must be a whole number from 2 to 1000000."
            " Got '1000000000'.",
        ),
        (
            changed("saliency", arcface_scale=float("inf")),
            "The 'arcface_scale' of [saliency] must be a finite number. Got inf.",
        ),
        (changed("occlusion", budget=0), "The 'budget' of [occlusion] must be in (0, 1]. Got 0."),
        (
            changed("occlusion", budget="much"),
            "The 'budget' of [occlusion] must be a number. Got 'much'.",
        ),
        (
            changed("occlusion", budget=True),
            "The 'budget' of [occlusion] must be a number. Got True.",
        ),
        (
            changed("occlusion", budget=float("nan")),
            "The 'budget' of [occlusion] must be a finite number. Got nan.",
        ),
        (
            changed("occlusion", bugdet=0.1),
            "[occlusion] has no field 'bugdet'. Known: budget, fill, on_degenerate, shape."
            " Did you mean 'budget'?",
        ),
        (
            changed("occlusion", on_degenerate="inclusiv"),
            "The 'on_degenerate' of [occlusion] must be one of 'none', 'skip', 'random' or"
            " 'inclusive'. Got 'inclusiv'. Did you mean 'inclusive'?",
        ),
        (
            {k: v for k, v in MINIMAL.items() if k != "occlusion"},
            "The 'occlusion' of the experiment is missing.",
        ),
        (
            changed("recognizers", source=[]),
            "The 'source' of [recognizers] must be a list with at least one entry. Got [].",
        ),
        (
            changed("faces", identities="many"),
            "The 'identities' of [faces] must be a number. Got 'many'.",
        ),
        (
            changed("faces", identities="3"),
            "The 'identities' of [faces] must be a number. Got '3'. Did you mean 3?",
        ),
        (
            changed("faces", identities=3.5),
            "The 'identities' of [faces] must be a whole number. Got 3.5.",
        ),
        (
            changed("faces", images=[1, 4]),
            "The 'images' of [faces] must be [least, most] with 2 <= least <= most. Got [1, 4].",
        ),
        (
            changed("faces", images=[4]),
            "The 'images' of [faces] must be [least, most] with 2 <= least <= most. Got [4].",
        ),
        (
            changed("faces", images=4),
            "The 'images' of [faces] must be [least, most] with 2 <= least <= most. Got 4."
            " Did you mean [4, 4]?",
        ),
        (
            changed("recognizers", preprocessing=1),
            "The 'preprocessing' of [recognizers] must be a table of fields. Got 1.",
        ),
        ({**MINIMAL, "seed": -1}, "The 'seed' of the experiment must be at least 0. Got -1."),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(data: dict[str, Any], expected: str) -> None:
    assert message(data) == expected


WRONG_VALUES = [True, 3.7, [], [1], [[1]], {"a": 1}, float("nan"), float("inf"), -1, [{"a": 1}]]
FIELDS = [
    (section, field)
    for section, model in tables(Experiment).items()
    for field in model.model_fields
]


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_no_message_of_a_wrong_field_is_in_the_words_of_a_library(section: str, field: str) -> None:
    complete = {**MINIMAL, "controls": {"control": "shifted"}, "stop": {"when": "never"}}
    for value in WRONG_VALUES:
        try:
            parse_experiment({**complete, section: {**complete.get(section, {}), field: value}})
        except UserError as error:
            assert "Input" not in str(error) and "missing" not in str(error), value
            assert "Got" in str(error) or "Known" in str(error), value


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    got = message(changed("saliency", method=["grad-cam", "gradcam++"]))
    assert got.startswith("The 'method' of [saliency] must be one of ")
    assert got.endswith("Got 'gradcam++'. Did you mean 'grad-cam++'?")


def test_every_wrong_field_gets_its_line() -> None:
    lines = message({**changed("occlusion", budget=30), "sede": 1}).splitlines()
    assert len(lines) == 2
    assert any("'sede'" in line and "Did you mean 'seed'?" in line for line in lines)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("name = ")
    with pytest.raises(UserError, match="is not a TOML file"):
        load_experiment(file)
    with pytest.raises(UserError, match="Cannot read the experiment"):
        load_experiment(tmp_path / "none.toml")


#: Studies and their stages are tested in `test_study`.
SHIPPED = [
    file
    for file in sorted(Path("experiments").glob("*.toml"))
    if not {"study", "stages"} & tomllib.loads(file.read_text(encoding="utf-8")).keys()
]


@pytest.mark.parametrize("file", SHIPPED, ids=str)
def test_the_shipped_experiments_are_valid(file: Path) -> None:
    name, experiments = load_variants(file)
    assert name == file.stem and experiments


@pytest.mark.parametrize("depth", [40, 300, 100_000])
def test_a_file_that_is_nested_too_deeply_is_one_line(depth: int, tmp_path: Path) -> None:
    """The parser gives up at some depth, what comes after it at another."""
    file = tmp_path / "deep.toml"
    file.write_text(f"name = 'x'\nx = {'[' * depth}{']' * depth}\n")
    readers: list[Callable[[], object]] = [
        lambda: load_experiment(file),
        lambda: load_recipe(str(file)),
        lambda: read_beside(file.with_suffix(".onnx")),
        lambda: run_study(file),
    ]
    for read in readers:
        with pytest.raises(UserError, match=r"deep\.toml' is nested too deeply"):
            read()


def test_a_kind_of_layer_goes_before_its_names() -> None:
    got = parse_experiment(changed("saliency", kind="norm", layer=["N", 4])).saliency[0]
    assert got.layer == ("norm:N", "norm:4")
    assert parse_experiment(changed("saliency", kind="attention")).saliency[0].layer[0][:10] == (
        "attention:"
    )
    with pytest.raises(UserError, match=r"The 'kind' of .* must be one of conv, norm, attention."):
        parse_experiment(changed("saliency", kind="nrom"))
