"""The model: latents are proposed from the prior or from a picture's posterior, and rendered by the decoder.

Draws are made in NumPy, one per seed; networks run in float32 in eval mode, so that a row is the same whatever the
batch, to 1e-5 before it is rounded to a grey level. Shapes: n rows, d latents, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import UsageError
from genreg.random import Stream, normal, uniform
from genreg_torch.devices import CPU
from genreg_torch.labeled import columns
from genreg_torch.pixels import (
    ROWS,
    as_pixels,
    as_tensor,
    drawn_labels,
    given_labels,
    labels,
    log_classes,
    picture_batch,
    pictures,
    row_parts,
)
from genreg_vae.config import Config
from genreg_vae.given import given_pictures, numbers
from genreg_vae.likelihoods import LIKELIHOODS
from genreg_vae.mixture import Mixture
from genreg_vae.networks import Shape, Vae
from genreg_vae.objective import importance_bound, log_normal

INFER_SAMPLES = 8  # importance samples behind the probability of a class


def network(config: Config) -> Vae:
    """Encoder and decoder for the config's pictures, freshly initialized."""
    height, width, channels = config.shape
    shape = Shape(
        height=height, width=width, channels=channels, units=config.width, classes=config.classes,
        latents=config.latents, parameters=LIKELIHOODS[config.likelihood].parameters, hidden=config.hidden,
        encoder_dropout=config.dropout, decoder_dropout=config.dropout / 2,
    )  # fmt: skip
    return Vae(shape, convolutional=config.convolutional, one_sigma=config.likelihood == "gaussian")


