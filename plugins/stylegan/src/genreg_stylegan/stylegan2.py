"""StyleGAN2's generator as the paper has it: w changes the weights of every convolution, noise changes the details.

This is the network to train and to measure; ``painting.py`` computes the same pictures faster.
W+ is [n, num_ws, w_dim]. A block takes the next layers of it for its convolutions, and paints (``torgb``) with the one
after them, which is also the first of the next block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan.config import LARGEST, Stylegan2Config
from genreg_stylegan.layers import (
    EPSILON,
    HALF,
    SQRT2,
    TAPS,
    Conv,
    Dense,
    binomial,
    blurred,
    leaky,
    mapping_of,
    upsampled,
)

Noise: TypeAlias = Callable[[int, int], Tensor | None]  # (layer, resolution) -> [n or 1, 1, r, r], or None


def modulated(x: Tensor, weight: Tensor, style: Tensor, scale: Tensor | None = None, *, up: bool = False) -> Tensor:
    """x [n, i, h, w] convolved with weights [o, i, k, k] whose inputs style [n, i] and outputs scale [n, o] scales.

    To scale what goes in and what comes out is the same as to scale the weights, and needs no weights for each row.
    ``up`` makes twice the size and one pixel more, unfiltered, and takes the weights as [i, o, k, k].
    """
    x = x * style[:, :, None, None].to(x.dtype)
    y = F.conv_transpose2d(x, weight, stride=2) if up else F.conv2d(x, weight, padding=weight.shape[2] // 2)
    return y if scale is None else y * scale[:, :, None, None].to(y.dtype)


def energy(weight: Tensor) -> Tensor:
    """The square of weights [o, i, k, k], summed over their positions: [o, i]."""
    return weight.square().sum((2, 3))


def demodulation(energies: Tensor, style: Tensor) -> Tensor:
    """1 / the deviation of every output for inputs of variance one: [n, o] of [o, i] and [n, i]."""
    return (style.square() @ energies.T + EPSILON).rsqrt()


class StyledConv(nn.Module):
    """A modulated 3 x 3 convolution, noise, bias, activation; at twice the size where ``up``."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, config: Stylegan2Config, inputs: int, resolution: int, *, up: bool) -> None:
        super().__init__()
        outputs = config.channels(resolution)
        self.up, self.resolution, self.clamp, self.use_noise = up, resolution, config.conv_clamp, config.use_noise
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("resample_filter", binomial())
        if config.use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.kept: tuple[Tensor, Tensor] | None = None  # turned and energies of weights that do not change any more

    @property
    def turned(self) -> Tensor:
        """The weights as ``modulated`` takes them: [i, o, 3, 3] where ``up``, else [o, i, 3, 3]."""
        return self.kept[0] if self.kept else self.weight.transpose(0, 1) if self.up else self.weight

    def keep_(self) -> None:
        """Compute once what follows from the weights alone: for sampling, where they do not change."""
        turned = self.turned.detach()
        self.kept = (turned.contiguous() if self.up else turned, energy(self.weight.detach()))

    def scales(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """What w [n, w_dim] makes of the inputs, [n, i], and of the outputs, [n, o], so that their variance is one."""
        style = self.affine(w)
        return style, demodulation(self.kept[1] if self.kept else energy(self.weight), style)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """x [n, i, h, w], w [n, w_dim] and noise [n or 1, 1, r, r] to [n, o, r, r]."""
        x = modulated(x, self.turned, *self.scales(w), up=self.up)
        if self.up:
            x = blurred(x, self.resample_filter, padding=TAPS // 2 - 1, gain=4.0)
        if noise is not None:
            x = x + (noise * self.noise_strength).to(x.dtype)
        return leaky(x + self.bias[:, None, None].to(x.dtype), SQRT2 * gain, self.clamp)


class ToRGB(nn.Module):
    """Features to pixels: a modulated 1 x 1 convolution, not demodulated."""

    def __init__(self, config: Stylegan2Config, inputs: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(config.image_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.image_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [n, i, r, r] and w [n, w_dim] to [n, c, r, r]."""
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        y = modulated(x, self.weight, style) + self.bias[:, None, None].to(x.dtype)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class Block(nn.Module):
    """One resolution: one convolution at 4 x 4, two above, and what it paints."""

    resample_filter: Tensor

    def __init__(self, config: Stylegan2Config, resolution: int) -> None:
        super().__init__()
        own, below = config.channels(resolution), config.channels(max(resolution // 2, 4))
        self.residual = config.architecture == "resnet" and resolution > 4
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(own, 4, 4))
        else:
            self.conv0 = StyledConv(config, below, resolution, up=True)
        self.conv1 = StyledConv(config, own, resolution, up=False)
        paints = config.architecture == "skip" or resolution == config.resolution
        self.torgb = ToRGB(config, own) if paints else None
        if self.residual:
            self.skip = Conv(below, own, 1, bias=False)
        self.register_buffer("resample_filter", binomial())

    @property
    def convs(self) -> list[StyledConv]:
        """The styled convolutions, in order."""
        return [self.conv1] if hasattr(self, "const") else [self.conv0, self.conv1]

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: list[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """Features and the picture so far, at twice the size; ws [n, 2 or 3, w_dim], a noise for each convolution."""
        if x is None:
            x = self.conv1(self.const.expand(len(ws), -1, -1, -1), ws[:, 0], noise[0])
        elif self.residual:
            beside = self.skip.doubled(x, HALF)
            x = beside + self.conv1(self.conv0(x, ws[:, 0], noise[0]), ws[:, 1], noise[1], gain=HALF)
        else:
            x = self.conv1(self.conv0(x, ws[:, 0], noise[0]), ws[:, 1], noise[1])
        if image is not None:
            image = upsampled(image, self.resample_filter)
        if self.torgb is not None:
            painted = self.torgb(x, ws[:, -1])
            image = painted if image is None else image + painted
        return x, image


class Synthesis(nn.Module):
    """W+ to pictures."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", Block(config, resolution))

    @property
    def blocks(self) -> list[Block]:
        """The blocks, from 4 x 4 on."""
        return [getattr(self, f"b{resolution}") for resolution in self.config.resolutions]

    @property
    def convs(self) -> list[StyledConv]:
        """All styled convolutions; one's number here is its layer of W+ and its number to the noise."""
        return [conv for block in self.blocks for conv in block.convs]

    def const_noise(self, layer: int, resolution: int) -> Tensor | None:  # noqa: ARG002 - it is a Noise
        """The noise that the file holds."""
        conv = self.convs[layer]
        return conv.noise_const[None, None] if conv.use_noise else None

    def forward(self, ws: Tensor, noise: Noise | None = None) -> Tensor:
        """ws [n, num_ws, w_dim] to pictures [n, c, R, R], about [-1, 1]; without ``noise``, that of the file."""
        image = self.features(ws, noise)[-1][1]
        assert image is not None, "the last block paints"
        return image

    def features(
        self, ws: Tensor, noise: Noise | None = None, below: int = LARGEST + 1
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Features and the picture so far after every block smaller than ``below``; None: nothing is painted yet."""
        noise = noise or self.const_noise
        made: list[tuple[Tensor, Tensor | None]] = []
        x, image, layer = None, None, 0
        for block in self.blocks:
            if block.conv1.resolution >= below:
                break
            count = len(block.convs)
            planes = [
                noise(layer + k, conv.resolution) if conv.use_noise else None for k, conv in enumerate(block.convs)
            ]
            x, image = block(x, image, ws[:, layer : layer + count + 1], planes)
            layer += count
            made.append((x, image))
        return made


def no_noise(layer: int, resolution: int) -> None:
    """The noise of ``noise_mode=none``."""


class Generator2(nn.Module):
    """Mapping and synthesis of StyleGAN2."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = mapping_of(config)
        self.synthesis = Synthesis(config)

    def styles(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [n, z_dim] and c [n, c_dim] to W+ [n, num_ws, w_dim], all of its layers alike."""
        return self.mapping.styles(z, c, self.config.num_ws)

    def forward(self, z: Tensor, c: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """z [n, z_dim] to pictures [n, c, R, R]."""
        made: Tensor = self.synthesis(self.styles(z, c), noise)
        return made
