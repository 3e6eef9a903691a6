"""Pictures that show no nerve, so that a network learns what fibres are not: photographs and stained tissue.

They come with scikit-image (van der Walt et al. 2014, PeerJ 2:e453), in its wheel, and nothing of them is copied here.
Some of them are learned from; the others are for measuring what a model makes of images that are unlike any nerve. Of
the one picture of stained tissue each gets a half. Bright discs and cells side by side with dark gaps (coins, bricks)
are not learned from: so look large myelinated fibres, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MissingExtraError
from ranvier.reading import read

__all__ = ["HELD_OUT", "LEARNED", "pictures"]

LEARNED = (
    "astronaut.png",
    "grass.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
HELD_OUT = (
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "text.png",
)
_TISSUE = "ihc.png"


def pictures(names: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and grey levels of pictures without nerve.

    Parameters
    ----------
    names
        :data:`LEARNED` or :data:`HELD_OUT`; the left half of a picture of stained tissue goes with the one, the
        right half with the other.

    Yields
    ------
    str, ndarray
        uint8 (rows, columns).

    Raises
    ------
    MissingExtraError
        This installation of scikit-image has no pictures.
    """
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in (*names, _TISSUE):
        path = folder / name
        if not path.is_file():
            raise MissingExtraError(
                "scikit-image's pictures are not installed",
                where=path,
                fix="Install scikit-image from its wheel, or set sampling.nothing to 0",
            )
        grey = np.asarray(read(path, pixel_size=1.0).pixels).astype(np.uint8)
        if name == _TISSUE:
            half = grey.shape[1] // 2
            grey = grey[:, :half] if names == LEARNED else grey[:, half:]
        yield name, np.ascontiguousarray(grey)
