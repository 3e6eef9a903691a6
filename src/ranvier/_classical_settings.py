"""What the classical pipeline is set to: the ``classical`` part of model.json.

The written contract of that part: an object with the fields of :class:`ClassicalSettings`, all of them and no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from ranvier.errors import BundleFormatError, SettingsError

Polarity = Literal["auto", "dark", "bright"]
_RANGES: Mapping[str, tuple[float, float]] = {
    "smoothing": (0.0, 1.0),
    "window": (1.0, 100.0),
    "sauvola_k": (0.0, 1.0),
    "least_structure": (0.0, 1.0),
    "enclosure_power": (0.0, 100.0),
    "clear_separation": (0.01, 10.0),
    "least_quality": (0.0, 1.0),
    "most_on_edge": (0.0, 1.0),
    "membrane_level": (0.0, 1.0),
    "sheath_depth": (0.1, 20.0),
    "working_sheath_px": (3.0, 1000.0),
}
_MOST_NECKS = 10


@dataclass(frozen=True)
class ClassicalSettings:
    """How axons and myelin are found without learning. All lengths are in typical widths of the sheath.

    Attributes
    ----------
    polarity
        ``dark``: myelin is darker than axons (transmission EM, toluidine blue); ``bright``: it is brighter
        (back-scattered SEM, CARS); ``auto``: whichever shows more and better rings.
    sheath_px
        Typical width of the sheath in pixels; None measures it in the image.
    smoothing
        Standard deviation of the Gaussian that removes noise.
    window
        Edge of the square over which the local threshold looks.
    sauvola_k
        Sensitivity k of the local threshold m (1 + k (s / R - 1)), with m and s the mean and standard deviation in
        the window, and R half the range of grey levels [1]_. Higher finds less myelin.
    least_structure
        Share of the variance of grey levels that must be left after a Gaussian of a quarter of the sheath; where less
        is left the image is taken as noise, in which nothing is found.
    necks
        Where two bright regions are joined by a neck whose width is at least this share of the narrower one's, they
        are one; the shares, in descending order, give nested ways to part regions by the watershed of their distance
        transform [2]_ [3]_. 0 parts nothing.
    enclosure_power, clear_separation, least_quality
        A region is an axon where its quality, e^p s r^(1/4) min(1, d / d0) sqrt(min(1, c / c0)), is high enough and
        higher than those of its parts: e is the share of its outline that lies on myelin and p ``enclosure_power``; s
        its solidity and r its circularity; d how far the grey levels of axon and ring lie apart, in sums of their
        standard deviations, and d0 ``clear_separation``; c that difference itself, and c0 what is usual in the image.
    diameter_range
        Smallest and largest diameter of an axon.
    most_on_edge
        Largest share of an axon's outline that may lie on the image's edge.
    membrane_level
        Myelin is what is darker than this way from the grey level of a fibre's sheath to that of its axon; 0.5 is half
        the height of the step.
    sheath_depth
        How far from an axon its myelin may reach.
    working_sheath_px
        Images with wider sheaths are shrunk to this width in pixels first.
    width_sample_px, sample_px
        The width of the sheath is measured, and the polarity judged, on at most about so many pixels, spread over the
        image.

    Raises
    ------
    SettingsError
        A value is out of its range.

    References
    ----------
    .. [1] Sauvola, J., Pietikäinen, M. (2000). Adaptive document image binarization. Pattern Recognition 33:225-236.
    .. [2] Vincent, L., Soille, P. (1991). Watersheds in digital spaces: an efficient algorithm based on immersion
       simulations. IEEE Transactions on Pattern Analysis and Machine Intelligence 13:583-598.
    .. [3] Soille, P. (2003). Morphological Image Analysis, 2nd ed. Springer. Chapter 9.
    """

    polarity: Polarity = "auto"
    sheath_px: float | None = None
    smoothing: float = 0.125
    window: float = 4.0
    sauvola_k: float = 0.2
    least_structure: float = 0.33
    necks: tuple[float, ...] = (0.8, 0.65, 0.5, 0.0)
    enclosure_power: float = 10.0
    clear_separation: float = 1.5
    least_quality: float = 0.4
    diameter_range: tuple[float, float] = (0.5, 12.0)
    most_on_edge: float = 0.4
    membrane_level: float = 0.5
    sheath_depth: float = 2.0
    working_sheath_px: float = 8.0
    width_sample_px: int = 400_000
    sample_px: int = 1_000_000

    def __post_init__(self) -> None:
        if self.polarity not in get_args(Polarity):
            raise SettingsError(
                "unknown polarity",
                where="polarity",
                seen=self.polarity,
                fix=f"Choose {', '.join(get_args(Polarity))}",
            )
        for name, (low, high) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        if self.sheath_px is not None:
            _check_number("sheath_px", self.sheath_px, 1.0, 10_000.0)
        for name in ("width_sample_px", "sample_px"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise SettingsError("must be a whole number", where=name, seen=value)
            _check_number(name, value, 10_000, 1 << 40)
        if not (isinstance(self.diameter_range, tuple) and len(self.diameter_range) == 2):
            raise SettingsError(
                "must be two numbers", where="diameter_range", seen=self.diameter_range
            )
        for edge in self.diameter_range:
            _check_number("diameter_range", edge, 0.1, 1000.0)
        if self.diameter_range[0] >= self.diameter_range[1]:
            raise SettingsError("upside down", where="diameter_range", seen=self.diameter_range)
        _check_necks(self.necks)


def _check_necks(necks: object) -> None:
    if not isinstance(necks, tuple) or not 1 <= len(necks) <= _MOST_NECKS:
        raise SettingsError("must be one number or more", where="necks", seen=necks)
    for value in necks:
        _check_number("necks", value, 0.0, 1.0)
    if any(a <= b for a, b in pairwise(necks)):
        raise SettingsError("must descend", where="necks", seen=necks)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type, operator]
        raise SettingsError(
            "not a number in its range",
            where=name,
            seen=value,
            fix=f"Give a number from {low:g} to {high:g}",
        )


def as_section(settings: ClassicalSettings) -> dict[str, Any]:
    """The ``classical`` part of model.json."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}


def classical_settings(section: object, where: Path) -> ClassicalSettings:
    """Read the ``classical`` part of a model.json.

    Raises
    ------
    BundleFormatError
        It is not what the contract says.
    """
    keys = {f.name for f in fields(ClassicalSettings)}
    if not isinstance(section, dict) or set(section) != keys:
        seen = sorted(section) if isinstance(section, dict) else repr(section)[:200]
        raise BundleFormatError(
            "classical must have " + ", ".join(sorted(keys)), where=where, seen=seen
        )
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}
    try:
        return ClassicalSettings(**given)
    except SettingsError as error:
        raise BundleFormatError(
            f"{error.where}: {error.what}", where=where, seen=error.seen, fix=error.fix
        ) from error
