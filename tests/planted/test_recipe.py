from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facefocus.core.errors import UserError
from facefocus.planted.train.card import card_text
from facefocus.planted.train.recipe import load_recipe, parse_recipe

VALID: dict[str, Any] = {
    "name": "tiny",
    "network": {"architecture": "iresnet", "options": {"depth": 10}},
    "faces": {"world": "eyes"},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"training": {"head": "arcfase"}},
            r"The 'head' of \[training\] must be one of cosface, arcface\. Got 'arcfase'\. "
            r"Did you mean 'arcface'\?",
        ),
        ({"training": {"batch": 1}}, r"The 'batch' of \[training\] must be .* 2\. Got 1\."),
        (
            {"training": {"marjin": 1}},
            r"\[training\] has no field 'marjin'\. .* Did you mean 'margin'\?",
        ),
        ({"seeed": 1}, r"The recipe has no field 'seeed'\. .* Did you mean 'seed'\?"),
        ({"faces": {"world": "eye"}}, r"The 'world' of \[faces\] .* Did you mean 'eyes'\?"),
        ({"faces": {}}, r"\[faces\] must name either a 'world' or a 'set'\."),
        (
            {"faces": {"world": "eyes", "set": "x"}},
            r"\[faces\] must name either a 'world' or a 'set'\.",
        ),
        (
            {"network": {"architecture": "resnet"}},
            r"The 'architecture' of \[network\] must be one of .* Did you mean 'iresnet'\?",
        ),
        (
            {"network": {"architecture": "iresnet", "preprocessing": {"size": [112, 112]}}},
            "preprocessing|mean",
        ),
        ({"name": "../x"}, r"The 'name' of the recipe must be letters, digits"),
    ],
)
def test_mistakes_are_one_line_each(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_recipe({**VALID, **change})
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"The 'faces' of the recipe is missing\."):
        parse_recipe({key: value for key, value in VALID.items() if key != "faces"})


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the recipe .*No such file"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(UserError, match="is not a TOML file"):
        load_recipe(str(tmp_path / "broken.toml"))
    with pytest.raises(UserError, match="neither a recipe file nor an embedded recognizer"):
        load_recipe("iresnet-mini-ears")


def test_a_card_is_read_as_the_recipe_it_came_from(tmp_path: Path) -> None:
    recipe = parse_recipe(VALID)
    record = {
        **recipe.model_dump(exclude_none=True),
        "result": {"command": 'facefocus synthetic train "x"', "loss_by_epoch": [1.5, 0.25]},
        "validation": {"eer": 0.125, "people": 6},
        "planted": {"passed": True},
    }
    path = tmp_path / "tiny.toml"
    path.write_text(card_text(record), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
