"""Fetching from an archive that truncates, corrupts, stalls, lies and gets tired."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import threading
import urllib.parse
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ranvier.apps import cli_fetch
from ranvier.datasets import _fetch_digest
from ranvier.datasets._fetch_digest import digests, part_size
from ranvier.datasets._fetch_paths import why_unsafe
from ranvier.datasets._fetch_web import FinalError, PassingError
from ranvier.datasets.collection import read_dataset
from ranvier.datasets.fetch import RECORD, Web, WebSettings, fetch, plan
from ranvier.datasets.phantom import mask_of
from ranvier.datasets.registry import find
from ranvier.errors import DatasetError, OutputError, OutputExistsError, SettingsError

SEM1 = find("SEM1")
STALL_S = 0.15


def etag_of(content: bytes) -> str:
    """The dandi-etag of a file of one part, worked out on its own."""
    return hashlib.md5(hashlib.md5(content).digest()).hexdigest() + "-1"


class Archive:
    """What the local server serves, how it misbehaves, and what it was asked."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.items: list[dict] = []  # further listed assets, as they are
        self.hashes = ("dandi:sha2-256", "dandi:dandi-etag")
        self.listed_metadata = True
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict] = []
        self.released = threading.Event()
        self.page = 3
        self.count_more = 0
        self.next_link = None
        self.url = ""

    def add(self, path, content):
        self.files[path] = content
        return content

    def asset_id(self, path):
        return hashlib.md5(path.encode()).hexdigest()

    def metadata(self, path):
        content = self.files[path]
        known = {
            "dandi:sha2-256": hashlib.sha256(content).hexdigest(),
            "dandi:dandi-etag": etag_of(content),
        }
        return {"path": path, "digest": {k: known[k] for k in self.hashes}}

    def item(self, path):
        made = {
            "asset_id": self.asset_id(path),
            "blob": "4d447b40-ad2d-4bf2-9ede-87589139693e",
            "zarr": None,
            "path": path,
            "size": len(self.files[path]),
            "created": "2025-02-27T23:08:42Z",
            "modified": "2025-02-27T23:08:42Z",
        }
        return made | {"metadata": self.metadata(path)} if self.listed_metadata else made

    def listing(self):
        return [self.item(path) for path in sorted(self.files)] + self.items

    def fault(self, key):
        waiting = self.faults.get(key)
        return waiting.pop(0) if waiting else self.always.get(key)

    def downloads(self):
        return [asked for asked in self.asked if asked[0].startswith("/blob/")]


