"""Seconds a megapixel of everything that could segment an image on this CPU, in one run, with peak memory.

    python benchmarks/inference.py [BUNDLE...] [--megapixels 4] [--threads 2] [--candidates] [--chart PNG] [--quick]

Four tables. *Command*: `ranvier segment` from process start to files on disk, cold each time, and its start-up
alone (an image of 64 x 64 pixels). *Network*: classes of the image in memory, of each bundle (the embedded model if
none is given) at each precision and number of views; the first bundle's network in PyTorch; and the published
architecture (7-stage U-Net with instance normalisation, 32 to 512 channels) run as published: patches of 384 x 640,
step 0.5, four mirror images. That has random weights, of which time does not depend, and is timed on a few patches
and multiplied by their number. *OpenVINO's own benchmark_app*: the same graph, tile and threads, and which share of
its throughput the network's line above reaches. With --candidates, *shapes*: other `channels` and `shuffle` of
recipes/compact.toml, with random weights. Every line runs in a process of its own, the best of --rounds counts, and
ratios are to f32 in the same table. Run it on a quiet machine. --quick tries it all on half a megapixel.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PUBLISHED = {"patch": (384, 640), "step": 0.5, "channels": (32, 64, 128, 256, 512, 512, 512)}
VIEWS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
CANDIDATES = (
    (2, (32, 64, 128, 256, 256)),  # as it ships
    (2, (24, 48, 96, 192, 192)),
    (2, (16, 32, 64, 128, 128)),
    (2, (32, 64, 128, 256)),
    (2, (32, 64, 128, 128, 128)),
    (4, (64, 128, 256, 256)),
    (4, (48, 96, 192, 192)),
    (4, (32, 64, 128, 128)),
)
Row = dict[str, Any]


def network(spec: Row) -> float:
    """Seconds of giving every pixel of the image its class; a Ranvier network."""
    from ranvier.backends import OpenVinoBackend
    from ranvier.bundle import Field, open_bundle
    from ranvier.inference import load_model
    from ranvier.reading import from_array
    from ranvier.tilewise import InferenceSettings, predict

    micrograph = from_array(np.load(spec["image"]))
    if spec["kind"] == "graph":
        xml = Path(spec["path"])
        backend = OpenVinoBackend(
            xml.read_bytes(),
            xml.with_suffix(".bin").read_bytes(),
            precision=spec["precision"],
            threads=spec["threads"],
        )
        field = Field(**spec["field"])
    elif spec["kind"] == "torch":
        import torch

        from ranvier.training.network import TorchBackend, make_network
        from ranvier.training.recipe import recipe_from

        torch.set_num_threads(spec["threads"])
        bundle = open_bundle(spec["path"])
        # The weights do not matter to the time.
        module = make_network(recipe_from(bundle.about["training"]["recipe"]).network)
        backend, field = TorchBackend(module.eval()), bundle.field
    else:
        model = load_model(spec["path"], precision=spec["precision"], threads=spec["threads"])
        backend, field = model.backend, model.bundle.field
    settings = InferenceSettings(zoom=1.0, views=spec["views"])
    best = float("inf")
    for _ in range(1 + spec["rounds"]):
        begin = time.perf_counter()
        predict(micrograph, backend, field=field, settings=settings)
        best = min(best, time.perf_counter() - begin)
    return best


def published(spec: Row) -> float:
    """Seconds that the published way would take for the image, from a few patches."""
    import torch

    from ranvier.patchwise import starts
    from ranvier.training.network import make_network
    from ranvier.training.settings import NetworkSettings

    torch.manual_seed(0)
    torch.set_num_threads(spec["threads"])
    shape, patch = np.load(spec["image"], mmap_mode="r").shape, PUBLISHED["patch"]
    patches = np.prod(
        [len(starts(max(n, p), p, PUBLISHED["step"])) for n, p in zip(shape, patch, strict=True)]
    )
    module = make_network(NetworkSettings(kind="plain", channels=PUBLISHED["channels"])).eval()
    seen = np.random.default_rng(0).normal(size=(1, 1, *patch)).astype(np.float32)
    if spec["runtime"] == "openvino":
        run = _published_openvino(module, seen, spec["threads"])
    else:

        def run(tile: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return module(torch.from_numpy(tile)).numpy()

    def views() -> None:
        for down, across in VIEWS:
            run(np.ascontiguousarray(seen[..., ::down, ::across]))[..., ::down, ::across].copy()

    views()
    best = float("inf")
    for _ in range(spec["rounds"]):
        begin = time.perf_counter()
        views()
        best = min(best, time.perf_counter() - begin)
    return best * float(patches)


def _published_openvino(module: Any, seen: np.ndarray, threads: int) -> Any:
    import warnings

    import torch

    from ranvier._openvino import core, openvino

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = openvino().convert_model(
            module, example_input=torch.from_numpy(seen), input=[seen.shape]
        )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda tile: request.infer({0: tile})[0]


def peak_mb() -> float:
    """Peak resident memory of this program alone: what getrusage tells counts who started it, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def child(spec: Row, threads: int) -> Row:
    """Run a line in a process of its own: seconds and peak MB, or why there are none."""
    command = [sys.executable, __file__, "--one", json.dumps({**spec, "threads": threads})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"why": (done.stderr.strip().splitlines() or ["failed"])[-1][:90]}
    return json.loads(done.stdout.splitlines()[-1])


