from __future__ import annotations

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest

from ranvier.datasets.aggregate import aggregate
from ranvier.datasets.collection import read_dataset, read_datasets
from ranvier.datasets.held_out import HeldOut
from ranvier.datasets.manifest import COLUMNS, is_aggregate, read_aggregate, write_aggregate
from ranvier.errors import DatasetError, OutputExistsError


@pytest.fixture
def home(tmp_path, phantom_data):
    shutil.copytree(phantom_data, tmp_path / "data")
    return tmp_path


@pytest.fixture
def made(home):
    return aggregate(
        read_datasets([home / "data"]), name="TWO_AGG", folds=2, held_out=HeldOut(subjects=1)
    )


def rows(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rewrite(folder, change):
    """Change the manifest's text, and its recorded hash with it."""
    path, about = folder / "manifest.csv", folder / "aggregate.json"
    text = change(path.read_text())
    path.write_text(text)
    known = json.loads(about.read_text())
    known["manifest"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    about.write_text(json.dumps(known))


def test_an_aggregate_comes_back_as_it_was(home, made):
    write_aggregate(made, home / "agg")
    back = read_aggregate(home / "agg")
    assert is_aggregate(home / "agg")
    assert back.warnings == made.warnings
    for old, new in zip(made.entries, back.entries, strict=True):
        assert (new.fold, new.shape) == (old.fold, old.shape)
        for name in ("source", "subject", "name", "pixel_size", "species", "licence", "sha256"):
            assert getattr(new.image, name) == getattr(old.image, name)
        for one, other in zip(old.image.load(), new.image.load(), strict=True):
            assert np.array_equal(getattr(one, "pixels", one), getattr(other, "pixels", other))
    for fold in (0, 1):
        names = [[a.name for a in m.split(fold).validation] for m in (made, back)]
        assert names[0] == names[1]
    assert len(back.verify()) == 6


def test_the_files_say_everything(home, made):
    write_aggregate(made, home / "agg")
    (first, *_) = table = rows(home / "agg")
    assert tuple(first) == COLUMNS
    assert len(table) == 6
    assert first["image"].startswith("../data/")
    assert (first["width"], first["height"], first["licence"]) == ("160", "160", "CC0-1.0")
    assert {(r["role"], r["fold"] != "") for r in table} == {("train", True), ("test", False)}
    about = json.loads((home / "agg/aggregate.json").read_text())
    assert about["all"]["test"] == 2
    assert about["sources"]["PHANTOM_SEM"]["validation"] == [1, 1]
    assert (about["format"], about["folds"], about["seed"]) == (1, 2, 0)


def test_the_same_aggregate_gives_the_same_bytes(home, made):
    for _ in range(2):
        files = write_aggregate(made, home / "agg", overwrite=True)
    before = [f.read_bytes() for f in files]
    again = aggregate(
        read_datasets([home / "data/tem", home / "data/sem"]),
        name="TWO_AGG",
        folds=2,
        held_out=HeldOut(subjects=1),
    )
    assert [f.read_bytes() for f in write_aggregate(again, home / "agg", overwrite=True)] == before
    with pytest.raises(OutputExistsError):
        write_aggregate(made, home / "agg")


def test_it_can_be_moved_with_its_data(home, made):
    write_aggregate(made, home / "agg")
    (home / "new").mkdir()
    for name in ("agg", "data"):
        (home / name).rename(home / "new" / name)
    assert len(read_aggregate(home / "new/agg").verify()) == 6


def test_a_file_that_changed_or_is_gone_is_named(home, made):
    write_aggregate(made, home / "agg")
    changed, gone = (home / "data/sem/masks").iterdir().__next__(), made.entries[-1].image.image
    shutil.copy(made.entries[-1].image.masks[0], changed)
    with pytest.raises(DatasetError, match="has changed") as caught:
        read_aggregate(home / "agg").verify()
    assert changed.name in str(caught.value)
    gone.unlink()
    with pytest.raises(DatasetError, match="no such file") as caught:
        read_aggregate(home / "agg")
    assert str(gone) in str(caught.value)


def test_an_aggregate_can_be_reached_by_a_link(home, made):
    write_aggregate(made, home / "deep/er/agg")
    (home / "link").symlink_to(home / "deep/er/agg", target_is_directory=True)
    assert len(read_aggregate(home / "link").verify()) == 6


def test_a_pixel_size_that_makes_no_sense_is_refused(home, made):
    write_aggregate(made, home / "agg")
    um = rows(home / "agg")[0]["pixel_size_um"]
    rewrite(home / "agg", lambda text: text.replace(f",{um},", ",-1,"))
    with pytest.raises(DatasetError, match=r"row 2: .*pixel size outside"):
        read_aggregate(home / "agg")


def test_an_edited_manifest_is_refused(home, made):
    write_aggregate(made, home / "agg")
    path = home / "agg/manifest.csv"
    path.write_text(path.read_text().replace("test", "train"))
    with pytest.raises(DatasetError, match="manifest has changed"):
        read_aggregate(home / "agg")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source,", "sauce,", "columns"),
        (",train,0,", ",train,7,", "role 'train' with fold '7'"),
        (",train,0,", ",train,x,", "makes no sense"),
        (",train,0,", ",teach,0,", "role 'teach'"),
        (",test,,", ",test,1,", "role 'test' with fold '1'"),
        ("160,160", "160,many", "makes no sense"),
        (",dataset.json,", ",guess,", "pixel_size_source"),
        ("../data/sem/images", "../data/nowhere", "no such file"),
        (",train,0,../data", ",train,0,,../data", "makes no sense|no path|role"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(home, made, old, new, message):
    write_aggregate(made, home / "agg")
    assert old in (home / "agg/manifest.csv").read_text()
    rewrite(home / "agg", lambda text: text.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        read_aggregate(home / "agg")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "format 1"), ({"folds": "5"}, "folds"), ({"manifest": None}, "manifest")],
)
def test_a_description_that_makes_no_sense_is_refused(home, made, change, message):
    write_aggregate(made, home / "agg")
    path = home / "agg/aggregate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DatasetError, match=message):
        read_aggregate(home / "agg")


def test_aggregates_and_datasets_are_not_mixed_up(home, made):
    write_aggregate(made, home / "agg")
    with pytest.raises(DatasetError, match="this is an aggregate"):
        read_dataset(home / "agg")
    with pytest.raises(DatasetError, match="not an aggregate"):
        read_aggregate(home / "data/sem")
