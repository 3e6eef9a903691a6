"""An experiment's file: what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranvier.errors import SettingsError
from ranvier.experiments.settings import Experiment, find_experiment, read_experiment

HOME = Path(__file__).parents[2] / "experiments"
LEAST = """
name = "x"
generalist = "all"
[sources]
A = "a"
B = "b"
[[models]]
name = "A"
sources = ["A"]
[[models]]
name = "all"
sources = ["A", "B"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["intra", "inter", "shared", "randomisation", "drawn", "unseen"])
def test_the_shipped_experiments_can_be_read(name):
    made = read_experiment(find_experiment(name))
    assert made.name == name
    assert made.generalist in {None, *(m.name for m in made.models)}


def test_the_papers_experiments_are_the_papers():
    intra, inter = (read_experiment(HOME / f"{n}.toml") for n in ("intra", "inter"))
    for made in (intra, inter):
        assert (made.protocol, made.recipe, made.folds, made.time_budget) == (
            "test", "paper", 5, None,
        )  # fmt: skip
        assert all(made.folds_of(m) == (0, 1, 2, 3, 4) for m in made.trained)
    assert {m.name: set(m.sources) for m in intra.models} == {
        "BF1": {"BF1"}, "BF2": {"BF2"}, "BF3": {"BF3"}, "BF_AGG": {"BF1", "BF2", "BF3"},
    }  # fmt: skip
    assert set(inter.models[-1].sources) == {"BF1", "BF2", "BF3", "SEM1", "TEM1", "CARS1"}
    assert [inter.row_of(s) for s in ("BF2", "SEM1")] == ["BF", "SEM1"]
    assert list(inter.out_of_distribution) == ["TEM2", "SEM2"]
    assert list(inter.qualitative) == ["SEM3", "BF4"]


def test_folders_are_relative_to_the_file_or_to_the_data(tmp_path):
    path = written(tmp_path, LEAST)
    assert read_experiment(path).sources["A"] == (tmp_path / "a").resolve()
    assert read_experiment(path, data=tmp_path / "d").sources["A"] == (tmp_path / "d/a").resolve()


def test_a_model_has_the_experiments_settings_unless_it_says_otherwise(tmp_path):
    text = LEAST.replace('name = "x"', 'name = "x"\nuse_folds = [1, 2]\ntime_budget = "9m"')
    text = text.replace('name = "all"', 'name = "all"\nfolds = [0]\nset = ["schedule.seed=1"]')
    made = read_experiment(written(tmp_path, text))
    assert isinstance(made, Experiment)
    assert [made.folds_of(m) for m in made.models] == [(1, 2), (0,)]
    assert made.models[1].changes == ("schedule.seed=1",)
    assert made.models[0].is_dedicated
    assert not made.models[1].is_dedicated


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "x"', "", "needs name"),
        ('name = "x"', 'nam = "x"', "unknown key.*nam"),
        ('name = "x"', 'name = "x"\nfolds = "5"', "folds must be of type int"),
        ('name = "x"', 'name = "x"\nfolds = 1', "at least 2"),
        ('name = "x"', 'name = "x"\nmargin = 2', "margin 2.0: between 0 and 1"),
        ('name = "x"', 'name = "x"\nuse_folds = [5]', "no fold 5 of 5"),
        ('name = "x"', 'name = "x"\nprotocol = "mine"', "none of test, cross-validation"),
        ('name = "x"', 'name = "x"\ntime_budget = "soon"', "not a time"),
        ('name = "x"', 'name = "../x"', "a name has letters"),
        ('sources = ["A"]', 'sources = ["C"]', "no source 'C'"),
        ('sources = ["A"]', 'sources = "A"', "models.sources must be of type list"),
        ('sources = ["A"]', "", "one of sources, bundle and masks"),
        ('sources = ["A"]', 'bundle = "b"\nfolds = [0]', "are for models with sources"),
        ('sources = ["A"]', 'sources = ["A"]\nwhat = 1', "unknown key of the .*models.*what"),
        ('name = "A"', 'name = "all"', "2 models are named 'all'"),
        ('generalist = "all"', 'generalist = "A"', "no model trained on several sources"),
        ("[sources]", "[rows]\nA = ['B']\n[sources]", "has the name of a test set"),
        ("[sources]", "[rows]\nR = ['C']\n[sources]", "rows: no source 'C'"),
        ("[sources]", "[rows]\nR = ['B']\nQ = ['B']\n[sources]", "in 2 of them"),
        ("[sources]", "[qualitative]\nB = 'q'\n[sources]", "2 datasets are named 'B'"),
        ("[sources]", "[sources", "not a TOML file"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, old, new, message):
    path = written(tmp_path, LEAST.replace(old, new, 1))
    with pytest.raises(SettingsError, match=message) as caught:
        read_experiment(path)
    assert "x.toml" in str(caught.value)


def test_all_problems_come_in_one_error(tmp_path):
    text = LEAST.replace('"A", "B"', '"A", "C"').replace('name = "x"', 'name = "x"\nfolds = 1')
    with pytest.raises(SettingsError, match="no source 'C'") as caught:
        read_experiment(written(tmp_path, text))
    assert "at least 2" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none.toml.*cannot be read"):
        read_experiment(tmp_path / "none.toml")


def test_an_experiment_is_found_by_its_name_or_its_file(tmp_path):
    assert find_experiment("intra").read_bytes() == (HOME / "intra.toml").read_bytes()
    mine = written(tmp_path, LEAST)
    assert find_experiment(str(mine)) == mine
    with pytest.raises(SettingsError, match=r"intrra.*drawn, inter, intra, randomisation, shared"):
        find_experiment("intrra")