def command(image: Path, precision: str, views: int, threads: int, model: str) -> Row:
    """The whole command: seconds, peak MB, and what is not segmenting."""
    with tempfile.TemporaryDirectory() as out:
        call = ["segment", str(image), "-o", out, "--model", model, "--precision", precision]
        call += ["--views", str(views), "--threads", str(threads)]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "ranvier", *call],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        if status:
            return {"why": f"exit status {os.waitstatus_to_exitcode(status)}"}
        laps = json.loads(next(Path(out).glob("*_run.json")).read_text())["seconds"]
    return {
        "seconds": seconds,
        "peak_mb": usage.ru_maxrss / 1e3,
        "other": 1 - laps["segmenting"] / seconds,
    }


def app(xml: Path, precision: str, tile: tuple[int, int], chosen: argparse.Namespace) -> float:
    """Seconds a tile of OpenVINO's benchmark_app; NaN where it is not installed or fails."""
    call = ["-m", str(xml), "-d", "CPU", "-shape", f"[1,1,{tile[0]},{tile[1]}]", "-hint", "none"]
    call += ["-nstreams", "1", "-nthreads", str(chosen.threads), "-api", "sync"]
    call += ["-t", str(chosen.app_seconds)]
    call += ["-infer_precision", "bf16" if precision == "bf16" else "f32"]
    tool = Path(sys.executable).with_name("benchmark_app")
    if not tool.is_file():
        return float("nan")
    done = subprocess.run([str(tool), *call], capture_output=True, text=True, check=False)
    found = re.search(r"Throughput:\s+([\d.]+)\s+FPS", done.stdout)
    return 1 / float(found[1]) if found else float("nan")


def best_of(rounds: int, run: Any) -> Row:
    results = [run() for _ in range(rounds)]
    good = [r for r in results if "seconds" in r]
    return min(good, key=lambda r: r["seconds"]) if good else results[0]


class Table:
    """Lines printed as they are known."""

    def __init__(self, title: str, megapixels: float) -> None:
        print(f"\n{title}\n{'':50}{'seconds':>9}{'s/Mpx':>8}{'x f32':>7}{'peak MB':>9}", flush=True)
        self._megapixels, self._base, self.rows = megapixels, None, {}

    def add(self, name: str, row: Row, *, base: bool = False, said: str = "") -> None:
        if "why" in row:
            print(f"{name:50} {row['why']}", flush=True)
            return
        rate = row["seconds"] / self._megapixels
        self._base = rate if base else self._base
        times = f"{rate / self._base:7.2f}" if self._base else f"{'-':>7}"
        self.rows[name] = rate
        print(
            f"{name:50}{row['seconds']:9.2f}{rate:8.3f}{times}{row['peak_mb']:9.0f}  {said}",
            flush=True,
        )


