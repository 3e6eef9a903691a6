"""The part of the DANDI archive's REST API that is needed to fetch a published dataset.

Relied upon (github.com/dandi/dandi-archive, dandiapi/api/views/{asset,version,pagination}.py, and the
``assets.json`` of github.com/dandisets):

- ``GET dandisets/{number}/versions/{version}/`` is the version's metadata: ``name``, ``citation``, ``license``.
- ``GET dandisets/{number}/versions/{version}/assets/`` lists in pages of at most 1000 (``page_size``):
  ``{"count", "next", "results"}``, where ``next`` is an address or null and only the first page need have a
  count. ``order=path`` keeps the order; ``metadata=true`` adds each asset's metadata.
- A listed asset has ``asset_id``, ``path``, ``size``, ``blob`` and ``zarr``, one of the two null; its metadata has
  ``digest`` with ``dandi:sha2-256`` and ``dandi:dandi-etag``.
- ``GET assets/{asset_id}/`` is that metadata alone.
- ``GET assets/{asset_id}/download/`` redirects to the file in S3, which takes ``Range``.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ranvier.datasets._fetch_digest import LARGEST, Digests
from ranvier.datasets._fetch_paths import same_place, why_unsafe
from ranvier.datasets._fetch_web import FinalError, Web

_PAGE = 200
_MOST_PAGES = 5000
_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r"[0-9a-f]{32}-\d{1,5}")


@dataclass(frozen=True)
class Asset:
    """One file of a dandiset.

    Attributes
    ----------
    path
        Its place in the dataset; safe to write.
    bytes
        Its size.
    sha256, etag
        Its digests as the archive states them; None where it does not.
    """

    asset_id: str
    path: str
    bytes: int
    sha256: str | None
    etag: str | None

    @property
    def verifiable(self) -> bool:
        """Whether the archive states a digest."""
        return self.sha256 is not None or self.etag is not None

    @property
    def verified_by(self) -> str:
        """Name of the digest that it is verified by."""
        if self.sha256 is not None:
            return "sha256"
        return "size only" if self.etag is None else "dandi-etag"

    @property
    def key(self) -> str:
        """A few characters that name this content, for the partial file."""
        return (self.sha256 or self.etag or self.asset_id)[:12]

    def fits(self, found: Digests) -> bool:
        """Whether a file's digests are this asset's."""
        if found.bytes != self.bytes:
            return False
        if self.sha256 is not None:
            return found.sha256 == self.sha256
        return self.etag is None or found.etag == self.etag


@dataclass(frozen=True)
class Listing:
    """The files of one version.

    Attributes
    ----------
    assets
        Those that can be fetched, by path.
    refused
        Path and reason of those that cannot.
    """

    assets: tuple[Asset, ...]
    refused: tuple[tuple[str, str], ...]


def version_url(web: Web, number: str, version: str) -> str:
    """Address of a version's metadata."""
    return f"{web.settings.api}/dandisets/{number}/versions/{version}/"


def download_url(web: Web, asset: Asset) -> str:
    """Address of a file."""
    return f"{web.settings.api}/assets/{asset.asset_id}/download/"


def about(web: Web, number: str, version: str) -> dict[str, Any]:
    """Return a version's metadata.

    Raises
    ------
    FinalError
        It cannot be had.
    """
    found = web.json(version_url(web, number, version))
    if not isinstance(found, dict):
        raise FinalError("the archive's description of this version makes no sense")
    return found


def list_assets(web: Web, number: str, version: str) -> Listing:
    """List a version's files; those with an unsafe path or without a size are refused one by one.

    Raises
    ------
    FinalError
        The list cannot be had, makes no sense or is not whole.
    """
    assets: dict[str, Asset] = {}
    refused: dict[str, str] = {}
    seen: set[str] = set()
    for item in _items(web, version_url(web, number, version) + "assets/"):
        asset_id, path = item.get("asset_id"), item.get("path")
        if (
            not isinstance(asset_id, str)
            or not _ID.fullmatch(asset_id)
            or not isinstance(path, str)
        ):
            raise FinalError("the archive's list of files makes no sense")
        if asset_id in seen:
            continue
        seen.add(asset_id)
        made = _asset(web, asset_id, path, item)
        if isinstance(made, str):
            refused[path] = made
            continue
        other = assets.get(same_place(path))
        if other is None:
            assets[same_place(path)] = made
        elif (other.path, other.bytes, other.sha256, other.etag) != (path, *_content(made)):
            same = other.path == path
            refused[path] = (
                "it is listed twice, with different contents"
                if same
                else f"it would lie in the same place as {other.path!r}"
            )
    folders = {key[:at] for key in assets for at, letter in enumerate(key) if letter == "/"}
    for key in folders & set(assets):
        refused[assets.pop(key).path] = "it is the name of a folder of this dataset, too"
    return Listing(
        tuple(sorted(assets.values(), key=lambda a: a.path)), tuple(sorted(refused.items()))
    )


def _content(asset: Asset) -> tuple[int, str | None, str | None]:
    return asset.bytes, asset.sha256, asset.etag


def _items(web: Web, url: str) -> Iterator[dict[str, Any]]:
    """Every listed asset, page after page."""
    start = urllib.parse.urlsplit(url)
    query = urllib.parse.urlencode({"page_size": _PAGE, "order": "path", "metadata": "true"})
    address: str | None = f"{url}?{query}"
    count: object = None
    listed: set[object] = set()
    asked: set[str] = set()
    while address is not None:
        if address in asked or len(asked) >= _MOST_PAGES:
            raise FinalError("the archive's list of files does not end")
        asked.add(address)
        page = web.json(address)
        results = page.get("results") if isinstance(page, dict) else None
        if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
            raise FinalError("the archive's list of files makes no sense")
        count = page.get("count") if count is None else count
        listed |= {str(r.get("asset_id")) for r in results}
        yield from results
        address = _next(page.get("next"), start)
    if isinstance(count, int) and len(listed) < count:
        raise FinalError(f"the archive lists {len(listed)} of {count} files")


def _next(address: object, start: urllib.parse.SplitResult) -> str | None:
    """Return the next page's address; it must be of the same host."""
    if address is None:
        return None
    if isinstance(address, str):
        try:
            parts = urllib.parse.urlsplit(address)
        except ValueError:
            parts = None
        if parts is not None and parts.netloc == start.netloc and parts.path == start.path:
            return parts._replace(scheme=start.scheme, fragment="").geturl()
    raise FinalError("the archive's list of files goes on at an address that is not its own")


def _asset(web: Web, asset_id: str, path: str, item: dict[str, Any]) -> Asset | str:
    """Make an asset of a listed one, or say why it is refused."""
    why = why_unsafe(path)
    if why is not None:
        return why
    size = item.get("size")
    if item.get("zarr") is not None and item.get("blob") is None:
        return "it is a Zarr folder, which cannot be fetched as a file"
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST:
        return "the archive states no sensible size"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        metadata = web.json(f"{web.settings.api}/assets/{asset_id}/")
    digest = metadata.get("digest") if isinstance(metadata, dict) else None
    stated = digest if isinstance(digest, dict) else {}
    sha256 = _known(stated.get("dandi:sha2-256"), _SHA256)
    return Asset(asset_id, path, size, sha256, _known(stated.get("dandi:dandi-etag"), _ETAG))


def _known(text: object, form: re.Pattern[str]) -> str | None:
    lower = text.lower() if isinstance(text, str) else ""
    return lower if form.fullmatch(lower) else None
