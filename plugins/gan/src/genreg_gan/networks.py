"""Generator G(z, y) and discriminator D(x, y): convolutions for pictures of any size, an MLP for tiny ones.

z is [n, latents], x is [n, c, h, w] in about [-1, 1], y int64 [n]; scores are [n]. Nothing normalizes over a batch, so
that a row does not depend on its neighbors: residual blocks begin as the identity, convolutions by He's rule.
Coordinate channels tell the discriminator where it looks; with several channels a gain and an offset per channel give
the generator a direct path to color. The class enters G by an embedding, and D by projection (Miyato and Koyama 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.utils.parametrizations import spectral_norm

from genreg_torch.convolutions import Stages, coordinates, he_

EMBEDDED, SCORED = 32, 64  # numbers of a class in G; features that D scores
QUIET = 0.3  # of He's deviation, for the generator's last layer

lrelu = partial(F.leaky_relu, negative_slope=0.2)


@dataclass(frozen=True, kw_only=True)
class Shape(Stages):
    """What the networks are built for; ``units`` are channels at the picture's size, or the MLP's width."""

    classes: int  # 0: no label
    latents: int
    hidden: int = 256  # of the dense layers beside the convolutions


class Residual(nn.Module):
    """x + B(lrelu(A(lrelu x))), B zero at first."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.a, self.b = layer(), layer()
        for parameter in self.b.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        residual: Tensor = self.b(lrelu(self.a(lrelu(x))))
        return x + residual


class Labeled(nn.Module):
    """[z, embedding of y]; z alone where there are no classes."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.classes, EMBEDDED) if shape.classes else None
        self.width = shape.latents + (EMBEDDED if shape.classes else 0)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n] to [n, width]."""
        return z if self.embedding is None else torch.cat([z, self.embedding(y)], 1)


class Score(nn.Module):
    """h . E_y + linear(lrelu h): how real features look, and how much like their class; E is small at first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(SCORED, 1)
        self.embedding = nn.Embedding(classes, SCORED) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0, 1 / math.sqrt(SCORED))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """h [n, SCORED], y [n] to [n]."""
        score: Tensor = self.linear(lrelu(h))[:, 0]
        if self.embedding is not None:
            score = score + (h * self.embedding(y)).sum(1)
        return score


class MlpGenerator(nn.Module):
    """Two residual blocks between dense layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.labeled = shape, Labeled(shape)
        self.enter = nn.Linear(self.labeled.width, shape.units)
        self.blocks = nn.Sequential(*(Residual(partial(nn.Linear, shape.units, shape.units)) for _ in range(2)))
        self.leave = nn.Linear(shape.units, shape.pixels)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n] to [n, c, h, w]."""
        h: Tensor = self.leave(lrelu(self.blocks(self.enter(self.labeled(z, y)))))
        return h.view(-1, self.shape.channels, self.shape.height, self.shape.width)


class MlpDiscriminator(nn.Module):
    """The generator's mirror."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.enter = nn.Linear(shape.pixels, shape.units)
        self.blocks = nn.Sequential(*(Residual(partial(nn.Linear, shape.units, shape.units)) for _ in range(2)))
        self.leave = nn.Linear(shape.units, SCORED)
        self.score = Score(shape.classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [n, c, h, w], y [n] to scores [n]."""
        score: Tensor = self.score(self.leave(lrelu(self.blocks(self.enter(x.flatten(1))))), y)
        return score


class ConvGenerator(nn.Module):
    """Dense layers to the coarsest grid, then stride-2 transposed convolutions with residual blocks between them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.labeled = shape, Labeled(shape)
        widths, (rows, columns) = shape.widths[::-1], shape.grid
        self.dense_1 = nn.Linear(self.labeled.width, shape.hidden)
        self.dense_2 = nn.Linear(shape.hidden, shape.hidden)
        self.spread = nn.Linear(shape.hidden, widths[0] * rows * columns)
        pairs = list(pairwise([*widths, shape.channels]))
        self.convolutions = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairs)
        self.blocks = nn.ModuleList(Residual(partial(_convolution, width)) for width in widths[1:])
        self.tint = nn.Linear(shape.hidden, 2 * shape.channels) if shape.channels > 1 else None
        # with torch's own, smaller numbers the discriminator wins at once, and the pictures stay blobs
        he_([self.dense_1, self.dense_2, self.spread])
        he_(self.convolutions, 4)  # positions of each channel that meet in an output
        with torch.no_grad():
            self.convolutions[-1].weight.mul_(QUIET)  # type: ignore[operator]
        if self.tint is not None:
            nn.init.zeros_(self.tint.weight)
            nn.init.zeros_(self.tint.bias)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [n, latents], y [n] to [n, c, h, w]."""
        s = self.shape
        d = lrelu(self.dense_2(lrelu(self.dense_1(self.labeled(z, y)))))
        h: Tensor = self.spread(d).view(-1, s.widths[-1], *s.grid).contiguous(memory_format=torch.channels_last)
        for block, convolution in zip([nn.Identity(), *self.blocks], self.convolutions, strict=True):
            h = convolution(lrelu(block(h)))
        left, _, top, _ = s.padding
        f: Tensor = h[:, :, top : top + s.height, left : left + s.width]
        if self.tint is None:
            return f
        tint: Tensor = self.tint(d).view(-1, 2, s.channels, 1, 1)
        return f * (1 + tint[:, 0]) + tint[:, 1]


class ConvDiscriminator(nn.Module):
    """Stride-2 convolutions over picture and coordinates, residual blocks between them, and dense layers to a score."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.padding = shape.padding
        widths, (rows, columns) = shape.widths, shape.grid
        pairs = list(pairwise([shape.channels + 2, *widths]))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
        self.blocks = nn.ModuleList(  # after each but the first and the last
            Residual(partial(_convolution, width)) if 0 < stage < shape.stages - 1 else nn.Identity()
            for stage, width in enumerate(widths)
        )
        self.dense = nn.Linear(widths[-1] * rows * columns, shape.hidden)
        self.leave = nn.Linear(shape.hidden, SCORED)
        self.score = Score(shape.classes)
        he_(self.convolutions, 16)
        he_([self.dense, self.leave, self.score.linear])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [n, c, h, w], y [n] to scores [n]."""
        h = F.pad(x, self.padding) if any(self.padding) else x
        h = torch.cat([h, coordinates(h)], 1).contiguous(memory_format=torch.channels_last)
        for convolution, block in zip(self.convolutions, self.blocks, strict=True):
            h = lrelu(block(convolution(h)))
        score: Tensor = self.score(self.leave(lrelu(self.dense(h.flatten(1)))), y)
        return score


def bounded(discriminator: nn.Module) -> nn.Module:
    """The same with every layer's weight divided by its largest singular value (Miyato et al. 2018), in place.

    One step of the power iteration is taken whenever it is run in training mode. Layers that begin at zero, whose
    singular value is 0 too, begin small instead.
    """
    for module in list(discriminator.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            if not module.weight.any():
                nn.init.normal_(module.weight, 0, 0.02)
            spectral_norm(module)
    return discriminator


def _convolution(width: int) -> nn.Module:
    layer = nn.Conv2d(width, width, 3, padding=1)
    he_([layer], 9)
    return layer
