"""Networks: the compact U-Net, full-resolution detail at a quarter of the cost, and who makes and runs any of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier.bundle import Field
from ranvier.micrograph import CLASS_NAMES
from ranvier.training.optimisation import mixed, settled
from ranvier.training.plain_unet import PlainUNet, plain_reach
from ranvier.training.settings import NetworkSettings, TrainingPrecision


def make_network(settings: NetworkSettings) -> nn.Module:
    """The network of a recipe, with fresh weights."""
    return PlainUNet(settings) if settings.kind == "plain" else CompactUNet(settings)


class CompactUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) on pixel-unshuffled input (Shi et al. 2016, read backwards).

    Every *shuffle x shuffle* block of pixels becomes one position with that many squared channels, so that the
    costly first and last stages work at a fraction of the positions; the head's channels are shuffled back to
    pixels. Stages are two 3x3 convolutions with batch normalisation and ReLU, halved by max pooling and doubled by
    transposed convolution.

    Parameters
    ----------
    settings
        Shuffle factor and channels of each stage.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        channels, block = settings.channels, settings.shuffle**2
        self.unshuffle = nn.PixelUnshuffle(settings.shuffle)
        self.down = nn.ModuleList(
            _stage(a, b) for a, b in zip((block, *channels[:-1]), channels, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        backwards = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in backwards)
        self.up = nn.ModuleList(_stage(2 * b, b) for _, b in backwards)
        self.head = nn.Conv2d(channels[0], len(CLASS_NAMES) * block, 1)
        self.shuffle = nn.PixelShuffle(settings.shuffle)

    def forward(self, grey: Tensor) -> Tensor:
        """Standardised grey (n, 1, rows, columns) -> logits (n, 3, rows, columns)."""
        x = self.unshuffle(grey)
        kept: list[Tensor] = []
        for index, stage in enumerate(self.down):
            x = stage(x if index == 0 else self.pool(x))
            kept.append(x)
        kept.pop()
        for grow, stage in zip(self.grow, self.up, strict=True):
            x = stage(torch.cat((grow(x), kept.pop()), dim=1))
        out: Tensor = self.shuffle(self.head(x))
        return out


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def field_of(settings: NetworkSettings) -> Field:
    """Stride and receptive radius of the network, from its shape alone.

    Compact: followed backwards from the edge of a stride-aligned block, each pair of 3x3 convolutions at stride *s*
    looks 2 *s* further; pooling and transposed convolution stay within their cells.

    Plain: the radius is that of its convolutions (320 pixels' halo at 7 stages), but its instance normalisation looks
    at the whole window. So tiles never agree exactly with the whole image; the larger they are, the closer they come.
    """
    if settings.kind == "plain":
        reach = plain_reach(len(settings.channels), settings.convs)
        return Field(stride=settings.stride, receptive_radius=reach)
    stages = len(settings.channels)
    strides = [settings.shuffle * 2**i for i in range(stages)]
    way = [*strides, *strides[-2::-1]]
    reach = 0
    for stride in way:
        reach = -(-reach // stride) * stride + 2 * stride
    return Field(stride=strides[-1], receptive_radius=reach)


class TorchBackend:
    """Runs a network in PyTorch; see :class:`ranvier.backends.Backend`.

    Parameters
    ----------
    network
        In evaluation mode, on its device.
    precision
        ``f32``, or ``bf16`` or ``f16`` by autocast, or ``auto``.

    Raises
    ------
    SettingsError
        A precision that the network's device does not compute in.
    """

    def __init__(self, network: nn.Module, *, precision: TrainingPrecision = "f32") -> None:
        first = next(network.parameters(), None)
        self._device = torch.device("cpu") if first is None else first.device
        self._network = network
        self._precision = settled(precision, self._device.type)

    @property
    def description(self) -> dict[str, str]:
        """Runtime, version, device and precision."""
        return {
            "runtime": "pytorch",
            "version": str(torch.__version__),
            "device": self._device.type,
            "precision": self._precision,
        }

    @torch.inference_mode()
    def logits(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on tiles (tiles, 1, rows, columns)."""
        grey = torch.from_numpy(np.ascontiguousarray(tiles)).contiguous(
            memory_format=torch.channels_last
        )
        with mixed(self._precision, self._device.type):
            out = self._network(grey.to(self._device))
        result: NDArray[np.float32] = out.float().cpu().numpy()
        return result
