"""Naive Bayes: p(y, x) = p(y) prod_j p(x_j | y), by maximum likelihood, its columns Gaussian or categorical.

The story in order: densities, which are the statistics read under the settings (smoothing is never stored); the model,
in which the class is proposed, from its exact posterior where features are given, and the features are rendered;
``load`` and ``fit``. A missing cell is left out: of the statistics when training, of the product when conditioning and
scoring. No matrix product touches a row's probabilities, so that one seed is one sample to the last bit, whatever the
batch. Shapes: m rows, C classes, G Gaussian columns, K categorical ones with W levels in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from genreg.data import Source, no_columns
from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.random import Stream, categorical, normal, uniform
from genreg.specs import Report, Trained
from genreg_nb.config import Config, columns, described, listed, shown
from genreg_nb.statistics import CHUNK, Cells, Moments, Statistics, cells, gather, nothing

if TYPE_CHECKING:
    from genreg.checkpoint import Weights

FLOOR = 1e-18  # the least variance, as a share of the column's own (of its squared value where it is constant)
TINY = 1e-300  # the least variance of all: its inverse is still a number
LEAST = -1e300  # the least log density: of cells so far out that their squared distance overflows


# ---- densities: the statistics under the settings ----


@dataclass(frozen=True, eq=False)
class Densities:
    """log p(y) and log p(x_j | y), ready to be added up."""

    log_prior: Array  # [C]
    mean: Array  # [C, G]
    sd: Array  # [C, G]: to draw with; 0 where a column is constant
    sd_scored: Array  # [C, G]: to score with; never 0
    constant: Array  # bool [G]: one value in all classes, which says nothing of the class
    log_levels: Array  # [C, W + 1]; the last is 0, for missing cells
    pick: tuple[Array, ...]  # K of [C, k_j]: cumulative probabilities of the levels that training saw


def densities(config: Config, statistics: Statistics) -> Densities:
    """Read the statistics under the settings."""
    mean, sd, sd_scored, constant = _gaussians(statistics.moments, config.var_smoothing)
    log_levels = [_log_levels(statistics.levels[:, block], config.alpha) for _, block in config.blocks]
    pick = (np.cumsum(np.exp(log_p[:, :-1]), 1) for log_p in log_levels)
    return Densities(
        log_prior=_log_prior(config, statistics.classes),
        mean=mean,
        sd=sd,
        sd_scored=sd_scored,
        constant=constant,
        log_levels=np.hstack([*log_levels, np.zeros((len(config.classes), 1))]),
        pick=tuple(cdf / cdf[:, -1:] for cdf in pick),
    )


def _gaussians(moments: Moments, var_smoothing: float) -> tuple[Array, Array, Array, Array]:
    # var = M2 / n + var_smoothing * (the column's variance over all classes): scikit-learn's rule, but for the column's
    # own variance where scikit-learn takes the largest of all columns. A class that has no cell of a column takes
    # the moments of all classes; a constant column is drawn as that constant, and scored with a narrow peak around it.
    per_class = [Moments(*row) for row in zip(*moments, strict=True)]
    n, mean, m2 = reduce(Moments.merge, per_class)  # of each column, over all classes: [G]
    overall = m2 / np.maximum(n, 1)
    empty = moments.n == 0
    variance = np.where(empty, overall, moments.m2 / np.maximum(moments.n, 1)) + var_smoothing * overall
    floor = np.maximum(FLOOR * np.where(overall > 0, overall, np.maximum(mean**2, 1.0)), TINY)
    mean = np.where(empty, mean, moments.mean)
    return mean, np.sqrt(variance), np.sqrt(np.maximum(variance, floor)), overall == 0


def _log_levels(n: Array, alpha: float) -> Array:
    # p = (n_level + alpha) / (n + alpha k): scikit-learn's, for k levels. The bucket of unseen values is a level only
    # if training put something in it (k + 1 then). Where it did not, it still has the value of a level that no row had,
    # alpha / (n + alpha k): finite, the same question to every class, and outside the sum over the k levels, which is
    # exactly 1. It is scored and conditioned on, never drawn: there is no value to write.
    k = n.shape[1] - 1 + bool(n[:, -1].any())
    log_p: Array = np.log(n + alpha) - np.log(n.sum(1, keepdims=True) + alpha * k)
    return log_p


def _log_prior(config: Config, classes: Array) -> Array:
    if config.priors == "uniform":
        weights = np.ones_like(classes)
    else:
        weights = classes if config.priors == "empirical" else np.array(config.priors)
    with np.errstate(divide="ignore"):  # a class without rows is impossible: log 0 = -inf
        log_p: Array = np.log(weights) - np.log(weights.sum())
    return log_p


def log_normal(x: Array, mean: Array, sd: Array) -> Array:
    """log of the normal density, broadcast; 0 for a missing x. It may overflow to -inf, and is never NaN."""
    with np.errstate(over="ignore"):
        log_p: Array = x - mean
        log_p *= np.sqrt(0.5) / sd
        log_p *= log_p
    np.subtract(-np.log(sd) - 0.5 * np.log(2 * np.pi), log_p, out=log_p)
    missing = np.isnan(x)
    if missing.any():
        log_p[..., missing] = 0.0
    return log_p


def log_joint(density: Densities, rows: Cells) -> Array:
    """log p(y, the observed features) of every class y, whatever the rows' labels: float64 [C, m].

    Constant columns are left to ``log_constants``: they add the same to all classes, so much that the rest would drown.
    """
    joint = np.zeros((len(density.log_prior), len(rows.labels)))
    for j in np.flatnonzero(~density.constant):
        joint += log_normal(rows.numbers[j], density.mean[:, j, None], density.sd_scored[:, j, None])
    for level in rows.levels:
        joint += np.take(density.log_levels, level, 1)
    return np.maximum(joint, LEAST, out=joint) + density.log_prior[:, None]


def log_constants(density: Densities, rows: Cells) -> Array:
    """log p(the observed cells of constant columns): float64 [m]."""
    log_p = np.zeros(len(rows.labels))
    for j in np.flatnonzero(density.constant):
        log_p += log_normal(rows.numbers[j], density.mean[0, j], density.sd_scored[0, j])
    return np.maximum(log_p, LEAST)


def log_sum_exp(x: Array) -> Array:
    """log of the sum of exp over the first axis."""
    most = x.max(0)
    total: Array = most + np.log(np.exp(x - most).sum(0))
    return total


def log_likelihood(density: Densities, statistics: Statistics) -> float:
    """The sum of log p(y, x) over the rows that the statistics were measured on: they say all that it needs."""
    seen, (n, mean, m2) = statistics.classes > 0, statistics.moments
    squares = m2 + n * (mean - density.mean) ** 2
    logs = n * (0.5 * np.log(2 * np.pi) + np.log(density.sd_scored)) + 0.5 * squares / density.sd_scored**2
    total = statistics.classes[seen] @ density.log_prior[seen] - logs.sum()
    return float(total + (statistics.levels * density.log_levels[:, :-1]).sum())


# ---- the model: the class is proposed, the features are rendered ----


@dataclass(frozen=True, eq=False)
class NaiveBayes:
    """p(y) p(x | y), drawn in this order."""

    config: Config
    density: Densities

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The class of each row, from its posterior given the cells that are not null; a given class is kept."""
        values = np.empty(given.num_rows, np.int64)
        for at, rows in self._chunks(given):
            if (rows.labels == len(self.config.classes)).any():
                there = listed(self.config.classes)
                raise UsageError(f"{self.config.label}: a value that training did not see; there are: {there}")
            drawn = categorical(seeds[at], log_joint(self.density, rows).T, stream=Stream.PRIOR)
            values[at] = np.where(rows.labels >= 0, rows.labels, drawn)
        return Draft(values, seeds, levels=len(self.config.classes))

    def render(self, draft: Draft, /) -> Batch:
        """The features given the class; the class itself is the label column."""
        labels, schema = np.asarray(draft.values, np.int64), columns(self.config)
        made: dict[str | None, Array] = {self.config.label: labels.astype(np.int32)}
        noise = normal(draft.seeds, (len(self.config.gaussian),), stream=Stream.RENDER)
        for j, name in enumerate(self.config.gaussian):
            made[name] = noise[:, j] * np.take(self.density.sd[:, j], labels)
            made[name] += np.take(self.density.mean[:, j], labels)
        chance = uniform(draft.seeds, (len(self.config.blocks),), stream=Stream.RENDER, step=1)
        codes = self._draw_levels(labels, chance)
        made |= {name: codes[:, j] for j, (name, _) in enumerate(self.config.blocks)}
        return pa.RecordBatch.from_arrays([pa.array(made[field.name], field.type) for field in schema], schema=schema)

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
        for start in range(0, batch.num_rows, CHUNK):
            rows = cells(self.config, batch.slice(start, CHUNK))
            yield slice(start, start + len(rows.labels)), rows

    def _draw_levels(self, labels: Array, chance: Array) -> Array:
        codes = np.empty(chance.shape, np.int32)
        order = np.argsort(labels, kind="stable")
        ends = np.searchsorted(labels[order], np.arange(len(self.config.classes) + 1))
        for label in np.flatnonzero(np.diff(ends)):
            at = order[ends[label] : ends[label + 1]]
            for j, cdf in enumerate(self.density.pick):
                codes[at, j] = np.searchsorted(cdf[label], chance[at, j], side="right")
        return codes