def commands(chosen: argparse.Namespace, image: Path, small: Path, size: float) -> Table:
    table = Table("Command, from process start to files on disk", size)
    model = str(chosen.bundles[0])
    for precision in ("f32", "bf16", "int8"):
        for views in (2, 1):

            def run(precision: str = precision, views: int = views, path: Path = image) -> Row:
                return command(path, precision, views, chosen.threads, model)

            row = best_of(chosen.rounds, run)
            said = f"{row['other']:.0%} not segmenting" if "other" in row else ""
            base = (precision, views) == ("f32", 2)
            table.add(f"{precision}, {views} view(s)", row, base=base, said=said)
        start = best_of(
            chosen.rounds, lambda p=precision: command(small, p, 1, chosen.threads, model)
        )
        if "seconds" in start:
            print(
                f"{precision + ', start-up (64 x 64 pixels)':50}{start['seconds']:9.2f}", flush=True
            )
    return table


def networks(chosen: argparse.Namespace, image: Path, size: float) -> Table:
    table = Table("Network, image in memory to classes", size)
    common = {"image": str(image), "rounds": chosen.rounds}
    for number, bundle in enumerate(chosen.bundles):
        for precision in ("f32", "bf16", "int8"):
            for views in (1, 2):
                spec = {"kind": "bundle", "path": str(bundle), "precision": precision}
                row = child({**common, **spec, "views": views}, chosen.threads)
                base = number == 0 and (precision, views) == ("f32", 1)
                table.add(f"{bundle}, {precision}, {views} view(s)", row, base=base)
    if not chosen.no_torch:
        spec = {"kind": "torch", "path": str(chosen.bundles[0]), "views": 1}
        table.add("the same in PyTorch, f32, 1 view", child({**common, **spec}, chosen.threads))
        for runtime, said in (("torch", "PyTorch"), ("openvino", "OpenVINO")):
            spec = {"kind": "published", "runtime": runtime}
            row = child({**common, **spec}, chosen.threads)
            table.add(f"published architecture and way, {said}, f32", row)
    return table


def beside_app(
    chosen: argparse.Namespace, ours: Table, shape: tuple[int, int], size: float
) -> None:
    from ranvier.bundle import open_bundle
    from ranvier.tilewise import InferenceSettings
    from ranvier.tiling import cover, plane_shape

    name = chosen.bundles[0]
    bundle = open_bundle(name)
    field = bundle.field
    plane = plane_shape(shape, field.stride, field.minimum)
    limit = InferenceSettings().max_tile_px
    tiles = cover(plane, stride=field.stride, halo=field.halo, max_read_px=limit)
    shapes = [tile.read.shape for tile in tiles]
    print(f"\nbenchmark_app, tile {shapes[0][0]} x {shapes[0][1]}, {len(tiles)} tiles")
    for precision in ("f32", "bf16", "int8"):
        graph = bundle.about["graphs"].get("int8" if precision == "int8" else "float")
        rate = ours.rows.get(f"{name}, {precision}, 1 view(s)")
        if graph is None or rate is None:
            continue
        seconds = app(bundle.folder / graph, precision, shapes[0], chosen)
        whole = seconds * sum(a * b for a, b in shapes) / (shapes[0][0] * shapes[0][1])
        print(
            f"{precision:6} {seconds:7.3f} s a tile, {whole / size:.3f} s/Mpx of the image; "
            f"ours reaches {whole / (rate * size):.0%} of its throughput",
            flush=True,
        )


