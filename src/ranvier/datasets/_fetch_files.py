"""One file: continued where it broke off, verified, and only then given its name."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ranvier.datasets._dandi import Asset, download_url
from ranvier.datasets._fetch_digest import Digests, digests
from ranvier.datasets._fetch_paths import PART
from ranvier.datasets._fetch_web import FinalError, PassingError, Web, as_failure
from ranvier.errors import OutputError, OutputExistsError
from ranvier.writing import make_folder

_CHUNK = 1 << 16
_MOST_WRONG = 2  # whole downloads whose digest is wrong, before it is given up
_NOT_THAT_RANGE = 416
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _WrongError(PassingError):
    """Everything arrived and is not what was listed."""


def partial_path(target: Path, asset: Asset) -> Path:
    """Where a file grows: beside its place, its name bound to the content that is expected."""
    return target.with_name(f".{target.name}.{asset.key}{PART}")


def partial_bytes(target: Path, asset: Asset) -> int:
    """How much of a file an earlier run left."""
    part = partial_path(target, asset)
    try:
        return 0 if part.is_symlink() else min(part.stat().st_size, asset.bytes)
    except OSError:
        return 0


def fetch_file(
    web: Web,
    asset: Asset,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Digests:
    """Fetch one file.

    It is written to a partial file, which the next call goes on with. A server that does not know ``Range`` or
    a digest that is wrong makes it begin again.

    Parameters
    ----------
    progress
        Called with the bytes that are there so far; fewer than before after a new beginning.

    Raises
    ------
    FinalError
        It cannot be had, or is not what the archive lists.
    OutputError
        It cannot be written; OutputExistsError: something is at its place by now.
    """
    make_folder(target.parent)
    part = partial_path(target, asset)
    wrong = 0

    def attempt() -> Digests:
        nonlocal wrong
        try:
            _receive(web, asset, part, progress)
            return _verified(part, asset)
        except _WrongError as error:
            _discard(part)
            wrong += 1
            if wrong >= _MOST_WRONG:
                raise FinalError(f"{error}, {wrong} times") from error
            raise

    found = web.retry(attempt)
    with _writing(target):
        if os.path.lexists(target) and not overwrite:
            raise OutputExistsError("a file has come to be here", where=target)
        part.replace(target)
    return found


def _receive(web: Web, asset: Asset, part: Path, progress: Callable[[int], None]) -> None:
    """Bring the partial file to its full size."""
    with _writing(part):
        if part.is_symlink() or (part.exists() and part.stat().st_size > asset.bytes):
            part.unlink()
        begun = part.exists()
        have = part.stat().st_size if begun else 0
    progress(have)
    if begun and have == asset.bytes:
        return
    try:
        response = web.open(download_url(web, asset), {"Range": f"bytes={have}-"} if have else {})
    except FinalError as error:
        if have and error.code == _NOT_THAT_RANGE:
            raise _WrongError("the server cannot go on with a partial file") from error
        raise
    with response, _writing(part):
        start = _start(response, have, asset.bytes)
        with _open(part) as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, start, asset.bytes, progress)
            file.flush()
            os.fsync(file.fileno())


def _open(part: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o666), "wb")


def _start(response: IO[bytes], have: int, size: int) -> int:
    """From which byte on a response goes (RFC 9110, 14.4); 0 where the server ignored ``Range``."""
    headers, status = response.headers, response.status  # type: ignore[attr-defined]
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise FinalError("the server sends it in an encoding that was not asked for")
    if status == 200:
        length = headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != size:
            raise PassingError(f"the server offers {length} bytes, {size} are listed")
        return 0
    match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if status != 206 or match is None or int(match[1]) != have:
        raise _WrongError("the server sends another part than was asked for")
    if match[3] not in ("*", str(size)):
        raise _WrongError(f"the server's file has {match[3]} bytes, {size} are listed")
    return have


def _copy(  # the errors of reading are no OSError any more, so that those left are of writing
    response: IO[bytes], file: IO[bytes], have: int, size: int, progress: Callable[[int], None]
) -> None:
    while have <= size:
        try:
            chunk = response.read(min(_CHUNK, size - have + 1))
        except (OSError, http.client.HTTPException) as error:
            raise as_failure(error) from error
        if not chunk:
            break
        have += len(chunk)
        if have > size:
            raise _WrongError(f"more than the {size} bytes that are listed")
        file.write(chunk)
        progress(have)
    if have < size:
        raise PassingError(f"the connection ended after {have} of {size} bytes")


def _verified(part: Path, asset: Asset) -> Digests:
    with _writing(part):
        found = digests(part)
    if not asset.fits(found):
        raise _WrongError(f"its {asset.verified_by} is not the one that the archive lists")
    return found


def _discard(part: Path) -> None:
    with _writing(part):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError("cannot write", where=path, seen=error.strerror or error) from error
