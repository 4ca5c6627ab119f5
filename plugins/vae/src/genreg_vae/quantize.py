"""VQ-VAE's parts: the codebook with its straight-through gradient, and convolutions to a grid and back.

e_k(h) is the code nearest to h; the decoder sees it, its gradient goes to h (van den Oord, Vinyals and Kavukcuoglu,
"Neural discrete representation learning", 2017). Codes follow the mean of the h that chose them (their appendix A.1),
and a code that hardly anything chooses begins anew at some h. Shapes: n rows, K codes of width D, grid [gh, gw].
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

DECAY, IDLE = 0.98, 0.1  # of the codebook's moving means; uses per step below which a code begins anew


class Quantized(NamedTuple):
    """What a grid of vectors becomes."""

    straight: Tensor  # [n, D, gh, gw]: the codes' vectors, with the gradient of the vectors
    codes: Tensor  # int64 [n, gh, gw]
    commitment: Tensor  # [n]: squared distance of vectors to their codes


class Codebook(nn.Module):
    """K vectors that follow what is mapped to them; they have no gradient."""

    vectors: Tensor
    uses: Tensor
    total: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, width))
        self.register_buffer("uses", torch.ones(codes))
        self.register_buffer("total", self.vectors.clone())

    def forward(self, h: Tensor) -> Quantized:
        """h [n, D, gh, gw]; in training the codebook moves."""
        rows = h.detach().permute(0, 2, 3, 1).flatten(0, 2).float()  # [n gh gw, D]
        codes = torch.cdist(rows, self.vectors).argmin(1)
        if self.training:
            self.follow_(rows, codes)
            codes = torch.cdist(rows, self.vectors).argmin(1)
        codes = codes.view(len(h), *h.shape[2:])
        nearest = self.lookup(codes)
        commitment = (h - nearest).square().flatten(1).sum(1)
        return Quantized(h + (nearest - h).detach(), codes, commitment)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes [n, gh, gw] as vectors [n, D, gh, gw]."""
        return F.embedding(codes, self.vectors).permute(0, 3, 1, 2)

    @torch.no_grad()
    def follow_(self, rows: Tensor, codes: Tensor) -> None:
        """Move each code towards the mean of its rows [m, D]; one that is idle begins anew at one of them."""
        count = torch.bincount(codes, minlength=len(self.vectors)).to(rows.dtype)
        total = torch.zeros_like(self.vectors).index_add_(0, codes, rows)
        self.uses.lerp_(count, 1 - DECAY)
        self.total.lerp_(total, 1 - DECAY)
        idle = self.uses < IDLE
        at = torch.randint(len(rows), (len(idle),), device=rows.device)
        self.total.copy_(torch.where(idle[:, None], rows[at], self.total))
        self.uses.copy_(torch.where(idle, torch.ones_like(self.uses), self.uses))
        self.vectors.copy_(self.total / self.uses[:, None])


def perplexity(codes: Tensor, count: int) -> Tensor:
    """How many codes are used, weighted by their use: between 1 and ``count``."""
    share = torch.bincount(codes.flatten(), minlength=count).float() / codes.numel()
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


class VqShape(NamedTuple):
    """What the networks are built for."""

    height: int
    width: int
    channels: int
    parameters: int  # of the likelihood
    units: int
    codes: int
    code_width: int
    most_tokens: int

    @property
    def stages(self) -> int:
        """How often the picture is halved: until the grid has no more than the tokens allowed."""
        stage = 0
        while math.prod(-(-side // 2**stage) for side in (self.height, self.width)) > self.most_tokens:
            stage += 1
        return stage

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        return -(-self.height // 2**self.stages), -(-self.width // 2**self.stages)


class Block(nn.Module):
    """x + B(silu(A(silu x))), 3 x 3, B zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        residual: Tensor = self.b(F.silu(self.a(F.silu(x))))
        return x + residual


class VqVae(nn.Module):
    """Pictures to a grid of codes and back."""

    def __init__(self, shape: VqShape) -> None:
        super().__init__()
        self.shape = shape
        widths = [shape.units * min(2**stage, 4) for stage in range(shape.stages + 1)]
        down = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)]
        up = [nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in pairwise(widths)][::-1]
        self.enter = nn.Conv2d(shape.channels, widths[0], 3, 1, 1)
        self.down = nn.ModuleList(down)
        self.before = nn.Sequential(Block(widths[-1]), nn.Conv2d(widths[-1], shape.code_width, 1))
        self.codebook = Codebook(shape.codes, shape.code_width)
        self.after = nn.Sequential(nn.Conv2d(shape.code_width, widths[-1], 3, 1, 1), Block(widths[-1]))
        self.up = nn.ModuleList(up)
        self.leave = nn.Conv2d(widths[0], shape.parameters * shape.channels, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Quantized, Tensor]:
        """x [n, c, h, w] in [0, 1] to its codes and the likelihood's parameters."""
        found = self.encode(x)
        return found, self.decode(found.straight)

    def encode(self, x: Tensor) -> Quantized:
        """x [n, c, h, w] in [0, 1] to a grid of codes."""
        rows, columns = (side * 2**self.shape.stages for side in self.shape.grid)
        h = F.pad(2 * x - 1, (0, columns - x.shape[3], 0, rows - x.shape[2]), mode="replicate")
        h = self.enter(h)
        for layer in self.down:
            h = layer(F.silu(h))
        found: Quantized = self.codebook(self.before(h).float())
        return found

    def decode(self, vectors: Tensor) -> Tensor:
        """[n, D, gh, gw] to the likelihood's parameters [n, P, c, h, w], float32."""
        s = self.shape
        h = self.after(vectors)
        for layer in self.up:
            h = layer(F.silu(h))
        out: Tensor = self.leave(F.silu(h))[:, :, : s.height, : s.width].float()
        return out.reshape(-1, s.parameters, s.channels, s.height, s.width)
