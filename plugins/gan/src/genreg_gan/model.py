"""The model: z from N(0, I), a class as often as in training, and the generator's picture of both.

Draws are made in NumPy, one per seed; the network runs in evaluation mode, so that a row is the same whatever the
batch, to 1e-5 before it is rounded to a grey level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError
from genreg.random import Stream, normal
from genreg_gan.config import Config
from genreg_gan.dcgan import DcganDiscriminator, DcganGenerator
from genreg_gan.networks import (
    ConvDiscriminator,
    ConvGenerator,
    MlpDiscriminator,
    MlpGenerator,
    Shape,
    bounded,
)
from genreg_gan.objectives import soft_clip
from genreg_torch.devices import CPU, device_of, exact
from genreg_torch.pixels import as_pixels, drawn_labels, given_labels, picture_batch, row_parts
from genreg_torch.weights import load_into

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg_torch.settings import TorchOptions

GENERATORS = {"mlp": MlpGenerator, "conv": ConvGenerator, "dcgan": DcganGenerator}
DISCRIMINATORS = {"mlp": MlpDiscriminator, "conv": ConvDiscriminator, "dcgan": DcganDiscriminator}


def shape_of(config: Config) -> Shape:
    """What the networks are built for."""
    height, width, channels = config.shape
    return Shape(
        height=height, width=width, channels=channels, units=config.width,
        classes=config.classes, latents=config.latents, hidden=config.hidden,
    )  # fmt: skip


def generator(config: Config) -> nn.Module:
    """G, freshly initialized."""
    return GENERATORS[config.kind](shape_of(config))


def discriminator(config: Config) -> nn.Module:
    """D, freshly initialized; with the hinge objective its layers are bounded by spectral norm."""
    network = DISCRIMINATORS[config.kind](shape_of(config))
    return bounded(network) if config.objective == "hinge" else network


@dataclass(frozen=True, eq=False)
class ImageGan:
    """p(y) p(z), and x = G(z, y)."""

    config: Config
    generator: nn.Module  # in evaluation mode
    device: torch.device = CPU

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """z of each seed; the class that is given, else one drawn as often as training had it."""
        y = drawn_labels(given_labels(given, self.config), seeds, self.config)
        z = normal(seeds, (self.config.latents,), stream=Stream.PRIOR, dtype=np.float32)
        context = {"label": y} if self.config.label else {}
        return Draft(z, seeds, ("latent",), np.zeros(self.config.latents, np.float32), context=context)

    def render(self, draft: Draft, /) -> Batch:
        """Pictures uint8 [h, w, c], and the class that they were made for."""
        y = draft.context.get("label", np.zeros(len(draft), np.int64))
        out = np.empty((len(draft), *self.config.shape), np.uint8)
        for at in row_parts(len(draft)):
            out[at] = self.pixels(draft.values[at], y[at])
        return picture_batch(self.config, out, y)

    def pixels(self, z: Array, y: Array) -> Array:
        """G(z, y) at its levels: z [n, latents], y [n] to uint8 [n, h, w, c]."""
        weight = next(self.generator.parameters())
        latents = torch.from_numpy(np.ascontiguousarray(z, np.float32)).to(self.device, weight.dtype)
        with exact():
            f: Tensor = self.generator(latents, torch.from_numpy(np.asarray(y, np.int64)).to(self.device))
            return as_pixels(soft_clip((f.float() + 1) / 2).clamp(0, 1), self.config.levels)


def load(config: Config, options: TorchOptions, weights: Weights | None) -> ImageGan:
    """The model of a checkpoint; raises CheckpointError where tensors and config do not fit."""
    if weights is None or not config.shape:
        raise CheckpointError("a gan needs weights that were trained: genreg train gan")
    device = device_of(options.device)
    networks = load_networks(config, weights, device=device, dtype=options.dtype)
    return ImageGan(config, networks["generator"], device)


def load_networks(config: Config, weights: Weights, **how: Any) -> nn.ModuleDict:
    """The networks that a checkpoint holds: the generator, and the discriminator where it was stored."""

    def build() -> nn.ModuleDict:
        kinds = {"generator": generator, "discriminator": discriminator}
        there = {name for name in kinds if name == "generator" or _holds(weights, name)}
        return nn.ModuleDict({name: kinds[name](config) for name in kinds if name in there})

    return load_into(build, weights, **how)


def _holds(weights: Weights, name: str) -> bool:
    return any(tensor.startswith(f"{name}.") for tensor in weights.header)
