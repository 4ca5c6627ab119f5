"""Naive Bayes against formulas, enumeration and scikit-learn's numbers."""

from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from nb_tables import FAMILY, FIXTURES, LABEL, SIZE, arrays, batch_of, fitted, mixed_rows, model_of, sample, table
from safetensors.numpy import save_file

import genreg
import genreg_nb
from genreg.checkpoint import Weights
from genreg.data import Source, empty_batch, notes
from genreg.draft import Inferring, Scoring
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.options import build, of_model
from genreg_nb import Options
from genreg_nb.config import Config, columns, conditions, described
from genreg_nb.densities import densities, log_joint
from genreg_nb.statistics import Statistics, cells, gather, measure, nothing

# ---- the formulas, written out once more in plain Python ----


def by_hand(data: pa.Table, alpha: float, var_smoothing: float):
    """p(y, the observed cells of a row) by the definition, from the rows themselves."""
    rows = data.to_pylist()
    levels = {"color": 3, "size": 2}

    def gauss(x, name, y):
        every = [r[name] for r in rows if r[name] is not None]
        own = [r[name] for r in rows if r["y"] == y and r[name] is not None]
        mean, centre = sum(own) / len(own), sum(every) / len(every)
        overall = sum((v - centre) ** 2 for v in every) / len(every)
        var = sum((v - mean) ** 2 for v in own) / len(own) + var_smoothing * overall
        return math.exp(-((x - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)

    def category(v, name, y):
        own = [r[name] for r in rows if r["y"] == y and r[name] is not None]
        return (own.count(v) + alpha) / (len(own) + alpha * levels[name])

    def joint(y, row):
        p = sum(r["y"] == y for r in rows) / len(rows)
        for name, value in row.items():
            if value is not None:
                p *= category(value, name, y) if name in levels else gauss(value, name, y)
        return p

    return joint


def test_posterior_and_log_prob_are_those_of_enumeration_whatever_is_observed():
    data = mixed_rows()
    _, model = fitted(data, alpha=0.7, var_smoothing=0.01)
    joint = by_hand(data, 0.7, 0.01)
    choices = {"color": [None, 0, 1, 2], "weight": [None, 4.5], "size": [None, 0, 1], "height": [None, -0.3, 2.0]}
    rows = [dict(zip(choices, cells_, strict=True)) for cells_ in itertools.product(*choices.values())]
    batch, seeds = batch_of(model, rows), np.zeros(len(rows), np.uint64)
    expected = np.array([[joint(y, row) for y in (0, 1)] for row in rows])
    np.testing.assert_allclose(np.exp(model.log_prob(batch, seeds)), expected.sum(1), rtol=1e-12)
    no, yes = arrays(model.infer(batch, seeds), "p(no)", "p(yes)")
    np.testing.assert_allclose(np.stack([no, yes], 1), expected / expected.sum(1, keepdims=True), rtol=1e-12)
    for y in (0, 1):
        labelled = batch_of(model, [{**row, "y": y} for row in rows])
        np.testing.assert_allclose(np.exp(model.log_prob(labelled, seeds)), expected[:, y], rtol=1e-12)


def test_probabilities_sum_to_one_and_densities_integrate_to_one():
    _, model = fitted(mixed_rows(), alpha=0.3)
    every = [{"y": y, "color": c, "size": s} for y, c, s in itertools.product((0, 1), (0, 1, 2), (0, 1))]
    log_p = model.log_prob(batch_of(model, every), np.zeros(len(every), np.uint64))
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-14)
    grid = np.linspace(-15, 25, 20_001)
    at = [{"weight": x, "color": 1} for x in grid.tolist()]
    log_p = model.log_prob(batch_of(model, at), np.zeros(len(at), np.uint64))
    of_color = model.log_prob(batch_of(model, [{"color": 1}]), np.zeros(1, np.uint64))
    assert np.trapezoid(np.exp(log_p), grid) == pytest.approx(math.exp(of_color[0]), rel=1e-9)


def test_classes_are_drawn_from_the_posterior_given_any_columns():
    _, model = fitted(mixed_rows())
    seeds = np.arange(20_000)
    for observed in ({}, {"color": 2}, {"weight": 6.0, "size": 1}, {"height": -0.4, "color": 0, "size": 0}):
        (p,) = arrays(model.infer(batch_of(model, [observed]), seeds[:1]), "p(yes)")
        (y,) = arrays(sample(model, seeds, **observed), "y")
        assert abs(y.mean() - p[0]) < 5 * math.sqrt(p[0] * (1 - p[0]) / len(seeds)), observed


@pytest.mark.parametrize("observed", [{}, {"color": 1}, {"y": 1}])
def test_moments_of_samples_are_the_closed_forms_at_five_sigma(observed):
    _, model = fitted(mixed_rows(), priors=[0.3, 0.7])
    seeds, d, n = np.arange(100_000), model.density, 100_000
    p = np.array([0.3, 0.7]) * (np.exp(d.log_levels[:, 1]) if "color" in observed else 1)
    p = np.array([0, 1]) if "y" in observed else p / p.sum()
    x = np.stack(arrays(sample(model, seeds, **observed), "weight", "height"))
    mean = p @ d.mean
    var = p @ (d.sd**2 + d.mean**2) - mean**2
    fourth = p @ ((d.mean - mean) ** 4 + 6 * (d.mean - mean) ** 2 * d.sd**2 + 3 * d.sd**4)
    assert (np.abs(x.mean(1) - mean) < 5 * np.sqrt(var / n)).all()
    assert (np.abs(x.var(1) - var) < 5 * np.sqrt((fourth - var**2) / n)).all()
    covariance = p @ (d.mean[:, 0] * d.mean[:, 1]) - mean[0] * mean[1]  # only the class means move together
    assert abs(np.cov(x)[0, 1] - covariance) < 5 * math.sqrt((var.prod() + covariance**2) * 2 / n)


def test_categories_are_drawn_with_their_probabilities_at_five_sigma():
    _, model = fitted(mixed_rows(), alpha=0.5)
    for y in (0, 1):
        codes = arrays(sample(model, np.arange(50_000), y=y), "color", "size")
        for drawn, first, k in zip(codes, (0, 4), (3, 2), strict=True):
            p = np.exp(model.density.log_levels[y, first : first + k])
            seen = np.bincount(drawn, minlength=k) / 50_000
            assert (np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / 50_000)).all()


