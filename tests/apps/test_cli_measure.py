"""What a user can ask of the measurements, on the command line."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.apps import options
from ranvier.exporting import EXPORT_ENDINGS


def away(centre):
    row, col = np.indices((120, 200))
    return np.hypot(row - centre[0], col - centre[1])


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder with the masks of one image: two fibres in one fascicle, one in another, one cut by the border."""
    classes = np.zeros((120, 200), np.uint8)
    for centre in ((40, 40), (80, 40), (60, 140), (60, 199)):
        classes[away(centre) <= 16] = 1
        classes[away(centre) <= 9] = 2
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(np.uint8(classes == 2) * 255).save(folder / "x_seg-axon.png")
    Image.fromarray(np.uint8(classes == 1) * 255).save(folder / "x_seg-myelin.png")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def record(folder: Path) -> dict:
    return json.loads((folder / "x_run.json").read_text())


def test_the_choices_are_those_of_the_library() -> None:
    assert tuple(EXPORT_ENDINGS) == options.EXPORTS


def test_every_export_is_written_and_listed(run, masks, tmp_path):
    out = tmp_path / "out"
    code, said, err = run(
        "measure", masks, "-o", out, "--pixel-size", 0.2, "--export", "all", "--numbers"
    )
    assert (code, err) == (0, "")
    written = record(out)["outputs"]
    assert {f"x{ending}" for ending in EXPORT_ENDINGS.values()} <= set(written)
    assert all((out / name).stat().st_size for name in written)
    assert len(json.loads((out / "x_fibres.geojson").read_text())["features"]) == 4
    with zipfile.ZipFile(out / "x_rois.zip") as file:
        assert len(file.namelist()) == 8
    # Results of an earlier run are no masks, and one that lacks an export is not complete.
    assert (
        run(
            "measure",
            masks,
            "-o",
            out,
            "--pixel-size",
            0.2,
            "--export",
            "all",
            "--numbers",
            "--skip-existing",
        )[0]
        == 0
    )
    (out / "x_rois.zip").unlink()
    code, said, _ = run(
        "measure",
        masks,
        "-o",
        out,
        "--pixel-size",
        0.2,
        "--export",
        "all",
        "--numbers",
        "--skip-existing",
    )
    assert code == 0
    assert "4 fibres" in said
    assert (out / "x_rois.zip").is_file()


def test_the_ellipse_model_is_chosen_by_a_flag_that_refuses_unknown_values(run, masks, tmp_path):
    for shape in ("circle", "ellipse"):
        assert run("measure", masks, "-o", tmp_path / shape, "--axon-shape", shape)[0] == 0
        assert record(tmp_path / shape)["settings"]["measuring"]["axon_shape"] == shape
    code, _, err = run("measure", masks, "-o", tmp_path / "none", "--axon-shape", "square")
    assert code == 2
    assert "square" in err
    assert not (tmp_path / "none").exists()


def test_limits_in_micrometres_are_used_and_recorded(run, masks, tmp_path):
    area = np.pi * 9**2 * 0.2**2  # of the whole axons
    code, said, _ = run(
        "measure",
        masks,
        "-o",
        tmp_path / "o",
        "--pixel-size",
        0.2,
        "--min-axon-area-um2",
        area * 0.8,
        "--max-hole-area-um2",
        1,
        "--max-gap-um",
        0.3,
    )
    assert code == 0
    assert "3 fibres" in said  # the one at the border is half there
    settings = record(tmp_path / "o")["settings"]["instances"]
    assert settings["min_axon_area_um2"] == pytest.approx(area * 0.8)
    assert (settings["max_hole_area_um2"], settings["max_gap_um"]) == (1, 0.3)


def test_bins_and_border(run, masks, tmp_path):
    assert (
        run("measure", masks, "-o", tmp_path / "a", "--pixel-size", 0.2, "--caliber-bins", "0,3,6")[
            0
        ]
        == 0
    )
    bins = record(tmp_path / "a")["summary"]["caliber_bins"]
    assert [(b["from"], b["to"], b["count"]) for b in bins] == [(0, 3, 0), (3, 6, 3), (6, None, 0)]
    assert (
        run(
            "measure", masks, "-o", tmp_path / "b", "--caliber-bins", "0,10,20", "--include-border"
        )[0]
        == 0
    )
    summary = record(tmp_path / "b")["summary"]
    assert sum(b["count"] for b in summary["caliber_bins"]) == summary["g_ratio_n"] == 4
    for wrong, code in (("a,b", 2), ("5,1", 1), ("1", 1)):
        assert run("measure", masks, "-o", tmp_path / "c", "--caliber-bins", wrong)[0] == code
    assert not (tmp_path / "c").exists()


