"""StyleGAN3's generator as the paper has it: signals that can be moved and turned, and nothing that sticks to pixels.

This is the network to train and to measure; ``painting.py`` computes the same pictures faster. It starts from sines
in place of a learned constant; every activation works at twice the rate, between a filter up and a filter down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.draft import Array
from genreg_stylegan.config import Stylegan3Config
from genreg_stylegan.layers import Dense, leaky, mapping_of
from genreg_stylegan.layout import Layer, Signal, layers, signals
from genreg_stylegan.stylegan2 import demodulation, energy


class FourierInput(nn.Module):
    """Sines of random frequencies in the band of the first signal, moved and turned as w says, mixed by a matrix."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, signal: Signal) -> None:
        super().__init__()
        self.signal, channels = signal, signal.channels
        freqs = torch.randn(channels, 2)
        radii = freqs.square().sum(1, keepdim=True).sqrt()
        freqs = freqs / (radii * radii.square().exp() ** 0.25)  # uniform in the disk
        self.affine = Dense(w_dim, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", freqs * signal.cutoff)
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """w [n, w_dim] to [n, c, s, s]; ``transform`` [3, 3] or [n, 3, 3] instead of the file's."""
        turn = self.affine(w)
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        moved = rotation(turn[:, 0], turn[:, 1]) @ translation(-turn[:, 2], -turn[:, 3])
        moved = moved @ (self.transform if transform is None else transform)
        phases = self.phases + (self.freqs @ moved[:, :2, 2:]).squeeze(2)
        freqs = self.freqs @ moved[:, :2, :2]  # [n, c, 2]
        room = self.signal.rate / 2 - self.signal.cutoff
        amplitude = (1 - (freqs.norm(dim=2) - self.signal.cutoff) / room).clamp(0, 1)
        size, rate = self.signal.size, self.signal.rate
        at = (torch.arange(size, device=w.device, dtype=w.dtype) + 0.5 - size / 2) / rate  # pixel centers
        across = (freqs[:, :, 0, None] * at)[:, :, None, :]
        down = (freqs[:, :, 1, None] * at)[:, :, :, None]
        waves = torch.sin(2 * math.pi * (across + down + phases[:, :, None, None])) * amplitude[:, :, None, None]
        return torch.einsum("nihw,oi->nohw", waves, self.weight / math.sqrt(len(self.weight)))


def rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    """[n, 3, 3] of [n] and [n]."""
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, one]
    return torch.stack(rows, 1).view(-1, 3, 3)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """[n, 3, 3] of [n] and [n]."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([one, zero, x, zero, one, y, zero, zero, one], 1).view(-1, 3, 3)


# ---- filters of any length, at any factor ----


def resampled_up(x: Tensor, fir: Tensor | None, factor: int, padding: tuple[int, int]) -> Tensor:
    """x [n, c, h, w] with zeros between, padded (or cut, where negative), then filtered along both axes."""
    if fir is None:
        low, high = padding
        return F.pad(x, (low, high, low, high))
    taps, channels, size = len(fir), x.shape[1], x.shape[2]
    kernel = (fir * factor).to(x.dtype)
    whole = F.conv_transpose2d(x, down_columns(kernel, channels), stride=(factor, 1), groups=channels)
    whole = F.conv_transpose2d(whole, along_rows(kernel, channels), stride=(1, factor), groups=channels)
    low = padding[0] - (taps - 1)  # the convolution of all, cut to what the padding leaves of it
    high = size * factor + sum(padding) - (taps - 1) - whole.shape[2] - low
    return F.pad(whole, (low, high, low, high))


def resampled_down(x: Tensor, fir: Tensor | None, factor: int) -> Tensor:
    """x [n, c, h, w] filtered (without padding), then every factor-th pixel; the filter is [k] or [k, k]."""
    if fir is None:
        return x
    channels = x.shape[1]
    if fir.ndim == 2:
        kernel = fir.flip(0, 1).to(x.dtype).expand(channels, 1, *fir.shape)
        return F.conv2d(x, kernel, stride=factor, groups=channels)
    row = fir.flip(0).to(x.dtype)
    x = F.conv2d(x, down_columns(row, channels), stride=(factor, 1), groups=channels)
    return F.conv2d(x, along_rows(row, channels), stride=(1, factor), groups=channels)


def down_columns(fir: Tensor, channels: int) -> Tensor:
    """A filter [k] as a convolution of each channel by itself takes it, along the height: [channels, 1, k, 1]."""
    return fir.view(1, 1, -1, 1).expand(channels, -1, -1, -1)


def along_rows(fir: Tensor, channels: int) -> Tensor:
    """The same along the width: [channels, 1, 1, k]."""
    return fir.view(1, 1, 1, -1).expand(channels, -1, -1, -1)


def unit_weights(weight: Tensor) -> Tensor:
    """Weights [o, i, k, k] of which each output's have a mean square of one."""
    return weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()


