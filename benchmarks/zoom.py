"""How well `--zoom auto` copes with images at other scales than they were taken at.

    python benchmarks/zoom.py AGG --bundles FOLDER -o zoom.json [--per-source 2] [--crop 512]
    python benchmarks/zoom.py DATASET --model MODEL -o zoom.json

AGG is an aggregate with folds, and FOLDER holds a bundle fold-k for each: each image is judged by the network whose
fold held it out. With --model, all images of a dataset are shown to one model; that is no score where it was trained
on them.

A crop of each image is resampled (area means when shrinking, cubic when growing; the truth by the majority of area, or
the nearest pixel), and the whole pipeline is run on the file, which says no pixel size, at zoom auto and zoom 1. Dice
is that of all pixels of the resampled truth. Extra time is the processor time of choosing the zoom over that of the
rest of the run. `docs/make_zoom.py` makes tables and a chart of what this writes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ranvier import load_model, read
from ranvier.datasets.annotated import Annotated
from ranvier.evaluation import confusion, scores
from ranvier.inference import InferenceSettings, Model
from ranvier.jobs import Options
from ranvier.masks import classes_from_mask
from ranvier.pipeline import segment_file
from ranvier.scoring.choosing import choose_images
from ranvier.zooming import choose_zoom, trained_axon_px

CELLS = 3
CLASSES = ("axon", "myelin")


def crop(image: Annotated, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop with the most fibre among nine that are spread over an image, and its truth."""
    loaded = image.load_noted()
    pixels, truth = loaded.micrograph.pixels, loaded.classes
    high, wide = (min(edge, n) for n in truth.shape)
    steps = [(i, j) for i in range(CELLS) for j in range(CELLS)]
    boxes = [
        np.s_[top : top + high, left : left + wide]
        for top, left in (
            ((truth.shape[0] - high) * i // (CELLS - 1), (truth.shape[1] - wide) * j // (CELLS - 1))
            for i, j in steps
        )
    ]
    box = max(boxes, key=lambda b: float((truth[b] > 0).mean()))
    return pixels[box], truth[box]


def resampled(pixels: np.ndarray, truth: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """An image and its truth as a microscope of another magnification might have taken them."""
    low, high = np.percentile(pixels, [0, 100])
    grey = (pixels.astype(np.float32) - low) * np.float32(255 / max(high - low, 1))
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    seen = np.asarray(Image.fromarray(grey).resize(size, how)).clip(0, 255)
    if scale < 1:
        shares = [
            np.asarray(Image.fromarray((truth == c).astype(np.float32)).resize(size, how))
            for c in range(3)
        ]
        classes = np.argmax(shares, axis=0).astype(np.uint8)
    else:
        classes = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
    return np.rint(seen).astype(np.uint8), classes


def run(path: Path, model: Model, zoom: Any, folder: Path) -> tuple[np.ndarray, dict, float]:
    """Classes, record and processor seconds of one run of the whole pipeline."""
    options = Options(
        output=folder,
        inference=InferenceSettings(zoom=zoom).with_every_axon(),
        existing="overwrite",
    )
    begun = time.process_time()
    segment_file(path, model, options)
    spent = time.process_time() - begun
    record = json.loads((folder / f"{path.stem}_run.json").read_text())
    mask = read(folder / f"{path.stem}_seg-axonmyelin.png", pixel_size=1.0)
    return classes_from_mask(mask.pixels), record, spent


def judged(image: Annotated, model: Model, scale: float, edge: int) -> dict[str, Any]:
    """One row: an image at a scale."""
    pixels, truth = resampled(*crop(image, edge), scale)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "image.png"
        Image.fromarray(pixels).save(path)
        begun = time.process_time()
        choose_zoom(
            pixels,
            model.looker,
            field=model.bundle.field,
            settings=InferenceSettings(),
            normalisation=model.bundle.normalisation,
            axon_px=trained_axon_px(model.bundle.about),
        )
        looking = time.process_time() - begun
        auto, record, spent = run(path, model, "auto", Path(home) / "auto")
        chosen = record["zoom"]["chosen"]
        plain, _, at_1 = (
            (auto, None, spent) if chosen == 1 else run(path, model, 1.0, Path(home) / "1")
        )
    row: dict[str, Any] = {
        "source": image.source,
        "image": image.name,
        "scale": scale,
        "shape": list(truth.shape),
        "zoom": chosen,
        "best_score": record["zoom"]["best_score"],
        "shown_px": record["zoom"]["shown_px"],
        "seconds_looking": looking,
        "seconds": spent,
        "seconds_zoom_1": at_1 - looking if chosen == 1 else at_1,
    }
    for name, found in (("auto", auto), ("zoom_1", plain)):
        dice = scores(confusion(found, truth))
        row |= {f"{name}_{c}": dice[f"dice_{c}"] for c in CLASSES}
    return row


def chosen_images(args: argparse.Namespace) -> list[tuple[Annotated, Path | str]]:
    """Images, each with the bundle that may judge it."""
    found: list[tuple[Annotated, Path | str]] = []
    if args.model:
        images = choose_images([args.dataset], role="all", fold=None).images
        found = [(image, args.model) for image in images]
    else:
        for bundle in sorted(p for p in args.bundles.glob("fold-*") if p.is_dir()):
            if args.folds and int(bundle.name[5:]) not in args.folds:
                continue
            held = choose_images([args.dataset], role=None, fold=int(bundle.name[5:])).images
            found += [(image, bundle) for image in held]
    if args.images:
        return [one for one in found if one[0].name in args.images]
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for image, bundle in found:
        taken[image.source] += 1
        if taken[image.source] <= args.per_source:
            kept.append((image, bundle))
    return kept


def main() -> None:
    """Judge, write after each row, and go on from what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--bundles", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--folds", type=lambda t: [int(v) for v in t.split(",")])
    parser.add_argument("--images", nargs="*")
    parser.add_argument("--per-source", type=int, default=2)
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--scales", default="0.25,0.5,1,2,4,8")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    if (args.model is None) == (args.bundles is None):
        parser.error("give --bundles or --model")
    rows = json.loads(args.output.read_text()) if args.output.is_file() else []
    known = {(r["source"], r["image"], r["scale"]) for r in rows}
    models: dict[str, Model] = {}
    for image, bundle in chosen_images(args):
        model = models.setdefault(str(bundle), load_model(bundle, threads=args.threads))
        for scale in (float(s) for s in args.scales.split(",")):
            if (image.source, image.name, scale) in known:
                continue
            row = judged(image, model, scale, args.crop)
            rows.append(row)
            args.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(
                f"{row['source']}/{row['image']} scale {scale:g}: zoom {row['zoom']:.3g}, Dice "
                f"{row['auto_axon']:.3f} / {row['auto_myelin']:.3f}, at zoom 1 {row['zoom_1_axon']:.3f} / "
                f"{row['zoom_1_myelin']:.3f}, looking {row['seconds_looking']:.2f} of {row['seconds']:.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
