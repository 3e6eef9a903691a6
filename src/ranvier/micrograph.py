"""The nouns that every room shares. All are frozen; a stage returns a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MissingExtraError

if TYPE_CHECKING:
    from ranvier.calibration import PixelSize

BACKGROUND, MYELIN, AXON = 0, 1, 2
CLASS_NAMES = ("background", "myelin", "axon")

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One grey image with its calibration.

    Attributes
    ----------
    pixels
        Grey levels, shape (rows, columns), as stored: uint8, uint16 or float32, finite.
    pixel_size
        Edge of a square pixel and where that number came from; None when nothing tells it.
    path
        The file that it was read from, or None for an array.
    sha256
        Hash of the file's bytes (of the pixels, for an array).
    notes
        What reading decided on the way, in plain words, e.g. "RGB converted to grey".
    colour
        Red, green and blue as stored, shape (rows, columns, 3); None unless it was asked for and the file has it.
    """

    pixels: Array
    pixel_size: PixelSize | None = None
    path: Path | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()
    colour: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.pixels.shape[0]), int(self.pixels.shape[1]))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Class of every pixel of one micrograph.

    Attributes
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    pixel_size
        Taken over from the micrograph.
    provenance
        Which model, settings and versions made it (JSON-serialisable).
    confidence
        Probability of each pixel's class times 255, uint8, the same shape; None where nothing
        tells it, as for masks of another tool.
    """

    classes: NDArray[np.uint8]
    pixel_size: PixelSize | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    confidence: NDArray[np.uint8] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.classes.shape[0]), int(self.classes.shape[1]))


@dataclass(frozen=True, eq=False)
class Instances:
    """Individual axons and the myelin that belongs to each.

    Attributes
    ----------
    axons
        int32, shape (rows, columns): 0, or the id of the axon. Ids run from 1 to ``count``.
    fibres
        int32, the same shape and ids: the axon with its own myelin.
    orphan_myelin_px
        Pixels of myelin that belong to no axon.
    orphan_myelin_count
        Pieces (8-connected) of it.
    small_axons
        Components of the axon class that were left out because they are too small.
    """

    axons: NDArray[np.int32]
    fibres: NDArray[np.int32]
    count: int
    orphan_myelin_px: int = 0
    orphan_myelin_count: int = 0
    small_axons: int = 0


@dataclass(frozen=True, eq=False)
class Fibres:
    """One row per fibre, and the label image whose values are the rows' ids.

    Attributes
    ----------
    table
        Column name (with its unit) to a 1-D array; every column has the same length.
    instances
        Label images; ``table["id"]`` holds the values found in them.
    pixel_size
        None when the table is in pixels.
    """

    table: Mapping[str, Array]
    instances: Instances
    pixel_size: PixelSize | None = None

    def __len__(self) -> int:
        return self.instances.count

    def to_dataframe(self) -> Any:
        """Return the table as a pandas DataFrame.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(
                "a DataFrame needs pandas", fix="Install it with: pip install pandas"
            ) from error
        return pd.DataFrame(dict(self.table))
