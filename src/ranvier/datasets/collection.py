"""Any annotated dataset by its folder, whichever way it is laid out."""

from __future__ import annotations

from pathlib import Path

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.bids import is_bids, read_bids
from ranvier.datasets.folder import is_folder_dataset, read_folder
from ranvier.errors import DatasetError


def read_dataset(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of one dataset.

    Raises
    ------
    DatasetError
        The folder is laid out in no known way, or its content has problems.
    """
    if is_bids(folder):
        return read_bids(folder)
    if is_folder_dataset(folder):
        return read_folder(folder)
    raise DatasetError(
        "not an annotated dataset" if folder.is_dir() else "no such folder",
        where=folder,
        fix="Give a BIDS dataset (dataset_description.json) or a folder with images/ and masks/",
    )


def read_datasets(folders: list[Path]) -> tuple[Annotated, ...]:
    """List several datasets; a folder that itself holds datasets stands for all of them.

    Raises
    ------
    DatasetError
        A folder is no dataset, or two sources share a name.
    """
    found: list[Annotated] = []
    for folder in folders:
        inside = [f for f in sorted(folder.glob("*/")) if is_bids(f) or is_folder_dataset(f)]
        here = is_bids(folder) or is_folder_dataset(folder)
        for dataset in [folder] if here or not inside else inside:
            listed = read_dataset(dataset)
            if any(a.source == listed[0].source for a in found):
                raise DatasetError(
                    "two datasets share a name", where=dataset, seen=listed[0].source
                )
            found += listed
    return tuple(found)
