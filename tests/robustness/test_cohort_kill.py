"""A cohort that is killed at random moments ends up as one that was left in peace, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from ranvier.cohort_run import run_cohort
from ranvier.cohort_tables import collect_cohort
from ranvier.cohort_terms import RunSettings
from ranvier.datasets.phantom import PhantomSettings, draw, mask_of

KILLS = 10
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by signal")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Drawn masks, one of them twice, and a file that is no image."""
    home = tmp_path_factory.mktemp("in")
    lines = ["id,mask,subject,group"]
    for seed in range(12):
        mask = mask_of(draw(PhantomSettings(shape=(96, 96), look="SEM", seed=seed)))
        Image.fromarray(mask).save(home / f"n{seed}.png")
        lines.append(f"i{seed},n{seed}.png,s{seed // 3},{'xy'[seed // 6]}")
    (home / "bad.png").write_bytes(b"no image")
    lines += ["bad,bad.png,s0,x", "again,n0.png,s0,x"]
    path = home / "m.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(manifest: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ranvier", "run", str(manifest), "-o", str(out), "--jobs", "2"]
    return subprocess.Popen(
        [*command, "--pixel-size", "0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Everything but the logs: folders, and files with their bytes."""
    paths = sorted(p for p in folder.rglob("*") if "logs" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"/" for p in paths}


def is_whole(folder: Path) -> bool:
    """No file is there in part: each set has its record, and nothing has a name that is not final."""
    sets = list((folder / "results").glob("*/*"))
    return all(len(list(s.glob("*_run.json"))) == 1 for s in sets) and not [
        p for p in folder.rglob("*.part") if "tmp" not in p.relative_to(folder).parts
    ]


def sets(out: Path) -> int:
    return len(list((out / "results").glob("*/*")))


def wait_for_work(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until results are being made."""
    before = sets(out)
    while process.poll() is None and sets(out) == before:
        if list(out.glob(f"tmp/{process.pid}@*/made-*")):
            return
        time.sleep(0.002)


def test_ten_kills_change_nothing(manifest, tmp_path):
    began = time.monotonic()
    assert start(manifest, tmp_path / "peace").wait(300) == 1  # one image is bad
    lasted = time.monotonic() - began
    dice = random.Random(20)
    out = tmp_path / "war"
    seen = []
    for number in range(KILLS):
        process = start(manifest, out)
        if number % 2:
            wait_for_work(process, out)
            time.sleep(dice.uniform(0, 0.03) * lasted)
        else:
            time.sleep(dice.uniform(0.05, 0.6) * lasted)
        # Now and then only the run itself is killed, and its processes have to notice.
        (os.kill if number % 5 == 3 else os.killpg)(process.pid, signal.SIGKILL)
        process.wait()
        assert is_whole(out)
        seen.append(sets(out))
    assert start(manifest, out).wait(300) == 1
    for folder in (tmp_path / "peace", out):
        collect_cohort(folder)
    assert tree(out) == tree(tmp_path / "peace")
    assert list((out / "tmp").iterdir()) == []
    assert sets(out) == 12
    assert any(0 < count < 12 for count in seen), seen  # some kills met work half done
    print(f"undisturbed {lasted:.1f} s, all {time.monotonic() - began:.1f} s, sets {seen}")


def test_a_killed_process_costs_its_image_alone(manifest, tmp_path):
    def kill(event):
        if event.what == "begun" and event.image == "i4":
            os.kill(event.process, signal.SIGKILL)

    tally = run_cohort(manifest, tmp_path, RunSettings(jobs=1), tell=kill)
    assert (tally.done, tally.failed, tally.left) == (12, 2, 0)
    assert tally.failures is not None
    told = tally.failures.read_text()
    assert "i4,n4.png,ProcessDied" in told
    assert "SIGKILL" in told
    tally = run_cohort(manifest, tmp_path, RunSettings(jobs=1))
    assert (tally.done, tally.skipped, tally.failed) == (1, 12, 1)
