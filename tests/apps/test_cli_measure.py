"""What a user can ask of the measurements, on the command line."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
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


def grown(masks: Path, *, ending: str = ".png", manual: str = "-manual") -> None:
    """Masks of the same image with axons that are larger, as somebody corrected them."""
    axon, myelin = (np.asarray(Image.open(masks / f"x_seg-{k}.png")) for k in ("axon", "myelin"))
    larger = np.where((axon > 0) | (np.roll(axon, 1, axis=0) > 0), 255, 0).astype(np.uint8)
    rest = np.where(larger > 0, 0, myelin).astype(np.uint8)
    Image.fromarray(larger).save(masks / f"x_seg-axon{manual}{ending}")
    Image.fromarray(rest).save(masks / f"x_seg-myelin{manual}{ending}")


def inputs(folder: Path) -> list[str]:
    return [Path(i["path"]).name for i in record(folder)["inputs"]]


def test_masks_made_by_hand_are_taken_and_never_mixed_with_others(run, masks, tmp_path):
    grown(masks)
    by_hand = ["x_seg-axon-manual.png", "x_seg-myelin-manual.png"]
    plain = ["x_seg-axon.png", "x_seg-myelin.png"]
    for i, (given, expected, noted) in enumerate(
        (
            (masks, by_hand, True),
            (masks / "*.png", by_hand, True),
            (masks / "x_seg-axon-manual.png", by_hand, False),
            (masks / "x_seg-myelin-manual.png", by_hand, False),
            (masks / "x_seg-axon.png", plain, False),
            (masks / "*-axon.png", plain, False),
        )
    ):
        code, said, err = run("measure", given, "-o", tmp_path / str(i))
        assert (code, err) == (0, ""), given
        assert inputs(tmp_path / str(i)) == expected, given
        note = "note: x_seg-axon-manual.png and x_seg-myelin-manual.png taken; left out: "
        assert (note in said) is noted, given
    told = record(tmp_path / "0")["inputs"][0]["notes"][0]
    assert told.endswith("left out: x_seg-axon.png, x_seg-myelin.png (masks made by hand go first)")


def test_half_a_set_made_by_hand_is_not_filled_up_from_the_other(run, masks, tmp_path):
    grown(masks)
    (masks / "x_seg-myelin-manual.png").unlink()
    code, said, _ = run("measure", masks, "-o", tmp_path / "a")
    assert code == 0
    assert inputs(tmp_path / "a") == ["x_seg-axon.png", "x_seg-myelin.png"]
    assert "left out: x_seg-axon-manual.png (not a complete set)" in said
    code, _, err = run("measure", masks / "x_seg-axon-manual.png", "-o", tmp_path / "b")
    assert code == 1
    assert "Put x_seg-myelin-manual.png beside it" in err
    (masks / "x_seg-axon.png").unlink()
    code, _, err = run("measure", masks, "-o", tmp_path / "c")
    assert code == 1
    assert "the myelin mask of this image is missing" in err


def test_two_masks_of_one_kind_are_refused_with_both_names(run, masks, tmp_path):
    grown(masks, ending=".tif", manual="")
    code, _, err = run("measure", masks, "-o", tmp_path / "o")
    assert code == 1
    assert "x_seg-axon.png, x_seg-axon.tif" in err
    code, _, err = run("measure", masks / "x_seg-axon.png", "-o", tmp_path / "o")
    assert code == 1
    assert "x_seg-myelin.png, x_seg-myelin.tif" in err
    assert not (tmp_path / "o").exists()
    # Those that are named, and those that a glob matches, go before others of their kind.
    both = [masks / f"x_seg-{kind}.png" for kind in ("axon", "myelin")]
    for given, name in ((both, "a"), ([masks / "*.png"], "b")):
        assert run("measure", *given, "-o", tmp_path / name)[0] == 0
        assert inputs(tmp_path / name) == ["x_seg-axon.png", "x_seg-myelin.png"]


def test_a_mask_that_is_named_is_the_one_that_is_measured(run, masks, tmp_path):
    classes = np.zeros((120, 200), np.uint8)
    classes[20:60, 20:60], classes[30:50, 30:50] = 127, 255
    Image.fromarray(classes).save(masks / "x_seg-axonmyelin.png")
    for i, given in enumerate((masks / "x_seg-axonmyelin.png", masks / "*-axonmyelin.png")):
        assert run("measure", given, "-o", tmp_path / str(i))[0] == 0
        assert inputs(tmp_path / str(i)) == ["x_seg-axonmyelin.png"]
    assert run("measure", masks / "*.png", "-o", tmp_path / "pair")[0] == 0
    assert inputs(tmp_path / "pair") == ["x_seg-axon.png", "x_seg-myelin.png"]
    (masks / "x_seg-myelin.png").unlink()
    code, _, err = run("measure", masks / "x_seg-axon.png", "-o", tmp_path / "o")
    assert code == 1
    assert "the myelin mask of this image is missing" in err


def test_a_wrong_myelin_mask_is_named(run, masks, tmp_path, examples):
    with Image.open(examples / "sem.png") as image:
        image.convert("L").resize((200, 120)).save(masks / "x_seg-myelin.png")
    code, _, err = run("measure", masks, "-o", tmp_path / "o")
    assert code == 1
    assert f"{masks / 'x_seg-myelin.png'}: the values are not those of a mask of one class" in err
    assert "classes_from" not in err


def test_masks_whose_tiff_says_that_black_is_true_are_refused(run, masks, tmp_path):
    for kind in ("axon", "myelin"):
        path = masks / f"x_seg-{kind}.png"
        pixels = np.asarray(Image.open(path)) > 0
        tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric="miniswhite")
        path.unlink()
    code, _, err = run("measure", masks, "-o", tmp_path / "o")
    assert code == 1
    assert "inverted, or the same mask twice?" in err


def test_a_sidecar_of_the_nerve_mask_is_no_second_mask(run, masks, tmp_path):
    Image.fromarray(nerve(False)).save(masks / "x_seg-nerve.png")
    (masks / "x_seg-nerve.json").write_text("{}")
    code, said, err = run("measure", masks, "-o", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "nerve from x_seg-nerve.png" in said
    Image.fromarray(nerve(False)[::-1]).save(masks / "x_seg-nerve-manual.png")
    code, said, err = run("measure", masks, "-o", tmp_path / "b")
    assert (code, err) == (0, "")
    assert "nerve from x_seg-nerve-manual.png" in said
    assert "note: left out: x_seg-nerve.png (masks made by hand go first)" in said
    Image.fromarray(nerve(False)).save(masks / "x_seg-nerve-manual.tif")
    code, _, err = run("measure", masks, "-o", tmp_path / "c")
    assert code == 1
    assert "x_seg-nerve-manual.png, x_seg-nerve-manual.tif" in err


def test_errors_of_the_nerve_mask_name_the_file_and_the_option(run, masks, tmp_path):
    path = masks / "x_seg-nerve.png"
    Image.fromarray(nerve(True)).save(path)
    code, _, err = run("measure", masks, "-o", tmp_path / "o")
    assert code == 1
    assert f"{path}: nerve mask: the values are not those" in err
    assert "--fascicle-labels" in err
    Image.fromarray(nerve(False)[:-1]).save(path)
    assert f"{path}: nerve mask and image differ in shape" in run("measure", masks)[2]


def test_a_tissue_is_counted_in_pixels_as_its_fascicles_are(run, masks, tmp_path):
    mask = np.zeros((120, 200), np.uint8)
    mask[30:50, 30:50] = 255  # cuts through one fibre, and holds its axon
    Image.fromarray(mask).save(masks / "x_seg-nerve.png")
    assert run("measure", masks, "-o", tmp_path / "o", "--pixel-size", 0.2)[0] == 0
    found = record(tmp_path / "o")
    summary, fascicles = found["summary"], found["fascicles"]
    for name in ("avf", "mvf", "fvf"):
        assert summary[f"{name}_tissue"] == fascicles[name] <= 1
    assert fascicles["fvf"] == 1
    fibres = np.asarray(Image.open(masks / "x_seg-axon.png"))[30:50, 30:50] > 0
    assert summary["avf_tissue"] == fibres.mean()


def test_what_is_kept_of_an_earlier_run_is_said(run, masks, tmp_path):
    Image.fromarray(nerve(False)).save(masks / "x_seg-nerve.png")
    out = ("-o", tmp_path / "o")
    assert "kept from" not in run("measure", masks, *out)[1]
    (masks / "x_seg-nerve.png").unlink()
    code, said, _ = run("measure", masks, *out, "--overwrite")
    assert code == 0
    assert "note: not of this run, kept from an earlier one: x_fascicles.csv" in said
    assert "x_fascicles.csv" not in record(tmp_path / "o")["outputs"]
    (tmp_path / "o" / "x_fascicles.csv").unlink()
    assert "kept from" not in run("measure", masks, *out, "--overwrite")[1]
