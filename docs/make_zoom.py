"""The tables and the chart of docs/results/zoom.md, from what benchmarks/zoom.py wrote.

    python benchmarks/zoom.py AGG --bundles FOLDER -o zoom.json
    python benchmarks/zoom.py AGG --bundles FOLDER --per-source 99 --crop 9999 -o whole.json
    python docs/make_zoom.py zoom.json [whole.json ...]

Prints Markdown; writes docs/results/zoom.png of the first file. The chart holds no pixel of a micrograph. Of whole
images each is a row: what auto makes of it, less what zoom 1 makes of it.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "results"
CLASSES = ("axon", "myelin")
COLOURS = {"axon": "#0072b2", "myelin": "#d55e00"}
TOLERANCE = 0.03
Row = dict[str, Any]


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|")


def header(*cells: str) -> None:
    """Print the head of a table."""
    line(*cells)
    line(*["---"] * len(cells))


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple, list[Row]]:
    """Rows by some of their values."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[k] for k in keys)].append(row)
    return dict(sorted(found.items()))


def mean(rows: Iterable[Row], value: Callable[[Row], float] | str) -> float:
    """Mean over rows."""
    return float(np.mean([row[value] if isinstance(value, str) else value(row) for row in rows]))


def pair(rows: list[Row], name: str) -> str:
    """Dice of axon and of myelin, means over images."""
    return " / ".join(f"{mean(rows, f'{name}_{c}'):.3f}" for c in CLASSES)


def at_native(rows: list[Row]) -> dict[tuple, Row]:
    """Each image's row at scale 1."""
    return {(r["source"], r["image"]): r for r in rows if r["scale"] == 1}


def tables(rows: list[Row]) -> None:
    """Print Dice by source and scale, the chosen zooms, and the time."""
    native = at_native(rows)
    header("source", "images", "scale", "native", "auto", "zoom 1", "chosen zoom x scale")
    for (source, scale), some in grouped(rows, "source", "scale").items():
        own = [native[r["source"], r["image"]] for r in some]
        seen = sorted(r["zoom"] * scale for r in some)
        line(
            source,
            len(some),
            f"{scale:g}",
            pair(own, "zoom_1"),
            pair(some, "auto"),
            pair(some, "zoom_1"),
            f"{seen[0]:.2f} to {seen[-1]:.2f}",
        )
    print()
    header("scale", "auto - native, mean", "worst image", "zoom 1 - native, mean", "extra time")
    for (scale,), some in grouped(rows, "scale").items():

        def away(name: str, some: list[Row] = some) -> np.ndarray:
            return np.array(
                [
                    [
                        r[f"{name}_{c}"] - native[r["source"], r["image"]][f"zoom_1_{c}"]
                        for c in CLASSES
                    ]
                    for r in some
                ]
            )

        extra = [r["seconds_looking"] / (r["seconds"] - r["seconds_looking"]) for r in some]
        line(
            f"{scale:g}",
            " / ".join(f"{v:+.3f}" for v in away("auto").mean(axis=0)),
            " / ".join(f"{v:+.3f}" for v in away("auto").min(axis=0)),
            " / ".join(f"{v:+.3f}" for v in away("zoom_1").mean(axis=0)),
            f"{np.median(extra):.0%} ({min(extra):.0%} to {max(extra):.0%})",
        )


def whole(rows: list[Row]) -> None:
    """Print a row for each image and scale."""
    header("source", "image", "scale", "zoom", "auto", "zoom 1", "auto - zoom 1", "extra time")
    for (source, image, scale), (row,) in grouped(rows, "source", "image", "scale").items():
        gain = [row[f"auto_{c}"] - row[f"zoom_1_{c}"] for c in CLASSES]
        line(
            source,
            image,
            f"{scale:g}",
            f"{row['zoom']:.3g}",
            pair([row], "auto"),
            pair([row], "zoom_1"),
            " / ".join(f"{v:+.3f}" for v in gain),
            f"{row['seconds_looking'] / (row['seconds'] - row['seconds_looking']):.0%}",
        )


def chart(rows: list[Row]) -> None:
    """Draw Dice over scale, a panel for each source."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sources = grouped(rows, "source")
    figure, panels = plt.subplots(
        1, len(sources), figsize=(4 * len(sources), 3.6), sharey=True, layout="constrained"
    )
    for panel, ((source,), some) in zip(np.atleast_1d(panels), sources.items(), strict=True):
        scales = sorted({r["scale"] for r in some})
        for c in CLASSES:
            base = mean([r for r in some if r["scale"] == 1], f"zoom_1_{c}")
            panel.axhspan(base - TOLERANCE, base + TOLERANCE, color=COLOURS[c], alpha=0.12, lw=0)
            for name, style in (("auto", "-o"), ("zoom_1", "--x")):
                drawn = [mean([r for r in some if r["scale"] == s], f"{name}_{c}") for s in scales]
                label = f"{c}, {'auto' if name == 'auto' else 'zoom 1'}"
                panel.plot(scales, drawn, style, color=COLOURS[c], label=label, ms=5)
        panel.set_xscale("log", base=2)
        panel.set_xticks(scales, [f"{s:g}" for s in scales])
        panel.set_title(f"{source} ({len({r['image'] for r in some})} images)", fontsize=10)
        panel.set_xlabel("scale of the image")
        panel.grid(alpha=0.3)
    first = np.atleast_1d(panels)[0]
    first.set_ylabel("Dice")
    first.set_ylim(0, 1)
    first.legend(fontsize=8, loc="lower center")
    figure.savefig(HERE / "zoom.png", dpi=130)


def main() -> None:
    """Print the tables and draw the chart."""
    rows = json.loads(Path(sys.argv[1]).read_text())
    tables(rows)
    chart(rows)
    for path in sys.argv[2:]:
        print()
        whole(json.loads(Path(path).read_text()))


if __name__ == "__main__":
    main()
