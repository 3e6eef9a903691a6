from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier._openvino import core
from ranvier._patch_classes import decided
from ranvier.bundle import open_bundle
from ranvier.errors import BundleError, OutputExistsError, SettingsError
from ranvier.inference import load_model
from ranvier.preprocess import normalise, statistics
from ranvier.training.imported.convert import import_nnunet

HOME = Path(__file__).parents[1] / "golden" / "nnunet"
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="onnx is not installed"
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Bundle and package of the generalist, a model of labels, one of regions and one of five folds."""
    from ranvier.training.bioimageio import export_bioimageio
    from ranvier.training.package_rdf import PackageSettings

    home = tmp_path_factory.mktemp("packages")
    found = {"generalist": open_bundle("generalist")}
    for case in ("colour", "residual_old", "ensemble"):
        found[case] = import_nnunet(HOME / case, home / case, name=case).bundle
    named = PackageSettings(authors=("A. Maker",), licence="CC-BY-4.0")
    return {
        case: (
            bundle,
            export_bioimageio(
                bundle, home / f"{case}.zip", settings=None if case == "generalist" else named
            ),
        )
        for case, bundle in found.items()
    }


def content(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == "rdf.yaml"
        return {name: archive.read(name) for name in archive.namelist()}


def onnx_of(files):
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    return core().compile_model(core().read_model(files["model.onnx"], b""), "CPU", hint)


@needs_onnx
def test_what_is_said_is_what_is_there(packages):
    for case, (bundle, path) in packages.items():
        files = content(path)
        said = json.loads(files["rdf.yaml"])
        for entry in (
            said["weights"]["onnx"],
            said["inputs"][0]["test_tensor"],
            said["outputs"][0]["test_tensor"],
        ):
            assert hashlib.sha256(files[entry["source"]]).hexdigest() == entry["sha256"]
        assert said["config"]["ranvier"]["sha256"] == bundle.sha256
        assert "# Validation" in files["README.md"].decode()
        expected = (
            ("MIT", "The Ranvier developers") if case == "generalist" else ("CC-BY-4.0", "A. Maker")
        )
        assert (said["license"], said["authors"][0]["name"]) == expected


@needs_onnx
def test_the_generalist_says_in_onnx_what_it_says_here(packages, phantom):
    bundle, path = packages["generalist"]
    run = onnx_of(content(path))
    pixels = phantom.image.pixels
    shown = normalise(pixels, statistics(pixels))[None, None]
    theirs = run({0: shown})[0]
    np.testing.assert_allclose(theirs.sum(axis=1), 1, atol=1e-4)
    ours = load_model(bundle.folder, threads=1).backend.logits(shown)
    ours = np.exp(ours - ours.max(axis=1, keepdims=True))
    np.testing.assert_allclose(theirs, ours / ours.sum(axis=1, keepdims=True), atol=0.02)
    assert np.mean(theirs.argmax(axis=1) == ours.argmax(axis=1)) > 0.999
    assert run({0: shown[..., :160, :192]})[0].shape == (1, 3, 160, 192)


@needs_onnx
@pytest.mark.parametrize("case", ["colour", "residual_old", "ensemble"])
def test_an_imported_model_decides_in_onnx_as_here(packages, case):
    bundle, path = packages[case]
    run = onnx_of(content(path))
    channels = len(bundle.patches.channels)
    shown = np.random.default_rng(1).random((1, channels, 32, 48), np.float32)
    shown[..., 8:24, 10:30] += 1
    theirs = run({0: shown})[0][0]
    logits = load_model(bundle.folder, threads=1).backend.logits(shown)[0]
    logits = logits.reshape(len(bundle.patches.folds), -1, 32, 48).mean(axis=0)
    classes, confidence = decided(logits, bundle.patches)
    np.testing.assert_allclose(theirs.sum(axis=0), 1, atol=1e-4)
    # Where two labels are background, their sum may pass the greatest single label.
    assert np.mean(theirs.argmax(axis=0) == classes) > (0.9 if case == "colour" else 0.999)
    own = np.take_along_axis(theirs, classes[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(own * 255, confidence, atol=1)


@needs_onnx
def test_the_test_tensors_belong_together(packages):
    for bundle, path in packages.values():
        files = content(path)
        given, expected = (
            np.load(io.BytesIO(files[f"test_{n}.npy"]), allow_pickle=False)
            for n in ("input", "output")
        )
        steps = {s["id"] for s in json.loads(files["rdf.yaml"])["inputs"][0]["preprocessing"]}
        if "zero_mean_unit_variance" in steps:
            shown = (given - given.mean()) / (given.std() + 1e-6)
        elif "scale_range" in steps:
            shown = (given - given.min()) / (np.ptp(given) + 1e-6)
        else:
            assert steps == {"ensure_dtype", "scale_linear"}
            shown = given / 255
        np.testing.assert_allclose(onnx_of(files)({0: shown})[0], expected, atol=2e-3)
        assert given.max() > 100, bundle.name


@needs_onnx
def test_the_same_model_gives_the_same_bytes(packages, tmp_path):
    from ranvier.training.bioimageio import export_bioimageio
    from ranvier.training.package_rdf import PackageSettings

    bundle, path = packages["colour"]
    named = PackageSettings(authors=("A. Maker",), licence="CC-BY-4.0")
    again = export_bioimageio(bundle, tmp_path / "again.zip", settings=named)
    assert again.read_bytes() == path.read_bytes()


@needs_onnx
def test_what_cannot_be_packed_is_said(packages, tmp_path):
    from ranvier.training.bioimageio import export_bioimageio
    from ranvier.training.package_rdf import PackageSettings

    bundle, path = packages["colour"]
    with pytest.raises(SettingsError, match="authors"):
        export_bioimageio(bundle, tmp_path / "a.zip")
    named = PackageSettings(authors=("A",))
    with pytest.raises(SettingsError, match=r"\.zip"):
        export_bioimageio(bundle, tmp_path / "a.tar", settings=named)
    with pytest.raises(OutputExistsError):
        export_bioimageio(bundle, path, settings=named)
    shutil.copytree(bundle.folder, tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"changed")
    with pytest.raises(BundleError):
        export_bioimageio(open_bundle(tmp_path / "m"), tmp_path / "a.zip", settings=named)
    assert not (tmp_path / "a.zip").exists()


VALIDATOR = """
import json, socket, sys

