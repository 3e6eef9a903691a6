from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from ranvier.errors import SettingsError
from ranvier.training.recipe import Recipe, read_recipe, recipe_from


def test_the_shipped_recipe_is_the_default():
    assert read_recipe("compact") == read_recipe("compact.toml") == Recipe()


def test_refit_fits_the_network_that_ships():
    assert read_recipe("refit").network == Recipe().network


def test_a_recipe_survives_json():
    recipe = read_recipe("compact")
    assert recipe_from(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3", "unknown section.*steps.*Allowed"),
        ("[scedule]", "unknown section"),
        ("[schedule]\nstep = 3", "unknown key.*Allowed.*steps"),
        ("[schedule]\nsteps = 'x'", "schedule.steps must be of type int"),
        ("[schedule]\nsteps = 0", "at least 1"),
        ("[schedule]\nsteps = true", "must be of type int"),
        ("[schedule]\nlearning_rate = 0", "positive"),
        ("[schedule]\nprecision = 'fp8'", "one of f32, bf16"),
        ("[schedule]\nema_decay = 1.0", "ema_decay"),
        ("[network]\nchannels = [8]", "at least two"),
        ("[network]\nshuffle = 3", "shuffle"),
        ("[augmentation]\nzoom = [2, 1]", "low >= "),
        ("[augmentation]\nzoom = [1, 2, 3]", "2 numbers"),
        ("[augmentation]\ninvert = 2", r"in \[0, 1\]"),
        ("[augmentation]\nrotate = 1", "type bool"),
        ("[sampling]\nsources = 'all'", "balanced, root, proportional"),
        ("[schedule]\npatch = 33", "multiple of 32"),
        ("network = 5", "expected a section"),
        ("not toml", "not a TOML file"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        read_recipe(path)
    assert "r.toml" in str(caught.value)


def test_an_unknown_recipe_names_those_that_ship():
    with pytest.raises(SettingsError, match="compact"):
        read_recipe("compcat")
