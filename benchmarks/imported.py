"""Imported models: what --fast is worth, and what it costs, beside --faithful.

    python benchmarks/imported.py IMAGE... [--plans FOLDER] [--steps 60] [--model DIR] [--torch]

Without --model, a network of the paper's size is made from the plans in FOLDER (plans.json and dataset.json of nnU-Net;
the default is the published generalist's, where it lies beside the checkout), trained for a few steps on drawn fibres,
saved as nnU-Net saves, and imported. Its weights are worth nothing: agreement between --fast and --faithful tells how
far the laying of patches matters to a network of that shape, not how good a model is. With --model, an imported one is
taken. --torch also times the faithful way in PyTorch, which is what nnU-Net's own predictor computes on a CPU.

Run it on a quiet machine; ratios are taken side by side.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from ranvier import patchwise
from ranvier.backends import usable_threads
from ranvier.inference import load_model
from ranvier.micrograph import CLASS_NAMES
from ranvier.reading import read

PLANS = Path(__file__).parents[2] / "shared" / "reference" / "nnunet"


class Counted:
    """A backend that counts the patches it is shown."""

    def __init__(self, backend) -> None:
        self.backend, self.patches = backend, 0

    @property
    def description(self) -> dict[str, str]:
        return self.backend.description

    def logits(self, tiles):
        self.patches += len(tiles)
        return self.backend.logits(tiles)


def made(plans: Path, folder: Path, steps: int) -> Path:
    """A model folder of nnU-Net with briefly trained weights; its bundle."""
    import torch

    from ranvier.training.imported.convert import import_nnunet
    from ranvier.training.imported.networks import PlannedUNet
    from ranvier.training.imported.plans import read_plan

    plan = read_plan(plans, "2d")
    torch.manual_seed(0)
    network = PlannedUNet(plan.architecture)
    train(network, plan, steps)
    source = folder / "nnunet"
    (source / "fold_all").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(plans / name, source / name)
    content = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "2d"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(content, source / "fold_all" / "checkpoint_final.pth")
    import_nnunet(source, folder / "bundle", name="benchmark")
    return folder / "bundle"


def train(network, plan, steps: int) -> None:
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
    started = time.perf_counter()
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
            print(
                f"step {step}: loss {loss:.3f}, {time.perf_counter() - started:.0f} s", flush=True
            )
    network.eval()


def dice(a: np.ndarray, b: np.ndarray, index: int) -> float:
    total = np.count_nonzero(a == index) + np.count_nonzero(b == index)
    return 2 * np.count_nonzero((a == index) & (b == index)) / total if total else float("nan")


def compare(path: Path, model, *, torch_too: bool) -> None:
    """One line for each way of running the model on an image."""
    plan = model.bundle.patches
    shot = read(path, keep_colour=model.wants_colour)
    pixels = shot.pixels if shot.colour is None else shot.colour
    ways = {
        "faithful": (patchwise.FAITHFUL, model.backend),
        "fast": (patchwise.FAST, model.backend),
    }
    if torch_too:
        from ranvier.training.imported.convert import rebuilt
        from ranvier.training.network import TorchBackend

        ways["faithful, PyTorch"] = (patchwise.FAITHFUL, TorchBackend(rebuilt(model.bundle)))
    model.backend.logits(np.zeros((1, len(plan.channels), *plan.patch), np.float32))  # warm
    reference, seconds = None, {}
    for name, (window, backend) in ways.items():
        counted = Counted(backend)
        started = time.perf_counter()
        classes, _ = patchwise.predict_patchwise(pixels, counted, plan, window=window)
        seconds[name] = time.perf_counter() - started
        reference = classes if reference is None else reference
        same = np.mean(classes == reference)
        overlap = ", ".join(
            f"Dice {CLASS_NAMES[i]} {dice(classes, reference, i):.4f}" for i in (2, 1)
        )
        print(
            f"{path.name} {shot.shape[0]} x {shot.shape[1]}, {name}: {counted.patches} patches, "
            f"{seconds[name]:.1f} s, {seconds['faithful'] / seconds[name]:.1f} times as fast as faithful; "
            f"same class on {same:.2%} of pixels, {overlap}",
            flush=True,
        )


def main() -> None:
    """Make or open a model, and compare the ways of running it on each image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--plans", type=Path, default=PLANS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--threads", type=int, default=usable_threads())
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.model or made(chosen.plans, Path(scratch), chosen.steps)
        model = load_model(folder, precision=chosen.precision, threads=chosen.threads)
        size = sum(f["bytes"] for f in model.bundle.about["files"].values()) / 1e6
        print(f"{model.bundle.about['training']['parameters']:,} parameters, bundle {size:.0f} MB")
        for path in chosen.images:
            compare(path, model, torch_too=chosen.torch)


if __name__ == "__main__":
    main()
