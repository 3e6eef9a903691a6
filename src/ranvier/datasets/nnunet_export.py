"""An aggregate -> a raw dataset of nnU-Net 2, for those who train there."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets.aggregate import Aggregate, Entry
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.nnunet import ABOUT, OWN, SPLITS
from ranvier.errors import OutputExistsError, SettingsError
from ranvier.micrograph import Array
from ranvier.writing import make_folder

_TEXTS = ("subject", "sample", "name", "modality", "species", "organ", "pathology", "licence")


def export_nnunet(made: Aggregate, folder: Path, *, number: int = 1) -> Path:
    """Write an aggregate as a raw dataset of nnU-Net 2 with its folds.

    ``DatasetNNN_NAME`` gets ``imagesTr/CASE_0000.png`` with the grey levels as stored (8 or 16 bits; floats are spread
    from their least to their greatest value over 16 bits), ``labelsTr/CASE.png`` with 0 background, 1 myelin, 2 axon,
    ``imagesTs/`` and ``labelsTs/`` with the test set, ``dataset.json``, ``splits_final.json`` (which nnU-Net expects
    beside its preprocessed files) and ``ranvier.json``, by which
    :func:`ranvier.datasets.nnunet.list_nnunet` finds sources, subjects and pixel sizes again.

    Parameters
    ----------
    made
        Its files' hashes are checked as they are read.
    folder
        Where ``DatasetNNN_NAME`` is made; it appears when it is whole.
    number
        1 to 999; what nnU-Net calls the dataset's id.

    Returns
    -------
    Path
        The dataset's folder.

    Raises
    ------
    OutputExistsError
        It exists already.
    DatasetError
        A file has changed or cannot be used.
    SettingsError
        The number is out of its range.
    """
    if not 1 <= number <= 999:
        raise SettingsError("must be 1 to 999", where="number of the dataset", seen=number)
    title = f"Dataset{number:03d}_{made.name}"
    target = folder / title
    if target.exists():
        raise OutputExistsError("this dataset exists already", where=target, fix="Choose another")
    making = folder / f".{title}.part"
    shutil.rmtree(making, ignore_errors=True)
    for inside in ("imagesTr", "labelsTr", *(("imagesTs", "labelsTs") if made.test else ())):
        make_folder(making / inside)
    try:
        cases = {
            case: {**_facts(entry), **_write_case(entry.image, making, case)}
            for case, entry in _cases(made)
        }
        _write_json(making / ABOUT, _about(made, title))
        _write_json(making / SPLITS, _splits(made))
        _write_json(
            making / OWN,
            {"name": made.name, "folds": made.folds, "seed": made.seed, "cases": cases},
        )
        making.replace(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target


def _cases(made: Aggregate) -> Iterator[tuple[str, Entry]]:
    """Each image under a name that nnU-Net takes, unique in the aggregate."""
    used: set[str] = set()
    for entry in made.entries:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{entry.image.source}_{entry.image.name}")
        case, again = plain, 1
        while case.lower() in used:
            again += 1
            case = f"{plain}-{again}"
        used.add(case.lower())
        yield case, entry


def _about(made: Aggregate, title: str) -> dict[str, Any]:
    licences = sorted({e.image.licence for e in made.entries if e.image.licence})
    return {
        "name": title,
        "description": "Aggregated from " + ", ".join(made.sources()),
        "licence": "; ".join(licences),
        "labels": {"background": 0, "myelin": 1, "axon": 2},
        "channel_names": {"0": "rescale_to_0_1"},
        "numTraining": len(made.everything().train),
        "numTest": len(made.test),
        "file_ending": ".png",
    }


def _splits(made: Aggregate) -> list[dict[str, list[str]]]:
    kept = [(case, entry.fold) for case, entry in _cases(made) if entry.fold is not None]
    return [
        {
            "train": [case for case, fold in kept if fold != number],
            "val": [case for case, fold in kept if fold == number],
        }
        for number in range(made.folds)
    ]


def _facts(entry: Entry) -> dict[str, Any]:
    image = entry.image
    facts: dict[str, Any] = {"source": image.source}
    facts |= {key: getattr(image, key) for key in _TEXTS if getattr(image, key) is not None}
    if image.pixel_size is not None:
        facts["pixel_size_um"] = image.pixel_size.um
        facts["pixel_size_source"] = image.pixel_size.source
    if entry.fold is not None:
        facts["fold"] = entry.fold
    return facts


def _write_case(image: Annotated, folder: Path, case: str) -> dict[str, Any]:
    """Write image and label; what cannot be seen from them any more comes back."""
    loaded = image.load_noted()
    side = "Ts" if image.role == "test" else "Tr"
    pixels = loaded.micrograph.pixels
    facts: dict[str, Any] = {}
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        facts["grey_from_to"] = [low, high]
        spread = (pixels.astype(np.float64) - low) / ((high - low) or 1.0)
        pixels = np.rint(spread * 65535).astype(np.uint16)
    (folder / f"images{side}" / f"{case}_0000.png").write_bytes(_png(pixels))
    (folder / f"labels{side}" / f"{case}.png").write_bytes(_png(loaded.classes))
    return {**facts, "sha256": list(loaded.sha256)}


def _png(pixels: Array | NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
