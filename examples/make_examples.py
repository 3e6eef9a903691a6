"""Draw the example micrographs and write their truth.

Run it from anywhere: ``python examples/make_examples.py [FOLDER]``. Without a folder the files
beside this script are drawn anew. The same version of numpy and scipy gives the same pixels.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from ranvier.datasets.phantom import Phantom, PhantomSettings, draw, mask_of

PIXEL_SIZE_UM = 0.1
EXAMPLES = {
    "sem": PhantomSettings.typical("SEM", shape=(448, 576), seed=5),
    "tem": PhantomSettings.typical("TEM", shape=(448, 576), seed=6),
    "brightfield": PhantomSettings.typical("BF", shape=(384, 512), seed=3),
    "cars": PhantomSettings.typical("CARS", shape=(384, 512), seed=4),
}


def main(folder: Path) -> None:
    """Write every example, its mask and its table into a folder."""
    for name, settings in EXAMPLES.items():
        phantom = draw(settings)
        if settings.look == "CARS":
            replace(folder / f"{name}.ome.tif", ome_tiff(phantom, name))
        else:
            colour = phantom.image.pixels if phantom.colour is None else phantom.colour
            replace(folder / f"{name}.png", png(colour))
        replace(folder / "truth" / f"{name}_seg-axonmyelin.png", png(mask_of(phantom)))
        replace(folder / "truth" / f"{name}_truth.csv", table(phantom).encode())
    replace(folder / "pixel_size_in_micrometer.txt", f"{PIXEL_SIZE_UM}\n".encode())


def png(pixels: np.ndarray) -> bytes:
    """Return an image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def ome_tiff(phantom: Phantom, name: str) -> bytes:
    """Return an image as the bytes of an OME-TIFF file that states its pixel size."""
    size = phantom.settings.pixel_size_um
    metadata = {
        "axes": "YX",
        "Name": name,
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": size,
        "PhysicalSizeYUnit": "µm",
        "UUID": "urn:uuid:00000000-0000-4000-8000-000000000001",
    }
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        phantom.image.pixels,
        ome=True,
        metadata=metadata,
        compression="zlib",
        predictor=True,
        photometric="minisblack",
    )
    return buffer.getvalue()


def table(phantom: Phantom) -> str:
    """Return the table of truth as CSV, six significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(phantom.truth)
    for row in zip(*phantom.truth.values(), strict=True):
        writer.writerow(f"{v:.6g}" if isinstance(v, np.floating) else v for v in row)
    return text.getvalue()


def replace(path: Path, data: bytes) -> None:
    """Write a file under another name first, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_bytes(data)
    os.replace(temporary, path)  # noqa: PTH105


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
