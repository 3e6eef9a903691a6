"""The figures of an assessment as a tidy table has them: of which structure, which metric, in which unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ranvier.assessment import MEASURED, THRESHOLDS
from ranvier.errors import SettingsError

__all__ = ["METRICS", "Metric", "metric_of"]


@dataclass(frozen=True)
class Metric:
    """One figure of :meth:`ranvier.assessment.Assessment.figures`.

    Attributes
    ----------
    figure
        Its flat name there, e.g. ``axon_f1_50``.
    structure
        ``axon``, ``myelin`` or ``fibre``: the column ``class``.
    name
        Without structure and unit, e.g. ``f1_50``: the column ``metric``.
    unit
        ``px``, ``um``, ``axons``, ``fibres``, or nothing.
    title
        For headings.
    """

    figure: str
    structure: str
    name: str
    unit: str = ""
    title: str = ""


_DETECTION = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "panoptic_quality": "panoptic quality",
}
_DISTANCES = {"surface_distance": "surface distance", "hd95": "HD95"}
_COUNTS = {
    "count_predicted": ("axons", "axons predicted"),
    "count_true": ("axons", "axons in the truth"),
    "count_bias": ("axons", "axon count bias"),
    "count_bias_share": ("", "axon count bias, share"),
}
_AGREEMENT = {
    "n": "n",
    "bias": "bias",
    "sd": "SD",
    "lower_limit": "lower limit",
    "upper_limit": "upper limit",
}
_STRUCTURES = dict(zip(MEASURED, ("axon", "myelin", "fibre"), strict=True))


def _all() -> Iterator[Metric]:
    for name, title in (("dice", "Dice"), ("iou", "IoU")):
        for kind in ("axon", "myelin"):
            yield Metric(f"{name}_{kind}", kind, name, "", f"{title}, {kind}")
    for kind in ("axon", "fibre"):
        for threshold in THRESHOLDS:
            for name, title in _DETECTION.items():
                ending = f"{name}_{round(100 * threshold)}"
                said = f"{title} at IoU {threshold:g}, {kind}"
                yield Metric(f"{kind}_{ending}", kind, ending, "", said)
    for kind in ("axon", "myelin"):
        for name, title in _DISTANCES.items():
            for unit in ("px", "um"):
                yield Metric(f"{kind}_{name}_{unit}", kind, name, unit, f"{title}, {kind} ({unit})")
    for name, (unit, title) in _COUNTS.items():
        yield Metric(name, "axon", name, unit, title)
    for measure, kind in _STRUCTURES.items():
        for unit in ("",) if measure == "g_ratio" else ("px", "um"):
            column = f"{measure}_{unit}" if unit else measure
            for name, title in _AGREEMENT.items():
                of = "fibres" if name == "n" else unit
                said = f"{measure.replace('_', ' ')} {title}" + (f" ({unit})" if unit else "")
                # The number of fibres compared is told apart by what they were measured in.
                metric = f"{column if name == 'n' else measure}_{name}"
                yield Metric(f"{column}_{name}", kind, metric, of, said)


METRICS: Mapping[str, Metric] = {metric.figure: metric for metric in _all()}
"""Every figure by its flat name, in the order of the tables."""


def metric_of(figure: str) -> Metric:
    """What a figure is.

    Raises
    ------
    SettingsError
        There is no such figure.
    """
    if figure not in METRICS:
        raise SettingsError("no such metric", seen=figure, fix=f"Choose from {', '.join(METRICS)}")
    return METRICS[figure]
