"""What an nnU-Net 2 folder says in ``plans.json`` and ``dataset.json``: the network, the input, the labels.

Plans come in two styles. Old ones give ``UNet_class_name``, ``UNet_base_num_features``, ``unet_max_num_features``,
``conv_kernel_sizes`` and ``pool_op_kernel_sizes``: features double from stage to stage up to the greatest, and
convolutions have biases, instance normalisation (epsilon 1e-5, affine) and a leaky ReLU of slope 0.01. New ones
spell all of it out under ``architecture``. (Isensee et al. 2021, nnU-Net: a self-configuring method for deep
learning-based biomedical image segmentation, Nature Methods 18.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranvier._patch_plan import LARGEST_EDGE, LARGEST_LABEL, Channel, Scheme, check_labels
from ranvier.errors import BundleFormatError, BundleNotFoundError
from ranvier.training.imported.architecture import Architecture, new_style, old_style

PLANS, DATASET = "plans.json", "dataset.json"
_LARGEST_JSON = 16 << 20
_DEEPEST_INHERITANCE = 16
_SCHEMES: Mapping[str, Scheme] = {
    "RescaleTo01Normalization": "rescale-0-1",
    "ZScoreNormalization": "z-score",
    "RGBTo01Normalization": "rgb-0-1",
    "NoNormalization": "none",
}
_OTHER_CLASSES = "Only two-dimensional configurations can be imported; train or choose one of those"


@dataclass(frozen=True)
class Plan:
    """One two-dimensional configuration of an nnU-Net folder.

    Attributes
    ----------
    configuration
        Its name, e.g. ``2d``.
    patch
        Rows and columns.
    channels
        What goes in.
    labels
        Names and values; several values where a label is a region. The ``ignore`` label is left out.
    outputs
        The values that each of the network's outputs stands for.
    order
        ``regions_class_order``, where there are regions.
    architecture
        The network.
    about
        Names of dataset, plans and so on, for the record.
    """

    configuration: str
    patch: tuple[int, int]
    channels: tuple[Channel, ...]
    labels: Mapping[str, tuple[int, ...]]
    outputs: tuple[tuple[int, ...], ...]
    order: tuple[int, ...] | None
    architecture: Architecture
    about: Mapping[str, Any]


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    BundleNotFoundError
        There is no such file.
    BundleFormatError
        It is too large or not a JSON object.
    """
    if not path.is_file():
        raise BundleNotFoundError(
            "not the folder of an nnU-Net model",
            where=path.parent,
            seen=f"no {path.name}",
            fix=f"Give the folder that holds {DATASET}, {PLANS} and fold_*/",
        )
    if path.stat().st_size > _LARGEST_JSON:
        raise BundleFormatError("too large", where=path, seen=f"{path.stat().st_size} bytes")
    try:
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BundleFormatError("not JSON", where=path, seen=str(error)) from error
    if not isinstance(loaded, dict):
        raise BundleFormatError("not a JSON object", where=path, seen=type(loaded).__name__)
    return loaded


