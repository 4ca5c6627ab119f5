"""Signs of collapse, in plain words: said while a run trains, not found out when it is over.

Two things are looked at now and then. The share of the training pictures that generated ones come near to falls when
samples grow alike; and a discriminator that is never in doubt has nothing left to teach.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.data import Source
from genreg.draft import Array
from genreg.random import Stream, normal
from genreg_gan.config import Config
from genreg_gan.objectives import made_seen, real_seen
from genreg_torch.loop import Networks
from genreg_torch.pixels import rows_of

LOOKED_AT, NEIGHBOR = 256, 5  # pictures on either side; the neighbor that bounds a picture's surroundings
COARSE = 8  # pictures are compared at this side: neighbors by pixels are not neighbors to the eye at full size
FALLEN, WORTH = 0.5, 0.2  # said when coverage is below this share of its best, which must have been worth the name
DOUBTLESS, PATIENCE = 0.98, 3  # share of pairs told apart, and looks in a row


def coverage(real: Array, made: Array, neighbor: int = NEIGHBOR) -> float:
    """The share of real points [n, d] that have one of ``made`` nearer than their own k-th neighbor (Naeem 2020)."""
    own = np.linalg.norm(real[:, None] - real[None], axis=-1)
    reach = np.sort(own, 1)[:, min(neighbor, len(real) - 1)]
    apart = np.linalg.norm(real[:, None] - made[None], axis=-1)
    return float((apart.min(1) <= reach).mean())


@dataclass(eq=False)
class Signs:
    """What was seen so far, and the fixed pictures and seeds that are looked at."""

    config: Config
    x: Tensor  # real, [n, c, h, w] in [0, 1]
    y: Tensor
    best: float = 0.0
    doubtless: int = 0
    said: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, config: Config, source: Source) -> Signs:
        """Some pictures of the source, always the same."""
        rows = rows_of(config, next(iter(source.batches(size=LOOKED_AT, shuffle=0))))
        return cls(config, rows["x"] / 255, rows["y"])

    @torch.no_grad()
    def look(self, networks: Networks) -> dict[str, float]:
        """Coverage, and the share of pairs that the discriminator tells apart; what they mean is warned of once."""
        g, d = networks["generator"], networks["discriminator"]
        weight = next(g.parameters())
        x, y = self.x.to(weight), self.y.to(weight.device)
        seeds = np.arange(len(y), dtype=np.uint64)
        z = torch.from_numpy(normal(seeds, (self.config.latents,), stream=Stream.PRIOR)).to(weight)
        f = g(z, y)
        still = torch.full_like(x, 0.5)  # no noise on either
        seen, made = (show(v, still, self.config.levels) for show, v in ((real_seen, x), (made_seen, f)))
        told = float((d(seen, y) > d(made, y)).float().mean())
        covered = coverage(_coarse(seen), _coarse(made))
        self.warn(covered, told)
        return {"coverage": covered, "told_apart": told}

    def warn(self, covered: float, told: float) -> None:
        """Say what two figures mean, each thing once."""
        more = f"try a larger --set gamma={3 * self.config.gamma or 1:g}"
        self.doubtless = self.doubtless + 1 if told >= DOUBTLESS else 0
        if self.best >= WORTH and covered < FALLEN * self.best:
            self._say(
                "mode collapse",
                f"samples grow alike (mode collapse): they come near {covered:.0%} of the training pictures, and came "
                f"near {self.best:.0%} before; {more}, or more pictures",
            )
        if self.doubtless == PATIENCE:
            self._say(
                "saturated",
                f"the discriminator tells {told:.0%} of generated pictures from real ones, so the generator has little "
                f'to learn from it: {more}, or with few pictures --set \'augment=["translation", "cutout"]\'',
            )
        self.best = max(self.best, covered)

    def _say(self, kind: str, words: str) -> None:
        if kind not in self.said:
            warnings.warn(words, stacklevel=4)
        self.said.add(kind)


def _coarse(x: Tensor) -> Array:
    side = (min(COARSE, x.shape[2]), min(COARSE, x.shape[3]))
    return F.adaptive_avg_pool2d(x, side).flatten(1).double().cpu().numpy()
