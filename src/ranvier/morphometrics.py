"""One row of measurements per fibre.

Let a be the area of an axon and f that of its fibre, in pixels, each the number of its pixels;
the fibre holds the axon, so that m = f - a is the area of its myelin and never negative.
Lengths are multiplied by the pixel size and areas by its square, where it is known.

======================  ===========================================================================
column                  definition
======================  ===========================================================================
axon_diameter           circle model: 2 sqrt(a / pi), the diameter of the circle of equal area
                        [1]_; ellipse model: 4 sqrt(l2), the minor axis of the ellipse of equal
                        second moments [5]_, which a fibre cut at a slant keeps (l2 at least 1/12,
                        that of a line one pixel wide)
fibre_diameter          the same of the fibre
myelin_thickness        (fibre_diameter - axon_diameter) / 2
g_ratio                 axon_diameter / fibre_diameter [2]_, [3]_; NaN without a sheath, and in
                        the ellipse model where the fibre's minor axis is the shorter one
g_ratio_by_area         sqrt(a / f), whatever the model
g_ratio_by_thickness    d / (d + 2 t), d = 2 sqrt(a / pi), t the mean thickness of the sheath; NaN where
                        the border cuts the axon
sheath_thickness_...    mean, SD, minimum and maximum, along the outer membrane where it bounds
                        myelin, of the shortest way to the axon's membrane; mean and SD weighted by
                        length. Membranes are the outlines of the pixels, each point averaged with
                        two neighbours on either side
..._diameter_fitted     of the circle that fits the axon's or the outer membrane best (Taubin [9]_), or
                        the minor axis of the ellipse that does (Fitzgibbon [10]_), without what lies
                        on the image's edge; so fibres that the border cuts can be measured. NaN where
                        less than half of the outline lies inside the image, or where none fits
g_ratio_fitted          of these two
sheath_coverage         share of the axon's outline beyond which its own myelin begins within 3 pixels
contact_share           share of the fibre's outline that borders on other fibres
..._perimeter           Crofton's formula in four directions [4]_: (pi / 8) (h + v + (d + e) / sqrt 2),
                        h, v, d, e being the crossings of the outline (and of any holes) by grid lines
                        along rows, columns and the two diagonals; the image edge closes an outline
..._eccentricity        sqrt(1 - l2 / l1), l1 >= l2 being the principal second central moments of the
                        pixels' centres [5]_
..._orientation_rad     angle of the major axis, from the row axis (down) towards the column axis, in
                        (-pi/2, pi/2]: 0 is vertical; NaN where the moments name no direction
..._solidity            area / number of pixels whose centres lie in the convex hull of the middles
                        of the object's pixel edges
..._circularity         4 pi area / perimeter^2 [6]_; at most 1, which objects of few pixels would pass
..._feret_max, _min     largest and smallest distance between parallel tangents of that hull [7]_
conduction_velocity_proxy   axon diameter (of equal area) times sqrt(-ln g_ratio_by_area), to which
                        conduction velocity is proportional by theory [2]_
nearest_neighbour_distance  to the nearest other axon, between centroids
confidence              mean, over the fibre, of the probability of the class that was chosen
myelinated              the sheath covers at least ``min_coverage`` of the axon
touches_border          a pixel of the fibre lies at the image's edge
in_frame                the axon touches neither the left nor the bottom edge: with these as forbidden
                        lines, the image is an unbiased counting frame [8]_ of axons
merged                  axon_solidity below ``merged_solidity``, and not tiny
open_sheath             myelinated, and sheath_coverage below ``open_coverage``
implausible_g_ratio     g_ratio outside ``plausible_g_ratio``, or none although the axon is myelinated
tiny                    an axon with fewer pixels than a disc of ``tiny_diameter_px``
======================  ===========================================================================

References
----------
.. [1] ISO 9276-6:2008, area-equivalent diameter.
.. [2] Rushton W.A.H. (1951). A theory of the effects of fibre size in medullated nerve.
   J Physiol 115, 101-122.
.. [3] Chomiak T., Hu B. (2009). What is the optimal value of the g-ratio for myelinated fibers in
   the rat CNS? A theoretical approach. PLoS ONE 4, e7754.
.. [4] Legland D., Kieu K., Devaux M.-F. (2007). Computation of Minkowski measures on 2D and 3D
   binary images. Image Anal Stereol 26, 83-92.
.. [5] Haralick R.M., Shapiro L.G. (1992). Computer and Robot Vision I, Appendix A. Addison-Wesley.
.. [6] Cox E.P. (1927). A method of assigning numerical and percentage values to the degree of
   roundness of sand grains. J Paleontol 1, 179-183.
.. [7] Shamos M.I. (1978). Computational geometry. PhD thesis, Yale University (rotating calipers).
.. [8] Gundersen H.J.G. (1977). Notes on the estimation of the numerical density of arbitrary
   profiles: the edge effect. J Microsc 111, 219-223.
.. [9] Taubin G. (1991). Estimation of planar curves, surfaces, and nonplanar space curves defined by
   implicit equations. IEEE Trans PAMI 13, 1115-1138.
.. [10] Fitzgibbon A., Pilu M., Fisher R.B. (1999). Direct least square fitting of ellipses. IEEE
   Trans PAMI 21, 476-480.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ranvier._membranes import Membranes, membranes_of
from ranvier._shapes import Shapes, shapes_of
from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.instances import check_instances
from ranvier.measures import MEASURES, column_names
from ranvier.micrograph import Array, Fibres, Instances

__all__ = ["AxonShape", "MeasureSettings", "column_names", "measure"]

AxonShape = Literal["circle", "ellipse"]
_BAND = 1 << 19
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasureSettings:
    """How fibres are measured, and which of them are flagged.

    Attributes
    ----------
    axon_shape
        Model of diameters, myelin thickness and g-ratio: ``circle`` of equal area, or minor axis of
        the ``ellipse`` of equal moments.
    min_coverage
        Smallest share of an axon's outline that myelin covers in a myelinated fibre.
    open_coverage
        Below this share the sheath is flagged as open.
    merged_solidity
        Below this solidity an axon is flagged as several that were joined.
    plausible_g_ratio
        Lowest and highest g-ratio that is not flagged.
    tiny_diameter_px
        Axons below this diameter are flagged as tiny: errors of half a pixel weigh much in them.

    Raises
    ------
    SettingsError
        A model that does not exist, or a limit out of its range.
    """

    axon_shape: AxonShape = "circle"
    min_coverage: float = 0.1
    open_coverage: float = 0.8
    merged_solidity: float = 0.85
    plausible_g_ratio: tuple[float, float] = (0.3, 0.95)
    tiny_diameter_px: float = 8.0

    def __post_init__(self) -> None:
        shapes = get_args(AxonShape)
        if self.axon_shape not in shapes:
            raise SettingsError(
                "unknown model of the axon's shape",
                where="axon_shape",
                seen=repr(self.axon_shape),
                fix=f"Choose {' or '.join(shapes)}",
            )
        for name in ("min_coverage", "open_coverage", "merged_solidity"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError("must be from 0 to 1", where=name, seen=getattr(self, name))
        low, high = self.plausible_g_ratio
        if not 0 <= low < high <= 1:
            raise SettingsError(
                "must be two rising numbers from 0 to 1",
                where="plausible_g_ratio",
                seen=(low, high),
            )
        if not (math.isfinite(self.tiny_diameter_px) and self.tiny_diameter_px >= 0):
            raise SettingsError(
                "must be 0 or more", where="tiny_diameter_px", seen=self.tiny_diameter_px
            )


_DEFAULT = MeasureSettings()


def measure(
    instances: Instances,
    *,
    pixel_size: PixelSize | None = None,
    settings: MeasureSettings = _DEFAULT,
    confidence: NDArray[np.uint8] | None = None,
) -> Fibres:
    """Measure every fibre; the module's docstring defines each column.

    Parameters
    ----------
    instances
        Label images, int32, shape (rows, columns), ids 1 to ``count``, each axon inside its fibre.
    pixel_size
        With one, lengths are in um and areas in um2; without, in px and px2.
    settings
        Model of the axon's shape, and limits of the flags.
    confidence
        Probability of the class chosen for each pixel, times 255, the same shape; without, the
        column is empty.

    Returns
    -------
    Fibres
        One row per fibre, in order of its id. The centroid is the axon's (pixel centres have
        whole coordinates); the box is the fibre's, its bottom and right edges exclusive.
        With no fibre, every column is there and has length 0.

    Raises
    ------
    MaskError
        The label images differ in shape, an id is missing or too high, or an axon has pixels
        outside the fibre of its id; or the confidence has another shape.
    """
    check_instances(instances)
    if confidence is not None and confidence.shape != instances.fibres.shape:
        raise MaskError(
            "confidence and labels differ in shape",
            seen=f"{confidence.shape} and {instances.fibres.shape}",
        )
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(
            shapes_of, (instances.axons, instances.fibres), (instances.count, instances.count)
        )
        axon, fibre = both
    membranes = membranes_of(instances, ellipse=settings.axon_shape == "ellipse")
    values = {
        **_place(axon, fibre, instances),
        **_sizes(axon, fibre, membranes, settings=settings, cut=_at_edge(axon, instances)),
        **_outlines(axon, fibre, membranes),
        "confidence": _mean_confidence(instances, confidence, fibre.area),
    }
    values |= _flags(axon, values, settings)
    table = {}
    for entry in MEASURES:
        power = {"length": 1, "area": 2}.get(entry.kind, 0)
        scale = 1.0 if pixel_size is None else pixel_size.um**power
        value = values[entry.name]
        table[entry.column(pixel_size)] = value * scale if power else value
    return Fibres(table=table, instances=instances, pixel_size=pixel_size)


def _place(axon: Shapes, fibre: Shapes, instances: Instances) -> dict[str, Array]:
    """Where each fibre is; lengths in pixels, here and below."""
    rows = instances.fibres.shape[0]
    top, left, bottom, right = fibre.box
    centres = np.column_stack(axon.centroid)
    nearest = np.full(len(centres), np.nan)
    if len(centres) > 1:
        nearest = cKDTree(centres).query(centres, k=2)[0][:, 1]
    return {
        "id": np.arange(1, instances.count + 1, dtype=np.int32),
        "centroid_row": axon.centroid[0],
        "centroid_col": axon.centroid[1],
        "bbox_top": top,
        "bbox_left": left,
        "bbox_bottom": bottom,
        "bbox_right": right,
        "touches_border": _at_edge(fibre, instances),
        "in_frame": (axon.box[1] > 0) & (axon.box[2] < rows),
        "nearest_neighbour_distance": nearest,
    }


def _at_edge(shape: Shapes, instances: Instances) -> NDArray[np.bool_]:
    """Which objects have a pixel at the image's edge."""
    rows, cols = instances.fibres.shape
    top, left, bottom, right = shape.box
    at_edge: NDArray[np.bool_] = (top == 0) | (left == 0) | (bottom == rows) | (right == cols)
    return at_edge


def _sizes(
    axon: Shapes,
    fibre: Shapes,
    membranes: Membranes,
    *,
    settings: MeasureSettings,
    cut: NDArray[np.bool_],
) -> dict[str, Array]:
    myelinated = (fibre.area > axon.area) & (membranes.coverage >= settings.min_coverage)
    by_area = np.where(myelinated, np.sqrt(axon.area / fibre.area), np.nan)
    if settings.axon_shape == "circle":
        inner, outer, g_ratio = axon.diameter, fibre.diameter, by_area
    else:
        inner, outer = axon.minor, fibre.minor
        g_ratio = np.where(myelinated & (outer > inner), inner / outer, np.nan)
    mean = membranes.thickness_mean
    axon_fitted = _believed(membranes.axon_fitted, axon)
    fibre_fitted = _believed(membranes.fibre_fitted, fibre)
    fibre_fitted = np.where(fibre.area > axon.area, fibre_fitted, axon_fitted)
    holds = myelinated & (fibre_fitted > axon_fitted)
    return {
        "axon_diameter_fitted": axon_fitted,
        "fibre_diameter_fitted": fibre_fitted,
        "g_ratio_fitted": np.where(holds, axon_fitted / fibre_fitted, np.nan),
        "myelinated": myelinated,
        "axon_area": axon.area,
        "myelin_area": fibre.area - axon.area,
        "fibre_area": fibre.area,
        "axon_diameter": inner,
        "fibre_diameter": outer,
        "myelin_thickness": np.where(outer >= inner, (outer - inner) / 2, np.nan),
        "g_ratio": g_ratio,
        "g_ratio_by_area": by_area,
        "g_ratio_by_thickness": np.where(
            myelinated & ~cut, axon.diameter / (axon.diameter + 2 * mean), np.nan
        ),
        # No sheath, no saltatory conduction; a g-ratio of 1 would give no velocity at all.
        "conduction_velocity_proxy": axon.diameter * np.sqrt(-np.log(by_area)),
    }


