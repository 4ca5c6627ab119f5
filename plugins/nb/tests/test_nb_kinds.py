"""Bernoulli and multinomial columns, weights, and every kind in one model, against enumeration."""

from __future__ import annotations

import itertools
import math
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nb_tables import FAMILY, LABEL, SIZE, arrays, batch_of, fitted, sample, table
from safetensors.numpy import save_file

from genreg.checkpoint import Weights
from genreg.data import Source, noted
from genreg.errors import CheckpointError, DataError, UsageError
from genreg_nb import Options
from genreg_nb.config import Config, columns, conditions, described
from genreg_nb.counts import Totals, log_factorial
from genreg_nb.densities import log_joint
from genreg_nb.statistics import Statistics, cells, gather, measure, nothing

KINDS = {"bernoulli": ["won"], "multinomial": ["cats", "dogs", "mice"]}
SEEDS = np.zeros(10_000, np.uint64)


def every_kind(seed: int = 0, rows: int = 60) -> pa.Table:
    """A number, a category, a 0 or 1 and three counts, with holes, for two classes."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, rows)

    def holes(values):
        return [None if hole else v for v, hole in zip(values.tolist(), draw.random(rows) < 0.1, strict=True)]

    pets = np.array(
        [draw.multinomial(draw.integers(0, 4), [0.2, 0.3, 0.5] if label else [0.6, 0.3, 0.1]) for label in y]
    )
    return table(
        categories={"y": LABEL, "size": SIZE},
        weight=holes(draw.normal(2.0 * y, 1.5)),
        y=y.tolist(),
        cats=pets[:, 0].tolist(),
        size=holes((draw.random(rows) < 0.3 + 0.4 * y).astype(int)),
        dogs=holes(pets[:, 1]),
        won=holes((draw.random(rows) < 0.7 - 0.4 * y).astype(int)),
        mice=pets[:, 2].tolist(),
    )


# ---- the formulas, written out once more in plain Python ----


def by_hand(data: pa.Table, alpha: float):
    """p(y, a whole row) by the definition, from the rows themselves; weight is left out."""
    rows = data.to_pylist()
    pets = ("cats", "dogs", "mice")
    whole = [r for r in rows if all(r[name] is not None for name in pets)]
    total = lambda r: sum(r[name] for name in pets)  # noqa: E731

    def joint(y, row):
        p = sum(r["y"] == y for r in rows) / len(rows)
        for name in ("size", "won"):
            own = [r[name] for r in rows if r["y"] == y and r[name] is not None]
            p *= (own.count(row[name]) + alpha) / (len(own) + 2 * alpha)
        own, length = [r for r in whole if r["y"] == y], total(row)
        everywhere = sum(total(r) == length for r in whole) / len(whole)
        p *= (sum(total(r) == length for r in own) + alpha * everywhere) / (len(own) + alpha)
        counts = {name: sum(r[name] for r in own) + alpha for name in pets}
        for name in pets:
            p *= (counts[name] / sum(counts.values())) ** row[name] / math.factorial(row[name])
        return p * math.factorial(length)

    return joint


def test_any_subset_of_every_kind_is_conditioned_on_as_enumeration_does():
    data = every_kind()
    _, model = fitted(data, alpha=0.7, **KINDS)
    joint = by_hand(data, 0.7)
    names = ("size", "won", "cats", "dogs", "mice")
    support = [
        dict(zip(names, row, strict=True))
        for row in itertools.product((0, 1), (0, 1), range(4), range(4), range(4))
        if sum(row[2:]) < 4
    ]
    p = np.array([[joint(y, row) for y in (0, 1)] for row in support])
    assert p.sum() == pytest.approx(1, abs=1e-12)
    values = {"size": (None, 1), "won": (None, 0), "cats": (None, 0, 2), "dogs": (None, 1), "mice": (None, 0, 1)}
    observed = [dict(zip(names, row, strict=True)) for row in itertools.product(*values.values())]
    fits = [[all(v is None or row[n] == v for n, v in seen.items()) for row in support] for seen in observed]
    expected = np.array(fits) @ p
    possible = expected.sum(1) > 0  # of totals that training saw
    batch = batch_of(model, observed)
    np.testing.assert_allclose(np.exp(model.log_prob(batch, SEEDS))[possible], expected.sum(1)[possible], rtol=1e-12)
    (yes,) = arrays(model.infer(batch, SEEDS), "p(yes)")
    np.testing.assert_allclose(yes[possible], expected[possible, 1] / expected[possible].sum(1), rtol=1e-11)
    for exact in (True, False):
        rows = cells(model.config, batch)
        own = np.exp(log_joint(model.density, rows, exact=exact))
        np.testing.assert_allclose(own[:, possible], expected.T[:, possible], rtol=1e-12)


@pytest.mark.parametrize(
    "observed", [{}, {"cats": 1}, {"dogs": 0, "won": 1}, {"y": 1, "mice": 1}, {"cats": 2, "dogs": 1}]
)
def test_rows_are_drawn_as_often_as_enumeration_says(observed):
    data, n = every_kind(), 40_000
    _, model = fitted(data, alpha=0.5, **KINDS)
    joint = by_hand(data, 0.5)
    names = ("y", "size", "won", "cats", "dogs", "mice")
    support = [
        row
        for row in itertools.product((0, 1), (0, 1), (0, 1), range(4), range(4), range(4))
        if sum(row[3:]) < 4 and all(row[names.index(name)] == v for name, v in observed.items())
    ]
    p = np.array([joint(row[0], dict(zip(names, row, strict=True))) for row in support])
    p /= p.sum()
    batch = sample(model, np.arange(n), **observed)
    own = [name for name in names if name in observed]
    drawn = np.stack([np.full(n, observed[x]) if x in own else arrays(batch, x)[0] for x in names], 1).astype(int)
    at = {row: i for i, row in enumerate(support)}
    seen = np.bincount([at[tuple(row)] for row in drawn.tolist()], minlength=len(support))
    often = p * n > 5
    chi = ((seen - p * n) ** 2 / (p * n))[often].sum()
    assert chi < often.sum() + 6 * math.sqrt(2 * often.sum())


def test_a_seed_is_a_sample_whatever_the_batch_of_every_kind():
    _, model = fitted(every_kind(), **KINDS)
    seeds = np.random.default_rng(1).integers(0, 2**64, 9000, np.uint64)
    for observed in ({}, {"dogs": 1, "won": 1, "weight": 0.3}):
        whole = sample(model, seeds, **observed)
        for at in (slice(0, 1), slice(8190, 8195), slice(1, 9000, 7)):
            assert sample(model, seeds[at], **observed).equals(whole.take(pa.array(np.arange(9000)[at])))


def test_given_counts_come_back_and_their_row_total_was_seen():
    _, model = fitted(every_kind(), **KINDS)
    seeds = np.arange(4, dtype=np.uint64)
    rows = [{"cats": 1, "mice": 0}, {}, {"cats": 1, "dogs": 1, "mice": 1}, {"dogs": 3}]
    made = np.stack(arrays(model.render(model.propose(seeds, batch_of(model, rows))), "cats", "dogs", "mice"), 1)
    assert (made[0, [0, 2]] == [1, 0]).all()
    assert made[2].tolist() == [1, 1, 1]
    assert made[3].tolist() == [0, 3, 0]
    assert (made.sum(1) < 4).all()


def test_counts_above_every_total_are_finite_and_read_as_a_complete_row():
    _, model = fitted(every_kind(), **KINDS)
    seeds = np.arange(50, dtype=np.uint64)
    odd = batch_of(model, [{"cats": 70}, {"cats": 70, "dogs": 0, "mice": 0}, {"cats": 300, "mice": 200}])
    log_p = model.log_prob(odd, SEEDS[:3])
    assert np.isfinite(log_p).all()
    assert log_p[0] == pytest.approx(log_p[1], rel=1e-12)
    made = arrays(sample(model, seeds, cats=70), "cats", "dogs", "mice")
    assert [set(x) for x in made] == [{70}, {0}, {0}]


def test_large_totals_are_shared_out_at_five_sigma():
    draw = np.random.default_rng(0)
    x = draw.multinomial(3000, [0.1, 0.2, 0.7], size=30)
    data = table(label=None, a=x[:, 0], b=x[:, 1], c=x[:, 2])
    _, model = fitted(data, multinomial=["a", "b", "c"])
    made = np.stack(arrays(sample(model, np.arange(400)), "a", "b", "c"), 1)
    assert set(made.sum(1)) == {3000}
    theta = np.exp(model.density.shares.log_theta[0])
    sd = np.sqrt(3000 * theta * (1 - theta) / 400)
    assert (np.abs(made.mean(0) - 3000 * theta) < 5 * sd).all()
    assert made.var(0) == pytest.approx(3000 * theta * (1 - theta), rel=0.4)


def test_a_lone_count_is_drawn_from_the_histogram_of_those_seen():
    data = table(label=None, rings=[3, 3, 3, 8])
    trained, model = fitted(data, multinomial=["rings"])
    made = arrays(sample(model, np.arange(8000)), "rings")[0]
    assert set(made) == {3.0, 8.0}
    assert abs((made == 3).mean() - 0.75) < 5 * math.sqrt(0.1875 / 8000)
    assert trained.metrics["log_prob"] == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25))


def test_log_factorials_are_exact():
    n = np.array([0, 1, 2, 10, 255, 256, 300, 1e4, 1e9])
    np.testing.assert_allclose(log_factorial(n), [math.lgamma(x + 1) for x in n], rtol=1e-15, atol=1e-15)


def test_the_training_metric_is_the_mean_log_probability_of_rows_of_every_kind():
    data = every_kind()
    whole = data.filter(pa.compute.is_valid(data["dogs"]))
    trained, model = fitted(whole, alpha=0.4, **KINDS)
    log_p = model.log_prob(whole.to_batches()[0], SEEDS[: whole.num_rows])
    assert trained.metrics["log_prob"] == pytest.approx(log_p.mean(), rel=1e-12)


def test_scores_by_products_are_those_of_the_plain_formula():
    draw = np.random.default_rng(3)
    y = draw.integers(0, 3, 500)
    numbers = {f"x{j}": draw.normal(10.0**j * y, 10.0 ** (j // 2)) for j in range(6)}
    numbers |= {"near": 1e7 + draw.normal(y, 1e-3), "flat": np.ones(500), "far": 1e6 * y + draw.normal(0, 1e-6, 500)}
    numbers["x0"][::3] = np.nan
    data = table(categories={"y": "abc"}, y=y, **{n: pa.array(x, from_pandas=True) for n, x in numbers.items()})
    _, model = fitted(data)
    rows = cells(model.config, data.slice(0, 200).combine_chunks().to_batches()[0])
    fast, plain = (log_joint(model.density, rows, exact=exact) for exact in (False, True))
    np.testing.assert_allclose(fast, plain, rtol=1e-9, atol=1e-9)


def test_more_columns_than_rows_are_ordinary():
    draw, y = np.random.default_rng(0), np.arange(12) % 2
    words = {f"w{j}": draw.poisson(0.4 + y, 12) for j in range(150)}
    flags = {f"f{j}": draw.integers(0, 2, 12) for j in range(150)}
    numbers = {f"x{j}": draw.normal(y, 1) for j in range(150)}
    data = table(categories={"y": LABEL}, y=y, **words, **flags, **numbers)
    trained, model = fitted(data, bernoulli=["f*"], multinomial=["w*"])
    batch = sample(model, np.arange(30))
    assert batch.num_columns == 451
    assert np.isfinite(model.log_prob(batch, SEEDS[:30])).all()
    assert math.isfinite(trained.metrics["log_prob"])


def test_one_class_of_every_kind_is_ordinary():
    data = every_kind().drop_columns(["y"])
    _, model = fitted(data, **KINDS)
    assert np.isfinite(model.log_prob(sample(model, np.arange(99)), SEEDS[:99])).all()
    single = table(categories={"y": ("only",)}, y=[0], won=[1], cats=[2], dogs=[0])
    _, model = fitted(single, bernoulli=["won"], multinomial=["cats", "dogs"])
    batch = sample(model, np.arange(99))
    assert np.isfinite(model.log_prob(batch, SEEDS[:99])).all()
    assert set(arrays(batch, "cats")[0] + arrays(batch, "dogs")[0]) == {2.0}


# ---- streams, weights and files ----


cell = st.one_of(st.none(), st.integers(0, 3))
row = st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, 0, 1]), cell, cell, st.floats(0, 5))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, max_size=25), cuts=st.lists(st.integers(0, 25), max_size=4))
def test_chunks_of_any_partition_merge_into_the_whole(rows, cuts):
    y, won, cats, dogs, w = zip(*rows, strict=True) if rows else ((),) * 5
    whole_numbers = [pa.array(list(x), pa.int64()) for x in (won, cats, dogs)]
    data = table(categories={"y": "abc"}, y=list(y), **dict(zip(("won", "cats", "dogs"), whole_numbers, strict=True)))
    data = data.append_column(noted(pa.field("w", pa.float64()), role="weight"), pa.array(list(w), pa.float64()))
    config = described(Config(bernoulli=["won"], multinomial=["cats", "dogs"]), data.schema)
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [
        measure(config, cells(config, batch, "w"))
        for start, end in itertools.pairwise(ends)
        for batch in data.slice(start, end - start).to_batches()
    ]
    whole = measure(config, cells(config, data.combine_chunks().to_batches()[0], "w")) if rows else nothing(config)
    for order in (parts, parts[::-1]):
        merged = reduce(Statistics.merge, order, nothing(config))
        for a, b in zip(merged.counted[:2], whole.counted[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        assert (merged.counted.totals.values == whole.counted.totals.values).all()
        np.testing.assert_allclose(merged.counted.totals.n, whole.counted.totals.n, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(merged.levels, whole.levels, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(merged.classes, whole.classes, rtol=1e-12, atol=1e-12)


def test_totals_merge_by_value():
    a, b = (
        Totals(np.array([1.0, 4]), np.array([[2.0, 0], [1, 3]])),
        Totals(np.array([0.0, 4]), np.array([[1.0, 1], [0, 2]])),
    )
    merged = a.merge(b)
    assert merged.values.tolist() == [0, 1, 4]
    assert merged.n.tolist() == [[1, 2, 1], [0, 1, 5]]


def weighted(data: pa.Table, weights) -> pa.Table:
    return data.append_column(noted(pa.field("w", pa.float64()), role="weight"), pa.array(weights, pa.float64()))


def test_a_row_of_weight_two_is_two_rows_in_every_kind():
    data, weights = every_kind(), np.arange(60) % 3
    twice, model = fitted(weighted(data, weights), **KINDS)
    plain, expected = fitted(data.take(np.repeat(np.arange(60), weights)), **KINDS)
    assert columns(twice.config).equals(columns(plain.config))
    for name, array in plain.tensors.items():
        np.testing.assert_allclose(twice.tensors[name], array, rtol=1e-12, atol=1e-12, err_msg=name)
    assert twice.metrics == {"rows": 60, "weight": 60.0, "log_prob": pytest.approx(plain.metrics["log_prob"])}
    assert "w" not in [condition.name for condition in conditions(twice.config)]
    discrete = [sample(own, np.arange(20)).drop_columns(["weight"]) for own in (model, expected)]
    assert discrete[0].equals(discrete[1])


def test_small_weights_count_as_shares():
    data = every_kind()
    small, _ = fitted(weighted(data, np.full(60, 1e-3)), alpha=1e-9, **KINDS)
    plain, _ = fitted(data, alpha=1e-6, **KINDS)
    assert small.metrics["log_prob"] == pytest.approx(plain.metrics["log_prob"], rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5], "column w holds -0.5, and a row's weight is a number from 0 on"),
        ([1.0, None], "column w holds a missing cell, and a row's weight is a number from 0 on"),
        ([1.0, math.inf], "column w holds inf, and a row's weight is a number from 0 on"),
        ([0.0, 0.0], "the weights in column w are all 0 in the rows that have a label"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(DataError) as caught:
        fitted(weighted(table(categories={"y": LABEL}, y=[0, 1], x=[1.0, 2.0]), weights))
    assert str(caught.value) == message


def test_saving_and_loading_every_kind_is_bit_identical(tmp_path):
    trained, model = fitted(every_kind(), **KINDS)
    save_file(dict(trained.tensors), str(tmp_path / "model.safetensors"))
    config = Config.model_validate_json(trained.config.model_dump_json())
    again = FAMILY.load(config, Options(), Weights.open(tmp_path / "model.safetensors"))
    assert sample(again, np.arange(200), dogs=1).equals(sample(model, np.arange(200), dogs=1))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("multinomial.totals", lambda x: x[::-1].copy(), "multinomial.totals must hold whole numbers, ascending"),
        ("multinomial.totals", lambda x: x + 0.5, "multinomial.totals must hold whole numbers, ascending"),
        ("multinomial.n", lambda x: -x - 1, "the tensor multinomial.n holds what no count"),
        ("categorical.n", lambda x: x - 100, "the tensor categorical.n holds what no count"),
    ],
)
def test_tensors_that_are_no_counts_are_refused(tmp_path, name, change, message):
    trained, _ = fitted(every_kind(), **KINDS)
    save_file({**trained.tensors, name: change(trained.tensors[name])}, str(tmp_path / "model.safetensors"))
    with pytest.raises(CheckpointError, match=message):
        FAMILY.load(trained.config, Options(), Weights.open(tmp_path / "model.safetensors"))


def test_a_checkpoint_without_its_totals_is_refused(tmp_path):
    trained, _ = fitted(every_kind(), **KINDS)
    save_file({n: x for n, x in trained.tensors.items() if n != "multinomial.totals"}, str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match=r"multinomial\.totals is missing"):
        FAMILY.load(trained.config, Options(), Weights.open(tmp_path / "w.safetensors"))


# ---- which column is of which kind ----


def test_a_star_names_columns_and_an_exact_name_is_itself():
    data = table(label=None, **{"a1": [0, 1], "a2": [1, 1], "b*": [3, 1], "b2": [1.0, 2.0]})
    config = described(Config(bernoulli=["a*"], multinomial=["b*"]), data.schema)
    assert [column.kind for column in config.columns] == ["bernoulli", "bernoulli", "multinomial", "multinomial"]


def test_yes_and_no_that_are_no_category_are_bernoulli():
    data = table(categories={"y": LABEL}, y=[0, 1, 1], b=pa.array([True, None, False]))
    _, model = fitted(data)
    assert [column.kind for column in model.config.columns] == ["categorical", "bernoulli"]
    assert set(arrays(sample(model, np.arange(50)), "b")[0]) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"bernoulli": ["wun"]}, "bernoulli: the data has no column wun"),
        ({"multinomial": ["z*"]}, "multinomial: the data has no column z*"),
        (
            {"bernoulli": ["won"], "multinomial": ["w*"]},
            "column won is named by bernoulli and by multinomial: it has one",
        ),
        ({"bernoulli": ["size"]}, "bernoulli: column size holds categories (big, small), not numbers: leave it out of"),
        (
            {"multinomial": ["size"]},
            "multinomial: column size holds categories (big, small), not numbers: leave it out",
        ),
        ({"bernoulli": ["y"]}, "bernoulli: the data has no column y"),
    ],
)
def test_columns_are_named_rightly_or_refused(settings_, message):
    with pytest.raises(UsageError) as caught:
        fitted(every_kind(), **settings_)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "settings_", "message"),
    [
        ({"b": [0, 2]}, {"bernoulli": ["b"]}, "column b holds 2, and a Bernoulli column holds 0 and 1"),
        ({"b": [0.0, 0.5]}, {"bernoulli": ["b"]}, "column b holds 0.5, and a Bernoulli column holds 0 and 1"),
        (
            {"n": [3, -1]},
            {"multinomial": ["n"]},
            "column n holds -1, and a multinomial column holds counts: 0, 1, 2, …",
        ),
        (
            {"n": [3, 1.5]},
            {"multinomial": ["n"]},
            "column n holds 1.5, and a multinomial column holds counts: 0, 1, 2, …",
        ),
        ({"n": [3, math.inf]}, {"multinomial": ["n"]}, "column n holds inf, and a multinomial column holds counts"),
        (
            {"n": [3, None], "m": [None, 2]},
            {"multinomial": ["n", "m"]},
            "no training row has all the counts n, m: fill ",
        ),
        ({"b": pa.array([None, None], pa.int64())}, {"bernoulli": ["b"]}, "column b has no value in the training rows"),
        ({"t": ["a", "b"]}, {"multinomial": ["t"]}, "column t holds string, neither numbers nor codes of categories"),
    ],
)
def test_cells_that_are_not_of_their_kind_are_refused_by_name(values, settings_, message):
    with pytest.raises(DataError) as caught:
        fitted(table(categories={"y": LABEL}, y=[0, 1], **values), **settings_)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("cells_", [{"won": 0.4}, {"cats": -1}, {"mice": 0.5}])
def test_conditions_that_are_not_of_their_kind_are_refused_by_name(cells_):
    _, model = fitted(every_kind(), **KINDS)
    for ask in (lambda: sample(model, [0], **cells_), lambda: model.log_prob(batch_of(model, [cells_]), SEEDS[:1])):
        with pytest.raises(DataError, match=f"column {next(iter(cells_))} holds "):
            ask()


@pytest.mark.parametrize("name", ["x", "k", "b", "n"])
def test_a_class_that_has_no_cell_of_one_column_takes_what_all_classes_say(name):
    whole = {"x": [1.0, 2.0, 6.0, 4.0], "k": [0, 0, 1, 1], "b": [0, 0, 1, 1], "n": [2, 2, 5, 5]}
    values = {**whole, name: [*whole[name][:3], None]}
    data = table(categories={"y": LABEL, "k": SIZE}, y=[0, 0, 0, 1], **values)
    trained, model = fitted(data, bernoulli=["b"], multinomial=["n"])
    assert math.isfinite(trained.metrics["log_prob"])
    assert np.isfinite(arrays(sample(model, np.arange(50), y=1), name)[0]).all()


def test_a_class_that_loses_all_its_rows_to_missing_values_is_refused():
    data = table(
        categories={"y": LABEL, "k": SIZE},
        y=[0, 0, 1, 1],
        x=[1.0, 2.0, None, None],
        k=[0, 1, None, None],
        n=[2, 3, None, 1],
        m=[2, 3, 2, None],
    )
    message = "class yes has no value in any column, for all its rows are missing: fill them with --preprocess fillna"
    with pytest.raises(DataError, match=message):
        fitted(data, multinomial=["n", "m"])


def test_more_totals_than_counts_can_have_are_refused(monkeypatch):
    monkeypatch.setattr("genreg_nb.statistics.MOST_TOTALS", 10)
    data = table(label=None, n=list(range(12)), m=[0] * 12)
    config = described(Config(multinomial=["n", "m"]), data.schema)
    with pytest.raises(DataError, match=r"the rows of n, m have more than 10 different totals: are they counts\?"):
        gather(config, Source.of(data, "train"), lambda *_, **__: None)
