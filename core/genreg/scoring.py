"""Score rows: log p in the data's units, and the posterior over what a draft holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.api import LoadedModel
from genreg.data import Source, conform, named_with_role, require_columns
from genreg.draft import Batch, Inferring, Scoring
from genreg.errors import Unsupported, UsageError

LOG_PROB = "log_prob"
SIZE = 4096  # rows scored at a time


@dataclass
class Summary:
    """What scoring found over all rows."""

    rows: int = 0
    log_prob: float = 0.0  # the sum, in nats
    labelled: int = 0
    right: int = 0

    def described(self) -> dict[str, float]:
        """Rows, the mean log p, and the share of known labels that were inferred, as far as they are there."""
        found: dict[str, float] = {"rows": self.rows}
        if self.rows and np.isfinite(self.log_prob):
            found["mean_log_prob"] = self.log_prob / self.rows
        if self.labelled:
            found["accuracy"] = self.right / self.labelled
        return found


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores a source batch by batch: the key's column, ``log_prob`` in nats, and what the family infers."""

    model: LoadedModel
    key: str | None = None
    seed: int = 0  # of what is estimated by drawing: row i takes seed + i
    summary: Summary = field(default_factory=Summary)

    def batches(self, source: Source) -> Iterator[Batch]:
        """One row per row. Raises Unsupported where the family can neither score nor infer, UsageError for the data."""
        if not isinstance(self.model.model, (Scoring, Inferring)):
            raise Unsupported(f"{self.model.family.name} can neither score rows nor infer what they came from")
        if self.key:
            require_columns(source.schema, [self.key], "--key")
        known = set(self.model.form.schema.names)
        if not known & set(source.schema.names):
            raise UsageError(f"the data has none of the model's columns: {', '.join(self.model.form.schema.names)}")
        for batch in source.batches(size=SIZE):
            yield self._scored(batch)

    def _scored(self, batch: Batch) -> Batch:
        form, own = self.model.form, self.model.model
        seeds = np.arange(batch.num_rows, dtype=np.uint64) + np.uint64(self.seed + self.summary.rows)
        fields: list[pa.Field[object]] = []
        columns: list[pa.Array[object]] = []
        if self.key:
            fields.append(batch.schema.field(self.key))
            columns.append(batch.column(self.key))
        if isinstance(own, Scoring):
            scores = form.log_prob(own, batch, seeds)
            self.summary.log_prob += float(scores.sum())
            fields.append(pa.field(LOG_PROB, pa.float64()))
            columns.append(pa.array(scores))
        if isinstance(own, Inferring):
            mapped = conform(form.chain.apply(form.own_columns(batch)), form.columns)
            inferred = form.chain.undo(own.infer(mapped, seeds))
            fields += [field for field in inferred.schema if field.name != self.key]
            columns += [inferred.column(field.name) for field in inferred.schema if field.name != self.key]
            self._count_right(batch, inferred)
        self.summary.rows += batch.num_rows
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))

    def _count_right(self, batch: Batch, inferred: Batch) -> None:
        label = named_with_role(self.model.form.schema, "label")
        if label in batch.schema.names and label in inferred.schema.names:
            told = batch.column(label).cast(inferred.schema.field(label).type)
            self.summary.labelled += len(told) - told.null_count
            self.summary.right += pc.sum(pc.equal(told, inferred.column(label))).as_py() or 0