def _believed(diameter: Floats, shape: Shapes) -> Floats:
    """Fitted diameters, without those that the object's width does not support: at least half of it is seen."""
    return np.where(diameter <= 2 * shape.feret_max, diameter, np.nan)


def _outlines(axon: Shapes, fibre: Shapes, membranes: Membranes) -> dict[str, Array]:
    values: dict[str, Array] = {
        "sheath_thickness_mean": membranes.thickness_mean,
        "sheath_thickness_sd": membranes.thickness_sd,
        "sheath_thickness_min": membranes.thickness_min,
        "sheath_thickness_max": membranes.thickness_max,
        "sheath_coverage": membranes.coverage,
        "contact_share": membranes.contact,
    }
    for name, shape in (("axon", axon), ("fibre", fibre)):
        values |= {
            f"{name}_perimeter": shape.perimeter,
            f"{name}_feret_max": shape.feret_max,
            f"{name}_feret_min": shape.feret_min,
            f"{name}_eccentricity": shape.eccentricity,
            f"{name}_orientation_rad": shape.orientation,
            f"{name}_solidity": shape.solidity,
            f"{name}_circularity": shape.circularity,
        }
    return values


def _mean_confidence(
    instances: Instances, confidence: NDArray[np.uint8] | None, area: Floats
) -> Floats:
    if confidence is None:
        return np.full(instances.count, np.nan)
    total = np.zeros(instances.count + 1)
    step = max(1, _BAND // confidence.shape[1])
    for top in range(0, confidence.shape[0], step):
        labels = instances.fibres[top : top + step].ravel()
        weights = confidence[top : top + step].ravel()
        total += np.bincount(labels, weights=weights, minlength=instances.count + 1)
    return total[1:] / (255 * area)


def _flags(axon: Shapes, values: dict[str, Array], settings: MeasureSettings) -> dict[str, Array]:
    myelinated, g_ratio = values["myelinated"], values["g_ratio"]
    low, high = settings.plausible_g_ratio
    plausible = (g_ratio >= low) & (g_ratio <= high)
    tiny = axon.area < math.pi * settings.tiny_diameter_px**2 / 4
    return {
        # In a few pixels the staircase of the outline alone makes a hull that is much larger.
        "merged": (axon.solidity < settings.merged_solidity) & ~tiny,
        "open_sheath": myelinated & (values["sheath_coverage"] < settings.open_coverage),
        "implausible_g_ratio": myelinated & ~plausible,
        "tiny": tiny,
    }
