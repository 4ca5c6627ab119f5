"""Models and sequences to test with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from genreg.data import Source, empty_batch, with_column
from genreg_hmm import Options, genreg_models
from genreg_hmm.config import Config, conditions
from genreg_hmm.model import HiddenMarkov

FAMILY = genreg_models()[0]


class Held:
    """Tensors in place of a checkpoint's file."""

    def __init__(self, tensors):
        self.tensors = tensors

    def expect(self, wanted):
        assert {name: (array.shape, "F64") for name, array in self.tensors.items()} == wanted

    def numpy(self, name):
        return self.tensors[name]


def fit(table: pa.Table, validation: pa.Table | None = None, *, seed: int = 0, report=None, options=None, **config):
    """The family's own ``fit``, and the model of its tensors."""
    held = None if validation is None else Source.of(validation, "validation")
    silent = lambda done, total=None, /, **figures: None  # noqa: E731
    trained = FAMILY.fit(
        Config(**config), options or Options(), Source.of(table, "train"), held, seed=seed, folder=Path("unused"),
        report=report or silent,
    )  # fmt: skip
    return trained, FAMILY.load(trained.config, Options(), Held(trained.tensors))


def given(model: HiddenMarkov, rows: list[dict]) -> pa.RecordBatch:
    """Conditions as the core hands them over: every declared column, null where not set."""
    schema = pa.schema([pa.field(c.column or c.name, c.type) for c in conditions(model.config)])
    batch = empty_batch(schema, len(rows))
    for field in schema:
        batch = with_column(batch, field, pa.array([row.get(field.name) for row in rows], field.type))
    return batch


def sample(model: HiddenMarkov, seeds, **cells) -> pa.RecordBatch:
    """Samples of the seeds under the same conditions."""
    seeds = np.asarray(seeds, np.uint64)
    return model.render(model.propose(seeds, given(model, [cells] * len(seeds))))


@pytest.fixture(scope="session")
def hmm():
    """The helpers of this file."""
    return SimpleNamespace(
        family=FAMILY, fit=fit, given=given, sample=sample, Held=Held, fixtures=Path(__file__).parent / "fixtures"
    )
