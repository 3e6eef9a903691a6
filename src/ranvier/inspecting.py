"""What annotated datasets hold: images, classes, fibre sizes, subjects and problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._contact_sheet import Cell, cell
from ranvier.datasets.annotated import Annotated, Loaded, text_of
from ranvier.datasets.checking import Examined, examined
from ranvier.datasets.listing import Listing
from ranvier.errors import RanvierError
from ranvier.instances import separate
from ranvier.morphometrics import measure

__all__ = ["Inspected", "Inspection", "inspect"]

CLASSES = ("background", "myelin", "axon")
MOST_CELLS = 60
"""Images on a contact sheet."""
_MOST_NAMED = 3
"""Files named in a note that holds for several."""
_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Inspected:
    """One image with its fibres.

    Attributes
    ----------
    known
        The image as it was loaded.
    axon_diameter_px, myelin_thickness_px
        One value per myelinated fibre that the image's border does not cut; area-equivalent circles.
    cell
        Its picture, or None.
    """

    known: Examined
    axon_diameter_px: NDArray[np.float64]
    myelin_thickness_px: NDArray[np.float64]
    cell: Cell | None = None


@dataclass(frozen=True)
class Inspection:
    """Everything found in some datasets.

    Attributes
    ----------
    images
        Those that could be loaded.
    notes, problems
        By source (or folder, before a source has a name), in plain words.
    """

    images: tuple[Inspected, ...]
    notes: dict[str, list[str]]
    problems: dict[str, list[str]]

    def summary(self) -> dict[str, Any]:
        """Figures of all sources together, under ``all``, and of each, under ``sources``.

        Megapixels; pixel sizes in um with their number of images; shares of the classes among all pixels; median and
        5th and 95th percentile of axon diameters and myelin thicknesses, in px and, over images with a known
        pixel size, in um; None where there is nothing to tell.
        """
        names = sorted({i.known.image.source for i in self.images} | {*self.notes, *self.problems})
        sources = {
            name: {
                **_figures([i for i in self.images if i.known.image.source == name]),
                "notes": self.notes.get(name, []),
                "problems": self.problems.get(name, []),
            }
            for name in names
        }
        total = _figures(list(self.images))
        total["problems"] = sum(len(p) for p in self.problems.values())
        return {"all": total, "sources": sources}


def inspect(
    listings: Iterable[Listing],
    *,
    pictures: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Load every image of some datasets, measure the fibres of its masks and collect notes and problems.

    Parameters
    ----------
    listings
        From :func:`ranvier.datasets.collection.list_datasets`.
    pictures
        Make a picture of up to ``MOST_CELLS`` images, spread over all sources.
    progress
        Takes the number of images done and of all.
    """
    listed = list(listings)
    notes: dict[str, list[str]] = {}
    problems: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for listing in listed:
        names = sorted({a.source for a in listing.images}) or [str(listing.folder)]
        for name in names:
            if name in taken and taken[name] != str(listing.folder):
                problems.setdefault(name, []).append(
                    f"{listing.folder} and {taken[name]} share a name"
                )
            taken[name] = str(listing.folder)
        notes.setdefault(names[0], []).extend(listing.notes)
        problems.setdefault(names[0], []).extend(listing.problems)
    images = [image for listing in listed for image in listing.images]
    shown = _shown(images) if pictures else set()
    found: list[Inspected] = []
    for number, image in enumerate(images):
        try:
            found.append(_inspected(image, image.load_noted(), picture=number in shown))
        except RanvierError as error:
            problems.setdefault(image.source, []).append(text_of(error))
        if progress is not None:
            progress(number + 1, len(images))
    told: dict[str, list[tuple[str, str]]] = {}
    for done in found:
        told.setdefault(done.known.image.source, []).extend(_noted(done.known.image))
    for source, pairs in told.items():
        notes.setdefault(source, []).extend(_gathered(pairs))
    for source, text in _copies(found):
        problems.setdefault(source, []).append(text)
    return Inspection(
        tuple(found),
        {k: v for k, v in notes.items() if v},
        {k: v for k, v in problems.items() if v},
    )


