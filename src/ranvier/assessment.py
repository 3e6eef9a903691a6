"""Everything that is asked of a segmentation: overlap, detection, boundaries, counts and measurements.

In three steps, so that figures of an image, a subject and a pool come from one path: ``assess`` validates and
takes sufficient statistics, ``+`` pools them, ``figures`` reduces them. What would be 0/0 is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ranvier.calibration import PixelSize
from ranvier.evaluation import Confusion, confusion, scores
from ranvier.instances import InstanceSettings, separate
from ranvier.matching import Overlaps, match, overlaps
from ranvier.micrograph import AXON, MYELIN, Fibres
from ranvier.morphometrics import measure

__all__ = ["MEASURED", "Agreement", "Assessment", "Detection", "Surface", "assess", "measured"]

THRESHOLDS = (0.3, 0.5, 0.75)
"""IoU from which an object counts as found."""
AGREEING = 0.5
"""IoU from which the measurements of two fibres are compared."""
MEASURED = ("axon_diameter", "myelin_thickness", "g_ratio")
_LIMITS = 1.96
Floats = NDArray[np.float64]


def _ratio(over: float, under: float) -> float:
    return over / under if under else float("nan")


@dataclass(frozen=True)
class Detection:
    """Objects found, invented and missed at one IoU, and the sum of the IoU of those found."""

    found: int
    invented: int
    missed: int
    iou_sum: float

    def __add__(self, other: Detection) -> Detection:
        """Pool two images."""
        return Detection(
            self.found + other.found,
            self.invented + other.invented,
            self.missed + other.missed,
            self.iou_sum + other.iou_sum,
        )

    def figures(self) -> dict[str, float]:
        """Precision, recall, F1 and panoptic quality (Kirillov et al. 2019): sum of IoU / (TP + FP/2 + FN/2)."""
        return {
            "precision": _ratio(self.found, self.found + self.invented),
            "recall": _ratio(self.found, self.found + self.missed),
            "f1": _ratio(2 * self.found, 2 * self.found + self.invented + self.missed),
            "panoptic_quality": _ratio(
                2 * self.iou_sum, 2 * self.found + self.invented + self.missed
            ),
        }


@dataclass(frozen=True, eq=False)
class Surface:
    """Distances between the borders of a class, both ways: how many pixels lie at each squared distance."""

    there: Mapping[int, int]
    back: Mapping[int, int]

    def __add__(self, other: Surface) -> Surface:
        """Pool two images."""
        return Surface(_added(self.there, other.there), _added(self.back, other.back))

    def figures(self, um: float | None) -> dict[str, float]:
        """Mean distance over both borders, and the larger of the two 95th percentiles (HD95)."""
        ways = [
            (np.sqrt(np.array(sorted(w), float)), np.array([w[k] for k in sorted(w)]))
            for w in (self.there, self.back)
        ]
        numbers = [int(n.sum()) for _, n in ways]
        mean = _ratio(sum(float((d * n).sum()) for d, n in ways), sum(numbers))
        far = float("nan")
        if all(numbers):
            far = max(float(d[np.searchsorted(np.cumsum(n), 0.95 * n.sum())]) for d, n in ways)
        px = {"surface_distance_px": mean if all(numbers) else float("nan"), "hd95_px": far}
        if um is None:
            return px
        return px | {name.removesuffix("px") + "um": value * um for name, value in px.items()}


def _added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {k: one.get(k, 0) + other.get(k, 0) for k in {*one, *other}}


@dataclass(frozen=True, eq=False)
class Agreement:
    """Predicted and true values of a measure on matched fibres."""

    predicted: Floats
    truth: Floats

    def __add__(self, other: Agreement) -> Agreement:
        """Pool two images."""
        return Agreement(
            np.concatenate((self.predicted, other.predicted)),
            np.concatenate((self.truth, other.truth)),
        )

    def figures(self) -> dict[str, float]:
        """Bias (predicted - true), its SD and the limits of agreement, bias -+ 1.96 SD (Bland & Altman 1986)."""
        difference = self.predicted - self.truth
        n = difference.size
        bias = float(difference.mean()) if n else float("nan")
        sd = float(difference.std(ddof=1)) if n > 1 else float("nan")
        return {
            "n": n,
            "bias": bias,
            "sd": sd,
            "lower_limit": bias - _LIMITS * sd,
            "upper_limit": bias + _LIMITS * sd,
        }


@dataclass(frozen=True, eq=False)
class Assessment:
    """Sufficient statistics of one image, or of several.

    Attributes
    ----------
    pixels
        Confusion of classes.
    detections
        By object (``axon``, ``fibre``) and least IoU.
    surfaces
        By class.
    agreements
        By measure, with its unit.
    pixel_size_um
        None where it is unknown or differs between pooled images.
    """

    pixels: Confusion
    detections: Mapping[tuple[str, float], Detection]
    surfaces: Mapping[str, Surface]
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    pixel_size_um: float | None = None

    def __add__(self, other: Assessment) -> Assessment:
        """Pool two images."""
        agreements = dict(self.agreements)
        for name, theirs in other.agreements.items():
            agreements[name] = agreements[name] + theirs if name in agreements else theirs
        same = self.pixel_size_um == other.pixel_size_um
        return replace(
            self,
            pixels=self.pixels + other.pixels,
            detections={k: d + other.detections[k] for k, d in self.detections.items()},
            surfaces={k: s + other.surfaces[k] for k, s in self.surfaces.items()},
            agreements=agreements,
            pixel_size_um=self.pixel_size_um if same else None,
        )

    def figures(self) -> dict[str, float]:
        """All figures under flat names, e.g. ``dice_axon``, ``axon_f1_50``, ``myelin_hd95_px``, ``g_ratio_bias``."""
        result = scores(self.pixels)
        for (kind, threshold), detection in self.detections.items():
            ending = round(100 * threshold)
            result |= {f"{kind}_{k}_{ending}": v for k, v in detection.figures().items()}
        for name, surface in self.surfaces.items():
            result |= {f"{name}_{k}": v for k, v in surface.figures(self.pixel_size_um).items()}
        one = self.detections["axon", AGREEING]
        result["count_predicted"] = one.found + one.invented
        result["count_true"] = one.found + one.missed
        result["count_bias"] = one.invented - one.missed
        result["count_bias_share"] = _ratio(one.invented - one.missed, one.found + one.missed)
        for name, agreement in self.agreements.items():
            result |= {f"{name}_{k}": v for k, v in agreement.figures().items()}
        return result


def measured(
    classes: NDArray[np.uint8],
    *,
    pixel_size: PixelSize | None = None,
    settings: InstanceSettings | None = None,
) -> Fibres:
    """Fibres as :func:`assess` compares them, so that the truth of several comparisons is measured once."""
    return measure(
        separate(classes, settings=settings or InstanceSettings(), pixel_size=pixel_size),
        pixel_size=pixel_size,
    )


def assess(
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    *,
    pixel_size: PixelSize | None = None,
    settings: InstanceSettings | None = None,
    fibres: Fibres | None = None,
) -> Assessment:
    """Compare one segmentation with the truth.

    Parameters
    ----------
    predicted, truth
        uint8 of the same shape (rows, columns): 0 background, 1 myelin, 2 axon.
    pixel_size
        With one, measurements are compared in um; without, in px.
    settings
        How classes become fibres, in both.
    fibres
        Of the truth, from :func:`measured` with the same pixel size and settings; None measures them.

    Raises
    ------
    MaskError
        The shapes differ or there are other values.
    """
    pixels = confusion(predicted, truth)
    if fibres is None:
        fibres = measured(truth, pixel_size=pixel_size, settings=settings)
    tables = [measured(predicted, pixel_size=pixel_size, settings=settings), fibres]
    detections: dict[tuple[str, float], Detection] = {}
    pairs = {kind: _pairs(tables, kind) for kind in ("axon", "fibre")}
    for kind, found in pairs.items():
        for threshold in THRESHOLDS:
            detections[kind, threshold] = _detection(found, threshold)
    surfaces = {
        name: _surface(predicted == value, truth == value)
        for name, value in (("axon", AXON), ("myelin", MYELIN))
    }
    return Assessment(
        pixels=pixels,
        detections=detections,
        surfaces=surfaces,
        agreements=_agreements(tables, pairs["axon"]),
        pixel_size_um=None if pixel_size is None else pixel_size.um,
    )


def _pairs(tables: list[Fibres], kind: str) -> Overlaps:
    one, other = (t.instances for t in tables)
    return overlaps(
        getattr(one, f"{kind}s"),
        getattr(other, f"{kind}s"),
        n_predicted=one.count,
        n_truth=other.count,
    )


def _detection(found: Overlaps, threshold: float) -> Detection:
    matches = match(found, threshold)
    n = len(matches)
    return Detection(n, found.n_predicted - n, found.n_truth - n, float(matches.iou.sum()))


def _agreements(tables: list[Fibres], found: Overlaps) -> dict[str, Agreement]:
    """Values of matched fibres that the border does not cut, and that both have."""
    one, other = (t.table for t in tables)
    unit = "px" if tables[0].pixel_size is None else "um"
    matches = match(found, AGREEING)
    p, t = matches.predicted - 1, matches.truth - 1
    inner = ~(one["touches_border"][p] | other["touches_border"][t])
    both = one["myelinated"][p] & other["myelinated"][t]
    result = {}
    for name in MEASURED:
        column = name if name == "g_ratio" else f"{name}_{unit}"
        used = inner if name == "axon_diameter" else inner & both
        values = one[column][p[used]], other[column][t[used]]
        known = np.isfinite(values[0]) & np.isfinite(values[1])
        result[column] = Agreement(values[0][known], values[1][known])
    return result


def _surface(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Surface:
    borders = [np.argwhere(mask & ~_eroded(mask)) for mask in (one, other)]
    return Surface(_distances(*borders), _distances(*borders[::-1]))


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are in the mask; beyond the image's edge everything is."""
    eroded: NDArray[np.bool_] = ndimage.binary_erosion(mask, border_value=1)
    return eroded


def _distances(start: NDArray[np.int64], end: NDArray[np.int64]) -> dict[int, int]:
    """How many pixels of one border lie at each squared distance from the other."""
    if not len(start) or not len(end):
        return {}
    away = cKDTree(end, balanced_tree=False, compact_nodes=False).query(start, workers=2)[0]
    squared, number = np.unique(np.rint(away * away).astype(np.int64), return_counts=True)
    return dict(zip(squared.tolist(), number.tolist(), strict=True))
