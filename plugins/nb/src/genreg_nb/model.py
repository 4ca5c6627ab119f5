"""Naive Bayes: p(y, x) = p(y) prod_j p(x_j | y), by maximum likelihood with pseudo-counts.

A column is Gaussian, categorical, Bernoulli, or one of the multinomial ones, which share out a row's total. The class
is proposed, from its exact posterior where features are given; the features are rendered; then ``load`` and ``fit``. No
matrix product touches what is drawn, so that one seed is one sample to the last bit, whatever the batch; scores come
out of matrix products, and agree between batches to 1e-9 nats or 1e-12 of themselves. Shapes: m rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genreg.data import Source, named_with_role, no_columns
from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, UsageError
from genreg.random import Stream, categorical, normal, uniform
from genreg.specs import Report, Trained
from genreg_nb.config import Config, columns, described, listed, shown
from genreg_nb.counts import Counted, Totals, draw_counts
from genreg_nb.densities import Densities, densities, log_constants, log_joint, log_likelihood
from genreg_nb.kernels import Moments, log_sum_exp
from genreg_nb.statistics import Cells, Statistics, cells, chunk, gather, nothing, refuse

if TYPE_CHECKING:
    from genreg.checkpoint import Weights

KNOWN_COUNTS = "counts"  # what a draft's context calls the given counts, by which the others are drawn


@dataclass(frozen=True, eq=False)
class NaiveBayes:
    """p(y) p(x | y), drawn in this order."""

    config: Config
    density: Densities

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The class of each row, from its posterior given the cells that are not null; a given class is kept."""
        values, known = np.empty(given.num_rows, np.int64), []
        if all(column.null_count == given.num_rows for column in given.columns):
            log_prior = self.density.log_prior if len(seeds) else np.zeros(1)
            return Draft(categorical(seeds, log_prior, stream=Stream.PRIOR), seeds, levels=len(self.config.classes))
        for at, rows in self._chunks(given):
            if (rows.labels == len(self.config.classes)).any():
                there = listed(self.config.classes)
                raise UsageError(f"{self.config.label}: a value that training did not see; there are: {there}")
            values[at] = rows.labels
            if (rows.labels < 0).any() or self.config.label is None:
                joint = log_joint(self.density, rows, exact=True)
                drawn = categorical(seeds[at], joint.T, stream=Stream.PRIOR)
                values[at] = np.where(rows.labels >= 0, rows.labels, drawn)
            known.append(rows.counts)
        counts = np.hstack(known).T if known else np.zeros((0, 0))  # [n, V]
        context = {KNOWN_COUNTS: counts} if counts.size and not np.isnan(counts).all() else {}
        return Draft(values, seeds, levels=len(self.config.classes), context=context)

    def render(self, draft: Draft, /) -> Batch:
        """The features given the class; the class itself is the label column."""
        labels, schema = np.asarray(draft.values, np.int64), columns(self.config)
        made: dict[str | None, Array] = {self.config.label: labels.astype(np.int32)}
        noise = normal(draft.seeds, (len(self.config.gaussian),), stream=Stream.RENDER)
        noise *= np.take(self.density.sd, labels, 0)
        noise += np.take(self.density.mean, labels, 0)
        made |= dict(zip(self.config.gaussian, np.ascontiguousarray(noise.T), strict=True))
        chance = uniform(draft.seeds, (len(self.config.blocks),), stream=Stream.RENDER, step=1)
        codes = draw_levels(self.density.pick, labels, chance)
        made |= {name: codes[j] for j, (name, _) in enumerate(self.config.blocks)}
        if self.config.counts:
            given = draft.context.get(KNOWN_COUNTS)
            drawn = draw_counts(self.density.shares, labels, draft.seeds, None if given is None else given.T)
            made |= dict(zip(self.config.counts, drawn, strict=True))
        arrays = [pa.array(made[field.name], field.type) for field in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:  # noqa: ARG002 - nothing is left to chance
        """log p of the cells that are not null: float64 [n]; -inf for a class that training did not see."""
        log_p = np.empty(batch.num_rows)
        for at, rows in self._chunks(batch):
            joint = log_joint(self.density, rows)
            answers = [joint, np.full(len(rows.labels), -np.inf), log_sum_exp(joint)]  # known labels, C unseen, -1 null
            log_p[at] = np.vstack(answers)[rows.labels, np.arange(len(rows.labels))]
            log_p[at] += log_constants(self.density, rows)
        return log_p

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:  # noqa: ARG002
        """The most probable label given the features, and each class's probability; the row's own label is not used."""
        if self.config.label is None:
            return no_columns(batch.num_rows)
        posterior = np.empty((len(self.config.classes), batch.num_rows))
        for at, rows in self._chunks(batch):
            joint = log_joint(self.density, rows)
            p = np.exp(joint - joint.max(0))
            posterior[:, at] = p / p.sum(0)
        label: pa.Field[Any] = columns(self.config).field(self.config.label)
        fields = [label, *(pa.field(f"p({shown(value)})", pa.float64()) for value in self.config.classes)]
        arrays = [pa.array(posterior.argmax(0), label.type), *map(pa.array, posterior)]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _chunks(self, batch: Batch) -> Iterator[tuple[slice, Cells]]:
        size = chunk(self.config)
        for start in range(0, batch.num_rows, size):
            rows = cells(self.config, batch.slice(start, size))
            yield slice(start, start + len(rows.labels)), rows


def draw_levels(pick: tuple[Array, ...], labels: Array, chance: Array) -> Array:
    """The level of each of K columns, of cumulative probabilities [C, k_j], for uniforms [m, K]: int32 [K, m]."""
    codes = np.empty(chance.shape[::-1], np.int32)
    if not codes.size:
        return codes
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(pick[0]) + 1))
    chance = np.ascontiguousarray(chance[order].T)
    drawn = np.empty_like(codes)
    for label in np.flatnonzero(np.diff(ends)):
        own = slice(ends[label], ends[label + 1])
        for j, cdf in enumerate(pick):
            drawn[j, own] = np.searchsorted(cdf[label], chance[j, own], side="right")
    codes[:, order] = drawn
    return codes


