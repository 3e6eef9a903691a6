"""Circles and ellipses through the outlines of all objects at once, without what lies on the image's edge.

The circle is Taubin's [1]_, which is nearly free of the bias of simpler algebraic fits on short arcs; the ellipse is
the direct fit of Fitzgibbon et al. [2]_ in the stable form of Halir and Flusser [3]_. Both need only sums of powers
of the points' coordinates, which are taken over all objects in one pass.

References
----------
.. [1] Taubin G. (1991). Estimation of planar curves, surfaces, and nonplanar space curves defined by implicit
   equations. IEEE Trans PAMI 13, 1115-1138.
.. [2] Fitzgibbon A., Pilu M., Fisher R.B. (1999). Direct least square fitting of ellipses. IEEE Trans PAMI 21,
   476-480.
.. [3] Halir R., Flusser J. (1998). Numerically stable direct least squares fitting of ellipses. Proc WSCG 6, 125-132.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.contours import OUTSIDE, Outlines

_FEWEST = 12
"""Points below which nothing is fitted."""
_LEAST_SHARE = 0.5
"""Share of an outline that must not lie on the image's edge."""
_LOOSEST = 0.15
"""Largest distance of the points from a circle, root mean square, as a share of its radius or their extent."""
_STEPS = 40
Floats = NDArray[np.float64]


def fitted_diameters(
    outlines: Outlines, edges: NDArray[np.int64], count: int, *, ellipse: bool
) -> Floats:
    """Diameter of the circle, or minor axis of the ellipse, that fits each object's outline best, in pixels.

    Parameters
    ----------
    outlines
        Of the objects.
    edges
        Which edges of them to fit, ascending, none on the image's edge.
    count
        Number of objects.
    ellipse
        An ellipse and not a circle.

    Returns
    -------
    diameters
        NaN where too little of the outline is inside the image, or where no circle or ellipse fits.
    """
    row, col = outlines.midpoints()
    owner = outlines.owner[edges] - 1
    beyond = np.bincount(outlines.owner[outlines.other == OUTSIDE] - 1, minlength=count)
    whole = np.bincount(outlines.owner - 1, minlength=count)
    usable = np.bincount(owner, minlength=count) >= _FEWEST
    usable &= whole - beyond >= _LEAST_SHARE * whole
    chosen = usable[owner]
    owner, edges = owner[chosen], edges[chosen]
    x, y = col[edges].astype(np.float64), row[edges].astype(np.float64)
    number = np.maximum(np.bincount(owner, minlength=count), 1)
    # Centred, and scaled to about 1, so that fourth powers lose no digits.
    x -= (np.bincount(owner, weights=x, minlength=count) / number)[owner]
    y -= (np.bincount(owner, weights=y, minlength=count) / number)[owner]
    scale = np.sqrt(np.bincount(owner, weights=x * x + y * y, minlength=count) / number)
    scale[scale == 0] = 1
    x /= scale[owner]
    y /= scale[owner]
    moments = _Moments(owner, x, y, number)
    with np.errstate(all="ignore"):
        diameter = (_ellipse(moments) if ellipse else _circle(moments)) * scale
    diameter[~usable | ~np.isfinite(diameter)] = np.nan
    return diameter


class _Moments:
    """Means of x^i y^j over the points of each object, taken when they are asked for."""

    def __init__(self, owner: NDArray[np.int32], x: Floats, y: Floats, number: Floats) -> None:
        self.owner, self.x, self.y, self.number = owner, x, y, number
        self._known: dict[tuple[int, int], Floats] = {}

    def __call__(self, i: int, j: int) -> Floats:
        if (i, j) not in self._known:
            weights = self._power(self.x, i) * self._power(self.y, j)
            self._known[i, j] = self.mean(weights)
        return self._known[i, j]

    def mean(self, values: Floats) -> Floats:
        """Mean over each object's points."""
        total = np.bincount(self.owner, weights=values, minlength=self.number.size)
        return total / self.number

    @staticmethod
    def _power(values: Floats, exponent: int) -> Floats:
        if exponent == 0:
            return np.ones_like(values)
        square = values if exponent == 1 else values * values
        return square if exponent < 3 else square * (values if exponent == 3 else square)


