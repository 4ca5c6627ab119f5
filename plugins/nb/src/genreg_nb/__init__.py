"""Naive Bayes for genreg: labelled tables with numbers, categories and missing cells, NumPy alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Report, Settings, Trained
from genreg_nb.config import Config, columns, conditions

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source
    from genreg_nb.model import NaiveBayes


class Options(Settings, frozen=True):
    """Loading leaves nothing to choose."""


def load(config: Config, options: Options, weights: Weights | None) -> NaiveBayes:  # noqa: ARG001
    """The model of a checkpoint."""
    from genreg_nb import model

    return model.load(config, weights)


def fit(
    config: Config,
    options: Options,  # noqa: ARG001
    train: Source,
    validation: Source | None,
    *,
    seed: int,  # noqa: ARG001 - counting leaves nothing to chance
    folder: Path,  # noqa: ARG001 - one pass: nothing to continue
    report: Report,
) -> Trained:
    """One pass over the training rows, and one over the validation rows."""
    from genreg_nb import model

    return model.fit(config, train, validation, report=report)


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The family nb."""
    return [
        ModelFamily(
            name="nb",
            summary="Naive Bayes: labelled tables with numbers, categories and missing cells",
            makes="table",
            draft="the class, one per row",
            config=Config,
            options=Options,
            columns=columns,
            conditions=conditions,
            load=load,
            fit=fit,
            takes_weights=True,
            preprocess=("categories",),
            batch=65_536,
        )
    ]
