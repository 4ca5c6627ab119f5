"""Variational autoencoders for genreg: pictures of any size, by class, near a picture, with their likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Report, Trained
from genreg_torch.settings import TorchOptions
from pydantic import Field

from genreg_vae.config import Config, columns, conditions

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source

    from genreg_vae.model import ImageVae


class Options(TorchOptions, frozen=True):
    """How a VAE is loaded."""

    importance: int = Field(default=64, ge=1, le=65_536, description="samples behind each log probability: more are tighter")


def load(config: Config, options: Options, weights: Weights | None) -> ImageVae:
    """The model of a checkpoint."""
    from genreg_vae import training

    return training.load(config, options, weights)


def fit(
    config: Config, options: Options, train: Source, validation: Source | None, *, seed: int, folder: Path, report: Report
) -> Trained:
    """Train on the rows, or continue the run that ``folder`` holds."""
    from genreg_vae import training

    return training.fit(config, options, train, validation, seed=seed, folder=folder, report=report)


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
        )
    ]