def test_sampling_a_label_is_sampling_all_and_keeping_those_of_the_label():
    _, model = fitted(mixed_rows())
    free, yes = sample(model, np.arange(3000)), sample(model, np.arange(3000), y=1)
    of_label = pa.array(arrays(free, "y")[0] == 1)
    assert free.filter(of_label).equals(yes.filter(of_label))
    assert set(arrays(yes, "y")[0]) == {1}


def test_a_seed_is_a_sample_whatever_the_batch():
    _, model = fitted(mixed_rows())
    seeds = np.random.default_rng(1).integers(0, 2**64, 9000, np.uint64)
    whole = sample(model, seeds, weight=5.5, size=1)
    for at in (slice(0, 1), slice(8190, 8195), slice(1, 9000, 7)):
        part = sample(model, seeds[at], weight=5.5, size=1)
        assert part.equals(whole.take(pa.array(np.arange(9000)[at])))
    log_p = model.log_prob(whole, seeds)
    one = [model.log_prob(whole.slice(i, 1), seeds[i : i + 1])[0] for i in range(0, 9000, 999)]
    np.testing.assert_allclose(one, log_p[::999], rtol=1e-12, atol=1e-9)


def test_a_draft_edited_by_a_sampler_renders_the_class_it_holds():
    _, model = fitted(mixed_rows())
    seeds = np.arange(8, dtype=np.uint64)
    draft = model.propose(seeds, empty_batch(columns(model.config), 8))
    assert (draft.axes, draft.levels, draft.center) == ((), 2, None)
    assert model.render(replace(draft, values=np.ones(8, np.int64))).equals(sample(model, seeds, y=1))


# ---- scikit-learn's numbers ----


