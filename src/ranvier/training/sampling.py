"""Which patch comes next: a source, an image of it, a place in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranvier.datasets.annotated import Annotated
from ranvier.training.augment import Canvas, canvas, cut
from ranvier.training.recipe import Recipe, Sampling


class PatchSampler:
    """Draws batches of randomised patches.

    Parameters
    ----------
    images
        To train on; read once, here.
    recipe
        Batch, patch, sampling and augmentation.
    rng
        Every random number comes from it.
    """

    def __init__(
        self, images: tuple[Annotated, ...], recipe: Recipe, rng: np.random.Generator
    ) -> None:
        sources: dict[str, list[Canvas]] = {}
        for image in images:
            micrograph, classes = image.load()
            sources.setdefault(image.source, []).append(canvas(micrograph.pixels, classes, rng))
        self._sources = list(sources.values())
        self._weights = _weights(self._sources, recipe.sampling.sources)
        self._recipe, self._rng = recipe, rng

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw a batch: grey (n, 1, patch, patch), channels last, and int64 classes (n, patch, patch)."""
        recipe, rng = self._recipe, self._rng
        pairs = []
        for _ in range(recipe.schedule.batch):
            source = self._sources[rng.choice(len(self._sources), p=self._weights)]
            sizes = np.array([c.classes.numel() for c in source], dtype=np.float64) ** 0.5
            pairs.append(
                cut(
                    source[rng.choice(len(source), p=sizes / sizes.sum())],
                    patch=recipe.schedule.patch,
                    foreground=recipe.sampling.foreground,
                    settings=recipe.augmentation,
                    rng=rng,
                )
            )
        grey = torch.stack([g for g, _ in pairs]).contiguous(memory_format=torch.channels_last)
        return grey, torch.stack([c for _, c in pairs])


def _weights(sources: list[list[Canvas]], sampling: Sampling) -> NDArray[np.float64]:
    """Share of the patches that each source gets; a source without annotated pixels counts as one pixel."""
    if sampling == "balanced":
        weights = np.ones(len(sources))
    elif sampling == "root":
        annotated = [sum(float((c.classes > 0).sum()) for c in source) for source in sources]
        weights = np.sqrt(np.maximum(np.array(annotated), 1.0))
    else:
        weights = np.array([float(sum(c.classes.numel() for c in source)) for source in sources])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares
