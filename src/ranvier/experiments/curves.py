"""How trainings went: loss and validation Dice of every fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranvier.experiments.running import Trained
from ranvier.scoring.drawing import plain_look, rendered

_PANEL = (3.2, 2.4)
"""Width and height in inches."""


def mean_dice(row: dict[str, Any]) -> float:
    """Mean of the Dice of all sources and classes at a validation; NaN without any."""
    values = [value for key, value in row.items() if "/dice_" in key]
    return float(np.mean(values)) if values else float("nan")


def curves_files(trained: Sequence[Trained]) -> dict[str, bytes]:
    """Loss above, mean validation Dice below, a column for each model, a line for each fold.

    Returns
    -------
    dict
        ``.png`` and ``.svg`` to content.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    with plain_look():
        from matplotlib.figure import Figure

        size = (_PANEL[0] * len(trained) + 0.6, 2 * _PANEL[1])
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(2, len(trained), sharey="row", squeeze=False)
        for column, one in enumerate(trained):
            above, below = axes[0][column], axes[1][column]
            for number, rows in one.histories().items():
                steps = [row["step"] for row in rows]
                above.plot(steps, [row["loss"] for row in rows], marker=".", label=f"fold {number}")
                below.plot(steps, [mean_dice(row) for row in rows], marker=".")
            above.set_title(one.plan.name)
            below.set_xlabel("step")
            below.set_ylim(0, 1)
            above.legend(fontsize=7, frameon=False)
        # Deep supervision's losses can be below 0.
        losses = [
            row["loss"] for one in trained for rows in one.histories().values() for row in rows
        ]
        axes[0][0].set_ylim(min([0.0, *losses]) * 1.05, max([1.0, *losses]) * 1.05)
        axes[0][0].set_ylabel("training loss")
        axes[1][0].set_ylabel("mean Dice, held out")
        return {f".{kind}": rendered(figure, kind) for kind in ("png", "svg")}
