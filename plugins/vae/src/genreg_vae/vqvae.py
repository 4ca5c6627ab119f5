"""VQ-VAE: a picture is a small grid of codes (van den Oord, Vinyals and Kavukcuoglu, 2017), drawn by a transformer.

The story: the step of the autoencoder, the step of the prior over its codes, the model, fit and load. Small but real:
at most a few dozen codes per picture and two layers of prior on a CPU. It needs thousands of pictures; with fewer the
prior learns them by heart within some hundred steps (so the best weights on held-out pictures are kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from genreg.data import Source
from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, UsageError
from genreg.specs import Report, Trained
from genreg_torch.devices import CPU, device_of
from genreg_torch.loop import Networks, Training, adam, initialized, train
from genreg_torch.moment import Moment
from genreg_torch.pixels import (
    as_pixels,
    as_tensor,
    drawn_labels,
    given_labels,
    labels,
    log_classes,
    looked_at,
    picture_batch,
    pictures,
    pieces,
    quantized,
    row_parts,
    rows_of,
)
from genreg_torch.rows import Rows
from genreg_torch.settings import TorchOptions
from genreg_torch.turn import Objective
from genreg_torch.weights import load_into, tensors_of
from genreg_vae.codes import CodePrior
from genreg_vae.given import given_pictures, numbers
from genreg_vae.likelihoods import LIKELIHOODS
from genreg_vae.quantize import VqShape, VqVae, perplexity
from genreg_vae.vqconfig import VqConfig

if TYPE_CHECKING:
    from genreg.checkpoint import Weights


class Pair(nn.Module):
    """Both networks of a checkpoint."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.vqvae, self.prior = vqvae_of(config), prior_of(config)


def vqvae_of(config: VqConfig) -> VqVae:
    """The autoencoder, freshly initialized."""
    return VqVae(_shape(config))


def prior_of(config: VqConfig) -> CodePrior:
    """The prior, freshly initialized."""
    rows, across = _shape(config).grid
    return CodePrior(
        config.codes, rows * across, config.classes,
        width=config.prior_width, layers=config.prior_layers, dropout=config.prior_dropout,
    )  # fmt: skip


def _shape(config: VqConfig) -> VqShape:
    height, width, channels = config.shape
    count = LIKELIHOODS[config.likelihood].parameters
    return VqShape(height, width, channels, count, config.width, config.codes, config.code_width, config.most_tokens)


# ---- the two steps ----


