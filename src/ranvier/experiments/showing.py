"""Pictures of images without annotation: what each model draws on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranvier.datasets.annotated import Annotated
from ranvier.experiments.data import Material
from ranvier.experiments.running import slug
from ranvier.micrograph import Micrograph
from ranvier.pictures import overlay_png
from ranvier.reading import read
from ranvier.scoring.contenders import Contender
from ranvier.scoring.running import Report
from ranvier.writing import make_folder, write_atomically

SHOWN = "qualitative"
_MOST = 4
"""Images of a set that are shown."""


def show(
    material: Material, contenders: Sequence[Contender], folder: Path, *, report: Report = print
) -> tuple[Path, ...]:
    """Draw what each model finds on the first images of each set that is shown only.

    Parameters
    ----------
    material
        With the sets' image files.
    contenders
        The models.
    folder
        ``SET_IMAGE_MODEL.png`` go there, axons in blue and myelin in red; what is there is drawn again.
    report
        Takes a line of text.

    Raises
    ------
    ReadError
        An image cannot be used.
    """
    written = []
    for name, paths in material.qualitative.items():
        for path in paths[:_MOST]:
            # Nothing is measured, so that the pixel size does not matter.
            micrograph = read(path, pixel_size=1.0)
            image = Annotated(name, path.stem, path.stem, path, ())
            report(f"{name}/{path.name}: {len(contenders)} models, to be looked at")
            for contender in contenders:
                content = _drawn(contender, image, micrograph)
                file = folder / f"{slug(name)}_{path.stem}_{slug(contender.name)}.png"
                make_folder(folder)
                write_atomically(file, content)
                written.append(file)
    return tuple(written)


def _drawn(contender: Contender, image: Annotated, micrograph: Micrograph) -> bytes:
    return overlay_png(micrograph.pixels, contender.classes(image, micrograph), None)
