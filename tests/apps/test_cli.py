"""The command line as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ranvier.results import DEFAULT_ENDINGS


@pytest.fixture
def sem(examples, tmp_path):
    """A copy of one example with its pixel size, in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("sem.png", "pixel_size_in_micrometer.txt"):
        shutil.copy(examples / name, folder)
    return folder / "sem.png"


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def endings(folder):
    return {p.name.removeprefix("sem") for p in folder.iterdir()}


def test_one_image_in_seven_files_out(run, sem):
    before = {p: p.read_bytes() for p in sem.parent.iterdir()}
    code, out, err = run("segment", sem)
    results = sem.parent / "ranvier"
    assert (code, err) == (0, "")
    assert "0.1 um per pixel (pixel_size_in_micrometer.txt)" in out
    assert endings(results) == set(DEFAULT_ENDINGS)
    assert {p: p.read_bytes() for p in before} == before
    rows = table(results / "sem_morphometrics.csv")
    labels = tifffile.imread(results / "sem_instances.tif")
    assert {int(r["id"]) for r in rows} == set(np.unique(labels)) - {0}
    assert labels.dtype == np.uint32
    assert f"{len(rows)} fibres" in out
    record = json.loads((results / "sem_run.json").read_text())
    assert record["complete"]
    assert record["inputs"][0]["pixel_size_um"] == 0.1
    assert record["backend"]["precision"] == "f32"
    assert record["model"]["name"] == "generalist"


def test_measure_on_our_masks_gives_our_table(run, sem, tmp_path):
    assert run("segment", sem)[0] == 0
    results = sem.parent / "ranvier"
    for masks in (results / "sem_seg-axonmyelin.png", results / "sem_seg-axon.png", results):
        out = tmp_path / "again" / masks.name
        code, said, err = run("measure", masks, "-o", out, "--pixel-size", "0.1")
        assert (code, err) == (0, ""), said
        ours, theirs = (
            table(results / "sem_morphometrics.csv"),
            table(out / "sem_morphometrics.csv"),
        )
        assert {row.pop("confidence") for row in theirs} == {""}  # masks do not tell it
        assert all(0.3 < float(row.pop("confidence")) <= 1 for row in ours)
        assert theirs == ours
        assert (out / "sem_instances.tif").read_bytes() == (
            results / "sem_instances.tif"
        ).read_bytes()


def test_without_a_pixel_size_results_are_in_pixels(run, sem):
    (sem.parent / "pixel_size_in_micrometer.txt").unlink()
    code, out, _ = run("segment", sem)
    assert code == 0
    assert "results are in pixels" in out
    header = (sem.parent / "ranvier" / "sem_morphometrics.csv").read_text().splitlines()[0]
    assert "axon_area_px2" in header
    assert "_um" not in header


def test_existing_results_are_refused_skipped_or_replaced(run, sem):
    assert run("segment", sem)[0] == 0
    table = sem.parent / "ranvier" / "sem_morphometrics.csv"
    before = table.read_bytes()
    code, _, err = run("segment", sem)
    assert code == 1
    assert "--overwrite" in err
    code, out, _ = run("segment", sem, "--skip-existing")
    assert code == 0
    assert "skipped" in out
    assert run("segment", sem, "--overwrite", "--pixel-size", "0.2")[0] == 0
    assert table.read_bytes() != before
    mask = sem.parent / "ranvier" / "sem_seg-axon.png"
    mask.write_bytes(b"corrected by hand")
    code, _, err = run("segment", sem, "--overwrite")
    assert code == 1
    assert "changed since" in err
    assert mask.read_bytes() == b"corrected by hand"
    assert run("segment", sem, "--overwrite", "--skip-existing")[0] == 2


def test_folders_globs_and_failures_together(run, examples, sem, tmp_path):
    folder = sem.parent
    (folder / "broken.png").write_bytes(sem.read_bytes()[:2000])
    (folder / "notes.txt").write_text("not an image")
    shutil.copy(examples / "cars.ome.tif", folder)
    code, out, err = run(
        "segment", folder, tmp_path / "nowhere.png", str(folder / "*.jpg"), "-o", tmp_path / "o"
    )
    assert code == 1
    assert err.count("error:") == 3
    for name in ("broken.png", "nowhere.png", "*.jpg"):
        assert name in err
    assert "2 done, 3 failed" in err
    assert "notes" not in out + err
    assert (tmp_path / "o" / "cars_run.json").exists()
    assert (tmp_path / "o" / "sem_run.json").exists()
    assert not list((tmp_path / "o").glob("*broken*"))
    code, out, _ = run("segment", str(folder / "s*.png"), "-o", tmp_path / "p")
    assert (code, len(list((tmp_path / "p").glob("*_run.json")))) == (0, 1)


