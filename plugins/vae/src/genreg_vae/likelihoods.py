"""p(x | z): three likelihoods of pixels, each exact, stable and with finite gradients.

x in [0, 1] holds L evenly spaced levels, k / (L - 1); half a bin is h = 1 / (2 (L - 1)). The decoder's parameters are
[n, P, c, h, w]: P = 2, location and log scale (logistic, Gaussian), or P = 1, logits (Bernoulli). Each likelihood is a
pair of functions: the log probability of each row, and a draw from uniform numbers at a temperature, 0 being the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

LOG_SCALE = (-7.0, 2.0)  # of logistic and Gaussian: a thousandth of the range, and far beyond it
TINY = 2.0**-53


@dataclass(frozen=True)
class Likelihood:
    """How pixels follow from the decoder's parameters."""

    parameters: int  # P, per pixel and channel
    log_prob: Callable[[Tensor, Tensor, int], Tensor]  # x [n, c, h, w], parameters, levels -> [n], in nats
    draw: Callable[[Tensor, Tensor | None, Tensor], Tensor]  # parameters, uniforms, temperature [n] -> x in [0, 1]


def discretized_logistic(x: Tensor, parameters: Tensor, levels: int) -> Tensor:
    """log of the logistic's mass in the bin of each level; the outermost bins reach to infinity: [n, c, h, w].

    With a, b = (x - mu +- h) / s the inner bins have log sigma(a) + log sigma(-b) + log(1 - exp(-2h / s)), which is
    log(sigma(a) - sigma(b)) without its cancellation (Salimans et al., "PixelCNN++", 2017, in the exact form).
    """
    half = 0.5 / (levels - 1)
    mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(*LOG_SCALE)
    inverse = torch.exp(-log_scale)
    a, b = (x - mean + half) * inverse, (x - mean - half) * inverse
    below, above = F.logsigmoid(a), F.logsigmoid(-b)
    inner = below + above + torch.log(-torch.expm1(-2 * half * inverse))
    return torch.where(x < half, below, torch.where(x > 1 - half, above, inner))


def gaussian(x: Tensor, parameters: Tensor, levels: int) -> Tensor:
    """log of the normal density per level (density times the bin's width): [n, c, h, w]."""
    mean, log_sigma = parameters[:, 0], parameters[:, 1].clamp(*LOG_SCALE)
    distance = (x - mean) * torch.exp(-log_sigma)
    return -0.5 * distance**2 - log_sigma - 0.5 * math.log(2 * math.pi) - math.log(levels - 1)


def bernoulli(x: Tensor, parameters: Tensor, levels: int) -> Tensor:  # noqa: ARG001 - two levels, whatever is asked
    """x log p + (1 - x) log(1 - p): a probability for binary x alone: [n, c, h, w]."""
    return -F.binary_cross_entropy_with_logits(parameters[:, 0], x, reduction="none")


def _by_row(density: Callable[[Tensor, Tensor, int], Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    return lambda x, parameters, levels: density(x, parameters, levels).flatten(1).sum(1)


def _spread(temperature: Tensor, like: Tensor) -> Tensor:
    return temperature.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def _logit(uniform: Tensor) -> Tensor:
    u = uniform.clamp(TINY, 1 - TINY)  # float64: never infinite
    return torch.log(u) - torch.log1p(-u)


def _draw_logistic(parameters: Tensor, uniform: Tensor | None, temperature: Tensor) -> Tensor:
    mean = parameters[:, 0]
    if uniform is None:
        return mean.clamp(0, 1)
    scale = torch.exp(parameters[:, 1].clamp(*LOG_SCALE))
    return (mean + _spread(temperature, mean) * scale * _logit(uniform).to(mean.dtype)).clamp(0, 1)


def _draw_gaussian(parameters: Tensor, uniform: Tensor | None, temperature: Tensor) -> Tensor:
    mean = parameters[:, 0]
    if uniform is None:
        return mean.clamp(0, 1)
    sigma = torch.exp(parameters[:, 1].clamp(*LOG_SCALE))
    noise: Tensor = torch.special.ndtri(uniform.clamp(TINY, 1 - TINY)).to(mean.dtype)
    return (mean + _spread(temperature, mean) * sigma * noise).clamp(0, 1)


def _draw_bernoulli(parameters: Tensor, uniform: Tensor | None, temperature: Tensor) -> Tensor:
    logits = parameters[:, 0]
    mean = torch.sigmoid(logits)
    if uniform is None:
        return mean
    on = logits + _spread(temperature, logits) * _logit(uniform).to(logits.dtype) > 0  # at 1: with probability mean
    return torch.where(_spread(temperature, logits) > 0, on.to(logits.dtype), mean)


LIKELIHOODS = {
    "logistic": Likelihood(2, _by_row(discretized_logistic), _draw_logistic),
    "gaussian": Likelihood(2, _by_row(gaussian), _draw_gaussian),
    "bernoulli": Likelihood(1, _by_row(bernoulli), _draw_bernoulli),
}