class AliasFreeConv(nn.Module):
    """A modulated convolution, then the activation at a higher rate between two filters; the last layer paints."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, config: Stylegan3Config, layer: Layer) -> None:
        super().__init__()
        inputs, outputs = layer.before.channels, layer.after.channels
        self.layer, self.clamp, self.beta = layer, config.conv_clamp, config.magnitude_ema_beta
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, layer.kernel, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.register_buffer("up_filter", _tensor(layer.up_filter()))
        self.register_buffer("down_filter", _tensor(layer.down_filter()))

    def modulation(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights [o, i, k, k], the scales of their inputs [n, i] and of their outputs [n, o].

        A style is normalized on its own: a row does not depend on the rows beside it.
        """
        style, gain = self.affine(w), self.magnitude_ema.rsqrt()
        if self.layer.to_rgb:
            scale = style * (gain / math.sqrt(self.weight[0].numel()))
            return self.weight, scale, torch.ones(1, len(self.weight), device=w.device, dtype=w.dtype)
        weight = unit_weights(self.weight)
        style = style * style.square().mean(1, keepdim=True).rsqrt()
        return weight, style, demodulation(energy(weight), style) * gain

    def forward(self, x: Tensor, w: Tensor, *, track: bool = False) -> Tensor:
        """x [n, i, s, s] and w [n, w_dim] to [n, o, t, t]; ``track`` moves the mean of x's square first (training)."""
        if track:
            with torch.no_grad():
                self.magnitude_ema.copy_(x.float().square().mean().lerp(self.magnitude_ema, self.beta))
        weight, into, out = self.modulation(w)
        x = F.conv2d(x * into[:, :, None, None], weight, padding=self.layer.kernel - 1) * out[:, :, None, None]
        x = x + self.bias[:, None, None]
        x = resampled_up(x, self.up_filter, self.layer.up, self.layer.padding)
        if self.layer.to_rgb:
            return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)
        return resampled_down(leaky(x, clamp=self.clamp), self.down_filter, self.layer.down)


def _tensor(values: Array | None) -> Tensor | None:
    return None if values is None else torch.tensor(values.tolist())


class Synthesis(nn.Module):
    """W+ to pictures."""

    def __init__(self, config: Stylegan3Config) -> None:
        super().__init__()
        self.config = config
        self.input = FourierInput(config.w_dim, signals(config)[0])
        self.names = []
        for layer in layers(config):
            self.add_module(layer.name, AliasFreeConv(config, layer))
            self.names.append(layer.name)

    @property
    def convs(self) -> list[AliasFreeConv]:
        """The layers in order; layer i of them takes layer i + 1 of W+."""
        return [getattr(self, name) for name in self.names]

    def forward(self, ws: Tensor, transform: Tensor | None = None, *, track: bool = False) -> Tensor:
        """ws [n, num_ws, w_dim] to pictures [n, c, R, R], about [-1, 1]; ``transform`` as FourierInput has it."""
        return self.features(ws, transform, track=track)[-1] * self.config.output_scale

    def features(self, ws: Tensor, transform: Tensor | None = None, *, track: bool = False) -> list[Tensor]:
        """The signals after the input and after each layer."""
        made = [self.input(ws[:, 0], transform)]
        for number, conv in enumerate(self.convs, 1):
            made.append(conv(made[-1], ws[:, number], track=track))
        return made


class Generator3(nn.Module):
    """Mapping and synthesis of StyleGAN3."""

    def __init__(self, config: Stylegan3Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = mapping_of(config)
        self.synthesis = Synthesis(config)

    def styles(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [n, z_dim] and c [n, c_dim] to W+ [n, num_ws, w_dim], all of its layers alike."""
        return self.mapping.styles(z, c, self.config.num_ws)

    def forward(self, z: Tensor, c: Tensor | None = None, transform: Tensor | None = None) -> Tensor:
        """z [n, z_dim] to pictures [n, c, R, R]."""
        made: Tensor = self.synthesis(self.styles(z, c), transform)
        return made
