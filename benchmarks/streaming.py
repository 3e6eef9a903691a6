"""Time, memory and disk of streaming, for images of several sizes.

    python benchmarks/streaming.py [--edges 4000 8000] [--model fake] [--folder DIR] [--keep]

A phantom is drawn once and mirrored out, tile by tile, to a compressed tiled BigTIFF of each size; fibres run on across
the mirrors, and brightness and noise differ from place to place. Each size is segmented in a process of its own. Its
peak resident memory and the peak of what it keeps on disk are printed; the last line says how memory grows with the
image. With ``--model fake``, each pixel is judged by its grey level alone, so that what is timed is everything but the
network; with the name of a model, its int8 graph is run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

TILE = 512
BASE = 1500


def mirrored(base: np.ndarray, top: int, left: int) -> np.ndarray:
    """One tile of the plane that the base is mirrored out to."""
    index = []
    for start, length in ((top, base.shape[0]), (left, base.shape[1])):
        at = np.arange(start, start + TILE) % (2 * length)
        index.append(np.where(at < length, at, 2 * length - 1 - at))
    return np.ascontiguousarray(base[np.ix_(*index)])


def varied(tile: np.ndarray, top: int, left: int, noise: np.ndarray) -> np.ndarray:
    """A tile with a brightness that changes slowly over the image, and noise of its own."""
    rng = np.random.default_rng([top, left])
    down, right = rng.integers(0, noise.shape[0] - TILE, 2)
    row, col = np.arange(top, top + TILE), np.arange(left, left + TILE)
    gain = 1 + 0.06 * np.outer(np.sin(row / 2900), np.cos(col / 2300)).astype(np.float32)
    values = tile * gain + noise[down : down + TILE, right : right + TILE]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def draw_image(path: Path, edge: int, *, base_edge: int, glass: float) -> None:
    """Write an image of edge x edge pixels; a share of it at the bottom is empty glass."""
    import tifffile

    from ranvier.datasets.phantom import PhantomSettings, draw

    base = draw(PhantomSettings(shape=(base_edge, base_edge), look="SEM", seed=1)).image.pixels
    noise = np.random.default_rng(0).normal(0, 2, (2 * TILE, 2 * TILE)).astype(np.float32)
    glass_tile = np.full((TILE, TILE), 210, dtype=np.uint8)
    last = int(edge * (1 - glass))

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, edge, TILE):
            for left in range(0, edge, TILE):
                tile = mirrored(base, top, left) if top < last else glass_tile
                yield varied(tile, top, left, noise)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(edge, edge),
        dtype=np.uint8,
        tile=(TILE, TILE),
        compression="zlib",
        photometric="minisblack",
        ome=True,
        bigtiff=True,
        metadata={"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1},
    )


class GreyBackend:
    """Bright is axon, dark is myelin."""

    description = {"runtime": "fake", "threads": "1"}  # noqa: RUF012

    def logits(self, tiles: np.ndarray) -> np.ndarray:
        """Logits of each pixel from its own grey level."""
        x = tiles[:, 0]
        return np.stack([np.full_like(x, 0.1), -x, x - 0.8], axis=1)


def load(name: str) -> object:
    """The model named, or the one that only looks at grey levels."""
    from ranvier.bundle import Field
    from ranvier.inference import Model, load_model

    if name != "fake":
        return load_model(name, precision="int8")
    bundle = SimpleNamespace(
        name="fake",
        sha256="0" * 64,
        patches=None,
        classical=None,
        field=Field(stride=16, receptive_radius=100, minimum=128),
        normalisation="image-standardisation",
        folder="none",
        about={},
    )
    return Model(bundle, GreyBackend())  # type: ignore[arg-type]


def segment(image: Path, out: Path, model: str) -> None:
    """Segment one image; prints seconds by stage as JSON."""
    from ranvier.inference import InferenceSettings
    from ranvier.jobs import Options
    from ranvier.streaming.running import segment_streamed
    from ranvier.streaming.settings import StreamSettings

    # What looks at grey levels alone knows no scale, and its axons have no sheaths to speak of.
    seeing = (
        InferenceSettings(zoom=1.0).with_every_axon() if model == "fake" else InferenceSettings()
    )
    outcome = segment_streamed(
        image,
        load(model),  # type: ignore[arg-type]
        Options(output=out, existing="overwrite", inference=seeing),
        stream=StreamSettings(when="always"),
    )
    record = json.loads(outcome.outputs[-1].read_text())
    said = {
        "seconds": record["seconds"],
        "fibres": outcome.summary["fibre_count"],
        "notes": outcome.notes,
        "peak_mb": peak_mb(),
    }
    print(json.dumps(said))


def peak_mb() -> float:
    """Peak resident memory of this process, in MB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return (
        next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) * 1024 / 1e6
    )


