"""What a training shows of itself: a log, TensorBoard, a bar, pictures of validation images, curves."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import Array
from ranvier.pictures import png
from ranvier.writing import make_folder, write_atomically

LOG, CURVES = "log.csv", "curves.png"
BOARD, PICTURES = "tensorboard", "pictures"
RIGHT, MISSED, INVENTED, CONFUSED = (70, 190, 90), (255, 70, 50), (70, 120, 255), (255, 210, 0)
"""Colours of pixels of axon or myelin that were found, missed, invented, and given the other class."""
_EDGE = 700
Row = Mapping[str, Any]


class Monitor:
    """Writes what is known after each validation into a training's folder.

    Parameters
    ----------
    folder
        Of the training.
    total
        Steps in all, for the bar.
    done
        Steps done already.
    """

    def __init__(self, folder: Path, *, total: int, done: int = 0) -> None:
        self._folder = folder
        self._board: Any = None
        if find_spec("tensorboardX") is not None:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / BOARD), purge_step=done or None)
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="step", file=sys.stderr)

    def step(self, loss: float, score: float) -> None:
        """Move the bar by one step."""
        if self._bar is not None:
            best = {"Dice": f"{score:.3f}"} if score >= 0 else {}
            self._bar.set_postfix({"loss": f"{loss:.3f}", **best}, refresh=False)
            self._bar.update(1)

    def validated(self, history: list[dict[str, Any]]) -> None:
        """Write the log and the last row to TensorBoard."""
        write_atomically(self._folder / LOG, log_csv(history))
        if self._board is not None:
            row = history[-1]
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def picture(self, name: str, step: int, content: bytes) -> None:
        """Keep the picture of one validation image."""
        folder = make_folder(self._folder / PICTURES)
        write_atomically(folder / f"{name}_step-{step:06d}.png", content)

    def close(self, history: list[dict[str, Any]]) -> None:
        """Draw the curves, and let go of files and terminal."""
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()
        if history and find_spec("matplotlib") is not None:
            write_atomically(self._folder / CURVES, curves_png(history))


def log_csv(history: list[dict[str, Any]]) -> bytes:
    """One row per validation; an empty cell where a row lacks a column."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns)
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def error_png(pixels: Array, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> bytes:
    """A micrograph with what was found in green, missed in red, invented in blue, mistaken for the other in yellow.

    Parameters
    ----------
    pixels
        Grey levels, shape (rows, columns).
    predicted, truth
        uint8 classes, the same shape. Large images are thinned out to about 700 pixels.
    """
    step = max(1, -(-max(pixels.shape) // _EDGE))
    grey, ours, drawn = (a[::step, ::step] for a in (pixels.astype(np.float32), predicted, truth))
    low, high = np.percentile(grey, (0.5, 99.5))
    shown = np.clip((grey - low) * (255 / max(high - low, 1e-6)), 0, 255)
    out = np.repeat(shown[..., None], 3, axis=2)
    for where, colour in (
        ((ours == drawn) & (drawn > 0), RIGHT),
        ((ours == 0) & (drawn > 0), MISSED),
        ((ours > 0) & (drawn == 0), INVENTED),
        ((ours > 0) & (drawn > 0) & (ours != drawn), CONFUSED),
    ):
        out[where] = 0.6 * out[where] + 0.4 * np.array(colour, dtype=np.float32)
    return png(out.round().astype(np.uint8))


def curves_png(history: list[dict[str, Any]]) -> bytes:
    """Loss and validation Dice over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in history]
    left.plot(steps, [row["loss"] for row in history], color="black")
    left.set(xlabel="step", ylabel="loss")
    for name in dict.fromkeys(key for row in history for key in row):
        if "dice" in name:
            points = [(row["step"], row[name]) for row in history if row.get(name) is not None]
            style = "-" if name.endswith("axon") else "--"
            right.plot(*zip(*points, strict=True), style, label=name.replace("/dice_", " "))
    right.set(xlabel="step", ylabel="Dice of whole validation images", ylim=(0, 1))
    if right.lines:
        right.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
