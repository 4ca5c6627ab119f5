"""DCGAN as people know it (Radford et al. 2015; the networks of PyTorch's example): batch normalization, tanh.

It normalizes over the batch while it trains, and by what it saw then when it generates, so that one seed is one sample.
With classes, z and the picture carry the class one-hot. Sides are 16, 32, 64, 128 or 256.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_gan.networks import Shape


def widths(shape: Shape) -> list[int]:
    """Channels from the finest hidden grid to the one of 4 x 4."""
    return [shape.units * 2**stage for stage in range(int(math.log2(shape.height)) - 2)]


class FromPoint(nn.ConvTranspose2d):
    """A transposed convolution of 1 x 1 pictures: a matrix product, which is faster."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002 - one size alone
        """[n, in, 1, 1] to [n, out, 4, 4]."""
        made = x.flatten(1) @ self.weight.flatten(1)
        return made.view(-1, *self.weight.shape[1:]).contiguous(memory_format=torch.channels_last)


class ToPoint(nn.Conv2d):
    """A convolution of pictures of its own size: a matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, 4, 4] to [n, 1, 1, 1]."""
        return (x.flatten(1) @ self.weight.flatten(1).T)[:, :, None, None]


class DcganGenerator(nn.Module):
    """Transposed convolutions from 1 x 1, each but the last followed by batch normalization and relu."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.classes = shape.classes
        layers: list[nn.Module] = []
        channels, stride = shape.latents + shape.classes, 1
        for width in reversed(widths(shape)):
            kind = nn.ConvTranspose2d if layers else FromPoint
            convolution = kind(channels, width, 4, stride, stride - 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels, stride = width, 2
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels, shape.channels, 4, 2, 1, bias=False))
        self.apply(_initialize)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n] to [n, c, h, w] in (-1, 1)."""
        if self.classes:
            z = torch.cat([z, F.one_hot(y, self.classes).to(z.dtype)], 1)
        return torch.tanh(self.layers(z[:, :, None, None]))


class DcganDiscriminator(nn.Module):
    """Stride-2 convolutions, all but the first and the last batch-normalized, with leaky relu."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.classes = shape.classes
        layers: list[nn.Module] = []
        channels = shape.channels + shape.classes
        for stage, width in enumerate(widths(shape)):
            norm = [nn.BatchNorm2d(width)] if stage else []
            layers += [nn.Conv2d(channels, width, 4, 2, 1, bias=False), *norm, nn.LeakyReLU(0.2, inplace=True)]
            channels = width
        self.layers = nn.Sequential(*layers, ToPoint(channels, 1, 4, 1, 0, bias=False))
        self.apply(_initialize)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [n, c, h, w], y [n] to scores [n]."""
        if self.classes:
            planes = F.one_hot(y, self.classes).to(x.dtype)[:, :, None, None]
            x = torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)
        score: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return score.flatten()


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)
