"""Any annotated dataset by its folder, whichever way it is laid out."""

from __future__ import annotations

from pathlib import Path

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.bids import is_bids, list_bids
from ranvier.datasets.folder import is_folder_dataset, list_folder
from ranvier.datasets.listing import Listing
from ranvier.datasets.nnunet import is_nnunet, list_nnunet
from ranvier.errors import DatasetError

_LAYOUTS = ((is_bids, list_bids), (is_nnunet, list_nnunet), (is_folder_dataset, list_folder))


def is_dataset(folder: Path) -> bool:
    """Whether a folder is laid out in a known way."""
    return any(known(folder) for known, _ in _LAYOUTS)


def list_dataset(folder: Path) -> Listing:
    """Look through one dataset; problems are listed and not raised.

    Raises
    ------
    DatasetError
        The folder is laid out in no known way.
    """
    for known, look in _LAYOUTS:
        if known(folder):
            return look(folder)
    if (folder / "aggregate.json").is_file():
        raise DatasetError(
            "this is an aggregate, not a dataset",
            where=folder,
            fix="Give the datasets that it was made of",
        )
    raise DatasetError(
        "not an annotated dataset" if folder.is_dir() else "no such folder",
        where=folder,
        fix="Give a BIDS dataset (dataset_description.json), a folder with images/ and masks/, or an nnU-Net raw "
        "dataset (imagesTr/, labelsTr/)",
    )


def list_datasets(folders: list[Path]) -> tuple[Listing, ...]:
    """Look through several datasets; a folder that itself holds datasets stands for all of them.

    Raises
    ------
    DatasetError
        A folder is no dataset.
    """
    found = []
    for folder in folders:
        inside = [] if is_dataset(folder) else sorted(f for f in folder.glob("*/") if is_dataset(f))
        found += [list_dataset(dataset) for dataset in inside or [folder]]
    return tuple(found)


def read_dataset(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of one dataset.

    Raises
    ------
    DatasetError
        The folder is laid out in no known way, or its content has problems.
    """
    return list_dataset(folder).accepted()


def read_datasets(folders: list[Path]) -> tuple[Annotated, ...]:
    """List several datasets; a folder that itself holds datasets stands for all of them.

    Raises
    ------
    DatasetError
        A folder is no dataset, or two sources share a name.
    """
    found: list[Annotated] = []
    for listing in list_datasets(folders):
        images = listing.accepted()
        shared = sorted({a.source for a in found} & {a.source for a in images})
        if shared:
            raise DatasetError(
                "two datasets share a name", where=listing.folder, seen=", ".join(shared)
            )
        found += images
    return tuple(found)
