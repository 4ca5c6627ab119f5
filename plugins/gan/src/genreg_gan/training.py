"""Fit: pictures are looked at, then generator and discriminator take turns in the shared loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreg.checkpoint import read
from genreg.data import Source
from genreg.draft import Array
from genreg.errors import CheckpointError
from genreg.random import Stream, normal
from genreg.specs import Report, Trained
from genreg_gan.augment import DRAWS, augmented
from genreg_gan.config import Config
from genreg_gan.model import ImageGan, discriminator, generator, load_networks
from genreg_gan.objectives import ADVERSARIAL, made_seen, real_seen, slope_from_one, squared_slope
from genreg_gan.signs import Signs
from genreg_torch.loop import Finished, Networks, Training, adam, initialized, train
from genreg_torch.memory import estimate as estimated
from genreg_torch.moment import Moment
from genreg_torch.pixels import looked_at, rows_of
from genreg_torch.rows import Rows
from genreg_torch.schedules import cosine, warmed
from genreg_torch.settings import TorchOptions
from genreg_torch.turn import Objective
from genreg_torch.weights import tensors_of

SHOWN = 40  # pictures of the grid that is drawn while it trains
STATISTICS = {"dcgan": (0.5, 0.999)}  # Adam's betas where they are fixed
BETA_2 = (0.9, 0.99)  # elsewhere there is no momentum, and beta 2 rises


# ---- the step ----


@dataclass(frozen=True, eq=False)
class Players:
    """Generator and discriminator, and the loss of each: what the loop calls in turn."""

    config: Config
    g: nn.Module
    d: nn.Module

    def discriminator_loss(self, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How badly D tells real from generated pictures, and its slope; shown are its scores and the slopes."""
        config, y = self.config, rows["y"]
        x, f = self.real(rows, at), self.made(y, at)
        due = config.gamma > 0 and at.step % config.penalty_every == 0
        if due and config.objective != "wgan-gp":
            x.requires_grad_()
            f.requires_grad_(config.objective == "relativistic")
        r, k = self.scores(x, y, at), self.scores(f, y, at)
        loss = ADVERSARIAL[config.objective].discriminator(r, k)
        figures = {"real": r.mean(), "fake": k.mean()}
        if due:
            slopes = self.penalties(x, f, r, k, y, at)
            loss = loss + config.penalty_every * gamma_at(config, at) * sum(slopes.values())
            figures |= slopes
        return loss, figures

    def penalties(self, x: Tensor, f: Tensor, r: Tensor, k: Tensor, y: Tensor, at: Moment) -> dict[str, Tensor]:
        """The objective's penalties on D's slope, by name: scalars whose sum gamma weighs."""
        if self.config.objective == "wgan-gp":
            a = at.uniform().to(x.dtype)
            return {"slope": slope_from_one(lambda between: self.scores(between, y, at), x, f, a).mean()}
        found = {"r1": squared_slope(r, x).mean() / 2}
        return found | ({"r2": squared_slope(k, f).mean() / 2} if f.requires_grad else {})

    def generator_loss(self, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How badly generated pictures score."""
        objective, y = ADVERSARIAL[self.config.objective], rows["y"]
        k = self.scores(self.made(y, at), y, at)
        r = self.scores(self.real(rows, at), y, at) if objective.paired else k
        return objective.generator(r, k), {}

    def real(self, rows: Rows, at: Moment) -> Tensor:
        """Real pictures as D sees them: [n, c, h, w]."""
        x = rows["x"].to(self._dtype, memory_format=torch.channels_last) / 255
        return real_seen(x, at.uniform(*x.shape[1:]).to(x.dtype), self.config.levels)

    def made(self, y: Tensor, at: Moment) -> Tensor:
        """Generated pictures of classes y as D sees them: [n, c, h, w]."""
        f = at.run(self.g, at.normal(self.config.latents).to(self._dtype), y)
        return made_seen(f, at.uniform(*f.shape[1:]).to(f.dtype), self.config.levels)

    def scores(self, x: Tensor, y: Tensor, at: Moment) -> Tensor:
        """D(x, y), through random changes where they are set: [n]. Slopes are those before the changes."""
        if self.config.augment:
            x = augmented(x, at.uniform(DRAWS).to(x.dtype), self.config.augment)
        score: Tensor = at.run(self.d, x, y)
        return score

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.d.parameters()).dtype


def gamma_at(config: Config, at: Moment) -> float:
    """The penalties' weight at a moment: half a cosine from gamma to gamma_end of it."""
    return cosine(at.progress, config.gamma, config.gamma * config.gamma_end)


def adam_at(config: Config, at: Moment) -> dict[str, Any]:
    """Learning rate and betas of a moment, alike for both players."""
    rate = warmed(at.step, config.warmup) * cosine(at.progress, config.lr, config.lr * config.lr_end)
    return {"lr": rate, "betas": STATISTICS.get(config.kind, (0.0, cosine(at.progress, *BETA_2)))}


def training_of(config: Config, g: nn.Module, d: nn.Module, source: Source, *, watched: bool = True) -> Training:
    """What the loop is handed: the discriminator's turn, then the generator's."""
    players = Players(config, g, d)
    schedule = partial(adam_at, config)
    return Training(
        {"generator": g, "discriminator": d},
        {
            "discriminator": Objective(players.discriminator_loss, adam(d), schedule),
            "generator": Objective(players.generator_loss, adam(g), schedule, every=config.generator_every),
        },
        partial(rows_of, config),
        averaged=("generator",),
        samples=partial(shown, config) if watched else None,
        validate=Signs.of(config, source).look if watched else None,
    )


# ---- before and after the steps ----


def fit(
    config: Config,
    options: TorchOptions,
    train_rows: Source,
    validation: Source | None,  # noqa: ARG001 - nothing of a GAN is chosen on held-out rows
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train both networks and keep the generator's average; what ``folder`` holds of a run is continued."""
    config = settled(config, train_rows)
    g, d = started(config, seed)
    training = training_of(config, g, d, train_rows)
    done = train(training, train_rows, config, seed=seed, folder=folder, device=options.device, report=report)
    return Trained(tensors(config, done), config.model_copy(update={"start": None}), done.metrics, done.pictures)


def settled(config: Config, rows: Source) -> Config:
    """The config with what the rows say of it, and all defaults; raises DataError for a size that cannot be made."""
    known = Config(**config.model_dump(exclude_unset=True), **looked_at(rows, "gan")).resolved()
    known.refuse_impossible_size()
    return known


def started(config: Config, seed: int) -> tuple[nn.Module, nn.Module]:
    """Both networks, as they follow from the seed, or with the weights of the checkpoint to start from.

    Raises CheckpointError where that has no discriminator, or is of other pictures, classes or sizes.
    """
    if config.start is None:
        return initialized(seed, lambda: generator(config)), initialized(seed + 1, lambda: discriminator(config))
    found = read(Path(config.start))
    if found.family != "gan" or found.weights is None:
        raise CheckpointError(
            f"start={config.start}: a checkpoint of {found.family}, and training goes on from one of gan"
        )
    networks = load_networks(config, found.weights)
    if "discriminator" not in networks:
        raise CheckpointError(
            f"start={config.start} has no discriminator, without which training cannot go on: "
            "it is kept with --set store_discriminator=true"
        )
    networks.requires_grad_(True)
    return networks["generator"], networks["discriminator"]


def tensors(config: Config, done: Finished) -> dict[str, Array]:
    """The checkpoint's tensors: the generator's average, and the discriminator where it is kept."""
    kept = {"generator": done.networks["generator"]}
    if config.store_discriminator:
        kept["discriminator"] = done.networks["discriminator"]
    return tensors_of(nn.ModuleDict(kept), dtype=torch.float16 if config.store == "float16" else None)


def shown(config: Config, networks: Networks) -> Array:
    """A grid of samples while it trains, always of the same seeds, each class alike: uint8 [n, h, w, c]."""
    seeds = np.arange(SHOWN, dtype=np.uint64)
    z = normal(seeds, (config.latents,), stream=Stream.PRIOR)
    return model_of(config, networks).pixels(z, np.arange(SHOWN) % max(config.classes, 1))


def model_of(config: Config, networks: Networks) -> ImageGan:
    """The model of networks that are being trained."""
    g = networks["generator"]
    return ImageGan(config, g.eval(), next(g.parameters()).device)


def estimate(config: Config, options: TorchOptions, rows: Source) -> Mapping[str, str]:  # noqa: ARG001
    """Parameters and memory, for ``genreg train --dry-run``."""
    config = settled(config, rows)
    g, d = generator(config), discriminator(config)
    players = Players(config, g, d)
    height, width, channels = config.shape

    def loss(count: int) -> Tensor:
        few = {"x": torch.zeros(count, channels, height, width), "y": torch.zeros(count, dtype=torch.int64)}
        g.requires_grad_(False)
        total = players.discriminator_loss(few, Moment(0, config.steps, batch=count))[0]
        g.requires_grad_(True)
        return total

    return estimated({"generator": g, "discriminator": d}, loss, config, averaged=("generator",))
