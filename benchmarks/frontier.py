"""Dice against time of networks of several shapes, taught by the same teachers.

    ranvier distil RUN -o runs/frontier/NAME --recipe compact --cross-validate --set network.channels=[...] \\
        --set network.shuffle=N
    python benchmarks/frontier.py runs/frontier/* [--chart PNG] [--megapixels 4] [--threads 2]

Each folder was made by ``ranvier distil --cross-validate``: its students were scored on whole images whose subjects
neither they nor their teachers saw. Time is that of the network, image in memory to classes, one view, each line in a
process of its own, the best of --rounds. Of folders of one shape (other folds), the mean over all images of a source
is taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from inference import child, shaped
from segment import enlarged

Shape = tuple[int, tuple[int, ...]]


def students(folders: list[Path]) -> dict[Shape, list[dict[str, Any]]]:
    """By shape of the network: each fold's checkpoint facts."""
    from ranvier.training.checkpoint import load_checkpoint

    found: dict[Shape, list[dict[str, Any]]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.glob("fold-*/best.safetensors")):
            about = load_checkpoint(path).about
            network = about["recipe"]["network"]
            shape = (network["shuffle"], tuple(network["channels"]))
            found[shape].append({"path": path, **about})
    return dict(found)


def dice(runs: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Axon and myelin by source, a mean over folds by their numbers of images."""
    sums: dict[str, list[np.ndarray]] = defaultdict(list)
    for run in runs:
        for source, score in run["scores"].items():
            count = sum(name.startswith(f"{source}/") for name in run["images"]["validation"])
            pair = np.array([score["dice_axon"], score["dice_myelin"]])
            sums[source] += [pair] * count
    return {source: tuple(np.mean(pairs, axis=0)) for source, pairs in sorted(sums.items())}


def seconds(shape: Shape, image: Path, folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each precision, with random weights, of which time does not depend."""
    from ranvier.training.settings import NetworkSettings

    settings = NetworkSettings(shuffle=shape[0], channels=shape[1])
    weights, _, specs = shaped(settings, image, folder, rounds=chosen.rounds)
    times = {p: child(s, chosen.threads).get("seconds", float("nan")) for p, s in specs.items()}
    return {"weights": weights, **times}


def chart(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sources = sorted({source for row in rows for source in row["dice"]})
    figure, axes = pyplot.subplots(
        1, len(sources), figsize=(4 * len(sources), 4), layout="constrained", squeeze=False
    )
    for axis, source in zip(axes[0], sources, strict=True):
        for place, (name, colour) in enumerate((("axon", "#1f4e79"), ("myelin", "#c55a11"))):
            at = [row["int8"] for row in rows]
            axis.scatter(at, [row["dice"][source][place] for row in rows], c=colour, label=name)
        for letter, row in zip("ABCDEFGHIJKL", rows, strict=False):
            at = (row["int8"], max(row["dice"][source]))
            axis.annotate(letter, at, xytext=(0, 5), textcoords="offset points", ha="center")
        axis.set_title(source)
        axis.set_xlabel("int8 network, seconds per megapixel")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(0.15)
    axes[0, 0].set_ylabel("Dice, cross-validated")
    axes[0, 0].legend(frameon=False)
    shapes = [f"{letter} {row['name']}" for letter, row in zip("ABCDEFGHIJKL", rows, strict=False)]
    figure.supxlabel("     ".join(shapes), fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--megapixels", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chart", type=Path, metavar="PNG")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    from ranvier.datasets.phantom import PhantomSettings, draw

    drawn = draw(PhantomSettings(shape=(1000, 1000), look="SEM", seed=0)).image.pixels
    whole, rows = enlarged(drawn, chosen.megapixels), []
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.npy"
        np.save(image, whole)
        for shape, runs in sorted(students(chosen.folders).items()):
            row = seconds(shape, image, Path(scratch), chosen)
            rate = {p: row[p] / (whole.size / 1e6) for p in ("f32", "bf16", "int8")}
            name = f"{shape[0]}: {'-'.join(map(str, shape[1]))}"
            rows.append({"name": name, "weights": row["weights"], **rate, "dice": dice(runs)})
    rows.sort(key=lambda row: -row["weights"])
    sources = sorted({source for row in rows for source in row["dice"]})
    print(f"| shuffle: channels | million weights | f32 | bf16 | int8 | {' | '.join(sources)} |")
    print("|" + " --- |" * (5 + len(sources)))
    for row in rows:
        times = " | ".join(f"{row[p]:.3f}" for p in ("f32", "bf16", "int8"))
        scores = " | ".join("{:.3f} / {:.3f}".format(*row["dice"][s]) for s in sources)
        print(f"| {row['name']} | {row['weights'] / 1e6:.2f} | {times} | {scores} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))
    if chosen.chart:
        chart(rows, chosen.chart)


if __name__ == "__main__":
    main()
