"""Encoder q(z | x, y) and decoder p(x | z, y): convolutions for pictures of any size, an MLP for small ones.

x is [n, c, h, w] in [0, 1], y one-hot [n, C] (C = 0 without classes), z [n, latents]. Nothing normalizes over a batch,
so that a row does not depend on its neighbors. Coordinate channels tell the encoder where it looks; with several
channels a gain and offset per channel give the decoder a direct path to color.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_vae.objective import reparameterize

SMALLEST = 4  # a convolutional stage halves the picture while its shorter side stays at least this
LARGEST_WIDTH = 8  # the last stages have at most this many times the first one's channels
LOG_VARIANCE = (-8.0, 3.0)


@dataclass(frozen=True)
class Shape:
    """What the networks are built for."""

    height: int
    width: int
    channels: int
    classes: int
    latents: int
    parameters: int  # of the likelihood, per pixel and channel
    units: int  # channels of the first convolution, or the MLP's width
    hidden: int = 256  # of the layers between convolutions and latents
    encoder_dropout: float = 0.1
    decoder_dropout: float = 0.05

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


class Residual(nn.Module):
    """x + B(dropout(silu(A(norm x)))), B zero at first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width] to the same."""
        residual: Tensor = self.b(self.dropout(F.silu(self.a(self.norm(x)))))
        return x + residual


class MlpEncoder(nn.Module):
    """[2x - 1, y] to the mean and log variance of z."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.drop = nn.Dropout(shape.encoder_dropout)
        self.enter = nn.Linear(shape.pixels + shape.classes, shape.units)
        self.block = Residual(shape.units, shape.encoder_dropout)
        self.norm = nn.LayerNorm(shape.units)
        self.leave = nn.Linear(shape.units, 2 * shape.latents)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c, h, w], y [n, C] to mean and log variance [n, latents]."""
        h = self.drop(torch.cat([2 * x.flatten(1) - 1, y], 1))
        return _posterior(self.leave(F.silu(self.norm(self.block(self.enter(h))))))


class MlpDecoder(nn.Module):
    """[z, y] to the likelihood's parameters."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.enter = nn.Linear(shape.latents + shape.classes, shape.units)
        self.block = Residual(shape.units, shape.decoder_dropout)
        self.norm = nn.LayerNorm(shape.units)
        self.leave = nn.Linear(shape.units, shape.parameters * shape.pixels)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n, C] to [n, P, c, h, w]."""
        s = self.shape
        h: Tensor = self.leave(F.silu(self.norm(self.block(self.enter(torch.cat([z, y], 1))))))
        return h.view(-1, s.parameters, s.channels, s.height, s.width)


class ConvEncoder(nn.Module):
    """Stride-2 convolutions over picture and coordinates; the grid, its means and maxima, and y to the moments of z."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.padding = shape.padding
        widths, (rows, columns) = shape.widths, shape.grid
        channels = [shape.channels + 2, *widths]
        pairs = list(pairwise(channels))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
        self.drop = nn.Dropout(shape.encoder_dropout)
        self.enter = nn.Linear(widths[-1] * (rows * columns + 2) + shape.classes, shape.hidden)
        self.norm = nn.LayerNorm(shape.hidden)
        self.leave = nn.Linear(shape.hidden, 2 * shape.latents)
        _he(self.convolutions, 16)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c, h, w], y [n, C] to mean and log variance [n, latents]."""
        h = F.pad(2 * x - 1, self.padding, mode="replicate") if any(self.padding) else 2 * x - 1
        h = torch.cat([h, _coordinates(h)], 1)
        h = h.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.silu(norm(convolution(h)))
        h = torch.cat([h.flatten(1), h.mean((2, 3)), h.amax((2, 3)), y], 1)
        return _posterior(self.leave(F.silu(self.norm(self.enter(self.drop(h))))))


class ConvDecoder(nn.Module):
    """[z, y] through two layers to the grid, then stride-2 transposed convolutions to the likelihood's parameters."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        widths, (rows, columns) = shape.widths[::-1], shape.grid
        self.enter = nn.Linear(shape.latents + shape.classes, shape.hidden)
        self.norm_1, self.norm_2 = nn.LayerNorm(shape.hidden), nn.LayerNorm(shape.hidden)
        self.middle = nn.Linear(shape.hidden, shape.hidden)
        self.drop = nn.Dropout(shape.decoder_dropout)
        self.spread = nn.Linear(shape.hidden, widths[0] * rows * columns)
        channels = [*widths, shape.parameters * shape.channels]
        pairs = list(pairwise(channels))
        self.convolutions = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
        self.tint = nn.Linear(shape.hidden, 2 * shape.channels) if shape.channels > 1 else None
        _he(self.convolutions, 4)
        if self.tint is not None:
            nn.init.zeros_(self.tint.weight)
            nn.init.zeros_(self.tint.bias)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n, C] to [n, P, c, h, w]."""
        s = self.shape
        d = F.silu(self.norm_1(self.enter(torch.cat([z, y], 1))))
        d = self.drop(F.silu(self.norm_2(self.middle(d))))
        h: Tensor = self.spread(d).view(-1, s.widths[-1], *s.grid).contiguous(memory_format=torch.channels_last)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(F.silu(norm(h)))
        left, _, top, _ = s.padding
        h = h[:, :, top : top + s.height, left : left + s.width]
        h = h.reshape(-1, s.parameters, s.channels, s.height, s.width)
        if self.tint is None:
            return h
        gain, offset = self.tint(d).view(-1, 2, s.channels, 1, 1).unbind(1)
        return torch.cat([(h[:, 0] * (1 + gain) + offset)[:, None], h[:, 1:]], 1)


class Vae(nn.Module):
    """Encoder and decoder; the Gaussian likelihood's one sigma is a parameter, optimal once it is trained."""

    def __init__(self, shape: Shape, *, convolutional: bool, one_sigma: bool = False) -> None:
        super().__init__()
        if one_sigma:  # the networks make the mean alone
            shape = replace(shape, parameters=1)
        self.encoder: nn.Module = ConvEncoder(shape) if convolutional else MlpEncoder(shape)
        self.decoder: nn.Module = ConvDecoder(shape) if convolutional else MlpDecoder(shape)
        self.log_sigma = nn.Parameter(torch.tensor([-1.0])) if one_sigma else None

    def forward(self, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log variance of the posterior, and the likelihood's parameters at a draw of it."""
        mean, log_variance = self.encode(x, y)
        return mean, log_variance, self.decode(reparameterize(mean, log_variance, noise), y)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mean and log variance: [n, latents] each."""
        mean, log_variance = self.encoder(x, y)
        return mean, log_variance

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """The likelihood's parameters: [n, P, c, h, w], float32."""
        out: Tensor = self.decoder(z, y).float()
        return out if self.log_sigma is None else torch.cat([out, self.log_sigma.expand_as(out)], 1)


def _posterior(h: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = h.float().chunk(2, 1)
    return mean, log_variance.clamp(*LOG_VARIANCE)


def _coordinates(x: Tensor) -> Tensor:
    y, x_ = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
    return torch.stack(torch.meshgrid(y, x_, indexing="ij")).expand(len(x), -1, -1, -1)  # [n, 2, rows, columns]


def _he(layers: nn.ModuleList, taps: int) -> None:
    """N(0, 2 / fan-in) for convolutions where ``taps`` positions of each channel meet in an output."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        assert layer.bias is not None
        nn.init.normal_(layer.weight, 0, math.sqrt(2 / (taps * layer.in_channels)))
        nn.init.zeros_(layer.bias)
