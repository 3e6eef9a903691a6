"""Imported models: what --fast is worth, and what it costs, beside --faithful and beside nnU-Net itself.

    python benchmarks/imported.py PLACE... [--model DIR | --checkpoint FILE...] [--crop 1200] [--limit 4]
                                  [--held-out] [--torch] [--nnunet [PYTHON]] [--threads N] [--rows FILE.csv]

A PLACE is an image, an annotated dataset, a folder of such datasets, or an aggregate. The model is

- with --model, an imported one, or a folder of nnU-Net, which is imported first;
- with --checkpoint, trained here with the paper's network (recipes/paper.toml) and brought into nnU-Net's form by
  benchmarks/to_nnunet.py; --held-out then leaves out the images that it was trained on;
- else one of the paper's size, made from the plans in --plans and trained for --steps on drawn fibres. Its weights are
  worth nothing: agreement then tells how far the laying of patches matters to a network of that shape, no more.

Every image is shown to each way of running the model, one after the other: ours on OpenVINO, with --torch the faithful
way in PyTorch, with --nnunet nnU-Net's own predictor, in the Python that is named or in this one. Seconds go from grey
levels in memory to classes in memory, with the same number of threads. The table has a part for each source; agreement
and Dice are means over images, patches and seconds are sums. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from imported_model import opened

from ranvier import patchwise
from ranvier._patch_input import as_channels
from ranvier.backends import usable_threads
from ranvier.inference import Model, load_model
from ranvier.reading import read
from ranvier.scoring.choosing import choose_images

PLANS = Path(__file__).parents[2] / "shared" / "reference" / "nnunet"
REFERENCE = "faithful"
NUMBERS = ("patches", "seconds", "same", "axon", "myelin", "true_axon", "true_myelin")
HEAD = """\
| source, images | way | patches | seconds | times as fast | same class | axon | myelin | truth: axon | truth: myelin |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True, eq=False)
class Shot:
    """An image, with its true classes where they are known."""

    source: str
    name: str
    pixels: np.ndarray
    truth: np.ndarray | None = None


Way = Callable[[np.ndarray], tuple[np.ndarray, int | None, float]]
"""Pixels -> classes, patches shown to the network (None: not known), seconds."""


class Counted:
    """A backend that counts the patches it is shown."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.patches = backend, 0

    @property
    def description(self) -> dict[str, str]:
        return self.backend.description

    def logits(self, tiles: np.ndarray) -> np.ndarray:
        self.patches += len(tiles)
        return self.backend.logits(tiles)


def ours(model: Model, window: patchwise.Window, backend: Any = None) -> Way:
    """Our own way, on the model's backend or another."""
    plan = model.bundle.patches
    counted = Counted(backend or model.backend)
    counted.logits(np.zeros((1, len(plan.channels), *plan.patch), np.float32))  # warm

    def run(pixels: np.ndarray) -> tuple[np.ndarray, int, float]:
        counted.patches = 0
        started = time.perf_counter()
        classes, _ = patchwise.predict_patchwise(pixels, counted, plan, window=window)
        return classes, counted.patches, time.perf_counter() - started

    return run


