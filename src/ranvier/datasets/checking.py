"""Load every image of a dataset with its masks, and collect what is wrong with any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ranvier.datasets.annotated import Annotated, Loaded, raise_together, text_of
from ranvier.errors import RanvierError

MOST_PLACES = 3
"""Sources or folders named in the place of an error; more are counted."""


@dataclass(frozen=True)
class Examined:
    """What loading an annotated image told about it.

    Attributes
    ----------
    image
        With its pixel size, if any place tells it, the hashes of its files and the notes of loading.
    shape
        Rows and columns.
    class_pixels
        Number of pixels of background, myelin and axon.
    pixels_sha256
        Hash of the decoded grey levels, their type and shape; the same for copies in other file formats.
    """

    image: Annotated
    shape: tuple[int, int]
    class_pixels: tuple[int, int, int]
    pixels_sha256: str

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.shape[0] * self.shape[1] / 1e6


def examined(image: Annotated, loaded: Loaded) -> Examined:
    """Sum up an image that has been loaded."""
    pixels = loaded.micrograph.pixels
    digest = hashlib.sha256(f"{pixels.dtype.name} {pixels.shape}\n".encode())
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).data)
    background, myelin, axon = np.bincount(loaded.classes.ravel(), minlength=3).tolist()
    known = replace(
        image,
        pixel_size=loaded.micrograph.pixel_size,
        sha256=loaded.sha256,
        notes=tuple(dict.fromkeys((*image.notes, *loaded.notes))),
    )
    rows, columns = loaded.micrograph.shape
    return Examined(known, (rows, columns), (background, myelin, axon), digest.hexdigest())


def check(images: Iterable[Annotated]) -> tuple[Examined, ...]:
    """Load every image with its masks, one at a time.

    Raises
    ------
    DatasetError
        Some cannot be used; every problem is listed with its file.
    """
    found: list[Examined] = []
    problems: list[str] = []
    sources: dict[str, None] = {}
    for image in images:
        sources[image.source] = None
        try:
            found.append(examined(image, image.load_noted()))
        except RanvierError as error:
            problems.append(text_of(error))
    named = ", ".join(list(sources)[:MOST_PLACES])
    more = len(sources) - MOST_PLACES
    raise_together(problems, named if more <= 0 else f"{named} and {more} more")
    return tuple(found)
