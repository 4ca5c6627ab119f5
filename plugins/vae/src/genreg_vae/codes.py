"""p(codes | class): a small causal transformer over the grid in reading order, the class as its first token.

Sampling runs in float64 and remembers keys and values, so that a step costs one token, and a row does not depend on
its neighbors: what rounding differs is far below the chance that a draw lies on a boundary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.draft import Array, Seeds
from genreg.random import Stream, categorical

Memory = list[tuple[Tensor, Tensor]]  # keys and values [n, heads, t, width / heads] of each layer


class Layer(nn.Module):
    """Causal self-attention and two linear layers, both residual, normalized before."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [n, t, width]; with ``past``, x are the steps that follow it."""
        n, t, width = x.shape
        q, k, v = self.attend(self.norm_1(x)).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(n, t, width)))
        x = x + self.dropout(self.narrow(F.silu(self.widen(self.norm_2(x)))))
        return x, (k, v)


class CodePrior(nn.Module):
    """p(codes | class) = prod_t p(code_t | codes before it, class)."""

    def __init__(self, codes: int, tokens: int, classes: int, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.classes = nn.Embedding(max(classes, 1), width)
        self.codes = nn.Embedding(codes, width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, max(1, width // 32), dropout) for _ in range(layers))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, codes)
        for table in (self.classes, self.codes):
            nn.init.normal_(table.weight, 0, 0.02)

    def forward(self, codes: Tensor, y: Tensor) -> Tensor:
        """Logits [n, tokens, K] of each code given those before it, codes int64 [n, tokens], y int64 [n]."""
        x = torch.cat([self.classes(y)[:, None], self.codes(codes[:, :-1])], 1) + self.places
        x = self.drop(x)
        for layer in self.layers:
            x, _ = layer(x)
        logits: Tensor = self.leave(self.norm(x))
        return logits

    def log_prob(self, codes: Tensor, y: Tensor) -> Tensor:
        """log p(codes | y): [n], in nats."""
        logits = self(codes, y).float()
        return -F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view(codes.shape).sum(1)

    def step(self, at: int, last: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits [n, K] of the code at ``at``, ``last`` [n] being the one before (the class at 0)."""
        x = (self.classes(last) if at == 0 else self.codes(last))[:, None] + self.places[at]
        kept = []
        for number, layer in enumerate(self.layers):
            x, both = layer(x, memory[number] if memory else None)
            kept.append(both)
        logits: Tensor = self.leave(self.norm(x))[:, 0]
        return logits, kept

    @torch.inference_mode()
    def draw(self, seeds: Seeds, y: Array, temperature: Array) -> Array:
        """One grid of codes per seed: int64 [n, tokens]; at temperature 0 the likeliest code each time."""
        out = np.empty((len(seeds), self.tokens), np.int64)
        last, memory = torch.from_numpy(np.asarray(y, np.int64)), Memory()
        cold = temperature <= 0
        for at in range(self.tokens):
            logits, memory = self.step(at, last.to(self.places.device), memory)
            log_p = logits.double().cpu().numpy()
            drawn = categorical(seeds, log_p / np.where(cold, 1.0, temperature)[:, None], stream=Stream.PRIOR, step=at)
            out[:, at] = np.where(cold, log_p.argmax(1), drawn)
            last = torch.from_numpy(out[:, at].copy())
        return out