@pytest.mark.parametrize("case", ["default", "priors", "smooth"])
def test_gaussian_iris_agrees_with_scikit_learn(case):
    held = np.load(FIXTURES / "nb_gaussian_iris.npz")
    names = [f"x{j}" for j in range(4)]
    data = table(categories={"y": range(3)}, **dict(zip(names, held["X"].T, strict=True)), y=held["y"])
    priors = [1 / 6, 2 / 6, 3 / 6] if case == "priors" else "empirical"
    _, model = fitted(data, var_smoothing=0, priors=priors)
    close = {"rtol": 1e-9, "atol": 0}
    var = model.density.sd_scored**2 + held[f"{case}_epsilon"]  # its floor: a share of the largest column's variance
    np.testing.assert_allclose(model.density.log_prior, held[f"{case}_class_log_prior"], **close)
    np.testing.assert_allclose(model.density.mean, held[f"{case}_theta"], **close)
    np.testing.assert_allclose(var, held[f"{case}_var"], **close)
    model = replace(model, density=replace(model.density, sd_scored=np.sqrt(var)))
    rows = data.take(held["rows"]).to_batches()[0]
    joint = log_joint(model.density, cells(model.config, rows)).T
    np.testing.assert_allclose(joint, held[f"{case}_jll_rows"], **close)
    probabilities = arrays(model.infer(rows, np.zeros(50, np.uint64)), "p(0)", "p(1)", "p(2)")
    np.testing.assert_allclose(np.stack(probabilities, 1), held[f"{case}_proba_rows"], rtol=1e-9, atol=1e-300)
    every = data.to_batches()[0]
    assert (arrays(model.infer(every, np.zeros(150, np.uint64)), "y")[0] == held[f"{case}_pred"]).all()
    unlabelled = every.drop_columns(["y"])
    assert model.log_prob(unlabelled, np.zeros(150, np.uint64)).sum() == pytest.approx(
        float(held[f"{case}_loglik_total"]), rel=1e-9
    )


def test_each_column_has_its_own_variance_floor():
    draw = np.random.default_rng(0)
    data = table(
        categories={"y": LABEL}, tall=draw.normal(0, 1e6, 50), flat=draw.normal(0, 1e-3, 50), y=[0] * 25 + [1] * 25
    )
    plain, smooth = fitted(data, var_smoothing=0)[1].density, fitted(data, var_smoothing=0.5)[1].density
    added = smooth.sd**2 - plain.sd**2
    np.testing.assert_allclose(added, 0.5 * np.var([data["tall"], data["flat"]], axis=1) * np.ones((2, 1)), rtol=1e-9)


def test_categories_of_digits_agree_with_scikit_learn():
    held = np.load(FIXTURES / "nb_discrete_digits.npz")
    codes, levels = (held["X"] // 4).astype(np.int32), held["cat_div4_n_categories"]
    names = [f"x{j:02}" for j in range(64)]
    kinds = {name: range(k) for name, k in zip(names, levels.tolist(), strict=True)}
    data = table(categories={"y": range(10), **kinds}, y=held["y"], **dict(zip(names, codes.T, strict=True)))
    _, model = fitted(data, alpha=1.0)
    close = {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(model.density.log_prior, held["cat_div4_class_log_prior"], **close)
    for j, (_, block) in enumerate(model.config.blocks):
        own = model.density.log_levels[:, block][:, :-1]
        np.testing.assert_allclose(own, held["cat_div4_feature_log_prob"][:, j, : levels[j]], **close)
    every = data.to_batches()[0]
    joint = log_joint(model.density, cells(model.config, every)).T
    np.testing.assert_allclose(joint[held["rows"]], held["cat_div4_jll_rows"], **close)
    assert (joint.argmax(1) == held["cat_div4_pred"]).all()


# ---- streaming ----


def close_statistics(a: Statistics, b: Statistics) -> None:
    assert (a.classes == b.classes).all()
    assert (a.levels == b.levels).all()
    assert (a.moments.n == b.moments.n).all()
    np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a.moments.m2, b.moments.m2, rtol=1e-9, atol=1e-9)


cell = st.one_of(st.none(), st.floats(-1e3, 1e3, allow_subnormal=False))
row = st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, 0, 1]), cell, cell)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=5))
def test_chunks_of_any_partition_merge_into_the_whole(rows, cuts):
    kinds = {"y": ("a", "b", "c"), "k": SIZE}
    y, k, a, b = zip(*rows, strict=True) if rows else ((),) * 4
    numbers = [pa.array(list(x), pa.float64()) for x in (a, b)]
    data = table(categories=kinds, y=list(y), k=list(k), a=numbers[0], b=numbers[1])
    config = described(Config(), data.schema)
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [
        measure(config, cells(config, batch))
        for start, end in itertools.pairwise(ends)
        for batch in data.slice(start, end - start).to_batches()
    ]
    whole = measure(config, cells(config, data.combine_chunks().to_batches()[0])) if rows else nothing(config)
    close_statistics(reduce(Statistics.merge, parts, nothing(config)), whole)
    close_statistics(reduce(Statistics.merge, reversed(parts), nothing(config)), whole)


