"""Imported models say what nnU-Net's own predictor says; see make_nnunet.py for how that was recorded."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ranvier import patchwise
from ranvier._patch_input import as_channels, nonzero_box, normalised
from ranvier.bundle import open_bundle
from ranvier.inference import InferenceSettings, load_model, segment
from ranvier.reading import from_array
from ranvier.tiling import Box

HOME = Path(__file__).parent / "nnunet"
CASES = ("plain_old", "residual_new", "ensemble", "colour", "residual_old", "trained")
LABELS = {"colour": [0, 2, 0, 1]}
"""Our class of each label value where it is not the value itself."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Import a case once: the model, ready to run."""
    convert = pytest.importorskip("ranvier.training.imported.convert", exc_type=ImportError)
    home = tmp_path_factory.mktemp("imported")

    @cache
    def make(case):
        convert.import_nnunet(HOME / case, home / case, name=case)
        return load_model(home / case, threads=1)

    return make


def recorded(case):
    """Image, logits and class map by the images' names."""
    found = {}
    with np.load(HOME / f"{case}.npz", allow_pickle=False) as kept:
        for key in kept.files:
            name, _, what = key.partition("/")
            found.setdefault(name, {})[what] = kept[key]
    return found


@pytest.mark.parametrize("case", CASES)
def test_faithful_is_nnunet(imported, case):
    model = imported(case)
    plan = model.bundle.patches
    lookup = np.array(LABELS.get(case, [0, 1, 2]), np.uint8)
    for name, gold in recorded(case).items():
        shot = from_array(gold["image"], keep_colour=True)
        found = segment(shot, model, settings=InferenceSettings(faithful=True))
        assert np.mean(found.classes == lookup[gold["classes"]]) >= 0.999, name
        image = as_channels(gold["image"], plan)
        box = nonzero_box(image)
        rows, columns = box.within(Box(0, 0, *image.shape[1:]))
        logits = patchwise.window_logits(
            normalised(image[:, rows, columns], plan.channels),
            model.backend,
            plan,
            window=patchwise.FAITHFUL,
        )
        assert logits.dtype == gold["logits"].dtype == np.float16
        assert logits.shape == gold["logits"].shape
        theirs = gold["logits"].astype(np.float32)
        off = np.abs(logits.astype(np.float32) - theirs)
        spacing = np.maximum(np.abs(np.spacing(gold["logits"])), np.float16(2**-10))
        assert (off <= 2 * spacing).all(), (name, off.max())
        assert np.mean(logits == gold["logits"]) > 0.95


def test_the_black_frame_is_cropped_before_the_scale_is_taken(imported):
    gold = recorded("plain_old")["framed"]
    image = gold["image"][None]
    assert nonzero_box(image) == Box(9, 5, 63, 77)
    found = segment(
        from_array(gold["image"]), imported("plain_old"), settings=InferenceSettings(faithful=True)
    )
    assert not found.classes[:9].any()
    assert (found.confidence[:, :5] == 255).all()


@pytest.mark.parametrize("case", CASES)
def test_fast_agrees_at_a_fraction_of_the_cost(imported, case):
    model = imported(case)
    counted = Counted(model.backend)
    plan = model.bundle.patches
    gold = recorded(case)["plain"]
    calls, maps = [], []
    for window in (patchwise.FAITHFUL, patchwise.FAST):
        counted.calls = 0
        maps.append(patchwise.predict_patchwise(gold["image"], counted, plan, window=window)[0])
        calls.append(counted.calls)
    assert np.mean(maps[0] == maps[1]) > 0.9
    assert calls[0] >= calls[1] * 2 ** len(plan.mirror_axes)


class Counted:
    """A backend that counts what it is shown."""

    def __init__(self, backend):
        self.backend, self.calls = backend, 0
        self.description = backend.description

    def logits(self, tiles):
        self.calls += len(tiles)
        return self.backend.logits(tiles)


def test_what_nnunet_trained_on_our_export_comes_back(imported):
    bundle = imported("trained").bundle
    facts = bundle.about["training"]["imported"]
    assert facts["dataset"] == "Dataset902_PHANTOMS"
    assert (facts["trainer"], facts["training_images"]) == ("nnUNetTrainer", 5)
    assert bundle.patches.mirror_axes == (0, 1)
    assert bundle.patches.channels[0].normalisation == "rescale-0-1"


def test_an_imported_model_is_evaluated_as_any_other(imported, phantom):
    from ranvier.evaluation import confusion, scores

    found = segment(phantom.image, imported("trained"))
    values = scores(confusion(found.classes, phantom.classes))
    assert set(values) >= {"dice_axon", "dice_myelin"}
    assert found.provenance["model"]["name"] == "trained"
    assert found.provenance["window"]["step"] == patchwise.FAST.step


def test_the_golden_patch_is_given_again(imported):
    import io

    bundle = open_bundle(imported("ensemble").bundle.folder)
    with np.load(io.BytesIO(bundle.content("golden.npz")), allow_pickle=False) as kept:
        again = imported("ensemble").backend.logits(kept["tile"])
        assert again.shape == (1, 15, 32, 48)
        np.testing.assert_allclose(again, kept["logits"], atol=1e-4)


def test_the_recorded_files_are_small():
    files = [f for f in HOME.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 2_000_000
    for case in CASES:
        assert json.loads((HOME / case / "plans.json").read_text())["configurations"]["2d"]


def test_nnunet_itself_where_it_is_installed(imported):
    """The same comparison live, on an image that is not among the recorded ones."""
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnunetv2 is not installed here; make_nnunet.py says how it can be")
    spec = importlib.util.spec_from_file_location(
        "maker", Path(__file__).with_name("make_nnunet.py")
    )
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    pixels = np.rint(maker.rings((67, 120), 7)[0] * 255).astype(np.uint8)
    theirs = maker.predicted(HOME / "plain_old", ["all"], "final", pixels)
    ours = segment(
        from_array(pixels), imported("plain_old"), settings=InferenceSettings(faithful=True)
    )
    assert np.mean(ours.classes == theirs["classes"]) >= 0.999
