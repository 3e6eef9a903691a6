from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ranvier.bundle import MANIFEST, Field, embedded, open_bundle, seal
from ranvier.errors import (
    BundleFormatError,
    BundleIntegrityError,
    BundleNotFoundError,
    PrecisionError,
    SettingsError,
)
from ranvier.inference import load_model

ABOUT = {
    "name": "toy",
    "created": "2026-01-01",
    "field": {"stride": 32, "receptive_radius": 188, "minimum": 128},
    "graphs": {"float": "graph.xml"},
    "golden": "golden.npz",
    "training": {},
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in ("graph.xml", "graph.bin", "golden.npz"):
        (folder / name).write_bytes(name.encode())
    seal(folder, ABOUT)
    return folder


def change(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(about))


def test_a_sealed_bundle_opens_and_verifies(toy):
    bundle = open_bundle(toy)
    bundle.verify()
    assert bundle.name == "toy"
    assert bundle.kinds == ("float",)
    assert bundle.field == Field(32, 188, 128)
    assert bundle.field.halo == 192
    assert bundle.graph("float") == (b"graph.xml", b"graph.bin")
    assert len(bundle.sha256) == 64


def test_a_missing_graph_kind_is_said(toy):
    with pytest.raises(BundleFormatError, match="no int8 graph"):
        open_bundle(toy).graph("int8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "missing"),
        (lambda p: p.write_bytes(b"longer than before"), "size differs"),
        (lambda p: p.write_bytes(b"graph.bim"), "content differs"),
    ],
)
def test_damage_is_found_before_parsing(toy, damage, message):
    damage(toy / "graph.bin")
    bundle = open_bundle(toy)
    for use in (bundle.verify, lambda: bundle.graph("float"), lambda: load_model(toy)):
        with pytest.raises(BundleIntegrityError, match=message):
            use()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "zip"}, "not a ranvier-bundle"),
        ({"version": 4}, "another version"),
        ({"version": 3}, "version 3, and to no other"),
        ({"version": 2}, "version 2, and to no other"),
        ({"name": 5}, "name must be a str"),
        ({"classes": ["background", "axon"]}, "unknown classes"),
        ({"normalisation": "none"}, "unknown normalisation"),
        ({"field": {"stride": 32}}, "field must have"),
        ({"field": {"stride": 0, "receptive_radius": 1, "minimum": 1}}, "whole numbers"),
        ({"field": {"stride": True, "receptive_radius": 1, "minimum": 1}}, "whole numbers"),
        ({"graphs": {}}, "graphs must be"),
        ({"graphs": {"float": "../x.xml"}}, "no hash"),
        ({"graphs": {"float": "graph.pt"}}, "must be an .xml file"),
        ({"golden": "other.npz"}, "no hash"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}, "own folder"),
        ({"files": {"graph.xml": {"bytes": -1, "sha256": ""}}}, "needs bytes and sha256"),
        ({"files": {"graph.xml": None}}, "needs bytes and sha256"),
        ({"training": None}, "training must be a dict"),
    ],
)
def test_each_way_to_break_the_contract_has_its_error(toy, changes, message):
    change(toy, **changes)
    with pytest.raises(BundleFormatError, match=message):
        open_bundle(toy)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00\xff"])
def test_what_is_not_a_json_object_is_refused(toy, text):
    (toy / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleFormatError):
        open_bundle(toy)


def test_an_unknown_model_names_those_that_are_there(tmp_path):
    with pytest.raises(BundleNotFoundError, match="generalist"):
        open_bundle("no-such-model")
    with pytest.raises(BundleNotFoundError):
        open_bundle(tmp_path)


def test_the_embedded_generalist_is_whole_and_small():
    bundle = open_bundle()
    bundle.verify()
    assert embedded()["generalist"] == bundle.folder
    assert sum(f["bytes"] for f in bundle.about["files"].values()) <= 16e6
    assert set(bundle.about["files"]) == {p.name for p in bundle.folder.iterdir()} - {MANIFEST}
    assert {"trained_on", "validated_on", "validation", "recipe"} <= set(bundle.about["training"])


def test_a_copy_of_the_generalist_loads_from_its_folder(generalist, tmp_path):
    copy = Path(shutil.copytree(generalist, tmp_path / "copy"))
    assert load_model(copy).bundle.sha256 == open_bundle().sha256


def test_settings_of_loading_are_checked(toy):
    with pytest.raises(SettingsError, match="unknown precision"):
        load_model(precision="f16")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least one thread"):
        load_model(threads=0)
    with pytest.raises(PrecisionError, match="no int8 graph"):
        load_model(toy, precision="int8")
