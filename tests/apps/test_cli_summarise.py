from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ranvier._group_files import TABLES
from ranvier.apps.cli_summarise import summarise
from ranvier.datasets.phantom import PhantomSettings, draw, mask_of
from ranvier.errors import DatasetError, OutputExistsError, RanvierError
from ranvier.jobs import MaskSet, Options
from ranvier.pipeline import measure_masks
from ranvier.provenance import file_sha256

ALL = {*TABLES, "run.json"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of three drawn micrographs."""
    home = tmp_path_factory.mktemp("study")
    for seed in range(3):
        mask = mask_of(draw(PhantomSettings(shape=(128, 160), look="SEM", seed=seed)))
        path = home / f"n{seed}.png"
        Image.fromarray(np.asarray(mask)).save(path)
        options = Options(output=home / "res", pixel_size=0.1)
        measure_masks(MaskSet(path.stem, (path,), names_both=True), options)
    return home / "res"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.tsv"
    path.write_text("image\tsubject\tgroup\nn0.png\ta\tx\nn1\tb\tx\nn2\tc\ty\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(summarise, [str(a) for a in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_five_files_and_a_table_of_groups(results: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(results, "--samples", samples, "-o", out)
    assert done.exit_code == 0, done.output
    assert {p.name for p in out.iterdir()} == ALL
    assert "3 image(s), 3 subject(s)" in done.output
    assert "g_ratio_mean" in done.output
    assert "- (one subject)" in done.output
    assert [r["subject"] for r in rows(out / "subjects.csv")] == ["a", "b", "c"]
    groups = {(r["group"], r["measure"]): r for r in rows(out / "groups.csv")}
    assert groups["x", "g_ratio_mean"]["n_subjects"] == "2"
    assert groups["y", "g_ratio_mean"]["sd"] == ""
    fibres = rows(out / "fibres.csv")
    single = rows(results / "n1_morphometrics.csv")
    assert [{k: r[k] for k in single[0]} for r in fibres if r["image"] == "n1"] == single
    record = json.loads((out / "run.json").read_text())
    assert record["complete"] is True
    assert record["samples"]["sha256"] == file_sha256(samples)
    assert record["outputs"] == {name: file_sha256(out / name) for name in TABLES}
    read = record["inputs"][0]["sha256"]["n0_morphometrics.csv"]
    assert read == file_sha256(results / "n0_morphometrics.csv")


def test_same_input_same_tables(results: Path, samples: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(results, "--samples", samples, "-o", tmp_path / name).exit_code == 0
    for name in TABLES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_is_overwritten_unasked(results: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = (results, "--samples", samples, "-o", out)
    assert run(*call).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    again = run(*call)
    assert isinstance(again.exception, OutputExistsError)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert run(*call, "--overwrite").exit_code == 0
    (out / "groups.csv").write_text("mine\n")
    changed = run(*call, "--overwrite")
    assert "was changed since" in str(changed.exception)
    assert (out / "groups.csv").read_text() == "mine\n"


def test_foreign_files_are_never_overwritten(results: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "images.csv").write_text("mine\n")
    done = run(results, "--samples", samples, "-o", out, "--overwrite")
    assert "not written by Ranvier" in str(done.exception)
    assert [p.name for p in out.iterdir()] == ["images.csv"]
    done = run(results, "--samples", samples, "-o", out / "images.csv")
    assert "is a file" in str(done.exception)


def test_problems_leave_nothing_behind(results: Path, samples: Path, tmp_path: Path) -> None:
    samples.write_text("image\tsubject\nn0\ta\nn1\t\n")
    done = run(results, "--samples", samples, "-o", tmp_path / "out")
    assert isinstance(done.exception, DatasetError)
    assert "line 3: no subject" in str(done.exception)
    assert "no row for the results of n2" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_failing_disk_leaves_what_was_there(
    results: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(results, "--samples", samples, "-o", out).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(path: Path, content: bytes) -> None:
        if "fibres" in path.name:
            raise RanvierError("disk full")
        path.write_bytes(content)

    monkeypatch.setattr("ranvier._group_files.write_atomically", full)
    done = run(results, "--samples", samples, "-o", out, "--overwrite", "--include-border")
    assert "disk full" in str(done.exception)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_subjects_are_never_guessed(results: Path, tmp_path: Path) -> None:
    done = run(results, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "--samples is needed" in done.output
    assert "--make-samples" in done.output
    assert not (tmp_path / "out").exists()


def test_a_template_to_fill_in(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "samples.csv"
    done = run(results, "--make-samples", path)
    assert done.exit_code == 0
    assert path.read_text() == "image,subject,group\nn0,,\nn1,,\nn2,,\n"
    path.write_text("filled in")
    assert isinstance(run(results, "--make-samples", path).exception, OutputExistsError)
    assert path.read_text() == "filled in"
    assert run(results, "--make-samples", path, "--samples", path).exit_code == 2
    assert isinstance(run(tmp_path, "--make-samples", tmp_path / "x").exception, DatasetError)
    assert run(results, "--samples", path).exit_code == 2


def test_a_template_tells_results_of_one_name_apart(results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in results.glob("n0_*"):
        (other / path.name).write_bytes(path.read_bytes())
    samples = tmp_path / "samples.csv"
    assert run(results, other, "--make-samples", samples).exit_code == 0
    text = samples.read_text()
    assert text == f"image,subject,group\n{results.name}/n0,,\nother/n0,,\nn1,,\nn2,,\n"
    lines = [line.replace(",,", f",{i},x") for i, line in enumerate(text.splitlines())]
    samples.write_text("\n".join(lines))
    done = run(results, other, "--samples", samples, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(rows(tmp_path / "out" / "images.csv")) == 4
