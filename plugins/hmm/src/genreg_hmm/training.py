"""From a source of rows to a checkpoint's tensors: alphabets, starts, EM, and the choice of the number of states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from genreg.data import Source, notes
from genreg.draft import Array, Batch
from genreg.errors import DataError, UsageError
from genreg.specs import Report, Trained
from genreg_hmm.batches import Bucket, buckets
from genreg_hmm.config import Column, Config, bounds, kind_of
from genreg_hmm.learning import LEAST_MASS, Learned, Parameters, learn, log_likelihoods
from genreg_hmm.model import checked_device
from genreg_hmm.sequences import Sequences, code_points, sequences, words
from genreg_hmm.start import first_guess, free_parameters, reseeded

ROWS = 4096  # rows read at a time
HELD = 1 << 28  # bytes of cells that are kept between EM steps; a larger source is read again at each
MOST_SYMBOLS = 100_000
DTYPES = {"float64": torch.float64, "float32": torch.float32}


# ---- what the columns hold ----


def described(config: Config, source: Source) -> Config:
    """The config with the source's columns and alphabets; raises DataError for what is no sequence."""
    kinds = {field.name: kind_of(field, config) for field in source.schema}
    alphabets: dict[str, set[Any]] = {name: set() for name, kind in kinds.items() if kind in ("categorical", "text")}
    for batch in source.batches(size=ROWS):
        for name, seen in alphabets.items():
            seen.update(_symbols(batch, name, kinds[name], config.unit))
            if len(seen) > MOST_SYMBOLS:
                raise DataError(
                    f"column {name} has more than {MOST_SYMBOLS:,} different symbols: leave it out with --drop {name}"
                )
    columns = []
    for field in source.schema:
        kind, values = kinds[field.name], alphabets.get(field.name, set())
        if kind in ("categorical", "text") and not values:
            raise DataError(
                f"column {field.name} has no symbol in the training rows: leave it out with --drop {field.name}"
            )
        columns.append(Column(name=field.name, kind=kind, values=notes(field).get("values") or sorted(values)))
    return config.model_copy(update={"columns": columns})


def _symbols(batch: Batch, name: str, kind: str, unit: str) -> Iterable[Any]:
    """The different symbols, or units of text, of a column."""
    column: Any = batch.column(batch.schema.get_field_index(name))
    if kind == "categorical":
        found: list[Any] = pc.unique(column.flatten()).drop_null().to_pylist()
        return found
    texts = column.drop_null().to_pylist()
    if unit == "word":
        return {word for text in texts for word in words(text)}
    return map(chr, np.unique(code_points(texts)).tolist())


@dataclass(frozen=True, eq=False)
class Data:
    """Training sequences: held, or read again at each pass where they are too large."""

    config: Config
    source: Source
    held: Sequences | None
    lengths: Array  # of all sequences

    @classmethod
    def of(cls, config: Config, source: Source, report: Report) -> Data:
        """Read a source through; raises DataError where it has no sequence with a step."""
        chunks: list[Sequences] = []
        lengths, size, row = [], 0, 0
        for chunk in _chunks(config, source):
            lengths.append(chunk.lengths)
            size += sum(part.nbytes for part in chunk.parts)
            chunks = [*chunks, chunk] if size <= HELD else chunks[:1]
            row += len(chunk)
            report(row, source.rows)
        total = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
        if not len(total):
            raise DataError("there are no training rows")
        if not total.any():
            raise DataError(f"none of the {len(total)} training rows holds a step: all sequences are empty")
        return cls(config, source, _joined(chunks) if size <= HELD else None, total)

    @property
    def steps(self) -> int:
        """Of all sequences together."""
        return int(self.lengths.sum())

    def some(self) -> Sequences:
        """All sequences, or the first ones."""
        return self.held or next(chunk for chunk in _chunks(self.config, self.source) if chunk.lengths.any())

    def batches(self, parameters: Parameters, device: str, dtype: torch.dtype) -> Callable[[], Iterable[Bucket]]:
        """A pass over all sequences."""
        states, emissions = parameters.states, parameters.emissions
        if self.held is not None:
            ready = list(buckets(self.held, emissions, states, device=device, dtype=dtype))
            return lambda: ready
        return lambda: (
            bucket
            for chunk in _chunks(self.config, self.source)
            for bucket in buckets(chunk, emissions, states, device=device, dtype=dtype)
        )


def _chunks(config: Config, source: Source) -> Iterator[Sequences]:
    row = 0
    for batch in source.batches(size=ROWS):
        yield sequences(config, batch, first_row=row)
        row += batch.num_rows


def _joined(chunks: list[Sequences]) -> Sequences:
    parts = zip(*(chunk.parts for chunk in chunks), strict=True)
    return Sequences(np.concatenate([c.lengths for c in chunks]), tuple(np.concatenate(part) for part in parts))


