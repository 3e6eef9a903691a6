"""Time and memory of measuring fibres, from one image to a mosaic of it: both must stay flat per megapixel.

    python benchmarks/measure.py [AXON_MASK MYELIN_MASK] [--tiles 1 2 4 8]

Each size runs in a process of its own. `measure` is separate + measure on classes in memory; `whole` adds what turns
two masks into classes. The floor is what the memory allows: each pixel of both masks read once and two label images
of four bytes written, at the speed of a plain copy measured in the same process. AxonDeepSeg 5.5.0's CPU times on the
default masks, measured elsewhere, stand beside them for scale.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

AXONDEEPSEG_CPU_S = {1: 3.2, 2: 7.6, 4: 39.0, 8: 347.0}


def demo() -> list[str]:
    data = Path(os.environ.get("RANVIER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = data.parent / "reference" / "morphometrics" / "demo"
    return [str(folder / f"image_seg-{kind}.png") for kind in ("axon", "myelin")]


def copy_bytes_per_s(size: int = 1 << 26) -> float:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * size / best  # read and written


def one(masks: list[str], tiles: int) -> dict[str, float]:
    from PIL import Image

    from ranvier.instances import separate
    from ranvier.masks import classes_from_masks
    from ranvier.morphometrics import measure

    Image.MAX_IMAGE_PIXELS = None
    planes = [np.tile(np.asarray(Image.open(path)), (tiles, tiles)) for path in masks]
    bandwidth = copy_bytes_per_s()
    begin = os.times()
    classes = classes_from_masks(*planes)
    middle = os.times()
    fibres = measure(separate(classes))
    end = os.times()
    megapixels = classes.size / 1e6
    cpu = (end.user + end.system) - (middle.user + middle.system)
    return {
        "tiles": tiles,
        "megapixels": megapixels,
        "fibres": len(fibres),
        "wall_s": end.elapsed - middle.elapsed,
        "cpu_s": cpu,
        "whole_cpu_s": (end.user + end.system) - (begin.user + begin.system),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "floor_s": classes.size * (2 + 2 * 4) / bandwidth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("masks", nargs="*", metavar="MASK")
    parser.add_argument("--tiles", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    masks = chosen.masks or demo()
    if chosen.one:
        print(json.dumps(one(masks, chosen.one)))
        return
    print(
        f"{'tiles':>6} {'MP':>7} {'fibres':>7} {'wall s':>7} {'CPU s':>7} {'wall/MP':>8} {'CPU/MP':>7} "
        f"{'peak MB':>8} {'B/px':>5} {'x floor':>8} {'ADS/CPU':>8} {'ADS/wall':>8}"
    )
    for tiles in chosen.tiles:
        command = [sys.executable, __file__, *masks, "--one", str(tiles)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        r = json.loads(done.stdout)
        ads = AXONDEEPSEG_CPU_S.get(tiles) if not chosen.masks else None
        ratios = [f"{ads / r[k]:8.1f}" if ads else f"{'-':>8}" for k in ("cpu_s", "wall_s")]
        print(
            f"{tiles}x{tiles:<4} {r['megapixels']:7.1f} {r['fibres']:7.0f} {r['wall_s']:7.2f} {r['cpu_s']:7.2f} "
            f"{r['wall_s'] / r['megapixels']:8.3f} {r['cpu_s'] / r['megapixels']:7.3f} {r['peak_mb']:8.0f} "
            f"{r['peak_mb'] * 1.048576 / r['megapixels']:5.0f} {r['wall_s'] / r['floor_s']:8.1f} {' '.join(ratios)}"
        )


if __name__ == "__main__":
    main()