def held_mb(folder: Path) -> float:
    """Size of all files below a folder, in MB; they may come and go meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total / 1e6


def measured(image: Path, out: Path, model: str) -> tuple[dict[str, Any], float, float]:
    """What a run in a process of its own says, its CPU seconds, and the peak of its files in MB."""
    command = [sys.executable, __file__, "--child", str(image), str(out), model]
    disk, status = 0.0, None
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said)
        while status is None:
            time.sleep(0.5)
            disk = max(disk, held_mb(out))
            done, ended, usage = os.wait4(process.pid, os.WNOHANG)
            status = ended if done else None
        process.returncode = status
        if status:
            raise SystemExit(f"failed on {image}")
        said.seek(0)
        found = json.loads(said.read().strip().splitlines()[-1])
    return found, usage.ru_utime + usage.ru_stime, disk


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", nargs="+", type=int, default=[4000, 8000])
    parser.add_argument("--model", default="fake")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--base", type=int, default=BASE, help="edge of the phantom")
    parser.add_argument("--glass", type=float, default=0.0, help="share of empty glass")
    parser.add_argument("--keep", action="store_true", help="keep the images that were drawn")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        segment(Path(chosen.child[0]), Path(chosen.child[1]), chosen.child[2])
        return
    with tempfile.TemporaryDirectory() as home:
        folder = chosen.folder or Path(home)
        folder.mkdir(parents=True, exist_ok=True)
        print(
            f"{'edge':>7} {'Mpx':>7} {'TIFF MB':>8} {'fibres':>8} {'s/Mpx':>7} {'CPU s/Mpx':>9} "
            f"{'peak MB':>8} {'disk MB':>8}"
        )
        peaks: dict[int, float] = {}
        for edge in chosen.edges:
            image, out = folder / f"drawn_{edge}.ome.tif", folder / f"out_{edge}"
            begun = time.monotonic()
            if not image.exists():
                draw_image(image, edge, base_edge=chosen.base, glass=chosen.glass)
            drawing = time.monotonic() - begun
            found, cpu, disk = measured(image, out, chosen.model)
            megapixels, peaks[edge] = edge * edge / 1e6, found["peak_mb"]
            seconds = sum(found["seconds"].values())
            print(
                f"{edge:7} {megapixels:7.0f} {image.stat().st_size / 1e6:8.0f} {found['fibres']:8} "
                f"{seconds / megapixels:7.3f} {cpu / megapixels:9.3f} {peaks[edge]:8.0f} {disk:8.0f}"
                f"  drawn in {drawing:.0f} s; {found['seconds']}",
                flush=True,
            )
            if not chosen.keep:
                image.unlink()
                shutil.rmtree(out)
        first, last = chosen.edges[0], chosen.edges[-1]
        print(
            f"peak memory at {last} / at {first}: {peaks[last] / peaks[first]:.3f} "
            f"for {(last / first) ** 2:.2f} times the pixels"
        )


if __name__ == "__main__":
    main()