def nerve(labels: bool) -> np.ndarray:
    mask = np.zeros((120, 200), np.uint8)
    mask[10:110, 10:80] = 1 if labels else 255
    mask[30:90, 110:170] = 2 if labels else 255
    return mask


def test_a_nerve_mask_beside_the_masks_gives_fascicles(run, masks, tmp_path):
    Image.fromarray(nerve(False)).save(masks / "x_seg-nerve.png")
    for given in (masks, masks / "x_seg-axon.png"):
        out = tmp_path / given.name
        code, said, err = run("measure", given, "-o", out, "--pixel-size", 0.2)
        assert (code, err) == (0, "")
        assert "nerve from x_seg-nerve.png" in said
        table = rows(out / "x_fascicles.csv")
        assert [row["fibre_count"] for row in table] == ["2", "1"]
        assert float(table[0]["area_um2"]) == pytest.approx(7000 * 0.04)
        run_record = record(out)
        assert run_record["fascicles"]["fibres_outside"] == 1
        assert run_record["summary"]["tissue_source"] == "mask"
        assert run_record["summary"]["tissue_px"] == 7000 + 3600
        assert any(i["path"].endswith("x_seg-nerve.png") for i in run_record["inputs"])
    again = ("measure", masks, "-o", tmp_path / masks.name, "--pixel-size", 0.2, "--skip-existing")
    assert "skipped" in run(*again)[1]
    changed = nerve(False)
    changed[0:3] = 255
    Image.fromarray(changed).save(masks / "x_seg-nerve.png")
    assert run(*again)[0] == 1  # made from another mask


def test_a_named_mask_of_labels(run, masks, tmp_path):
    Image.fromarray(nerve(True)).save(tmp_path / "regions.png")
    named = ("--fascicles", tmp_path / "regions.png")
    code, _, err = run("measure", masks, "-o", tmp_path / "a", *named)
    assert code == 1
    assert "label" in err
    assert run("measure", masks, "-o", tmp_path / "b", *named, "--fascicle-labels")[0] == 0
    assert [row["label"] for row in rows(tmp_path / "b" / "x_fascicles.csv")] == ["1", "2"]
    code, _, err = run("measure", masks, "-o", tmp_path / "c", "--fascicles", tmp_path / "none.png")
    assert code == 1
    assert "none.png" in err


def test_a_nerve_mask_of_another_shape_is_refused(run, masks, tmp_path):
    Image.fromarray(nerve(False)[:-1]).save(masks / "x_seg-nerve.png")
    code, _, err = run("measure", masks, "-o", tmp_path / "o")
    assert code == 1
    assert "differ in shape" in err
    assert not (tmp_path / "o").exists()


def test_a_nerve_mask_is_no_image(run, masks, examples, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(examples / "sem.png") as image:
        image.save(folder / "x.png")
        Image.new("L", image.size, 255).save(folder / "x_seg-nerve.png")
    code, said, err = run(
        "segment", folder, "-o", tmp_path / "o", "--pixel-size", 0.1, "--views", 1
    )
    assert (code, err) == (0, "")
    assert "named like a mask" in said
    assert record(tmp_path / "o")["fascicles"]["fascicle_count"] == 1
    summary = record(tmp_path / "o")["summary"]
    assert summary["density_per_mm2_tissue"] == summary["density_per_mm2_unbiased"]


def test_means_of_groups_from_results(run, masks, tmp_path):
    for stem in ("a", "b", "c"):
        for kind in ("axon", "myelin"):
            (tmp_path / "in").mkdir(exist_ok=True)
            content = (masks / f"x_seg-{kind}.png").read_bytes()
            (tmp_path / "in" / f"{stem}_seg-{kind}.png").write_bytes(content)
    assert run("measure", tmp_path / "in", "-o", tmp_path / "o", "--pixel-size", 0.2)[0] == 0
    (tmp_path / "samples.csv").write_text("image,subject,group\na,1,x\nb,1,x\nc,2,x\n")
    code, _, err = run(
        "summarise", tmp_path / "o", "--samples", tmp_path / "samples.csv", "-o", tmp_path / "s"
    )
    assert (code, err) == (0, "")
    subjects = {row["subject"]: row for row in rows(tmp_path / "s" / "subjects.csv")}
    assert {name: row["n_images"] for name, row in subjects.items()} == {"1": "2", "2": "1"}
    assert len(rows(tmp_path / "s" / "fibres.csv")) == 12
