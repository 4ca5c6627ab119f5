"""The core is its own first plugin, through the same hooks as every other one."""

from __future__ import annotations

from genreg.hooks import hookimpl
from genreg.preprocess import PREPROCESSORS
from genreg.samplers import SAMPLERS
from genreg.specs import DataLoader, Preprocessor, Sampler
from genreg.tables import LOADERS


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """CSV, JSON Lines, Parquet and Arrow."""
    return LOADERS


@hookimpl
def genreg_preprocessors() -> list[Preprocessor]:
    """standardize, minmax, categories; dropna, dedupe, fillna, clip."""
    return PREPROCESSORS


@hookimpl
def genreg_samplers() -> list[Sampler]:
    """truncate, interpolate, mix, clamp."""
    return SAMPLERS