def test_incremental_batches_of_iris_equal_one_fit():
    held = np.load(FIXTURES / "nb_gaussian_iris.npz")
    order = held["chunks_perm"]
    data = table(categories={"y": range(3)}, **{f"x{j}": held["X"][order, j] for j in range(4)}, y=held["y"][order])
    config = described(Config(var_smoothing=0), data.schema)
    chunks = pa.Table.from_batches([data.slice(at, 50).combine_chunks().to_batches()[0] for at in (0, 50, 100)])
    source = Source(data.schema, lambda size: iter(chunks.to_batches()), 150, "train")
    statistics, read, _ = gather(config, source, lambda *_, **__: None)
    density = densities(config, statistics)
    assert read == 150
    np.testing.assert_allclose(density.mean, held["smooth_theta"], rtol=1e-9)
    np.testing.assert_allclose(density.sd**2 + held["smooth_epsilon"], held["smooth_var"], rtol=1e-9)


@pytest.mark.parametrize("rows", [500, 30_000])
def test_an_offset_of_a_million_in_float32_does_not_cancel(rows):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, rows)
    x = (1e6 + draw.normal(0, 1, rows) + y).astype(np.float32)
    _, model = fitted(table(categories={"y": LABEL}, x=x, y=y), var_smoothing=0)
    exact = x.astype(np.longdouble)
    for label in (0, 1):
        own = exact[y == label]
        assert model.density.mean[label, 0] == pytest.approx(float(own.mean()), rel=1e-15)
        assert model.density.sd[label, 0] ** 2 == pytest.approx(float(own.var()), rel=1e-9)


def test_the_training_metric_is_the_mean_log_probability_of_the_rows():
    data = mixed_rows()
    trained, model = fitted(data, alpha=0.4)
    log_p = model.log_prob(data.to_batches()[0], np.zeros(40, np.uint64))
    assert trained.metrics == {"rows": 40.0, "log_prob": pytest.approx(log_p.mean(), rel=1e-12)}


def test_validation_reports_rows_log_probability_and_accuracy():
    held = mixed_rows(seed=1, rows=90)
    trained, model = fitted(mixed_rows(), validation=held)
    batch, seeds = held.to_batches()[0], np.zeros(90, np.uint64)
    right = arrays(model.infer(batch, seeds), "y")[0] == arrays(batch, "y")[0]
    assert trained.metrics["validation_rows"] == 90
    assert trained.metrics["validation_log_prob"] == pytest.approx(model.log_prob(batch, seeds).mean())
    assert trained.metrics["validation_accuracy"] == pytest.approx(right.mean())


def test_saving_and_loading_is_bit_identical(tmp_path):
    trained, model = fitted(mixed_rows())
    save_file(dict(trained.tensors), str(tmp_path / "model.safetensors"))
    config = Config.model_validate_json(trained.config.model_dump_json())
    again = FAMILY.load(config, Options(), Weights.open(tmp_path / "model.safetensors"))
    assert config == trained.config
    assert again.density.log_prior.tolist() == model.density.log_prior.tolist()
    assert sample(again, np.arange(100)).equals(sample(model, np.arange(100)))


