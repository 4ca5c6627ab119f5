"""StyleGAN2 painted fast on a CPU: the same pictures as ``stylegan2.py``.

What costs time beside the convolutions is memory: a map of 1024 x 1024 x 32 is 134 MB, and fresh memory of that size is
slower than the arithmetic on it. So from 64 x 64 on a picture is painted in strips that fit the caches: a strip passes
through all of a block before the next one begins. Channels come last; weights are modulated for each picture, with the
activation's gain in them; maps lie between borders of zeros, so that no convolution pads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan.config import Stylegan2Config
from genreg_stylegan.layers import SQRT2, upsampled
from genreg_stylegan.stylegan2 import Block, Noise, StyledConv, Synthesis, ToRGB

Painter: TypeAlias = Callable[[Tensor, Noise | None, Tensor | None], Iterator[Tensor]]
STRIPS = 64  # pixels: smaller maps are painted whole, all pictures together, in float32
STRIP_BYTES = 8 << 20  # of one strip of features


def painter2(synthesis: Synthesis, device: torch.device, dtype: torch.dtype) -> Painter:
    """A painter of StyleGAN2: pictures [c, R, R] one by one, of ws [n, num_ws, w_dim] and a noise."""
    for conv in synthesis.convs:
        conv.keep_()
    whole = device.type != "cpu" or synthesis.config.architecture == "resnet"

    def paint(ws: Tensor, noise: Noise | None, _: Tensor | None) -> Iterator[Tensor]:
        if not whole:
            return in_strips(synthesis, ws, noise or synthesis.const_noise, dtype)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return iter(synthesis(ws, noise).float())

    return paint


def in_strips(synthesis: Synthesis, ws: Tensor, noise: Noise, dtype: torch.dtype) -> Iterator[Tensor]:
    """Small maps of all pictures together, then each picture's large maps strip by strip: [c, R, R] each."""
    x, images = synthesis.features(ws, noise, below=STRIPS)[-1]
    large = [block for block in synthesis.blocks if block.conv1.resolution >= STRIPS]
    first = synthesis.config.num_ws - 1 - 2 * len(large)  # layer of the first large map
    for row in range(len(ws)):
        picture = None if images is None else images[row]
        features = bordered(x[row].to(dtype)) if large else None
        for layer, block in zip(range(first, synthesis.config.num_ws, 2), large, strict=False):
            assert features is not None
            planes = [plane_of(noise(layer + k, conv.resolution), row) for k, conv in enumerate(block.convs)]
            own = ws[row : row + 1, layer : layer + 3]
            features, picture = painted(block, features, picture, own, planes, last=block is large[-1])
        assert picture is not None, "the last block paints"
        yield picture


def plane_of(noise: Tensor | None, row: int) -> Tensor | None:
    """A row's plane [r, r] of a layer's noise [n or 1, 1, r, r]."""
    return None if noise is None else noise[min(row, len(noise) - 1), 0]


def bordered(x: Tensor) -> Tensor:
    """x [c, h, w] between zeros, channels last: [h + 2, w + 2, c]."""
    return F.pad(x.permute(1, 2, 0), (0, 0, 1, 1, 1, 1))


def empty_with_border(side: int, channels: int, dtype: torch.dtype) -> Tensor:
    """[side + 2, side + 2, channels], of which only the border is zero."""
    x = torch.empty(side + 2, side + 2, channels, dtype=dtype)
    for edge in (x[0], x[-1], x[:, 0], x[:, -1]):
        edge.zero_()
    return x


def as_batch(x: Tensor) -> Tensor:
    """x [h, w, c] as a convolution takes it, [1, c, h, w], channels last."""
    return x[None].permute(0, 3, 1, 2)  # in this order: torch tells the layout by the strides


# ---- one block of one picture ----


@dataclass(frozen=True, eq=False)
class Ready:
    """A styled convolution with the weights of one picture: modulated, demodulated, and scaled by √2."""

    weight: Tensor  # [o, i, 3, 3], or [i, o, 3, 3] for a transposed convolution
    bias: Tensor  # [o]
    noise: Tensor | None  # [r, r, 1]
    clamp: float | None

    @classmethod
    def of(cls, conv: StyledConv, w: Tensor, plane: Tensor | None, dtype: torch.dtype) -> Ready:
        """For w [1, w_dim] and the noise [r, r]."""
        style, scale = conv.scales(w)
        each = torch.outer(scale[0], style[0] * SQRT2)[:, :, None, None]  # of the weights [o, i]
        turned = conv.up and dtype == torch.float32
        weight = (conv.turned * each.transpose(0, 1) if turned else conv.weight * each).to(dtype)
        noise = None if plane is None else (plane * (conv.noise_strength * SQRT2)).to(dtype)[:, :, None]
        return cls(weight, (conv.bias * SQRT2).to(dtype), noise, conv.clamp)

    def finish_(self, y: Tensor, rows: slice, out: Tensor | None = None) -> Tensor:
        """Noise and activation of y [h, w, o], which is those rows, in place or into ``out``."""
        if self.noise is not None:
            y = torch.add(y, self.noise[rows], out=y if out is None else out)
        elif out is not None:
            y = out.copy_(y)
        F.leaky_relu_(y, 0.2)
        return y if self.clamp is None else y.clamp_(-self.clamp, self.clamp)


