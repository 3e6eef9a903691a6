"""Which patch comes next: a source, an image of it, a place in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from ranvier.datasets.annotated import Annotated
from ranvier.errors import SettingsError
from ranvier.micrograph import CLASS_NAMES
from ranvier.training.augment import cut
from ranvier.training.canvas import Canvas, canvas
from ranvier.training.drawn import drawings
from ranvier.training.lessons import Replayed, Taught
from ranvier.training.looking import base_zoom
from ranvier.training.nothing import LEARNED, pictures
from ranvier.training.settings import ImageSampling, Recipe, SamplingSettings


class PatchSampler:
    """Draws batches of randomised patches.

    Parameters
    ----------
    images
        To train on; read once, here.
    recipe
        Batch, patch, input, sampling and augmentation.
    rng
        Every random number comes from it.

    Raises
    ------
    SettingsError
        Images with a teacher's probabilities, and an augmentation that does not warp them.
    """

    def __init__(
        self, images: tuple[Annotated, ...], recipe: Recipe, rng: np.random.Generator
    ) -> None:
        # Replayed images of a source are apart from others of that name.
        sources: dict[tuple[str, float | None], list[Canvas]] = {}
        subjects: dict[tuple[str, float | None], set[str]] = {}  # of images with masks
        for image in images:
            source = image.source, image.share if isinstance(image, Replayed) else None
            sources.setdefault(source, []).append(_canvas_of(image, recipe, rng))
            subjects.setdefault(source, set()).update({image.subject} if image.masks else ())
        self._sources = list(sources.values())
        self._soft = any(c.soft is not None for source in self._sources for c in source)
        shares = tuple(share for _, share in sources)
        weights = source_weights(
            self._sources, recipe.sampling, subjects=[len(s) for s in subjects.values()]
        )
        self._weights = with_replay(weights, shares)
        self._image_weights = [image_weights(s, recipe.sampling.images) for s in self._sources]
        self._recipe, self._rng = recipe, rng
        # Beside the images: what shows no nerve, and what is drawn, each with its share of the patches.
        beside = (
            (recipe.sampling.nothing, _nothing(recipe, rng)),
            (recipe.sampling.drawn, _drawn(recipe)),
        )
        self._beside = [(share, pictures) for share, pictures in beside if pictures]

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw a batch: grey (n, 1, rows, columns), channels last, and what to learn.

        That is int64 classes (n, rows, columns), or, where any image has a teacher's probabilities, float32
        probabilities (n, 3, rows, columns).
        """
        recipe, rng = self._recipe, self._rng
        pairs = []
        for share in foreground_shares(recipe.sampling, recipe.schedule.batch):
            pairs.append(
                cut(
                    self._image(),
                    patch=recipe.schedule.patch,
                    foreground=share,
                    by_class=recipe.sampling.foreground_by_class,
                    settings=recipe.augmentation,
                    rng=rng,
                )
            )
        grey = torch.stack([g for g, _ in pairs]).contiguous(memory_format=torch.channels_last)
        targets = [_as_probabilities(t) if self._soft else t for _, t in pairs]
        return grey, torch.stack(targets)

    def _image(self) -> Canvas:
        """The image that the next patch is cut from."""
        rng = self._rng
        if self._beside:
            place = rng.random()
            for share, pictures in self._beside:
                if place < share:
                    return pictures[rng.integers(len(pictures))]
                place -= share
        number = rng.choice(len(self._sources), p=self._weights)
        source = self._sources[number]
        return source[rng.choice(len(source), p=self._image_weights[number])]


def _nothing(recipe: Recipe, rng: np.random.Generator) -> list[Canvas]:
    """Pictures without nerve, where the recipe wants any."""
    if not recipe.sampling.nothing:
        return []
    return [
        canvas(grey, np.zeros_like(grey), rng, normalisation=recipe.input.scheme)
        for _, grey in pictures(LEARNED)
    ]


