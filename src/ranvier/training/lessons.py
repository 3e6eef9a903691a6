"""Images that are trained on otherwise than whole and by their masks alone: in part, taught, replayed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets.annotated import Annotated, Loaded
from ranvier.errors import DatasetError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN
from ranvier.reading import read


@dataclass(frozen=True, kw_only=True)
class Part(Annotated):
    """A rectangle of an annotated image: nothing outside it is seen.

    Attributes
    ----------
    box
        First row, first column, last row + 1, last column + 1.
    """

    box: tuple[int, int, int, int]

    def load_noted(self) -> Loaded:
        """Read the image and cut it; see :meth:`Annotated.load_noted`."""
        whole = super().load_noted()
        top, left, bottom, right = self.box
        micrograph = replace(
            whole.micrograph, pixels=whole.micrograph.pixels[top:bottom, left:right].copy()
        )
        classes = whole.classes[top:bottom, left:right].copy()
        return replace(whole, micrograph=micrograph, classes=classes)


@dataclass(frozen=True, kw_only=True)
class Replayed(Annotated):
    """An image of an earlier training, mixed in so that a network does not forget it.

    Attributes
    ----------
    share
        Share of the patches that all replayed images get together.
    """

    share: float


@dataclass(frozen=True, kw_only=True)
class Taught(Annotated):
    """An image with another network's probabilities; without masks, its classes are that network's.

    Attributes
    ----------
    planes
        .npy, uint8 (2, rows, columns): probability of myelin and of axon, times 255.
    hard_weight
        Weight of the masks beside the probabilities, where there are masks.
    """

    planes: Path
    hard_weight: float = 0.5

    def load_noted(self) -> Loaded:
        """Read the image and its classes; see :meth:`Annotated.load_noted`."""
        if self.masks:
            return super().load_noted()
        um = None if self.pixel_size is None else self.pixel_size.um
        micrograph = read(self.image, pixel_size=um)
        soft = self._soft(micrograph.shape)
        classes = np.full(micrograph.shape, BACKGROUND, dtype=np.uint8)
        rest = 255 - soft.sum(axis=0, dtype=np.int16)
        myelin = (soft[0] > rest) & (soft[0] >= soft[1])
        classes[myelin] = MYELIN
        classes[~myelin & (soft[1] > rest)] = AXON
        return Loaded(micrograph, classes, (micrograph.sha256,), tuple(micrograph.notes))

    def targets(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What to learn: uint8 (2, rows, columns), the weighted mean of masks and probabilities.

        Parameters
        ----------
        classes
            Of :meth:`load`.
        """
        soft = self._soft((int(classes.shape[0]), int(classes.shape[1])))
        if not self.masks or self.hard_weight == 0:
            return soft
        hard = np.stack((classes == MYELIN, classes == AXON)).astype(np.float32) * 255
        mixed = self.hard_weight * hard + (1 - self.hard_weight) * soft
        out: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
        return out

    def _soft(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        try:
            soft: NDArray[np.uint8] = np.load(self.planes, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                "a teacher's probabilities cannot be read", where=self.planes, seen=str(error)
            ) from error
        if soft.dtype != np.uint8 or soft.shape != (2, *shape):
            raise DatasetError(
                "a teacher's probabilities do not fit the image",
                where=self.planes,
                seen=f"{soft.dtype} {soft.shape}, image {shape}",
                fix="Let the teacher look at it again, in another folder",
            )
        return soft


def part_of(image: Annotated, box: tuple[int, int, int, int]) -> Part:
    """A rectangle of an image."""
    return Part(**_plain(image), box=box)


def replayed(image: Annotated, share: float) -> Replayed:
    """An image to be mixed in."""
    return Replayed(**_plain(image), share=share)


def taught(image: Annotated, planes: Path, hard_weight: float) -> Taught:
    """An image with a teacher's probabilities."""
    return Taught(**_plain(image), planes=planes, hard_weight=hard_weight)


def _plain(image: Annotated) -> dict[str, Any]:
    return {f.name: getattr(image, f.name) for f in fields(Annotated)}
