"""Hidden Markov models for genreg: readings, counts, symbols and text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Report, Settings, Trained
from genreg_hmm.config import Config, columns, conditions

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source
    from genreg_hmm.model import HiddenMarkov


class Options(Settings, frozen=True):
    """Where and how precisely the recursions run; statistics are float64 always."""

    device: str = Field(default="cpu", description="cpu, cuda or cuda:N")
    dtype: Literal["float64", "float32"] = Field(default="float64", description="of the recursions in training")


def load(config: Config, options: Options, weights: Weights | None) -> HiddenMarkov:
    """The model of a checkpoint."""
    from genreg_hmm import model

    return model.load(config, options.device, weights)


def fit(
    config: Config,
    options: Options,
    train: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,  # noqa: ARG001 - EM steps are quick: nothing to continue
    report: Report,
) -> Trained:
    """Baum-Welch from one or several starts, for one or several numbers of states."""
    from genreg_hmm import training

    return training.fit(config, options.device, options.dtype, train, validation, seed=seed, report=report)


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The family hmm."""
    return [
        ModelFamily(
            name="hmm",
            summary="Hidden Markov models: sequences of readings, counts or symbols, and text",
            makes="sequence",
            draft="the state path, one state per step",
            config=Config,
            options=Options,
            columns=columns,
            conditions=conditions,
            load=load,
            fit=fit,
        )
    ]
