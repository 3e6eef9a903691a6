"""A folder with true masks and no images, as a test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranvier.calibration import PixelSize
from ranvier.datasets.annotated import Annotated, Loaded, text_of
from ranvier.datasets.listing import Listing
from ranvier.errors import InputError
from ranvier.jobs import MaskSet
from ranvier.micrograph import Micrograph
from ranvier.scoring.mask_folder import MaskFolder

__all__ = ["TrueMasks", "list_truth"]

_DRAWN = (0, 90, 170)
"""Grey levels in which background, myelin and axon are drawn."""


@dataclass(frozen=True, kw_only=True)
class TrueMasks(Annotated):
    """An image of which only the masks are there: the micrograph that it loads is a drawing of its classes.

    Attributes
    ----------
    folder
        Where its masks lie.
    mask_set
        Which of its files they are.
    """

    folder: MaskFolder
    mask_set: MaskSet

    def load_noted(self) -> Loaded:
        """Read the masks; see :meth:`Annotated.load_noted`."""
        um = None if self.pixel_size is None else self.pixel_size.um
        planes, found = self.folder.read(self.mask_set, pixel_size=um)
        size = self.pixel_size or found.pixel_size
        hashes = tuple(p.sha256 for p in planes)
        drawn = np.array(_DRAWN, dtype=np.uint8)[found.classes]
        notes = tuple(
            f"{path.name}: {n}" for path, p in zip(self.masks, planes, strict=True) for n in p.notes
        )
        micrograph = Micrograph(drawn, size, self.image, hashes[0], notes)
        return Loaded(micrograph, found.classes, (hashes[0], *hashes), notes)


def list_truth(folder: Path, *, pixel_size: PixelSize | None = None) -> Listing:
    """The masks of a folder as a test set of its name, each image a subject of its own.

    Parameters
    ----------
    folder
        See :class:`MaskFolder`.
    pixel_size
        Of all images; None takes what the files say.

    Raises
    ------
    InputError
        As for :class:`MaskFolder`.
    """
    known = MaskFolder(folder)
    images: list[Annotated] = []
    problems: list[str] = []
    notes: list[str] = []
    for stem in known.stems:
        try:
            masks = known.of(stem)
        except InputError as error:
            problems.append(text_of(error))
            continue
        notes += masks.notes
        images.append(
            TrueMasks(
                source=folder.resolve().name,
                subject=stem,
                name=stem,
                image=masks.files[0],
                masks=masks.files,
                pixel_size=pixel_size,
                folder=known,
                mask_set=masks,
            )
        )
    return Listing(folder, tuple(images), tuple(notes), tuple(problems))
