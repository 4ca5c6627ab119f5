"""What convolutional networks of pictures share: how often a picture is halved, how layers begin, coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST = 4  # a stage halves the picture while its shorter side stays at least this
LARGEST_WIDTH = 8  # the coarsest stages have at most this many times the finest one's channels


@dataclass(frozen=True, kw_only=True)
class Stages:
    """How a picture of this size is halved stage by stage, padded where it is no multiple."""

    height: int
    width: int
    channels: int
    units: int  # channels after the first stage

    @property
    def pixels(self) -> int:
        """The number of values in a picture."""
        return self.height * self.width * self.channels

    @property
    def stages(self) -> int:
        """How often convolutions halve the picture."""
        return max(1, round(math.log2(max(min(self.height, self.width), 2 * SMALLEST) / SMALLEST)))

    @property
    def widths(self) -> list[int]:
        """The channels after each stage."""
        return [self.units * min(2**stage, LARGEST_WIDTH) for stage in range(self.stages)]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns after the last stage, the picture padded to a multiple."""
        unit = 2**self.stages
        return -(-self.height // unit), -(-self.width // unit)

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom pixels that make the picture a multiple."""
        rows, columns = (side * 2**self.stages for side in self.grid)
        down, right = rows - self.height, columns - self.width
        return right // 2, right - right // 2, down // 2, down - down // 2


def coordinates(x: Tensor) -> Tensor:
    """Two further channels for x [n, c, h, w], row and column from -1 to 1: [n, 2, h, w]."""
    axes = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(x), -1, -1, -1)


def he_(layers: Iterable[nn.Module], taps: int = 1) -> None:
    """N(0, 2 / fan-in) for layers where ``taps`` positions of each channel meet in an output, in place; biases 0."""
    for layer in layers:
        assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        assert layer.bias is not None
        channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        nn.init.normal_(layer.weight, 0, math.sqrt(2 / (taps * channels)))
        nn.init.zeros_(layer.bias)
