"""What a model that is shown patches of one size says of itself: the ``patchwise`` part of model.json.

The written contract of that part, an object with

- ``style``: ``"nnunet"``
- ``patch``: rows and columns that the graph takes
- ``channels``: one (grey) or three (red, green, blue), each with ``name``, ``normalisation`` (``rescale-0-1``,
  ``z-score``, ``rgb-0-1`` or ``none``) and ``masked`` (whether z-scores look only at pixels that are not 0)
- ``labels``: each name of the label map with a list of its values; ``axon`` and ``myelin`` are among them. In results
  every value that neither of these has is background.
- ``outputs``: the label values that each plane of logits stands for; ``order``: null, or where the planes are regions
  the label value that each of them writes, in that order, where its probability is over one half
- ``mirror_axes``: axes (0 rows, 1 columns) along which patches may be mirrored
- ``folds``: names of the networks in the graph, which gives the planes of logits of one after the other; their mean
  counts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ranvier.errors import BundleFormatError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN

Scheme = Literal["rescale-0-1", "z-score", "rgb-0-1", "none"]
PER_CHANNEL = "per-channel"
"""``normalisation`` of a bundle whose channels each say their own."""
LARGEST_EDGE = 8192
LARGEST_LABEL = 65535
MOST_OUTPUTS = 256


@dataclass(frozen=True)
class Channel:
    """One channel of the input.

    Attributes
    ----------
    name
        As its makers call it.
    normalisation
        ``rescale-0-1``: subtract the least, divide by the range; ``z-score``: subtract the mean, divide by the
        standard deviation; ``rgb-0-1``: divide by 255; ``none``.
    masked
        For ``z-score``: look at pixels that are not 0 in every channel only, and change no others.
    """

    name: str
    normalisation: Scheme
    masked: bool = False


@dataclass(frozen=True)
class PatchPlan:
    """How an image is shown to the network, and what its outputs stand for.

    Attributes
    ----------
    patch
        Rows and columns of what the network is shown.
    channels
        One (grey) or three (red, green, blue).
    labels
        Every name of the label map with its values: several where it is a region.
    outputs
        The label values that each plane of logits stands for. Without ``order`` one each, and the greatest logit
        decides; with it the planes are regions, each decided on its own.
    order
        The label value that each region writes, one after the other, where its probability is over one half.
    mirror_axes
        Axes (0 rows, 1 columns) along which the network may be shown mirrored patches.
    folds
        Names of the networks in the graph, which gives the planes of one after the other. Their mean counts.
    """

    patch: tuple[int, int]
    channels: tuple[Channel, ...]
    labels: Mapping[str, tuple[int, ...]]
    outputs: tuple[tuple[int, ...], ...]
    order: tuple[int, ...] | None = None
    mirror_axes: tuple[int, ...] = ()
    folds: tuple[str, ...] = ("0",)

    def class_of(self, label: int) -> int:
        """Our class of one label value: axon or myelin where their label holds it, else background."""
        if label in self.labels["axon"]:
            return AXON
        return MYELIN if label in self.labels["myelin"] else BACKGROUND

    @property
    def classes(self) -> tuple[int, ...]:
        """Our class of each plane of logits: of its label, or of what its region writes."""
        values = self.order if self.order is not None else tuple(o[0] for o in self.outputs)
        return tuple(self.class_of(value) for value in values)

    def as_dict(self) -> dict[str, Any]:
        """The ``patchwise`` part of model.json."""
        return {
            "style": "nnunet",
            "patch": list(self.patch),
            "channels": [
                {"name": c.name, "normalisation": c.normalisation, "masked": c.masked}
                for c in self.channels
            ],
            "labels": {name: list(values) for name, values in self.labels.items()},
            "outputs": [list(values) for values in self.outputs],
            "order": None if self.order is None else list(self.order),
            "mirror_axes": list(self.mirror_axes),
            "folds": list(self.folds),
        }


def check_labels(labels: Mapping[str, tuple[int, ...]], where: Path | str) -> None:
    """Make sure that a label map can be read as background, myelin and axon.

    A region of myelin may hold the axon (the filled fibre); then the axon's values are axon. It is an error if nothing
    of the myelin is left then.

    Raises
    ------
    BundleFormatError
        A name is missing, or two of them cannot be told apart.
    """
    for name in ("axon", "myelin"):
        if name not in labels:
            raise BundleFormatError(
                f"the label map has no {name} by name",
                where=where,
                seen=", ".join(labels)[:200],
                fix="Models of other tissues cannot be used here",
            )
    axon, myelin = set(labels["axon"]), set(labels["myelin"])
    if not axon - {0} or not myelin - axon - {0} or 0 in axon | myelin:
        raise BundleFormatError(
            "axon and myelin must have label values of their own",
            where=where,
            seen=f"axon {sorted(axon)}, myelin {sorted(myelin)}",
        )


def patch_plan(section: object, where: Path) -> PatchPlan:
    """Read the ``patchwise`` part of a model.json.

    Raises
    ------
    BundleFormatError
        It is not what the contract says.
    """
    if not isinstance(section, dict) or section.get("style") != "nnunet":
        raise BundleFormatError("unknown style of inference", where=where, seen=repr(section)[:200])
    keys = {"style", *PatchPlan.__dataclass_fields__}
    if set(section) != keys:
        raise BundleFormatError(
            "patchwise must have " + ", ".join(sorted(keys)), where=where, seen=sorted(section)
        )
    whole = _Whole(where)
    patch = whole.numbers("patch", section["patch"], 1, LARGEST_EDGE)
    labels = section["labels"]
    if len(patch) != 2 or not isinstance(labels, dict):
        raise whole.wrong("patch, labels", (section["patch"], labels))
    outputs = whole.tuples("outputs", section["outputs"])
    order = section["order"]
    plan = PatchPlan(
        patch=(patch[0], patch[1]),
        channels=tuple(_channel(c, whole) for c in whole.listed("channels", section["channels"])),
        labels={
            str(k): whole.numbers("labels", v, 0, LARGEST_LABEL, least=1) for k, v in labels.items()
        },
        outputs=outputs,
        order=None if order is None else whole.numbers("order", order, 0, LARGEST_LABEL),
        mirror_axes=whole.numbers("mirror_axes", section["mirror_axes"], 0, 1, least=0),
        folds=tuple(str(f) for f in whole.listed("folds", section["folds"])),
    )
    _check_plan(plan, whole)
    return plan


def _check_plan(plan: PatchPlan, whole: _Whole) -> None:
    check_labels(plan.labels, whole.where)
    if len(plan.channels) not in (1, 3):
        raise whole.wrong("channels", f"{len(plan.channels)} channels instead of 1 or 3")
    if not 1 <= len(plan.outputs) <= MOST_OUTPUTS:
        raise whole.wrong("outputs", len(plan.outputs))
    single = plan.order is None and all(len(o) == 1 for o in plan.outputs)
    if not single and (plan.order is None or len(plan.order) != len(plan.outputs)):
        raise whole.wrong("order", plan.order)
    if len(set(plan.mirror_axes)) != len(plan.mirror_axes):
        raise whole.wrong("mirror_axes", plan.mirror_axes)
    if not {AXON, MYELIN} <= set(plan.classes):
        raise whole.wrong("outputs", "no output stands for axon, or none for myelin")


def _channel(value: object, whole: _Whole) -> Channel:
    good = (
        isinstance(value, dict)
        and set(value) == {"name", "normalisation", "masked"}
        and isinstance(value["name"], str)
        and value["normalisation"] in get_args(Scheme)
        and isinstance(value["masked"], bool)
    )
    if not isinstance(value, dict) or not good:
        raise whole.wrong("channels", value)
    return Channel(value["name"], value["normalisation"], value["masked"])


@dataclass(frozen=True)
class _Whole:
    """Checks of plain values, with the file for the errors."""

    where: Path

    def wrong(self, key: str, seen: object) -> BundleFormatError:
        return BundleFormatError(
            f"patchwise: {key} makes no sense", where=self.where, seen=repr(seen)[:200]
        )

    def listed(self, key: str, value: object, least: int = 1) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= MOST_OUTPUTS:
            raise self.wrong(key, value)
        return value

    def numbers(
        self, key: str, value: object, low: int, high: int, least: int = 1
    ) -> tuple[int, ...]:
        found = self.listed(key, value, least)
        if not all(type(v) is int and low <= v <= high for v in found):
            raise self.wrong(key, value)
        return tuple(found)

    def tuples(self, key: str, value: object) -> tuple[tuple[int, ...], ...]:
        return tuple(self.numbers(key, v, 0, LARGEST_LABEL) for v in self.listed(key, value))
