from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from ranvier.errors import SettingsError
from ranvier.training.recipe import (
    NetworkSettings,
    Recipe,
    ScheduleSettings,
    read_recipe,
    recipe_from,
)

BEFORE = {
    "network": {"shuffle": 2, "channels": [8, 12, 16]},
    "schedule": {
        "steps": 6, "batch": 2, "patch": 64, "learning_rate": 0.002, "weight_decay": 0.01,
        "warmup_steps": 2, "ema_decay": 0.999, "precision": "f32", "validate_every_steps": 3, "seed": 0,
    },
    "sampling": {"sources": "root", "foreground": 0.5},
    "augmentation": {
        "rotate": True, "flip": True, "zoom": [0.45, 2.2], "anisotropy": 1.15, "invert": 0.5,
        "gamma": [0.6, 1.6], "contrast": [0.75, 1.3], "brightness": 0.3, "blur": [0.0, 1.6],
        "blur_share": 0.4, "noise": [0.0, 0.35], "noise_share": 0.5, "bias_field": 0.5,
    },
}  # fmt: skip
"""A recipe as checkpoints hold it from before networks, inputs and losses had a choice."""


def test_the_small_recipe_is_what_settings_default_to():
    assert read_recipe("compact") == read_recipe("compact.toml") == Recipe()


def test_refit_fits_the_network_that_ships():
    assert read_recipe("refit").network == read_recipe("generalist").network
    assert (
        read_recipe("refit").augmentation.axon_px == read_recipe("generalist").augmentation.axon_px
    )


