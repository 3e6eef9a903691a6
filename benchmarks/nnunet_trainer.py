"""Steps of nnU-Net's own trainer on the CPU, timed; run by benchmarks/training.py in an environment with nnunetv2.

    PYTHON benchmarks/nnunet_trainer.py FOLDER --network plain --patch 256 --batch 2 --steps 20

FOLDER holds `raw`, an nnU-Net dataset that `ranvier data export --to nnunet` made, and gets `preprocessed` and
`results`. The trainer is nnU-Net's as it is installed, with its own augmentation in its own processes; only patch,
batch and network are set. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CHANNELS = (32, 64, 128, 256, 512, 512, 512)
NUMBER = 444


def planned(folder: Path, patch: int, batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans and dataset.json, with the patch, the batch and the published generalist's network."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    raw = next((folder / "raw").glob(f"Dataset{NUMBER}_*"))
    made = folder / "preprocessed" / raw.name
    if not (made / "nnUNetPlans_2d").is_dir():
        extract_fingerprints([NUMBER], num_processes=2, check_dataset_integrity=False)
        plan_experiments([NUMBER])
        preprocess([NUMBER], configurations=("2d",), num_processes=(2,))
    plans = json.loads((made / "nnUNetPlans.json").read_text())
    plan = plans["configurations"]["2d"]
    plan |= {"patch_size": [patch, patch], "batch_size": batch, "batch_dice": True}
    stages = len(CHANNELS)
    plan["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(CHANNELS),
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    plans["continue_training"] = False
    return plans, json.loads((raw / "dataset.json").read_text())


def trainer_class(network: str) -> Any:
    """nnU-Net's trainer, as it is or with Ranvier's compact network in place of its own."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    if network == "plain":
        return nnUNetTrainer
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

    class Compact(nnUNetTrainer):
        def __init__(self, plans, configuration, fold, dataset_json, device):  # type: ignore[no-untyped-def]
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.enable_deep_supervision = False

        @staticmethod
        def build_network_architecture(*_: Any, **__: Any) -> Any:
            from ranvier.training.network import CompactUNet
            from ranvier.training.settings import NetworkSettings

            return CompactUNet(NetworkSettings())

        def set_deep_supervision_enabled(self, enabled: bool) -> None:
            pass

        def plot_network_architecture(self) -> None:
            pass

    return Compact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=["plain", "compact"], default="plain")
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(chosen.folder / name)
    os.environ.setdefault("nnUNet_compile", "f")
    import torch

    plans, about = planned(chosen.folder, chosen.patch, chosen.batch)
    trainer = trainer_class(chosen.network)(plans, "2d", "all", about, torch.device("cpu"))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    for _ in range(3):
        trainer.train_step(next(trainer.dataloader_train))
    begin = time.perf_counter()
    for _ in range(chosen.steps):
        trainer.train_step(next(trainer.dataloader_train))
    seconds = time.perf_counter() - begin
    trainer.dataloader_train._finish()
    trainer.dataloader_val._finish()
    parameters = sum(p.numel() for p in trainer.network.parameters())
    threads = torch.get_num_threads()
    print(json.dumps({"seconds": seconds, "parameters": parameters, "threads": threads}))


if __name__ == "__main__":
    main()
