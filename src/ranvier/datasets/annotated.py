"""The noun of this room: one image with the masks that people drew on it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.errors import DatasetError, MaskError, RanvierError
from ranvier.masks import classes_from_mask, classes_from_masks, values_seen
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array, Micrograph
from ranvier.reading import read

Role = Literal["train", "test"]


@dataclass(frozen=True)
class Loaded:
    """The pixels of an annotated image.

    Attributes
    ----------
    micrograph
        The image.
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    sha256
        Hashes of the files: the image's, then each mask's.
    notes
        What was accepted on the way, in plain words.
    """

    micrograph: Micrograph
    classes: NDArray[np.uint8]
    sha256: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Annotated:
    """An image, its masks and whose tissue it shows. Pixels stay on disk.

    Attributes
    ----------
    source
        Name of the dataset.
    subject
        Animal or specimen, unique within the source. Nothing of one subject may stand on both sides of a split.
    name
        Unique within the source.
    image
        The micrograph.
    masks
        One mask with three levels, or an axon mask and a myelin mask.
    pixel_size
        None when the dataset does not say; then the image's own metadata are asked.
    sample, modality, species, organ, pathology, licence
        As the dataset says; None where it does not.
    role
        ``test`` in the source's own test set, ``train`` outside it, None where the source has none.
    levels
        Values of background, myelin and axon in a single mask, where the dataset names unusual ones;
        None for any of the usual masks (:func:`ranvier.masks.classes_from_mask`).
    sha256
        Hashes that the image and each mask must have, or nothing.
    notes
        What reading the dataset accepted on the way, in plain words.
    """

    source: str
    subject: str
    name: str
    image: Path
    masks: tuple[Path, ...]
    pixel_size: PixelSize | None = None
    sample: str | None = None
    modality: str | None = None
    species: str | None = None
    organ: str | None = None
    pathology: str | None = None
    licence: str | None = None
    role: Role | None = None
    levels: tuple[int, int, int] | None = None
    sha256: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def load(self) -> tuple[Micrograph, NDArray[np.uint8]]:
        """Read the image and the class of every pixel.

        Raises
        ------
        DatasetError
            Image and masks differ in shape, or a file is not the one whose hash is known.
        ReadError, MaskError
            A file cannot be used.
        """
        loaded = self.load_noted()
        return loaded.micrograph, loaded.classes

    def load_noted(self) -> Loaded:
        """Read image and masks as :meth:`load` does, with hashes and notes."""
        known = self.pixel_size
        micrograph = read(self.image, pixel_size=None if known is None else known.um)
        if known is not None:
            micrograph = replace(micrograph, pixel_size=known)
        masks = [read(path, pixel_size=1.0) for path in self.masks]
        hashes = (micrograph.sha256, *(m.sha256 for m in masks))
        for path, seen, expected in zip(
            (self.image, *self.masks), hashes, self.sha256 or hashes, strict=True
        ):
            if seen != expected:
                raise DatasetError(
                    "this file has changed since its hash was recorded",
                    where=path,
                    seen=f"sha256 {seen[:12]}..., recorded {expected[:12]}...",
                    fix="Bring the recorded file back, or record the dataset anew",
                )
        for path, mask in zip(self.masks, masks, strict=True):
            if mask.shape != micrograph.shape:
                raise DatasetError(
                    f"image {self.image.name} and its mask differ in shape",
                    where=path,
                    seen=f"image {micrograph.shape}, mask {mask.shape}",
                )
        classes, notes = self._classes([m.pixels for m in masks])
        told = [*(f"{self.image.name}: {n}" for n in micrograph.notes)]
        told += [f"{p.name}: {n}" for p, m in zip(self.masks, masks, strict=True) for n in m.notes]
        return Loaded(micrograph, classes, hashes, (*told, *notes))

    def _classes(self, masks: list[Array]) -> tuple[NDArray[np.uint8], list[str]]:
        """The class of every pixel, and notes about grey levels between those of the classes."""
        if self.levels is not None:
            return _by_levels(masks[0], self.levels, self.masks[0]), []
        stray = [
            f"{path.name}: {note}"
            for path, mask in zip(self.masks, masks, strict=True)
            for note in _stray(mask, three=len(masks) == 1)
        ]
        if len(masks) == 1:
            return classes_from_mask(masks[0], where=self.masks[0]), stray
        axon, myelin = masks
        classes = classes_from_masks(axon, myelin, where=self.masks[0])
        both = int(((classes == AXON) & (myelin > myelin.max() / 2)).sum())
        if both:
            stray.append(f"{self.masks[1].name}: {both} pixels are in the axon mask, too: axon")
        return classes, stray


def _by_levels(mask: Array, levels: tuple[int, int, int], where: Path) -> NDArray[np.uint8]:
    classes = np.full(mask.shape, 255, dtype=np.uint8)
    for value, kind in zip(levels, (BACKGROUND, MYELIN, AXON), strict=True):
        classes[mask == value] = kind
    if (classes == 255).any():
        raise MaskError(
            "values that are neither background, myelin nor axon",
            where=where,
            seen=f"{values_seen(np.unique(mask))}; known are {', '.join(map(str, levels))}",
        )
    return classes


def _stray(mask: Array, *, three: bool) -> list[str]:
    """Say how many pixels lie between the levels of a mask."""
    values, counts = np.unique(mask, return_counts=True)
    if mask.dtype == np.bool_ or np.isin(values, (0, 1, 2)).all():
        return []
    top = next((t for t in (1, 255, 65535) if values[-1] <= t), values[-1])
    middle = (top / 2, top // 2, (top + 1) // 2) if three else ()
    levels = (0, *middle, top if three else values[-1])
    off = ~np.isin(values, levels)
    stray = int(counts[off].sum())
    if not stray:
        return []
    few = "1 pixel of" if stray == 1 else f"{stray} pixels of"
    return [f"{few} another grey ({values_seen(values[off])}), taken as the nearest level"]


def raise_together(problems: list[str], where: Path | str) -> None:
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
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError("not a readable JSON file", where=path, seen=str(error)) from error
    if not isinstance(loaded, dict):
        raise DatasetError("expected a JSON object", where=path, seen=type(loaded).__name__)
    return loaded
