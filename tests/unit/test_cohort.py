"""A cohort's manifest, plan, store, run and tables. Work is done in this process; others test real ones."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ranvier import cohort_run, cohort_work
from ranvier.cohort_addresses import Addresses
from ranvier.cohort_collect import look
from ranvier.cohort_columns import reserved_names
from ranvier.cohort_manifest import read_manifest
from ranvier.cohort_plan import Plan, Shard, make_plan
from ranvier.cohort_run import run_cohort
from ranvier.cohort_store import Store, opened, result_folder
from ranvier.cohort_tables import collect_cohort
from ranvier.cohort_terms import RunSettings, Tally
from ranvier.datasets.phantom import PhantomSettings, draw, mask_of
from ranvier.errors import (
    DatasetError,
    InputError,
    OutputError,
    OutputExistsError,
    RanvierError,
    SettingsError,
)
from ranvier.groups import summarise_groups
from ranvier.inference import InferenceSettings, load_model
from ranvier.instances import InstanceSettings
from ranvier.jobs import MaskSet, Options
from ranvier.pipeline import measure_masks, segment_file
from ranvier.reading import Limits
from ranvier.results import TABLE_ENDINGS
from ranvier.streaming.settings import StreamSettings
from ranvier.tables import table_csv
from ranvier.workers import Lost

MODEL = {"model": {"name": "m", "sha256": "1"}, "backend": {"runtime": "r"}}


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Path:
    """Drawn masks n0.png to n3.png."""
    folder = tmp_path_factory.mktemp("masks")
    for seed in range(4):
        phantom = draw(PhantomSettings(shape=(96, 104), look="SEM", seed=seed))
        Image.fromarray(mask_of(phantom)).save(folder / f"n{seed}.png")
    return folder


@pytest.fixture
def home(masks, tmp_path) -> Path:
    """A folder with the masks, to be written in."""
    return Path(shutil.copytree(masks, tmp_path / "in"))


@pytest.fixture
def work(monkeypatch) -> list[str]:
    """Work in this process; gives the names of the files that were computed, as they are."""
    computed: list[str] = []

    def here(tasks, make, *, jobs, threads, begun):
        do = make()
        for task in tasks:
            begun(task, os.getpid())
            computed.append(task.path.name)
            yield task, do(task)

    monkeypatch.setattr(cohort_run, "each", here)
    return computed


def manifest(folder: Path, *lines: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows(content: Path | bytes) -> list[dict[str, str]]:
    content = content.read_bytes() if isinstance(content, Path) else content
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def tree(folder: Path, *, but: tuple[str, ...] = ("logs",)) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    named = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
    return {name: content for name, content in named.items() if name.split("/")[0] not in but}


def run(path: Path, out: Path, **settings: Any) -> Tally:
    options = settings.pop("options", Options(pixel_size=0.1))
    return run_cohort(path, out, RunSettings(options, **settings))


# The manifest


def test_a_manifest_says_what_it_says(home):
    path = home / "sub" / "m.csv"
    path.parent.mkdir()
    text = (
        "\ufeffID;Image;mask;axon_mask;myelin_mask;nerve_mask;Subject;group;sample;pixel_size_um;zoom;page;channel;;\r\n"
        f"a;../n0.png;;;;../n3.png;s1;x;left;0,08;2;3;DAPI;;\r\n\r\n"
        f';{home}/n1.png;;;;;s1;x;;;;;1;;\r\n"b;c";;;../n1.png;../n2.png;;s2;y;;;;;;;\r\n'
    )
    path.write_bytes(text.encode())
    found = read_manifest(path)
    first, second, third = found.entries
    assert (first.row, first.id, first.image, first.subject, first.group) == (
        2,
        "a",
        "../n0.png",
        "s1",
        "x",
    )
    assert (first.pixel_size_um, first.zoom, first.page, first.channel) == (0.08, 2.0, 3, "DAPI")
    assert (first.nerve_mask, first.extra) == ("../n3.png", {"sample": "left"})
    assert (second.row, second.id, second.channel) == (4, f"{home}/n1", 1)
    assert (second.pixel_size_um, second.zoom, second.page) == (None, None, None)
    assert (third.row, third.id, third.masks, third.file) == (
        5,
        "b;c",
        ("../n1.png", "../n2.png"),
        "../n1.png",
    )
    assert found.extra_columns == ("sample",)
    assert found.has_subjects
    assert found.at("../n0.png").samefile(home / "n0.png")


def test_ids_are_paths_without_endings(home):
    (home / "b").mkdir()
    for name in ("x.ome.tif", "b/x.png", "v1.2.png"):
        (home / name).write_bytes(b"-")
    lines = ("image,page", "x.ome.tif,", "./b/x.png,", "v1.2.png,", "x.ome.tif,0", "x.ome.tif,1")
    ids = [e.id for e in read_manifest(manifest(home, *lines)).entries]
    assert ids == ["x", "b/x", "v1.2", "x_page0", "x_page1"]


def test_all_problems_are_in_one_error_with_their_rows(home):
    lines = (
        "id,image,mask,axon_mask,myelin_mask,subject,group,pixel_size_um,zoom,page",
        "a,n0.png,,,,s1,x,0.1,1,0",
        "a,gone.png,,,,s1,y,0,1,",
        "c,n0.png,,,,,x,one,99,-1",
        "",
        "d,,,n0.png,,s2,x,,,",
        "e,,,,,s2,,,,",
        "f,.,,,,s3,x,,,",
        "g,,n1.png,n0.png,n2.png,s3,x,,2,",
        "h,n0.png",
        "i,sub\\n0.png,,,,s4,x,,,",
    )
    with pytest.raises(DatasetError) as caught:
        read_manifest(manifest(home, *lines))
    told = [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]
    expected = [
        "row 3: image gone.png: no such file",
        "row 3: pixel_size_um: pixel size outside 0.0001 to 10 um (seen: 0)",
        "row 3: id a is that of row 2, too: give each row an id of its own",
        "row 3: subject s1 is in group y here and in group x in row 2",
        "row 4: no subject",
        "row 4: pixel_size_um is no number (seen: one)",
        "row 4: zoom: zoom out of range (seen: 99)",
        "row 4: page is no whole number from 0 (seen: -1)",
        "row 6: no myelin_mask beside the other mask",
        "row 7: no image",
        "row 7: no group",
        "row 8: image .: this is a folder",
        "row 9: mask and axon_mask or myelin_mask: give one mask with three levels, or a pair",
        "row 9: zoom is for images that are segmented, and this row has masks",
        "row 10: 2 cells instead of 10",
        "row 11: image sub\\n0.png: no such file; write / between folders",
    ]
    assert sorted(told) == sorted(expected)
    assert [int(t.split()[1][:-1]) for t in told] == sorted(int(t.split()[1][:-1]) for t in told)
    assert f"{len(expected)} problem(s)" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,subject", "no column image"),
        ("image,Pixel size (um)", "the name of this column is pixel_size_um"),
        ("image,g_ratio", "has the name of a result"),
        ("image,fibre_count", "has the name of a result"),
        ("image,image", "stands 2 times"),
        ("image,,x", "without a name"),
        ("image,group", "needs a column subject"),
        ("image,axon_mask", "go together"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(home, header, said):
    with pytest.raises(DatasetError, match="row 1: ") as caught:
        read_manifest(manifest(home, header, "n0.png,a,b"))
    assert said in str(caught.value)


def test_files_that_are_no_manifest(home):
    for content, said in (
        (b"", "is empty"),
        (b"image\n", "no row below the header"),
        ("image\nä.png".encode("latin-1"), "not UTF-8"),
        (b"image\n" + b"x" * 200_000, "not CSV"),
        (b"mask\nn0_seg-axon.png", "named like a mask of axon alone"),
        (b"image\n\0.png", "cannot be opened"),
    ):
        (home / "m.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=said):
            read_manifest(home / "m.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_manifest(home / "nothing.csv")


# The plan


def plan_of(path: Path, options: Options | None = None, model: Any = MODEL) -> Plan:
    return make_plan(read_manifest(path), options or Options(), model)


def test_a_shard_is_named_as_schedulers_count():
    assert str(Shard.parse("3/10")) == "3-of-10"
    assert Shard.parse("0/10") == Shard.parse("10/10") == Shard(10, 10)
    for text in ("", "3", "11/10", "-1/10", "1/0", "a/b", "1/2/3", "1.0/2"):
        with pytest.raises(SettingsError, match="shard"):
            Shard.parse(text)


@given(
    owns=st.lists(st.text("abcdef0123456789", min_size=4), unique=True, max_size=40),
    count=st.integers(1, 12),
    data=st.data(),
)
def test_shards_are_a_fair_partition_whatever_the_order(unit, owns, count, data):
    units = [replace(unit, own=own) for own in owns]
    parts = [Shard(i, count).part(units) for i in range(1, count + 1)]
    assert sorted(u.own for part in parts for u in part) == sorted(owns)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    mixed = data.draw(st.permutations(units))
    for i, part in enumerate(parts, start=1):
        assert {u.own for u in Shard(i % count, count).part(mixed)} == {u.own for u in part}


@pytest.fixture(scope="module")
def unit(masks, tmp_path_factory):
    return plan_of(manifest(masks, "image", "n0.png", name="one.csv")).units[0]


def requests(plan: Plan) -> dict[str, str]:
    return {entry.id: unit.request for unit in plan.units for entry in unit.entries}


def changed(one: Plan, other: Plan) -> set[str]:
    before, after = requests(one), requests(other)
    return {name for name in before if before[name] != after[name]}


def test_a_setting_changes_the_requests_that_it_is_for(home):
    path = manifest(
        home, "id,image,mask,zoom", "a,n0.png,,", "b,n0.png,,2", "c,,n1.png,", "d,n0.png,,"
    )
    plain = plan_of(path)
    assert len(plain.units) == 3  # a and d ask for the same
    assert plan_of(path).content == plain.content
    assert changed(plain, plan_of(path, model={**MODEL, "model": {"sha256": "2"}})) == {
        "a",
        "b",
        "d",
    }
    zoomed = replace(Options().inference, zoom=2.0)
    assert changed(plain, plan_of(path, Options(inference=zoomed))) == {"a", "d"}
    assert changed(plain, plan_of(path, Options(channel=1))) == {"a", "b", "d"}
    everything = {"a", "b", "c", "d"}
    for options in (
        Options(instances=InstanceSettings(min_axon_area=3)),
        Options(pixel_size=0.1),
        Options(exports=("xlsx",)),
        Options(numbers=True),
    ):
        assert changed(plain, plan_of(path, options)) == everything
    assert changed(plain, plan_of(path, Options(limits=Limits(max_pixels=10**6)))) == set()


def test_rows_settings_go_before_the_commands(home):
    path = manifest(
        home,
        "image,pixel_size_um,zoom,page,channel,nerve_mask",
        "n0.png,0.2,3,4,5,n1.png",
        "n0.png,,,,,",
    )
    given = Options(pixel_size=0.1, page=1, channel="x")
    own, common = (unit.options for unit in plan_of(path, given).units)
    assert (own.pixel_size, own.inference.zoom, own.page, own.channel) == (0.2, 3.0, 4, 5)
    assert own.fascicles is not None
    assert own.fascicles.samefile(home / "n1.png")
    assert (common.pixel_size, common.inference.zoom, common.page, common.channel) == (
        0.1,
        "auto",
        1,
        "x",
    )


def test_a_row_may_leave_the_zoom_to_the_model(home):
    path = manifest(home, "id,image,zoom", "a,n0.png,Auto", "b,n0.png,1", "c,n0.png,")
    given = Options(inference=InferenceSettings(zoom=2.0))
    units = plan_of(path, given).units
    assert [unit.options.inference.zoom for unit in units] == ["auto", 1.0, 2.0]
    assert len({unit.request for unit in units}) == 3
    assert json.loads(plan_of(path, given).content)["rows"][0]["zoom"] == "auto"


def key(path: Path, options: Options | None = None) -> str:
    return Addresses().of(plan_of(path, options).units[0])[0]


def test_keys_are_of_bytes_and_not_of_names(home):
    path = manifest(home, "image", "n0.png")
    before = key(path)
    shutil.copy(home / "n0.png", home / "other.png")
    assert key(manifest(home, "image,subject", "other.png,s")) == before
    path = manifest(home, "image", "n0.png")
    (home / "pixel_size_in_micrometer.txt").write_text("0.1")
    with_text = key(path)
    (home / "n0.json").write_text("{}")
    with_sidecar = key(path)
    shutil.copy(home / "n3.png", home / "n0_seg-nerve.png")
    with_nerve = key(path)
    (home / "n0.png").write_bytes((home / "n1.png").read_bytes())
    assert len({before, with_text, with_sidecar, with_nerve, key(path)}) == 5
    given = key(path, Options(pixel_size=0.1))  # then no file is asked for it
    (home / "pixel_size_in_micrometer.txt").write_text("0.2")
    assert key(path, Options(pixel_size=0.1)) == given


# The run and its tables


def cohort(home: Path) -> Path:
    return manifest(
        home,
        "id,mask,subject,group,age",
        "a,n0.png,s1,x,3",
        "b,n1.png,s1,x,3",
        "c,n2.png,s2,x,4",
        "d/e,n3.png,s3,y,5",
    )


def test_a_cohort_is_run_and_collected(home, tmp_path, work):
    out = tmp_path / "out"
    tally = run(cohort(home), out)
    assert (tally.done, tally.skipped, tally.failed, tally.left, tally.computed) == (4, 0, 0, 0, 4)
    assert sorted(work) == [f"n{i}.png" for i in range(4)]
    collection = collect_cohort(out)
    assert collection.cohort.whole
    files = {p.name for p in (out / "cohort").iterdir()}
    tables = {
        "images.csv",
        "fibres.csv",
        "fibres.parquet",
        "subjects.csv",
        "groups.csv",
        "failures.csv",
    }
    assert files == {*tables, "cohort.json"}
    images = rows(out / "cohort" / "images.csv")
    assert [r["image"] for r in images] == ["a", "b", "c", "d/e"]
    assert [r["file"] for r in images] == [f"n{i}.png" for i in range(4)]
    assert [r["age"] for r in images] == ["3", "3", "4", "5"]
    assert all((out / r["results"]).is_dir() for r in images)
    assert sum(int(r["fibre_count"]) for r in images) == collection.fibres
    record = json.loads((out / "cohort" / "cohort.json").read_text())
    assert record["complete"] is True
    assert record["rows"] == {"all": 4, "done": 4, "failed": 0, "left": 0}
    assert set(record["outputs"]) == tables


def test_tables_are_those_of_summarise(home, tmp_path, work):
    """The oracle: each mask measured alone under its id, then put together by subject and group."""
    run(cohort(home), tmp_path / "out")
    collect_cohort(tmp_path / "out")
    for name, mask in zip("abce", range(4), strict=True):
        single = MaskSet(name, (home / f"n{mask}.png",))
        measure_masks(single, Options(output=tmp_path / "alone", pixel_size=0.1))
    samples = manifest(
        tmp_path, "image,subject,group,age", "a,s1,x,3", "b,s1,x,3", "c,s2,x,4", "e,s3,y,5"
    )
    expected = summarise_groups([tmp_path / "alone"], samples)
    got = tmp_path / "out" / "cohort"
    assert (got / "groups.csv").read_bytes() == table_csv(expected.groups)
    assert (got / "subjects.csv").read_bytes() == table_csv(expected.subjects)
    fibres = (got / "fibres.csv").read_bytes().replace(b"d/e,", b"e,")
    assert fibres == table_csv(expected.fibres)
    images = [
        {k: v for k, v in r.items() if k not in ("file", "results")}
        for r in rows(got / "images.csv")
    ]
    assert [{**r, "image": r["image"][-1]} for r in images] == rows(table_csv(expected.images))


def test_parquet_is_the_same_table(home, tmp_path, work):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(cohort(home), tmp_path)
    collect_cohort(tmp_path)
    table = parquet.read_table(tmp_path / "cohort" / "fibres.parquet")
    texts = rows(tmp_path / "cohort" / "fibres.csv")
    assert table.column_names == list(texts[0])
    assert table.column("image").to_pylist() == [r["image"] for r in texts]
    numbers = [None if r["g_ratio"] == "" else float(r["g_ratio"]) for r in texts]
    assert table.column("g_ratio").to_pylist() == numbers
    assert table.schema.field("axon_diameter_um").metadata[b"unit"] == b"um"


@pytest.mark.parametrize("size", [0.1, None])
def test_every_name_of_a_result_is_reserved(home, tmp_path, work, size):
    run(cohort(home), tmp_path, options=Options(pixel_size=size))
    collect_cohort(tmp_path)
    given_names = {"image", "subject", "group", "age"}
    for name in ("images.csv", "subjects.csv", "fibres.csv"):
        assert {*rows(tmp_path / "cohort" / name)[0]} - given_names <= reserved_names()


def test_a_second_run_does_nothing_and_changes_nothing(home, tmp_path, work):
    path, out = cohort(home), tmp_path / "out"
    run(path, out)
    collect_cohort(out, overlays=True)
    before = tree(out)
    stamps = {p: p.stat().st_mtime_ns for p in (out / "results").rglob("*")}
    work.clear()
    tally = run(path, out)
    collect_cohort(out, overlays=True)
    assert (tally.done, tally.skipped, work) == (0, 4, [])
    assert tree(out) == before
    assert {p: p.stat().st_mtime_ns for p in (out / "results").rglob("*")} == stamps


def test_the_same_cohort_gives_the_same_bytes_anywhere(home, tmp_path, work):
    run(cohort(home), tmp_path / "one")
    collect_cohort(tmp_path / "one")
    moved = Path(shutil.copytree(home, tmp_path / "far" / "away"))
    run(moved / "m.csv", tmp_path / "far" / "two")
    collect_cohort(tmp_path / "far" / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "far" / "two")


def test_only_what_changed_is_computed_and_nothing_stale_is_merged(home, tmp_path, work):
    out = tmp_path / "out"
    run(cohort(home), out)
    collect_cohort(out)
    first = (out / "cohort" / "images.csv").read_bytes()
    work.clear()
    path = manifest(home, "id,mask,pixel_size_um", "a,n0.png,", "b,n1.png,0.2", "c,n2.png,")
    tally = run(path, out)
    assert work == ["n1.png"]  # another setting for one; one row is gone
    assert any("collect again" in note for note in tally.notes)
    collect_cohort(out)
    images = {r["image"]: r for r in rows(out / "cohort" / "images.csv")}
    assert {name: r["pixel_size_um"] for name, r in images.items()} == {
        "a": "0.1",
        "b": "0.2",
        "c": "0.1",
    }
    assert not (out / "cohort" / "groups.csv").exists()  # no subjects any more
    assert "subject" not in images["a"]
    work.clear()
    run(cohort(home), out)  # back again: everything is still there
    collect_cohort(out)
    assert work == []
    assert (out / "cohort" / "images.csv").read_bytes() == first


def test_changed_bytes_are_seen(home, tmp_path, work):
    path, out = cohort(home), tmp_path / "out"
    run(path, out)
    work.clear()
    shutil.copy(home / "n1.png", home / "n0.png")
    tally = run(path, out)
    assert work == []  # n1 is done, and n0 has its bytes now
    assert tally.notes == ("rows 2, 3 ask for the same: computed once",)
    collection = collect_cohort(out)
    assert "count 2 times: a, b" in collection.warnings[0]
    images = rows(out / "cohort" / "images.csv")
    assert images[0]["results"] == images[1]["results"]
    assert images[0]["fibre_count"] == images[1]["fibre_count"]


def test_a_run_that_did_not_come_to_look_leaves_nothing_to_merge(home, tmp_path, work, monkeypatch):
    path, out = cohort(home), tmp_path / "out"
    run(path, out)
    shutil.copy(home / "n1.png", home / "n0.png")

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Addresses, "of", stop)
        tally = run(path, out)
    assert (tally.stopped, tally.left) == (True, 4)
    assert [r.status for r in look(out).results] == ["left"] * 4
    assert collect_cohort(out).cohort.whole is False
    assert not (out / "cohort" / "images.csv").exists()
    run(path, out)
    assert look(out).whole


def test_one_failure_neither_stops_nor_hides(home, tmp_path, work):
    (home / "n1.png").write_bytes(b"no image\n\n")
    path, out = cohort(home), tmp_path / "out"
    tally = run(path, out)
    assert (tally.done, tally.failed, tally.failures) == (3, 1, out / "shards/1-of-1/failures.csv")
    (failure,) = rows(tally.failures)
    assert (failure["row"], failure["image"], failure["file"]) == ("3", "b", "n1.png")
    assert failure["error"] == "UnsupportedFormatError"
    assert "not an image" in failure["reason"]
    collection = collect_cohort(out)
    assert (out / "cohort" / "failures.csv").read_bytes() == tally.failures.read_bytes()
    assert not collection.cohort.whole
    assert [r["image"] for r in rows(out / "cohort" / "images.csv")] == ["a", "c", "d/e"]


def test_what_failed_is_tried_again_unless_told_otherwise(home, tmp_path, work):
    good = (home / "n1.png").read_bytes()
    (home / "n1.png").write_bytes(b"no image")
    path, out = cohort(home), tmp_path / "out"
    run(path, out)
    work.clear()
    tally = run(path, out, retry_failed=False)
    assert (work, tally.failed, tally.skipped) == ([], 1, 3)
    assert look(out).of("failed")[0].failure is not None
    run(path, out)
    assert work == ["n1.png"]
    work.clear()
    (home / "n1.png").write_bytes(good)  # another file: tried in any case
    tally = run(path, out, retry_failed=False)
    assert (work, tally.done, tally.failed) == (["n1.png"], 1, 0)
    assert rows(out / "shards/1-of-1/failures.csv") == []
    assert not list((out / "shards/1-of-1/failed").iterdir())


def test_a_lost_process_costs_one_image(home, tmp_path, monkeypatch):
    def here(tasks, make, *, jobs, threads, begun):
        do = make()
        for task in tasks:
            yield task, Lost(-9) if task.path.name == "n2.png" else do(task)

    monkeypatch.setattr(cohort_run, "each", here)
    tally = run(cohort(home), tmp_path)
    assert (tally.done, tally.failed) == (3, 1)
    (failure,) = rows(tally.failures)
    assert (failure["image"], failure["error"]) == ("c", "ProcessDied")
    assert "want of memory" in failure["reason"]


def test_ctrl_c_leaves_a_state_to_go_on_from(home, tmp_path, work):
    path, out = cohort(home), tmp_path / "out"

    def stop_at_second(event):
        if event.what == "begun" and event.done == 1:
            raise KeyboardInterrupt

    tally = run_cohort(path, out, RunSettings(Options(pixel_size=0.1)), tell=stop_at_second)
    assert (tally.stopped, tally.done, tally.left) == (True, 1, 3)
    assert not (out / "shards/1-of-1/report.json").exists()
    assert [len(look(out).of(s)) for s in ("done", "left")] == [1, 3]
    assert not list((out / "tmp").iterdir())
    assert run(path, out).skipped == 1
    run(path, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_together_are_the_whole(home, tmp_path, work, count):
    (home / "n2.png").write_bytes(b"no image")
    path = cohort(home)
    run(path, tmp_path / "whole")
    collect_cohort(tmp_path / "whole")
    out = tmp_path / "parts"
    for i in range(count):  # as an array counts from 0
        assert not look(out).whole if i else True
        run(path, out, shard=Shard(i, count))
    collect_cohort(out)
    assert tree(out, but=("logs", "shards")) == tree(tmp_path / "whole", but=("logs", "shards"))
    assert rows(out / "cohort" / "failures.csv")[0]["image"] == "c"


def test_another_division_forgets_the_first(home, tmp_path, work):
    path = cohort(home)
    for i in (1, 2):
        run(path, tmp_path, shard=Shard(i, 2))
    shutil.copy(home / "n1.png", home / "n0.png")
    run(path, tmp_path, shard=Shard(1, 1))
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["1-of-1"]
    keys = [r.key for r in look(tmp_path).results]
    assert keys[0] == keys[1]


def test_images_of_two_units_are_not_merged(home, tmp_path, work):
    path = manifest(home, "id,mask,pixel_size_um", "a,n0.png,0.1", "b,n1.png,")
    run(path, tmp_path, options=Options())
    with pytest.raises(InputError, match=r"px: b; um: a.*pixel_size_um"):
        collect_cohort(tmp_path)


def test_sets_are_made_anew_if_files_are_missing_but_never_over_changed_ones(home, tmp_path, work):
    path, out = manifest(home, "mask", "n0.png"), tmp_path / "out"
    run(path, out)
    before = tree(out)
    (folder,) = (out / "results").glob("*/*")
    overlay, table = (next(folder.glob(f"*{e}")) for e in ("_overlay.png", "_morphometrics.csv"))
    overlay.unlink()
    assert run(path, out).done == 1
    assert tree(out) == before
    table.write_bytes(table.read_bytes() + b"\n")
    assert run(path, out).skipped == 1
    (failed,) = look(out).results
    assert failed.status == "failed"
    assert "was changed since" in str(failed.failure)
    overlay.unlink()
    tally = run(path, out)
    assert tally.failed == 1
    assert "Move it away" in rows(tally.failures)[0]["reason"]
    assert table.is_file()
    shutil.rmtree(folder)
    run(path, out)
    assert tree(out) == before


def test_a_file_that_changes_meanwhile_is_told(home, tmp_path, work):
    path = manifest(home, "mask", "n0.png")

    def change(event):
        if event.what == "begun":
            shutil.copy(home / "n1.png", home / "n0.png")

    tally = run_cohort(path, tmp_path, RunSettings(), tell=change)
    assert "changed while the cohort ran" in rows(tally.failures)[0]["reason"]
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").glob("*/*"))


def test_a_full_disk_ends_the_run(home, tmp_path, work, monkeypatch):
    def full(self: Store, made: Path, key: str) -> None:
        raise OutputError("cannot write", seen="No space left on device")

    monkeypatch.setattr(Store, "keep", full)
    with pytest.raises(OutputError, match="goes on where it ended"):
        run(cohort(home), tmp_path)
    assert len(work) == 1
    assert not list((tmp_path / "tmp").iterdir())


# The store


def test_a_set_that_another_process_was_first_with_stays(home, tmp_path, work):
    run(manifest(home, "mask", "n0.png"), tmp_path)
    (folder,) = (tmp_path / "results").glob("*/*")
    before = tree(tmp_path)
    with opened(tmp_path) as store:
        made = Path(shutil.copytree(folder, store.scratch / "made"))
        store.keep(made, folder.name)
        assert not made.exists()
    assert tree(tmp_path) == before


def test_only_what_ended_processes_left_is_removed(tmp_path):
    with opened(tmp_path) as mine:
        other = mine.scratch.name.partition("@")[2]
        names = {
            f"4194400@{other}": False,  # no such process: higher than numbers go
            f"{os.getppid()}@{other}": True,
            f"4194400@elsewhere-1.{'0' * 16}": True,
        }
        for name in names:
            (tmp_path / "tmp" / name).mkdir()
        with opened(tmp_path):
            pass
        assert {n: (tmp_path / "tmp" / n).exists() for n in names} == names
        assert mine.scratch.exists()
    old = tmp_path / "tmp" / f"4194400@elsewhere-1.{'0' * 16}"
    os.utime(old, (0, 0))
    with opened(tmp_path):
        assert not old.exists()
    with pytest.raises(OutputError, match="is a file"), opened(Path(__file__)):
        pass


@pytest.mark.parametrize("at", [0, 1, 4, 7])
def test_wherever_collecting_stops_it_can_be_done_again(home, tmp_path, work, monkeypatch, at):
    path = cohort(home)
    run(path, tmp_path)
    collect_cohort(tmp_path, overlays=True)
    run(path, tmp_path, options=Options(pixel_size=0.2))
    collect_cohort(tmp_path)
    expected = tree(tmp_path)
    run(path, tmp_path)
    collect_cohort(tmp_path, overlays=True)
    run(path, tmp_path, options=Options(pixel_size=0.2))
    left = [at]
    write = Store.write

    def stopping(self: Store, place: Path, content: bytes) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, place, content)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            collect_cohort(tmp_path)
    complete = json.loads((tmp_path / "cohort/cohort.json").read_text())["complete"]
    assert complete is (at == 0)
    collect_cohort(tmp_path)
    assert tree(tmp_path) == expected


def test_tables_that_were_changed_are_not_replaced(home, tmp_path, work):
    run(cohort(home), tmp_path)
    collect_cohort(tmp_path)
    mine = tmp_path / "cohort" / "images.csv"
    mine.write_text("mine")
    (tmp_path / "cohort" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="changed since"):
        collect_cohort(tmp_path)
    assert mine.read_text() == "mine"
    mine.rename(tmp_path / "kept.csv")
    collect_cohort(tmp_path)
    assert (tmp_path / "cohort" / "notes.txt").read_text() == "mine"


def test_overlays_are_named_by_their_images(home, tmp_path, work):
    run(cohort(home), tmp_path)
    collect_cohort(tmp_path, overlays=True)
    names = sorted(p.name for p in (tmp_path / "cohort/overlays").iterdir())
    assert names == ["a.png", "b.png", "c.png", "d%2Fe.png"]
    images = {r["image"]: r for r in rows(tmp_path / "cohort/images.csv")}
    (stored,) = (tmp_path / images["b"]["results"]).glob("*_overlay.png")
    assert (tmp_path / "cohort/overlays/b.png").read_bytes() == stored.read_bytes()
    collect_cohort(tmp_path)
    assert not (tmp_path / "cohort/overlays").exists()


def test_records_hold_no_time_place_or_thread(home, tmp_path, work):
    run(manifest(home, "mask", "n0.png"), tmp_path)
    (path,) = (tmp_path / "results").glob("*/*/*_run.json")
    record = json.loads(path.read_text())
    assert not {"started", "seconds"} & set(record)
    assert "path" not in record["inputs"][0]
    assert record["complete"] is True
    assert set(record["outputs"]) == {p.name for p in path.parent.iterdir()} - {path.name}
    assert all(name.startswith(path.parent.name[:12]) for name in record["outputs"])
    (log,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["what"] for line in lines] == ["host", "run", "done", "end"]
    assert lines[2]["seconds"]


def test_what_is_no_cohort(tmp_path):
    with pytest.raises(InputError, match="no cohort in this folder"):
        look(tmp_path)
    with pytest.raises(SettingsError, match="at least one process"):
        RunSettings(jobs=0)
    with pytest.raises(SettingsError, match="places of its own"):
        RunSettings(Options(output=tmp_path))
    assert result_folder(tmp_path, "abcdef").name == "abcdef"


def test_large_images_are_streamed(tmp_path, work, monkeypatch):
    """Those that ranvier segment would stream: same tables, stored, resumed and refused as the others are."""
    zarr = pytest.importorskip("zarr")
    pixels = np.asarray(draw(PhantomSettings(shape=(96, 100), look="TEM", seed=1)).image.pixels)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(32, 32))
    group = zarr.open_group(str(tmp_path / "b.ome.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=pixels.shape, chunks=(50, 50), dtype=pixels.dtype)[...] = pixels
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    group.attrs.update({"multiscales": [{"axes": axes, "datasets": [scale], "version": "0.4"}]})
    path = manifest(tmp_path, "image,id", "a.tif,a", "b.ome.zarr,b")
    options = Options(pixel_size=0.1, inference=replace(Options().inference, views=1))
    alone = segment_file(
        tmp_path / "a.tif", load_model(threads=1), replace(options, output=tmp_path / "alone")
    )
    Image.fromarray(np.full(pixels.shape, 255, np.uint8)).save(tmp_path / "a_seg-nerve.png")
    small = partial(cohort_work.segment_any, stream=StreamSettings(above_px=1000))
    monkeypatch.setattr(cohort_work, "segment_any", small)
    tally = run(path, tmp_path / "out", options=options, threads=1)
    assert (tally.done, tally.failed) == (2, 0)
    for record in (tmp_path / "out" / "results").glob("*/*/*_run.json"):
        assert json.loads(record.read_text())["streaming"]["windows"] >= 1
        stem, (labels, table) = record.name.removesuffix("_run.json"), TABLE_ENDINGS
        mine, whole = record.with_name(stem + table), tmp_path / "alone" / f"a{table}"
        assert mine.read_bytes() == whole.read_bytes()
        mine, whole = record.with_name(stem + labels), tmp_path / "alone" / f"a{labels}"
        assert np.array_equal(tifffile.imread(mine), tifffile.imread(whole))
        assert not any(p.name.startswith(".") for p in record.parent.iterdir())
    assert alone.summary["fibre_count"] > 0
    before = tree(tmp_path / "out")
    run(path, tmp_path / "again", options=options, threads=2)
    assert tree(tmp_path / "again") == before
    work.clear()
    assert run(path, tmp_path / "out", options=options).skipped == 2
    assert (work, tree(tmp_path / "out")) == ([], before)
    group["0"][0, 0] = 255 - int(pixels[0, 0])
    assert run(path, tmp_path / "out", options=options).computed == 1
    assert work == ["b.ome.zarr"]
    tally = run(path, tmp_path / "out", options=replace(options, exports=("colours",)))
    assert tally.failed == 2
    (first, _) = rows(tally.failures)
    assert "not made of images that are streamed" in first["reason"]


def test_the_embedded_model_segments_a_cohort(tmp_path, work):
    for seed in range(2):
        image = draw(PhantomSettings(shape=(96, 96), look="TEM", seed=seed)).image.pixels
        Image.fromarray(np.asarray(image)).save(tmp_path / f"t{seed}.png")
    path, out = manifest(tmp_path, "image,zoom", "t0.png,", "t1.png,2"), tmp_path / "out"
    options = Options(inference=replace(Options().inference, views=1))
    assert run(path, out, options=options, threads=1).done == 2
    records = [json.loads(p.read_text()) for p in (out / "results").glob("*/*/*_run.json")]
    assert {r["settings"]["inference"]["zoom"] for r in records} == {"auto", 2.0}
    assert {r["zoom"]["asked"] for r in records} == {"auto", 2.0}
    assert all(r["zoom"]["chosen"] == r["summary"]["zoom"] for r in records)
    assert all("threads" not in r["backend"] for r in records)
    alone = segment_file(
        tmp_path / "t0.png", load_model(threads=1), replace(options, output=tmp_path / "alone")
    )
    (stored,) = [
        folder
        for folder in (out / "results").glob("*/*")
        if json.loads(next(folder.glob("*_run.json")).read_text())["settings"]["inference"]["zoom"]
        == "auto"
    ]
    for file in alone.outputs[:-1]:
        ending = file.name.removeprefix("t0")
        assert (stored / f"{stored.name[:12]}{ending}").read_bytes() == file.read_bytes()
    before = tree(out)
    work.clear()
    assert run(path, out, options=options, threads=2).skipped == 2
    assert (work, tree(out)) == ([], before)
    with pytest.raises(RanvierError, match="no such model"):
        run(path, out, model="nobody")
    assert tree(out) == before
