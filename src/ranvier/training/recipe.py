"""A training recipe: TOML read into frozen settings that refuse what they don't know."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from ranvier.errors import SettingsError

Range = tuple[float, float]
Sampling = Literal["balanced", "root", "proportional"]
TrainingPrecision = Literal["f32", "bf16"]


@dataclass(frozen=True)
class NetworkSettings:
    """Shape of the network; see :class:`ranvier.training.network.CompactUNet`."""

    shuffle: int = 2
    channels: tuple[int, ...] = (32, 64, 128, 256, 256)

    def __post_init__(self) -> None:
        _require(self.shuffle in (1, 2, 4), "network.shuffle must be 1, 2 or 4", self.shuffle)
        good = len(self.channels) >= 2 and all(isinstance(c, int) and c > 0 for c in self.channels)
        _require(good, "network.channels needs at least two positive integers", self.channels)


@dataclass(frozen=True)
class ScheduleSettings:
    """How long and how fast: AdamW, linear warm-up, cosine to zero, averaged weights."""

    steps: int = 12000
    batch: int = 8
    patch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    ema_decay: float = 0.999
    precision: TrainingPrecision = "bf16"
    validate_every_steps: int = 750
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "validate_every_steps"):
            _require(
                getattr(self, name) >= 1, f"schedule.{name} must be at least 1", getattr(self, name)
            )
        _require(
            self.warmup_steps >= 0, "schedule.warmup_steps must not be negative", self.warmup_steps
        )
        _require(
            self.learning_rate > 0, "schedule.learning_rate must be positive", self.learning_rate
        )
        _require(
            self.weight_decay >= 0, "schedule.weight_decay must not be negative", self.weight_decay
        )
        _require(0 <= self.ema_decay < 1, "schedule.ema_decay must be in [0, 1)", self.ema_decay)
        _choice(self.precision, get_args(TrainingPrecision), "schedule.precision")


@dataclass(frozen=True)
class SamplingSettings:
    """Which image the next patch comes from, and where in it.

    Attributes
    ----------
    sources
        ``balanced``: each source as often; ``root``: by the square root of its pixels of axon and myelin;
        ``proportional``: by its pixels, the plain concatenation of Collin et al. 2024.
    foreground
        Share of patches that are centred on a pixel of axon or myelin.
    """

    sources: Sampling = "root"
    foreground: float = 0.5

    def __post_init__(self) -> None:
        _choice(self.sources, get_args(Sampling), "sampling.sources")
        _require(
            0 <= self.foreground <= 1, "sampling.foreground must be in [0, 1]", self.foreground
        )


@dataclass(frozen=True)
class AugmentationSettings:
    """Domain randomisation. Each switch alone can be turned off.

    Attributes
    ----------
    rotate, flip
        Any angle; mirror images.
    zoom
        Log-uniform range of scale factors; (1, 1) turns it off.
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

    rotate: bool = True
    flip: bool = True
    zoom: Range = (0.45, 2.2)
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
        for name in ("zoom", "gamma", "contrast", "blur", "noise"):
            low, high = getattr(self, name)
            least = 0.0 if name in ("blur", "noise") else 0.01
            _require(
                least <= low <= high,
                f"augmentation.{name} must be [low, high], low >= {least:g}",
                (low, high),
            )
        for name in ("invert", "blur_share", "noise_share"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augmentation.{name} must be in [0, 1]", value)
        _require(
            self.anisotropy >= 1, "augmentation.anisotropy must be at least 1", self.anisotropy
        )
        for name in ("brightness", "bias_field"):
            value = getattr(self, name)
            _require(value >= 0, f"augmentation.{name} must not be negative", value)


@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs to know but the data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        stride = self.network.shuffle * 2 ** (len(self.network.channels) - 1)
        good = self.schedule.patch % stride == 0
        _require(good, f"schedule.patch must be a multiple of {stride}", self.schedule.patch)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return asdict(self)


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe file, or a recipe that ships by its bare name (``compact``).

    Raises
    ------
    SettingsError
        No such file, not TOML, an unknown section or key, a value of the wrong type or out of range.
    """
    try:
        loaded = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("not a TOML file", where=path, seen=str(error)) from error
    return recipe_from(loaded, where=path)


def recipe_from(values: dict[str, Any], *, where: Path | str = "recipe") -> Recipe:
    """Make a recipe from nested plain values; the inverse of :meth:`Recipe.as_dict`.

    Raises
    ------
    SettingsError
        As for :func:`read_recipe`.
    """
    sections = {f.name: f.default_factory for f in fields(Recipe)}
    _refuse_unknown(values, set(sections), "section", where)
    made = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            raise SettingsError("expected a section", where=where, seen=f"{name} = {value!r}")
        made[name] = _section(type(sections[name]()), name, value, where)  # type: ignore[operator]
    try:
        return Recipe(**made)
    except SettingsError as error:
        raise SettingsError(error.what, where=where, seen=error.seen) from error


def _section(kind: type[Any], name: str, values: dict[str, Any], where: Path | str) -> Any:
    defaults = kind()
    _refuse_unknown(values, {f.name for f in fields(kind)}, f"key in [{name}]", where)
    converted = {}
    for key, value in values.items():
        converted[key] = _like(getattr(defaults, key), value, f"{name}.{key}", where)
    try:
        return kind(**converted)
    except SettingsError as error:
        raise SettingsError(error.what, where=where, seen=error.seen) from error


def _like(default: Any, value: Any, name: str, where: Path | str) -> Any:
    """Convert a TOML value to the type of the default, or refuse it."""
    if isinstance(default, tuple) and isinstance(value, list):
        same_length = name == "network.channels" or len(value) == len(default)
        if same_length and all(_is_number(v) for v in value):
            return tuple(value)
    elif isinstance(default, bool | str | int):
        if type(value) is type(default):
            return value
    elif isinstance(default, float) and _is_number(value):
        return float(value)
    expected = f"{len(default)} numbers" if isinstance(default, tuple) else type(default).__name__
    raise SettingsError(f"{name} must be of type {expected}", where=where, seen=repr(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_unknown(
    values: dict[str, Any], allowed: set[str], kind: str, where: Path | str
) -> None:
    unknown = sorted(set(values) - allowed)
    if unknown:
        raise SettingsError(
            f"unknown {kind}",
            where=where,
            seen=", ".join(unknown),
            fix=f"Allowed: {', '.join(sorted(allowed))}",
        )


def _text(path: Path | str) -> str:
    path = Path(path)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    shipped = [*_shipped()]
    for file in shipped:
        if str(path) in (file.name, file.stem):
            return file.read_text(encoding="utf-8")
    raise SettingsError(
        "no such recipe",
        where=path,
        fix=f"Give a TOML file or one of: {', '.join(f.stem for f in shipped)}",
    )


def _shipped() -> list[Path]:
    installed = Path(str(resources.files("ranvier"))) / "recipes"
    checkout = Path(__file__).parents[3] / "recipes"
    return sorted((installed if installed.is_dir() else checkout).glob("*.toml"))


def _require(good: bool, what: str, seen: object) -> None:
    if not good:
        raise SettingsError(what, seen=seen)


def _choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    _require(value in allowed, f"{name} must be one of {', '.join(allowed)}", value)
