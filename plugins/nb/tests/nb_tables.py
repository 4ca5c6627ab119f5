"""Tables, models and rows that the tests of naive Bayes share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from genreg.data import Source, noted
from genreg_nb import Options, genreg_models
from genreg_nb.config import Config, columns
from genreg_nb.model import NaiveBayes

FAMILY = genreg_models()[0]
FIXTURES = Path(__file__).parent / "fixtures"
LABEL, COLOR, SIZE = ("no", "yes"), ("blue", "green", "red"), ("big", "small")


def table(label="y", categories=None, **values) -> pa.Table:
    """Numbers as they are; columns named in ``categories`` as codes with their values."""
    fields, arrays = [], []
    for name, cells_ in values.items():
        kinds = (categories or {}).get(name)
        array = cells_ if isinstance(cells_, pa.Array) else pa.array(cells_, pa.int32() if kinds else None)
        role = "label" if name == label else None
        fields.append(noted(pa.field(name, array.type), values=kinds and list(kinds), role=role))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def fitted(data: pa.Table, validation: pa.Table | None = None, **config):
    """The family's own ``fit``, and the model of its tensors."""
    held = None if validation is None else Source.of(validation, "validation")
    silent = lambda done, total=None, /, **figures: None  # noqa: E731
    trained = FAMILY.fit(
        Config(**config), Options(), Source.of(data, "train"), held, seed=0, folder=Path("unused"), report=silent
    )
    return trained, model_of(trained)


def model_of(trained) -> NaiveBayes:
    class Held:
        def __init__(self):
            self.header = {name: (array.shape, "F64") for name, array in trained.tensors.items()}

        def expect(self, wanted):
            assert {name: (array.shape, "F64") for name, array in trained.tensors.items()} == wanted

        def numpy(self, name):
            return trained.tensors[name]

    return FAMILY.load(trained.config, Options(), Held())


def batch_of(model: NaiveBayes, rows: list[dict]) -> pa.RecordBatch:
    schema = columns(model.config)
    return pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def sample(model: NaiveBayes, seeds, **cells_) -> pa.RecordBatch:
    """Rows of the seeds, with the same cells given in each."""
    seeds = np.asarray(seeds, np.uint64)
    return model.render(model.propose(seeds, batch_of(model, [cells_] * len(seeds))))


def arrays(batch: pa.RecordBatch, *names):
    return [batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False) for name in names]


def mixed_rows(seed: int = 0, rows: int = 40) -> pa.Table:
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, rows)

    def holes(values):
        return [None if hole else v for v, hole in zip(values.tolist(), draw.random(rows) < 0.2, strict=True)]

    return table(
        categories={"y": LABEL, "color": COLOR, "size": SIZE},
        color=holes(draw.integers(0, 3, rows)),
        weight=holes(draw.normal(5.0 + 2 * y, 1.5)),
        y=y.tolist(),
        size=holes((draw.random(rows) < 0.3 + 0.4 * y).astype(int)),
        height=holes(draw.normal(-y, 0.5)),
    )
