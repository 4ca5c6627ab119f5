"""AutoencoderKL as a model: a picture's latent, decoded; without a picture, N(0, I), which is noise to look at.

A diffusion model is what draws its latents; this family encodes, decodes and interpolates. Pictures are of any size:
padded to a multiple of the factor, cropped back. Latents are those of the file's own encoder, unscaled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.checkpoint import Weights
from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, UsageError
from genreg.images import decode, encode
from genreg.random import Stream, normal
from genreg_torch.devices import CPU, device_of
from genreg_torch.settings import TorchOptions
from genreg_vae.autoencoder_kl import AutoencoderKl, build
from genreg_vae.given import numbers
from genreg_vae.klconfig import KlConfig, columns, recognizes

FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Encoder and decoder around a latent [z, h / f, w / f]."""

    config: KlConfig
    network: AutoencoderKl
    device: torch.device = CPU

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The latent of each given picture, moved by ``scale`` deviations; N(0, I) of the config's size elsewhere."""
        like = given.column("like") if "like" in given.schema.names else pa.nulls(len(seeds))
        cells = [cell.as_py() for cell in like]
        images = {cell: decode(cell, channels=self.config.pixels, name="like") for cell in dict.fromkeys(cells) if cell}
        side = self.config.sample_size
        sizes = {images[cell].shape[:2] if cell else (side, side) for cell in cells}
        if len(sizes) > 1:
            told = " and ".join(f"{height}x{width}" for height, width in sorted(sizes)[:2])
            raise UsageError(f"like: pictures of one run are of one size, and these are {told}")
        height, width = next(iter(sizes), (side, side))
        grid = (-(-height // self.config.factor), -(-width // self.config.factor))
        z = normal(seeds, (self.config.latent_channels, *grid), stream=Stream.PRIOR, dtype=np.float32)
        scale = np.nan_to_num(numbers(given, "scale"))
        for cell, image in images.items():
            at = np.array([own == cell for own in cells])
            mean, log_variance = self.encode(image[None])
            z[at] = mean + scale[at, None, None, None].astype(np.float32) * np.exp(0.5 * log_variance) * z[at]
        context = {"size": np.tile([[height, width]], (len(seeds), 1))}
        return Draft(z, seeds, ("channel", "row", "column"), np.zeros(z.shape[1:], np.float32), context=context)

    def render(self, draft: Draft, /) -> Batch:
        """Pictures as PNG, one by one: they may be large."""
        made = []
        for z, (height, width) in zip(draft.values, draft.context["size"], strict=True):
            made.append(encode(self.decode(z[None])[0, :height, :width]))
        return pa.RecordBatch.from_arrays([pa.array(made, pa.binary())], schema=columns(self.config))

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:  # noqa: ARG002 - nothing is left to chance
        """The latent's mean of each picture, flattened."""
        z = []
        for cell in batch.column("image"):
            image = cell.as_py() and decode(cell.as_py(), channels=self.config.pixels, name="image")
            z.append(None if image is None else self.encode(image[None])[0].reshape(-1))
        return pa.RecordBatch.from_arrays([pa.array(z, pa.list_(pa.float32()))], names=["z"])

    @torch.inference_mode()
    def encode(self, images: Array) -> tuple[Array, Array]:
        """Mean and log variance [n, z, h / f, w / f] of pictures uint8 [n, h, w, c]; the sides padded to a multiple."""
        f, (height, width) = self.config.factor, images.shape[1:3]
        x = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(self.device, torch.float32)
        x = F.pad(x / 127.5 - 1, (0, -width % f, 0, -height % f), mode="replicate")
        mean, log_variance = self.network.encode(x.to(self._dtype))
        return _numpy(mean), _numpy(log_variance)

    @torch.inference_mode()
    def decode(self, z: Array) -> Array:
        """Latents [n, z, h / f, w / f] as pictures uint8 [n, h, w, c]."""
        x = self.network.decode(torch.from_numpy(np.array(z, np.float32)).to(self.device, self._dtype))
        grey = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return grey.permute(0, 2, 3, 1).cpu().numpy()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def load(config: KlConfig, options: TorchOptions, weights: Weights | None) -> EncodedImages:
    """The model of a folder's tensors, strictly, old names too; raises CheckpointError with all differences."""
    if weights is None:
        raise CheckpointError(f"an AutoencoderKL needs its weights: {FILE}")
    if options.dtype == "float16":
        raise UsageError("dtype=float16 overflows in this autoencoder: take float32 or bfloat16")
    device = device_of(options.device)
    tensors: dict[str, Tensor] = {}
    for path, names in weights.by_file(weights.header).items():
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            for name in names:
                tensors[name] = file.get_tensor(name).to(getattr(torch, options.dtype))
    return EncodedImages(config, build(config, tensors), device)


def read(folder: Path, options: TorchOptions | None = None) -> EncodedImages:
    """The model of a diffusers folder: config.json and safetensors, nothing else; raises CheckpointError."""
    path = folder / FILE
    if not path.is_file():
        pickled = next(folder.glob("*.bin"), None)
        if pickled:
            raise CheckpointError(
                f"{folder}: {pickled.name} is a pickle, which can run code: convert it to safetensors"
            )
        raise CheckpointError(f"{folder}: it has no {FILE}")
    weights = Weights.open(path)
    raw: Mapping[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    if not recognizes(raw, weights.header):
        raise CheckpointError(
            f"{folder}: config.json is of a {raw.get('_class_name', 'model without _class_name')}, not an AutoencoderKL"
        )
    try:
        config = KlConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{folder}: config.json: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return load(config, options or TorchOptions(device="cpu"), weights)


def _numpy(x: Tensor) -> Array:
    return x.float().cpu().numpy()