def test_results_in_a_folder_are_not_segmented_again(run, sem):
    assert run("segment", sem, "-o", sem.parent)[0] == 0
    code, out, _ = run("segment", sem.parent, "-o", sem.parent, "--skip-existing")
    assert code == 0
    assert out.count("skipped") == 1
    code, out, _ = run(
        "segment", *sorted(sem.parent.glob("*.png")), "-o", sem.parent, "--skip-existing"
    )
    assert code == 0
    assert out.count("a result of an earlier run") == 4


def test_inputs_that_would_write_the_same_files_fail(run, sem, tmp_path):
    with Image.open(sem) as image:
        tifffile.imwrite(sem.with_suffix(".tif"), np.array(image))
    code, _, err = run("segment", sem.parent, "-o", tmp_path / "o")
    assert code == 1
    assert err.count("would write the same results") == 2
    assert not (tmp_path / "o").exists()


def test_skipping_keeps_only_what_is_current(run, sem, examples):
    assert run("segment", sem)[0] == 0
    results = sem.parent / "ranvier"
    before = {p: p.read_bytes() for p in results.iterdir()}
    assert run("segment", sem, "--skip-existing", "--threads", 1)[0] == 0
    for changed in (["--zoom", "0.9"], ["--precision", "int8"], ["--pixel-size", "0.3"]):
        code, _, err = run("segment", sem, "--skip-existing", *changed)
        assert code == 1
        assert "another input, model or other settings" in err
    shutil.copy(examples / "tem.png", sem)
    assert run("segment", sem, "--skip-existing")[0] == 1
    assert {p: p.read_bytes() for p in results.iterdir()} == before


def test_an_interrupted_run_is_finished(run, sem):
    assert run("segment", sem)[0] == 0
    results = sem.parent / "ranvier"
    whole = {p.name: p.read_bytes() for p in results.iterdir() if not p.name.endswith("_run.json")}
    record = json.loads((results / "sem_run.json").read_text())
    (results / "sem_run.json").write_text(json.dumps(record | {"complete": False}))
    (results / "sem_overlay.png").unlink()
    code, out, _ = run("segment", sem, "--skip-existing")
    assert code == 0
    assert "skipped" not in out
    assert {p.name: p.read_bytes() for p in results.iterdir() if p.name in whole} == whole


def test_odd_names_stop_nobody(run, sem, tmp_path):
    content, folder = sem.read_bytes(), sem.parent
    (folder / "übung № 1.PNG").write_bytes(content)
    (folder / ("x" * 240 + ".png")).write_bytes(content)
    os.link(sem, os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "nerve_overlay.png").write_bytes(content)
    (folder / "nerve_seg-axon.png").write_bytes(content)
    code, out, err = run(
        "segment", folder, folder / "." / "sem.png", "y" * 300, "-o", tmp_path / "o"
    )
    assert code == 1
    assert "4 done, 1 skipped, 3 failed" in err
    assert err.count("error:") == 3
    assert "Traceback" not in err
    assert "dangling.png" in err
    assert "nerve_seg-axon.png: skipped, named like a mask" in out


def test_an_unexpected_failure_stops_nobody(run, sem, examples, monkeypatch):
    from ranvier import _early_files

    def breaks(pixels, *rest, **more):
        if pixels.shape == (448, 576):
            raise ZeroDivisionError("surprise")
        return overlay(pixels, *rest, **more)

    overlay = _early_files.overlay_png
    monkeypatch.setattr(_early_files, "overlay_png", breaks)
    shutil.copy(examples / "cars.ome.tif", sem.parent)
    code, out, err = run("segment", sem.parent)
    assert code == 1
    assert "unexpected failure (seen: ZeroDivisionError: surprise)" in err
    assert "cars.ome.tif: " in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_found_before_the_work(run, sem, tmp_path):
    (tmp_path / "o").mkdir(mode=0o500)
    code, _, err = run("segment", sem, "-o", tmp_path / "o")
    assert code == 1
    assert "cannot be written" in err


def test_options_reach_the_result(run, sem, tmp_path):
    code, out, _ = run(
        "segment", sem, "-o", tmp_path / "o", "--pixel-size", "0.25", "--zoom", "0.8", "--views", "1",
        "--precision", "int8", "--threads", "1", "--min-axon-area", "60",
    )  # fmt: skip
    record = json.loads((tmp_path / "o" / "sem_run.json").read_text())
    assert code == 0
    assert record["inputs"][0]["pixel_size_source"] == "option"
    assert record["inputs"][0]["pixel_size_um"] == 0.25
    assert record["settings"]["inference"]["zoom"] == 0.8
    assert record["zoom"] == {"asked": 0.8, "chosen": 0.8}
    assert record["summary"]["zoom"] == 0.8
    assert record["settings"]["inference"]["views"] == 1
    assert record["backend"]["precision"] == "int8"
    assert record["backend"]["threads"] == "1"
    rows = table(tmp_path / "o" / "sem_morphometrics.csv")
    assert record["summary"]["small_axons_left_out"] > 0
    assert "smaller than --min-axon-area" in out
    assert min(float(r["axon_area_um2"]) for r in rows) >= 60 * 0.25**2 - 1e-9


