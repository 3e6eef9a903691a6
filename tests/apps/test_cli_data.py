from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ranvier.apps.cli_aggregate import aggregate
from ranvier.apps.cli_data import data
from ranvier.errors import DatasetError, OutputExistsError


def run(command, *arguments, code=0):
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_inspecting_prints_and_draws(phantom_data, tmp_path):
    out = run(data, "inspect", phantom_data, "-o", tmp_path / "sheet").stdout
    for text in ("PHANTOM_SEM", "in all", "6 images", "um per pixel", "axon diameter, median"):
        assert text in out
    assert (tmp_path / "sheet/contact_sheet.png").stat().st_size > 1000
    with pytest.raises(OutputExistsError):
        run(data, "inspect", phantom_data, "-o", tmp_path / "sheet")
    run(data, "inspect", phantom_data, "-o", tmp_path / "sheet", "--overwrite")


def test_inspecting_as_json_is_json_only(phantom_data, tmp_path):
    result = run(data, "inspect", phantom_data, "--json", "-o", tmp_path)
    assert json.loads(result.stdout)["all"]["images"] == 6


def test_problems_are_printed_and_told_by_the_exit_code(tmp_path, write_png, phantom):
    write_png("images/a.png", phantom.image.pixels)
    write_png("images/b.png", phantom.image.pixels)
    write_png("masks/a.png", phantom.classes)
    result = run(data, "inspect", tmp_path, code=1)
    assert "problem: images/b.png has no mask" in result.stdout
    assert "1 images" in result.stdout
    assert "1 problem(s)" in result.stderr


def test_an_aggregate_is_made_and_exported(phantom_data, tmp_path):
    made = run(aggregate, phantom_data, "--name", "P_AGG", "--folds", 2, "-o", tmp_path / "agg")
    assert "PHANTOM_TEM" in made.stdout
    assert "in all" in made.stdout
    assert "warning: PHANTOM_SEM has no test set of its own" in made.stderr
    with pytest.raises(OutputExistsError):
        run(aggregate, phantom_data, "--name", "P_AGG", "-o", tmp_path / "agg")
    shared = ("--name", "P_AGG", "--folds", 2, "--test-subjects", 1, "--overwrite")
    run(aggregate, phantom_data, *shared, "-o", tmp_path / "agg")
    out = run(data, "export", tmp_path / "agg", "--to", "nnunet", "-o", tmp_path, "--id", 12).stdout
    assert "4 training and 2 test images" in out
    assert (tmp_path / "Dataset012_P_AGG/splits_final.json").is_file()


def test_wrong_usage_is_refused(phantom_data, tmp_path):
    shared = ("--name", "X", "-o", tmp_path / "agg", "--test-share", 0.1, "--test-subjects", 1)
    run(aggregate, phantom_data, *shared, code=2)
    with pytest.raises(DatasetError, match="not an aggregate"):
        run(data, "export", phantom_data, "--to", "nnunet", "-o", tmp_path)
