"""A dataset's name -> the list of files that a fetch would bring."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranvier.datasets._dandi import Asset, about, list_assets, version_url
from ranvier.datasets._fetch_web import FinalError, Web
from ranvier.datasets.registry import Dataset
from ranvier.errors import DatasetError, SettingsError

_VERSION = re.compile(r"0\.\d{6}\.\d{4}|draft")


@dataclass(frozen=True)
class Plan:
    """What a fetch would bring.

    Attributes
    ----------
    dataset
        The entry of the registry.
    version
        Of the dandiset.
    url
        Address of the version's metadata.
    title, licence, citation
        As the archive states them; empty where it does not.
    assets
        The files.
    refused
        Path and reason of the files that are not fetched.
    """

    dataset: Dataset
    version: str
    url: str
    title: str
    licence: str
    citation: str
    assets: tuple[Asset, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(asset.bytes for asset in self.assets)


def plan(
    dataset: Dataset, version: str | None = None, *, web: Web, unverified: bool = False
) -> Plan:
    """Ask the archive what a dataset holds; nothing is written.

    Parameters
    ----------
    version
        A version of the dandiset; None for the one in the registry.
    web
        The connection.
    unverified
        Take files, too, for which the archive states no digest; only their size is checked.

    Raises
    ------
    DatasetError
        The dataset is not public, or the archive does not say what it holds.
    SettingsError
        Not a version.
    """
    place = dataset.dandiset
    if place is None:
        raise DatasetError(f"{dataset.name} cannot be fetched: {dataset.holder}")
    version = place.version if version is None else version
    if not _VERSION.fullmatch(version):
        raise SettingsError(
            "not a version of a dandiset", seen=version, fix=f"Write e.g. {place.version}, or draft"
        )
    url = version_url(web, place.number, version)
    try:
        stated = about(web, place.number, version)
        listing = list_assets(web, place.number, version)
    except FinalError as error:
        raise DatasetError(
            f"cannot list the files of {dataset.name}", where=url, seen=error
        ) from error
    if not listing.assets and not listing.refused:
        raise DatasetError(f"{dataset.name} has no files in this version", where=url)
    refused = dict(listing.refused)
    if not unverified:
        why = "the archive states no digest, so it cannot be verified (--unverified takes it)"
        refused |= {a.path: why for a in listing.assets if not a.verifiable}
    return Plan(
        dataset,
        version,
        url,
        title=_text(stated.get("name")),
        licence=_licence(stated.get("license")),
        citation=_text(stated.get("citation")),
        assets=tuple(a for a in listing.assets if a.path not in refused),
        refused=tuple(sorted(refused.items())),
    )


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _licence(value: object) -> str:
    listed = value if isinstance(value, list) else [value]
    return ", ".join(_text(v).removeprefix("spdx:") for v in listed if _text(v))