def test_the_zoom_is_chosen_recorded_and_shown_where_it_is_not_1(run, sem, tmp_path):
    image = Image.open(sem)
    small, large = (tmp_path / f"{name}.png" for name in ("small", "large"))
    for path, scale in ((small, 1.5), (large, 4)):
        shape = round(scale * image.width), round(scale * image.height)
        image.resize(shape, Image.Resampling.BICUBIC).save(path)
    results = tmp_path / "o"
    code, out, _ = run("segment", small, large, "-o", results, "--views", "1")
    assert code == 0
    small, big = (json.loads((results / f"{n}_run.json").read_text()) for n in ("small", "large"))
    assert small["settings"]["inference"]["zoom"] == big["settings"]["inference"]["zoom"] == "auto"
    assert small["zoom"]["chosen"] == small["summary"]["zoom"] == 1
    assert 0.2 < big["zoom"]["chosen"] == big["summary"]["zoom"] < 0.6
    assert {"zoom", "score", "closure", "confidence", "axon_px"} <= set(
        big["zoom"]["candidates"][0]
    )
    assert out.count("note: zoom") == 1
    assert f"note: zoom {big['zoom']['chosen']:.3g} chosen" in out
    mask = np.asarray(Image.open(results / "large_seg-axonmyelin.png"))
    assert mask.shape == (4 * image.height, 4 * image.width)
    before = (results / "large_run.json").read_bytes()
    code, out, _ = run("segment", large, "-o", results, "--views", "1", "--skip-existing")
    assert (code, (results / "large_run.json").read_bytes()) == (0, before)
    assert "skipped" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pixel-size", "0"], "pixel size outside"),
        (["--pixel-size", "nan"], "pixel size outside"),
        (["--max-pixels", "1000"], "--max-pixels"),
        (["--page", "3"], "page"),
        (["--zoom", "0"], "zoom out of range"),
        (["--model", "no-such"], "no such model"),
    ],
)
def test_bad_options_are_one_clear_error(run, sem, arguments, message):
    code, _, err = run("segment", sem, *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not (sem.parent / "ranvier").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["segment"],
        ["segment", "--nonsense"],
        ["segment", "x", "--zoom", "large"],
        ["segment", "x", "--precision", "f64"],
    ],
)
def test_wrong_usage_ends_with_2(run, arguments):
    code, out, _ = run(*arguments)
    assert code == (0 if "Usage" in out else 2)


def test_masks_of_other_tools(run, tmp_path, write_png):
    truth = np.zeros((60, 60), np.uint8)
    truth[10:40, 10:40], truth[16:34, 16:34] = 1, 2
    tables = []
    for name, levels in (("a", (0, 127, 255)), ("b", (0, 128, 255)), ("c", (0, 1, 2))):
        mask = write_png(f"{name}/x.png", np.array(levels, np.uint8)[truth])
        assert run("measure", mask)[0] == 0
        tables.append((mask.parent / "ranvier" / "x_morphometrics.csv").read_bytes())
    write_png("d/x_seg-axon-manual.png", np.where(truth == 2, 255, 0).astype(np.uint8))
    write_png("d/x_seg-myelin-manual.png", np.where(truth == 1, 255, 0).astype(np.uint8))
    assert run("measure", tmp_path / "d")[0] == 0
    tables.append((tmp_path / "d" / "ranvier" / "x_morphometrics.csv").read_bytes())
    assert len(set(tables)) == 1


def test_a_lonely_mask_and_a_photograph_are_refused(run, tmp_path, write_png, examples):
    write_png("d/x_seg-axon.png", np.zeros((9, 9), np.uint8))
    write_png("d/y_seg-axonmyelin.png", np.zeros((9, 9), np.uint8))
    code, out, err = run("measure", tmp_path / "d", examples / "sem.png", "-o", tmp_path / "o")
    assert code == 1
    assert "myelin mask of this image is missing" in err
    assert "values are not those of" in err
    assert "y_seg-axonmyelin.png: 0 fibres" in out


def test_a_mask_of_one_class_is_measured_only_if_its_name_tells(run, tmp_path, write_png):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255
    code, _, err = run("measure", write_png("plain.png", mask))
    assert code == 1
    assert "nothing tells which" in err
    code, out, _ = run("measure", write_png("x_seg-axonmyelin.png", mask), "-o", tmp_path / "o")
    assert code == 0
    assert "1 fibres" in out


