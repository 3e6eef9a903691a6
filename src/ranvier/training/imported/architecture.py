"""The shape of a planned U-Net, as plain numbers: read from plans of either style, kept in the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import BundleFormatError

Norm = Literal["instance", "batch", "none"]
Activation = Literal["leaky-relu", "relu"]
_SLOPE = 0.01
_MOST_STAGES, _MOST_FEATURES, _MOST_CONVS, _LARGEST_KERNEL, _LARGEST_STRIDE = 16, 8192, 64, 31, 16
_NORMS: Mapping[str, Norm] = {"InstanceNorm2d": "instance", "BatchNorm2d": "batch"}
_ACTIVATIONS: Mapping[str, Activation] = {"LeakyReLU": "leaky-relu", "ReLU": "relu"}
_KNOWN = {
    *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage"),
    *("n_blocks_per_stage", "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs"),
    *("dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "nonlin_first"),
    *("deep_supervision", "block", "stem_channels", "bottleneck_channels"),
}
Pair = tuple[int, int]


@dataclass(frozen=True)
class Architecture:
    """A planned two-dimensional U-Net.

    Attributes
    ----------
    residual
        Whether the encoder is made of residual blocks behind a stem (He et al. 2016).
    inputs, outputs
        Channels in, planes of logits out.
    features, kernels, strides
        Of each encoder stage: channels, kernel (rows, columns), stride of its first convolution.
    blocks
        Convolutions, or residual blocks, of each encoder stage.
    decoder_convs
        Convolutions of each decoder stage, the coarsest first.
    bias
        Whether convolutions have biases.
    norm, eps, affine
        Normalisation, what is added to its variance, and whether it has scale and shift.
    activation, slope
        And the slope of the leaky ReLU below zero.
    activation_first
        Whether the activation comes before the normalisation.
    stem
        Channels of the stem; only with ``residual``.
    """

    residual: bool
    inputs: int
    outputs: int
    features: tuple[int, ...]
    kernels: tuple[Pair, ...]
    strides: tuple[Pair, ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    bias: bool = True
    norm: Norm = "instance"
    eps: float = 1e-5
    affine: bool = True
    activation: Activation = "leaky-relu"
    slope: float = _SLOPE
    activation_first: bool = False
    stem: int = 0

    def __post_init__(self) -> None:
        stages = len(self.features)
        lengths = (len(self.kernels), len(self.strides), len(self.blocks))
        if not 2 <= stages <= _MOST_STAGES or lengths != (stages,) * 3:
            raise ValueError(f"{stages} stages, {lengths} entries")
        if len(self.decoder_convs) != stages - 1:
            raise ValueError(f"{stages} stages, {len(self.decoder_convs)} of the decoder")
        edges = [e for pair in (*self.kernels, *self.strides) for e in pair]
        convs = (*self.blocks, *self.decoder_convs)
        widths = (*self.features, self.inputs, self.outputs, *([self.stem] * self.residual))
        limits = ((edges, _LARGEST_KERNEL), (convs, _MOST_CONVS), (widths, _MOST_FEATURES))
        for values, most in limits:
            if not all(type(v) is int and 1 <= v <= most for v in values):
                raise ValueError(f"{list(values)} are not all from 1 to {most}")
        if not (0 < self.eps < 1 and 0 <= self.slope <= 1):
            raise ValueError(f"epsilon {self.eps}, slope {self.slope}")

    @property
    def total_stride(self) -> Pair:
        """Rows and columns that one position of the coarsest stage stands for."""
        return (math.prod(s[0] for s in self.strides), math.prod(s[1] for s in self.strides))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for model.json."""
        return asdict(self)


def architecture_from(values: Mapping[str, Any]) -> Architecture:
    """The opposite of :meth:`Architecture.as_dict`, from what JSON made of it.

    Raises
    ------
    KeyError, TypeError, ValueError
        These are not the values of an architecture.
    """
    pairs = {"kernels", "strides"}
    made: dict[str, Any] = {
        key: tuple(tuple(v) for v in value)
        if key in pairs
        else tuple(value)
        if isinstance(value, list | tuple)
        else value
        for key, value in values.items()
    }
    return Architecture(**made)


def old_style(
    chosen: Mapping[str, Any], *, channels: int, outputs: int, where: Path
) -> Architecture:
    """The network of a configuration of old plans.

    Raises
    ------
    BundleFormatError
        It is not one that is known, or its numbers make no sense.
    """
    read = _Reader(chosen, where)
    residual = _is_residual(chosen.get("UNet_class_name"), where)
    blocks = read.counts("n_conv_per_stage_encoder", None)
    stages = len(blocks)
    base = read.number("UNet_base_num_features", _MOST_FEATURES)
    most = read.number("unet_max_num_features", _MOST_FEATURES)
    features = tuple(min(base << i, most) for i in range(stages))
    return _made(
        where,
        residual=residual,
        inputs=channels,
        outputs=outputs,
        features=features,
        kernels=read.kernels("conv_kernel_sizes", stages),
        strides=read.pairs("pool_op_kernel_sizes", stages, _LARGEST_STRIDE),
        blocks=blocks,
        decoder_convs=read.counts("n_conv_per_stage_decoder", stages - 1),
        stem=features[0] if residual else 0,
    )


