"""U-Nets as nnU-Net plans them, plain or with a residual encoder, for inference.

Modules are named so that their state dictionaries carry the names that nnU-Net's checkpoints have, each tensor once
(:mod:`ranvier.training.imported.checkpoint` drops the repetitions).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranvier.training.imported.architecture import Architecture, Pair


class PlannedUNet(nn.Module):
    """A planned U-Net without deep supervision: one head, at full resolution.

    An encoder stage begins with a strided convolution or a strided residual block. A transposed convolution of kernel
    and stride equal to that stride brings the resolution back, the encoder's features of that resolution are
    concatenated behind it, and stacked convolutions follow (Ronneberger et al. 2015, Isensee et al. 2021).

    Parameters
    ----------
    shape
        From the plans.
    """

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = _Encoder(shape)
        self.decoder = _Decoder(shape)

    def forward(self, image: Tensor) -> Tensor:
        """Image (n, channels, rows, columns), multiples of the stride -> logits (n, outputs, rows, columns)."""
        out: Tensor = self.decoder(self.encoder(image))
        return out


class Folds(nn.Module):
    """Several networks of one shape beside each other.

    Parameters
    ----------
    members
        In evaluation mode.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        """Image -> logits (n, members x outputs, rows, columns), those of one member after the other."""
        return torch.cat([member(image) for member in self.members], dim=1)


class _Encoder(nn.Module):
    """Gives the features of every stage, the finest first."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        width = shape.inputs
        self.stem: nn.Module | None = None
        if shape.residual:
            self.stem = _Stack(shape, width, shape.stem, 1, kernel=shape.kernels[0])
            width = shape.stem
        stages: list[nn.Module] = []
        for features, kernel, stride, blocks in zip(
            shape.features, shape.kernels, shape.strides, shape.blocks, strict=True
        ):
            if shape.residual:
                stages.append(_ResidualStage(shape, (width, features), blocks, kernel, stride))
            else:
                stack = _Stack(shape, width, features, blocks, kernel=kernel, stride=stride)
                stages.append(nn.Sequential(stack))
            width = features
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = image if self.stem is None else self.stem(image)
        kept: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        return kept


class _Decoder(nn.Module):
    """Takes the encoder's features, the finest first."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        stages, grow = [], []
        coarse_to_fine = range(len(shape.features) - 1, 0, -1)
        for index, convs in zip(coarse_to_fine, shape.decoder_convs, strict=True):
            below, here, stride = (
                shape.features[index],
                shape.features[index - 1],
                shape.strides[index],
            )
            grow.append(nn.ConvTranspose2d(below, here, stride, stride=stride, bias=shape.bias))
            stages.append(_Stack(shape, 2 * here, here, convs, kernel=shape.kernels[index - 1]))
        self.transpconvs = nn.ModuleList(grow)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleDict(
            {str(len(stages) - 1): nn.Conv2d(shape.features[0], shape.outputs, 1)}
        )

    def forward(self, kept: list[Tensor]) -> Tensor:
        x = kept[-1]
        for grow, stage, beside in zip(self.transpconvs, self.stages, kept[-2::-1], strict=True):
            x = stage(torch.cat((grow(x), beside), dim=1))
        (head,) = self.seg_layers.values()
        out: Tensor = head(x)
        return out


class _Unit(nn.Module):
    """A convolution, normalisation and activation; padded so that stride 1 keeps the size."""

    def __init__(
        self,
        shape: Architecture,
        inputs: int,
        outputs: int,
        *,
        kernel: Pair,
        stride: Pair = (1, 1),
        active: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=(kernel[0] // 2, kernel[1] // 2),
            bias=shape.bias if bias is None else bias,
        )
        self.norm = _norm(shape, outputs)
        self.activation = _activation(shape) if active else nn.Identity()
        self._activation_first = shape.activation_first

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norm, self.activation
        if self._activation_first:
            first, second = second, first
        out: Tensor = second(first(self.conv(x)))
        return out


class _Stack(nn.Module):
    """Units one after the other, the first with the stride."""

    def __init__(
        self,
        shape: Architecture,
        inputs: int,
        outputs: int,
        convs: int,
        *,
        kernel: Pair,
        stride: Pair = (1, 1),
    ) -> None:
        super().__init__()
        first = _Unit(shape, inputs, outputs, kernel=kernel, stride=stride)
        more = (_Unit(shape, outputs, outputs, kernel=kernel) for _ in range(convs - 1))
        self.convs = nn.Sequential(first, *more)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return out


class _ResidualStage(nn.Module):
    """Residual blocks, the first with the stride."""

    def __init__(
        self, shape: Architecture, widths: Pair, blocks: int, kernel: Pair, stride: Pair
    ) -> None:
        super().__init__()
        inputs, outputs = widths
        first = _Block(shape, inputs, outputs, kernel=kernel, stride=stride)
        more = (_Block(shape, outputs, outputs, kernel=kernel) for _ in range(blocks - 1))
        self.blocks = nn.Sequential(first, *more)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016).

    The shortcut averages where there is a stride, and projects by a 1x1 convolution without bias where the width
    changes (He et al. 2019, "Bag of tricks for image classification", variant D).
    """

    def __init__(
        self,
        shape: Architecture,
        inputs: int,
        outputs: int,
        *,
        kernel: Pair,
        stride: Pair = (1, 1),
    ) -> None:
        super().__init__()
        self.conv1 = _Unit(shape, inputs, outputs, kernel=kernel, stride=stride)
        self.conv2 = _Unit(shape, outputs, outputs, kernel=kernel, active=False)
        self.activation = _activation(shape)
        shortcut: list[nn.Module] = []
        if stride != (1, 1):
            shortcut.append(nn.AvgPool2d(stride, stride))
        if inputs != outputs:
            shortcut.append(_Unit(shape, inputs, outputs, kernel=(1, 1), active=False, bias=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.conv2(self.conv1(x)) + self.skip(x))
        return out


def _norm(shape: Architecture, features: int) -> nn.Module:
    if shape.norm == "instance":
        return nn.InstanceNorm2d(features, eps=shape.eps, affine=shape.affine)
    if shape.norm == "batch":
        return nn.BatchNorm2d(features, eps=shape.eps, affine=shape.affine)
    return nn.Identity()


def _activation(shape: Architecture) -> nn.Module:
    return nn.ReLU() if shape.activation == "relu" else nn.LeakyReLU(shape.slope)