class Handler(BaseHTTPRequestHandler):
    archive: Archive
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body)

    def json(self, value):
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self):
        a = self.archive
        url = urllib.parse.urlsplit(self.path)
        a.asked.append((url.path, self.headers.get("Range")))
        a.headers.append(dict(self.headers))
        parts = url.path.strip("/").split("/")
        if parts[0] == "blob":
            return self.blob(parts[1])
        fault = a.fault("api")
        if fault is not None and fault.isdecimal():
            return self.answer(int(fault), Retry_After="7")
        if fault == "no json":
            return self.answer(200, b'{"results": [')
        if parts[-1] == "download":
            return self.redirect(parts[2])
        if parts[1] == "assets":
            return self.json(a.metadata(self.path_of(parts[2])))
        if parts[-1] == "assets":
            return self.list(urllib.parse.parse_qs(url.query))
        if parts[4] == "0.999999.9999":
            return self.answer(404)
        return self.json(
            {"name": "Drawn", "license": ["spdx:CC-BY-4.0"], "citation": "Nobody (2025) Drawn"}
        )

    def list(self, query):
        a = self.archive
        n = int(query.get("page", ["1"])[0])
        size = min(int(query["page_size"][0]), a.page)
        items = a.listing()
        more = n * size < len(items)
        following = f"{a.url}{self.path.split('&page=')[0]}&page={n + 1}" if more else None
        self.json(
            {
                "count": len(items) + a.count_more if n == 1 else None,
                "next": a.next_link or following,
                "results": items[(n - 1) * size : n * size],
            }
        )

    def path_of(self, asset_id):
        return next(p for p in self.archive.files if self.archive.asset_id(p) == asset_id)

    def redirect(self, asset_id):
        a = self.archive
        target = a.always.get("redirect", f"{a.url}/blob/{asset_id}?X-Amz-Signature=1")
        self.answer(302, Location=target)

    def blob(self, asset_id):
        path = self.path_of(asset_id)
        content, fault = self.archive.files[path], self.archive.fault(path)
        if fault is not None and fault.isdecimal():
            wait = {"429": "3", "503": "Thu, 01 Jan 1970 00:16:49 GMT"}.get(fault, "soon")
            return self.answer(int(fault), Retry_After=wait)
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if fault == "ignore range":
            start = 0
        headers = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if fault == "wrong range":
            headers = {"Content_Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
        body = content[start:]
        if fault == "corrupt":
            body = bytes(255 - b for b in body[:1]) + body[1:]
        if fault == "changed":
            body = bytes(len(body))
        if fault == "longer":
            body += b"more"
        if fault == "gzip":
            headers["Content_Encoding"] = "gzip"
        headers["Content_Length"] = str(len(body))
        if fault in ("truncate", "stall", "reset"):
            body = body[: len(body) // 2]
        if fault == "longer, unsaid":
            body += b"more"
            headers["Content_Length"] = str(len(body))
        if start == 0 and fault != "wrong range":
            del headers["Content_Range"]
        self.answer(206 if start or fault == "wrong range" else 200, body, **headers)
        if fault == "stall":
            self.wfile.flush()
            self.archive.released.wait(5)


@pytest.fixture
def archive(monkeypatch):
    """A running archive with four files."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Archive()
    handler = type("Bound", (Handler,), {"archive": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.block_on_close = True, True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    rng = np.random.default_rng(0)
    made.add("README", b"hello")
    made.add("sub-1/micr/a.bin", rng.bytes(300_000))
    made.add("sub-1/micr/b.bin", rng.bytes(1000))
    made.add("empty", b"")
    yield made
    made.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Slept(list):
    """Pauses that were asked for, none of them made."""

    def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture
def slept():
    return Slept()


@pytest.fixture
def web(archive, slept):
    settings = WebSettings(api=f"{archive.url}/api", timeout_s=STALL_S, attempts=4)
    return Web(settings, sleep=slept, now=lambda: 1000.0)


BIG = "sub-1/micr/a.bin"


def run(web, folder, **chosen):
    return fetch(plan(SEM1, web=web), folder, web=web, **chosen)


def statuses(fetched):
    return {file.path: file.status for file in fetched.files}


def everything(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != RECORD
    }


# --- the good case ---------------------------------------------------------------------------------


def test_all_files_come_whole_with_a_record(archive, web, slept, tmp_path):
    seen = []
    fetched = run(web, tmp_path / "d", progress=lambda done, total: seen.append((done, total)))
    assert everything(tmp_path / "d") == archive.files
    assert set(statuses(fetched).values()) == {"fetched"}
    assert not fetched.failures
    assert slept == []
    total = sum(map(len, archive.files.values()))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    record = json.loads((tmp_path / "d" / RECORD).read_text())
    assert record["complete"] is True
    assert record["dandiset"] == "001442"
    assert record["version"] == "0.250512.1626"
    assert record["licence"] == "CC-BY-4.0"
    assert record["url"].endswith("/dandisets/001442/versions/0.250512.1626/")
    assert {f["path"]: (f["bytes"], f["sha256"], f["verified_by"]) for f in record["files"]} == {
        p: (len(c), hashlib.sha256(c).hexdigest(), "sha256") for p, c in archive.files.items()
    }


def test_what_is_there_and_right_is_not_fetched_again(archive, web, tmp_path):
    run(web, tmp_path)
    archive.asked.clear()
    (tmp_path / "README").unlink()
    assert statuses(run(web, tmp_path)) == {
        "README": "fetched",
        BIG: "kept",
        "sub-1/micr/b.bin": "kept",
        "empty": "kept",
    }
    assert len(archive.downloads()) == 1


def test_no_credentials_and_few_headers_are_sent(archive, web, tmp_path, monkeypatch):
    run(web, tmp_path)
    sent = {name.lower() for headers in archive.headers for name in headers}
    assert sent <= {"host", "user-agent", "accept-encoding", "connection", "accept", "range"}


def test_hashes_are_asked_for_where_the_list_has_none(archive, web, tmp_path):
    archive.listed_metadata = False
    fetched = run(web, tmp_path)
    assert {f.verified_by for f in fetched.files} == {"sha256"}


def test_a_bids_dataset_can_be_read_afterwards(archive, web, tmp_path, phantom):
    archive.files.clear()
    for name in ("01", "02"):
        stem = f"sub-{name}_sample-1_SEM"
        archive.add(f"sub-{name}/micr/{stem}.png", png(phantom.image.pixels))
        archive.add(
            f"derivatives/labels/sub-{name}/micr/{stem}_seg-axonmyelin-manual.png",
            png(mask_of(phantom)),
        )
        size = {"PixelSize": [0.1, 0.1], "PixelSizeUnits": "um"}
        archive.add(f"sub-{name}/micr/{stem}.json", json.dumps(size).encode())
    about = {"Name": "drawn", "BIDSVersion": "1.7.0"}
    archive.add("dataset_description.json", json.dumps(about).encode())
    archive.faults = {"sub-01/micr/sub-01_sample-1_SEM.png": ["truncate"]}
    assert not run(web, tmp_path).failures
    annotated = read_dataset(tmp_path)
    assert [(a.subject, a.pixel_size.um) for a in annotated] == [("01", 0.1), ("02", 0.1)]
    _, classes = annotated[0].load()
    assert np.array_equal(classes, phantom.classes)


def png(pixels):
    if pixels.dtype != np.uint8:
        pixels = np.round(pixels * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


# --- a server with troubles ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        ["truncate"],
        ["truncate", "truncate", "truncate"],
        ["stall"],
        ["500"],
        ["503", "500", "429"],
        ["corrupt"],
        ["truncate", "changed"],
        ["truncate", "ignore range"],
        ["truncate", "wrong range"],
        ["truncate", "416"],
        ["longer"],
        ["longer, unsaid"],
        ["truncate", "longer, unsaid"],
    ],
    ids=" ".join,
)
def test_troubles_are_overcome(archive, web, tmp_path, faults):
    archive.faults = {BIG: list(faults)}
    fetched = run(web, tmp_path)
    assert not fetched.failures
    assert everything(tmp_path) == archive.files
    assert archive.faults == {BIG: []}


def test_a_broken_download_goes_on_where_it_ended(archive, web, tmp_path):
    archive.faults = {BIG: ["truncate", "truncate"]}
    run(web, tmp_path)
    ranges = [asked for path, asked in archive.downloads() if asked]
    assert ranges == ["bytes=150000-", "bytes=225000-"]


def test_a_download_that_ignores_range_begins_again_within_one_request(archive, web, tmp_path):
    archive.faults = {BIG: ["truncate", "ignore range"]}
    run(web, tmp_path)
    assert len([p for p, _ in archive.downloads() if archive.asset_id(BIG) in p]) == 2


@pytest.mark.parametrize("fault", ["truncate", "stall", "500", "corrupt", "404", "gzip", "longer"])
def test_one_hopeless_file_does_not_stop_the_others(archive, web, tmp_path, fault):
    archive.always = {"README": fault}
    fetched = run(web, tmp_path)
    assert statuses(fetched) == {
        "README": "failed",
        BIG: "fetched",
        "sub-1/micr/b.bin": "fetched",
        "empty": "fetched",
    }
    assert not (tmp_path / "README").exists()
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["complete"] is False
    assert [f["path"] for f in record["failed"]] == ["README"]


def test_attempts_and_pauses_are_bounded(archive, web, slept, tmp_path):
    archive.always = {"README": "500"}
    (failed,) = run(web, tmp_path).failures
    assert "500" in failed.message
    assert "4 attempt" in failed.message
    assert slept == [1.0, 2.0, 4.0]


def test_a_wrong_hash_is_tried_twice_only_and_leaves_nothing(archive, web, tmp_path):
    archive.always = {BIG: "corrupt"}
    (failed,) = run(web, tmp_path).failures
    assert "sha256" in failed.message
    assert len([p for p, _ in archive.downloads() if archive.asset_id(BIG) in p]) == 2
    assert [p.name for p in (tmp_path / "sub-1" / "micr").iterdir()] == ["b.bin"]


def test_the_server_says_how_long_to_wait(archive, web, slept, tmp_path):
    archive.faults = {BIG: ["429", "503"], "README": ["500"], "api": ["503"]}
    assert not run(web, tmp_path).failures
    assert slept == [7.0, 1.0, 3.0, 9.0]  # api, README, then BIG: seconds, a date 9 s from now


def test_no_pause_is_longer_than_set(archive, slept):
    settings = WebSettings(api=f"{archive.url}/api", attempts=2, longest_wait_s=5, timeout_s=1)
    archive.always = {"api": "429"}
    with pytest.raises(DatasetError, match="429"):
        plan(SEM1, web=Web(settings, sleep=slept))
    assert slept == [5]


def test_a_404_is_not_tried_again(archive, web, slept, tmp_path):
    archive.always = {"README": "404"}
    run(web, tmp_path)
    assert slept == []


def test_ctrl_c_leaves_a_part_that_the_next_run_continues(archive, web, tmp_path):
    def stop(done, total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(web, tmp_path, progress=stop)
    (part,) = (tmp_path / "sub-1" / "micr").glob("*.part")
    have = part.stat().st_size
    assert 0 < have < 300_000
    assert not (tmp_path / BIG).exists()
    archive.asked.clear()
    assert not run(web, tmp_path).failures
    assert f"bytes={have}-" in [asked for _, asked in archive.downloads()]
    assert everything(tmp_path) == archive.files


def test_any_part_that_lies_there_ends_well(archive, web, tmp_path):
    content = archive.files[BIG]
    key = hashlib.sha256(content).hexdigest()[:12]
    for n, size in enumerate([0, 1, 299_999, 300_000, 300_001]):
        for right in (True, False):
            home = tmp_path / f"{n}-{right}"
            part = home / "sub-1" / "micr" / f".a.bin.{key}.part"
            part.parent.mkdir(parents=True)
            part.write_bytes((content + b"x")[:size] if right else bytes(size))
            assert not run(web, home).failures
            assert everything(home) == archive.files


# --- what is there already -------------------------------------------------------------------------


def test_a_file_that_differs_is_left_alone(archive, web, tmp_path):
    (tmp_path / "README").write_text("mine!")
    fetched = run(web, tmp_path)
    assert statuses(fetched)["README"] == "failed"
    assert "--overwrite" in fetched.failures[0].message
    assert (tmp_path / "README").read_text() == "mine!"
    assert not run(web, tmp_path, overwrite=True).failures
    assert (tmp_path / "README").read_bytes() == b"hello"


def test_a_folder_in_the_way_is_not_replaced(archive, web, tmp_path):
    (tmp_path / "README").mkdir()
    assert statuses(run(web, tmp_path, overwrite=True))["README"] == "failed"
    assert (tmp_path / "README").is_dir()


def test_a_file_where_a_folder_should_be(archive, web, tmp_path):
    (tmp_path / "sub-1").write_text("mine")
    found = statuses(run(web, tmp_path, overwrite=True))
    assert (found["README"], found[BIG]) == ("fetched", "failed")
    assert (tmp_path / "sub-1").read_text() == "mine"


def test_a_link_out_of_the_folder_is_not_followed(archive, web, tmp_path):
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    home.mkdir()
    (home / "sub-1").symlink_to(outside)
    found = statuses(run(web, home, overwrite=True))
    assert (found["README"], found[BIG]) == ("fetched", "failed")
    assert list(outside.iterdir()) == []


def test_links_in_place_of_a_file_are_replaced_not_written_through(archive, web, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    home = tmp_path / "home"
    home.mkdir()
    (home / "README").symlink_to(mine)
    key = hashlib.sha256(b"hello").hexdigest()[:12]
    (home / f".README.{key}.part").symlink_to(mine)
    assert statuses(run(web, home))["README"] == "failed"
    assert not run(web, home, overwrite=True).failures
    assert mine.read_text() == "mine"
    assert not (home / "README").is_symlink()


def test_a_folder_of_another_dataset_is_refused(archive, web, tmp_path):
    run(web, tmp_path)
    with pytest.raises(OutputExistsError, match="another dataset"):
        fetch(plan(find("TEM1"), web=web), tmp_path, web=web, overwrite=True)
    with pytest.raises(OutputExistsError, match="another version"):
        fetch(plan(SEM1, "draft", web=web), tmp_path, web=web)
    assert not fetch(plan(SEM1, "draft", web=web), tmp_path, web=web, overwrite=True).failures


def test_a_foreign_record_is_not_replaced(archive, web, tmp_path):
    for text in ("", "[]", "{}", "no json", "\xff"):
        (tmp_path / RECORD).write_text(text, encoding="latin-1")
        with pytest.raises(OutputExistsError):
            run(web, tmp_path)
        assert (tmp_path / RECORD).read_text(encoding="latin-1") == text


def test_a_full_disk_is_seen_before_anything_is_fetched(archive, web, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 10, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="too full"):
        run(web, tmp_path)
    assert archive.downloads() == []


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="no such rights")
def test_a_folder_that_cannot_be_made(archive, web, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run(web, tmp_path / "file" / "d")


# --- what the archive lists ------------------------------------------------------------------------

EVIL = [
    "",
    "/etc/passwd",
    "../../evil",
    "a/../../evil",
    "a/./b",
    "a//b",
    "a/",
    "C:/evil",
    "c:evil",
    "a\\b",
    "..\\evil",
    "con",
    "sub/AUX.txt",
    "nul .png",
    "lpt1.png",
    "COM\u00b9",
    "a.",
    "a ",
    " a",
    "a\nb",
    "a\x00b",
    "a\u202egnp.exe",
    "a\ud800",
    "a?b",
    "x" * 201,
    "\u00e9" * 101,
    "a/" * 600 + "b",
    "ranvier_fetch.json",
    "RANVIER_FETCH.JSON",
    ".README.abc.part",
]


def test_unsafe_paths_are_known():
    assert [path for path in EVIL if why_unsafe(path) is None] == []


def test_usual_paths_are_safe():
    usual = ["README", ".bidsignore", "sub-1/micr/a_SEM.png", "\u00e9.txt", "console/a.b.c", "-x"]
    assert [path for path in usual if why_unsafe(path) is not None] == []


def test_unsafe_paths_are_refused_and_the_rest_is_fetched(archive, web, tmp_path):
    home = tmp_path / "in" / "side"
    for n, path in enumerate(EVIL):
        item = archive.item("README") | {"path": path, "asset_id": f"{n:032x}"}
        archive.items.append(item)
    fetched = run(web, home)
    assert {f.path for f in fetched.failures} == set(EVIL)
    assert everything(tmp_path) == {f"in/side/{p}": c for p, c in archive.files.items()}
    json.loads((home / RECORD).read_text())


def test_files_that_cannot_be_fetched_are_refused(archive, web, tmp_path):
    changes: list[dict] = [
        {"size": -1},
        {"size": "5"},
        {"size": True},
        {"size": None},
        {"size": 6 << 40},
        {"zarr": "z", "blob": None},
        {"metadata": {"digest": {}}},
        {"metadata": {"digest": None}},
        {"metadata": {"digest": {"dandi:sha2-256": "abc", "dandi:dandi-etag": 5}}},
    ]
    for n, changed in enumerate(changes):
        item = archive.item("README") | {"asset_id": f"{n:032x}", "path": f"odd{n}"}
        archive.items.append(item | changed)
    fetched = run(web, tmp_path)
    assert [f.path for f in fetched.failures] == [f"odd{n}" for n in range(len(changes))]
    assert everything(tmp_path) == archive.files


def test_a_huge_size_meets_the_free_disk(archive, web, tmp_path):
    archive.items = [
        archive.item("README") | {"asset_id": "0" * 32, "path": "huge", "size": 5 << 40}
    ]
    with pytest.raises(OutputError, match="too full"):
        run(web, tmp_path)
    assert archive.downloads() == []


def test_duplicates(archive, web, tmp_path):
    again = archive.item("README")
    archive.items = [
        again,  # the same asset on two pages
        again | {"asset_id": "1" * 32},  # another asset of the same content
        again | {"asset_id": "2" * 32, "path": "readme"},  # the same place on some systems
        again | {"asset_id": "3" * 32, "path": "sub-1"},  # a file in place of a folder
        archive.item("empty") | {"asset_id": "4" * 32, "path": "sub-1/micr/b.bin"},
    ]
    archive.count_more = -1
    fetched = run(web, tmp_path)
    why = {f.path: f.message for f in fetched.failures}
    assert set(why) == {"readme", "sub-1", "sub-1/micr/b.bin"}
    assert "twice" in why["sub-1/micr/b.bin"]
    assert "'README'" in why["readme"]
    assert set(everything(tmp_path)) == {"README", BIG, "empty"}  # of two b.bin neither


def test_a_list_that_is_not_whole_is_refused(archive, web):
    archive.count_more = 1
    with pytest.raises(DatasetError, match="4 of 5"):
        plan(SEM1, web=web)


def test_a_list_that_does_not_end_is_refused(archive, web):
    archive.next_link = (
        f"{archive.url}/api/dandisets/001442/versions/0.250512.1626/assets/?page_size=2&page=1"
    )
    with pytest.raises(DatasetError, match="does not end"):
        plan(SEM1, web=web)


def test_a_list_that_goes_on_elsewhere_is_refused(archive, web):
    for link in ("https://evil.example/api", "http://127.0.0.1:1/x", "file:///etc", 5, "http://["):
        archive.next_link = link
        with pytest.raises(DatasetError, match="not its own"):
            plan(SEM1, web=web)


def test_a_list_that_makes_no_sense_is_refused(archive, web):
    zeros = "0" * 32
    for item in ({}, {"asset_id": "../../x", "path": "a"}, {"asset_id": zeros, "path": 5}):
        archive.items = [item]
        with pytest.raises(DatasetError, match="no sense"):
            plan(SEM1, web=web)


def test_half_an_answer_is_asked_for_again(archive, web):
    archive.faults = {"api": ["no json", "500"]}
    assert len(plan(SEM1, web=web).assets) == 4
    archive.always = {"api": "no json"}
    with pytest.raises(DatasetError, match="no JSON"):
        plan(SEM1, web=web)


def test_an_unknown_version(archive, web):
    with pytest.raises(DatasetError, match="404"):
        plan(SEM1, "0.999999.9999", web=web)
    for odd in ("../..", "1.0", "0.250512.1626/x", ""):
        with pytest.raises(SettingsError):
            plan(SEM1, odd, web=web)


def test_an_empty_version(archive, web):
    archive.files.clear()
    with pytest.raises(DatasetError, match="no files"):
        plan(SEM1, web=web)


# --- hashes ----------------------------------------------------------------------------------------


def test_the_etag_verifies_where_there_is_no_sha256(archive, web, tmp_path):
    archive.hashes = ("dandi:dandi-etag",)
    archive.files.pop("empty")  # the etag of no parts is another
    archive.faults = {BIG: ["corrupt"]}
    fetched = run(web, tmp_path)
    assert not fetched.failures
    assert {f.verified_by for f in fetched.files} == {"dandi-etag"}
    assert everything(tmp_path) == archive.files


def test_what_cannot_be_verified_is_refused_unless_asked_for(archive, web, tmp_path):
    archive.hashes = ()
    assert len(run(web, tmp_path / "a").failures) == 4
    planned = plan(SEM1, web=web, unverified=True)
    fetched = fetch(planned, tmp_path / "b", web=web)
    assert not fetched.failures
    assert {f.verified_by for f in fetched.files} == {"size only"}
    assert json.loads((tmp_path / "b" / RECORD).read_text())["files"][0]["sha256"]


def test_digests_of_a_real_file_of_the_archive(tmp_path):
    # dataset_description.json of DANDI 001350 and its digests in that dandiset's assets.json
    authors = [
        "Armand Collin",
        "Brad Zuchero",
        "Tom Soulaire",
        "Tal Iram",
        "Miguel A. Garcia",
        "Danielle M. Jorgens",
        "Julien Cohen-Adad",
        "Mathieu Guay-Paquet",
    ]
    about = {"Name": "data_axondeepseg_stanford", "BIDSVersion": "1.9.0", "Authors": authors}
    (tmp_path / "a").write_bytes(json.dumps(about, indent=2).encode())
    found = digests(tmp_path / "a")
    assert found.bytes == 266
    assert found.sha256 == "a314f84cfaa77a1b058043cd447de35fe676079b34f2b4d128ca471235baceb8"
    assert found.etag == "6ee8a3d8da07a0f320156df5d5201b42-1"


def test_the_etag_of_several_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(_fetch_digest, "_PART", 10)
    for size in (0, 1, 9, 10, 11, 20, 25):
        content = bytes(range(size))
        (tmp_path / "a").write_bytes(content)
        parts = [hashlib.md5(content[i : i + 10]).digest() for i in range(0, size, 10)]
        expected = f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"
        assert digests(tmp_path / "a").etag == expected


def test_parts_of_huge_files_are_larger():
    mb64 = 64 << 20
    assert part_size(9_999 * mb64) == mb64
    assert part_size(9_999 * mb64 + 1) == -(-(9_999 * mb64 + 1) // 10_000)
    assert part_size(5 << 40) == -(-(5 << 40) // 10_000)


# --- the connection --------------------------------------------------------------------------------


def test_only_https_is_spoken():
    addresses = [
        "http://api.dandiarchive.org/api",
        "ftp://localhost/",
        "file:///etc",
        "https://me:secret@api.dandiarchive.org/api",
        "http://localhost.evil.example/api",
        "",
        "https://",
    ]
    for api in addresses:
        with pytest.raises(SettingsError):
            Web(WebSettings(api=api))


def test_plain_http_to_this_machine_only_for_an_archive_on_it():
    assert Web().why_not("http://127.0.0.1/x") is not None
    assert Web().why_not("https://bucket.s3.amazonaws.com/x?sig=1") is None
    assert Web(WebSettings(api="http://localhost:1/api")).why_not("http://evil.example") is not None


def test_redirects_elsewhere_than_to_https_are_refused(archive, web, tmp_path):
    for target in (
        "http://evil.example/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://a:b@evil.example/",
    ):
        archive.always = {"redirect": target}
        assert len(run(web, tmp_path).failures) == 4
    assert everything(tmp_path) == {}


def test_a_redirect_in_a_circle_ends(archive, web):
    archive.always = {
        "redirect": f"{archive.url}/api/assets/{archive.asset_id('README')}/download/"
    }
    with pytest.raises(FinalError, match="302"):
        web.open(archive.always["redirect"])


def test_an_archive_that_is_not_there(slept):
    web = Web(WebSettings(api="http://127.0.0.1:9/api", attempts=2), sleep=slept)
    with pytest.raises(DatasetError, match="connection"):
        plan(SEM1, web=web)
    assert slept == [1.0]


def test_a_stalled_list_ends_in_time(archive, web):
    with pytest.raises(
        PassingError, match="silent"
    ):  # a port that takes connections and says nothing
        silent(web)


def silent(web):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        web.open(f"http://127.0.0.1:{listening.getsockname()[1]}/x")


def test_settings_are_checked():
    for odd in ({"attempts": 0}, {"timeout_s": 0}, {"backoff_s": -1}):
        with pytest.raises(SettingsError):
            WebSettings(**odd)


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def command(web, monkeypatch):
    monkeypatch.setattr(cli_fetch, "_web", lambda: web)

    def call(*arguments):
        return CliRunner().invoke(cli_fetch.fetch, [str(a) for a in arguments])

    return call


def test_command_fetches(archive, command, tmp_path):
    result = command("sem1", "-o", tmp_path)
    assert result.exit_code == 0
    assert "4 fetched" in result.output
    assert "licence: CC-BY-4.0" in result.output
    assert "cite: Nobody (2025) Drawn" in result.output
    assert everything(tmp_path) == archive.files
    assert "4 kept" in command("sem1", "-o", tmp_path).output


def test_command_lists_all_failures_at_the_end(archive, command, tmp_path):
    archive.always = {"README": "404", BIG: "corrupt"}
    result = command("SEM1", "-o", tmp_path)
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert [("README" in e, BIG in e) for e in errors] == [(True, False), (False, True)]
    assert "2 fetched, 2 failed" in result.output


def test_command_dry_run_writes_nothing(archive, command, tmp_path):
    result = command("SEM1", "--dry-run", "-o", tmp_path / "d")
    assert result.exit_code == 0
    assert "300,000  sub-1/micr/a.bin" in result.output
    assert list(tmp_path.iterdir()) == []
    assert archive.downloads() == []


def test_command_lists_datasets_without_asking_the_archive(archive, command):
    result = command("--list")
    assert result.exit_code == 0
    assert "CARS1" in result.output
    assert archive.asked == []


def test_command_says_who_holds_what_is_not_public(archive, command, tmp_path):
    for name in ("TEM2", "SEM2", "SEM3", "CARS1", "BF3", "BF4"):
        result = command(name, "-o", tmp_path)
        assert isinstance(result.exception, DatasetError)  # the program's main makes it exit code 1
        assert "Polytechnique Montreal" in str(result.exception)
    assert archive.asked == []


def test_command_usage(command):
    assert command().exit_code == 2
    assert command("SEM1").exit_code == 2
    assert isinstance(command("XYZ").exception, SettingsError)


def test_command_unverified(archive, command, tmp_path):
    archive.hashes = ()
    assert command("SEM1", "-o", tmp_path).exit_code == 1
    assert command("SEM1", "-o", tmp_path, "--unverified").exit_code == 0
