"""The synthesis networks, computed fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from genreg_stylegan import stylegan2, stylegan3
from genreg_stylegan.config import Stylegan2Config, Stylegan3Config
from genreg_stylegan.stylegan2 import Noise

Painter: TypeAlias = Callable[[Tensor, Noise | None, Tensor | None], Iterator[Tensor]]


def painter2(synthesis: stylegan2.Synthesis, device: torch.device, dtype: torch.dtype) -> Painter:
    """Paints StyleGAN2."""

    def paint(ws: Tensor, noise: Noise | None, transform: Tensor | None) -> Iterator[Tensor]:
        yield from synthesis(ws, noise).float()

    return paint


def painter3(synthesis: stylegan3.Synthesis, device: torch.device, dtype: torch.dtype) -> Painter:
    """Paints StyleGAN3."""

    def paint(ws: Tensor, noise: Noise | None, transform: Tensor | None) -> Iterator[Tensor]:
        moved = None if transform is None else synthesis.input.transform @ transform
        yield from synthesis(ws, moved).float()

    return paint


def bytes_needed(config: Stylegan2Config | Stylegan3Config, dtype: str, count: int) -> int:
    """Memory of the weights and of one picture, about."""
    return 4 * count