def test_smoothing_and_priors_are_read_never_stored():
    data = mixed_rows()
    a, _ = fitted(data)
    b, _ = fitted(data, alpha=9.0, var_smoothing=0.5, priors="uniform")
    assert all(np.array_equal(a.tensors[name], b.tensors[name]) for name in b.tensors)
    assert {name: array.dtype for name, array in a.tensors.items()} == dict.fromkeys(a.tensors, np.float64)


# ---- what is missing, constant, unseen or far out ----


def test_missing_cells_are_left_out_exactly():
    data = table(categories={"y": LABEL, "k": SIZE}, y=[0, 0, 0, 1, 1], k=[0, None, 1, 1, None], x=[1.0, None, 3, 5, 6])
    trained, _ = fitted(data)
    assert trained.tensors["gaussian.n"].tolist() == [[2], [2]]
    assert trained.tensors["gaussian.mean"].tolist() == [[2], [5.5]]
    assert trained.tensors["categorical.n"].tolist() == [[1, 1, 0], [0, 1, 0]]


def test_rows_without_a_label_are_skipped_and_counted():
    kinds = {"y": LABEL}
    trained, _ = fitted(table(categories=kinds, y=[0, None, 1, None, 1], x=[1.0, 99.0, 2.0, 99.0, 4.0]))
    without, _ = fitted(table(categories=kinds, y=[0, 1, 1], x=[1.0, 2.0, 4.0]))
    assert trained.metrics == {**without.metrics, "rows_without_label": 2}
    assert all(np.array_equal(trained.tensors[name], without.tensors[name]) for name in without.tensors)


def test_a_class_without_any_value_of_a_column_takes_the_column_of_all_classes():
    data = table(
        categories={"y": LABEL, "k": SIZE}, y=[0, 0, 0, 1], k=[0, 0, 1, None], x=[1.0, 2.0, 6.0, None], z=[1.0, 2, 3, 4]
    )
    _, model = fitted(data, var_smoothing=0)
    assert model.density.mean[1, 0] == pytest.approx(3)
    assert model.density.sd[1, 0] ** 2 == pytest.approx(14 / 3)
    np.testing.assert_allclose(np.exp(model.density.log_levels[1, :2]), [0.5, 0.5])


@pytest.mark.parametrize("value", [0.1, 0.0, -7.3e-13, 1e6 / 3, 4e140])
@pytest.mark.parametrize("var_smoothing", [0, 1e-9])
def test_a_constant_column_is_drawn_as_its_constant_and_scored_finitely(value, var_smoothing):
    rows = 9000  # more than one chunk
    data = table(categories={"y": LABEL}, y=[0, 1, 1] * (rows // 3), x=[value] * rows, z=np.arange(rows) * 1.0)
    trained, model = fitted(data, var_smoothing=var_smoothing)
    assert set(arrays(sample(model, np.arange(500)), "x")[0]) == {value}
    assert math.isfinite(trained.metrics["log_prob"])
    odd = batch_of(model, [{"x": value}, {"x": value + 1}, {"x": -1e308}, {"y": 0, "x": 5.0}])
    assert np.isfinite(model.log_prob(odd, np.zeros(4, np.uint64))).all()
    np.testing.assert_allclose(arrays(model.infer(odd, np.zeros(4, np.uint64)), "p(no)")[0], 1 / 3)


@pytest.mark.parametrize("var_smoothing", [0, 1e-9])
def test_one_class_and_one_row_of_a_class_are_ordinary(var_smoothing):
    single = table(categories={"y": ("only",), "k": SIZE}, y=[0], k=[1], x=[2.5])
    several = table(categories={"y": LABEL, "k": SIZE}, y=[0, 1, 1], k=[1, 0, 0], x=[2.5, 3.0, 4.0])
    for data in (single, several):
        trained, model = fitted(data, var_smoothing=var_smoothing)
        batch = sample(model, np.arange(50))
        assert np.isfinite(model.log_prob(batch, np.zeros(50, np.uint64))).all()
        assert math.isfinite(trained.metrics["log_prob"])
        assert not any(column.null_count for column in model.infer(batch, np.zeros(50, np.uint64)).columns)


def test_a_cell_far_out_leaves_a_posterior_that_is_a_distribution():
    _, model = fitted(mixed_rows())
    odd = batch_of(model, [{"weight": x, "height": z} for x in (1e200, -1.7e308, 1e20) for z in (None, 1e300)])
    probabilities = np.stack(arrays(model.infer(odd, np.zeros(6, np.uint64)), "p(no)", "p(yes)"))
    np.testing.assert_allclose(probabilities.sum(0), 1)
    assert np.isfinite(model.log_prob(odd, np.zeros(6, np.uint64))).all()


def test_an_unseen_category_is_finite_and_leaves_the_seen_ones_as_they_were():
    _, model = fitted(mixed_rows(), alpha=2.0)
    n = model.config.blocks[0][1]
    p = np.exp(model.density.log_levels[:, n])
    np.testing.assert_allclose(p[:, :3].sum(1), 1, rtol=1e-14)
    unseen = batch_of(model, [{"color": 3, "y": 0}, {"color": 3}, {"color": 3, "weight": 6.0}])
    assert np.isfinite(model.log_prob(unseen, np.zeros(3, np.uint64))).all()
    counts = fitted(mixed_rows())[0].tensors["categorical.n"][:, n].sum(1)
    np.testing.assert_allclose(p[:, 3], 2.0 / (counts + 2.0 * 3), rtol=1e-12)
    drawn = sample(model, np.arange(200), color=3)
    assert set(arrays(drawn, "color")[0]) <= {0, 1, 2}


def test_a_class_never_seen_is_impossible_and_cannot_be_asked_for():
    _, model = fitted(mixed_rows())
    unseen = batch_of(model, [{"y": 2, "color": 1}])
    assert model.log_prob(unseen, np.zeros(1, np.uint64))[0] == -np.inf
    with pytest.raises(UsageError, match=r"^y: a value that training did not see; there are: no, yes$"):
        model.propose(np.zeros(1, np.uint64), unseen)


def test_a_listed_class_without_rows_is_never_drawn_but_can_be_given():
    kinds = {"y": ("a", "b", "c"), "k": SIZE}
    held = table(categories=kinds, y=[2, 0, 3, None], k=[0, 1, 1, 0], x=[1.0, 1.0, 2.0, 1.0])
    trained, model = fitted(table(categories=kinds, y=[0, 1, 1], k=[0, 1, 1], x=[1.0, 2.0, 3.0]), validation=held)
    assert set(arrays(sample(model, np.arange(300)), "y")[0]) == {0, 1}
    assert np.isfinite(arrays(sample(model, np.arange(300), y=2), "x")[0]).all()
    assert trained.metrics["validation_rows"] == 1  # rows of an impossible, unseen or missing class have no truth


def test_without_a_label_there_is_one_nameless_class():
    data = table(label=None, categories={"k": SIZE}, x=[1.0, 2.0, 3.0, None], k=[0, 1, 1, 1])
    trained, model = fitted(data)
    batch = sample(model, np.arange(20))
    assert batch.schema.names == ["x", "k"]
    assert [c.name for c in conditions(trained.config)] == ["x", "k"]
    assert model.infer(batch, np.zeros(20, np.uint64)).num_rows == 20
    assert math.exp(model.log_prob(batch_of(model, [{"k": 1}]), np.zeros(1, np.uint64))[0]) == pytest.approx(4 / 6)


def test_a_label_alone_is_a_model_of_the_label():
    trained, model = fitted(table(categories={"y": LABEL}, y=[0, 1, 1, 1]))
    assert list(trained.tensors) == ["class.n"]
    assert abs(arrays(sample(model, np.arange(10_000)), "y")[0].mean() - 0.75) < 5 * math.sqrt(0.1875 / 10_000)


def test_dates_and_integers_are_numbers_of_the_model():
    days = pa.array([1, 2, 3], pa.date32())
    _, model = fitted(table(categories={"y": LABEL}, y=[0, 1, 1], day=days, count=[4, 5, 6]))
    assert model.config.gaussian == ["day", "count"]
    np.testing.assert_allclose(model.density.mean, [[1, 4], [2.5, 5.5]])


# ---- refusals ----


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"y": [0, 1], "x": pa.array([None, None], pa.float64())}, "column x has no value in the training rows: "),
        ({"y": [0, 1], "k": [None, None]}, "column k has no value in the training rows: leave it out with --drop k"),
        ({"y": [None, None], "x": [1.0, 2.0]}, "no training row has a label in column y"),
        ({"y": [], "x": pa.array([], pa.float64())}, "there are no training rows"),
        ({"y": [0, 1], "t": ["a", "b"]}, "column t holds string, neither numbers nor codes of categories: add "),
        ({"y": [0, 1], "x": [1e300, -1e300]}, "column x holds infinity, or numbers whose squares overflow: "),
        ({"y": [0, 1], "x": [1.0, math.inf]}, "column x holds infinity, or numbers whose squares overflow: "),
        ({"y": [0, 1], "x": [2**53 + 1, 1]}, "column x holds whole numbers beyond 2^53"),
    ],
)
def test_training_refuses_what_it_cannot_use_by_name(values, message):
    with pytest.raises(DataError) as caught:
        fitted(table(categories={"y": LABEL, "k": SIZE}, **values))
    assert str(caught.value).startswith(message)


