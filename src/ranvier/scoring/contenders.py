"""Who is scored: a model, another tool's masks, or any function; and which images it was trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ranvier.backends import Precision
from ranvier.bundle import lineage
from ranvier.datasets.annotated import Annotated
from ranvier.errors import MaskError
from ranvier.inference import InferenceSettings, Model, axon_limits, load_model, segment
from ranvier.micrograph import AXON, Array, Micrograph
from ranvier.reading import read

__all__ = [
    "Contender",
    "FunctionContender",
    "ModelContender",
    "Seen",
    "Trained",
    "checked_classes",
]

Seen = Literal["yes", "no", "unknown"]
"""Whether an image was trained on."""
_STRIP = re.compile(r"-(?:rows|columns)-\d+-\d+$")
"""Ending of the name of a strip of an image, of which fine-tuning on a single subject trains on some."""


@dataclass(frozen=True)
class Trained:
    """Which images a contender was trained on.

    Attributes
    ----------
    images
        ``source/name`` of each.
    sha256
        Hashes of image files, where they are known.
    chosen_on
        ``source/name`` of images that decided which checkpoint was kept.
    complete
        Whether that is all of them.
    """

    images: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()
    chosen_on: frozenset[str] = frozenset()
    complete: bool = False

    @classmethod
    def on(cls, images: Iterable[Annotated], chosen_on: Iterable[Annotated] = ()) -> Trained:
        """Of something that was trained on these images and no others."""
        listed = list(images)
        return cls(
            frozenset(_whole(_key(a)) for a in listed),
            frozenset(a.sha256[0] for a in listed if a.sha256),
            frozenset(_whole(_key(a)) for a in chosen_on),
            complete=True,
        )

    @classmethod
    def of_bundle(cls, about: Mapping[str, Any]) -> Trained:
        """What a model.json says, of the training, of those that it began with, and of a teacher's."""
        training = _mapping(about.get("training"))
        images, chosen_on = _listed(training, "trained_on"), _listed(training, "validated_on")
        complete = bool(images)
        for earlier in lineage(training.get("begun_from")):
            parts = _mapping(earlier.get("images"))
            named = {part: _strings(parts.get(part)) for part in ("train", "validation")}
            images |= named["train"]
            chosen_on |= named["validation"]
            complete &= bool(named["train"])
        teachers = _mapping(training.get("distilled_from")).get("teachers")
        for teacher in teachers if isinstance(teachers, list) else ():
            images |= _strings(_mapping(teacher).get("trained_on"))
        return cls(
            frozenset(map(_whole, images)),
            frozenset(_strings(training.get("trained_on_sha256"))),
            chosen_on=frozenset(map(_whole, chosen_on)),
            complete=complete,
        )

    def seen(self, image: Annotated, sha256: str = "") -> Seen:
        """Whether an image was trained on, by its hash, or else by its source and name.

        An image of the same name in another source, as where a dataset was renamed, is ``unknown``.
        """
        if _key(image) in self.images or (sha256 and sha256 in self.sha256):
            return "yes"
        namesake = any(key.rpartition("/")[2] == image.name for key in self.images)
        return "no" if self.complete and not namesake else "unknown"

    def chose(self, image: Annotated) -> bool:
        """Whether an image had a say in which checkpoint was kept."""
        return _key(image) in self.chosen_on


def _key(image: Annotated) -> str:
    return f"{image.source}/{image.name}"


def _whole(key: str) -> str:
    return _STRIP.sub("", key)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _strings(value: object) -> set[str]:
    return {str(v) for v in value} if isinstance(value, list | tuple) else set()


def _listed(training: Mapping[str, Any], key: str) -> set[str]:
    def keys() -> Iterator[str]:
        for source, names in _mapping(training.get(key)).items():
            yield from (f"{source}/{name}" for name in _strings(names))

    return set(keys())


class Contender(Protocol):
    """Something that gives every pixel of a micrograph its class."""

    @property
    def name(self) -> str:
        """For tables and pictures; unique among those that are scored together."""

    @property
    def sha256(self) -> str:
        """Hash of what decides its results; empty where there is none."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What run.json says of it (JSON-serialisable)."""

    @property
    def trained(self) -> Trained:
        """What it was trained on."""

    def classes(self, image: Annotated, micrograph: Micrograph) -> NDArray[np.uint8]:
        """Class of every pixel: uint8 of the micrograph's shape, 0 background, 1 myelin, 2 axon."""


@dataclass(frozen=True, eq=False)
class ModelContender:
    """A model bundle.

    Attributes
    ----------
    name
        How it is called in the tables; :meth:`load` takes the name that the bundle gives itself.
    model
        From :func:`ranvier.load_model`.
    settings
        How images are shown to it.
    zooms
        Filled while it works: ``source/name`` of each image to the zoom that was chosen, where that was left to it.
    """

    name: str
    model: Model
    settings: InferenceSettings = field(default_factory=InferenceSettings)
    zooms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        name: str | None = None,
        precision: Precision = "f32",
        threads: int | None = None,
        settings: InferenceSettings | None = None,
    ) -> ModelContender:
        """Load a model by its embedded name or its folder.

        Raises
        ------
        BundleError, PrecisionError, SettingsError
            As for :func:`ranvier.load_model`.
        """
        loaded = load_model(model, precision=precision, threads=threads)
        return cls(name or loaded.bundle.name, loaded, settings or InferenceSettings())

    @property
    def sha256(self) -> str:
        """Hash of model.json, and so of the whole bundle."""
        return self.model.bundle.sha256

    @property
    def about(self) -> Mapping[str, Any]:
        """Model, backend and settings, and the zooms that were chosen so far."""
        limits = axon_limits(self.model, self.settings)
        return {
            "kind": "model",
            **self.model.description,
            "inference": {
                **asdict(self.settings),
                "min_closure": limits.closure,
                "min_confidence": limits.confidence,
                "min_contrast": limits.contrast,
            },
            **({"zooms": dict(self.zooms)} if self.zooms else {}),
        }

    @property
    def trained(self) -> Trained:
        """What model.json lists."""
        return Trained.of_bundle(self.model.bundle.about)

    def classes(self, image: Annotated, micrograph: Micrograph) -> NDArray[np.uint8]:
        """Segment the micrograph, in colour if the model looks at colour and the file has it.

        Raises
        ------
        RanvierError
            As for :func:`ranvier.segment`.
        """
        if self.model.wants_colour and micrograph.colour is None:
            colour = read(image.image, pixel_size=1.0, keep_colour=True).colour
            if colour is not None and colour.shape[:2] == micrograph.shape:
                micrograph = replace(micrograph, colour=colour)
        found = segment(micrograph, self.model, settings=self.settings)
        if self.settings.zoom == "auto":
            self.zooms[_key(image)] = found.provenance["zoom"]["chosen"]
        return found.classes


@dataclass(frozen=True, eq=False)
class FunctionContender:
    """Any function.

    Attributes
    ----------
    name
        How it is called in the tables.
    function
        Takes an image's entry and its micrograph, gives the class of every pixel.
    sha256, trained
        Where they are known.
    told
        What run.json says of it.
    """

    name: str
    function: Callable[[Annotated, Micrograph], Array]
    sha256: str = ""
    trained: Trained = field(default_factory=Trained)
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> Mapping[str, Any]:
        """What was told."""
        return {"kind": "function", **self.told}

    def classes(self, image: Annotated, micrograph: Micrograph) -> NDArray[np.uint8]:
        """Call the function and check what it gives.

        Raises
        ------
        MaskError
            As for :func:`checked_classes`.
        """
        return checked_classes(self.function(image, micrograph), micrograph.shape)


def checked_classes(found: Array, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Classes as uint8 of a micrograph's shape.

    Raises
    ------
    MaskError
        Another shape, numbers that are not whole, or other values than 0, 1 and 2.
    """
    classes = np.asarray(found)
    if classes.shape != shape:
        raise MaskError(
            "prediction and image differ in shape",
            seen=f"prediction {classes.shape}, image {shape}",
        )
    if classes.dtype.kind not in "ui":
        raise MaskError("the classes of a prediction must be whole numbers", seen=classes.dtype)
    if classes.size and (classes.min() < 0 or classes.max() > AXON):
        raise MaskError(
            "a prediction has values other than 0, 1, 2",
            seen=f"{classes.min()} to {classes.max()}",
        )
    return classes.astype(np.uint8, copy=False)
