"""The discriminator of StyleGAN2 and StyleGAN3: one score for each picture.

It is in the files that people have. Nothing that makes pictures needs it; training does.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from genreg_stylegan.config import Discriminator, Generator
from genreg_stylegan.layers import EPSILON, HALF, Conv, Dense, Mapping, binomial, downsampled


def minibatch_deviation(x: Tensor, group: int | None, features: int) -> Tensor:
    """x [n, c, h, w] with ``features`` further channels: how much the pictures of a group differ.

    Picture i is in group i mod n / group. Raises ValueError where n pictures cannot be cut into such groups.
    """
    n, c, h, w = x.shape
    size = min(group or n, n)
    if n % size:
        raise ValueError(f"{n} pictures cannot be compared in groups of {size}: give a multiple, or fewer")
    apart = x.reshape(size, n // size, features, c // features, h, w)
    deviation = (apart.var(0, unbiased=False) + EPSILON).sqrt().mean((2, 3, 4))  # [groups, features]
    return torch.cat([x, deviation.repeat(size, 1)[:, :, None, None].expand(-1, -1, h, w)], 1)


class Block(nn.Module):
    """One resolution, halved."""

    resample_filter: Tensor

    def __init__(self, config: Discriminator, resolution: int, image_channels: int, *, first: bool) -> None:
        super().__init__()
        self.architecture = config.architecture
        own, below, clamp = config.channels(resolution), config.channels(resolution // 2), config.conv_clamp
        sees = first or config.architecture == "skip"
        self.fromrgb = Conv(image_channels, own, 1, clamp=clamp) if sees else None
        self.conv0 = Conv(own, own, 3, clamp=clamp)
        self.conv1 = Conv(own, below, 3, clamp=clamp)
        if config.architecture == "resnet":
            self.skip = Conv(own, below, 1, bias=False)
        self.register_buffer("resample_filter", binomial())

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and picture, both at half the size ('skip'; else the picture as it is)."""
        if self.fromrgb is not None:
            seen = self.fromrgb(image)
            x = seen if x is None else x + seen
        if self.architecture == "skip":
            image = downsampled(image, self.resample_filter)
        if self.architecture == "resnet":
            beside = self.skip(x, down=True, gain=HALF)
            return beside + self.conv1(self.conv0(x), down=True, gain=HALF), image
        return self.conv1(self.conv0(x), down=True), image


class Epilogue(nn.Module):
    """At 4 x 4: the group's deviation, a convolution, two fully connected layers."""

    def __init__(self, config: Discriminator, image_channels: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        channels = config.channels(4)
        self.fromrgb = Conv(image_channels, channels, 1) if config.architecture == "skip" else None
        self.conv = Conv(channels + config.mbstd_channels, channels, 3, clamp=config.conv_clamp)
        self.fc = Dense(16 * channels, channels, activated=True)
        self.out = Dense(channels, outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """[n, c, 4, 4] to [n, outputs]."""
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        if self.config.mbstd_channels:
            x = minibatch_deviation(x, self.config.mbstd_group, self.config.mbstd_channels)
        scores: Tensor = self.out(self.fc(self.conv(x).flatten(1)))
        return scores


class Critic(nn.Module):
    """Pictures [n, c, R, R], and classes where the generator has them, to logits [n, 1]."""

    def __init__(self, generator: Generator, resolution: int) -> None:
        super().__init__()
        config = generator.discriminator or Discriminator()
        sizes = [1 << k for k in range(resolution.bit_length() - 1, 1, -1)]
        self.sizes = sizes
        conditional = generator.c_dim > 0
        self.cmap_dim = (config.cmap_dim or config.channels(4)) if conditional else 0
        for larger, _ in pairwise(sizes):
            block = Block(config, larger, generator.image_channels, first=larger == resolution)
            self.add_module(f"b{larger}", block)
        self.b4 = Epilogue(config, generator.image_channels, self.cmap_dim or 1)
        self.mapping = None
        if conditional:
            self.mapping = Mapping(
                0, generator.c_dim, self.cmap_dim, config.mapping_layers, width=config.mapping_width,
                embed=config.embed_width, lr_multiplier=config.lr_multiplier, averaged=False,
            )  # fmt: skip

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        """The logits: how real each picture looks, and how much of its class."""
        x: Tensor | None = None
        for size in self.sizes[:-1]:
            x, image = self.get_submodule(f"b{size}")(x, image)
        scores: Tensor = self.b4(x, image)
        if self.mapping is None:
            return scores
        kinds: Tensor = self.mapping(None, c)
        return (scores * kinds).sum(1, keepdim=True) / math.sqrt(self.cmap_dim)
