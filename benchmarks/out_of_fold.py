"""How well the networks of several folds do on what each held out, as users run them, and how far they can be believed.

    python benchmarks/out_of_fold.py RUN -o OUT [--students DIR] [--precision int8] [--zoom auto]

RUN is from `ranvier train --fold each`; DIR from `ranvier distil RUN --cross-validate`, whose networks are then judged
instead. Each network becomes a bundle, OUT/fold-k, its logits divided by the temperature that is fitted on what all
networks say of the pixels that they held out. Each image is segmented by the bundle whose network did not see its
subject, with everything at its default, and measured. Printed, and written to OUT/scores.json: Dice, detection of axons
(F1 at IoU 0.5), biases of diameter and g-ratio on matched fibres, calibration of probabilities, and, by confidence and
by flag, the share of fibres that are wrong: whose axon overlaps with no true one by an IoU of 0.5. OUT/pictures gets an
overlay of each image and OUT/NAME.npy its classes. They are of micrographs: they belong to whoever holds the data.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ranvier import load_model, segment
from ranvier.apps.cli_distil import teachers
from ranvier.assessment import Assessment, assess, measured
from ranvier.datasets.annotated import Annotated
from ranvier.figures import FLAGS
from ranvier.inference import InferenceSettings, Model
from ranvier.matching import match, overlaps
from ranvier.micrograph import Fibres
from ranvier.scoring.error_pictures import error_png
from ranvier.segmentations import measure_segmentation
from ranvier.training.cross_validation import fold_folder
from ranvier.training.ensemble import Fold
from ranvier.training.export import ExportSettings, product, write_bundle
from ranvier.training.teacher import file_hash
from ranvier.training.temperature import calibrate, judge, reliability, tempered

BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Row = dict[str, Any]


def folds_of(run: Path, students: Path | None) -> list[Fold]:
    """The trainings, or those of their students, with what each held out."""
    folds, _ = teachers(run)
    if students is None:
        return list(folds)
    places = {f.number: fold_folder(students, f.number) / "best.safetensors" for f in folds}
    return [replace(f, checkpoint=places[f.number]) for f in folds if places[f.number].is_file()]


def export(fold: Fold, folder: Path, temperature: float, *, int8: bool) -> Path:
    """The bundle of one network; one that is there is taken if it is of the same network, temperature and precision."""
    place = folder / f"fold-{fold.number}"
    made_of = folder / f"fold-{fold.number}.json"
    about = {"network": file_hash(fold.checkpoint), "temperature": temperature, "int8": int8}
    if not place.exists():
        made = product(fold.checkpoint, fold.split)
        made = replace(made, network=tempered(made.network, temperature))
        write_bundle(made, place, name=place.name, settings=ExportSettings(int8=int8))
        made_of.write_text(json.dumps(about))
    elif not made_of.is_file() or json.loads(made_of.read_text()) != about:
        raise SystemExit(f"{place} is of another network or precision. Give another -o")
    return place


def judged(
    image: Annotated, model: Model, zoom: Any, folder: Path
) -> tuple[Row, Assessment, list[Row]]:
    """Figures of an image, and of each fibre in it whether it is right and what is said of it."""
    loaded = image.load_noted()
    found = segment(loaded.micrograph, model, settings=InferenceSettings(zoom=zoom))
    np.save(folder / f"{image.source}_{image.name}.npy", found.classes)
    true = measured(loaded.classes)
    told = assess(found.classes, loaded.classes, fibres=true)
    figures = told.figures()
    about = found.provenance["zoom"]
    row = {
        "source": image.source,
        "image": image.name,
        "zoom": about["chosen"],
        "best_score": about.get("best_score"),
        "unlike_training": about.get("unlike_training"),
        **{name: float(value) for name, value in figures.items()},
    }
    dice = ", ".join(f"{c} {row[f'dice_{c}']:.3f}" for c in ("axon", "myelin"))
    text = f"{image.source} {image.name}: {dice}, zoom {row['zoom']:.2f}"
    (folder / "pictures").mkdir(exist_ok=True)
    picture = error_png(loaded.micrograph, found.classes, loaded.classes, lines=[text])
    (folder / "pictures" / f"{image.source}_{image.name}.png").write_bytes(picture)
    print(text, f"F1 {row['axon_f1_50']:.3f}", flush=True)
    fibres = measure_segmentation(replace(found, pixel_size=None))
    return row, told, list(fibre_rows(image, fibres, true))


def fibre_rows(image: Annotated, fibres: Fibres, true: Fibres) -> Any:
    """Of each fibre: its confidence, its flags, and whether its axon is a true one."""
    pairs = overlaps(
        fibres.instances.axons,
        true.instances.axons,
        n_predicted=fibres.instances.count,
        n_truth=true.instances.count,
    )
    right = np.zeros(fibres.instances.count, bool)
    right[match(pairs, 0.5).predicted - 1] = True
    table = fibres.table
    for k in range(fibres.instances.count):
        yield {
            "source": image.source,
            "right": bool(right[k]),
            "confidence": float(table["confidence"][k]),
            "border": bool(table["touches_border"][k]),
            **{flag: bool(table[flag][k]) for flag in FLAGS},
        }


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|")


def header(*cells: str) -> None:
    """Print the head of a table."""
    print()
    line(*cells)
    line(*["---"] * len(cells))


def tell_sources(rows: list[Row], pooled: dict[str, Assessment]) -> None:
    """A row for each source: Dice as means over images, all else of the fibres of all its images."""
    header(
        "source", "images", "axon", "myelin", "axon F1", "precision", "recall",
        "diameter bias (px)", "g-ratio bias", "matched fibres",
    )  # fmt: skip
    for source, told in sorted(pooled.items()):
        mine, all_ = [r for r in rows if r["source"] == source], told.figures()
        dice = [f"{np.nanmean([r[f'dice_{c}'] for r in mine]):.3f}" for c in ("axon", "myelin")]
        line(
            source,
            len(mine),
            *dice,
            *(f"{all_[f'axon_{k}_50']:.3f}" for k in ("f1", "precision", "recall")),
            f"{all_['axon_diameter_px_bias']:+.2f}",
            f"{all_['g_ratio_bias']:+.4f}",
            int(all_["g_ratio_n"]),
        )


def tell_fibres(fibres: list[Row]) -> None:
    """Which share of fibres is wrong, by confidence and by flag; fibres that the border cuts are left out."""
    inner = [f for f in fibres if not f["border"]]

    def told(name: str, some: list[Row]) -> None:
        if some:
            wrong = sum(not f["right"] for f in some)
            line(name, len(some), f"{len(some) / len(inner):.1%}", f"{wrong / len(some):.1%}")

    header("fibres", "number", "share of all", "of these wrong")
    told("all", inner)
    for low, high in itertools.pairwise(BINS):
        told(
            f"confidence {low:.1f} to {high:.1f}",
            [f for f in inner if low <= f["confidence"] < high or f["confidence"] == high == 1],
        )
    for flag in FLAGS:
        told(flag, [f for f in inner if f[flag]])
    told("any flag", [f for f in inner if any(f[flag] for flag in FLAGS)])
    told("no flag", [f for f in inner if not any(f[flag] for flag in FLAGS)])


def draw(judged_pixels: Any, temperature: float, path: Path) -> None:
    """The reliability diagram, without and with the temperature."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (axes, shares) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for t, name, colour in (
        (1.0, "as trained", "#d55e00"),
        (temperature, "with the temperature", "#0072b2"),
    ):
        found = reliability(judged_pixels, t)
        seen = found.share > 1e-4
        label = f"{name} ({found.error:.3f})"
        axes.plot(found.said[seen], found.true[seen], "o-", color=colour, label=label, markersize=4)
        shares.step(np.linspace(1 / 3, 1, len(found.share)), found.share, color=colour, where="mid")
    axes.plot([1 / 3, 1], [1 / 3, 1], color="0.6", linewidth=1)
    axes.set(xlabel="probability of the likeliest class", ylabel="share of pixels where it is true")
    axes.legend(title="expected calibration error", frameon=False)
    shares.set(xlabel="probability of the likeliest class", ylabel="share of pixels", yscale="log")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--students", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--zoom", default="auto")
    args = parser.parse_args()
    folds = folds_of(args.run, args.students)
    args.output.mkdir(parents=True, exist_ok=True)
    pixels = judge(folds)
    found = calibrate(pixels)
    print(found)
    draw(pixels, found.temperature, args.output / "reliability.png")
    rows: list[Row] = []
    fibres: list[Row] = []
    pooled: dict[str, Assessment] = {}
    for fold in folds:
        place = export(fold, args.output, found.temperature, int8=args.precision == "int8")
        model = load_model(place, precision=args.precision)
        zoom = "auto" if args.zoom == "auto" else float(args.zoom)
        for image in fold.split.validation:
            row, told, some = judged(image, model, zoom, args.output)
            rows.append({"fold": fold.number, **row})
            fibres += some
            mine = pooled.get(image.source)
            pooled[image.source] = told if mine is None else mine + told
    tell_sources(rows, pooled)
    tell_fibres(fibres)
    record = {"calibration": found.as_dict(), "images": rows, "fibres": fibres}
    (args.output / "scores.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