def shaped(
    settings: Any, image: Path, folder: Path, *, rounds: int
) -> tuple[int, int, dict[str, Row]]:
    """Weights and halo of a network of a shape, and by precision what :func:`child` times; the weights are random."""
    import torch

    from ranvier.datasets.phantom import PhantomSettings, draw
    from ranvier.preprocess import normalise, statistics
    from ranvier.training.graphs import GRAPHS, write_graphs
    from ranvier.training.network import field_of, make_network

    drawn = draw(PhantomSettings(shape=(256, 256), look="SEM", seed=1)).image.pixels
    tile = normalise(drawn, statistics(drawn))[None, None]
    torch.manual_seed(0)
    module, field = make_network(settings).eval(), field_of(settings)
    place = folder / f"{settings.shuffle}-{'-'.join(map(str, settings.channels))}"
    place.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF's progress bars
        write_graphs(module, [tile], place)
    specs = {
        precision: {
            "kind": "graph",
            "path": str(place / GRAPHS[kind]),
            "precision": precision,
            "views": 1,
            "field": {"stride": field.stride, "receptive_radius": field.receptive_radius},
            "image": str(image),
            "rounds": rounds,
        }
        for precision, kind in (("f32", "float"), ("bf16", "float"), ("int8", "int8"))
    }
    return sum(p.numel() for p in module.parameters()), field.halo, specs


def candidates(chosen: argparse.Namespace, image: Path, size: float, folder: Path) -> None:
    from ranvier.training.settings import NetworkSettings

    table = Table("Shapes (random weights, 1 view; halo as each needs)", size)
    for shuffle, channels in CANDIDATES:
        settings = NetworkSettings(shuffle=shuffle, channels=channels)
        count, halo, specs = shaped(settings, image, folder, rounds=chosen.rounds)
        for precision, spec in specs.items():
            said = f"{count / 1e6:.2f} M weights, halo {halo}"
            base = precision == "f32" and (shuffle, channels) == CANDIDATES[0]
            row = child(spec, chosen.threads)
            table.add(
                f"shuffle {shuffle}, {list(channels)}, {precision}", row, base=base, said=said
            )


def chart(tables: tuple[Table, ...], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {
        f"{title}{name}": rate
        for title, t in zip(("command: ", ""), tables, strict=True)
        for name, rate in t.rows.items()
    }
    figure, axis = pyplot.subplots(figsize=(9, 1 + 0.3 * len(rows)), layout="constrained")
    places = np.arange(len(rows))[::-1]
    colours = [
        "#1f4e79" if name.startswith("command") else "#c55a11" if "published" in name else "#7a9cc6"
        for name in rows
    ]
    axis.scatter(list(rows.values()), places, c=colours, s=40, zorder=3)
    axis.grid(axis="both", alpha=0.3)
    for place, rate in zip(places, rows.values(), strict=True):
        axis.text(rate * 1.12, place, f"{rate:.3g}", va="center", fontsize=8)
    axis.set_yticks(places, list(rows), fontsize=8)
    axis.set_xscale("log")
    axis.set_xlabel("seconds per megapixel")
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", default=["generalist"], metavar="BUNDLE")
    parser.add_argument("--image", type=Path, help="instead of a phantom; mirrored out to the size")
    parser.add_argument("--megapixels", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--app-seconds", type=int, default=10)
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--chart", type=Path, metavar="PNG")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        spec = json.loads(chosen.one)
        seconds = published(spec) if spec["kind"] == "published" else network(spec)
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}))
        return
    if chosen.quick:
        chosen.megapixels, chosen.rounds, chosen.app_seconds = 0.5, 1, 1
    measured(chosen)


def measured(chosen: argparse.Namespace) -> None:
    from PIL import Image
    from segment import enlarged

    from ranvier.datasets.phantom import PhantomSettings, draw
    from ranvier.reading import read

    if chosen.image is None:
        pixels = draw(PhantomSettings(shape=(1000, 1000), look="SEM", seed=0)).image.pixels
    else:
        pixels = read(chosen.image).pixels
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = enlarged(pixels, chosen.megapixels)
        size = whole.size / 1e6
        np.save(folder / "image.npy", whole)
        Image.fromarray(whole).save(folder / "image.png")
        Image.fromarray(whole[:64, :64]).save(folder / "small.png")
        print(f"{whole.shape[0]} x {whole.shape[1]} pixels, {chosen.threads} threads")
        first = commands(chosen, folder / "image.png", folder / "small.png", size)
        second = networks(chosen, folder / "image.npy", size)
        beside_app(chosen, second, whole.shape, size)
        if chosen.candidates:
            candidates(chosen, folder / "image.npy", size, folder)
    if chosen.chart:
        chart((first, second), chosen.chart)


if __name__ == "__main__":
    main()
