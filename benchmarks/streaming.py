"""Time and memory of streaming: seconds per megapixel and peak memory for images of several sizes.

    python benchmarks/streaming.py [--edges 4000 8000] [--model fake] [--folder DIR] [--keep]

A phantom is drawn once and mirrored out, window by window, to a compressed tiled BigTIFF of each size; fibres run on
across the mirrors. Each size is segmented in a process of its own, whose peak resident memory is printed: it should
hardly grow with the image. With ``--model fake``, each pixel is judged by its grey level alone, so that what is timed
is everything but the network; with the name of a model, that is run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

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


def draw_image(path: Path, edge: int, *, base_edge: int, glass: float) -> None:
    """Write an image of edge x edge pixels; a share of it at the bottom is empty glass."""
    import tifffile

    from ranvier.datasets.phantom import PhantomSettings, draw

    base = draw(PhantomSettings(shape=(base_edge, base_edge), look="SEM", seed=1)).image.pixels
    noise = np.random.default_rng(0).normal(210, 1.2, (TILE, TILE)).round().astype(np.uint8)
    last = int(edge * (1 - glass))

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, edge, TILE):
            for left in range(0, edge, TILE):
                yield mirrored(base, top, left) if top < last else noise

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
        return load_model(name)
    bundle = SimpleNamespace(
        name="fake",
        sha256="0" * 64,
        patches=None,
        classical=None,
        field=Field(stride=16, receptive_radius=100, minimum=128),
        normalisation="image-standardisation",
        folder="none",
    )
    return Model(bundle, GreyBackend())  # type: ignore[arg-type]


def segment(image: Path, out: Path, model: str) -> None:
    """Segment one image; prints seconds by stage as JSON."""
    from ranvier.jobs import Options
    from ranvier.streaming.running import segment_streamed
    from ranvier.streaming.settings import StreamSettings

    outcome = segment_streamed(
        image,
        load(model),  # type: ignore[arg-type]
        Options(output=out, existing="overwrite"),
        stream=StreamSettings(when="always"),
    )
    record = json.loads(outcome.outputs[-1].read_text())
    fibres = outcome.summary["fibre_count"]
    print(json.dumps({"seconds": record["seconds"], "fibres": fibres, "notes": outcome.notes}))


def measured(image: Path, out: Path, model: str) -> tuple[dict[str, object], float, float]:
    """What a run in a process of its own says, its CPU seconds, and its peak resident memory in MB."""
    command = [sys.executable, __file__, "--child", str(image), str(out), model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        raise SystemExit(f"failed on {image}")
    found = json.loads(said.strip().splitlines()[-1])
    return found, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


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
        print(f"{'edge':>7} {'Mpx':>7} {'fibres':>8} {'s/Mpx':>7} {'CPU s/Mpx':>9} {'peak MB':>8}")
        for edge in chosen.edges:
            image = folder / f"drawn_{edge}.ome.tif"
            if not image.exists():
                draw_image(image, edge, base_edge=chosen.base, glass=chosen.glass)
            found, cpu, peak = measured(image, folder / f"out_{edge}", chosen.model)
            seconds, megapixels = found["seconds"], edge * edge / 1e6
            total = sum(seconds.values())  # type: ignore[attr-defined]
            print(
                f"{edge:7} {megapixels:7.0f} {found['fibres']:8} {total / megapixels:7.3f} "
                f"{cpu / megapixels:9.3f} {peak:8.0f}  {seconds}",
                flush=True,
            )
            if not chosen.keep:
                image.unlink()


if __name__ == "__main__":
    main()