def test_training_refuses_a_label_that_is_not_coded_and_another_part():
    with pytest.raises(DataError, match=r"^column y holds int64, neither numbers nor codes"):
        fitted(table(y=[0, 1], x=[1.0, 2.0]))
    source = Source.of(mixed_rows(), "test")
    with pytest.raises(UsageError, match="fitted on the part train, and this is the part test"):
        FAMILY.fit(Config(), Options(), source, None, seed=0, folder=Path("unused"), report=print)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"alpha": "0"}, "--set alpha=0: input should be greater than 0"),
        ({"var_smoothing": "-1"}, "--set var_smoothing=-1: input should be greater than or equal to 0"),
        ({"priors": "[0.5,0.6]"}, "--set priors=[0.5,0.6]: the probabilities of the classes must be above 0 and sum"),
        ({"priors": "[1,0]"}, "--set priors=[1,0]: the probabilities of the classes must be above 0 and sum to 1"),
        ({"priors": "equal"}, "--set priors=equal: input should be 'empirical' or 'uniform'"),
        ({"columns": "[]"}, "--set columns=[]: there is no columns"),
    ],
)
def test_settings_are_refused_with_the_reason(knobs, message):
    with pytest.raises(UsageError) as caught:
        build(Config, knobs, "--set ")
    assert str(caught.value).startswith(message)


def test_priors_must_fit_the_classes():
    with pytest.raises(UsageError, match=r"^priors: 3 numbers for 2 classes \(no, yes\)$"):
        fitted(mixed_rows(), priors=[0.2, 0.3, 0.5])


def test_weights_that_do_not_fit_the_config_are_refused_with_all_differences(tmp_path):
    trained, _ = fitted(mixed_rows())
    wrong = {**trained.tensors, "class.n": np.zeros(3), "gaussian.mean": np.zeros((2, 2), np.float32)}
    del wrong["categorical.n"]
    save_file(wrong, str(tmp_path / "model.safetensors"))
    with pytest.raises(CheckpointError) as caught:
        FAMILY.load(trained.config, Options(), Weights.open(tmp_path / "model.safetensors"))
    assert all(name in str(caught.value) for name in ("class.n", "gaussian.mean", "categorical.n"))


@pytest.mark.parametrize(("name", "value"), [("gaussian.m2", -1.0), ("class.n", math.nan), ("gaussian.mean", math.inf)])
def test_tensors_that_are_no_statistics_are_refused(name, value):
    trained, _ = fitted(mixed_rows())
    broken = replace(trained, tensors={**trained.tensors, name: np.full_like(trained.tensors[name], value)})
    with pytest.raises(
        CheckpointError, match=rf"^the tensor {name} holds what no count, mean or sum of squares can be$"
    ):
        model_of(broken)