def _inspected(image: Annotated, loaded: Loaded, *, picture: bool) -> Inspected:
    fibres = measure(separate(loaded.classes)).table
    kept = np.asarray(fibres["myelinated"], bool) & ~np.asarray(fibres["touches_border"], bool)
    diameters = np.asarray(fibres["axon_diameter_px"], np.float64)[kept]
    thicknesses = np.asarray(fibres["myelin_thickness_px"], np.float64)[kept]
    known = examined(image, loaded)
    drawn = None
    if picture:
        said = [f"{image.source}: {image.name}", f"subject {image.subject}"]
        said[1] += f", {image.role}" if image.role else ""
        typical = float(np.median(diameters)) if diameters.size else None
        drawn = cell(loaded.micrograph, loaded.classes, lines=said, typical_px=typical)
    return Inspected(known, diameters, thicknesses, drawn)


def _noted(image: Annotated) -> list[tuple[str, str]]:
    """File or name, and text, of each note about an image."""
    files = [path.name for path in (image.image, *image.masks)]
    said = []
    for note in image.notes:
        file = next((f for f in files if note.startswith(f"{f}: ")), None)
        said.append((image.name, note) if file is None else (file, note[len(file) + 2 :]))
    return said


def _gathered(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each text, with the files that it holds for."""
    places: dict[str, list[str]] = {}
    for place, text in pairs:
        places.setdefault(text, []).append(place)
    lines = []
    for text, named in places.items():
        few = ", ".join(named[:_MOST_NAMED]) + (", ..." if len(named) > _MOST_NAMED else "")
        lines.append(f"{few}: {text}" + (f" ({len(named)} files)" if len(named) > 1 else ""))
    return lines


def _shown(images: list[Annotated]) -> set[int]:
    """Indices of the images on the contact sheet: from each source in turn, evenly spread within it."""
    if len(images) <= MOST_CELLS:
        return set(range(len(images)))
    by_source: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        by_source.setdefault(image.source, []).append(number)
    room, chosen = MOST_CELLS, set[int]()
    for left, numbers in enumerate(sorted(by_source.values(), key=len)):
        share = min(len(numbers), room // (len(by_source) - left))
        chosen |= {numbers[int(i * len(numbers) / share)] for i in range(share)}
        room -= share
    return chosen


def _copies(found: list[Inspected]) -> list[tuple[str, str]]:
    first: dict[str, Annotated] = {}
    said = []
    for done in found:
        image = done.known.image
        other = first.setdefault(done.known.pixels_sha256, image)
        if other is not image:
            text = f"{image.name} is the same image as {other.source}/{other.name}"
            said.append((image.source, text))
    return said


def _figures(images: list[Inspected]) -> dict[str, Any]:
    known = [i.known for i in images]
    pixels = np.sum([k.class_pixels for k in known], axis=0) if known else np.zeros(3)
    sizes = Counter(k.image.pixel_size.um if k.image.pixel_size else None for k in known)
    roles = Counter(k.image.role or "not said" for k in known)
    return {
        "images": len(images),
        "megapixels": round(float(pixels.sum()) / 1e6, 3),
        "subjects": len({(k.image.source, k.image.subject) for k in known}),
        "roles": dict(sorted(roles.items())),
        "pixel_sizes_um": {f"{um:g}": n for um, n in sorted(sizes.items(), key=str) if um},
        "without_pixel_size": sizes[None],
        "class_shares": {
            name: round(float(n / pixels.sum()), 4) if pixels.sum() else None
            for name, n in zip(CLASSES, pixels, strict=True)
        },
        "fibres": sum(i.axon_diameter_px.size for i in images),
        **_sizes("axon_diameter", images),
        **_sizes("myelin_thickness", images),
    }


def _sizes(name: str, images: list[Inspected]) -> dict[str, dict[str, float] | None]:
    in_px = [np.zeros(0), *(getattr(i, f"{name}_px") for i in images)]
    in_um = [
        values * i.known.image.pixel_size.um
        for values, i in zip(in_px[1:], images, strict=True)
        if i.known.image.pixel_size is not None
    ]
    return {
        f"{name}_px": _spread(np.concatenate(in_px)),
        f"{name}_um": _spread(np.concatenate([np.zeros(0), *in_um])),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float] | None:
    if not values.size:
        return None
    low, median, high = np.percentile(values, _PERCENTILES)
    return {"p5": float(low), "median": float(median), "p95": float(high)}