def _circle(m: _Moments) -> Floats:
    """Taubin's fit: the least root of a cubic, found by Newton's method from 0."""
    xx, yy, xy = m(2, 0), m(0, 2), m(1, 1)
    zx, zy = m(3, 0) + m(1, 2), m(2, 1) + m(0, 3)
    zz = m(4, 0) + 2 * m(2, 2) + m(0, 4)
    z = xx + yy
    det = xx * yy - xy * xy
    spread = zz - z * z
    a3 = 4 * z
    a2 = -3 * z * z - zz
    a1 = spread * z + 4 * det * z - zx * zx - zy * zy
    a0 = zx * (zx * yy - zy * xy) + zy * (zy * xx - zx * xy) - spread * det
    root = np.zeros_like(z)
    for _ in range(_STEPS):
        value = a0 + root * (a1 + root * (a2 + root * a3))
        slope = a1 + root * (2 * a2 + 3 * a3 * root)
        step = np.where(slope != 0, value / slope, 0)
        root = root - step
    below = 2 * (root * root - root * z + det)
    cx = (zx * (yy - root) - zy * xy) / below
    cy = (zy * (xx - root) - zx * xy) / below
    radius = np.sqrt(cx * cx + cy * cy + z)
    # Through an outline that is no circle a circle of nearly any size can be laid.
    off = np.hypot(m.x - cx[m.owner], m.y - cy[m.owner]) - radius[m.owner]
    loosest = _LOOSEST * np.minimum(
        radius, 1
    )  # coordinates are scaled: 1 is the extent of the points
    return np.where(m.mean(off * off) <= loosest**2, 2 * radius, np.nan)


def _ellipse(m: _Moments) -> Floats:
    """Minor axis of the direct least-squares ellipse."""

    def block(rows: list[tuple[int, int]], cols: list[tuple[int, int]]) -> Floats:
        return np.stack(
            [np.stack([m(a + c, b + d) for c, d in cols], axis=-1) for a, b in rows], axis=-2
        )

    quadratic, linear = [(2, 0), (1, 1), (0, 2)], [(1, 0), (0, 1), (0, 0)]
    s1, s2, s3 = (
        block(quadratic, quadratic),
        block(quadratic, linear),
        block(linear, linear),
    )
    solvable = np.abs(np.linalg.det(s3)) > 1e-12
    s3[~solvable] = np.eye(3)
    to_linear = -np.linalg.solve(s3, np.swapaxes(s2, -1, -2))
    reduced = s1 + s2 @ to_linear
    # The inverse of the constraint matrix [[0, 0, 2], [0, -1, 0], [2, 0, 0]] applied from the left.
    system = np.stack((reduced[:, 2] / 2, -reduced[:, 1], reduced[:, 0] / 2), axis=1)
    system[~np.isfinite(system).all(axis=(1, 2))] = np.eye(3)
    _, vectors = np.linalg.eig(system)
    vectors = np.real(vectors)
    is_ellipse = 4 * vectors[:, 0] * vectors[:, 2] - vectors[:, 1] ** 2
    best = np.argmax(is_ellipse, axis=1)
    one = np.take_along_axis(vectors, best[:, None, None], axis=2)[..., 0]
    two = np.einsum("nij,nj->ni", to_linear, one)
    (a, b, c), (d, e, f) = one.T, two.T
    det = 4 * a * c - b * b
    # Value at the centre, and the two principal curvatures of the conic.
    centre = f - (c * d * d - b * d * e + a * e * e) / det
    mean, spread = (a + c) / 2, np.hypot((a - c) / 2, b / 2)
    axes = np.stack((-centre / (mean - spread), -centre / (mean + spread)))
    minor = 2 * np.sqrt(axes.min(axis=0))
    return np.where(solvable & (det > 0), minor, np.nan)