def new_style(
    chosen: Mapping[str, Any], *, channels: int, outputs: int, where: Path
) -> Architecture:
    """The network of a configuration of new plans.

    Raises
    ------
    BundleFormatError
        It is not one that is known, or its numbers make no sense.
    """
    given = chosen["architecture"]
    if not isinstance(given, dict) or not isinstance(given.get("arch_kwargs"), dict):
        raise BundleFormatError(
            "architecture has no arch_kwargs", where=where, seen=repr(given)[:200]
        )
    residual = _is_residual(given.get("network_class_name"), where)
    options = [given["arch_kwargs"].get(k) or {} for k in ("norm_op_kwargs", "nonlin_kwargs")]
    if not all(isinstance(o, dict) for o in options):
        raise BundleFormatError("options must be objects", where=where, seen=repr(options)[:200])
    values: dict[str, Any] = given["arch_kwargs"]
    _refuse_unknown(values, where)
    read = _Reader(values, where)
    stages = read.number("n_stages", _MOST_STAGES)
    features = read.counts("features_per_stage", stages, _MOST_FEATURES)
    norm, activation = _short(values.get("norm_op")), _short(values.get("nonlin"))
    norm_values, slopes = options
    if (norm and norm not in _NORMS) or activation not in _ACTIVATIONS:
        raise BundleFormatError(
            "a normalisation or activation that is not brought over",
            where=where,
            seen=f"{norm}, {activation}",
            fix=f"Known are {', '.join([*_NORMS, *_ACTIVATIONS])}",
        )
    return _made(
        where,
        residual=residual,
        inputs=channels,
        outputs=outputs,
        features=features,
        kernels=read.kernels("kernel_sizes", stages),
        strides=read.pairs("strides", stages, _LARGEST_STRIDE),
        blocks=read.counts("n_blocks_per_stage" if residual else "n_conv_per_stage", stages),
        decoder_convs=read.counts("n_conv_per_stage_decoder", stages - 1),
        bias=bool(values.get("conv_bias", False)),
        norm=_NORMS[norm] if norm else "none",
        eps=norm_values.get("eps", 1e-5),
        affine=bool(norm_values.get("affine", norm == "BatchNorm2d")),
        activation=_ACTIVATIONS[activation],
        slope=slopes.get("negative_slope", _SLOPE),
        activation_first=bool(values.get("nonlin_first", False)),
        stem=(values.get("stem_channels") or features[0]) if residual else 0,
    )


def _made(where: Path, **values: Any) -> Architecture:
    try:
        return Architecture(**values)
    except (TypeError, ValueError) as error:
        raise BundleFormatError(
            "the plans make no sense", where=where, seen=str(error)[:200]
        ) from error


def _is_residual(name: object, where: Path) -> bool:
    short = _short(name)
    if short not in ("PlainConvUNet", "ResidualEncoderUNet"):
        raise BundleFormatError(
            "a network that is not brought over",
            where=where,
            seen=repr(name),
            fix="Known are PlainConvUNet and ResidualEncoderUNet",
        )
    return short == "ResidualEncoderUNet"


def _short(name: object) -> str:
    return "" if name is None else str(name).rsplit(".", 1)[-1]


def _refuse_unknown(values: Mapping[str, Any], where: Path) -> None:
    unknown = sorted(set(values) - _KNOWN)
    if _short(values.get("block", "BasicBlockD")) != "BasicBlockD":
        unknown.append("block")
    if values.get("bottleneck_channels") is not None:
        unknown.append("bottleneck_channels")
    if _short(values.get("conv_op", "Conv2d")) != "Conv2d":
        unknown.append("conv_op")
    if unknown:
        raise BundleFormatError(
            "parts of this network are not brought over",
            where=where,
            seen=", ".join(f"{key} = {values[key]!r}" for key in unknown)[:300],
        )


@dataclass(frozen=True)
class _Reader:
    """Takes numbers out of plans, within limits."""

    values: Mapping[str, Any]
    where: Path

    def wrong(self, key: str) -> BundleFormatError:
        return BundleFormatError(
            f"{key} makes no sense", where=self.where, seen=repr(self.values.get(key))[:200]
        )

    def number(self, key: str, most: int) -> int:
        value = self.values.get(key)
        if type(value) is not int or not 1 <= value <= most:
            raise self.wrong(key)
        return value

    def counts(self, key: str, length: int | None, most: int = _MOST_CONVS) -> tuple[int, ...]:
        """Whole numbers, one a stage; a single one stands for every stage."""
        value = self.values.get(key)
        if type(value) is int and length is not None:
            value = [value] * length
        if not isinstance(value, list) or not 1 <= len(value) <= _MOST_STAGES:
            raise self.wrong(key)
        right = length is None or len(value) == length
        if not right or not all(type(v) is int and 1 <= v <= most for v in value):
            raise self.wrong(key)
        return tuple(value)

    def pairs(self, key: str, length: int, most: int) -> tuple[Pair, ...]:
        """Pairs of whole numbers, one a stage; a single number stands for both, or for all."""
        value = self.values.get(key)
        if type(value) is int:
            value = [value] * length
        if not isinstance(value, list) or len(value) != length:
            raise self.wrong(key)
        found: list[Pair] = []
        for entry in value:
            pair = [entry, entry] if type(entry) is int else entry
            good = isinstance(pair, list) and all(type(v) is int and 1 <= v <= most for v in pair)
            if not good or len(pair) != 2:
                raise self.wrong(key)
            found.append((pair[0], pair[1]))
        return tuple(found)

    def kernels(self, key: str, length: int) -> tuple[Pair, ...]:
        found = self.pairs(key, length, _LARGEST_KERNEL)
        if any(edge % 2 == 0 for pair in found for edge in pair):
            raise self.wrong(key)
        return found
