"""What generator and discriminator minimize: pure functions with the papers' symbols.

r = D(x) and k = D(f) are the scores of real and of generated pictures, [n] each; losses are means over rows, slopes
are sums over pixels. Whatever precision D computes in, its scores come here in float32: the gradient of a penalty is
1.6 % off otherwise.

| objective | D minimizes | G minimizes |
|---|---|---|
| relativistic | s(k - r) + gamma / 2 (|grad D(x)|^2 + |grad D(f)|^2) | s(r - k) |
| nonsaturating | s(-r) + s(k) + gamma / 2 |grad D(x)|^2 | s(-k) |
| hinge | relu(1 - r) + relu(1 + k), D spectrally normalized | -k |
| wgan-gp | k - r + gamma (|grad D(a x + (1 - a) f)| - 1)^2 | -k |

with s = softplus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

SHARPNESS = 40.0  # of the clip: it differs from a hard one by at most log 2 / 40, at the ends


@dataclass(frozen=True)
class Adversarial:
    """The two losses of an objective, without its penalty; ``paired``: the generator's loss needs r too."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (r [n], k [n]) -> scalar
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


def relativistic_discriminator(r: Tensor, k: Tensor) -> Tensor:
    """s(k - r): each real picture shall score above its generated partner (Jolicoeur-Martineau 2018)."""
    return F.softplus(k - r).mean()


def relativistic_generator(r: Tensor, k: Tensor) -> Tensor:
    """s(r - k), the mirror of the discriminator's: converges with R1 and R2 (Huang et al., "R3GAN", 2024)."""
    return F.softplus(r - k).mean()


def nonsaturating_discriminator(r: Tensor, k: Tensor) -> Tensor:
    """s(-r) + s(k): binary cross-entropy (Goodfellow et al. 2014)."""
    return F.softplus(-r).mean() + F.softplus(k).mean()


def nonsaturating_generator(r: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001 - generators have one signature
    """s(-k): the gradient stays where the discriminator is sure."""
    return F.softplus(-k).mean()


def hinge_discriminator(r: Tensor, k: Tensor) -> Tensor:
    """relu(1 - r) + relu(1 + k): nothing is gained beyond the margin (Lim and Ye 2017, Miyato et al. 2018)."""
    return F.relu(1 - r).mean() + F.relu(1 + k).mean()


def wasserstein_discriminator(r: Tensor, k: Tensor) -> Tensor:
    """k - r: minus the distance of the two distributions, if D's slope is at most 1 (Arjovsky et al. 2017)."""
    return k.mean() - r.mean()


def score_generator(r: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001
    """-k: the generator of hinge and Wasserstein."""
    return -k.mean()


ADVERSARIAL = {
    "relativistic": Adversarial(relativistic_discriminator, relativistic_generator, paired=True),
    "nonsaturating": Adversarial(nonsaturating_discriminator, nonsaturating_generator),
    "hinge": Adversarial(hinge_discriminator, score_generator),
    "wgan-gp": Adversarial(wasserstein_discriminator, score_generator),
}


# ---- penalties: gradients that have gradients ----


def squared_slope(score: Tensor, x: Tensor) -> Tensor:
    """|grad D(x)|^2 of each row, summed over its pixels: [n], to be differentiated again.

    R1 where x is real, R2 where it is generated (Mescheder et al. 2018; gamma / 2 of its mean is added). ``score`` [n]
    was computed from ``x`` [n, ...], which requires a gradient, and no row of it from another row. Where x is augmented
    on its way, this is the slope before the augmentation.
    """
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def slope_from_one(discriminate: Callable[[Tensor], Tensor], x: Tensor, f: Tensor, a: Tensor) -> Tensor:
    """(|grad D(a x + (1 - a) f)| - 1)^2 of each row, the gradient penalty of WGAN-GP: [n].

    a in [0, 1] is [n]; the root is kept from 0, where it has no derivative (Gulrajani et al. 2017).
    """
    weight = a.view(-1, *[1] * (x.dim() - 1))
    between = (weight * x + (1 - weight) * f).detach().requires_grad_()
    slope = (squared_slope(discriminate(between), between) + 1e-12).sqrt()
    return (slope - 1).square()


# ---- what the discriminator sees ----


def soft_clip(v: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """v in [0, 1], nearly unchanged inside; outside it still passes on a gradient, which a hard clip stops.

    softplus(sharpness v) / sharpness, and its mirror at 1.
    """
    below = F.softplus(v, beta=sharpness)
    return 1 - F.softplus(1 - below, beta=sharpness)


def real_seen(x: Tensor, chance: Tensor, levels: int) -> Tensor:
    """Real x in [0, 1], ``levels`` evenly spaced levels, spread over one bin, in about [-1, 1].

    ``chance`` is uniform on [0, 1). Without it the discriminator would tell real pictures by their rounding.
    """
    return 2 * (x + (chance - 0.5) / (levels - 1)) - 1


def made_seen(f: Tensor, chance: Tensor, levels: int) -> Tensor:
    """Generated f, about [-1, 1], as ``real_seen`` shows real pictures: within the range, and with the same noise."""
    return real_seen(soft_clip((f + 1) / 2), chance, levels)
