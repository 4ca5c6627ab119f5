"""StyleGAN2 and StyleGAN3 for genreg: published weights without pickles or a compiler, style control, fast on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily
from genreg_stylegan.config import (
    Stylegan2Config,
    Stylegan2Options,
    Stylegan3Config,
    StyleganOptions,
    columns,
    conditions3,
    label_condition,
)

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg_stylegan.model import StyledImages


def load2(config: Stylegan2Config, options: Stylegan2Options, weights: Weights | None) -> StyledImages:
    """The model of a StyleGAN2 checkpoint."""
    from genreg_stylegan import model

    return model.load2(config, options, weights)


def load3(config: Stylegan3Config, options: StyleganOptions, weights: Weights | None) -> StyledImages:
    """The model of a StyleGAN3 checkpoint."""
    from genreg_stylegan import model

    return model.load3(config, options, weights)


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The families of this plugin."""
    return [
        ModelFamily(
            name="stylegan2",
            summary="StyleGAN2: pictures by style, from published weights",
            makes="image",
            draft="W+ [layers, channels], from the mapping network",
            config=Stylegan2Config,
            options=Stylegan2Options,
            columns=columns,
            conditions=label_condition,
            load=load2,
            batch=1,  # a picture at a time: progress is told for each, and no row sees another
            tolerance=0.005,
        ),
        ModelFamily(
            name="stylegan3",
            summary="StyleGAN3-T and -R: pictures by style that can be moved and turned, from published weights",
            makes="image",
            draft="W+ [layers, channels], from the mapping network",
            config=Stylegan3Config,
            options=StyleganOptions,
            columns=columns,
            conditions=conditions3,
            load=load3,
            batch=1,  # a picture at a time: progress is told for each, and no row sees another
            tolerance=0.005,
        ),
    ]