def test_a_model_needs_weights_that_were_trained():
    trained, _ = fitted(mixed_rows())
    with pytest.raises(CheckpointError, match="train one with genreg train nb"):
        FAMILY.load(trained.config, Options(), None)
    with pytest.raises(CheckpointError, match=r"class\.n says that the model was trained on no rows"):
        model_of(replace(trained, tensors={**trained.tensors, "class.n": np.zeros(2)}))


def test_a_config_whose_label_is_no_category_is_refused():
    with pytest.raises(ValueError, match="the label y must be one of the columns, a categorical one"):
        Config.model_validate({"label": "y", "columns": [{"name": "y", "kind": "gaussian"}]})


# ---- the bundled models ----


@pytest.mark.parametrize("model", ["nb-iris", "nb-penguins"])
def test_a_bundled_model_is_what_the_registry_names(model):
    package = Path(genreg_nb.__file__).parent
    entry = yaml.safe_load((package / "registry.yaml").read_text("utf-8"))["models"][model]
    for name, noted_ in entry["files"].items():
        content = (package / model / name).read_bytes()
        assert noted_ == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def test_the_penguins_are_those_of_their_paper():
    held = genreg.load("nb-penguins").checkpoint.weights
    assert held.numpy("class.n").tolist() == [152, 68, 124]  # Adelie, Chinstrap, Gentoo
    assert held.numpy("multinomial.totals").tolist() == [2007, 2008, 2009]
    assert held.numpy("gaussian.n").sum() == 4 * 342  # two birds were not measured
    assert held.numpy("categorical.n").sum() == 344 + 333  # the sex of eleven is not known


def test_the_flowers_are_those_of_the_reference():
    package = Path(genreg_nb.__file__).parent
    weights = Weights.open(package / "nb-iris" / "model.safetensors")
    held = np.load(FIXTURES / "nb_gaussian_iris.npz")
    assert weights.numpy("class.n").tolist() == [50, 50, 50]
    np.testing.assert_allclose(weights.numpy("gaussian.mean"), held["default_theta"], rtol=1e-12)
    var = weights.numpy("gaussian.m2") / weights.numpy("gaussian.n")
    np.testing.assert_allclose(var + held["default_epsilon"], held["default_var"], rtol=1e-9)


# ---- the record ----


def test_the_record_says_what_can_be_given_and_what_comes_out():
    trained, model = fitted(mixed_rows())
    schema = columns(trained.config)
    assert schema.names == ["color", "weight", "y", "size", "height"]
    assert notes(schema.field("y")) == {"values": ["no", "yes"], "role": "label"}
    assert notes(schema.field("color")) == {"values": ["blue", "green", "red"]}
    assert sample(model, np.arange(3)).schema.equals(schema, check_metadata=True)
    given_ = conditions(trained.config)
    assert [c.name for c in given_] == ["label", "color", "weight", "size", "height"]
    assert [c.column for c in given_] == ["y", "color", "weight", "size", "height"]
    assert [str(c.type) for c in given_] == ["int32", "int32", "double", "int32", "double"]
    assert [c.help for c in given_[:3]] == [
        "the class: no, yes", "an observed category: blue, green, red", "an observed number"
    ]  # fmt: skip
    assert isinstance(model, Scoring)
    assert isinstance(model, Inferring)


def test_only_settings_are_options_of_training():
    assert [option.name for option in of_model(Config)] == [
        "alpha", "var_smoothing", "priors", "bernoulli", "multinomial"
    ]  # fmt: skip
    assert all(option.help for option in of_model(Config))


def test_no_rows_are_a_batch_of_the_declared_columns():
    _, model = fitted(mixed_rows())
    batch = sample(model, [])
    assert batch.num_rows == 0
    assert batch.schema.equals(columns(model.config))
    assert len(model.log_prob(batch, np.zeros(0, np.uint64))) == 0
    assert model.infer(batch, np.zeros(0, np.uint64)).num_rows == 0


def test_importing_the_plugin_does_not_import_what_computes():
    code = "import sys, genreg_nb; sys.exit('genreg_nb.model' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
