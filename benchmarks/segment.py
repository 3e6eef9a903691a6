"""Time and memory of the whole command, from process start to files on disk.

    python benchmarks/segment.py [IMAGE] [--megapixels 1 4 9] [--precision f32 bf16 int8]

Without IMAGE a phantom is drawn. It is mirrored out to each size. Every figure of a run is taken side by side, and
ratios to f32 at the same size are printed, because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def enlarged(pixels: np.ndarray, megapixels: float) -> np.ndarray:
    """Mirror an image out to a square of so many megapixels."""
    edge = round((megapixels * 1e6) ** 0.5)
    return np.pad(pixels, [(0, max(0, edge - n)) for n in pixels.shape], mode="symmetric")[
        :edge, :edge
    ]


def command(image: Path, out: Path, precision: str) -> tuple[float, float]:
    """Run the command: seconds of wall time, peak resident memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ranvier",
            "segment",
            str(image),
            "-o",
            str(out),
            "--precision",
            precision,
        ],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed on {image} at {precision}")
    return time.perf_counter() - started, usage.ru_maxrss / 1e3


def main() -> None:
    """Print one line for each size and precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--megapixels", nargs="+", type=float, default=[1, 4, 9])
    parser.add_argument("--precision", nargs="+", default=["f32", "bf16", "int8"])
    chosen = parser.parse_args()
    if chosen.image is None:
        from ranvier.datasets.phantom import PhantomSettings, draw

        pixels = draw(PhantomSettings(shape=(1000, 1000), look="SEM", seed=0)).image.pixels
    else:
        from ranvier.reading import read

        pixels = read(chosen.image).pixels
    print("megapixels  precision  seconds  s/megapixel  times f32  peak MB")
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen.megapixels:
            image = Path(folder) / f"{size:g}.png"
            Image.fromarray(enlarged(pixels, size)).save(image)
            base = None
            for precision in chosen.precision:
                seconds, memory = command(image, Path(folder) / f"{size:g}-{precision}", precision)
                base = base or seconds
                print(
                    f"{size:10g}  {precision:>9}  {seconds:7.2f}  {seconds / size:11.2f}"
                    f"  {seconds / base:9.2f}  {memory:7.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
