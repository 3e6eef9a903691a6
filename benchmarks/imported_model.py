"""The model that benchmarks/imported.py measures: imported, brought here from a training, or made on the spot."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np


def opened(chosen: argparse.Namespace, scratch: Path) -> tuple[Path, Path | None, set[str]]:
    """Folder of the bundle, folder of nnU-Net's form where there is one, and names of images that it was trained on."""
    source, seen = chosen.model, set[str]()
    if chosen.checkpoint:
        from to_nnunet import convert

        from ranvier.training.checkpoint import load_checkpoint

        patch = tuple(chosen.patch) if chosen.patch else None
        source = convert(chosen.checkpoint, scratch / "nnunet", patch=patch)
        if chosen.held_out:
            images = [load_checkpoint(path).about["images"]["train"] for path in chosen.checkpoint]
            seen = {name.rpartition("/")[2] for names in images for name in names}
    elif source is None:
        source = made(chosen.plans, scratch / "nnunet", chosen.steps)
    if (source / "model.json").is_file():
        return source, None, seen
    from ranvier.training.imported.convert import import_nnunet

    return import_nnunet(source, scratch / "bundle", name="benchmark").bundle.folder, source, seen


def made(plans: Path, folder: Path, steps: int) -> Path:
    """A model folder of nnU-Net with briefly trained weights."""
    import torch

    from ranvier.training.imported.networks import PlannedUNet
    from ranvier.training.imported.plans import read_plan

    plan = read_plan(plans, "2d")
    torch.manual_seed(0)
    network = PlannedUNet(plan.architecture)
    train(network, plan, steps)
    (folder / "fold_all").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(plans / name, folder / name)
    content = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "2d"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(content, folder / "fold_all" / "checkpoint_final.pth")
    return folder


def train(network: Any, plan: Any, steps: int) -> None:
    """A few steps on drawn fibres, at a third of the patch's edges."""
    import torch

    from ranvier.datasets.phantom import PhantomSettings, draw

    stride = plan.architecture.total_stride
    shape = tuple(max(2 * s, p // 3 // s * s) for p, s in zip(plan.patch, stride, strict=True))
    drawn = [
        draw(PhantomSettings(shape=(max(shape) + 64,) * 2, look=look, seed=seed))
        for look in ("SEM", "TEM", "BF")
        for seed in range(3)
    ]
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(steps):
        phantom = drawn[step % len(drawn)]
        top, left = (
            int(rng.integers(n - e)) for n, e in zip(phantom.classes.shape, shape, strict=True)
        )
        place = slice(top, top + shape[0]), slice(left, left + shape[1])
        grey = phantom.image.pixels[place].astype(np.float32)
        grey = (grey - grey.min()) / np.ptp(grey)
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            network(torch.from_numpy(grey)[None, None]),
            torch.from_numpy(phantom.classes[place].astype(np.int64))[None],
        )
        loss.backward()
        optimiser.step()
        if step % 5 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss:.3f}", file=sys.stderr, flush=True)
    network.eval()
