"""Variational autoencoders for genreg: pictures of any size, by class, near a picture, with their likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Report, Trained
from genreg_torch.labeled import columns
from genreg_torch.settings import TorchOptions
from genreg_vae import klconfig, vqconfig
from genreg_vae.config import Config, conditions
from genreg_vae.klconfig import KlConfig
from genreg_vae.vqconfig import VqConfig

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source
    from genreg_vae.klmodel import EncodedImages
    from genreg_vae.model import ImageVae
    from genreg_vae.vqvae import CodedImages


class Options(TorchOptions, frozen=True):
    """How a VAE is loaded."""

    importance: int = Field(
        default=64, ge=1, le=65_536, description="samples behind each log probability: more are tighter"
    )


def load(config: Config, options: Options, weights: Weights | None) -> ImageVae:
    """The model of a checkpoint."""
    from genreg_vae import training

    return training.load(config, options, weights)


def fit(
    config: Config,
    options: Options,
    train: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train on the rows, or continue the run that ``folder`` holds."""
    from genreg_vae import training

    return training.fit(config, options, train, validation, seed=seed, folder=folder, report=report)


def load_vqvae(config: VqConfig, options: TorchOptions, weights: Weights | None) -> CodedImages:
    """The model of a checkpoint."""
    from genreg_vae import vqvae

    return vqvae.load(config, options, weights)


def fit_vqvae(
    config: VqConfig,
    options: TorchOptions,
    train: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train autoencoder and prior on the rows, or continue the runs that ``folder`` holds."""
    from genreg_vae import vqvae

    return vqvae.fit(config, options, train, validation, seed=seed, folder=folder, report=report)


def load_kl(config: KlConfig, options: TorchOptions, weights: Weights | None) -> EncodedImages:
    """The model of a diffusers folder."""
    from genreg_vae import klmodel

    return klmodel.load(config, options, weights)


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The families of this plugin."""
    return [
        ModelFamily(
            name="vae",
            summary="Variational autoencoder: pictures, by class or near a picture, with their likelihood",
            makes="image",
            draft="z, from a mixture of normals per class or N(0, I)",
            config=Config,
            options=Options,
            columns=columns,
            conditions=conditions,
            load=load,
            fit=fit,
            preprocess=("categories",),
        ),
        ModelFamily(
            name="vqvae",
            summary="VQ-VAE: pictures as small grids of codes, drawn by a transformer",
            makes="image",
            draft="codes, from a transformer given the class",
            config=VqConfig,
            options=TorchOptions,
            columns=columns,
            conditions=vqconfig.conditions,
            load=load_vqvae,
            fit=fit_vqvae,
            preprocess=("categories",),
        ),
        ModelFamily(
            name="autoencoder-kl",
            summary="The autoencoder of latent diffusion: reads diffusers' AutoencoderKL folders",
            makes="image",
            draft="z [channels, h / f, w / f], of a picture",
            config=KlConfig,
            options=TorchOptions,
            columns=klconfig.columns,
            conditions=klconfig.conditions,
            load=load_kl,
            recognizes=klconfig.recognizes,
            batch=16,
        ),
    ]
