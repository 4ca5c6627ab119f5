"""Encoder q(z | x, y) and decoder p(x | z, y): convolutions for pictures of any size, an MLP for small ones.

x is [n, c, h, w] in [0, 1], y one-hot [n, C] (C = 0 without classes), z [n, latents]. Nothing normalizes over a batch,
so that a row does not depend on its neighbors. Coordinate channels tell the encoder where it looks; with several
channels a gain and offset per channel give the decoder a direct path to color.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_torch.convolutions import Stages, coordinates, he_
from genreg_vae.objective import reparameterize

LOG_VARIANCE = (-8.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Shape(Stages):
    """What the networks are built for; ``units`` are channels of the first convolution, or the MLP's width."""

    classes: int
    latents: int
    parameters: int  # of the likelihood, per pixel and channel
    hidden: int = 256  # of the layers between convolutions and latents
    encoder_dropout: float = 0.1
    decoder_dropout: float = 0.05


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
        he_(self.convolutions, 16)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c, h, w], y [n, C] to mean and log variance [n, latents]."""
        h = F.pad(2 * x - 1, self.padding, mode="replicate") if any(self.padding) else 2 * x - 1
        h = torch.cat([h, coordinates(h)], 1)
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
        he_(self.convolutions, 4)
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
