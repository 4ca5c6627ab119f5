"""Fit: pictures are looked at, networks are trained by the shared loop, the prior is fitted to their latents."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.data import Source
from genreg.draft import Array
from genreg.errors import CheckpointError
from genreg.random import Stream, normal
from genreg.specs import Report, Trained
from genreg_torch.devices import device_of
from genreg_torch.labeled import Images
from genreg_torch.loop import Finished, Networks, Training, adam, initialized, train
from genreg_torch.moment import Moment
from genreg_torch.pixels import PIECE, looked_at, pictures, pieces, quantized, rows_of
from genreg_torch.rows import Rows
from genreg_torch.turn import Objective
from genreg_torch.weights import load_into, tensors_of
from genreg_vae.config import Config
from genreg_vae.likelihoods import LIKELIHOODS
from genreg_vae.mixture import Mixture, choose_mixture, fit_mixture
from genreg_vae.model import ImageVae, network
from genreg_vae.networks import Vae
from genreg_vae.objective import beta_at, kl_to_normal, negative_elbo

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg_vae import Options

PRIOR = "prior."
SHOWN, PEEKED = 40, 2000  # pictures of the grid, and rows whose latents its prior is fitted to
ACTIVE = 0.01  # nats: a latent with less says nothing of the picture


# ---- the data ----


def warn_of_grey(config: Config, train: Source) -> None:
    """Warn where the likelihood is Bernoulli's and pixels are neither black nor white: it cannot be trusted then."""
    if config.likelihood == "bernoulli":
        batch = next(iter(train.batches(size=PIECE)))
        x = rows_of(config, batch)["x"]
        grey = float(((x > 0) & (x < 255)).float().mean())
        if grey > 0:
            warnings.warn(
                f"likelihood=bernoulli is for black and white, and {grey:.0%} of the pixels are grey: "
                "samples will look alike; take likelihood=logistic",
                stacklevel=2,
            )


# ---- the step ----


