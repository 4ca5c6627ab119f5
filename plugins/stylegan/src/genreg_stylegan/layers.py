"""What both generations of StyleGAN are built of: equalized layers, filters, the mapping network.

Written from the papers: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), "Training
Generative Adversarial Networks with Limited Data" (2020) and "Alias-Free Generative Adversarial Networks" (2021). The
names of tensors are those of published files. Everything can be differentiated twice, as R1 and path lengths need.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan.config import Stylegan2Config, Stylegan3Config

EPSILON = 1e-8
SQRT2 = math.sqrt(2)
HALF = math.sqrt(0.5)  # of each of two signals that are added: their sum has the variance of one
TAPS = 4  # of the filter of StyleGAN2 and of the discriminator


def normalized(x: Tensor) -> Tensor:
    """Each row [n, d] scaled to a second moment of one."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def leaky(x: Tensor, gain: float = SQRT2, clamp: float | None = None) -> Tensor:
    """Leaky ReLU of slope 0.2, scaled, then held within +-clamp, which is scaled as far as the gain departs from √2."""
    x = F.leaky_relu(x, 0.2) * gain
    return x if clamp is None else x.clamp(-clamp * gain / SQRT2, clamp * gain / SQRT2)


# ---- the four-by-four filter ----


def binomial() -> Tensor:
    """The usual filter, the outer product of [1, 3, 3, 1] / 8 with itself: [4, 4], of sum one."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return row[:, None] * row[None, :]


def blurred(x: Tensor, fir: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """x [n, c, h, w] convolved (not correlated) with the filter [k, k], zeros ``padding`` wide around it."""
    kernel = (fir * gain).flip(0, 1).to(x.dtype).expand(x.shape[1], 1, *fir.shape)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def upsampled(x: Tensor, fir: Tensor) -> Tensor:
    """x [n, c, h, w] at twice the size: zeros between, then the filter with a gain of four."""
    kernel = (fir * 4).to(x.dtype).expand(x.shape[1], 1, *fir.shape)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def downsampled(x: Tensor, fir: Tensor) -> Tensor:
    """x [n, c, h, w] at half the size: the filter, then every other pixel (a stride's gradient is slow in bfloat16)."""
    return blurred(x, fir, padding=1)[:, :, ::2, ::2]


# ---- equalized layers: weights are stored N(0, 1), and scaled when used ----


class Dense(nn.Module):
    """A fully connected layer whose learning rate is equalized: weights are stored divided by ``lr_multiplier``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        lr_multiplier: float = 1.0,
        bias: float = 0.0,
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.lr_multiplier, self.activated = lr_multiplier, activated
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        weight = self.weight * (self.lr_multiplier / math.sqrt(self.weight.shape[1]))
        y = F.linear(x, weight, self.bias * self.lr_multiplier)
        return leaky(y) if self.activated else y


class Conv(nn.Module):
    """An equalized convolution without modulation, with a filter that it uses where it halves or doubles the size."""

    bias: nn.Parameter | None
    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("resample_filter", binomial())

    @property
    def scaled(self) -> Tensor:
        """The weights as they are used."""
        return self.weight * (1 / math.sqrt(self.weight[0].numel()))

    def forward(self, x: Tensor, *, down: bool = False, gain: float = 1.0) -> Tensor:
        """Convolve, halve the size where asked, activate where there is a bias, else only scale."""
        kernel = self.weight.shape[2]
        if not down:
            x = F.conv2d(x, self.scaled, padding=kernel // 2)
        elif kernel == 1:
            x = F.conv2d(downsampled(x, self.resample_filter), self.scaled)
        else:
            x = F.conv2d(blurred(x, self.resample_filter, padding=TAPS // 2), self.scaled, stride=2)
        if self.bias is None:
            return x * gain
        return leaky(x + self.bias[:, None, None].to(x.dtype), SQRT2 * gain, self.clamp)

    def doubled(self, x: Tensor, gain: float) -> Tensor:
        """A 1 x 1 convolution, then twice the size."""
        return upsampled(F.conv2d(x, self.scaled), self.resample_filter) * gain


class Mapping(nn.Module):
    """z and class to w: both normalized on their own, then fully connected layers whose learning rate is small."""

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        layers: int,
        *,
        width: int | None,
        embed: int | None,
        lr_multiplier: float,
        averaged: bool = True,
    ) -> None:
        super().__init__()
        self.z_dim, self.layers = z_dim, layers
        embed, width = embed or w_dim, width or w_dim
        self.embed = Dense(c_dim, embed) if c_dim else None
        widths = [z_dim + (embed if c_dim else 0), *[width] * (layers - 1), w_dim]
        for i in range(layers):
            self.add_module(f"fc{i}", Dense(widths[i], widths[i + 1], lr_multiplier=lr_multiplier, activated=True))
        if averaged:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """z [n, z_dim] and c [n, c_dim] (None where the width is 0) to w [n, w_dim]."""
        parts = [] if z is None or not self.z_dim else [normalized(z)]
        if self.embed is not None:
            assert c is not None, "a conditional network takes classes"
            parts.append(normalized(self.embed(c)))
        x = torch.cat(parts, 1)
        for i in range(self.layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x

    def styles(self, z: Tensor, c: Tensor | None, layers: int) -> Tensor:
        """z [n, z_dim] and c [n, c_dim] to W+ [n, layers, w_dim], all of its layers alike."""
        w: Tensor = self(z, c)
        return w[:, None].expand(-1, layers, -1)

    @torch.no_grad()
    def average_(self, w: Tensor, beta: float) -> None:
        """Move w_avg towards the mean of w [n, w_dim]: a step of training, never of sampling."""
        self.w_avg.copy_(w.mean(0).lerp(self.w_avg, beta))


def mapping_of(config: Stylegan2Config | Stylegan3Config) -> Mapping:
    """The mapping network of a generator, freshly initialized."""
    return Mapping(
        config.z_dim, config.c_dim, config.w_dim, config.mapping_layers,
        width=config.mapping_width, embed=config.embed_width, lr_multiplier=config.lr_multiplier,
    )  # fmt: skip
