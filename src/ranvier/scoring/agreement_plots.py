"""Bland-Altman plots: how the measurements of the same fibres differ between prediction and truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ranvier.assessment import MEASURED, Agreement
from ranvier.scoring.drawing import plain_look, rendered, wrapped

__all__ = ["agreement_png"]

_POINT, _LINE, _ZERO = "#0072b2", "#d55e00", "#808080"
_PANEL = (4.1, 3.7)
_MANY = 3000
"""Points from which they are drawn small."""


def agreement_png(agreements: Mapping[str, Agreement], *, title: str, note: str = "") -> bytes:
    """A panel per measure: the difference of each fibre (predicted - true) against the mean of both, as PNG.

    Lines mark the bias and the limits of agreement, bias -+ 1.96 SD (Bland & Altman 1986).

    Parameters
    ----------
    agreements
        Of :class:`ranvier.assessment.Assessment`, by measure with its unit; those without fibres are drawn empty.
    title
        Above the panels.
    note
        Below the title, where there is something to warn of.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.

    References
    ----------
    Bland J.M., Altman D.G. (1986). Statistical methods for assessing agreement between two methods
    of clinical measurement. Lancet 327, 307-310.
    """
    shown = list(_shown(agreements))
    with plain_look():
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        width = _PANEL[0] * len(shown)
        text = wrapped(title, int(width * 11))
        height = _PANEL[1] + 0.25 * len(text.splitlines()) + (0.2 if note else 0)
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1))
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (name, agreement) in zip(axes, shown, strict=True):
            _panel(axis, name, agreement)
        figure.suptitle(text, fontsize=11)
        if note:
            figure.supxlabel(wrapped(note, int(width * 14)), fontsize=8, color=_LINE)
        return rendered(figure, "png")


def _shown(agreements: Mapping[str, Agreement]) -> Iterator[tuple[str, Agreement]]:
    """Measures in order, in each unit in which there are fibres, or once without any."""
    for measure in MEASURED:
        names = [n for n in (measure, f"{measure}_um", f"{measure}_px") if n in agreements]
        full = [n for n in names if agreements[n].predicted.size]
        yield from ((name, agreements[name]) for name in full or names[:1])


def _panel(axis: Any, name: str, agreement: Agreement) -> None:
    measure, unit = _said(name)
    ending = f" ({unit})" if unit else ""
    figures = agreement.figures()
    n = int(figures["n"])
    axis.set_title(f"{measure}, {n} fibre{'' if n == 1 else 's'}")
    axis.set_xlabel(f"mean of predicted and true{ending}")
    axis.set_ylabel(f"predicted - true{ending}")
    if not n:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "no fibre to compare", ha="center", transform=axis.transAxes)
        return
    means = (agreement.predicted + agreement.truth) / 2
    differences = agreement.predicted - agreement.truth
    many = n > _MANY
    axis.scatter(
        means,
        differences,
        s=3 if many else 9,
        alpha=0.25 if many else 0.45,
        color=_POINT,
        linewidths=0,
        zorder=3,
    )
    axis.axhline(0, color=_ZERO, linewidth=0.8, linestyle=":")
    _lines(axis, figures, means, differences)


def _lines(axis: Any, figures: Mapping[str, float], means: Any, differences: Any) -> None:
    """Draw bias and limits with their numbers, in a margin at the right."""
    levels = [("bias", figures["bias"], "-")]
    if np.isfinite(figures["sd"]):
        levels += [
            ("+1.96 SD", figures["upper_limit"], "--"),
            ("-1.96 SD", figures["lower_limit"], "--"),
        ]
    low = min(float(differences.min()), 0.0, *(v for _, v, _ in levels))
    high = max(float(differences.max()), 0.0, *(v for _, v, _ in levels))
    margin = 0.08 * (high - low) or 0.05 * abs(float(means.mean())) or 1.0
    axis.set_ylim(low - margin, high + margin)
    spread = float(np.ptp(means)) or 0.1 * abs(float(means.mean())) or 1.0
    axis.set_xlim(float(means.min()) - 0.04 * spread, float(means.max()) + 0.42 * spread)
    for (name, value, style), place in zip(
        levels, _apart(levels, high - low + 2 * margin), strict=True
    ):
        axis.axhline(value, color=_LINE, linewidth=1.1, linestyle=style)
        axis.annotate(
            f"{name} {value + 0.0:+#.3g}",
            (1.0, place),
            xycoords=axis.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=7.5,
            color="#7a3500",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )


def _apart(levels: list[tuple[str, float, str]], span: float) -> list[float]:
    """Where the levels' names stand: at their levels, but never on each other."""
    least = 0.075 * span
    places = [value for _, value, _ in levels]
    if len(places) == 3:
        places[1] = max(places[1], places[0] + least)
        places[2] = min(places[2], places[0] - least)
    return places


def _said(name: str) -> tuple[str, str]:
    """Measure and unit out of a column's name."""
    for unit in ("um", "px"):
        if name.endswith(f"_{unit}"):
            shown = "µm" if unit == "um" else unit
            return name.removesuffix(f"_{unit}").replace("_", " "), shown
    return name.replace("_", "-", 1).replace("_", " "), ""
