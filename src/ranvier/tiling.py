"""Covering a plane with tiles: pure geometry, no pixels.

A network of stride *s* and receptive radius *r* gives, for a block of output whose edges lie on
multiples of *s*, the same numbers whether it saw the whole plane or only that block with *r* more pixels on each
side. So tiles start on multiples of the stride and read a halo of at least the receptive radius; where the
plane ends they end too, so that the network's own zero padding falls where it would fall on the whole plane.
"""

from __future__ import annotations

from dataclasses import dataclass

from ranvier.errors import SettingsError


@dataclass(frozen=True)
class Box:
    """A half-open rectangle of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.bottom - self.top, self.right - self.left)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Slices that cut this box out of an array that holds ``outer``."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )

    def clipped(self, shape: tuple[int, int]) -> Box:
        """The part of this box inside an image of that shape."""
        return Box(
            min(self.top, shape[0]),
            min(self.left, shape[1]),
            min(self.bottom, shape[0]),
            min(self.right, shape[1]),
        )


@dataclass(frozen=True)
class Tile:
    """What the network reads and, inside it, what is written from its answer."""

    read: Box
    write: Box


def plane_shape(shape: tuple[int, int], stride: int, minimum: int = 1) -> tuple[int, int]:
    """The smallest plane that holds the image: multiples of the stride, at least ``minimum`` pixels wide."""
    rows, columns = (-(-max(n, minimum) // stride) * stride for n in shape)
    return (rows, columns)


def cover(plane: tuple[int, int], *, stride: int, halo: int, max_read_px: int) -> tuple[Tile, ...]:
    """Cover a plane so that no tile reads more than ``max_read_px`` pixels and little is read twice.

    Parameters
    ----------
    plane
        Rows and columns, multiples of ``stride``.
    stride
        Edges of written blocks lie on multiples of it.
    halo
        Pixels read on each side of a written block, as far as the plane reaches; a multiple of ``stride``.
    max_read_px
        Upper limit of a tile's read area. Where even one stride with its halo is larger, that is taken.

    Returns
    -------
    tiles
        In raster order; their ``write`` boxes partition the plane.

    Raises
    ------
    SettingsError
        The plane or halo is not a multiple of the stride, or a number is not positive.
    """
    if stride < 1 or halo < 0 or halo % stride or min(plane) < 1 or any(n % stride for n in plane):
        raise SettingsError(
            "tiles need a plane and a halo that are multiples of the stride",
            seen=f"plane {plane}, stride {stride}, halo {halo}",
        )
    rows, columns = plane
    best: tuple[int, int, int] | None = None
    for high in _distinct_steps(rows, stride):
        wide = _widest(columns, stride, halo, max_read_px // _reach(high, rows, halo))
        if wide == 0:
            continue
        cost = _total_read(rows, high, halo) * _total_read(columns, wide, halo)
        if best is None or cost < best[0]:
            best = (cost, high, wide)
    _, high, wide = best or (0, stride, stride)
    return tuple(
        Tile(
            Box(max(0, a - halo), max(0, c - halo), min(rows, b + halo), min(columns, d + halo)),
            Box(a, c, b, d),
        )
        for a, b in _spans(rows, high)
        for c, d in _spans(columns, wide)
    )


def _distinct_steps(length: int, stride: int) -> list[int]:
    """Block lengths (multiples of the stride) that split a length into 1, 2, 3... nearly equal parts."""
    units = length // stride
    return sorted({-(-units // n) * stride for n in range(1, units + 1)}, reverse=True)


def _reach(step: int, length: int, halo: int) -> int:
    return min(length, step + 2 * halo)


def _widest(length: int, stride: int, halo: int, limit: int) -> int:
    """The longest block that reads at most ``limit``; 0 if there is none."""
    for step in _distinct_steps(length, stride):
        if _reach(step, length, halo) <= limit:
            return step
    return 0


def _total_read(length: int, step: int, halo: int) -> int:
    return sum(min(length, b + halo) - max(0, a - halo) for a, b in _spans(length, step))


def _spans(length: int, step: int) -> list[tuple[int, int]]:
    return [(a, min(a + step, length)) for a in range(0, length, step)]
