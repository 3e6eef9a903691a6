"""``ranvier run`` and ``ranvier collect`` as a user, a terminal and a cluster meet them."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier import cohort_run
from ranvier.apps.cli_run import run as run_command
from ranvier.datasets.phantom import PhantomSettings, draw, mask_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("in")
    lines = ["mask,subject,group,age"]
    for seed in range(4):
        mask = mask_of(draw(PhantomSettings(shape=(96, 96), look="SEM", seed=seed)))
        Image.fromarray(mask).save(home / f"n{seed}.png")
        lines.append(f"n{seed}.png,s{seed // 2},x,3")
    (home / "m.csv").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture
def here(monkeypatch):
    """Work in this process."""

    def each(tasks, make, *, jobs, threads, begun):
        do = make()
        for task in tasks:
            begun(task, os.getpid())
            yield task, do(task)

    monkeypatch.setattr(cohort_run, "each", each)


def tables(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "cohort").iterdir()}


def test_run_collect_and_run_again(run, here, masks, tmp_path):
    out = tmp_path / "out"
    code, said, err = run("run", masks / "m.csv", "-o", out, "--pixel-size", "0.1")
    assert (code, err) == (0, "")
    assert next(line for line in said.splitlines() if line.startswith("n2: ")).endswith(" fibres")
    assert "4 image(s): 4 done, 0 skipped (done already), 0 failed, 0 left" in said
    code, said, err = run("collect", out, "--overlays")
    assert (code, err) == (0, "")
    assert "4 image(s): 4 done, 0 failed, 0 left\n2 subject(s)" in said
    assert (out / "cohort" / "overlays" / "n3.png").is_file()
    code, said, _ = run("run", masks / "m.csv", "-o", out, "--pixel-size", "0.1")
    assert code == 0
    assert "0 done, 4 skipped" in said
    code, said, err = run("run", masks / "m.csv", "-o", out, "--pixel-size", "0.2")
    assert "collect again" in err
    assert run("collect", out, "--status")[:2] == (0, "4 image(s): 4 done, 0 failed, 0 left\n")


def test_exit_codes_tell(run, here, masks, tmp_path):
    home, out = Path(shutil.copytree(masks, tmp_path / "in")), tmp_path / "out"
    assert run("run", home / "m.csv")[0] == 2  # no -o
    code, _, err = run("run", home / "m.csv", "-o", out, "--shard", "5/4")
    assert code == 2
    assert "Give i/n" in err
    assert run("run", home / "m.csv", "-o", out, "--overwrite")[0] == 2
    assert not out.exists()
    assert run("run", home / "m.csv", "-o", out, "--dry-run", "--shard", "1/4")[:2] == (
        0,
        "4 image(s): 0 to segment, 4 with masks\n"
        "columns carried into the tables: age\nshard 1-of-4: 1 image(s)\n",
    )
    assert not out.exists()
    (home / "n1.png").write_bytes(b"no image")
    code, said, err = run("run", home / "m.csv", "-o", out)
    assert code == 1
    assert "3 done, 0 skipped (done already), 1 failed" in said
    assert "error: n1: " in err
    assert f"failures: {out / 'shards/1-of-1/failures.csv'}" in err
    assert run("collect", out, "--status")[0] == 1
    assert run("collect", out)[0] == 1
    (failure,) = csv.DictReader((out / "cohort/failures.csv").read_text().splitlines())
    assert failure["image"] == "n1"
    (home / "n1.png").unlink()
    code, _, err = run("run", home / "m.csv", "-o", out)
    assert code == 1
    assert "row 3: mask n1.png: no such file" in err
    assert run("collect", tmp_path)[0] == 1


def test_the_example_is_a_manifest(run, examples, tmp_path):
    code, said, err = run("run", examples / "cohort.csv", "-o", tmp_path, "--dry-run")
    assert (code, err) == (0, "")
    assert said.startswith("4 image(s): 4 to segment, 0 with masks\n")
    assert "into the tables: stain\n" in said


def test_options_of_single_images_are_not_offered(run):
    code, said, _ = run("run", "--help")
    assert code == 0
    names = {name for parameter in run_command.params for name in parameter.opts}
    assert {"--jobs", "--shard", "--min-axon-area", "--export", "--nothing"} - names == {
        "--nothing"
    }
    assert not {"--overwrite", "--skip-existing", "--fascicles", "--output"} & names
    assert "--retry-failed" in said


def program(*arguments: object, **more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ranvier", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, **more)  # type: ignore[call-overload]


def test_shards_at_once_in_one_folder(run, here, masks, tmp_path):
    shards = [
        program("run", masks / "m.csv", "-o", tmp_path / "parts", "--shard", f"{i}/3")
        for i in range(3)
    ]
    for shard in shards:
        _, err = shard.communicate(timeout=300)
        assert (shard.returncode, err) == (0, "")
    run("run", masks / "m.csv", "-o", tmp_path / "whole")
    for name in ("parts", "whole"):
        assert run("collect", tmp_path / name)[0] == 0
    assert tables(tmp_path / "parts") == tables(tmp_path / "whole")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_leaves_a_state_to_go_on_from(masks, tmp_path):
    out = tmp_path / "out"
    # So much work that it is not done before the signal comes, on a busy machine either.
    mask = np.tile(np.asarray(Image.open(masks / "n0.png")), (6, 6))
    for number in range(60):
        Image.fromarray(np.roll(mask, number, axis=0)).save(tmp_path / f"r{number}.png")
    lines = "\n".join(["mask", *(f"r{number}.png" for number in range(60))])
    (tmp_path / "m.csv").write_text(lines + "\n")
    process = program("run", tmp_path / "m.csv", "-o", out, start_new_session=True)
    while not (out / "shards/1-of-1/index.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    said, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on from here" in err
    assert "Traceback" not in err
    assert "left" in said
    assert not list((out / "tmp").iterdir())
    again = program("run", tmp_path / "m.csv", "-o", out)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert "0 failed, 0 left" in said


def test_the_workflow_runs_the_same_command(run, here, masks, tmp_path):
    snakemake = shutil.which(
        "snakemake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if snakemake is None:
        pytest.skip("snakemake is not installed; pip install snakemake")
    out = tmp_path / "out"
    config = {
        "manifest": masks / "m.csv",
        "cohort": out,
        "shards": 2,
        "options": "--pixel-size 0.1",
        "ranvier": f"{sys.executable} -m ranvier",
    }
    command = [snakemake, "-s", ROOT / "workflow/Snakefile", "-d", tmp_path, "--cores", "2"]
    command += ["--workflow-profile", ROOT / "workflow/profiles/local"]
    command += ["--config", *(f"{key}={value}" for key, value in config.items())]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        list(map(str, command)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    run("run", masks / "m.csv", "-o", tmp_path / "whole", "--pixel-size", "0.1")
    run("collect", tmp_path / "whole")
    assert sorted(p.name for p in (out / "shards").iterdir()) == ["1-of-2", "2-of-2"]
    assert tables(out) == tables(tmp_path / "whole")
