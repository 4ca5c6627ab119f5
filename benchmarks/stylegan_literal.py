"""StyleGAN2 and StyleGAN3 as the papers write them, in plain PyTorch, float32: what `stylegan_speed.py` compares with.

Weights are written out for every row and convolved in groups; to change a rate, zeros are inserted and what comes out
is filtered at the full rate. The parameters are those of genreg's own modules.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan import stylegan2, stylegan3

SQRT2 = math.sqrt(2)


def upfirdn(x: Tensor, fir: Tensor, *, up: int = 1, down: int = 1, padding: tuple[int, int], gain: float = 1) -> Tensor:
    """x [n, c, h, w]: zeros inserted, padded or cut, filtered along both axes (or by a filter [k, k]), thinned out."""
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (*padding, *padding))
    kernels = [fir.flip(0, 1)] if fir.ndim == 2 else [fir.flip(0)[:, None], fir.flip(0)[None, :]]
    for kernel in kernels:
        x = F.conv2d(x, (kernel * gain ** (1 / len(kernels))).expand(c, 1, *kernel.shape), groups=c)
    return x[:, :, ::down, ::down]


def convolved(x: Tensor, weight: Tensor, *, up: bool = False, padding: int = 0) -> Tensor:
    """x [n, i, h, w] with weights of its own for each row, [n, o, i, k, k]."""
    n, o, i, k = weight.shape[:4]
    rows = x.reshape(1, n * i, *x.shape[2:])
    if up:
        kernels = weight.transpose(1, 2).reshape(n * i, o, k, k)
        y = F.conv_transpose2d(rows, kernels, stride=2, groups=n)
    else:
        y = F.conv2d(rows, weight.reshape(n * o, i, k, k), padding=padding, groups=n)
    return y.reshape(n, o, *y.shape[2:])


def demodulated(weight: Tensor, style: Tensor) -> Tensor:
    """[n, o, i, k, k] of [o, i, k, k] and [n, i]."""
    own = weight[None] * style[:, None, :, None, None]
    return own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()


def activated(x: Tensor, bias: Tensor, clamp: float | None) -> Tensor:
    x = F.leaky_relu(x + bias[None, :, None, None], 0.2) * SQRT2
    return x if clamp is None else x.clamp(-clamp, clamp)


def styled(conv: stylegan2.StyledConv, x: Tensor, w: Tensor) -> Tensor:
    own = demodulated(conv.weight, conv.affine(w))
    if conv.up:
        x = upfirdn(convolved(x, own, up=True), conv.resample_filter, padding=(1, 1), gain=4)
    else:
        x = convolved(x, own, padding=1)
    return activated(x + conv.noise_const * conv.noise_strength, conv.bias, conv.clamp)


def painted(torgb: stylegan2.ToRGB, x: Tensor, w: Tensor) -> Tensor:
    style = torgb.affine(w) / math.sqrt(torgb.weight.shape[1])
    y = convolved(x, torgb.weight[None] * style[:, None, :, None, None]) + torgb.bias[None, :, None, None]
    return y if torgb.clamp is None else y.clamp(-torgb.clamp, torgb.clamp)


def literal2(synthesis: stylegan2.Synthesis, ws: Tensor) -> Tensor:
    """ws [n, num_ws, w_dim] to pictures [n, c, R, R], architecture skip."""
    x = synthesis.blocks[0].const.expand(len(ws), -1, -1, -1)
    image, layer = None, 0
    for block in synthesis.blocks:
        for conv in block.convs:
            x = styled(conv, x, ws[:, layer])
            layer += 1
        if image is not None:
            image = upfirdn(image, block.resample_filter, up=2, padding=(2, 1), gain=4)
        assert block.torgb is not None
        made = painted(block.torgb, x, ws[:, layer])
        image = made if image is None else image + made
    assert image is not None
    return image


def alias_free(conv: stylegan3.AliasFreeConv, x: Tensor, w: Tensor) -> Tensor:
    layer, style, gain = conv.layer, conv.affine(w), conv.magnitude_ema.rsqrt()
    if layer.to_rgb:
        style = style / math.sqrt(conv.weight[0].numel())
        y = convolved(x, conv.weight[None] * style[:, None, :, None, None] * gain) + conv.bias[None, :, None, None]
        return y if conv.clamp is None else y.clamp(-conv.clamp, conv.clamp)
    weight = conv.weight * conv.weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
    own = demodulated(weight, style * style.square().mean().rsqrt()) * gain
    x = convolved(x, own, padding=layer.kernel - 1) + conv.bias[None, :, None, None]
    if conv.up_filter is not None:
        x = upfirdn(x, conv.up_filter, up=layer.up, padding=layer.padding, gain=layer.up**2)
    x = activated(x, torch.zeros_like(conv.bias), conv.clamp)
    return x if conv.down_filter is None else upfirdn(x, conv.down_filter, down=layer.down, padding=(0, 0))


def literal3(synthesis: stylegan3.Synthesis, ws: Tensor) -> Tensor:
    """ws [n, num_ws, w_dim] to pictures [n, c, R, R]."""
    x = synthesis.input(ws[:, 0])
    for number, conv in enumerate(synthesis.convs, 1):
        x = alias_free(conv, x, ws[:, number])
    return x * synthesis.config.output_scale
