"""A model on disk: a folder with model.json and the files that it names.

The written contract, versions 1 to 3. ``model.json`` is a JSON object with

- ``format``: ``"ranvier-bundle"``; ``version``: 1, 2 or 3; ``name``; ``created``: a date
- ``classes``: ``["background", "myelin", "axon"]``
- ``normalisation``: ``"image-standardisation"`` (subtract the image's mean, divide by its standard deviation) or
  ``"rescale-0-1"`` (subtract the image's least grey level, divide by its range)
- ``field``: ``stride``, ``receptive_radius`` and ``minimum``, in pixels
- ``graphs``: ``float`` and, if there is one, ``int8``: names of OpenVINO IR files (.xml, the .bin beside it)
- ``golden``: name of an .npz with ``tile`` (1, channels, rows, columns; one channel in version 1) and the ``logits``
  that it must give
- ``files``: every file with its ``bytes`` and ``sha256``
- ``training``: a summary of data (``trained_on_sha256``: hashes of the image files), recipe and scores; with
  ``ensemble`` (each network's fold, what it held out and its scores), ``distilled_from`` (the teachers' hashes),
  ``finetuned`` (Dice before and after) or ``begun_from`` where they apply
- where it is known, ``trained_axon_px``: how wide axons are in the training's images, in pixels (of each image, the
  diameter above and below which axons cover the same area; the geometric mean over images); by it
  :mod:`ranvier.zooming` judges at which zoom axons are of the size that the network knows
- where the model was made by Ranvier, ``data`` (what is known of each source, licences among it), ``limits`` (what it
  was not trained on), ``how_scored`` (what the scores are, in a sentence) and ``gates``: for each precision whether it
  ``passed`` the comparison with f32, or its ``failures`` in words, or why it was ``skipped``

Version 2 is for networks that are shown patches of one size, as those imported from nnU-Net. Its ``normalisation`` is
``"per-channel"``, and it has one more key, ``patchwise``, as :mod:`ranvier._patch_plan` spells it out.

Version 3 is for models without a network. It has ``classical``, as :mod:`ranvier._classical_settings` spells it out,
and no ``field``, ``normalisation`` and ``golden``; ``graphs`` is empty.

Sizes and hashes are checked before any other file is parsed. No file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranvier._bundle_contract import (
    CLASSICAL_VERSION,
    FORMAT,
    MANIFEST,
    NORMALISATION,
    PATCHWISE_VERSION,
    VERSION,
    Normalisation,
    check_about,
)
from ranvier._classical_settings import ClassicalSettings, classical_settings
from ranvier._patch_plan import PatchPlan, patch_plan
from ranvier.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError
from ranvier.micrograph import CLASS_NAMES
from ranvier.writing import write_atomically

__all__ = [
    "DEFAULT_MODEL",
    "FORMAT",
    "MANIFEST",
    "NORMALISATION",
    "VERSION",
    "Bundle",
    "Field",
    "Normalisation",
    "embedded",
    "lineage",
    "open_bundle",
    "seal",
]

DEFAULT_MODEL = "generalist"
_LARGEST_MANIFEST = 4 << 20
_NO_FIELD = {"stride": 1, "receptive_radius": 0, "minimum": 1}
_REINSTALL = "Copy or install the model again"


@dataclass(frozen=True)
class Field:
    """What geometry a network needs: its stride, how far it looks, and the least it should be shown.

    Attributes
    ----------
    stride
        Tiles start on multiples of it.
    receptive_radius
        How many pixels beyond a stride-aligned block of output the network looks.
    minimum
        Smaller images are mirrored up to this edge.
    """

    stride: int
    receptive_radius: int
    minimum: int = 128

    @property
    def halo(self) -> int:
        """The receptive radius, rounded up to the stride."""
        return -(-self.receptive_radius // self.stride) * self.stride


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model.

    Attributes
    ----------
    folder
        Where it lies.
    sha256
        Hash of model.json, and through the hashes in it of the whole model.
    about
        The content of model.json.
    patches
        How the network is shown patches of one size; None where it takes tiles of any size.
    classical
        Settings of the classical pipeline, where the model is that and has no network; else None. ``field`` means
        nothing then.
    """

    folder: Path
    name: str
    sha256: str
    field: Field
    about: Mapping[str, Any]
    patches: PatchPlan | None = None
    classical: ClassicalSettings | None = None

    @property
    def normalisation(self) -> Normalisation:
        """How grey levels are brought to one scale; see :func:`ranvier.preprocess.normalise`.

        Has no meaning where there are :attr:`patches`, or no network.
        """
        scheme: Normalisation = self.about.get("normalisation", NORMALISATION)
        return scheme

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which graphs there are: ``float``, ``int8``."""
        return tuple(self.about["graphs"])

    def failures(self, precision: str) -> tuple[str, ...]:
        """In what a precision was found to be worse than f32 by more than the limits; nothing where it was not."""
        gates = self.about.get("gates")
        results = gates.get("results") if isinstance(gates, dict) else None
        result = results.get(precision) if isinstance(results, dict) else None
        if not isinstance(result, dict) or result.get("passed", True):
            return ()
        said = result.get("failures")
        return tuple(map(str, said)) if isinstance(said, list) and said else ("not said in what",)

    def graph(self, kind: str) -> tuple[bytes, bytes]:
        """The graph's XML and its weights, verified as they are read.

        Raises
        ------
        BundleFormatError
            The bundle has no such graph.
        BundleIntegrityError
            The files have changed.
        """
        if kind not in self.kinds:
            raise BundleFormatError(
                f"this model has no {kind} graph", where=self.folder, seen=", ".join(self.kinds)
            )
        name = str(self.about["graphs"][kind])
        return self.content(name), self.content(name.removesuffix(".xml") + ".bin")

    def content(self, name: str) -> bytes:
        """The bytes of one of the bundle's files.

        Raises
        ------
        BundleIntegrityError
            The file is missing or differs from model.json.
        """
        return _verified(self.folder, name, self.about["files"][name])

    def verify(self) -> None:
        """Check every file against model.json.

        Raises
        ------
        BundleIntegrityError
            A file is missing or differs.
        """
        for name in self.about["files"]:
            self.content(name)


def embedded() -> dict[str, Path]:
    """Name and folder of each model that is part of the package, the default one first."""
    home = Path(__file__).parent / "weights"
    found = {path.parent.name: path.parent for path in sorted(home.glob(f"*/{MANIFEST}"))}
    return dict(sorted(found.items(), key=lambda item: item[0] != DEFAULT_MODEL))


def open_bundle(name: str | Path = DEFAULT_MODEL) -> Bundle:
    """Open a model by its embedded name or its folder. Nothing but model.json is parsed.

    Raises
    ------
    BundleNotFoundError
        Neither an embedded model nor a folder with a model.json.
    BundleFormatError
        model.json is not what the contract says.
    """
    known = embedded()
    folder = known.get(str(name), Path(name))
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleNotFoundError(
            "no such model",
            where=name,
            fix=f"Give a folder that holds a {MANIFEST}, or one of: {', '.join(known) or '(none)'}",
        )
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise BundleFormatError("too large", where=path, seen=f"{path.stat().st_size} bytes")
    raw = path.read_bytes()
    try:
        about = json.loads(raw)
    except ValueError as error:
        raise BundleFormatError("not JSON", where=path, seen=str(error), fix=_REINSTALL) from error
    check_about(about, path)
    return Bundle(
        folder=folder,
        name=about["name"],
        sha256=hashlib.sha256(raw).hexdigest(),
        field=Field(**about.get("field", _NO_FIELD)),
        about=about,
        patches=patch_plan(about["patchwise"], path) if "patchwise" in about else None,
        classical=classical_settings(about["classical"], path) if "classical" in about else None,
    )


def lineage(training: object) -> Iterator[Mapping[str, Any]]:
    """What is said of a training, and of each that it began with (``begun_from``), the latest first.

    Parameters
    ----------
    training
        Of a checkpoint, or ``begun_from`` of a model.json; nothing is yielded for what is no mapping, or empty.
    """
    while isinstance(training, Mapping) and training:
        yield training
        training = training.get("begun_from")


def _verified(folder: Path, name: str, facts: Mapping[str, Any]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise BundleIntegrityError("a file of the model is missing", where=path, fix=_REINSTALL)
    if path.stat().st_size != facts["bytes"]:
        raise BundleIntegrityError(
            f"size differs from {MANIFEST}",
            where=path,
            seen=f"{path.stat().st_size} bytes instead of {facts['bytes']}",
            fix=_REINSTALL,
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts["sha256"]:
        raise BundleIntegrityError(
            f"content differs from {MANIFEST}",
            where=path,
            seen=f"sha256 {digest[:12]} instead of {facts['sha256'][:12]}",
            fix=_REINSTALL,
        )
    return content


def seal(folder: Path, about: Mapping[str, Any]) -> Bundle:
    """Write model.json, with the size and hash of every other file in the folder, and open the result.

    Parameters
    ----------
    folder
        Holds the graphs, the golden run and whatever else belongs to the model.
    about
        ``name``, ``created``, ``field``, ``graphs``, ``golden`` and ``training`` of the contract, and
        ``normalisation`` where it is not image standardisation. With ``patchwise`` it becomes version 2, with
        ``classical`` version 3.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST and path.is_file():
            content = path.read_bytes()
            files[path.name] = {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    whole = {
        "format": FORMAT,
        "version": PATCHWISE_VERSION if "patchwise" in about else VERSION,
        "classes": list(CLASS_NAMES),
        **({} if "classical" in about else {"normalisation": NORMALISATION}),
        **({"version": CLASSICAL_VERSION} if "classical" in about else {}),
        **about,
        "files": files,
    }
    text = json.dumps(whole, indent=1) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    return open_bundle(folder)
