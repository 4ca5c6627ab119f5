"""StyleGAN3 painted fast on a CPU: the same pictures as ``stylegan3.py``.

Between its two filters a layer has four to sixteen times the pixels of what goes in and out. So each layer's filters
and activation work on strips that fit the caches, channels last; gains are in the filters, the bias in the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan.config import Stylegan3Config
from genreg_stylegan.layers import SQRT2
from genreg_stylegan.layout import layers
from genreg_stylegan.painting import STRIP_BYTES, Painter
from genreg_stylegan.stylegan2 import Noise
from genreg_stylegan.stylegan3 import AliasFreeConv, Synthesis, along_rows, down_columns, resampled_down


def painter3(synthesis: Synthesis, device: torch.device, dtype: torch.dtype) -> Painter:
    """A painter of StyleGAN3: pictures [c, R, R] one by one, of ws [n, num_ws, w_dim] and a transform [n, 3, 3]."""

    def paint(ws: Tensor, _: Noise | None, transform: Tensor | None) -> Iterator[Tensor]:
        moved = None if transform is None else synthesis.input.transform @ transform
        for row in range(len(ws)):
            own, place = ws[row : row + 1], None if moved is None else moved[row : row + 1]
            if device.type == "cpu":
                yield in_strips(synthesis, own, place, dtype)
            else:
                with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                    yield synthesis(own, place)[0].float()

    return paint


def in_strips(synthesis: Synthesis, ws: Tensor, transform: Tensor | None, dtype: torch.dtype) -> Tensor:
    """One picture [c, R, R] of ws [1, num_ws, w_dim] and a transform [1, 3, 3]; convolutions are in ``dtype``."""
    x: Tensor = synthesis.input(ws[:, 0], transform).contiguous(memory_format=torch.channels_last)
    for number, conv in enumerate(synthesis.convs, 1):
        x = painted(conv, x, ws[:, number], dtype)
    return x[0] * synthesis.config.output_scale


def painted(conv: AliasFreeConv, x: Tensor, w: Tensor, dtype: torch.dtype) -> Tensor:
    """x [1, i, s, s] and w [1, w_dim] to [1, o, t, t], channels last; the filters, slow in bfloat16, are in float32."""
    layer, (weight, into, out) = conv.layer, conv.modulation(w)
    weight = (weight * torch.outer(out[0], into[0])[:, :, None, None]).to(dtype)
    y = F.conv2d(x.to(dtype), weight, conv.bias.to(dtype), padding=layer.kernel - 1).float()
    if conv.up_filter is None or conv.down_filter is None:
        y = F.pad(y, (*layer.padding, *layer.padding))
        return y if conv.clamp is None else y.clamp_(-conv.clamp, conv.clamp)
    size, channels = layer.after.size, y.shape[1]
    inner = (y.shape[3] * layer.up + sum(layer.padding)) * channels * 4 * layer.down  # bytes of one row that comes out
    height = max(STRIP_BYTES // inner, 8)
    made = torch.empty((1, channels, size, size), memory_format=torch.channels_last)
    for top in range(0, size, height):
        bottom = min(top + height, size)
        z = rows_between(conv, y, top * layer.down, (bottom - 1) * layer.down + layer.down_taps)
        F.leaky_relu_(z, 0.2)
        if conv.clamp is not None:
            z.clamp_(-conv.clamp, conv.clamp)
        made[:, :, top:bottom] = resampled_down(z, conv.down_filter, layer.down)
    return made


def rows_between(conv: AliasFreeConv, y: Tensor, begin: int, end: int) -> Tensor:
    """Rows [begin, end) of what lies between the filters, times √2, of y [1, c, h, w].

    They are ``stylegan3.resampled_up``'s: row t of the full convolution takes rows (t - taps + 1) / up … t / up.
    """
    assert conv.up_filter is not None
    up, (low, high), taps, channels = conv.layer.up, conv.layer.padding, len(conv.up_filter), y.shape[1]
    kernel = conv.up_filter * up
    first, last = begin + taps - 1 - low, end - 1 + taps - 1 - low  # rows of the full convolution
    above, below = max(-((taps - 1 - first) // up), 0), min(last // up + 1, y.shape[2])
    scaled = down_columns(kernel * SQRT2, channels)
    tall = F.conv_transpose2d(y[:, :, above:below], scaled, stride=(up, 1), groups=channels)
    tall = F.pad(tall, (0, 0, above * up - first, last + 1 - above * up - tall.shape[2]))
    whole = F.conv_transpose2d(tall, along_rows(kernel, channels), stride=(1, up), groups=channels)
    left = low - (taps - 1)
    return F.pad(whole, (left, y.shape[3] * up + low + high - (taps - 1) - whole.shape[3] - left))


def bytes_needed(config: Stylegan3Config, dtype: torch.dtype, weights: int) -> int:  # noqa: ARG001 - as in painting.py
    """Memory of that many weights and of one picture, about: three of the largest signals outside of the filters."""
    sizes = [(layer.before.size + layer.kernel - 1) ** 2 * layer.before.channels for layer in layers(config)]
    return 4 * weights + 3 * 4 * max(sizes) + 6 * STRIP_BYTES