# ---- load and fit ----


def tensors(statistics: Statistics) -> dict[str, Array]:
    """The statistics by name."""
    moments = {f"gaussian.{name}": array for name, array in statistics.moments._asdict().items()}
    return {"class.n": statistics.classes, **moments, "categorical.n": statistics.levels}


def load(config: Config, weights: Weights | None) -> NaiveBayes:
    """The model whose statistics a checkpoint holds; a kind that has no columns has no tensors there."""
    if weights is None:
        raise CheckpointError("nb has no model without weights: train one with genreg train nb")
    empty = tensors(nothing(config))
    shapes = {name: (array.shape, "F64") for name, array in empty.items() if array.size}
    weights.expect(shapes)
    found = empty | {name: weights.numpy(name) for name in shapes}
    for name, array in found.items():
        if not np.isfinite(array).all() or (name != "gaussian.mean" and (array < 0).any()):
            raise CheckpointError(f"the tensor {name} holds what no count, mean or sum of squares can be")
    if not found["class.n"].any():
        raise CheckpointError("the tensor class.n says that the model was trained on no rows")
    moments = Moments(found["gaussian.n"], found["gaussian.mean"], found["gaussian.m2"])
    return NaiveBayes(config, densities(config, Statistics(found["class.n"], moments, found["categorical.n"])))


def fit(config: Config, train: Source, validation: Source | None, *, report: Report) -> Trained:
    """Count the training rows in one pass; rows without a label are skipped, and their number is a metric."""
    if train.part != "train":
        raise UsageError(f"nb is fitted on the part train, and this is the part {train.part}")
    config = described(config, train.schema)
    if isinstance(config.priors, list) and len(config.priors) != len(config.classes):
        numbers = f"{len(config.priors)} numbers for {len(config.classes)} classes"
        raise UsageError(f"priors: {numbers} ({listed(config.classes) if config.label else 'there is no label'})")
    statistics, read = gather(config, train, report)
    _refuse(config, statistics, read)
    model = NaiveBayes(config, densities(config, statistics))
    rows = float(statistics.classes.sum())
    metrics = {"rows": rows, "log_prob": log_likelihood(model.density, statistics) / rows}
    if read > rows:
        metrics["rows_without_label"] = read - rows
    held = {name: np.ascontiguousarray(array) for name, array in tensors(statistics).items() if array.size}
    return Trained(held, config, metrics | _validate(model, validation))


def _refuse(config: Config, statistics: Statistics, read: int) -> None:
    if not statistics.classes.any():
        where = f"no training row has a label in column {config.label}"
        raise DataError(where if read else "there are no training rows")
    seen = {name: bool(n.any()) for name, n in zip(config.gaussian, statistics.moments.n.T, strict=True)}
    seen |= {name: bool(statistics.levels[:, block].any()) for name, block in config.blocks}
    for name, any_cell in seen.items():
        if not any_cell:
            raise DataError(f"column {name} has no value in the training rows: leave it out with --drop {name}")
    for name, m2 in zip(config.gaussian, statistics.moments.m2.T, strict=True):
        if not np.isfinite(m2).all():
            raise DataError(
                f"column {name} holds infinity, or numbers whose squares overflow: leave it out with --drop {name}"
            )


def _validate(model: NaiveBayes, source: Source | None) -> dict[str, float]:
    rows, right, total = 0, 0, 0.0
    possible = np.append(
        np.isfinite(model.density.log_prior), [False, False]
    )  # but for labels unseen (C), missing (-1)
    for batch in source.batches(size=CHUNK) if source else ():
        held = cells(model.config, batch)
        at = np.flatnonzero(possible[held.labels])
        joint, labels = log_joint(model.density, held)[:, at], held.labels[at]
        rows, right = rows + len(at), right + int((joint.argmax(0) == labels).sum())
        total += float((joint[labels, np.arange(len(at))] + log_constants(model.density, held)[at]).sum())
    if not rows:
        return {}
    accuracy = {"validation_accuracy": right / rows} if model.config.label else {}
    return {"validation_rows": float(rows), "validation_log_prob": total / rows, **accuracy}
