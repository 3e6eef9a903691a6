"""The plain U-Net of nnU-Net: the network of the paper's recipe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranvier.micrograph import CLASS_NAMES
from ranvier.training.settings import NetworkSettings

_SLOPE = 0.01


class PlainUNet(nn.Module):
    """U-Net with instance normalisation, as nnU-Net plans it (Isensee et al. 2021, ``PlainConvUNet``).

    A stage is ``convs`` 3x3 convolutions with bias, each followed by affine instance normalisation (Ulyanov et al.
    2016, epsilon 1e-5) and a leaky ReLU of slope 0.01. The first convolution of each encoder stage but the first
    has stride 2; a transposed 2x2 convolution doubles the resolution again, and the encoder's stage of that
    resolution is concatenated. Every decoder stage has a 1x1 head, so that weights fit with and without deep
    supervision. Weights begin as Kaiming normal for that slope (He et al. 2015), biases as 0.

    Instance normalisation averages over the whole window that the network is shown: a tile is never exactly what
    the whole image would give, however wide its halo.

    Parameters
    ----------
    settings
        Channels of each stage, convolutions a stage, deep supervision.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        channels, convs = settings.channels, settings.convs
        self.down = nn.ModuleList(
            _stage(a, b, convs, stride=1 if index == 0 else 2)
            for index, (a, b) in enumerate(zip((1, *channels[:-1]), channels, strict=True))
        )
        backwards = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in backwards)
        self.up = nn.ModuleList(_stage(2 * b, b, convs, stride=1) for _, b in backwards)
        self.heads = nn.ModuleList(nn.Conv2d(b, len(CLASS_NAMES), 1) for _, b in backwards)
        self.apply(_begin)

    def forward(self, grey: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Grey (n, 1, rows, columns) -> logits (n, 3, rows, columns).

        In training mode with deep supervision, a tuple: the logits of every decoder stage, the finest first, each
        of half the rows and columns of the one before.
        """
        x = grey
        kept: list[Tensor] = []
        for stage in self.down:
            x = stage(x)
            kept.append(x)
        kept.pop()
        deep = self.training and self.settings.deep_supervision
        seen: list[Tensor] = []
        last = len(self.up) - 1
        decoder = zip(self.grow, self.up, self.heads, strict=True)
        for index, (grow, stage, head) in enumerate(decoder):
            x = stage(torch.cat((grow(x), kept.pop()), dim=1))
            if deep or index == last:
                seen.append(head(x))
        return tuple(reversed(seen)) if deep else seen[0]


def _stage(inputs: int, outputs: int, convs: int, *, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convs):
        layers += [
            nn.Conv2d(
                inputs if index == 0 else outputs,
                outputs,
                3,
                stride=stride if index == 0 else 1,
                padding=1,
            ),
            nn.InstanceNorm2d(outputs, eps=1e-5, affine=True),
            nn.LeakyReLU(_SLOPE, inplace=True),
        ]
    return nn.Sequential(*layers)


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def plain_reach(stages: int, convs: int) -> int:
    """How many pixels beyond a stride-aligned block of output the convolutions look.

    Followed backwards from the block's edge: a 3x3 convolution at stride *s* looks *s* further, one that goes from
    stride *s* to 2 *s* looks *s* further too, and transposed convolutions stay within their cells. Instance
    normalisation looks at everything and is left out.
    """
    reach = 0
    strides = [1 << i for i in range(stages)]
    for stride in strides[:-1]:
        reach = -(-reach // stride) * stride + convs * stride
    reach = -(-reach // strides[-1]) * strides[-1]
    for stride in strides[:0:-1]:
        reach += (convs - 1) * stride + stride // 2
    return reach + convs
