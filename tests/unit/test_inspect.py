from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from ranvier import inspecting
from ranvier._contact_sheet import cell, sheet_png
from ranvier.datasets.collection import list_datasets
from ranvier.inspecting import inspect
from ranvier.micrograph import Micrograph


def test_figures_are_those_of_the_masks(phantom_data):
    listings = list_datasets([phantom_data])
    seen = []
    found = inspect(listings, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]
    summary = found.summary()
    assert set(summary["sources"]) == {"PHANTOM_SEM", "PHANTOM_TEM"}
    sem = summary["sources"]["PHANTOM_SEM"]
    images = [a for a in listings[0].images if a.source == "PHANTOM_SEM"]
    counts = sum(np.bincount(a.load()[1].ravel(), minlength=3) for a in images)
    shares = sem["class_shares"]
    assert [shares[k] for k in ("background", "myelin", "axon")] == pytest.approx(
        counts / counts.sum(), abs=1e-4
    )
    assert (sem["images"], sem["subjects"], sem["megapixels"]) == (3, 3, 0.077)
    um = float(next(iter(sem["pixel_sizes_um"])))
    for name in ("axon_diameter", "myelin_thickness"):
        px, real = sem[f"{name}_px"], sem[f"{name}_um"]
        assert px["p5"] < px["median"] < px["p95"]
        assert real["median"] == pytest.approx(px["median"] * um)
    assert summary["all"]["problems"] == 0
    assert summary["all"]["images"] == 6


def test_problems_do_not_hide_the_rest(tmp_path, phantom_data):
    for name in ("sem", "tem"):
        shutil.copytree(phantom_data / name, tmp_path / name)
    names = sorted(p.name for p in (tmp_path / "sem/images").iterdir())
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "sem/masks" / names[0])
    shutil.copy(tmp_path / "sem/images" / names[1], tmp_path / "sem/images" / names[2])
    (tmp_path / "tem/masks" / "lonely.png").write_bytes(
        (tmp_path / "sem/masks" / names[0]).read_bytes()
    )
    summary = inspect(list_datasets([tmp_path, tmp_path / "tem"])).summary()
    sem, tem = (summary["sources"][f"PHANTOM_{n}"]["problems"] for n in ("SEM", "TEM"))
    assert any("differ in shape" in p for p in sem)
    assert any("is the same image as" in p for p in sem)
    assert any("lonely.png has no image" in p for p in tem)
    assert summary["sources"]["PHANTOM_SEM"]["images"] == 2


def test_a_dataset_without_pixel_sizes_has_no_micrometres(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(tmp_path / "images/a.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "masks/a.png")
    figures = inspect(list_datasets([tmp_path]), pictures=True).summary()["all"]
    assert figures["without_pixel_size"] == 1
    assert figures["axon_diameter_um"] is figures["axon_diameter_px"] is None


def test_notes_that_repeat_are_one_line(real_data):
    notes = inspect(list_datasets([real_data / "bf_nerve"])).notes["BF_NERVE"]
    assert len(notes) == 1
    assert notes[0].endswith("RGB converted to grey (BT.601 luma) (8 files)")


def test_pictures_are_spread_over_the_sources(phantom_data, monkeypatch):
    monkeypatch.setattr(inspecting, "MOST_CELLS", 3)
    found = inspect(list_datasets([phantom_data]), pictures=True)
    cells = [i for i in found.images if i.cell is not None]
    assert len(cells) == 3
    assert {i.known.image.source for i in cells} == {"PHANTOM_SEM", "PHANTOM_TEM"}
    with Image.open(io.BytesIO(sheet_png([c.cell for c in cells], title="x"))) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.size == (3 * 544, 33 + 310)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 3), (50, 60)])
def test_cells_of_any_shape_can_be_drawn(shape):
    pixels = np.zeros(shape, np.float32)
    drawn = cell(
        Micrograph(pixels), np.zeros(shape, np.uint8), lines=["añ→" * 99, "b"], typical_px=None
    )
    with Image.open(io.BytesIO(sheet_png([drawn], title="t" * 900))) as sheet:
        assert sheet.size[0] == 544


def test_outlines_are_drawn():
    classes = np.zeros((260, 260), np.uint8)
    classes[60:200, 60:200], classes[100:160, 100:160] = 1, 2
    part = cell(Micrograph(np.zeros((260, 260), np.uint8)), classes, lines=[], typical_px=999).part
    assert tuple(part[130, 60]) == (255, 60, 40)
    assert tuple(part[130, 100]) == (30, 110, 255)
    assert tuple(part[130, 80]) == (0, 0, 0)
