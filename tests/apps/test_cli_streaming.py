"""``ranvier segment`` on images that are streamed, with the model that ships."""

from __future__ import annotations

import filecmp
import json

import numpy as np
import pytest
import tifffile

from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.reading import read


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    pixels = draw(PhantomSettings(shape=(180, 230), look="TEM", seed=6)).image.pixels
    path = tmp_path_factory.mktemp("slide") / "x.ome.tif"
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as writer:
        layout = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack"}
        about = {"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
        big = np.kron(pixels, np.ones((2, 2), np.uint8))
        writer.write(big, subifds=1, metadata=about, **layout)
        writer.write(pixels, subfiletype=1, **layout)
    return path


@pytest.mark.parametrize("zoom", ["1", "0.71"])
def test_streamed_and_whole_are_the_same(image, tmp_path, run, zoom):
    level = tmp_path / "level.tif"
    tifffile.imwrite(level, read_level(image), photometric="minisblack")
    size = ("--pixel-size", "0.2", "--zoom", zoom, "--no-skip-blank")
    code, out, _ = run("segment", level, "-o", tmp_path / "a", "--stream", "never", *size)
    assert code == 0
    code, out, _ = run("segment", level, "-o", tmp_path / "b", "--stream", "always", *size)
    assert code == 0
    assert "streamed: 230 x 180 pixels" in out
    for name in ("level_morphometrics.csv", "level_overlay.png"):
        assert filecmp.cmp(tmp_path / "a" / name, tmp_path / "b" / name, shallow=False), name
    labels = [tifffile.imread(tmp_path / f / "level_instances.tif") for f in "ab"]
    assert labels[0].max() > 10
    assert np.array_equal(*labels)


def read_level(path):
    with tifffile.TiffFile(path) as tiff:
        return tiff.series[0].levels[1].asarray()


def test_a_region_of_a_level(image, tmp_path, run):
    chosen = ("--level", "1", "--region", "20,10,150,120", "--export", "geojson")
    code, out, _ = run("segment", image, "-o", tmp_path, *chosen)
    assert code == 0
    assert "region 20,10,150,120 read" in out
    assert "0.2 um per pixel (ome-xml)" in out
    assert read(tmp_path / "x_seg-axonmyelin.tif").shape == (120, 150)
    record = json.loads((tmp_path / "x_run.json").read_text())
    assert record["settings"]["streaming"]["level"] == 1
    assert record["summary"]["fibre_count"] > 5
    code, out, _ = run("segment", image, "-o", tmp_path, *chosen, "--skip-existing")
    assert (code, "complete and current" in out) == (0, True)
    code, out, _ = run("measure", tmp_path / "x_seg-axonmyelin.tif", "-o", tmp_path / "m")
    assert code == 0
    measured = json.loads((tmp_path / "m" / "x_run.json").read_text())["summary"]
    assert measured["fibre_count"] == record["summary"]["fibre_count"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--region", "1,2,3"), 2, "four whole numbers"),
        (("--region", "0,0,9999,5"), 1, "does not lie in the image"),
        (("--level", "7"), 1, "no such level"),
        (("--stream", "never", "--level", "1"), 1, "only streamed"),
        (("--stream", "always", "--numbers"), 1, "ids are not written"),
        (("--stream", "always", "--faithful"), 1, "run as nnU-Net runs them"),
    ],
)
def test_errors_say_what_to_do(image, tmp_path, run, options, code, said):
    found, _, err = run("segment", image, "-o", tmp_path / "o", *options)
    assert (found, said in err) == (code, True)


def test_an_ome_zarr_is_segmented(tmp_path, run):
    zarr = pytest.importorskip("zarr")
    pixels = draw(PhantomSettings(shape=(150, 150), look="SEM", seed=6)).image.pixels
    group = zarr.open_group(str(tmp_path / "z.ome.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=pixels, chunks=(64, 64))
    group.attrs["multiscales"] = [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]
    code, out, _ = run("segment", tmp_path / "z.ome.zarr", "-o", tmp_path / "o")
    assert code == 0
    assert "results are in pixels" in out
    assert (tmp_path / "o" / "z_instances.tif").exists()