class NnUNet:
    """nnU-Net's own predictor in a process of its own, which waits while others compute."""

    def __init__(self, python: str, folder: Path, model: Model, *, threads: int) -> None:
        self.plan, self.threads = model.bundle.patches, threads
        files = model.bundle.about["training"]["imported"]["files"]
        checkpoint = next(Path(name).name for name in files if name.endswith(".pth"))
        self.home = tempfile.TemporaryDirectory(prefix="nnunet-")
        self.log = (Path(self.home.name) / "log.txt").open("w")
        script = Path(__file__).with_name("nnunet_predictor.py")
        options = ["--checkpoint", checkpoint, "--threads", str(threads), "--folds"]
        self.process = subprocess.Popen(
            [python, str(script), str(folder), *options, *self.plan.folds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": ""},
        )
        self.versions = self._answer()
        self(np.ones(self.plan.patch, np.uint8))  # warm

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.log.flush()
            raise SystemExit("nnU-Net failed:\n" + Path(self.log.name).read_text()[-3000:])
        return json.loads(line)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, None, float]:
        path = Path(self.home.name) / "image.npy"
        np.save(path, as_channels(pixels, self.plan).astype(np.float32))
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        said = self._answer()
        if said["threads"] != self.threads:
            raise SystemExit(f"nnU-Net took {said['threads']} threads and not {self.threads}")
        labels = np.load(path, allow_pickle=False)
        known = {v for values in self.plan.labels.values() for v in values}
        lookup = np.array([self.plan.class_of(v) for v in range(max(known) + 1)], np.uint8)
        return lookup[labels], None, said["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.home.cleanup()


def shots(chosen: argparse.Namespace, model: Model, seen: set[str]) -> Iterator[Shot]:
    """Images of all places, with the truth of those of datasets, but for those that the model was trained on."""
    folders = [place for place in chosen.places if place.is_dir()]
    taken: Counter[str] = Counter()
    for image in choose_images(folders, role="all").images if folders else ():
        if image.name in seen or taken[image.source] == chosen.limit:
            continue
        taken[image.source] += 1
        shot, truth = image.load()
        pixels = shot.pixels
        if model.wants_colour:
            colour = read(image.image, pixel_size=1.0, keep_colour=True).colour
            pixels = pixels if colour is None else colour
        yield Shot(image.source, image.name, cut(pixels, chosen.crop), cut(truth, chosen.crop))
    for path in chosen.places:
        if not path.is_dir():
            shot = read(path, keep_colour=model.wants_colour, pixel_size=1.0)
            pixels = shot.pixels if shot.colour is None else shot.colour
            yield Shot("images", path.name, cut(pixels, chosen.crop))


def cut(pixels: np.ndarray, edge: int | None) -> np.ndarray:
    """The middle of an image, at most so many rows and columns."""
    for axis in (0, 1) if edge else ():
        more = max(0, pixels.shape[axis] - edge)
        pixels = np.moveaxis(np.moveaxis(pixels, axis, 0)[more // 2 :][:edge], 0, axis)
    return np.ascontiguousarray(pixels)


def dice(a: np.ndarray, b: np.ndarray | None, index: int) -> float:
    """NaN where there is nothing to compare."""
    if b is None:
        return float("nan")
    total = np.count_nonzero(a == index) + np.count_nonzero(b == index)
    return 2 * np.count_nonzero((a == index) & (b == index)) / total if total else float("nan")


def compared(shot: Shot, ways: dict[str, Way]) -> list[dict[str, Any]]:
    """One row for each way of running the model on an image; the first is what others are compared with."""
    rows: list[dict[str, Any]] = []
    reference: np.ndarray | None = None
    for name, way in ways.items():
        classes, patches, seconds = way(shot.pixels)
        reference = classes if reference is None else reference
        row = {"source": shot.source, "image": shot.name, "way": name}
        row |= {"rows": classes.shape[0], "columns": classes.shape[1]}
        row |= {
            "patches": patches,
            "seconds": seconds,
            "same": float(np.mean(classes == reference)),
        }
        row |= {key: dice(classes, reference, i) for key, i in (("axon", 2), ("myelin", 1))}
        row |= {
            key: dice(classes, shot.truth, i) for key, i in (("true_axon", 2), ("true_myelin", 1))
        }
        rows.append(row)
        size = f"{row['rows']} x {row['columns']}"
        said = f"{shot.source}/{shot.name} {size}, {name}: {seconds:.1f} s, {row['same']:.2%}"
        print(said, file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a part for each source, and one for all."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    parts = {source: [r for r in rows if r["source"] == source] for source in sources}
    if len(sources) > 1:
        parts["all"] = rows
    lines = [HEAD]
    for source, part in parts.items():
        images = len({(r["source"], r["image"]) for r in part})
        base = sum(r["seconds"] for r in part if r["way"] == REFERENCE)
        for way in dict.fromkeys(r["way"] for r in part):
            own = [r for r in part if r["way"] == way]
            seconds = sum(r["seconds"] for r in own)
            patches = sum(r["patches"] or 0 for r in own) or ""
            same = f"{np.mean([r['same'] for r in own]):.2%}"
            overlaps = [mean([r[key] for r in own]) for key in NUMBERS[3:]]
            first = f"{source}, {images}" if way == REFERENCE else ""
            cells = [
                first,
                way,
                patches,
                f"{seconds:.1f}",
                f"{base / seconds:.2f}",
                same,
                *overlaps,
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def mean(values: list[float]) -> str:
    """Over the images that have the value."""
    known = [v for v in values if not np.isnan(v)]
    return f"{np.mean(known):.4f}" if known else ""


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="+", type=Path, metavar="PLACE")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path)
    model.add_argument("--checkpoint", type=Path, nargs="+")
    parser.add_argument(
        "--patch", type=int, nargs=2, help="with --checkpoint; else that of the training"
    )
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--plans", type=Path, default=PLANS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument(
        "--crop", type=int, help="the middle of each image, at most this many pixels wide and high"
    )
    parser.add_argument("--limit", type=int, help="images of each source")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--nnunet", nargs="?", const=sys.executable, metavar="PYTHON")
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--rows", type=Path, help="a CSV with a row for each image and way")
    chosen = parser.parse_args(arguments)
    if (chosen.held_out or chosen.patch) and not chosen.checkpoint:
        parser.error("--held-out and --patch go with --checkpoint")
    return chosen


def all_ways(model: Model, source: Path | None, chosen: argparse.Namespace) -> dict[str, Way]:
    """Ways of running the model by their names; those of ours come first."""
    ways: dict[str, Way] = {REFERENCE: ours(model, patchwise.FAITHFUL)}
    ways["fast"] = ours(model, patchwise.FAST)
    print(model.backend.description)
    if chosen.torch:
        import torch

        from ranvier.training.imported.convert import rebuilt
        from ranvier.training.network import TorchBackend

        torch.set_num_threads(chosen.threads)
        backend = TorchBackend(rebuilt(model.bundle))
        ways["faithful in PyTorch"] = ours(model, patchwise.FAITHFUL, backend)
        print(backend.description)
    if chosen.nnunet:
        if source is None:
            raise SystemExit("--nnunet needs nnU-Net's own form: --model FOLDER, or --checkpoint")
        predictor = NnUNet(chosen.nnunet, source, model, threads=chosen.threads)
        ways["nnU-Net's predictor"] = predictor
        print(predictor.versions)
    return ways


def main(arguments: list[str] | None = None) -> None:
    """Make or open a model, and compare the ways of running it on each image."""
    chosen = parsed(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder, source, seen = opened(chosen, Path(scratch))
        model = load_model(folder, precision=chosen.precision, threads=chosen.threads)
        plan, training = model.bundle.patches, model.bundle.about["training"]
        print(
            f"{training['parameters']:,} parameters, patch {plan.patch[0]} x {plan.patch[1]}, "
            f"folds {', '.join(plan.folds)}, mirrored along {plan.mirror_axes}; {chosen.threads} thread(s)"
        )
        ways = all_ways(model, source, chosen)
        try:
            taken = shots(chosen, model, seen)
            rows = [row for shot in taken for row in compared(shot, ways)]
        finally:
            for way in ways.values():
                if isinstance(way, NnUNet):
                    way.close()
    if not rows:
        raise SystemExit("no image is left to measure on")
    print("\n".join(table(rows)))
    if chosen.rows:
        with chosen.rows.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
