"""What a phantom is to be: every field checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ranvier.datasets._looks import Look
from ranvier.errors import SettingsError

DiameterLaw = Literal["gamma", "log-normal"]

NARROWEST_PX = 3.0
"""Narrowest axon that the pixel grid can show, in pixels."""
LARGEST_PX = 100_000_000
"""Largest image, in pixels."""
G_LIMITS = (0.3, 0.9)
_RANGES: Mapping[str, tuple[float, float]] = {
    "pixel_size_um": (1e-4, 10.0),
    "diameter_mean_um": (1e-3, 1e3),
    "diameter_sd_um": (0.0, 1e3),
    "diameter_min_um": (1e-3, 1e3),
    "diameter_max_um": (1e-3, 1e3),
    "g_ratio_mean": G_LIMITS,
    "g_ratio_sd": (0.0, 0.3),
    "fibre_fraction": (0.0, 0.9),
    "irregularity": (0.0, 1.0),
    "alignment": (0.0, 1.0),
    "unmyelinated_share": (0.0, 0.9),
    "touching_share": (0.0, 1.0),
    "noise": (0.0, 60.0),
    "blur": (0.0, 10.0),
    "debris": (0.0, 1.0),
}


@dataclass(frozen=True)
class PhantomSettings:
    """What to draw. Every field is checked.

    Attributes
    ----------
    shape
        Rows and columns, each at least 8.
    pixel_size_um
        Edge of a pixel in micrometres.
    seed
        Not negative; the same settings give the same bytes. The truth depends on none of ``look``,
        ``noise``, ``blur``, ``debris`` and ``unmyelinated_share``: one seed gives one truth in
        four looks.
    look
        "TEM", "SEM", "BF" (bright field, toluidine blue) or "CARS".
    diameter_law, diameter_mean_um, diameter_sd_um
        Distribution of the axons' diameters, "gamma" or "log-normal", before it is cut off; the
        standard deviation is at most three times the mean.
    diameter_min_um, diameter_max_um
        Where it is cut off. The narrowest axon must be at least ``NARROWEST_PX`` pixels wide.
    g_ratio_mean, g_ratio_sd
        Normal distribution of g-ratios before it is cut off at 0.3 and 0.9.
    fibre_fraction
        Share of the image to be covered by fibres, about. Packing stops short of it where no
        further fibre finds room (from about 0.6); ``Phantom.fibre_fraction`` tells what was
        reached.
    irregularity
        0: exact ellipses; up to 1: strongly dented outlines.
    aspect_range
        Smallest and largest ratio of an ellipse's axes, from 1 (discs) to 4.
    alignment
        0: fibres point anywhere; 1: all along one direction.
    unmyelinated_share
        Share of unmyelinated axons (background in the truth) in all axons.
    touching_share
        Share of fibres, the largest quarter apart, that are pushed against a neighbour.
    noise
        Standard deviation at mid-grey in grey levels; of photon counts in CARS.
    blur
        Standard deviation of a Gaussian in pixels.
    debris
        0: none; 1: plenty of nuclei, specks and stain.

    Raises
    ------
    SettingsError
        A field is out of its range, or two contradict each other.
    """

    shape: tuple[int, int] = (512, 640)
    pixel_size_um: float = 0.1
    seed: int = 0
    look: Look = "TEM"
    diameter_law: DiameterLaw = "gamma"
    diameter_mean_um: float = 2.2
    diameter_sd_um: float = 1.0
    diameter_min_um: float = 0.8
    diameter_max_um: float = 5.0
    g_ratio_mean: float = 0.65
    g_ratio_sd: float = 0.06
    fibre_fraction: float = 0.5
    irregularity: float = 0.3
    aspect_range: tuple[float, float] = (1.0, 1.8)
    alignment: float = 0.3
    unmyelinated_share: float = 0.2
    touching_share: float = 0.5
    noise: float = 8.0
    blur: float = 0.7
    debris: float = 0.3

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high)
        _check_choices(self)
        _check_pairs(self)

    @classmethod
    def typical(cls, look: Look, **changes: Any) -> PhantomSettings:
        """Return settings that resemble published micrographs of this look.

        Parameters
        ----------
        look
            "TEM", "SEM", "BF" or "CARS".
        **changes
            Fields to set otherwise.

        Raises
        ------
        SettingsError
            Unknown look or field, or a value out of range.
        """
        unknown = sorted(set(changes) - {f.name for f in fields(cls)})
        if unknown:
            raise SettingsError("unknown phantom setting", seen=", ".join(unknown))
        if look not in _TYPICAL:
            cls(look=look)
        return replace(cls(look=look), **{**_TYPICAL[look], **changes})


_TYPICAL: Mapping[str, Mapping[str, Any]] = {
    "TEM": {
        "fibre_fraction": 0.4,
        "unmyelinated_share": 0.75,
        "aspect_range": (1.1, 2.4),
        "alignment": 0.7,
        "irregularity": 0.45,
        "g_ratio_mean": 0.67,
        "debris": 0.4,
    },
    "SEM": {
        "diameter_law": "log-normal",
        "diameter_mean_um": 1.7,
        "fibre_fraction": 0.72,
        "unmyelinated_share": 0.3,
        "touching_share": 0.9,
        "irregularity": 0.42,
        "g_ratio_mean": 0.62,
        "noise": 17.0,
    },
    "BF": {
        "fibre_fraction": 0.62,
        "touching_share": 0.7,
        "irregularity": 0.38,
        "noise": 2.5,
        "blur": 1.2,
    },
    "CARS": {"fibre_fraction": 0.5, "unmyelinated_share": 0.0, "noise": 14.0, "blur": 1.3},
}


def _check_number(name: str, value: object, low: float, high: float) -> None:
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    if not (fine and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type, operator]
        raise SettingsError(
            "not a number in its range",
            where=name,
            seen=value,
            fix=f"Give a number from {low:g} to {high:g}",
        )


def _check_choices(s: PhantomSettings) -> None:
    for name, choices in (("look", get_args(Look)), ("diameter_law", get_args(DiameterLaw))):
        if getattr(s, name) not in choices:
            raise SettingsError(
                "unknown choice",
                where=name,
                seen=getattr(s, name),
                fix="Choose one of " + ", ".join(choices),
            )
    if not _are_integers((s.seed,)) or s.seed < 0:
        raise SettingsError("not an integer from 0", where="seed", seen=s.seed)
    if not (isinstance(s.shape, tuple) and len(s.shape) == 2 and _are_integers(s.shape)):
        raise SettingsError("not a pair of integers", where="shape", seen=s.shape)
    if min(s.shape) < 8 or math.prod(s.shape) > LARGEST_PX:
        raise SettingsError(
            "image too small or too large",
            where="shape",
            seen=s.shape,
            fix=f"At least 8 a side, at most {LARGEST_PX} pixels",
        )


def _are_integers(values: Sequence[object]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _check_pairs(s: PhantomSettings) -> None:
    if not (isinstance(s.aspect_range, tuple) and len(s.aspect_range) == 2):
        raise SettingsError("not a pair of numbers", where="aspect_range", seen=s.aspect_range)
    for value in s.aspect_range:
        _check_number("aspect_range", value, 1.0, 4.0)
    for name, (low, high) in (
        ("aspect_range", s.aspect_range),
        ("diameter_min_um, diameter_max_um", (s.diameter_min_um, s.diameter_max_um)),
    ):
        if low > high:
            raise SettingsError("upside down", where=name, seen=f"{low:g} to {high:g}")
    if not s.diameter_min_um <= s.diameter_mean_um <= s.diameter_max_um:
        raise SettingsError(
            "mean diameter outside the limits", where="diameter_mean_um", seen=s.diameter_mean_um
        )
    if s.diameter_sd_um > 3.0 * s.diameter_mean_um:
        raise SettingsError(
            "the diameters spread too far",
            where="diameter_sd_um",
            seen=s.diameter_sd_um,
            fix="Give at most three times the mean",
        )
    narrowest = s.diameter_min_um / math.sqrt(s.aspect_range[1]) / s.pixel_size_um
    if narrowest < NARROWEST_PX:
        raise SettingsError(
            "the narrowest axon is too narrow for the pixels",
            where="diameter_min_um",
            seen=f"{narrowest:.2g} pixels",
            fix=f"Make it at least {NARROWEST_PX:g} pixels wide",
        )
