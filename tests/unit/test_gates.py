"""Whether cheaper arithmetic is caught when it finds something else than f32."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from ranvier.bundle import open_bundle, seal
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import Split
from ranvier.errors import BundleError, PrecisionError, SettingsError
from ranvier.inference import InferenceSettings, load_model, segment
from ranvier.micrograph import AXON, MYELIN
from ranvier.training import export as exporting
from ranvier.training import gates
from ranvier.training.export import ExportSettings, Product, write_bundle
from ranvier.training.gates import GateSettings, gate_images, pass_gates
from ranvier.training.network import make_network
from ranvier.training.recipe import NetworkSettings, Recipe

FAST = GateSettings(images_per_source=1, inference=InferenceSettings(zoom=1.0, views=1))


@pytest.fixture(scope="module")
def images(phantom_data):
    return read_datasets([phantom_data])


@pytest.fixture
def bf16(monkeypatch):
    """Let the machine be one without bf16."""
    monkeypatch.setattr(gates, "bf16_is_native", lambda: False)


def worse(micrograph, model, *, settings):
    """f32 finds the truth; int8 loses the leftmost third of axons and takes some axon for myelin."""
    found = segment(micrograph, model, settings=settings)
    if model.backend.description["precision"] != "int8":
        return found
    classes = found.classes.copy()
    third = classes[:, : classes.shape[1] // 3]
    third[third == AXON] = MYELIN
    return dataclasses.replace(found, classes=classes)


def test_the_embedded_model_passes_and_says_on_what(generalist, images, bf16):
    found = pass_gates(generalist, images, dataclasses.replace(FAST, dice_drop=1, g_ratio_bias=1))
    assert "skipped" in found.results["bf16"]
    int8 = found.results["int8"]
    assert int8["passed"] is True
    assert found.failing == ()
    assert {s: len(n) for s, n in found.images.items()} == dict.fromkeys(int8["sources"], 1)
    for entry in int8["sources"].values():
        for name in ("dice_axon", "dice_myelin"):
            dice = entry[name]
            assert dice["drop"] == pytest.approx(dice["f32"] - dice["value"], abs=2e-6)
        assert entry["g_ratio"]["fibres"] > 0
        assert abs(entry["g_ratio"]["bias"]) < 0.05
    assert found.as_dict()["limits"] == {"dice_drop": 1, "g_ratio_bias": 1}


def test_a_worse_precision_fails_and_says_by_how_much(
    generalist, images, bf16, monkeypatch, tmp_path
):
    monkeypatch.setattr(gates, "segment", worse)
    found = pass_gates(generalist, images, FAST)
    assert found.failing == ("int8",)
    source = images[0].source
    drop = found.results["int8"]["sources"][source]["dice_axon"]["drop"]
    assert drop > 0.1
    error = found.failure(tmp_path)
    assert isinstance(error, BundleError)
    assert f"int8: {source} dice_axon drops by {drop:.4f} (limit 0.002)" in str(error)
    assert "--drop-failing, or --no-int8" in str(error)


def test_a_class_that_only_the_cheaper_precision_finds_is_a_drop():
    nan = float("nan")
    assert gates._dice([nan, 0.8], [0.0, 0.8]) == {"f32": 0.9, "value": 0.4, "drop": 0.5}
    assert gates._dice([nan], [nan]) == {"f32": None, "value": None, "drop": None}


def test_the_g_ratio_alone_can_fail():
    tally = {
        ("A", p): gates._Tally(
            {"dice_axon": [0.9], "dice_myelin": [0.9]},
            gates.Agreement(np.array([0.6, 0.7]), np.array([0.59, 0.69])),
        )
        for p in ("f32", "int8")
    }
    judged = gates._judged(tally, "int8", GateSettings())
    assert judged["failures"] == ["A g-ratio is off by +0.0100 over 2 fibres (limit 0.002)"]
    assert gates._judged(tally, "int8", GateSettings(g_ratio_bias=0.02))["passed"]


def test_images_are_spread_and_need_masks(images):
    sources = [a.source for a in gate_images(images, 2)]
    assert len(sources) == 4
    assert len(gate_images(images, 9)) == len(images)
    unlabelled = tuple(dataclasses.replace(a, masks=()) for a in images)
    with pytest.raises(SettingsError, match="at least one image"):
        pass_gates(images[0].image, unlabelled, FAST)


@pytest.mark.parametrize(
    "wrong", [{"dice_drop": -1}, {"g_ratio_bias": float("nan")}, {"images_per_source": 0}]
)
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(SettingsError):
        GateSettings(**wrong)


@pytest.fixture
def product(images, monkeypatch):
    """A tiny network whose int8 graph is its float graph, and whose int8 results are made worse."""
    recipe = Recipe(network=NetworkSettings(channels=(8, 8)))
    monkeypatch.setattr(gates, "segment", worse)
    written = exporting.write_graphs

    def both(network, tiles, folder):
        written(network, [], folder)
        for ending in (".xml", ".bin"):
            (folder / f"graph-int8{ending}").write_bytes((folder / f"graph{ending}").read_bytes())

    monkeypatch.setattr(exporting, "write_graphs", both)
    summary = {"recipe": recipe.as_dict(), "validation": {}, "steps": 0, "seconds": 0}
    network = make_network(recipe.network).eval()
    with_axons(network)
    of_one_source = Split(images[1:], images[:1])
    return Product(network, recipe, of_one_source, summary, "")


def with_axons(network):
    """Let the network call everything axon."""
    import torch

    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0]).repeat_interleave(4))
        network.head.weight.zero_()


def test_a_failing_export_writes_nothing(product, bf16, tmp_path):
    settings = ExportSettings(gates=FAST)
    with pytest.raises(BundleError, match="dice_axon drops by"):
        write_bundle(product, tmp_path / "m", name="x", settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_graph_can_be_left_out_and_that_is_said(product, bf16, tmp_path):
    settings = ExportSettings(gates=FAST, drop_failing=True)
    bundle = write_bundle(product, tmp_path / "m", name="x", settings=settings)
    bundle.verify()
    assert set(bundle.about["gates"]["images"]) == {a.source for a in product.split.train}
    assert bundle.kinds == ("float",)
    assert not list(bundle.folder.glob("graph-int8*"))
    result = bundle.about["gates"]["results"]["int8"]
    assert result["passed"] is False
    assert result["failures"]
    assert "| int8 |" in bundle.content("card.md").decode()


def test_a_network_without_gates_says_so(product, tmp_path):
    bundle = write_bundle(product, tmp_path / "m", name="x", settings=ExportSettings())
    assert "gates" not in bundle.about
    assert bundle.kinds == ("float", "int8")
    assert "were not compared" in bundle.content("card.md").decode()


def test_a_precision_that_failed_is_refused(product, tmp_path):
    folder = tmp_path / "m"
    bundle = write_bundle(product, folder, name="x", settings=ExportSettings(int8=False))
    for result, failures in (
        ({"passed": True}, ()),
        ({"skipped": "this CPU does not compute in bf16"}, ()),
        (
            {"passed": False, "failures": ["A: dice_axon drops by 0.1"]},
            ("A: dice_axon drops by 0.1",),
        ),
        ({"passed": False}, ("not said in what",)),
    ):
        about = {k: v for k, v in bundle.about.items() if k != "files"}
        seal(folder, about | {"gates": {"results": {"bf16": result}}})
        assert open_bundle(folder).failures("bf16") == failures
        assert open_bundle(folder).failures("f32") == ()
        if failures:
            with pytest.raises(PrecisionError, match="worse in bf16") as caught:
                load_model(folder, precision="bf16")
            assert failures[0] in str(caught.value)
        load_model(folder)
