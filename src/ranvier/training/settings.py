"""What a recipe can say: frozen settings, one class a section, each with a default."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from ranvier.bundle import Normalisation
from ranvier.errors import SettingsError

Range = tuple[float, float]
NetworkKind = Literal["compact", "plain"]
InputNormalisation = Literal["standardise", "rescale"]
Optimiser = Literal["adamw", "sgd"]
Decay = Literal["cosine", "poly"]
TrainingPrecision = Literal["auto", "f32", "bf16", "f16"]
Sampling = Literal["balanced", "root", "subjects", "proportional"]
ImageSampling = Literal["area-root", "uniform"]
Scheme = Literal["randomised", "nnunet"]

_NORMALISATIONS: dict[InputNormalisation, Normalisation] = {
    "standardise": "image-standardisation",
    "rescale": "rescale-0-1",
}


@dataclass(frozen=True)
class NetworkSettings:
    """Shape of the network.

    Attributes
    ----------
    kind
        ``compact``: :class:`ranvier.training.network.CompactUNet`; ``plain``:
        :class:`ranvier.training.plain_unet.PlainUNet`.
    shuffle
        Edge of the blocks that the compact network works on; the plain one works on single pixels and does not
        look at it.
    channels
        Of each stage; each stage halves the resolution.
    convs
        Convolutions of a stage. The compact network has two.
    deep_supervision
        Whether every decoder stage is trained to segment at its own resolution (Lee et al. 2015); only with
        ``plain``.
    """

    kind: NetworkKind = "compact"
    shuffle: int = 2
    channels: tuple[int, ...] = (32, 64, 128, 256, 256)
    convs: int = 2
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        _choice(self.kind, get_args(NetworkKind), "network.kind")
        _require(self.shuffle in (1, 2, 4), "network.shuffle must be 1, 2 or 4", self.shuffle)
        good = len(self.channels) >= 2 and all(isinstance(c, int) and c > 0 for c in self.channels)
        _require(good, "network.channels needs at least two positive integers", self.channels)
        _require(self.convs >= 1, "network.convs must be at least 1", self.convs)
        if self.kind == "compact":
            _require(self.convs == 2, "network.convs must be 2 with kind compact", self.convs)
            what = "network.deep_supervision needs kind plain"
            _require(not self.deep_supervision, what, self.deep_supervision)

    @property
    def stride(self) -> int:
        """Pixels of one position of the coarsest stage."""
        finest = self.shuffle if self.kind == "compact" else 1
        return int(finest * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class InputSettings:
    """How grey levels are brought to one scale; see :func:`ranvier.preprocess.normalise`.

    Attributes
    ----------
    normalisation
        ``standardise``: by the image's mean and standard deviation; ``rescale``: from its least and its greatest
        grey level to [0, 1].
    """

    normalisation: InputNormalisation = "standardise"

    def __post_init__(self) -> None:
        _choice(self.normalisation, get_args(InputNormalisation), "input.normalisation")

    @property
    def scheme(self) -> Normalisation:
        """The same in the words of a bundle's model.json."""
        return _NORMALISATIONS[self.normalisation]


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, how fast and how exactly.

    Attributes
    ----------
    steps, batch, patch
        Steps of so many patches of (rows, columns) pixels; a single number is a square patch.
    optimiser
        ``adamw`` (Loshchilov & Hutter 2019), or ``sgd`` with Nesterov's ``momentum``.
    learning_rate, weight_decay
        Before any decay; decoupled with ``adamw``, an L2 penalty's gradient with ``sgd``.
    warmup_steps
        Length of the linear rise to the learning rate.
    decay, decay_power, iterations_per_epoch
        ``cosine`` to zero, step by step, or ``poly``: the power of the share of epochs left, constant within
        an epoch of so many iterations, as in nnU-Net (Isensee et al. 2021).
    gradient_clip
        Largest norm of the gradient of all weights together.
    ema_decay
        How slowly the averaged weights follow the network's; 0 turns averaging off.
    precision
        ``f32``, ``bf16``, ``f16`` with a scaled loss, which needs a CUDA device, or ``auto``: 16 bits where the device
        computes them, else ``f32`` (:func:`ranvier.training.optimisation.settled`).
    validate_every_steps
        Validation, log and checkpoint.
    seed
        Of every random number.
    """

    steps: int = 12000
    batch: int = 8
    patch: tuple[int, int] = (256, 256)
    optimiser: Optimiser = "adamw"
    momentum: float = 0.99
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    decay: Decay = "cosine"
    decay_power: float = 0.9
    iterations_per_epoch: int = 250
    gradient_clip: float = 5.0
    ema_decay: float = 0.999
    precision: TrainingPrecision = "auto"
    validate_every_steps: int = 750
    seed: int = 0

    def __post_init__(self) -> None:
        given: object = self.patch
        patch = (given, given) if isinstance(given, int) else self.patch
        object.__setattr__(self, "patch", patch)
        good = len(patch) == 2 and all(type(n) is int and n >= 1 for n in patch)
        _require(good, "schedule.patch must be at least 1, a whole number or two", patch)
        for name in ("steps", "batch", "validate_every_steps", "iterations_per_epoch"):
            value = getattr(self, name)
            _require(value >= 1, f"schedule.{name} must be at least 1", value)
        for name in ("learning_rate", "gradient_clip", "decay_power"):
            value = getattr(self, name)
            _require(value > 0, f"schedule.{name} must be positive", value)
        for name in ("warmup_steps", "weight_decay", "seed"):
            value = getattr(self, name)
            _require(value >= 0, f"schedule.{name} must not be negative", value)
        for name in ("ema_decay", "momentum"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"schedule.{name} must be in [0, 1)", value)
        for name, kind in (("optimiser", Optimiser), ("decay", Decay)):
            _choice(getattr(self, name), get_args(kind), f"schedule.{name}")
        _choice(self.precision, get_args(TrainingPrecision), "schedule.precision")
        nesterov = self.optimiser == "adamw" or self.momentum > 0
        _require(nesterov, "schedule.momentum must be positive with sgd", self.momentum)


@dataclass(frozen=True)
class LossSettings:
    """Details of cross-entropy plus soft Dice; see :func:`ranvier.training.loss.segmentation_loss`.

    Attributes
    ----------
    smooth
        Added to the numerator and the denominator of the soft Dice.
    batch_dice
        Whether Dice is of the batch as one image, or the mean of that of each patch.
    """

    smooth: float = 1.0
    batch_dice: bool = True

    def __post_init__(self) -> None:
        _require(self.smooth > 0, "loss.smooth must be positive", self.smooth)


@dataclass(frozen=True)
class SamplingSettings:
    """Which image the next patch comes from, and where in it.

    Attributes
    ----------
    sources
        ``balanced``: each source as often; ``root``: by the square root of its pixels of axon and myelin;
        ``subjects``: by of how many animals or specimens it has masks, since few are soon learned by heart (images of
        which no subject is known count as one each; a source without masks as the mean of the others);
        ``proportional``: by its size, as if the sources were one dataset: its pixels, or with ``images =
        "uniform"`` its number of images, which is the plain concatenation of Collin et al. 2024.
    images
        Within a source, ``area-root``: by the square root of an image's pixels; ``uniform``: each as often.
    foreground
        Share of patches that are centred on a pixel of axon or myelin.
    foreground_by_class
        False: each patch is so by chance, and any such pixel is as likely. True, as in nnU-Net: the last patches of
        every batch are, by that share, and the class is drawn first, among those that the image has.
    nothing
        Share of patches of photographs and stained tissue without nerve (:mod:`ranvier.training.nothing`).
    drawn
        Share of patches of drawn micrographs of all looks (:mod:`ranvier.training.drawn`).
    """

    sources: Sampling = "root"
    images: ImageSampling = "area-root"
    foreground: float = 0.5
    foreground_by_class: bool = False
    nothing: float = 0.0
    drawn: float = 0.0

    def __post_init__(self) -> None:
        _choice(self.sources, get_args(Sampling), "sampling.sources")
        _choice(self.images, get_args(ImageSampling), "sampling.images")
        _require(
            0 <= self.foreground <= 1, "sampling.foreground must be in [0, 1]", self.foreground
        )
        for name in ("nothing", "drawn"):
            what = f"sampling.{name} must be at least 0 and below 1"
            _require(0 <= getattr(self, name) < 1, what, getattr(self, name))
        what = "sampling.nothing and sampling.drawn must leave patches for the images"
        _require(self.nothing + self.drawn < 1, what, self.nothing + self.drawn)


@dataclass(frozen=True)
class AugmentationSettings:
    """How patches are changed. Each switch of the domain randomisation alone can be turned off.

    Attributes
    ----------
    scheme
        ``randomised``: by the switches below; ``nnunet``: as :mod:`ranvier.training.augment_nnunet` says, which
        has no switches.
    rotate, flip
        Any angle; mirror images.
    zoom
        Log-uniform range of scale factors; (1, 1) turns it off.
    axon_px
        Images are first brought to where their axons are so wide (:func:`ranvier.training.axon_size.axon_px`), in
        pixels, and ``zoom`` is about that; 0 leaves each image at its own resolution.
    anisotropy
        Largest stretch of one axis against the other; 1 turns it off.
    invert
        Share of patches with their polarity turned round.
    gamma, contrast
        Log-uniform ranges; (1, 1) turns them off.
    brightness, bias_field
        Largest shift and largest amplitude of a slow shading, in standard deviations of the image.
    blur, noise
        Ranges of the Gaussian blur's sigma (pixels) and of the noise's (standard deviations of the image), each
        applied to a share ``blur_share`` and ``noise_share`` of the patches.
    """

    scheme: Scheme = "randomised"
    rotate: bool = True
    flip: bool = True
    zoom: Range = (0.45, 2.2)
    axon_px: float = 0.0
    anisotropy: float = 1.15
    invert: float = 0.5
    gamma: Range = (0.6, 1.6)
    contrast: Range = (0.75, 1.3)
    brightness: float = 0.3
    blur: Range = (0.0, 1.6)
    blur_share: float = 0.4
    noise: Range = (0.0, 0.35)
    noise_share: float = 0.5
    bias_field: float = 0.5

    def __post_init__(self) -> None:
        _choice(self.scheme, get_args(Scheme), "augmentation.scheme")
        for name in ("zoom", "gamma", "contrast", "blur", "noise"):
            low, high = getattr(self, name)
            least = 0.0 if name in ("blur", "noise") else 0.01
            what = f"augmentation.{name} must be [low, high], low >= {least:g}"
            _require(least <= low <= high, what, (low, high))
        for name in ("invert", "blur_share", "noise_share"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augmentation.{name} must be in [0, 1]", value)
        what = "augmentation.axon_px must be 0, or from 4 to 1000 pixels"
        _require(self.axon_px == 0 or 4 <= self.axon_px <= 1000, what, self.axon_px)
        what = "augmentation.anisotropy must be at least 1"
        _require(self.anisotropy >= 1, what, self.anisotropy)
        for name in ("brightness", "bias_field"):
            value = getattr(self, name)
            _require(value >= 0, f"augmentation.{name} must not be negative", value)
        if self.scheme == "nnunet":
            given = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
            given.remove("scheme")
            what = "the scheme nnunet has no switches, and others were set in [augmentation]"
            _require(not given, what, ", ".join(given))


@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs to know but the data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    input: InputSettings = field(default_factory=InputSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        stride, patch = self.network.stride, self.schedule.patch
        good = all(n % stride == 0 for n in patch)
        _require(good, f"schedule.patch must be a multiple of {stride}", patch)
        if self.network.kind == "plain":
            # Instance normalisation of a single position is undefined.
            what = f"schedule.patch must hold at least two squares of {stride} pixels"
            _require(math.prod(patch) >= 2 * stride**2, what, patch)
        if self.augmentation.scheme == "randomised":
            what = "the scheme randomised standardises what it makes; [input] must do so too"
            _require(self.input.normalisation == "standardise", what, self.input.normalisation)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return asdict(self)


def _require(good: bool, what: str, seen: object) -> None:
    if not good:
        raise SettingsError(what, seen=seen)


def _choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    _require(value in allowed, f"{name} must be one of {', '.join(allowed)}", value)
