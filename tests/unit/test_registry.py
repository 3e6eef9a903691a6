"""The registry of the paper's datasets."""

from __future__ import annotations

import re

import pytest

from ranvier.datasets.registry import DATASETS, NOT_STATED, find, table
from ranvier.errors import SettingsError

TEN = ["TEM1", "TEM2", "SEM1", "SEM2", "SEM3", "CARS1", "BF1", "BF2", "BF3", "BF4"]


def test_the_ten_of_the_paper_are_there_once():
    assert [d.name for d in DATASETS if d.of_the_paper] == TEN
    assert len({d.name for d in DATASETS}) == len(DATASETS)


def test_the_public_ones_are_the_five_of_dandi():
    numbers = {d.name: d.dandiset.number for d in DATASETS if d.dandiset is not None}
    assert numbers == {
        "TEM1": "001436",
        "SEM1": "001442",
        "BF1": "001440",
        "BF2": "001630",
        "TEM_SRF": "001350",
    }


def test_entries_make_sense():
    for dataset in DATASETS:
        assert dataset.name.startswith(dataset.modality)
        assert all((dataset.sources, dataset.reference, dataset.where))
        if dataset.dandiset is not None:
            assert re.fullmatch(r"\d{6}", dataset.dandiset.number)
            assert re.fullmatch(r"0\.\d{6}\.\d{4}", dataset.dandiset.version)
            assert dataset.licence is not None
        if dataset.um_per_pixel is not None:
            low, high = dataset.um_per_pixel
            assert 0 < low <= high < 1


def test_case_does_not_count():
    assert {find(name).name for name in ("SEM1", "sem1", " Sem1 ")} == {"SEM1"}


def test_an_unknown_name_gets_the_known_ones():
    with pytest.raises(SettingsError) as caught:
        find("SEM9")
    assert all(name in str(caught.value) for name in [*TEN, "SEM9", "TEM_SRF"])


def test_the_table_says_what_is_not_stated():
    lines = {line.split()[0]: line for line in reversed(table().splitlines()) if line.strip()}
    assert lines["SEM3"].count(NOT_STATED) == 8
    assert "0.05 to 0.18" in lines["SEM1"]
    assert "14.8" in lines["SEM1"]
    assert "DANDI 001442/0.250512.1626" in lines["SEM1"]
    assert "None" not in table()
    assert "wakehealth" in lines["BF3"]
