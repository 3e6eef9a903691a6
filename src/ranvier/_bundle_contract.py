"""What model.json must say: the checks of the contract that :mod:`ranvier.bundle` spells out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from ranvier._patch_plan import PER_CHANNEL
from ranvier.errors import BundleFormatError
from ranvier.micrograph import CLASS_NAMES

Normalisation = Literal["image-standardisation", "rescale-0-1"]

MANIFEST = "model.json"
FORMAT, VERSION, PATCHWISE_VERSION, CLASSICAL_VERSION = "ranvier-bundle", 1, 2, 3
NORMALISATION: Normalisation = "image-standardisation"
_LARGEST_FILE = 4 << 30


def check_about(about: Any, path: Path) -> None:
    """Check model.json against the contract, one clear error for each way it can be broken.

    The parts ``patchwise`` and ``classical`` have readers of their own.

    Raises
    ------
    BundleFormatError
        It is not what the contract says.
    """
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BundleFormatError(f"not a {FORMAT}", where=path, fix="Is this another tool's model?")
    if about.get("version") not in (VERSION, PATCHWISE_VERSION, CLASSICAL_VERSION):
        raise BundleFormatError(
            f"made for another version of Ranvier; this one reads versions {VERSION} to {CLASSICAL_VERSION}",
            where=path,
            seen=about.get("version"),
        )
    expected: dict[str, type] = {"name": str, "graphs": dict, "files": dict, "training": dict}
    for key, kind in expected.items():
        if not isinstance(about.get(key), kind):
            raise BundleFormatError(
                f"{key} must be a {kind.__name__}", where=path, seen=repr(about.get(key))
            )
    if about.get("classes") != list(CLASS_NAMES):
        raise BundleFormatError("unknown classes", where=path, seen=about.get("classes"))
    axon_px = about.get("trained_axon_px", 1)
    if type(axon_px) not in (int, float) or not 1 <= axon_px <= 10_000:
        raise BundleFormatError(
            "trained_axon_px must be a number of pixels", where=path, seen=repr(axon_px)
        )
    for part, version in (("patchwise", PATCHWISE_VERSION), ("classical", CLASSICAL_VERSION)):
        if (about["version"] == version) != (part in about):
            raise BundleFormatError(
                f"{part} belongs to version {version}, and to no other", where=path
            )
    for name, facts in about["files"].items():
        _check_file_entry(name, facts, path)
    if about["version"] == CLASSICAL_VERSION:
        _check_no_network(about, path)
    else:
        _check_network(about, path)


def _check_no_network(about: dict[str, Any], path: Path) -> None:
    seen = [key for key in ("field", "normalisation", "golden") if key in about]
    if seen or about["graphs"]:
        raise BundleFormatError(
            "a model without a network has no graphs, field, normalisation and golden",
            where=path,
            seen=", ".join([*seen, *about["graphs"]]),
        )


def _check_network(about: dict[str, Any], path: Path) -> None:
    if not isinstance(about.get("golden"), str):
        raise BundleFormatError("golden must be a str", where=path, seen=repr(about.get("golden")))
    patchwise = about["version"] == PATCHWISE_VERSION
    schemes = (PER_CHANNEL,) if patchwise else get_args(Normalisation)
    if about.get("normalisation") not in schemes:
        raise BundleFormatError(
            "unknown normalisation", where=path, seen=about.get("normalisation")
        )
    _check_field(about.get("field"), path)
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