def loss(config: Config, vae: Vae, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The negative ELBO per pixel, beta grown as the config says; shown are its two parts in nats per picture."""
    x = quantized(rows["x"].float() / 255, config.levels)
    mean, log_variance, parameters = at.run(vae, x, one_hot(config, rows["y"]), at.normal(config.latents))
    log_prob = LIKELIHOODS[config.likelihood].log_prob(x, parameters, config.levels)
    kl = kl_to_normal(mean, log_variance)
    beta = beta_at(at.step, at.steps, config.beta, config.beta_warmup)
    total = negative_elbo(log_prob, kl, beta=beta, free_bits=config.free_bits)
    figures = {"reconstruction": -log_prob.detach().mean(), "divergence": kl.detach().sum(1).mean()}
    return total / x[0].numel(), figures


def one_hot(config: Images, y: Tensor) -> Tensor:
    """[n] to [n, C]; C = 0 without classes."""
    return F.one_hot(y, config.classes).float() if config.classes else torch.zeros((len(y), 0), device=y.device)


# ---- after the steps ----


@dataclass(frozen=True, eq=False)
class Latents:
    """One posterior draw of each row, its label, and the means that measure the ELBO."""

    z: Array  # float64 [n, d]
    y: Array  # int64 [n]
    elbo: float  # nats per row
    kl: Array  # [d], nats of each latent per row


def latents_of(config: Config, model: ImageVae, source: Source, limit: int | None = None) -> Latents | None:
    """The latents of a source's rows, of the first ``limit`` or a few more; None where it has no row of known class."""
    drawn: list[Array] = []
    known: list[Array] = []
    elbo, kl, rows = 0.0, np.zeros(config.latents), 0
    for images, y in pieces(source, config.image, config.label, config.classes):
        at = (y >= 0) & (y < max(config.classes, 1))  # validation may have a class that training did not see
        images, y = images[at], y[at]
        seeds = np.arange(rows, rows + len(y), dtype=np.uint64)
        mean, log_variance = model.posterior(images, y)
        z = mean + np.exp(0.5 * log_variance) * normal(seeds, (config.latents,), stream=Stream.SCORE)
        each = kl_to_normal(torch.from_numpy(mean), torch.from_numpy(log_variance)).numpy()
        elbo += float(model.likelihood_of(images, z, y).sum() - each.sum())
        kl += each.sum(0)
        rows += len(y)
        drawn.append(z)
        known.append(y)
        if limit and rows >= limit:
            break
    if not rows:
        return None
    return Latents(np.concatenate(drawn), np.concatenate(known), elbo / rows, kl / rows)


def fit(
    config: Config,
    options: Options,
    train_rows: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train the networks, then fit the prior; what ``folder`` holds of a run is continued."""
    config = Config(**config.model_dump(exclude_unset=True), **looked_at(train_rows, "vae")).resolved()
    warn_of_grey(config, train_rows)
    vae = initialized(seed, lambda: network(config))
    training = Training(
        {"vae": vae},
        {"elbo": Objective(partial(loss, config, vae), adam(vae, betas=(0.9, 0.99), decay=config.weight_decay))},
        partial(rows_of, config),
        averaged=("vae",),
        samples=partial(shown, config, train_rows),
    )
    finished = train(training, train_rows, config, seed=seed, folder=folder, device=options.device, report=report)
    return with_prior(config, finished, train_rows, validation, seed)


def model_of(config: Config, networks: Networks, prior: Mixture | None = None) -> ImageVae:
    """The model of networks that are being trained."""
    vae = networks["vae"]
    assert isinstance(vae, Vae)
    prior = prior or Mixture.standard(max(config.classes, 1), config.latents)
    return ImageVae(config, vae.eval(), prior, device=next(vae.parameters()).device)


def shown(config: Config, source: Source, networks: Networks) -> Array:
    """A grid of samples while it trains, always of the same seeds, each class alike: uint8 [n, h, w, c]."""
    was = networks["vae"].training
    model = model_of(config, networks)
    some = latents_of(config, model, source, PEEKED)
    assert some is not None, "training rows have known classes"
    prior = fit_mixture(some.z, some.y, max(config.classes, 1), 1, seed=0)
    y = np.arange(SHOWN) % max(config.classes, 1)
    batch = model_of(config, networks, prior).sampled(np.arange(SHOWN, dtype=np.uint64), y)
    networks["vae"].train(was)
    return pictures(batch.column(0), config.shape)[0]


def with_prior(config: Config, finished: Finished, source: Source, validation: Source | None, seed: int) -> Trained:
    """The checkpoint's tensors and figures: networks, and the prior fitted to the training pictures' latents."""
    vae = finished.networks["vae"]
    if config.store == "float16":
        vae.half().float()  # the prior, and what is measured, are of the weights that are stored
    model = model_of(config, finished.networks)
    own = latents_of(config, model, source)
    assert own is not None, "training rows have known classes"
    held = latents_of(config, model, validation) if validation else None
    metrics = {**finished.metrics, **_figures("train", own, config)}
    metrics |= {"divergence": float(own.kl.sum()), "active_latents": float((own.kl > ACTIVE).sum())}
    if held is not None:
        metrics |= _figures("validation", held, config)
    if metrics["active_latents"] == 0:
        warnings.warn(
            "no latent says anything of the pictures (posterior collapse): lower beta, or raise free_bits", stacklevel=2
        )
    prior = Mixture.standard(max(config.classes, 1), config.latents)
    if config.prior == "mixture":
        out = None if held is None else (held.z, held.y)
        chosen = choose_mixture(own.z, own.y, out, max(config.classes, 1), components=config.components, seed=seed)
        prior = chosen.mixture
        config = config.model_copy(update={"components": chosen.components})
        metrics |= {f"prior_log_density_{count}": density for count, density in chosen.densities.items()}
    tensors = tensors_of(vae, dtype=torch.float16 if config.store == "float16" else None)
    tensors |= {PRIOR + name: array for name, array in prior.tensors().items()}
    return Trained(tensors, config, metrics, finished.pictures)


def _figures(part: str, latents: Latents, config: Config) -> dict[str, float]:
    bits = -latents.elbo / np.prod(config.shape) / np.log(2)
    return {f"{part}_elbo": latents.elbo, f"{part}_bits_per_dimension": float(bits)}


def load(config: Config, options: Options, weights: Weights | None) -> ImageVae:
    """The model of a checkpoint; raises CheckpointError where tensors and config do not fit."""
    if weights is None or not config.shape:
        raise CheckpointError("a vae needs weights that were trained: genreg train vae")
    device = device_of(options.device)
    classes, d = max(config.classes, 1), config.latents
    k = weights.header.get(PRIOR + "weights", ((0, 0), ""))[0][-1]
    prior = {"weights": (classes, k), "means": (classes, k, d), "factors": (classes, k, d, d)}
    beside = {PRIOR + name: (shape, "F32") for name, shape in prior.items()}
    vae = load_into(lambda: network(config), weights, device=device, dtype=options.dtype, beside=beside)
    mixture = Mixture.from_tensors({name: weights.numpy(PRIOR + name) for name in prior})
    return ImageVae(config, vae, mixture.spread(config.spread), options.importance, device)
