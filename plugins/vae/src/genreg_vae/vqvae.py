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
from genreg.images import images
from genreg.random import Stream, categorical
from genreg.specs import Report, Trained
from genreg_torch.devices import device_of
from genreg_torch.labeled import columns
from genreg_torch.loop import Networks, Training, adam, initialized, train
from genreg_torch.moment import Moment
from genreg_torch.pixels import labels, log_classes, looked_at, pictures, pieces, quantized, rows_of
from genreg_torch.rows import Rows
from genreg_torch.settings import TorchOptions
from genreg_torch.turn import Objective
from genreg_torch.weights import load_into, tensors_of
from genreg_vae.codes import CodePrior
from genreg_vae.likelihoods import LIKELIHOODS
from genreg_vae.model import CPU, given_pictures, numbers, parts, tensor_of
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
        y = labels(given, self.config.label, self.config.classes)
        if self.config.classes and (y == self.config.classes).any():
            raise UsageError(
                f"label: a value that training did not see; there are: {', '.join(map(str, self.config.values))}"
            )
        temperature = np.nan_to_num(numbers(given, "temperature"), nan=1.0)
        if (temperature < 0).any():
            raise UsageError(f"temperature={temperature.min():g}: it is 0 or more")
        pixels, at = given_pictures(given, self.config.shape)
        codes = self.codes_of(pixels)
        unknown = y[at] < 0
        y[at[unknown]] = self._class_bounds(codes[unknown]).argmax(0)
        if (y < 0).any():
            y = np.where(y < 0, categorical(seeds, log_classes(self.config), stream=Stream.PATH), y)
        free = np.setdiff1d(np.arange(len(y)), at)
        values = np.empty((len(y), self.networks.prior.tokens), np.int64)
        values[free] = self.networks.prior.draw(seeds[free], y[free], temperature[free])
        values[at] = codes
        context = {"label": y} if self.config.label else {}
        return Draft(values, seeds, ("code",), levels=self.config.codes, context=context)

    @torch.inference_mode()
    def render(self, draft: Draft, /) -> Batch:
        """The mean pictures of the codes, uint8 [h, w, c], and the class that they were made for."""
        height, width, channels = self.config.shape
        out = np.empty((len(draft), height, width, channels), np.uint8)
        for at in parts(len(draft)):
            parameters = self._parameters(draft.values[at])
            x = LIKELIHOODS[self.config.likelihood].draw(
                parameters, None, torch.zeros(len(parameters), device=self.device)
            )
            grey = (quantized(x, self.config.levels) * 255).round().to(torch.uint8)
            out[at] = grey.permute(0, 2, 3, 1).cpu().numpy()
        made: list[Any] = [images(out)]
        if self.config.label is not None:
            made.append(pa.array(draft.context["label"].astype(np.int32)))
        return pa.RecordBatch.from_arrays(made, schema=columns(self.config))

    @torch.inference_mode()
    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:  # noqa: ARG002 - nothing is left to chance
        """log p(y) + log p(codes | y) + log p(x | codes), a lower bound: float64 [n]; a null label is summed over."""
        x, seen = pictures(batch.column(self.config.image), self.config.shape)
        y = labels(batch, self.config.label, self.config.classes)
        log_p = np.append(log_classes(self.config), [-np.inf, 0.0])[y] if self.config.label else np.zeros(len(x))
        for at in parts(len(x)):
            rows = np.flatnonzero(seen[at]) + at.start
            codes = self.codes_of(x[rows])
            density = LIKELIHOODS[self.config.likelihood].log_prob
            pixels = density(
                tensor_of(x[rows], self.config.levels, self.device), self._parameters(codes), self.config.levels
            )
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
        for at in parts(len(pixels)):
            x = tensor_of(pixels[at], self.config.levels, self.device)
            found.append(self.networks.vqvae.encode(x).codes.flatten(1).cpu().numpy())
        return np.concatenate(found)

    def _parameters(self, codes: Array) -> Tensor:
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
    finished = train(
        training, rows, config, seed=seed, folder=folder / "autoencoder", device=options.device, report=report
    )
    pair = Pair(config)
    pair.vqvae = vqvae.eval()
    model = CodedImages(config, pair.eval().to(finished.device), finished.device)
    prior, figures = fit_prior(config, options, coded(model, rows), coded(model, validation), seed, folder, report)
    pair.prior = prior
    return Trained(tensors_of(pair), config, {**finished.metrics, **figures}, finished.pictures)


def coded(model: CodedImages, source: Source | None) -> Source | None:
    """The codes and labels of a source's pictures."""
    if source is None:
        return None
    config = model.config
    found = [(model.codes_of(images), y) for images, y in pieces(source, config.image, config.label, config.classes)]
    codes, y = np.concatenate([codes for codes, _ in found]), np.concatenate([y for _, y in found])
    known = (y >= 0) & (y < max(config.classes, 1))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(codes[known].reshape(-1)), codes.shape[1])
    return Source.of(pa.table({"codes": flat, "y": pa.array(y[known])}), source.part)


def fit_prior(
    config: VqConfig,
    options: TorchOptions,
    rows: Source | None,
    held: Source | None,
    seed: int,
    folder: Path,
    report: Report,
) -> tuple[CodePrior, dict[str, float]]:
    """The prior at the step where held-out codes were likeliest; without held-out codes, at the last."""
    assert rows is not None
    prior = initialized(seed + 1, lambda: prior_of(config))
    best: dict[str, Any] = {"log_prob": -np.inf, "state": None}
    held_rows = _decoded(next(held.batches(size=1 << 20))) if held is not None and held.rows else None

    @torch.inference_mode()
    def validate(networks: Networks) -> dict[str, float]:
        network = networks["prior"]
        assert isinstance(network, CodePrior)
        assert held_rows is not None
        was = network.training
        log_p = network.eval().log_prob(
            held_rows["codes"].to(network.places.device), held_rows["y"].to(network.places.device)
        )
        if (mean := float(log_p.mean())) > best["log_prob"]:
            best.update(log_prob=mean, state={name: tensor.clone() for name, tensor in network.state_dict().items()})
        network.train(was)
        return {"held_out_codes": mean}

    settings = config.model_copy(update={"steps": config.prior_steps})
    step = Objective(partial(prior_loss, prior), adam(prior, decay=0.1))
    training = Training(
        {"prior": prior}, {"prior": step}, _decoded, ("prior",), validate=validate if held_rows else None
    )
    finished = train(training, rows, settings, seed=seed, folder=folder / "prior", device=options.device, report=report)
    network = finished.networks["prior"]
    assert isinstance(network, CodePrior)
    if best["state"] is not None:
        network.load_state_dict(best["state"])
    figures = {"validation_log_prob_codes": best["log_prob"]} if held_rows else {}
    return network.eval(), figures


def _decoded(batch: Batch) -> Rows:
    column: Any = batch.column(0)
    codes = column.flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
    return {
        "codes": torch.from_numpy(codes.copy()),
        "y": torch.from_numpy(batch.column(1).to_numpy(zero_copy_only=False).copy()),
    }


def load(config: VqConfig, options: TorchOptions, weights: Weights | None) -> CodedImages:
    """The model of a checkpoint; the prior computes in float64. Raises CheckpointError where tensors do not fit."""
    if weights is None or not config.shape:
        raise CheckpointError("a vqvae needs weights that were trained: genreg train vqvae")
    device = device_of(options.device)
    pair = load_into(lambda: Pair(config), weights, device=device, dtype=options.dtype)
    pair.prior.double()
    return CodedImages(config, pair, device)
