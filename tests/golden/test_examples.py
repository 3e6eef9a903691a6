"""The shipped examples, segmented by the shipped model, against the truth they were drawn from."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import ranvier
from ranvier.bundle import open_bundle
from ranvier.doctor import examine
from ranvier.masks import classes_from_mask

# Floors, well below what the model reaches: they catch a broken model or pipeline, and are no claim of accuracy.
FLOORS = {"sem.png": 0.8, "tem.png": 0.7, "brightfield.png": 0.75, "cars.ome.tif": 0.75}


@pytest.fixture(scope="module")
def model():
    return ranvier.load_model()


@pytest.mark.parametrize("name", FLOORS)
def test_examples_are_segmented(examples, model, name):
    stem = name.split(".")[0]
    micrograph = ranvier.read(examples / name)
    with Image.open(examples / "truth" / f"{stem}_seg-axonmyelin.png") as mask:
        truth = classes_from_mask(np.array(mask))
    segmentation = ranvier.segment(micrograph, model)
    scores = ranvier.evaluate(segmentation, truth)
    assert scores["dice_axon"] > FLOORS[name]
    assert scores["dice_myelin"] > FLOORS[name] - 0.05
    fibres = ranvier.measure(segmentation)
    text = (examples / "truth" / f"{stem}_truth.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(fibres) == pytest.approx(len(rows), rel=0.35)
    assert micrograph.pixel_size.um == 0.1


@pytest.mark.parametrize("name", ["sem.png", "tem.png"])
def test_polarity_does_not_matter_much(examples, model, name):
    from ranvier.reading import from_array

    pixels = ranvier.read(examples / name).pixels
    upright, inverted = (ranvier.segment(from_array(p), model) for p in (pixels, 255 - pixels))
    assert ranvier.evaluate(inverted, upright)["dice_axon"] > 0.85


def test_a_golden_run_passes_at_every_precision_of_this_machine():
    findings = {f.name: f for f in examine()}
    assert findings["golden run f32"].level == "PASS"
    assert findings["golden run int8"].level == "PASS"
    assert findings["golden run bf16"].level in ("PASS", "WARN")
    assert open_bundle().sha256[:12] in findings["model"].seen