@dataclass(frozen=True, eq=False)
class ImageVae:
    """p(y) p(z | y) p(x | z, y), drawn in this order; q(z | x, y) looks back."""

    config: Config
    vae: Vae  # in eval mode
    prior: Mixture
    samples: int = 64  # importance samples of log_prob
    device: torch.device = CPU

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """z of each seed: from the prior of its class, or where a picture is given from its posterior."""
        y = given_labels(given, self.config)
        pixels, at = given_pictures(given, self.config.shape)
        if len(at) and (y[at] < 0).any():
            free = y[at] < 0
            y[at[free]] = self._class_bounds(pixels[free], seeds[at[free]], INFER_SAMPLES).argmax(1)
        y = drawn_labels(y, seeds, self.config)
        z = self.prior.draw(seeds, y)
        if len(at):
            scale = np.nan_to_num(numbers(given, "scale"))[at]
            z[at] = self._from_posterior(pixels, y[at], seeds[at], scale)
        temperature = np.nan_to_num(numbers(given, "temperature"))
        if (temperature < 0).any():
            raise UsageError(f"temperature={temperature.min():g}: the pixels' noise is scaled by 0 or more")
        return self._draft(z, seeds, y, temperature)

    def sampled(self, seeds: Seeds, y: Array) -> Batch:
        """Samples of classes y at temperature 0."""
        return self.render(self._draft(self.prior.draw(seeds, y), seeds, y, np.zeros(len(y))))

    def render(self, draft: Draft, /) -> Batch:
        """Pictures uint8 [h, w, c], and the class that they were made for."""
        y = draft.context.get("label", np.zeros(len(draft), np.int64))
        out = np.empty((len(draft), *self.config.shape), np.uint8)
        for at in row_parts(len(draft)):
            out[at] = self._pixels(draft.values[at], y[at], draft.seeds[at], draft.context["temperature"][at])
        return picture_batch(self.config, out, y)

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        """log p(x, y), bounded from below by the importance-weighted bound: float64 [n]; a null is summed over."""
        x, seen = pictures(batch.column(self.config.image), self.config.shape)
        y = labels(batch, self.config.label, self.config.classes)
        if self.config.label is None:
            return np.where(seen, self._bounds(x, y, seeds, self.samples), 0.0)
        possible = np.append(log_classes(self.config), [-np.inf, 0.0])  # unseen classes, and null, whose sum is 1
        log_p: Array = possible[y]
        known, free = seen & (y >= 0) & (y < self.config.classes), seen & (y < 0)
        log_p[known] += self._bounds(x[known], y[known], seeds[known], self.samples)
        if free.any():
            each = self._class_bounds(x[free], seeds[free], self.samples)
            log_p[free] = np.logaddexp.reduce(each, 1)
        return log_p

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        """The posterior's mean and deviation of the latents; with classes the likeliest, and each one's probability.

        The row's own label is not used for the probabilities; the latents are those of the row's label, if it has one.
        """
        x, seen = pictures(batch.column(self.config.image), self.config.shape)
        y = labels(batch, self.config.label, self.config.classes)
        fields: list[Any] = []
        made: list[Any] = []
        if self.config.label is not None:
            each = np.tile(log_classes(self.config), (len(x), 1))
            each[seen] = self._class_bounds(x[seen], seeds[seen], INFER_SAMPLES)
            p = np.exp(each - each.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            fields += [columns(self.config).field(self.config.label)]
            fields += [pa.field(f"p({value})", pa.float64()) for value in self.config.values]
            made += [pa.array(p.argmax(1).astype(np.int32)), *map(pa.array, p.T)]
            y = np.where((y >= 0) & (y < self.config.classes), y, p.argmax(1))
        mean, log_variance = self.posterior(x, y)
        for name, values in (("z", mean), ("z_deviation", np.exp(0.5 * log_variance))):
            flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
            made.append(pa.FixedSizeListArray.from_arrays(flat, self.config.latents, mask=pa.array(~seen)))
            fields.append(pa.field(name, made[-1].type))
        return pa.RecordBatch.from_arrays(made, schema=pa.schema(fields))

    @torch.inference_mode()
    def likelihood_of(self, pixels: Array, z: Array, y: Array) -> Array:
        """log p(x | z, y): float64 [n]."""
        out = np.empty(len(y))
        for at in row_parts(len(y)):
            x, classes = self._tensors(pixels[at], y[at])
            parameters = self.vae.decode(torch.from_numpy(z[at].astype(np.float32)).to(self.device), classes)
            log_p = LIKELIHOODS[self.config.likelihood].log_prob(x, parameters, self.config.levels)
            out[at] = log_p.double().cpu().numpy()
        return out

    # ---- the parts ----

    def _draft(self, z: Array, seeds: Seeds, y: Array, temperature: Array) -> Draft:
        context = {"temperature": temperature} | ({"label": y} if self.config.label else {})
        return Draft(z.astype(np.float32), seeds, ("latent",), self.prior.center(y).astype(np.float32), context=context)

    def _from_posterior(self, pixels: Array, y: Array, seeds: Seeds, scale: Array) -> Array:
        """Latents ``scale`` [n] deviations around those of pictures: float64 [n, d]; raises UsageError below 0."""
        if (scale < 0).any():
            raise UsageError(f"scale={scale.min():g}: the distance from like is 0 or more")
        mean, log_variance = self.posterior(pixels, y)
        noise = normal(seeds, (self.config.latents,), stream=Stream.PRIOR, step=2)
        z: Array = mean + scale[:, None] * np.exp(0.5 * log_variance) * noise
        return z

    def _tensors(self, pixels: Array, y: Array) -> tuple[Tensor, Tensor]:
        return as_tensor(pixels, self.config.levels, self.device), self._one_hot(y)

    def _one_hot(self, y: Array) -> Tensor:
        if not self.config.classes:
            return torch.zeros((len(y), 0), device=self.device)
        return F.one_hot(torch.from_numpy(y), self.config.classes).to(self.device, torch.float32)

    @torch.inference_mode()
    def posterior(self, pixels: Array, y: Array) -> tuple[Array, Array]:
        """Mean and log variance of the latents of pictures uint8 [n, h, w, c] with classes y: float64 [n, d]."""
        found: list[tuple[Array, Array]] = [(np.empty((0, self.config.latents)),) * 2]
        for at in row_parts(len(y)):
            mean, log_variance = self.vae.encode(*self._tensors(pixels[at], y[at]))
            found.append((mean.double().cpu().numpy(), log_variance.double().cpu().numpy()))
        return np.concatenate([mean for mean, _ in found]), np.concatenate([v for _, v in found])

    @torch.inference_mode()
    def _pixels(self, z: Array, y: Array, seeds: Seeds, temperature: Array) -> Array:
        """Pictures uint8 [n, h, w, c]: the mean, and where the temperature [n] is above 0 a draw around it."""
        latents = torch.from_numpy(np.ascontiguousarray(z, np.float32)).to(self.device)
        parameters = self.vae.decode(latents, self._one_hot(y))
        draw = LIKELIHOODS[self.config.likelihood].draw
        x = draw(parameters, None, torch.zeros(len(z), device=self.device))
        noisy = np.flatnonzero(temperature > 0)
        if len(noisy):
            chance = uniform(seeds[noisy], tuple(parameters.shape[2:]), stream=Stream.RENDER)
            warm = torch.from_numpy(temperature[noisy]).to(self.device)
            x[noisy] = draw(parameters[noisy], torch.from_numpy(chance).to(self.device), warm)
        return as_pixels(x, self.config.levels)

    @torch.inference_mode()
    def _bounds(self, pixels: Array, y: Array, seeds: Seeds, samples: int) -> Array:
        """The importance-weighted bound on log p(x | y): float64 [n]."""
        out = np.empty(len(y))
        rows = max(1, ROWS // samples)
        for at in row_parts(len(y), rows):
            x, one_hot = self._tensors(pixels[at], y[at])
            mean, log_variance = self.vae.encode(x, one_hot)
            noise = normal(seeds[at], (samples, self.config.latents), stream=Stream.SCORE, dtype=np.float32)
            z = mean[:, None] + torch.exp(0.5 * log_variance)[:, None] * torch.from_numpy(noise).to(self.device)
            prior = self.prior.log_prob(z.flatten(0, 1).cpu().numpy(), np.repeat(y[at], samples)).reshape(-1, samples)
            repeated = x.repeat_interleave(samples, 0), one_hot.repeat_interleave(samples, 0)
            parameters = self.vae.decode(z.flatten(0, 1), repeated[1])
            density = LIKELIHOODS[self.config.likelihood].log_prob(repeated[0], parameters, self.config.levels)
            posterior = log_normal(z, mean[:, None], log_variance[:, None])
            log_weights = density.view(-1, samples).double() - posterior.double()
            out[at] = importance_bound((log_weights.cpu() + torch.from_numpy(prior)).T).numpy()
        return out

    def _class_bounds(self, pixels: Array, seeds: Seeds, samples: int) -> Array:
        """The bound on log p(x, y) of every class y: float64 [n, C]."""
        each = [self._bounds(pixels, np.full(len(pixels), y), seeds, samples) for y in range(self.config.classes)]
        total: Array = np.stack(each, 1) + log_classes(self.config)
        return total