@pytest.mark.parametrize("name", ["generalist", "compact", "refit", "paper"])
def test_a_recipe_survives_json(name):
    recipe = read_recipe(name)
    assert recipe_from(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_a_recipe_from_before_a_key_was_known_means_what_it_meant():
    assert recipe_from(BEFORE) == Recipe(
        network=NetworkSettings(kind="compact", channels=(8, 12, 16)),
        schedule=ScheduleSettings(
            steps=6, batch=2, patch=(64, 64), warmup_steps=2, precision="f32",
            validate_every_steps=3, optimiser="adamw", decay="cosine", gradient_clip=5.0,
        ),
    )  # fmt: skip


def test_a_patch_is_a_number_or_rows_and_columns():
    for given in (256, [256, 256]):
        assert recipe_from({"schedule": {"patch": given}}).schedule.patch == (256, 256)
    assert recipe_from({"schedule": {"patch": [384, 640]}}).schedule.patch == (384, 640)
    assert ScheduleSettings(patch=64).patch == (64, 64)


def test_the_papers_recipe_is_the_published_plan():
    """Against the plans.json published with the generalist, and nnU-Net's trainer."""
    recipe = read_recipe("paper")
    network, schedule, sampling = recipe.network, recipe.schedule, recipe.sampling
    plan = json.loads(PLAN)
    widths = [plan["UNet_base_num_features"] << i for i in range(7)]
    assert list(network.channels) == [min(w, plan["unet_max_num_features"]) for w in widths]
    assert {network.convs} == {*plan["n_conv_per_stage_encoder"], *plan["n_conv_per_stage_decoder"]}
    assert network.stride == 2 ** plan["num_pool_per_axis"][0] == 64
    assert list(schedule.patch) == plan["patch_size"]
    assert schedule.batch == plan["batch_size"]
    assert recipe.loss.batch_dice == plan["batch_dice"]
    assert plan["normalization_schemes"] == ["RescaleTo01Normalization"]
    assert recipe.input.normalisation == "rescale"
    assert (schedule.steps, schedule.iterations_per_epoch) == (250 * 1000, 250)
    assert (schedule.optimiser, schedule.momentum, schedule.decay) == ("sgd", 0.99, "poly")
    assert (schedule.learning_rate, schedule.weight_decay) == (1e-2, 3e-5)
    assert (schedule.gradient_clip, schedule.ema_decay, schedule.precision) == (12, 0, "f16")
    assert (sampling.foreground, sampling.foreground_by_class) == (0.33, True)
    assert (sampling.sources, sampling.images) == ("proportional", "uniform")
    assert recipe.augmentation.scheme == "nnunet"


PLAN = """{"batch_size": 13, "patch_size": [384, 640], "UNet_base_num_features": 32,
"normalization_schemes": ["RescaleTo01Normalization"], "n_conv_per_stage_encoder": [2, 2, 2, 2, 2, 2, 2],
"n_conv_per_stage_decoder": [2, 2, 2, 2, 2, 2], "num_pool_per_axis": [6, 6],
"unet_max_num_features": 512, "batch_dice": true}"""


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
        ("[schedule]\nprecision = 'fp8'", "one of auto, f32, bf16, f16"),
        ("[schedule]\npatch = [64, 64, 64]", "2 numbers"),
        ("[schedule]\npatch = [64.5, 64]", "a whole number or two"),
        ("[schedule]\npatch = 0", "at least 1"),
        ("[schedule]\npatch = [256, 100]", "multiple of 32"),
        ("[schedule]\noptimiser = 'adam'", "one of adamw, sgd"),
        ("[schedule]\noptimiser = 'sgd'\nmomentum = 0", "positive with sgd"),
        ("[schedule]\ndecay = 'step'", "one of cosine, poly"),
        ("[schedule]\ngradient_clip = 0", "gradient_clip must be positive"),
        ("[network]\nkind = 'large'", "one of compact, plain"),
        ("[network]\nconvs = 3", "must be 2 with kind compact"),
        ("[network]\ndeep_supervision = true", "needs kind plain"),
        ("[network]\nkind = 'plain'\nchannels = [4, 4]\n[schedule]\npatch = 2", "two squares of 2"),
        ("[input]\nnormalisation = 'none'", "one of standardise, rescale"),
        ("[input]\nnormalisation = 'rescale'", "randomised standardises"),
        ("[loss]\nsmooth = 0", "smooth must be positive"),
        ("[sampling]\nimages = 'all'", "one of area-root, uniform"),
        ("[augmentation]\nscheme = 'mine'", "one of randomised, nnunet"),
        ("[augmentation]\nscheme = 'nnunet'\nflip = false", "no switches.*flip"),
        ("[schedule]\nema_decay = 1.0", "ema_decay"),
        ("[network]\nchannels = [8]", "at least two"),
        ("[network]\nshuffle = 3", "shuffle"),
        ("[augmentation]\nzoom = [2, 1]", "low >= "),
        ("[augmentation]\nzoom = [1, 2, 3]", "2 numbers"),
        ("[augmentation]\ninvert = 2", r"in \[0, 1\]"),
        ("[augmentation]\nrotate = 1", "type bool"),
        ("[sampling]\nsources = 'all'", "balanced, root, subjects, proportional"),
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


def test_a_recipe_can_be_changed_key_by_key():
    changed = read_recipe(
        "compact",
        ["augmentation.invert=0", "augmentation.zoom=[1, 1]", "sampling.sources = balanced"],
    )
    assert changed.augmentation.invert == 0.0
    assert changed.augmentation.zoom == (1, 1)
    assert changed.sampling.sources == "balanced"
    assert (
        replace(changed, augmentation=Recipe().augmentation, sampling=Recipe().sampling) == Recipe()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("augmentation.invert", "not section.key=value"),
        ("invert=0", "not section.key=value"),
        ("augmentation.invrt=0", "unknown key in .augmentation."),
        ("augmentation.invert=2", r"in \[0, 1\]"),
        ("augmentation.rotate=no", "type bool"),
        ("agmentation.invert=0", "unknown section"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(SettingsError, match=message) as caught:
        read_recipe("compact", [change])
    assert "--set" in str(caught.value)