def _drawn(recipe: Recipe) -> list[Canvas]:
    """Drawn micrographs, where the recipe wants any; the same ones for the same seed, whatever the images are."""
    if not recipe.sampling.drawn:
        return []
    rng = np.random.default_rng([recipe.schedule.seed, 1])
    return [
        canvas(
            drawing.image.pixels,
            drawing.classes,
            rng,
            normalisation=recipe.input.scheme,
            by_class=recipe.sampling.foreground_by_class,
            base=base_zoom(drawing.classes, recipe.augmentation.axon_px),
        )
        for drawing in drawings(rng)
    ]


def _canvas_of(image: Annotated, recipe: Recipe, rng: np.random.Generator) -> Canvas:
    micrograph, classes = image.load()
    soft = image.targets(classes) if isinstance(image, Taught) else None
    if soft is not None and recipe.augmentation.scheme == "nnunet":
        raise SettingsError(
            "the scheme nnunet does not warp a teacher's probabilities",
            where="augmentation.scheme",
            fix="Use a recipe with the scheme randomised",
        )
    return canvas(
        micrograph.pixels,
        classes,
        rng,
        normalisation=recipe.input.scheme,
        by_class=recipe.sampling.foreground_by_class,
        soft=soft,
        base=base_zoom(classes, recipe.augmentation.axon_px),
    )


def _as_probabilities(target: Tensor) -> Tensor:
    if target.is_floating_point():
        return target
    return nnf.one_hot(target, len(CLASS_NAMES)).movedim(-1, 0).float()


def foreground_shares(settings: SamplingSettings, batch: int) -> tuple[float, ...]:
    """Probability that each patch of a batch is centred on axon or myelin.

    With ``foreground_by_class``, 1 for the last of the batch and 0 for the others, as nnU-Net rounds it (Isensee et
    al. 2021): of 13 patches and a share of 0.33 the last four.
    """
    if not settings.foreground_by_class:
        return (settings.foreground,) * batch
    free = round(batch * (1 - settings.foreground))
    return (0.0,) * free + (1.0,) * (batch - free)


def source_weights(
    sources: list[list[Canvas]], settings: SamplingSettings, *, subjects: Sequence[int]
) -> NDArray[np.float64]:
    """Share of the patches that each source gets; a source without annotated pixels counts as one pixel.

    Parameters
    ----------
    sources
        The images of each.
    settings
        Which say by what the share goes.
    subjects
        Of how many animals or specimens each source has masks; one without masks counts as the mean of the others.
    """
    if settings.sources == "balanced":
        weights = np.ones(len(sources))
    elif settings.sources == "subjects":
        weights = np.array(subjects, float)
        weights[weights == 0] = weights[weights > 0].mean() if weights.any() else 1.0
    elif settings.sources == "root":
        annotated = [sum(float((c.classes > 0).sum()) for c in source) for source in sources]
        weights = np.sqrt(np.maximum(np.array(annotated), 1.0))
    elif settings.images == "uniform":
        weights = np.array([float(len(source)) for source in sources])
    else:
        weights = np.array([float(sum(_size(c) for c in source)) for source in sources])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _size(image: Canvas) -> float:
    """Pixels at the zoom that patches are cut about."""
    return image.classes.numel() * image.base**2


def with_replay(
    weights: NDArray[np.float64], shares: tuple[float | None, ...]
) -> NDArray[np.float64]:
    """Let replayed sources have their share together and the others the rest.

    Parameters
    ----------
    weights
        Share of each source without replay.
    shares
        Of all replayed sources together, at each of them; None at the others.
    """
    again = np.array([share is not None for share in shares])
    share = next((share for share in shares if share is not None), 0.0)
    if not again.any() or again.all():
        return weights
    out = weights.copy()
    for group, total in ((again, share), (~again, 1 - share)):
        out[group] *= total / out[group].sum()
    return out


def image_weights(source: list[Canvas], sampling: ImageSampling) -> NDArray[np.float64]:
    """Share of a source's patches that each of its images gets."""
    if sampling == "uniform":
        return np.full(len(source), 1 / len(source))
    sizes = np.array([_size(c) for c in source], dtype=np.float64) ** 0.5
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares
