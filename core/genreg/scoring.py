"""How probable rows are, in the data's units, and what the model infers of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.data import Source, named_with_role, no_columns, require_columns
from genreg.draft import Batch, Inferring, Model, Scoring
from genreg.errors import DataError, PluginError, Unsupported, UsageError, did_you_mean
from genreg.form import Form, control
from genreg.preprocess import Categories

LOG_PROB = "log_prob"
SIZE = 4096  # rows scored at a time


@dataclass(eq=False)
class Scorer:
    """Scores a source batch by batch: the key's column, ``log_prob`` in nats, and what the family infers.

    Cells that are missing, and columns that the data lacks, are summed or integrated out.
    """

    model: Model
    form: Form
    source: Source
    key: str | None = None
    seed: int = 0  # of what is estimated by drawing: row i takes seed + i
    rows: int = 0
    possible: int = 0  # rows whose log p is finite
    log_prob: float = 0.0  # the sum over them, in nats
    labelled: int = 0
    right: int = 0
    unseen: Counter[str] = field(default_factory=Counter)  # "column=value" that training did not see -> rows

    def __post_init__(self) -> None:
        """Refuse what cannot be scored: Unsupported for the family, UsageError for the data and the seed."""
        if not isinstance(self.model, (Scoring, Inferring)):
            raise Unsupported("this family can neither score rows nor infer what they came from")
        if self.key:
            require_columns(self.source.schema, [self.key], "--key")
        if not self.form.scored(self.source.schema).names:
            there = ", ".join(self.source.schema.names)
            raise DataError(f"the data has none of the model's columns {', '.join(self.form.schema.names)}: {there}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed {self.seed}: the first seed lies between 0 and {2**63 - 1}")

    def batches(self) -> Iterator[Batch]:
        """One row per row, in order. Raises DataError for a cell that the model's column cannot take."""
        for batch in self.source.batches(size=SIZE):
            yield self._scored(batch)
        if not self.rows:
            raise DataError("the data has no rows to score")

    def _scored(self, batch: Batch) -> Batch:
        seeds = np.arange(batch.num_rows, dtype=np.uint64) + np.uint64(self.seed + self.rows)
        data = self._exact(batch)
        self._count_unseen(data)
        found: dict[str, tuple[pa.Field[Any], Any]] = {}
        if self.key:
            found[self.key] = (batch.schema.field(self.key), batch.column(self.key))
        if isinstance(self.model, Scoring):
            scores = self.form.log_prob(self.model, data, seeds)
            if len(scores) != batch.num_rows or np.isnan(scores).any():
                raise PluginError(f"log_prob of {batch.num_rows} rows made {len(scores)} numbers, or NaN among them")
            finite = np.isfinite(scores)
            self.possible, self.log_prob = self.possible + int(finite.sum()), self.log_prob + scores[finite].sum()
            name = control(LOG_PROB) if LOG_PROB in found else LOG_PROB
            found[name] = (pa.field(name, pa.float64()), pa.array(scores))
        if isinstance(self.model, Inferring):
            inferred = self.form.infer(self.model, data, seeds)
            self._count_right(data, inferred)
            for one, column in zip(inferred.schema, inferred.columns, strict=True):
                name = control(one.name) if one.name in found else one.name
                found[name] = (one.with_name(name), column)
        self.rows += batch.num_rows
        fields, columns = zip(*found.values(), strict=True) if found else ((), ())
        return pa.RecordBatch.from_arrays(list(columns), schema=pa.schema(fields)) if found else no_columns(len(seeds))

    def _exact(self, batch: Batch) -> Batch:
        """The model's columns in the types of its data, and nothing lost on the way."""
        schema, columns = self.form.scored(batch.schema), []
        for field_ in schema:
            column = batch.column(field_.name)
            try:
                cast = column if column.type == field_.type else column.cast(field_.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                reason = " ".join(str(error).split())
                told = f"column {field_.name} holds {column.type}, and the model's holds {field_.type}: {reason}"
                raise DataError(told) from None
            if pa.types.is_floating(cast.type) and not pc.all(pc.is_finite(cast), min_count=0).as_py():
                at = pc.index(pc.fill_null(pc.is_finite(cast), True), False).as_py()
                raise DataError(
                    f"column {field_.name}, row {self.rows + at + 1}: {cast[at].as_py()} has no probability; "
                    "leave a cell empty where nothing is known"
                )
            columns.append(cast)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _count_unseen(self, data: Batch) -> None:
        for step in self.form.chain.steps:
            for name, value, count in step.fitted.unseen(data) if isinstance(step.fitted, Categories) else ():
                if len(self.unseen) < 1000:  # more are not told, nor held
                    self.unseen[f"{name}={value}"] += count

    def _count_right(self, data: Batch, inferred: Batch) -> None:
        label = named_with_role(self.form.schema, "label")
        if label in data.schema.names and label in inferred.schema.names:
            told, found = data.column(label), inferred.column(label)
            self.labelled += len(told) - told.null_count
            self.right += pc.sum(pc.equal(told, found.cast(told.type))).as_py() or 0

    def summary(self) -> Mapping[str, Any]:
        """Rows; the mean log p of those that are possible; the share of known labels that were inferred."""
        found: dict[str, Any] = {"rows": self.rows}
        if isinstance(self.model, Scoring):
            found["mean_log_prob"] = self.log_prob / self.possible if self.possible else None
            found["impossible"] = self.rows - self.possible
        if self.labelled:
            found["accuracy"] = self.right / self.labelled
        return found

    def notes(self) -> list[str]:
        """What people should know of the data: columns that are missing, and those that are not used."""
        there, wanted = self.source.schema.names, self.form.schema.names
        missing = [name for name in wanted if name not in there]
        told = [f"missing, and summed out: {', '.join(missing)}"] if missing else []
        unused = [name for name in there if name not in wanted and name != self.key]
        hints = (hint for hint in (did_you_mean(name, missing) for name in unused) if hint.endswith("?"))
        return told + ([f"not used: {', '.join(unused)}{next(hints, '')}"] if unused else [])

    def surprises(self) -> list[str]:
        """Values that training did not see, with the number of rows that have them."""
        told = [f"{name} was not seen in training (rows: {count:,})" for name, count in self.unseen.most_common(3)]
        return [*told, f"and {len(self.unseen) - 3:,} more such values"] if len(self.unseen) > 3 else told
