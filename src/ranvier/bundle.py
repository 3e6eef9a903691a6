"""A model on disk: a folder with model.json and the files that it names.

The written contract, versions 1 and 2. ``model.json`` is a JSON object with

- ``format``: ``"ranvier-bundle"``; ``version``: 1 or 2; ``name``; ``created``: a date
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
- where the model was made by Ranvier, ``data`` (what is known of each source, licences among it), ``limits`` (what it
  was not trained on), ``how_scored`` (what the scores are, in a sentence) and ``gates``: for each precision whether it
  ``passed`` the comparison with f32, or its ``failures`` in words, or why it was ``skipped``

Version 2 is for networks that are shown patches of one size, as those imported from nnU-Net. Its ``normalisation`` is
``"per-channel"``, and it has one more key, ``patchwise``, as :mod:`ranvier._patch_plan` spells it out.

Sizes and hashes are checked before any other file is parsed. No file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ranvier._patch_plan import PER_CHANNEL, PatchPlan, patch_plan
from ranvier.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError
from ranvier.micrograph import CLASS_NAMES
from ranvier.writing import write_atomically

Normalisation = Literal["image-standardisation", "rescale-0-1"]

MANIFEST = "model.json"
FORMAT, VERSION, PATCHWISE_VERSION = "ranvier-bundle", 1, 2
NORMALISATION: Normalisation = "image-standardisation"
DEFAULT_MODEL = "generalist"
_LARGEST_MANIFEST = 4 << 20
_LARGEST_FILE = 4 << 30
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
    """

    folder: Path
    name: str
    sha256: str
    field: Field
    about: Mapping[str, Any]
    patches: PatchPlan | None = None

    @property
    def normalisation(self) -> Normalisation:
        """How grey levels are brought to one scale; see :func:`ranvier.preprocess.normalise`.

        Has no meaning where there are :attr:`patches`.
        """
        scheme: Normalisation = self.about["normalisation"]
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
    """Name and folder of each model that is part of the package."""
    home = Path(__file__).parent / "weights"
    return {path.parent.name: path.parent for path in sorted(home.glob(f"*/{MANIFEST}"))}


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
    _check(about, path)
    return Bundle(
        folder=folder,
        name=about["name"],
        sha256=hashlib.sha256(raw).hexdigest(),
        field=Field(**about["field"]),
        about=about,
        patches=patch_plan(about["patchwise"], path) if "patchwise" in about else None,
    )


def _check(about: Any, path: Path) -> None:
    """Check model.json against the contract, one clear error for each way it can be broken."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BundleFormatError(f"not a {FORMAT}", where=path, fix="Is this another tool's model?")
    if about.get("version") not in (VERSION, PATCHWISE_VERSION):
        raise BundleFormatError(
            f"made for another version of Ranvier; this one reads versions {VERSION} and {PATCHWISE_VERSION}",
            where=path,
            seen=about.get("version"),
        )
    expected: dict[str, type] = {
        "name": str,
        "graphs": dict,
        "golden": str,
        "files": dict,
        "training": dict,
    }
    for key, kind in expected.items():
        if not isinstance(about.get(key), kind):
            raise BundleFormatError(
                f"{key} must be a {kind.__name__}", where=path, seen=repr(about.get(key))
            )
    if about.get("classes") != list(CLASS_NAMES):
        raise BundleFormatError("unknown classes", where=path, seen=about.get("classes"))
    patchwise = about["version"] == PATCHWISE_VERSION
    if patchwise != ("patchwise" in about):
        raise BundleFormatError("patchwise belongs to version 2, and to no other", where=path)
    schemes = (PER_CHANNEL,) if patchwise else get_args(Normalisation)
    if about.get("normalisation") not in schemes:
        raise BundleFormatError(
            "unknown normalisation", where=path, seen=about.get("normalisation")
        )
    _check_field(about.get("field"), path)
    for name, facts in about["files"].items():
        _check_file_entry(name, facts, path)
    if "float" not in about["graphs"] or not set(about["graphs"]) <= {"float", "int8"}:
        raise BundleFormatError(
            "graphs must be float and perhaps int8", where=path, seen=about["graphs"]
        )
    for graph in about["graphs"].values():
        if not isinstance(graph, str) or not graph.endswith(".xml"):
            raise BundleFormatError("a graph must be an .xml file", where=path, seen=repr(graph))
    graphs = [
        g.removesuffix(".xml") + ending
        for g in about["graphs"].values()
        for ending in (".xml", ".bin")
    ]
    for name in [*graphs, about["golden"]]:
        if name not in about["files"]:
            raise BundleFormatError("a file is used but has no hash", where=path, seen=name)


def _check_field(field: object, path: Path) -> None:
    keys = {"stride", "receptive_radius", "minimum"}
    if not isinstance(field, dict) or set(field) != keys:
        raise BundleFormatError(
            f"field must have {', '.join(sorted(keys))}", where=path, seen=repr(field)
        )
    good = all(type(v) is int and 0 <= v <= 65536 for v in field.values())
    if not good or field["stride"] < 1 or field["minimum"] < 1:
        raise BundleFormatError(
            "field must hold whole numbers of pixels", where=path, seen=repr(field)
        )


def _check_file_entry(name: object, facts: object, path: Path) -> None:
    if (
        not isinstance(name, str)
        or not name
        or name != Path(name).name
        or name in (".", "..", MANIFEST)
    ):
        raise BundleFormatError(
            "a file must lie in the model's own folder", where=path, seen=repr(name)
        )
    good = (
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and isinstance(facts.get("sha256"), str)
    )
    if not good or not 0 <= facts["bytes"] <= _LARGEST_FILE:  # type: ignore[index]
        raise BundleFormatError(f"{name} needs bytes and sha256", where=path, seen=repr(facts))


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
        ``normalisation`` where it is not image standardisation. With ``patchwise`` it becomes version 2.
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
        "normalisation": NORMALISATION,
        **about,
        "files": files,
    }
    text = json.dumps(whole, indent=1) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    return open_bundle(folder)