def test_measuring_into_the_folder_of_a_segmentation(run, sem):
    results = sem.parent / "ranvier"
    assert run("segment", sem)[0] == 0
    masks = {p: p.read_bytes() for p in results.glob("*_seg-*")}
    assert run("measure", results, "-o", results, "--overwrite", "--pixel-size", "0.2")[0] == 0
    record = json.loads((results / "sem_run.json").read_text())
    assert record["kept_from"]["model"]["name"] == "generalist"
    assert {p: p.read_bytes() for p in masks} == masks
    assert run("segment", sem, "--overwrite")[0] == 0


def test_models_and_doctor(run, generalist, tmp_path):
    code, out, _ = run("models", "list")
    assert (code, out.split()[0]) == (0, "generalist")
    code, out, _ = run("models", "show")
    assert code == 0
    assert "validation, " in out
    assert json.loads(run("models", "show", "--json")[1])["format"] == "ranvier-bundle"
    assert run("models", "verify")[0] == 0
    copy = Path(shutil.copytree(generalist, tmp_path / "m"))
    (copy / "graph.bin").write_bytes(b"")
    code, _, err = run("models", "verify", copy)
    assert code == 1
    assert "size differs" in err
    code, out, _ = run("doctor")
    assert code == 0
    assert "FAIL" not in out
    assert out.count("golden run") == 3


def test_models_with_odd_summaries_are_shown(run, generalist, tmp_path):
    copy = Path(shutil.copytree(generalist, tmp_path / "m"))
    about = json.loads((copy / "model.json").read_text())
    about["training"] = {
        "steps": "many",
        "trained_on": 5,
        "validation": {"x": {"dice": "good"}, "y": 3},
    }
    (copy / "model.json").write_text(json.dumps(about))
    code, out, _ = run("models", "show", copy)
    assert code == 0
    assert "steps: many" in out


def test_doctor_tells_of_a_missing_runtime():
    code = "import sys; sys.modules['openvino'] = None; from ranvier.apps.cli import main; main(['doctor'])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "FAIL  openvino" in done.stdout
    assert "Traceback" not in done.stderr


def test_train_says_what_is_wrong(run, tmp_path):
    pytest.importorskip("torch")
    code, _, err = run("train", tmp_path, "-o", tmp_path / "run")
    assert code == 1
    assert "not an annotated dataset" in err
    code, _, err = run("train", tmp_path, "-o", tmp_path / "run", "--time-budget", "soon")
    assert code == 1


def test_train_makes_a_model_that_segments(run, phantom_data, sem, tmp_path):
    pytest.importorskip("torch")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[network]\nchannels = [8, 8]\n[schedule]\nsteps = 2\nbatch = 2\npatch = 64\nvalidate_every_steps = 1\n"
    )
    common = (
        "train",
        phantom_data,
        "-o",
        tmp_path / "run",
        "--recipe",
        recipe,
        "--folds",
        3,
        "--no-int8",
        "--drop-failing",  # two steps make no model that bf16 leaves as it is
    )
    code, _, err = run(*common)
    assert code == 0, err
    assert (tmp_path / "run" / "model" / "model.json").is_file()
    assert "Limits" in run("models", "show", tmp_path / "run" / "model", "--card")[1]
    assert run("models", "show", "--card")[0] == 0
    assert run("segment", sem, "--model", tmp_path / "run" / "model")[0] == 0
    code, _, err = run(*common)
    assert code == 1
    assert "--resume" in err


def test_it_is_quiet_where_nobody_watches_and_runs_as_a_module(sem):
    done = subprocess.run(
        [sys.executable, "-m", "ranvier", "segment", sem], check=True, capture_output=True, text=True, timeout=300,
        env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert done.stderr == ""
    assert "MP" not in done.stdout


def test_the_process_leaves_at_once_but_nothing_is_left_undone(tmp_path):
    code = (
        "import atexit, sys, threading, time\n"
        "from ranvier.apps.cli import console\n"
        "atexit.register(print, 'heard')\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('waited for'))).start()\n"
        "sys.argv = ['ranvier', *sys.argv[1:]]\n"
        "console()\n"
    )

    def leave(*arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = leave("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["waited for", "heard"]
    assert leave("segment", tmp_path / "none.png").returncode == 1
    assert leave("segment", "--no-such-option").returncode == 2
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as out:
            command = [sys.executable, "-m", "ranvier", "--version"]
            unsaid = subprocess.run(
                command, stdout=out, stderr=subprocess.PIPE, timeout=60, check=False
            )
        assert unsaid.returncode != 0
