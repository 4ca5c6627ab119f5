"""Generative adversarial networks for genreg: pictures by class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Report, Trained
from genreg_gan.config import Config, conditions
from genreg_torch.labeled import columns
from genreg_torch.settings import TorchOptions

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source
    from genreg_gan.model import ImageGan


def load(config: Config, options: TorchOptions, weights: Weights | None) -> ImageGan:
    """The model of a checkpoint."""
    from genreg_gan import model

    return model.load(config, options, weights)


def fit(
    config: Config,
    options: TorchOptions,
    train: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Train on the rows, or continue the run that ``folder`` holds."""
    from genreg_gan import training

    return training.fit(config, options, train, validation, seed=seed, folder=folder, report=report)


def estimate(config: Config, options: TorchOptions, rows: Source) -> Mapping[str, str]:
    """Parameters and memory of a training."""
    from genreg_gan import training

    return training.estimate(config, options, rows)


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The family of this plugin."""
    return [
        ModelFamily(
            name="gan",
            summary="Generative adversarial network: pictures, by class",
            makes="image",
            draft="z, from N(0, I)",
            config=Config,
            options=TorchOptions,
            columns=columns,
            conditions=conditions,
            load=load,
            fit=fit,
            estimate=estimate,
            preprocess=("categories",),
            tolerance=1e-5,  # of the generator; one grey level after rounding
        )
    ]