def painted(
    block: Block,
    features: Tensor,
    picture: Tensor | None,
    ws: Tensor,
    noise: list[Tensor | None],
    *,
    last: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """A block's features, bordered (of the last: None), and the picture so far [c, r, r].

    ``ws`` is [1, 3, w_dim], and there is a plane [r, r] of noise for each convolution.
    """
    side, dtype = block.conv1.resolution, features.dtype
    first, second = (Ready.of(conv, ws[:, k], noise[k], dtype) for k, conv in enumerate(block.convs))
    channels = len(second.bias)
    if picture is not None:
        picture = upsampled(picture[None], block.resample_filter)[0]
    rgb = None if block.torgb is None else rgb_of(block.torgb, ws[:, 2], dtype)
    if rgb is not None and picture is None:
        picture = torch.zeros(len(rgb[1]), side, side)
    height = rows_of_strip(side, max(channels, len(first.bias)), dtype)
    strip = torch.zeros(height + 2, side + 2, len(first.bias), dtype=dtype)  # rows top - 1 … top + height of conv0
    made = None if last else empty_with_border(side, channels, dtype)
    for top in range(0, side, height):
        begin = top + 1 if top else 0  # the two rows before are there already
        end = min(top + height + 1, side)
        if top:
            strip[:2] = strip[height : height + 2].clone()
        rows = slice(begin - top + 1, end - top + 1)
        first.finish_(doubled(block.conv0, first, features, begin, end), slice(begin, end), out=strip[rows, 1:-1])
        if end == side:
            strip[height + 1] = 0
        y = F.conv2d(as_batch(strip), second.weight, second.bias)[0].permute(1, 2, 0)
        at = slice(top, top + height)
        y = second.finish_(y, at)
        if rgb is not None and picture is not None:
            picture[:, at] += pixels(y, *rgb, block.torgb.clamp if block.torgb else None)
        if made is not None:
            made[top + 1 : top + height + 1, 1:-1] = y
    return made, picture


def rows_of_strip(side: int, channels: int, dtype: torch.dtype) -> int:
    """Rows of a strip, a power of two."""
    fit = STRIP_BYTES // (side * channels * dtype.itemsize)
    return min(side, 1 << max(fit.bit_length() - 1, 3))


def doubled(conv: StyledConv, ready: Ready, features: Tensor, begin: int, end: int) -> Tensor:
    """Rows [begin, end) of the features, bordered by zeros, at twice the size and filtered: [rows, 2 w, o].

    Row t of the transposed convolution takes the features' rows (t - 2) / 2 … t / 2, and row y of the filtered map
    takes its rows y - 1 … y + 2. The first column is the border's, -2.
    """
    low, high = -((3 - begin) // 2), (end + 1) // 2 + 1
    x, width = as_batch(features[low + 1 : high + 1]), 2 * (features.shape[1] - 2)
    half = ready.weight.dtype != torch.float32
    y = in_phases(x, ready.weight) if half else F.conv_transpose2d(x, ready.weight, stride=2)
    fir = (conv.resample_filter * 4).flip(0, 1).to(y.dtype).expand(y.shape[1], 1, -1, -1)
    filtered = F.conv2d(y, fir, ready.bias, groups=y.shape[1])[0].permute(1, 2, 0)
    skip = begin - 2 * low - 1
    return filtered[skip : skip + end - begin, 1 : 1 + width]


def in_phases(x: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution of stride 2, of weights [o, i, 3, 3], as four convolutions: faster in bfloat16.

    Along an axis, even outputs take the input before with tap 2 and their own with tap 0; odd ones take their own with
    tap 1. The first and the last row and column, which a border alone reaches, are zero and left out.
    """
    height, width = x.shape[2:]
    made = x.new_empty(2 * height, 2 * width, len(weight))
    made[0], made[:, 0] = 0, 0
    weight, even, odd = weight.flip(2, 3), slice(0, 3, 2), slice(1, 2)
    for first, rows in ((2, even), (1, odd)):
        for second, columns in ((2, even), (1, odd)):
            kernel = weight[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
            made[first::2, second::2] = F.conv2d(x, kernel)[0].permute(1, 2, 0)
    return as_batch(made)


def rgb_of(torgb: ToRGB, w: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights [c, i] and bias [c] of what a block paints, for one picture."""
    style = torgb.affine(w)[0] / torgb.weight.shape[1] ** 0.5
    return (torgb.weight[:, :, 0, 0] * style).to(dtype), torgb.bias


def pixels(y: Tensor, weight: Tensor, bias: Tensor, clamp: float | None) -> Tensor:
    """Features [h, w, i] as pixels [c, h, w]."""
    made = (weight @ y.reshape(-1, y.shape[2]).T).float().view(-1, *y.shape[:2]) + bias[:, None, None]
    return made if clamp is None else made.clamp_(-clamp, clamp)


def bytes_needed(config: Stylegan2Config, dtype: torch.dtype, weights: int) -> int:
    """Memory of that many weights and of one picture, about: what the widest two neighboring maps take, and strips."""
    sizes = [side * side * config.channels(side) * dtype.itemsize for side in config.resolutions[:-1]] or [0]
    widest = max(map(sum, pairwise([0, *sizes])))
    planes = 4 * config.resolution**2 * (4 * config.image_channels + 2)
    return 6 * weights + widest + planes + 6 * STRIP_BYTES
