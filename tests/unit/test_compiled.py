"""Kept graphs: the same numbers, never in the way, never from somebody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from ranvier import _compiled
from ranvier._compiled import cache_folder
from ranvier.inference import load_model

TILE = np.random.default_rng(0).normal(size=(1, 1, 64, 96)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """How often a graph was compiled."""
    counted = []
    real = _compiled.core()

    class Counting:
        def compile_model(self, *given):
            counted.append(1)
            return real.compile_model(*given)

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(_compiled, "core", Counting)
    return counted


def logits(**chosen):
    return load_model(threads=1, **chosen).backend.logits(TILE)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_kept_graph_gives_the_same_numbers(folder, compilations, precision):
    first = logits(precision=precision)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert np.array_equal(logits(precision=precision), first)
    assert len(compilations) == 1


def test_each_precision_and_number_of_threads_has_its_own(folder, compilations):
    logits()
    logits(precision="int8")
    load_model(threads=2)
    assert len(compilations) == len([*folder.iterdir()]) == 3


@pytest.mark.parametrize("harm", ["empty", "short", "changed", "writable by others", "folder"])
def test_a_graph_that_is_not_trusted_is_compiled_again(folder, compilations, harm):
    first = logits(precision="int8")
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if harm == "writable by others":
        path.chmod(0o666)
    elif harm == "folder":
        folder.chmod(0o777)
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"empty": b"", "short": whole[:middle], "changed": changed}[harm])
    assert np.array_equal(logits(precision="int8"), first)
    assert len(compilations) == 2
    folder.chmod(0o700)
    logits(precision="int8")
    assert len(compilations) == 2


def test_what_openvino_refuses_is_compiled_again(folder, compilations):
    logits(precision="int8")
    (path,) = folder.iterdir()
    path.unlink()
    _compiled._store(path, b"not a graph, with a right hash")
    logits(precision="int8")
    assert len(compilations) == 2


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, compilations):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "file" / "cache"))
    logits(precision="int8")
    assert len(compilations) == 1


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    logits(precision="int8")
    assert [*folder.iterdir()] == []


def test_few_graphs_are_kept(folder, monkeypatch):
    monkeypatch.setattr(_compiled, "_MOST", 2)
    for number in range(4):
        path = folder / f"{number}.blob"
        _compiled._store(path, b"x")
        os.utime(path, (number, number))
    _compiled._store(folder / "new.blob", b"x")
    assert sorted(p.name for p in folder.iterdir()) == ["3.blob", "new.blob"]
    monkeypatch.setattr(_compiled, "_LARGEST", 3)
    _compiled._store(folder / "large.blob", b"four")
    assert not (folder / "large.blob").exists()


@pytest.mark.parametrize("said", ["off", "OFF", "0", "none"])
def test_it_can_be_switched_off(said, monkeypatch):
    monkeypatch.setenv("RANVIER_CACHE", said)
    assert cache_folder() is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has another place")
def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv("RANVIER_CACHE")
    monkeypatch.setattr(_compiled.sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == tmp_path / ".cache" / "ranvier"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "ranvier"
    monkeypatch.setattr(_compiled.sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "ranvier"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None


def test_a_large_graph_is_not_kept_and_not_exported(folder, monkeypatch):
    monkeypatch.setattr(_compiled, "_LARGEST", 1000)
    monkeypatch.setattr(_compiled, "_store", None)  # calling it would be an error
    load_model()
    assert not folder.exists()


def test_parts_that_killed_runs_left_do_not_pile_up(folder):
    folder.mkdir(mode=0o700, parents=True)
    for number in range(_compiled._MOST + 5):
        (folder / f"{number}.part").write_bytes(b"")
    load_model()
    assert len(list(folder.glob("*.part"))) == _compiled._MOST
    assert len(list(folder.glob("*.blob"))) == 1
