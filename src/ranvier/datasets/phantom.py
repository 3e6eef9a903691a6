"""Phantoms: micrographs of packed myelinated fibres that are drawn, so that the truth is exact.

Every fibre is a pair of closed curves whose areas are known in closed form. A pixel belongs to a
shape when its centre lies inside the curve. Fibres never overlap; some touch, and some are cut by
the border of the image.

The table of truth has one row per fibre that has a pixel in the image, with the columns

======================  ===========================================================================
id                      value in the label images, from 1
centre_row_px           centre of mass of the whole axon; integers are centres of pixels; may lie
centre_col_px           outside the image
axon_diameter_um        of the circle with the axon's area, ``2 sqrt(A / pi)``
fibre_diameter_um       of the circle with the area of axon and myelin
myelin_thickness_um     half the difference of the two
g_ratio                 axon_diameter_um / fibre_diameter_um
axon_area_um2           closed form, of the whole shape even where the border cuts it
fibre_area_um2          likewise
touches_border          the fibre has a pixel in the outermost rows or columns
axon_in_image           the axon has a pixel in the image (False for a strip of cut-off myelin)
======================  ===========================================================================
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.datasets._contrast import any_contrast
from ranvier.datasets._looks import Look, Optics, render
from ranvier.datasets._outlines import Fibre, Packing
from ranvier.datasets._phantom_settings import NARROWEST_PX, DiameterLaw, PhantomSettings
from ranvier.datasets._scene import lay
from ranvier.datasets._tissue import margin_px, pack_between, pack_fibres
from ranvier.errors import OutputExistsError, SettingsError
from ranvier.micrograph import AXON, MYELIN, Micrograph
from ranvier.writing import make_folder, write_atomically

__all__ = [
    "MASK_VALUES",
    "NARROWEST_PX",
    "DiameterLaw",
    "Look",
    "Phantom",
    "PhantomSettings",
    "draw",
    "mask_of",
    "write_dataset",
]

MASK_VALUES = {"background": 0, "myelin": 127, "axon": 255}
"""Grey level of each class in a mask file, in the order of the class numbers."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn micrograph and its truth.

    Attributes
    ----------
    settings
        What it was drawn from.
    image
        uint8, shape (rows, columns); the source of its pixel size is "phantom".
    classes
        uint8, the same shape: 0 background, 1 myelin, 2 axon.
    axons, fibres
        int32, the same shape: 0, or the id of the fibre. A fibre is an axon with its own myelin.
    truth
        Column name to a 1-D array, one entry per fibre; see the module's docstring.
    colour
        uint8, shape (rows, columns, 3), red, green, blue, for the look "BF"; else None.
    """

    settings: PhantomSettings
    image: Micrograph
    classes: NDArray[np.uint8]
    axons: NDArray[np.int32]
    fibres: NDArray[np.int32]
    truth: Mapping[str, NDArray[Any]]
    colour: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.truth["id"])

    @property
    def fibre_fraction(self) -> float:
        """Share of the image that fibres cover."""
        return float(np.count_nonzero(self.fibres) / self.fibres.size)


def draw(settings: PhantomSettings, *, random_contrast: bool = False) -> Phantom:
    """Draw a phantom.

    Parameters
    ----------
    settings
        What to draw. The same settings give the same bytes.
    random_contrast
        Paint every kind of tissue at a grey level and with a grain of its own, at random, instead of as the look has
        them. The truth is the same.

    Returns
    -------
    Phantom
        The image, label images and the table of truth.
    """
    # One stream of random numbers each for fibres, for what lies between them, and for the look.
    streams = np.random.SeedSequence(settings.seed).spawn(3)
    rngs = [np.random.Generator(np.random.PCG64(stream)) for stream in streams]
    direction = float(rngs[0].uniform(0, np.pi))
    packing = Packing(settings.shape, margin_px(settings))
    fibres = pack_fibres(rngs[0], packing, settings, direction)
    count = len(fibres)
    fibres, axon_labels, fibre_labels = _rasterise(fibres, settings.shape)
    classes = np.zeros(settings.shape, np.uint8)
    classes[fibre_labels > 0] = MYELIN
    classes[axon_labels > 0] = AXON
    bare, bodies = pack_between(rngs[1], packing, settings, direction, count)
    scene = lay(rngs[2], settings.shape, fibres=fibres, bare=bare, bodies=bodies)
    optics = Optics(settings.noise, settings.blur, settings.debris)
    colour = None
    if random_contrast:
        grey, kind = any_contrast(rngs[2], scene, optics), "contrast at random"
    else:
        grey, colour = render(rngs[2], scene, look=settings.look, optics=optics)
        kind = f"look {settings.look}"
    image = Micrograph(
        grey,
        PixelSize(float(settings.pixel_size_um), "phantom"),
        sha256=hashlib.sha256(f"uint8 {grey.shape}\n".encode() + grey.tobytes()).hexdigest(),
        notes=(f"phantom, {kind}, seed {settings.seed}",),
    )
    truth = _table(fibres, axon_labels, fibre_labels, settings.pixel_size_um)
    return Phantom(settings, image, classes, axon_labels, fibre_labels, truth, colour)


def _rasterise(
    fibres: Sequence[Fibre], shape: tuple[int, int]
) -> tuple[list[Fibre], NDArray[np.int32], NDArray[np.int32]]:
    """Label every pixel whose centre is inside an outline; leave out fibres without a pixel."""
    axons, labels = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    kept: list[Fibre] = []
    for fibre in fibres:
        window = fibre.sheath.window(shape)
        rows, cols = np.ogrid[window]
        inside = fibre.sheath.level(rows, cols) <= 1.0
        if not inside.any():
            continue
        kept.append(fibre)
        labels[window][inside] = len(kept)
        axons[window][fibre.axon.level(rows, cols) <= 1.0] = len(kept)
    return kept, axons, labels


def _table(
    fibres: Sequence[Fibre],
    axons: NDArray[np.int32],
    labels: NDArray[np.int32],
    pixel_um: float,
) -> dict[str, NDArray[Any]]:
    ids = np.arange(1, len(fibres) + 1, dtype=np.int32)
    centres = np.array([f.axon.centroid() for f in fibres], dtype=np.float64).reshape(-1, 2)
    axon_area = np.array([f.axon.area for f in fibres], dtype=np.float64) * pixel_um**2
    fibre_area = np.array([f.sheath.area for f in fibres], dtype=np.float64) * pixel_um**2
    inner, outer = 2 * np.sqrt(axon_area / np.pi), 2 * np.sqrt(fibre_area / np.pi)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return {
        "id": ids,
        "centre_row_px": centres[:, 0],
        "centre_col_px": centres[:, 1],
        "axon_diameter_um": inner,
        "fibre_diameter_um": outer,
        "myelin_thickness_um": 0.5 * (outer - inner),
        "g_ratio": inner / outer,
        "axon_area_um2": axon_area,
        "fibre_area_um2": fibre_area,
        "touches_border": np.isin(ids, edge),
        "axon_in_image": np.isin(ids, np.unique(axons)),
    }


def mask_of(phantom: Phantom) -> NDArray[np.uint8]:
    """Return the mask of a phantom: 0 background, 127 myelin, 255 axon; shape (rows, columns)."""
    return np.array(list(MASK_VALUES.values()), dtype=np.uint8)[phantom.classes]


def write_dataset(folder: Path | str, phantoms: Sequence[Phantom]) -> list[Path]:
    """Write phantoms as a dataset of images and masks.

    ``images/NAME.png`` (RGB for the look "BF"), ``masks/NAME.png`` (0 / 127 / 255) and, last,
    ``dataset.json``. NAME is the look and the seed, e.g. ``tem-0007``. Each file is written under
    another name first and then renamed.

    Parameters
    ----------
    folder
        Where to write; made if need be.
    phantoms
        At least one, all of one look and one pixel size, no two of one seed.

    Returns
    -------
    list of Path
        The images.

    Raises
    ------
    SettingsError
        No phantom, or phantoms that do not go together.
    OutputExistsError
        The folder holds a dataset already.
    """
    folder = Path(folder)
    names = [f"{p.settings.look.lower()}-{p.settings.seed:04d}" for p in phantoms]
    kinds = {(p.settings.look, p.settings.pixel_size_um) for p in phantoms}
    if len(kinds) != 1 or len(set(names)) != len(names):
        raise SettingsError(
            "a dataset needs phantoms of one look and pixel size, each with its own seed",
            where=folder,
            seen=f"{len(phantoms)} phantoms, {len(kinds)} kinds, {len(set(names))} names",
        )
    if (folder / "dataset.json").exists():
        raise OutputExistsError("a dataset is here already", where=folder, fix="Choose another")
    for inside in ("images", "masks"):
        make_folder(folder / inside)
    images = []
    for name, phantom in zip(names, phantoms, strict=True):
        pixels = phantom.image.pixels if phantom.colour is None else phantom.colour
        images.append(folder / "images" / f"{name}.png")
        write_atomically(images[-1], _png(pixels))
        write_atomically(folder / "masks" / f"{name}.png", _png(mask_of(phantom)))
    text = json.dumps(_description(phantoms[0].settings), indent=2) + "\n"
    write_atomically(folder / "dataset.json", text.encode())
    return images


def _description(s: PhantomSettings) -> dict[str, Any]:
    return {
        "name": f"PHANTOM_{s.look}",
        "modality": s.look,
        "organ": "none (drawn)",
        "species": "none (drawn)",
        "pathology": "none (drawn)",
        "pixel_size_um": s.pixel_size_um,
        "annotation": "exact, from the outlines that were drawn",
        "mask_values": MASK_VALUES,
        "groups": "one drawing per image; split by image",
        "subject_from": "image",
        "licence": "CC0-1.0",
        "source": "drawn by ranvier.datasets.phantom",
    }


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
