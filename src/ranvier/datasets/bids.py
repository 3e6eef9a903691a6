"""Read annotated micrographs laid out as BIDS microscopy (BEP031)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranvier.calibration import PixelSize, checked
from ranvier.datasets.annotated import Annotated, load_json, raise_together, text_of
from ranvier.errors import DatasetError, RanvierError

MODALITIES = (
    "SEM",
    "TEM",
    "BF",
    "CARS",
    "uCT",
    "CONF",
    "DF",
    "PC",
    "FLUO",
    "PLI",
    "NLO",
    "OCT",
    "SPIM",
    "XPCT",
)
_IMAGE_ENDINGS = (".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.btf")
_UNIT_UM = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3}


def is_bids(folder: Path) -> bool:
    """Whether a folder claims to be a BIDS dataset."""
    return (folder / "dataset_description.json").is_file()


def read_bids(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of a BIDS microscopy dataset.

    Images stand in ``sub-*/micr/``, masks under ``derivatives/labels/`` with the same path and the suffix
    ``_seg-axonmyelin-manual``, or as the pair ``_seg-axon-manual`` and ``_seg-myelin-manual``. Pixel sizes come from
    the JSON sidecars, which hold for every file below them whose name they fit (BIDS inheritance).
    Images without a mask are left out.

    Raises
    ------
    DatasetError
        The dataset holds no annotated image, or some of its files make no sense; all problems are listed.
    """
    source = str(load_json(folder / "dataset_description.json").get("Name", folder.name))
    problems: list[str] = []
    found: list[Annotated] = []
    for image in sorted(folder.glob("sub-*/**/micr/*")):
        stem = _stem(image)
        if stem is None:
            continue
        masks = _masks(folder, image, stem)
        if not masks:
            continue
        try:
            size = _pixel_size(folder, image, stem)
        except RanvierError as error:
            problems.append(text_of(error))
            continue
        subject = image.relative_to(folder).parts[0].removeprefix("sub-")
        found.append(Annotated(source, subject, stem, image, masks, size))
    raise_together(problems, folder)
    if not found:
        raise DatasetError(
            "no annotated image in this BIDS dataset",
            where=folder,
            fix="Images are looked for in sub-*/micr/ and masks in derivatives/labels/sub-*/micr/",
        )
    return tuple(found)


def _stem(path: Path) -> str | None:
    for ending in sorted(_IMAGE_ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            stem = path.name[: -len(ending)]
            return stem if stem.rsplit("_", 1)[-1] in MODALITIES else None
    return None


def _masks(folder: Path, image: Path, stem: str) -> tuple[Path, ...]:
    base = folder / "derivatives" / "labels" / image.parent.relative_to(folder)

    def one(kind: str) -> Path | None:
        names = (base / f"{stem}_seg-{kind}-manual{ending}" for ending in _IMAGE_ENDINGS)
        return next((n for n in names if n.is_file()), None)

    both, axon, myelin = one("axonmyelin"), one("axon"), one("myelin")
    if axon and myelin:
        return (axon, myelin)
    return (both,) if both else ()


def _pixel_size(folder: Path, image: Path, stem: str) -> PixelSize | None:
    entities = set(stem.split("_"))
    known: dict[str, Any] = {}
    where = image
    for level in [*reversed(image.relative_to(folder).parents)]:
        sidecars = (
            s
            for s in (folder / level).glob(f"*_{stem.rsplit('_', 1)[-1]}.json")
            if set(s.stem.split("_")) <= entities
        )
        for sidecar in sorted(sidecars, key=lambda s: len(s.stem)):
            known |= load_json(sidecar)
            where = sidecar
    if "PixelSize" not in known:
        return None
    unit = str(known.get("PixelSizeUnits", "um"))
    size = known["PixelSize"]
    if unit not in _UNIT_UM or not _is_pair(size):
        raise DatasetError(
            "PixelSize must be two numbers and PixelSizeUnits one of nm, um, mm",
            where=where,
            seen=f"{size!r} {unit!r}",
        )
    x, y = (float(v) * _UNIT_UM[unit] for v in size[:2])
    return checked(x, y, "bids-sidecar", where=where)


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (2, 3)
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )
