"""A student that is as sure as its teacher: a temperature fitted on images that both know.

Where nothing was held out, no temperature can be fitted to the truth (:mod:`ranvier.training.temperature`); the
teacher's probabilities, which mean what they say, stand in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ranvier.datasets.annotated import Annotated
from ranvier.errors import SettingsError
from ranvier.preprocess import statistics
from ranvier.training.export import load_network
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.temperature import Judged, fitted, looked

__all__ = ["Agreement", "agree"]


@dataclass(frozen=True)
class Agreement:
    """A temperature that makes a student as sure as its teacher, on images that both know.

    Attributes
    ----------
    temperature
        Logits are to be divided by it.
    images
        How many images it was fitted on.
    """

    temperature: float
    images: int

    def as_dict(self) -> dict[str, Any]:
        """For model.json."""
        return {
            "temperature": round(self.temperature, 4),
            "as_sure_as": "teacher",
            "images": self.images,
        }


def agree(student: Path, teacher: Path, images: Sequence[Annotated]) -> Agreement:
    """The temperature at which a student says of images what its teacher says.

    Probabilities of the teacher that mean what they say then do so in its student, too, as far as its surplus of
    sureness on images that both know is its surplus elsewhere. Least is the cross-entropy of the student's
    probabilities with the teacher's; each source counts alike, and within it each image. Both look at the zoom that
    suits the teacher.

    Parameters
    ----------
    student, teacher
        Checkpoints.
    images
        With masks or without, at least one that is not of a single grey level.

    Raises
    ------
    DatasetError, SettingsError
        A checkpoint cannot be used, or there is no image.
    """
    networks = [_network(path) for path in (teacher, student)]
    seen, likely = [], []
    for image in images:
        pixels = image.load()[0].pixels
        if statistics(pixels).is_flat:
            continue
        theirs, zoom = looked(pixels, *networks[0])
        mine, _ = looked(pixels, *networks[1], zoom)
        told = np.exp(theirs - theirs.max(axis=1, keepdims=True), dtype=np.float64)
        likely.append(told / told.sum(axis=1, keepdims=True))
        seen.append(Judged(image.source, image.name, mine, theirs.argmax(axis=1).astype(np.uint8)))
    if not seen:
        raise SettingsError("no image to compare a student with its teacher on")
    return Agreement(fitted(seen, np.concatenate(likely)), len(seen))


def _network(path: Path) -> tuple[nn.Module, Recipe]:
    network, trained = load_network(path)
    return network, recipe_from(trained.about["recipe"], where=path)
