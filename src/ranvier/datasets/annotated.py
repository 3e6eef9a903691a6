"""The noun of this room: one image with the masks that people drew on it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.errors import DatasetError, RanvierError
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.micrograph import Micrograph
from ranvier.reading import read


@dataclass(frozen=True)
class Annotated:
    """An image, its masks and whose tissue it shows. Pixels stay on disk.

    Attributes
    ----------
    source
        Name of the dataset.
    subject
        Animal or specimen. Nothing of one subject may stand on both sides of a split.
    name
        Unique within the source.
    image
        The micrograph.
    masks
        One mask with three levels, or an axon mask and a myelin mask.
    pixel_size
        None when the dataset does not say.
    """

    source: str
    subject: str
    name: str
    image: Path
    masks: tuple[Path, ...]
    pixel_size: PixelSize | None = None

    def load(self) -> tuple[Micrograph, NDArray[np.uint8]]:
        """Read the image and the class of every pixel.

        Raises
        ------
        DatasetError
            Image and masks differ in shape.
        ReadError, MaskError
            A file cannot be used.
        """
        known = self.pixel_size
        micrograph = read(self.image, pixel_size=None if known is None else known.um)
        if known is not None:
            micrograph = replace(micrograph, pixel_size=known)
        masks = [read(path, pixel_size=1.0).pixels for path in self.masks]
        for path, mask in zip(self.masks, masks, strict=True):
            if mask.shape != micrograph.shape:
                raise DatasetError(
                    f"image {self.image.name} and its mask differ in shape",
                    where=path,
                    seen=f"image {micrograph.shape}, mask {mask.shape}",
                )
        if len(masks) == 1:
            return micrograph, classes_from_mask(masks[0], where=self.masks[0])
        return micrograph, classes_from_masks(masks[0], masks[1], where=self.masks[0])


def raise_together(problems: list[str], where: Path) -> None:
    """Raise one error that lists every problem of a dataset, or return if there are none."""
    if problems:
        shown = "".join(f"\n  - {p}" for p in problems)
        raise DatasetError(f"{len(problems)} problem(s) in this dataset:{shown}", where=where)


def text_of(error: RanvierError) -> str:
    """An error as one line of a list."""
    return str(error).replace("\n", " ")


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a dataset.

    Raises
    ------
    DatasetError
        The file cannot be read, is not JSON, or not an object.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError("not a readable JSON file", where=path, seen=str(error)) from error
    if not isinstance(loaded, dict):
        raise DatasetError("expected a JSON object", where=path, seen=type(loaded).__name__)
    return loaded