# ---- load and fit ----


def tensors(statistics: Statistics) -> dict[str, Array]:
    """The statistics by name."""
    moments = {f"gaussian.{name}": array for name, array in statistics.moments._asdict().items()}
    counted = statistics.counted
    return {
        "class.n": statistics.classes,
        **moments,
        "categorical.n": statistics.levels,
        "multinomial.n": counted.n,
        "multinomial.totals": counted.totals.values,
        "multinomial.totals.n": counted.totals.n,
        "multinomial.log_factorials": counted.log_factorials if counted.n.size else np.zeros(0),
    }


def load(config: Config, weights: Weights | None) -> NaiveBayes:
    """The model whose statistics a checkpoint holds; a kind that has no columns has no tensors there."""
    if weights is None:
        raise CheckpointError("nb has no model without weights: train one with genreg train nb")
    empty = tensors(nothing(config))
    if config.counts:  # how many totals there are is the file's to say
        totals = weights.header.get("multinomial.totals", ((1,), ""))[0][:1]
        empty["multinomial.totals"] = np.zeros(totals)
        empty["multinomial.totals.n"] = np.zeros((len(config.classes), *totals))
    shapes = {name: (array.shape, "F64") for name, array in empty.items() if array.size}
    weights.expect(shapes)
    found = empty | {name: weights.numpy(name) for name in shapes}
    for name, array in found.items():
        if not np.isfinite(array).all() or (name != "gaussian.mean" and (array < 0).any()):
            raise CheckpointError(f"the tensor {name} holds what no count, mean or sum of squares can be")
    totals_ = Totals(found["multinomial.totals"], found["multinomial.totals.n"])
    if (np.diff(totals_.values) <= 0).any() or (totals_.values % 1).any():
        raise CheckpointError("the tensor multinomial.totals must hold whole numbers, ascending")
    if not found["class.n"].any():
        raise CheckpointError("the tensor class.n says that the model was trained on no rows")
    moments = Moments(found["gaussian.n"], found["gaussian.mean"], found["gaussian.m2"])
    log_factorials = found["multinomial.log_factorials"] if config.counts else np.zeros(len(config.classes))
    counted = Counted(found["multinomial.n"], log_factorials, totals_)
    return NaiveBayes(config, densities(config, Statistics(found["class.n"], moments, found["categorical.n"], counted)))


def fit(config: Config, train: Source, validation: Source | None, *, report: Report) -> Trained:
    """Count the training rows in one pass; rows without a label are skipped, and their number is a metric."""
    if train.part != "train":
        raise UsageError(f"nb is fitted on the part train, and this is the part {train.part}")
    config = described(config, train.schema)
    if isinstance(config.priors, list) and len(config.priors) != len(config.classes):
        numbers = f"{len(config.priors)} numbers for {len(config.classes)} classes"
        raise UsageError(f"priors: {numbers} ({listed(config.classes) if config.label else 'there is no label'})")
    statistics, read, unlabelled = gather(config, train, report)
    weight = named_with_role(train.schema, "weight")
    refuse(config, statistics, read, weight)
    model = NaiveBayes(config, densities(config, statistics))
    total = float(statistics.classes.sum())
    metrics = {"rows": float(read - unlabelled), "log_prob": log_likelihood(model.density, statistics) / total}
    if weight:
        metrics["weight"] = total
    if unlabelled:
        metrics["rows_without_label"] = float(unlabelled)
    held = {name: np.ascontiguousarray(array) for name, array in tensors(statistics).items() if array.size}
    return Trained(held, config, metrics | _validate(model, validation))


def _validate(model: NaiveBayes, source: Source | None) -> dict[str, float]:
    """Accuracy and mean log probability of the rows whose class is known, and how many they are; {} without any."""
    rows, right, total = 0, 0, 0.0
    possible = np.append(np.isfinite(model.density.log_prior), [False, False])  # neither unseen (C) nor missing (-1)
    for batch in source.batches(size=chunk(model.config)) if source else ():
        held = cells(model.config, batch)
        at = np.flatnonzero(possible[held.labels])
        joint, labels = log_joint(model.density, held)[:, at], held.labels[at]
        rows, right = rows + len(at), right + int((joint.argmax(0) == labels).sum())
        total += float((joint[labels, np.arange(len(at))] + log_constants(model.density, held)[at]).sum())
    if not rows:
        return {}
    accuracy = {"validation_accuracy": right / rows} if model.config.label else {}
    return {"validation_rows": float(rows), "validation_log_prob": total / rows, **accuracy}
