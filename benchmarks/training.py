"""Training throughput in patches per second: Ranvier's loop beside nnU-Net's own trainer, same network and patch.

    python benchmarks/training.py DATASET... --nnunet-python SCRATCH/bin/python [--steps 20] [--rounds 3]

SCRATCH is an environment with `pip install torch==2.13.0 nnunetv2`; nnU-Net is no dependency of Ranvier. Everything
that a step needs is timed: drawing and randomising patches, forward, backward, the optimiser, the averaged weights.
Each line runs in a process of its own, in turn, so many rounds; the fastest round counts, and ratios are to nnU-Net's
trainer with the same network in the same run. Without --nnunet-python only Ranvier is timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHANNELS = {"plain": [32, 64, 128, 256, 512, 512, 512], "compact": [32, 64, 128, 256, 256]}
BATCH = {"plain": 2, "compact": 8}
CASES = (
    ("plain", "f32", "nnunet"),
    ("plain", "bf16", "nnunet"),
    ("plain", "bf16", "randomised"),
    ("compact", "f32", "randomised"),
    ("compact", "bf16", "randomised"),
)


def ours(datasets: list[Path], case: tuple[str, str, str], patch: int, steps: int) -> float:
    """Seconds of so many steps, after three to warm up."""
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.folds import everything
    from ranvier.training.device import take_place
    from ranvier.training.loop import _Run
    from ranvier.training.recipe import recipe_from

    network, precision, scheme = case
    values: dict[str, dict[str, object]] = {
        "network": {"kind": network, "channels": CHANNELS[network]},
        "schedule": {"batch": BATCH[network], "patch": patch, "precision": precision},
        "augmentation": {"scheme": scheme},
    }
    if network == "plain":
        values["network"]["deep_supervision"] = True
        values["schedule"] |= {"optimiser": "sgd", "learning_rate": 1e-2, "ema_decay": 0.0}
    if scheme == "nnunet":
        values["input"] = {"normalisation": "rescale"}
        values["sampling"] = {"foreground_by_class": True, "foreground": 0.33}
    recipe = recipe_from(values)
    split = everything(read_datasets(datasets))
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(split, recipe, Path(folder), None, take_place("cpu", precision))
        for _ in range(3):
            run._train_step()
        begin = time.perf_counter()
        for _ in range(steps):
            run._train_step()
        return time.perf_counter() - begin


def theirs(python: Path, folder: Path, network: str, patch: int, steps: int) -> float:
    """Seconds of so many steps of nnU-Net's trainer."""
    here = Path(__file__).parent / "nnunet_trainer.py"
    command = [str(python), str(here), str(folder), "--network", network, "--patch", str(patch)]
    command += ["--batch", str(BATCH[network]), "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def exported(datasets: list[Path], folder: Path) -> None:
    """The same images as nnU-Net's raw dataset."""
    raw = folder / "raw" / "Dataset444_AGG"
    if raw.is_dir():
        return
    made = folder / "aggregate"
    for command in (
        ["aggregate", *map(str, datasets), "--name", "AGG", "-o", str(made)],
        ["data", "export", str(made), "--to", "nnunet", "--id", "444", "-o", str(raw.parent)],
    ):
        subprocess.run([sys.executable, "-m", "ranvier", *command], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--nnunet-python", type=Path)
    parser.add_argument(
        "--folder", type=Path, help="where nnU-Net's files are kept for the next run"
    )
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        network, precision, scheme = chosen.one.split("/")
        case = (network, precision, scheme)
        print(json.dumps(ours(chosen.datasets, case, chosen.patch, chosen.steps)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        best: dict[str, float] = {}
        if chosen.nnunet_python:
            exported(chosen.datasets, folder)
        for _ in range(chosen.rounds):
            for network in CHANNELS:
                if chosen.nnunet_python:
                    name = f"{network}/nnU-Net"
                    took = theirs(chosen.nnunet_python, folder, network, chosen.patch, chosen.steps)
                    best[name] = min(took, best.get(name, took))
                for case in (c for c in CASES if c[0] == network):
                    name = "/".join(case)
                    command = [sys.executable, __file__, *map(str, chosen.datasets), "--one", name]
                    command += ["--patch", str(chosen.patch), "--steps", str(chosen.steps)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    took = float(done.stdout.splitlines()[-1])
                    best[name] = min(took, best.get(name, took))
    print(f"{'network':<9}{'trainer':<26}{'batch':>6}{'patches/s':>11}{'times nnU-Net':>15}")
    for name, took in best.items():
        network, trainer = name.split("/", 1)
        rate = chosen.steps * BATCH[network] / took
        other = best.get(f"{network}/nnU-Net")
        ratio = f"{other / took:15.2f}" if other else f"{'-':>15}"
        print(f"{network:<9}{trainer:<26}{BATCH[network]:>6}{rate:11.2f}{ratio}")


if __name__ == "__main__":
    main()
