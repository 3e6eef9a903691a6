"""What tests share: where the real data lie, phantoms, a guard against files left open."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.bundle import embedded
from ranvier.datasets.phantom import Phantom, PhantomSettings, draw, write_dataset

EXAMPLES = Path(__file__).parents[1] / "examples"
LOOKS = ("SEM", "TEM", "BF")

# No test writes into the home folder, nor takes a compiled graph from it.
os.environ["RANVIER_CACHE"] = "off"
# What runs in the background of a shell is deaf to Ctrl-C, and so are its children; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real annotated micrographs."""
    folder = Path(os.environ.get("RANVIER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real micrographs at {folder}; name their folder in RANVIER_DATA")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """Folder of the shipped examples."""
    return EXAMPLES


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A small drawn micrograph with its truth."""
    return draw(PhantomSettings(shape=(192, 224), look="SEM", seed=3))


@pytest.fixture(scope="session")
def phantom_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotated datasets of three drawn subjects each."""
    home = tmp_path_factory.mktemp("data")
    for look in LOOKS[:2]:
        settings = [PhantomSettings(shape=(160, 160), look=look, seed=seed) for seed in range(3)]
        write_dataset(home / look.lower(), [draw(s) for s in settings])
    return home


@pytest.fixture
def write_png(tmp_path: Path) -> Callable[..., Path]:
    """Write an array as PNG under a name in the test's folder."""

    def write(name: str, pixels: np.ndarray) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def generalist() -> Path:
    """Folder of the embedded model."""
    return embedded()["generalist"]


@pytest.fixture(autouse=True)
def no_file_left_open() -> Iterator[None]:
    """Fail a test that leaves an image or table open."""
    before = _open_files()
    yield
    gc.collect()
    # Libraries may keep files of their own open: matplotlib does so with fonts.
    own = (sys.prefix, sys.base_prefix)
    opened = _open_files() - before
    left = {p for p in opened if p.startswith("/tmp") and not p.startswith(own)}
    assert not left, f"left open: {left}"


def _open_files() -> set[str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        return set()
    found = set()
    for entry in descriptors.iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return found