def configurations(plans: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    """Names of the two-dimensional configurations."""
    known = plans.get("configurations")
    if not isinstance(known, dict):
        raise BundleFormatError("no configurations", where=where, seen=repr(known)[:200])
    found = []
    for name in known:
        patch = _resolved(known, name, where).get("patch_size")
        if isinstance(patch, list) and len(patch) == 2:
            found.append(str(name))
    return tuple(found)


def read_plan(folder: Path, configuration: str) -> Plan:
    """Read one configuration of an nnU-Net folder.

    Raises
    ------
    BundleNotFoundError
        The folder lacks a file.
    BundleFormatError
        There is no such configuration, or something in it cannot be brought over: three dimensions, a cascade,
        resampling, another network, normalisation or label map than those that are known. The error says which.
    """
    where = folder / PLANS
    plans, dataset = read_object(where), read_object(folder / DATASET)
    names = configurations(plans, where)
    if configuration not in plans["configurations"]:
        raise BundleFormatError(
            "no such configuration",
            where=where,
            seen=configuration,
            fix=f"Choose {', '.join(names)}",
        )
    chosen = _resolved(plans["configurations"], configuration, where)
    patch = _patch(chosen, where)
    _refuse_resampling(plans, chosen, where)
    labels, outputs, order = _labels(dataset, folder / DATASET)
    channels = _channels(dataset, chosen, where)
    style = new_style if "architecture" in chosen else old_style
    architecture = style(chosen, channels=len(channels), outputs=len(outputs), where=where)
    for edge, stride in zip(patch, architecture.total_stride, strict=True):
        if edge % stride:
            raise BundleFormatError(
                "the patch is not a multiple of the network's stride",
                where=where,
                seen=f"{patch}, {architecture.total_stride}",
            )
    about = {
        "dataset": str(plans.get("dataset_name", dataset.get("name", ""))),
        "plans": str(plans.get("plans_name", "")),
        "planner": str(plans.get("experiment_planner_used", "")),
        "reader": str(plans.get("image_reader_writer", "")),
        "plans_style": "new" if "architecture" in chosen else "old",
        "training_images": dataset.get("numTraining"),
    }
    return Plan(configuration, patch, channels, labels, outputs, order, architecture, about)


def _resolved(known: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """A configuration with what it inherits."""
    chain: list[dict[str, Any]] = []
    current: object = name
    while current is not None:
        value = known.get(current) if isinstance(current, str) else None
        if not isinstance(value, dict) or len(chain) >= _DEEPEST_INHERITANCE:
            raise BundleFormatError(
                "a configuration inherits from none, or from itself", where=where, seen=name
            )
        chain.append(value)
        current = value.get("inherits_from")
    merged: dict[str, Any] = {}
    for value in reversed(chain):
        merged |= value
    return merged


def _patch(chosen: Mapping[str, Any], where: Path) -> tuple[int, int]:
    patch = chosen.get("patch_size")
    good = isinstance(patch, list) and all(type(n) is int and 1 <= n <= LARGEST_EDGE for n in patch)
    if not isinstance(patch, list) or not good or len(patch) != 2:
        raise BundleFormatError(
            "not a two-dimensional patch size", where=where, seen=repr(patch), fix=_OTHER_CLASSES
        )
    return (patch[0], patch[1])


def _refuse_resampling(plans: Mapping[str, Any], chosen: Mapping[str, Any], where: Path) -> None:
    spacing = chosen.get("spacing", [1.0, 1.0])
    if not isinstance(spacing, list) or [float(v) for v in spacing] != [1.0, 1.0]:
        raise BundleFormatError(
            "this model resamples images by their spacing, which is not brought over",
            where=where,
            seen=repr(spacing),
        )
    for key in ("transpose_forward", "transpose_backward"):
        if plans.get(key, [0, 1, 2]) != [0, 1, 2]:
            raise BundleFormatError(
                "this model turns its images, which is not brought over",
                where=where,
                seen=f"{key} {plans[key]}",
            )
    if chosen.get("previous_stage"):
        raise BundleFormatError(
            "this configuration is part of a cascade", where=where, fix=_OTHER_CLASSES
        )


def _channels(
    dataset: Mapping[str, Any], chosen: Mapping[str, Any], where: Path
) -> tuple[Channel, ...]:
    names = dataset.get("modality", dataset.get("channel_names"))
    if not isinstance(names, dict) or len(names) not in (1, 3):
        raise BundleFormatError(
            "images must have one channel (grey) or three (red, green, blue)",
            where=where.with_name(DATASET),
            seen=repr(names)[:200],
        )
    schemes = chosen.get("normalization_schemes")
    masked = chosen.get("use_mask_for_norm", [False] * len(names))
    good = isinstance(schemes, list) and isinstance(masked, list)
    if not good or not len(schemes) == len(masked) == len(names):  # type: ignore[arg-type]
        raise BundleFormatError(
            "each channel needs a normalisation", where=where, seen=f"{schemes}, {masked}"
        )
    ordered = sorted(names.items(), key=lambda item: str(item[0]))
    found = []
    for (_, name), scheme, mask in zip(ordered, schemes or [], masked, strict=True):
        if scheme not in _SCHEMES:
            raise BundleFormatError(
                "a normalisation that is not brought over",
                where=where,
                seen=str(scheme),
                fix=f"Known are {', '.join(_SCHEMES)}",
            )
        found.append(Channel(str(name), _SCHEMES[scheme], bool(mask)))
    return tuple(found)


def _labels(
    dataset: Mapping[str, Any], where: Path
) -> tuple[dict[str, tuple[int, ...]], tuple[tuple[int, ...], ...], tuple[int, ...] | None]:
    """The label map, what each output stands for, and the order in which regions are written."""
    raw = dataset.get("labels")
    if not isinstance(raw, dict) or not raw:
        raise BundleFormatError("no label map", where=where, seen=repr(raw)[:200])
    labels = {
        str(name).strip().casefold(): _values(value, where)
        for name, value in raw.items()
        if str(name) != "ignore"
    }
    check_labels(labels, where)
    if labels.get("background") != (0,):
        raise BundleFormatError("background must be label 0", where=where, seen=raw)
    if not any(isinstance(v, list) and len(v) > 1 for v in raw.values()):
        values = sorted({v for each in labels.values() for v in each})
        if values != list(range(len(values))):
            raise BundleFormatError("labels must count from 0 without gaps", where=where, seen=raw)
        return labels, tuple((v,) for v in values), None
    regions = tuple(values for values in labels.values() if set(values) != {0})
    order = dataset.get("regions_class_order")
    good = isinstance(order, list) and all(type(v) is int and 0 < v <= LARGEST_LABEL for v in order)
    if not isinstance(order, list) or not good or len(order) != len(regions):
        raise BundleFormatError(
            "regions need a regions_class_order, a label value for each",
            where=where,
            seen=repr(order)[:200],
        )
    return labels, regions, tuple(order)


def _values(value: object, where: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(v) is int and 0 <= v <= LARGEST_LABEL for v in values):
        raise BundleFormatError(
            "a label must be a whole number or a list of them", where=where, seen=repr(value)[:200]
        )
    return tuple(values)
