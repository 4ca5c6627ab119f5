"""The evidence lower bound, and the tighter importance-weighted one.

log p(x | y) >= E_q(z | x, y) [log p(x | z, y)] - KL(q(z | x, y) || N(0, I))      (Kingma and Welling, 2014)
log p(x | y) >= log 1/K sum_k p(x | z_k, y) p(z_k | y) / q(z_k | x, y)      (Burda, Grosse and Salakhutdinov, 2016)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each latent: [n, d], in nats."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


def reparameterize(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z = mean + sigma * noise."""
    return mean + torch.exp(0.5 * log_variance) * noise


def regularizer(kl: Tensor, free_bits: float) -> Tensor:
    """sum_d max(free_bits, the batch's mean KL_d): latents below it are not pushed further (Kingma et al., 2016)."""
    return kl.mean(0).clamp_min(free_bits).sum()


def beta_at(step: int, steps: int, beta: float, warmup: float) -> float:
    """beta, grown linearly from 0 over the first share ``warmup`` of the steps."""
    return beta * min(1.0, step / (warmup * steps)) if warmup > 0 else beta


def negative_elbo(log_prob: Tensor, kl: Tensor, *, beta: float = 1.0, free_bits: float = 0.0) -> Tensor:
    """The loss: the mean over rows of -log p(x | z), plus beta times the regularizer; in nats."""
    return -log_prob.mean() + beta * regularizer(kl, free_bits)


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; mean, variance), summed over the last axis."""
    each = (z - mean) ** 2 * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * each.sum(-1)


def importance_bound(log_weights: Tensor) -> Tensor:
    """log of the mean importance weight over the first axis [K, n]: the bound grows with K to log p(x)."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