def _refuse_empty_columns(data: Data) -> None:
    """Raise DataError for a column of numbers without any, or too large to be squared."""
    some = data.some()
    for part, cells in zip(data.config.parts, some.parts, strict=True):
        for d, column in enumerate(part.columns if cells.ndim == 2 else []):
            if np.isnan(cells[:, d]).all():
                raise DataError(
                    f"column {column.name} has no value in the training rows: leave it out with --drop {column.name}"
                )
            if np.nanmax(np.abs(cells[:, d])) > 1e150:
                raise DataError(
                    f"column {column.name} holds numbers whose squares overflow: leave it out with --drop {column.name}"
                )


# ---- fit ----


def fit(
    config: Config, device: str, dtype: str, train: Source, validation: Source | None, *, seed: int, report: Report
) -> Trained:
    """Baum-Welch; of several restarts the likeliest is kept, of several numbers of states the best by the criterion."""
    if train.part != "train":
        raise UsageError(f"hmm is fitted on the part train, and this is the part {train.part}")
    device = checked_device(device)
    config = described(config, train)
    data = Data.of(config, train, report)
    _refuse_empty_columns(data)
    length = max(1, int(np.median(data.lengths[data.lengths > 0])))
    config = config.model_copy(update={"length": length, "steps": data.steps})
    held_out = list(_chunks(config, validation)) if validation is not None else []
    low, high = bounds(config.states)
    best: Fitted | None = None
    scores: dict[str, float] = {}
    for states in range(low, high + 1):
        learned = _best_start(replace(data, config=config), states, device, DTYPES[dtype], seed, report)
        fitted = Fitted(learned, _metrics(config, data, learned, held_out, device))
        if low < high:
            scores[f"score_{states}"] = fitted.score(config.criterion)
        if best is None or fitted.score(config.criterion) > best.score(config.criterion):
            best = fitted
    assert best is not None
    found = best.learned.parameters
    counts = {"rows": float(len(data.lengths)), "steps": float(data.steps), "states": float(found.states)}
    metrics = {**counts, **best.metrics, **scores}
    if (data.lengths == 0).any():
        metrics["rows_without_steps"] = float((data.lengths == 0).sum())
    tensors = {name: np.ascontiguousarray(t, np.float64) for name, t in found.tensors().items()}
    return Trained(tensors, config.model_copy(update={"states": found.states}), metrics)


@dataclass(frozen=True, eq=False)
class Fitted:
    """One number of states, and how it did."""

    learned: Learned
    metrics: Mapping[str, float]

    def score(self, criterion: str) -> float:
        """Higher is better."""
        if criterion == "held-out" and "validation_log_prob_per_step" in self.metrics:
            return self.metrics["validation_log_prob_per_step"]
        return -self.metrics["aic" if criterion == "aic" else "bic"]


def _best_start(data: Data, states: int, device: str, dtype: torch.dtype, seed: int, report: Report) -> Learned:
    """The likeliest of the restarts with that many states."""
    best: Learned | None = None
    some = data.some()
    for restart in range(data.config.restarts):
        start = first_guess(data.config, states, some, seed=seed, restart=restart)
        learned = _without_empty_states(data, start, device, dtype, report)
        if best is None or learned.history[-1] > best.history[-1]:
            best = learned
    assert best is not None
    return best


def _without_empty_states(data: Data, start: Parameters, device: str, dtype: torch.dtype, report: Report) -> Learned:
    """EM; where states end empty they are seeded again and EM goes on, and the better of both is kept."""

    def tell(iteration: int, figures: Mapping[str, float]) -> None:
        report(iteration, data.config.iterations, states=start.states, **figures)

    def run(first: Parameters) -> Learned:
        return learn(first, data.batches(first, device, dtype), data.config, steps=data.steps, dtype=dtype, report=tell)

    best = run(start)
    for attempt in range(start.states):
        again = reseeded(best.parameters, best.mass, LEAST_MASS, noise=0.5 * (-1) ** attempt)
        if again is None:
            break
        other = run(again)
        if other.history[-1] <= best.history[-1]:
            break
        best = other
    return best


def _metrics(config: Config, data: Data, learned: Learned, held_out: list[Sequences], device: str) -> dict[str, float]:
    """Figures of the training rows, and of those held out where they have steps."""
    free, found = free_parameters(learned.parameters), learned.parameters
    metrics = {
        "iterations": float(len(learned.history) - 1),
        "log_prob_per_step": learned.log_likelihood / data.steps,
        "first_log_prob_per_step": learned.first / data.steps,
        "aic": 2 * free - 2 * learned.log_likelihood,
        "bic": free * float(np.log(data.steps)) - 2 * learned.log_likelihood,
    }
    total, steps = 0.0, 0
    for chunk in held_out:
        held = buckets(chunk, found.emissions, found.states, device=device)
        total += float(log_likelihoods(found, held, len(chunk)).sum())
        steps += int(chunk.lengths.sum())
    if steps:
        metrics["validation_steps"], metrics["validation_log_prob_per_step"] = float(steps), total / steps
        if all(column.kind in ("categorical", "text") for column in config.columns):
            metrics["validation_bits_per_step"] = -total / steps / float(np.log(2))
    return metrics