def autoencoder_loss(config: VqConfig, vqvae: nn.Module, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
    """-log p(x | codes) plus the commitment, per pixel; shown in nats per picture, with the codes in use."""
    x = quantized(rows["x"].float() / 255, config.levels)
    found, parameters = at.run(vqvae, x)
    log_prob = LIKELIHOODS[config.likelihood].log_prob(x, parameters, config.levels)
    total = (config.commitment * found.commitment - log_prob).mean()
    used = perplexity(found.codes, config.codes)
    return total / x[0].numel(), {"reconstruction": -log_prob.mean(), "codes_in_use": used}


def prior_loss(prior: CodePrior, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
    """-log p(codes | y) per code; shown in nats per picture."""
    logits = at.run(prior, rows["codes"], rows["y"])
    total = nn.functional.cross_entropy(logits.flatten(0, 1), rows["codes"].flatten())
    return total, {"codes": total.detach() * prior.tokens}


# ---- the model ----


@dataclass(frozen=True, eq=False)
class CodedImages:
    """p(y) p(codes | y) p(x | codes)."""

    config: VqConfig
    networks: Pair  # in eval mode
    device: torch.device = CPU

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The codes of each seed: from the prior of its class, or those of a given picture."""
        y = given_labels(given, self.config)
        temperature = np.nan_to_num(numbers(given, "temperature"), nan=1.0)
        if (temperature < 0).any():
            raise UsageError(f"temperature={temperature.min():g}: it is 0 or more")
        pixels, at = given_pictures(given, self.config.shape)
        codes = self.codes_of(pixels)
        unknown = y[at] < 0
        y[at[unknown]] = self._class_bounds(codes[unknown]).argmax(0)
        y = drawn_labels(y, seeds, self.config)
        free = np.setdiff1d(np.arange(len(y)), at)
        values = np.empty((len(y), self.networks.prior.tokens), np.int64)
        values[free] = self.networks.prior.draw(seeds[free], y[free], temperature[free])
        values[at] = codes
        context = {"label": y} if self.config.label else {}
        return Draft(values, seeds, ("code",), levels=self.config.codes, context=context)

    @torch.inference_mode()
    def render(self, draft: Draft, /) -> Batch:
        """The mean pictures of the codes, uint8 [h, w, c], and the class that they were made for."""
        mean = LIKELIHOODS[self.config.likelihood].draw
        out = np.empty((len(draft), *self.config.shape), np.uint8)
        for at in row_parts(len(draft)):
            parameters = self._parameters(draft.values[at])
            x = mean(parameters, None, torch.zeros(len(parameters), device=self.device))
            out[at] = as_pixels(x, self.config.levels)
        return picture_batch(self.config, out, draft.context.get("label", np.zeros(len(draft), np.int64)))

    @torch.inference_mode()
    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:  # noqa: ARG002 - nothing is left to chance
        """log p(y) + log p(codes | y) + log p(x | codes), a lower bound: float64 [n]; a null label is summed over."""
        x, seen = pictures(batch.column(self.config.image), self.config.shape)
        y = labels(batch, self.config.label, self.config.classes)
        log_p = np.append(log_classes(self.config), [-np.inf, 0.0])[y] if self.config.label else np.zeros(len(x))
        density, levels = LIKELIHOODS[self.config.likelihood].log_prob, self.config.levels
        for at in row_parts(len(x)):
            rows = np.flatnonzero(seen[at]) + at.start
            codes = self.codes_of(x[rows])
            pixels = density(as_tensor(x[rows], levels, self.device), self._parameters(codes), levels)
            log_p[rows] += pixels.double().cpu().numpy() + self._log_codes(codes, y[rows])
        return log_p

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:  # noqa: ARG002
        """The codes of each picture."""
        x, seen = pictures(batch.column(self.config.image), self.config.shape)
        codes = self.codes_of(x).astype(np.int32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1], mask=pa.array(~seen))
        return pa.RecordBatch.from_arrays([column], names=["codes"])

    @torch.inference_mode()
    def codes_of(self, pixels: Array) -> Array:
        """The codes of pictures uint8 [n, h, w, c]: int64 [n, tokens]."""
        found = [np.empty((0, self.networks.prior.tokens), np.int64)]
        for at in row_parts(len(pixels)):
            x = as_tensor(pixels[at], self.config.levels, self.device)
            found.append(self.networks.vqvae.encode(x).codes.flatten(1).cpu().numpy())
        return np.concatenate(found)

    def _parameters(self, codes: Array) -> Tensor:
        """The likelihood's parameters [n, P, c, h, w] of codes [n, tokens]."""
        grid = torch.from_numpy(np.ascontiguousarray(codes)).to(self.device).view(-1, *self.networks.vqvae.shape.grid)
        vectors = self.networks.vqvae.codebook.lookup(grid)
        return self.networks.vqvae.decode(vectors)

    def _log_codes(self, codes: Array, y: Array) -> Array:
        """log p(codes | y); where y is -1, log p(codes): float64 [n]."""
        known = self._under(codes, np.clip(y, 0, None))
        if (y >= 0).all():
            return known
        return np.where(y < 0, np.logaddexp.reduce(self._class_bounds(codes)), known)

    def _class_bounds(self, codes: Array) -> Array:
        """log p(codes, y) of every class y: float64 [C, n]."""
        each = [self._under(codes, np.full(len(codes), y)) + log_p for y, log_p in enumerate(log_classes(self.config))]
        return np.stack(each)

    @torch.inference_mode()
    def _under(self, codes: Array, y: Array) -> Array:
        """log p(codes | y): float64 [n]."""
        known = np.clip(y, 0, max(self.config.classes - 1, 0))  # what is not a class has been ruled out by p(y)
        held = (torch.from_numpy(np.ascontiguousarray(array)).to(self.device) for array in (codes, known))
        log_p: Array = self.networks.prior.log_prob(*held).double().cpu().numpy()
        return log_p


# ---- fit and load ----


def fit(
    config: VqConfig,
    options: TorchOptions,
    rows: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train the autoencoder, then the prior on the training pictures' codes; each continues what its folder holds."""
    config = VqConfig(**config.model_dump(exclude_unset=True), **looked_at(rows, "vqvae"))
    vqvae = initialized(seed, lambda: vqvae_of(config))
    step = Objective(partial(autoencoder_loss, config, vqvae), adam(vqvae))
    training = Training({"vqvae": vqvae}, {"autoencoder": step}, partial(rows_of, config))
    own = folder / "autoencoder"
    finished = train(training, rows, config, seed=seed, folder=own, device=options.device, report=report)
    pair = Pair(config)
    pair.vqvae = vqvae.eval()
    model = CodedImages(config, pair.eval().to(finished.device), finished.device)
    held = None if validation is None else coded(model, validation)
    pair.prior, figures = fit_prior(config, options, coded(model, rows), held, seed, folder / "prior", report)
    return Trained(tensors_of(pair), config, {**finished.metrics, **figures}, finished.pictures)


def coded(model: CodedImages, source: Source) -> Source:
    """The codes and labels of a source's pictures, without those of classes that training did not see."""
    config = model.config
    found = [(model.codes_of(images), y) for images, y in pieces(source, config.image, config.label, config.classes)]
    codes, y = np.concatenate([codes for codes, _ in found]), np.concatenate([y for _, y in found])
    known = (y >= 0) & (y < max(config.classes, 1))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(codes[known].reshape(-1)), codes.shape[1])
    return Source.of(pa.table({"codes": flat, "y": pa.array(y[known])}), source.part)


@dataclass
class Best:
    """The weights of a prior at the step where held-out codes were likeliest: later ones know the others by heart."""

    held: Rows
    log_prob: float = -np.inf  # of a held-out picture's codes, in nats
    weights: Mapping[str, Tensor] | None = None

    @torch.inference_mode()
    def look(self, networks: Networks) -> dict[str, float]:
        """Keep the weights if they are the best so far; the figure to show."""
        prior = networks["prior"]
        assert isinstance(prior, CodePrior)
        was, device = prior.training, prior.places.device
        log_p = prior.eval().log_prob(self.held["codes"].to(device), self.held["y"].to(device))
        prior.train(was)
        if (mean := float(log_p.mean())) > self.log_prob:
            self.log_prob = mean
            self.weights = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
        return {"held_out_codes": mean}


def fit_prior(
    config: VqConfig, options: TorchOptions, rows: Source, held: Source | None, seed: int, folder: Path, report: Report
) -> tuple[CodePrior, dict[str, float]]:
    """The prior at the step where held-out codes were likeliest; without held-out codes, at the last."""
    prior = initialized(seed + 1, lambda: prior_of(config))
    best = Best(_decoded(next(held.batches(size=1 << 20)))) if held is not None and held.rows else None
    step = Objective(partial(prior_loss, prior), adam(prior, decay=0.1))
    training = Training({"prior": prior}, {"prior": step}, _decoded, ("prior",), validate=best.look if best else None)
    settings = config.model_copy(update={"steps": config.prior_steps})
    finished = train(training, rows, settings, seed=seed, folder=folder, device=options.device, report=report)
    network = finished.networks["prior"]
    assert isinstance(network, CodePrior)
    if best is None:
        return network.eval(), {}
    if best.weights is not None:
        network.load_state_dict(best.weights)
    return network.eval(), {"validation_log_prob_codes": best.log_prob}


def _decoded(batch: Batch) -> Rows:
    """A batch of ``coded`` as the loss takes it: codes int64 [n, tokens], y int64 [n]."""
    column: Any = batch.column(0)
    codes = column.flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
    y = batch.column(1).to_numpy(zero_copy_only=False)
    return {"codes": torch.from_numpy(codes.copy()), "y": torch.from_numpy(y.copy())}


def load(config: VqConfig, options: TorchOptions, weights: Weights | None) -> CodedImages:
    """The model of a checkpoint; the prior computes in float64. Raises CheckpointError where tensors do not fit."""
    if weights is None or not config.shape:
        raise CheckpointError("a vqvae needs weights that were trained: genreg train vqvae")
    device = device_of(options.device)
    pair = load_into(lambda: Pair(config), weights, device=device, dtype=options.dtype)
    pair.prior.double()
    return CodedImages(config, pair, device)