tried = []


def refuse(*there, **_):
    tried.append(repr(there))
    raise OSError("this test has no network")


socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

from bioimageio.spec import load_description

known = {"https://arxiv.org/abs/2409.11552": None}  # else it would be asked for
said = []
for path in sys.argv[1:]:
    found = load_description(path, perform_io_checks=True, known_files=dict(known))
    summary = found.validation_summary
    errors = [str(e.msg) for detail in summary.details for e in detail.errors]
    said.append([type(found).__name__, summary.status, errors])
print(json.dumps({"said": said, "tried": tried}))
"""


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """What bioimage.io's own validator says of packages: in a process of its own, as it leaves files open."""
    if importlib.util.find_spec("bioimageio") is None:
        pytest.skip("bioimageio.spec is not installed")
    cache = tmp_path_factory.mktemp("cache")

    def say(*paths):
        done = subprocess.run(
            [sys.executable, "-c", VALIDATOR, *map(str, paths)],
            env={**os.environ, "BIOIMAGEIO_CACHE_PATH": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["tried"] == []
        return found["said"]

    return say


@needs_onnx
def test_the_specification_accepts_it(packages, validated, tmp_path):
    """And refuses the same packages once their content is not what they say."""
    _, path = packages["colour"]
    spoilt = []
    for what, change in (
        ("weights", lambda files: files.update({"model.onnx": files["model.onnx"] + b"x"})),
        ("tensor", lambda files: files.update({"test_input.npy": files["test_output.npy"]})),
        ("rows", lambda files: files.update({"rdf.yaml": of_other_rows(files["rdf.yaml"])})),
    ):
        files = content(path)
        change(files)
        spoilt.append(tmp_path / f"{what}.zip")
        with zipfile.ZipFile(spoilt[-1], "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    whole = [path for _, path in packages.values()]
    said = validated(*whole, *spoilt)
    assert [s[:2] for s in said[: len(whole)]] == [["ModelDescr", "valid-format"]] * len(whole)
    assert [s[:2] for s in said[len(whole) :]] == [["InvalidDescr", "failed"]] * len(spoilt)
    assert all(errors for _, _, errors in said[len(whole) :])


def of_other_rows(text):
    said = json.loads(text)
    said["inputs"][0]["axes"][2]["size"] = 31
    return json.dumps(said).encode()
