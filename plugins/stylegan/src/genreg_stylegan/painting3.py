"""StyleGAN3 painted fast on a CPU: the same pictures as ``stylegan3.py``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genreg_stylegan.config import Stylegan3Config
from genreg_stylegan.layout import layers
from genreg_stylegan.painting import Painter
from genreg_stylegan.stylegan2 import Noise
from genreg_stylegan.stylegan3 import Synthesis


def painter3(synthesis: Synthesis, device: torch.device, dtype: torch.dtype) -> Painter:
    """A painter of StyleGAN3: pictures [c, R, R] one by one, of ws [n, num_ws, w_dim] and a transform [n, 3, 3]."""

    def paint(ws: Tensor, _: Noise | None, transform: Tensor | None) -> Iterator[Tensor]:
        moved = None if transform is None else synthesis.input.transform @ transform
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            for row in range(len(ws)):
                yield synthesis(ws[row : row + 1], None if moved is None else moved[row : row + 1])[0].float()

    return paint


def bytes_needed(config: Stylegan3Config, dtype: torch.dtype, weights: int) -> int:  # noqa: ARG001 - as in painting.py
    """Memory of that many weights and of one picture, about: the largest layer's signals between its filters."""
    inner = [(layer.before.size + layer.kernel - 1) * layer.up + layer.up_taps for layer in layers(config)]
    largest = max(side * side * layer.after.channels for side, layer in zip(inner, layers(config), strict=True))
    return 4 * weights + 3 * 4 * largest
