"""The card says what model.json says, and nothing that is not known."""

from __future__ import annotations

import dataclasses
import json

import pytest

pytest.importorskip("torch")

from ranvier.calibration import PixelSize
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.training.card import card, data_facts, limits


@pytest.fixture(scope="module")
def images(phantom_data):
    dealt = split(read_datasets([phantom_data]), fold=0, folds=3)

    def told(image):
        size = PixelSize(0.1 if image.source.endswith("sem") else 0.01, "phantom")
        return dataclasses.replace(
            image, species="rat", licence="MIT", organ=None, pathology=None, pixel_size=size
        )

    return dataclasses.replace(
        dealt,
        train=tuple(map(told, dealt.train)),
        validation=tuple(map(told, dealt.validation)),
    )


def test_data_are_told_by_source(images):
    facts = data_facts(images)
    assert len(facts) == 2
    for entry in facts.values():
        assert (entry["images"], entry["subjects"]) == (2, 2)
        assert (entry["held_out_images"], entry["held_out_subjects"]) == (1, 1)
        assert entry["licence"] == ["MIT"]
        assert entry["organ"] == []
        assert len(entry["pixel_sizes_um"]) == 1
    assert json.loads(json.dumps(facts)) == facts


def test_limits_say_what_was_not_seen_and_where_it_is_weak(images):
    facts = data_facts(images)
    one, other = facts
    said = limits(facts, {one: {"dice_axon": 0.5, "iou_axon": 0.1}}, ["a is small"])
    assert "Trained on the species rat only; others were not seen." in said
    assert any(f"do not say the organ of {one}, {other}" in s for s in said)
    assert "The datasets say nothing of pathology." in said
    assert f"Weak on {one}: Dice of axon 0.50 on held-out images." in said
    assert f"No score of {other}: no image of it was held out." in said
    assert "A is small." in said
    assert not any("iou" in s for s in said)


def test_the_card_is_made_of_model_json(images):
    facts = data_facts(images)
    source = next(iter(facts))
    gates = {
        "limits": {"dice_drop": 0.002, "g_ratio_bias": 0.002},
        "images": {source: ["a"]},
        "results": {
            "bf16": {"skipped": "not there"},
            "int8": {
                "passed": True,
                "sources": {
                    source: {
                        "dice_axon": {"drop": 0.0004},
                        "dice_myelin": {"drop": None},
                        "g_ratio": {"bias": -0.001, "fibres": 3},
                    }
                },
            },
        },
    }
    training = {
        "recipe": {"schedule": {"seed": 7, "patch": [64, 64]}},
        "parameters": 1234,
        "steps": 5,
        "seconds": 6,
        "validation": {source: {"dice_axon": 0.912, "dice_myelin": 0.8}},
    }
    about = {
        "name": "toy | one", "created": "2030-01-01", "training": training, "data": facts, "gates": gates,
        "limits": ["It is a toy."], "how_scored": "By eye.",
    }  # fmt: skip
    text = card(json.loads(json.dumps(about)))
    assert text == card(about)
    assert f"| {source} | 2 (2) | 1 (1) | MIT | rat | not said |" in text
    assert "1,234 parameters, 5 steps, 6 s; seed 7" in text
    assert f"| {source} | 0.912 | 0.800 |" in text
    assert f"| int8 | {source} | +0.0004 | - | -0.0010 | yes |" in text
    assert "| bf16 | - | - | - | - | skipped: not there |" in text
    assert "- It is a toy." in text
    assert "seed = 7, patch = [64, 64]" in text


def test_a_card_without_scores_says_that_nothing_tells():
    text = card({"name": "x", "training": {"validation": {}}})
    assert "nothing tells how good this model is" in text
    assert "were not compared" in text
