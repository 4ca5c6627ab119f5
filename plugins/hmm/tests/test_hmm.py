"""The family: generation, conditions, training, checkpoints, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from safetensors.numpy import save_file

import genreg
import genreg_hmm
from genreg.checkpoint import Weights
from genreg.cli import main
from genreg.data import Source
from genreg.draft import Inferring, Scoring
from genreg.errors import CheckpointError, DataError, Unsupported, UsageError
from genreg.options import build, of_model
from genreg.samplers import clamp, interpolate, mix, truncate
from genreg_hmm import Options
from genreg_hmm.categorical import Categorical, Knobs, knobbed, pick
from genreg_hmm.config import Config
from genreg_hmm.emissions import Diagonal, Poisson
from genreg_hmm.gaussian import Full
from genreg_hmm.learning import Parameters
from genreg_hmm.model import HiddenMarkov
from genreg_hmm.sampling import draw_paths

PACKAGE = Path(genreg_hmm.__file__).parent


def model_of(
    kinds: str, *, seed: int = 0, states: int = 3, end: bool = False, zeros: bool = False, **config
) -> HiddenMarkov:
    """A random model; one letter a column: g, p, c (symbols a-d), t (text)."""
    draw = np.random.default_rng(seed)
    names = {"g": "gaussian", "p": "poisson", "c": "categorical", "t": "text"}
    columns = [
        {"name": f"{kind}{at}", "kind": names[kind], "values": list("abcd") if kind in "ct" else []}
        for at, kind in enumerate(kinds)
    ]
    whole = Config.model_validate(
        {"states": states, "columns": columns, "length": 12, "steps": 1000, "end": end, **config}
    )
    emissions = []
    for part in whole.parts:
        size = (states, len(part.columns))
        if part.kind == "gaussian":
            mean = draw.normal(size=size) * 3
            if whole.covariance == "full":
                root = draw.normal(size=(states, size[1], size[1]))
                emissions.append(
                    Full(mean, root @ root.swapaxes(1, 2) + np.eye(size[1]), mean[0], np.full(size[1], 1e-9))
                )
            else:
                emissions.append(Diagonal(mean, draw.uniform(0.5, 2, size), mean[0], np.full(size[1], 1e-9)))
        elif part.kind == "poisson":
            emissions.append(Poisson(draw.uniform(1, 9, size)))
        else:
            emissions.append(Categorical(draw.dirichlet(np.ones(4), states), 1e-4))
    start, transition = draw.dirichlet(np.ones(states)), draw.dirichlet(np.ones(states), states)
    if zeros:
        start, transition = np.eye(states)[0], np.triu(transition)
        transition /= transition.sum(1, keepdims=True)
    return HiddenMarkov(
        whole, Parameters(start, transition, tuple(emissions), draw.uniform(0.05, 0.3, states) if end else None)
    )


# ---- one seed, one sample ----


@pytest.mark.parametrize(
    ("kinds", "config", "rows"),
    [
        (
            "g",
            {},
            [{}, {"length": 30}, {"g0": [1.0, None, -2.0]}, {"prefix": [0.5, 0.1]}, {"prefix": [2.0], "length": 9}],
        ),
        (
            "gg",
            {"covariance": "full"},
            [{}, {"g0": [1.0, None, 2.0], "g1": [None, None, 0.3]}, {"g1": [1.0, 2.0], "length": 5}],
        ),
        (
            "cp",
            {"end": True},
            [
                {},
                {"prefix": ["a", "b"]},
                {"c0": ["a", None], "p1": [3, None]},
                {"length": 7, "top_k": 2},
                {"temperature": 0.5},
            ],
        ),
        ("t", {"end": True}, [{}, {"prefix": "ab"}, {"prefix": "ab?"}, {"t0": "abcd"}, {"length": 20, "top_p": 0.5}]),
    ],
)
def test_a_seed_is_a_sample_whatever_the_batch_to_the_last_bit(hmm, kinds, config, rows):
    model = model_of(kinds, **config)
    rows = (rows * 20)[:40]
    seeds = np.arange(100, 140, dtype=np.uint64)
    together = model.render(model.propose(seeds, hmm.given(model, rows))).to_pylist()
    for at in (0, 1, 7, 13, 23, 39):
        alone = model.render(model.propose(seeds[at : at + 1], hmm.given(model, rows[at : at + 1]))).to_pylist()
        assert alone[0] == together[at]
    order = np.random.default_rng(0).permutation(40)
    mixed = model.render(model.propose(seeds[order], hmm.given(model, [rows[i] for i in order]))).to_pylist()
    assert [together[i] for i in order] == mixed


def test_a_longer_sample_begins_as_the_shorter_one(hmm):
    model = model_of("gp")
    short, long = (
        hmm.sample(model, range(20), length=10).to_pylist(),
        hmm.sample(model, range(20), length=50).to_pylist(),
    )
    for a, b in zip(short, long, strict=True):
        assert b["g0"][:10] == a["g0"]
        assert b["p1"][:10] == a["p1"]


# ---- the prior and the posterior ----


def test_paths_have_the_stationary_moments_of_the_chain(hmm):
    model = model_of("g", seed=1)
    p = model.parameters
    values, vectors = np.linalg.eig(p.transition.T)
    s = np.real(vectors[:, np.argmax(np.real(values))])
    s /= s.sum()
    n = 40_000
    path = draw_paths(s, p.transition, np.random.default_rng(0).random((1, n)), np.zeros(1, np.uint64))[0]
    z_matrix = np.linalg.inv(np.eye(3) - p.transition + s)
    for k in range(3):
        f = (np.arange(3) == k) - s[k]
        sd = math.sqrt(s @ (f * (2 * z_matrix @ f - f)))
        assert abs((path == k).mean() - s[k]) < 5 * sd / math.sqrt(n)
    moves = path[1:][path[:-1] == 0]
    for k in range(3):
        share = p.transition[0, k]
        assert abs((moves == k).mean() - share) < 5 * math.sqrt(share * (1 - share) / len(moves))


def test_emissions_have_the_moments_of_their_state():
    draw, n = np.random.default_rng(1), 40_000
    model = model_of("gpc", seed=2)
    states = np.zeros(n, np.int64)
    gaussian, poisson, symbols = model.parameters.emissions
    x = gaussian.draw(states, draw.normal(size=(n, 1)), np.full((n, 1), np.nan), Knobs())[:, 0]
    mean, var = gaussian.mean[0, 0], gaussian.variance[0, 0]
    assert abs(x.mean() - mean) < 5 * math.sqrt(var / n)
    assert abs(x.var() - var) < 5 * var * math.sqrt(2 / n)
    counts = poisson.draw(states, draw.random((n, 1)), np.full((n, 1), np.nan), Knobs())[:, 0]
    rate = poisson.rate[0, 0]
    assert abs(counts.mean() - rate) < 5 * math.sqrt(rate / n)
    assert abs(counts.var() - rate) < 5 * math.sqrt((rate + 2 * rate**2) / n)
    drawn = symbols.draw(states, draw.random(n), np.full(n, symbols.empty), Knobs())
    for symbol, p in enumerate(symbols.probability[0]):
        assert abs((drawn == symbol).mean() - p) < 5 * math.sqrt(p * (1 - p) / n)


def enumerate_paths(model: HiddenMarkov, row: list, length: int, *, ends: bool | None):
    """p(z | what is given) by the definition, over all paths of the length."""
    p, found = model.parameters, {}
    emission = p.emissions[0].probability
    for z in itertools.product(range(p.states), repeat=length):
        weight = p.start[z[0]] * math.prod(p.transition[a, b] for a, b in itertools.pairwise(z))
        weight *= math.prod(emission[k, "abcd".index(x)] for k, x in zip(z, row, strict=False) if x is not None)
        if ends is not None and p.end is not None:
            weight *= math.prod(1 - p.end[k] for k in z[:-1]) * (p.end[z[-1]] if ends else 1.0)
        found[z] = weight
    total = sum(found.values())
    return {z: weight / total for z, weight in found.items()}


@pytest.mark.parametrize(
    ("row", "condition", "length", "end", "ends"),
    [
        (["a", "b"], {"prefix": ["a", "b"], "length": 4}, 4, False, None),
        (["a", None, None, "d"], {"c0": ["a", None, None, "d"]}, 4, False, None),
        ([None, "c", None], {"c0": [None, "c", None]}, 3, True, True),
        (["a"], {"prefix": ["a"], "length": 3}, 3, True, True),
        ([], {"length": 3}, 3, True, True),
    ],
)
def test_paths_are_drawn_from_the_exact_posterior(hmm, row, condition, length, end, ends):
    model, n = model_of("c", seed=3, end=end), 20_000
    draft = model.propose(np.arange(n, dtype=np.uint64), hmm.given(model, [condition] * n))
    assert draft.values.shape == (n, length)
    expected = enumerate_paths(model, row, length, ends=ends)
    found, counts = np.unique(draft.values, axis=0, return_counts=True)
    seen = {tuple(z): count for z, count in zip(found.tolist(), counts.tolist(), strict=True)}
    for z, p in expected.items():
        assert abs(seen.get(z, 0) / n - p) < 5 * math.sqrt(p * (1 - p) / n) + 1e-12


def test_ends_come_where_they_were_learned(hmm):
    model, n = model_of("c", seed=4, end=True), 20_000
    lengths = model.propose(np.arange(n, dtype=np.uint64), hmm.given(model, [{}] * n)).lengths
    p = model.parameters
    alive, expected = p.start, []
    for _ in range(6):
        expected.append(float(alive @ p.end))
        alive = (alive * (1 - p.end)) @ p.transition
    for steps, share in enumerate(expected, 1):
        assert abs((lengths == steps).mean() - share) < 5 * math.sqrt(share * (1 - share) / n)


def test_a_state_that_is_forbidden_never_comes_out():
    uniforms = np.zeros((40, 50))
    uniforms[20:] = np.nextafter(1.0, 0)
    start, transition = (
        np.array([0, 0.3, 0.7, 0]),
        np.array([[0, 1, 0, 0], [0, 0.1, 0.9, 0], [0, 0.3, 0.7, 0], [0.5, 0, 0, 0.5]]),
    )
    for rows in (uniforms, uniforms[19:21]):
        assert set(np.unique(draw_paths(start, transition, rows, np.zeros(len(rows), np.uint64)))) == {1, 2}
    assert pick(np.array([0, 0.2, 0, 0.8, 0]), np.array([0, 0.19, 0.2, np.nextafter(1.0, 0)])).tolist() == [1, 1, 3, 3]


def test_few_rows_and_many_take_the_same_paths():
    model, uniforms = model_of("c", seed=5), np.random.default_rng(0).random((30, 100))
    p, seeds = model.parameters, np.zeros(30, np.uint64)
    many = draw_paths(p.start, p.transition, uniforms, seeds)
    few = np.concatenate([draw_paths(p.start, p.transition, uniforms[i : i + 1], seeds[:1]) for i in range(30)])
    assert (many == few).all()


def test_infilled_readings_are_drawn_from_their_conditional(hmm):
    model, n = model_of("gg", seed=6, states=1, covariance="full"), 5_000
    rows = hmm.sample(model, range(n), g0=[1.5], g1=[None]).column("g1").to_pylist()
    emission = model.parameters.emissions[0]
    c, m = emission.covariance[0], emission.mean[0]
    mean, var = m[1] + c[1, 0] / c[0, 0] * (1.5 - m[0]), c[1, 1] - c[1, 0] ** 2 / c[0, 0]
    x = np.array(rows)[:, 0]
    assert abs(x.mean() - mean) < 5 * math.sqrt(var / n)
    assert abs(x.var() - var) < 5 * var * math.sqrt(2 / n)


# ---- conditions ----


def test_what_is_given_is_kept_and_only_gaps_are_filled(hmm):
    model = model_of("gpct")
    row = {"g0": [1.25, None, 3.0], "p1": [None, 4, None], "c2": ["a", None, "d"], "t3": "abc"}
    (made,) = hmm.sample(model, [7], **row).to_pylist()
    assert all(len(made[name]) == 3 for name in made)
    assert made["t3"] == "abc"
    for name in ("g0", "p1", "c2"):
        assert all(b == a or a is None for a, b in zip(row[name], made[name], strict=True))
        assert None not in made[name]


def test_a_prefix_is_kept_letter_by_letter_and_continued(hmm):
    for prefix in ("ab", "a?b z", ""):
        for text in hmm.sample(model_of("t"), range(5), prefix=prefix, length=20).column(0).to_pylist():
            assert text.startswith(prefix)
            assert len(text) == 20
    assert hmm.sample(model_of("g"), [1], prefix=[0.1, 0.2]).column(0).to_pylist()[0][:2] == [0.1, 0.2]


def test_knobs_act_on_the_emissions():
    p = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    assert knobbed(p, Knobs(temperature=0)).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(knobbed(p, Knobs()) / knobbed(p, Knobs()).sum(), np.exp(p))
    assert (knobbed(p, Knobs(top_k=2)) > 0).tolist() == [True, True, False, False]
    assert (knobbed(p, Knobs(top_p=0.79)) > 0).tolist() == [True, True, False, False]
    assert (knobbed(p, Knobs(top_p=0.81)) > 0).tolist() == [True, True, True, False]
    halved = knobbed(p, Knobs(temperature=0.5))
    np.testing.assert_allclose(halved / halved.sum(), np.exp(2 * p) / np.exp(2 * p).sum())


def test_temperature_zero_takes_the_mean_and_the_likeliest(hmm):
    model = model_of("gpc")
    draft = model.propose(np.arange(4, dtype=np.uint64), hmm.given(model, [{"temperature": 0.0}] * 4))
    made = model.render(draft)
    gaussian, _, symbols = model.parameters.emissions
    for row, (path, cells) in enumerate(zip(draft.values, made.to_pylist(), strict=True)):
        np.testing.assert_allclose(cells["g0"], gaussian.mean[path, 0])
        assert cells["c2"] == ["abcd"[k] for k in symbols.probability[path].argmax(1)], row


def test_clamp_sets_a_state_and_the_other_samplers_say_why_not(hmm):
    model = model_of("c")
    draft = model.propose(np.arange(4, dtype=np.uint64), hmm.given(model, [{}] * 4))
    assert (draft.axes, draft.levels, draft.center) == (("time",), 3, None)
    held = clamp(draft, at=2, value=1)
    assert (held.values[:, 2] == 1).all()
    assert model.render(held).num_rows == 4
    for edit in (truncate, interpolate, lambda d: mix(d, layers="0")):
        with pytest.raises(Unsupported):
            edit(draft)


@pytest.mark.parametrize(
    ("kinds", "row", "message"),
    [
        ("c", {"length": 0}, "length=0: a sample has from 1 to 10,000,000 steps"),
        ("c", {"prefix": ["a", "b"], "length": 1}, "length=1 is shorter than what is given, which has 2 steps"),
        ("c", {"prefix": ["a", "e"]}, "c0: row 1, step 2 is a symbol that training did not see; there are: a, b, c, d"),
        ("c", {"prefix": ["a"], "c0": ["a"]}, "prefix: c0 is given too, and says how it begins: leave one of them out"),
        ("t", {"t0": "ab", "length": 5}, "length: the text t0 is given as a whole; to have it continued"),
        ("c", {"temperature": -1.0}, "temperature=-1: it is 0 or more"),
        ("c", {"top_k": 0}, "top_k=0: it is 1 or more"),
        ("c", {"top_p": 0.0}, "top_p=0: it is above 0, and at most 1"),
        ("g", {"prefix": [math.inf]}, "column g0 has NaN or infinity in its lists, which are not missing values: "),
        ("p", {"prefix": [-1]}, "column p0 has -1, and counts are whole numbers from 0 to 1,000,000,000: "),
        ("cg", {"c0": ["a"], "g1": [1.0, 2.0]}, "row 1: column g1 has 2 steps, and the columns before it have 1: "),
    ],
)
def test_conditions_are_refused_with_the_reason(hmm, kinds, row, message):
    with pytest.raises(UsageError) as caught:
        hmm.sample(model_of(kinds), [0], **row)
    assert str(caught.value).startswith(message)


def test_what_is_impossible_is_refused_and_names_the_seed(hmm):
    model = model_of("c", states=2)
    silent = Categorical(np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]]), 1e-4)
    model = HiddenMarkov(model.config, Parameters(model.parameters.start, model.parameters.transition, (silent,)))
    with pytest.raises(Unsupported, match=r"^seed 5: what is given is impossible under this model"):
        hmm.sample(model, [5], prefix=["a", "c"])


def test_no_rows_are_a_batch_of_the_declared_columns(hmm):
    model = model_of("gpct", end=True)
    batch = hmm.sample(model, [])
    assert batch.num_rows == 0
    assert len(model.log_prob(batch, np.zeros(0, np.uint64))) == 0
    assert model.infer(batch, np.zeros(0, np.uint64)).num_rows == 0


# ---- scores ----


def test_log_prob_sums_out_what_is_null_and_sums_to_one(hmm):
    model = model_of("c", seed=8)
    rows = [{"c0": list(x)} for x in itertools.product("abcd", repeat=3)]
    log_p = model.log_prob(pa.RecordBatch.from_pylist(rows), np.zeros(64, np.uint64))
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-12)
    gap = model.log_prob(pa.RecordBatch.from_pylist([{"c0": ["a", None, "c"]}]), np.zeros(1, np.uint64))
    some = [p for row, p in zip(rows, log_p, strict=True) if row["c0"][0] == "a" and row["c0"][2] == "c"]
    assert math.exp(gap[0]) == pytest.approx(np.exp(some).sum(), rel=1e-12)
    odd = pa.RecordBatch.from_arrays([pa.array([None, [], ["z"]], pa.list_(pa.string()))], names=["c0"])
    assert model.log_prob(odd, np.zeros(3, np.uint64)).tolist() == pytest.approx([0, 0, math.log(1e-4)])


def test_with_a_learned_end_all_sequences_together_have_probability_one():
    model = model_of("c", seed=9, end=True, states=2)
    total = 0.0
    for length in range(1, 7):
        rows = [{"c0": list(x)} for x in itertools.product("abcd", repeat=length)]
        total += np.exp(model.log_prob(pa.RecordBatch.from_pylist(rows), np.zeros(len(rows), np.uint64))).sum()
    p, alive = model.parameters, model.parameters.start
    for _ in range(6):
        alive = (alive * (1 - p.end)) @ p.transition
    assert total == pytest.approx(1 - alive.sum(), rel=1e-12)


def test_infer_gives_paths_probabilities_and_what_comes_next():
    model = model_of("gpc", end=True)
    assert isinstance(model, Scoring)
    assert isinstance(model, Inferring)
    batch = pa.RecordBatch.from_pylist(
        [{"g0": [1.0, 2.0], "p1": [1, 2], "c2": ["a", "b"]}, {"g0": [0.5], "p1": [3], "c2": ["c"]}]
    )
    found = model.infer(batch, np.zeros(2, np.uint64))
    assert found.schema.names == ["path", "marginal_path", "state_probabilities", "next(g0)", "next(p1)", "next(c2)"]
    assert [len(row) for row in found.column("path").to_pylist()] == [2, 1]
    for row in found.column("state_probabilities").to_pylist():
        np.testing.assert_allclose(np.sum(row, 1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.sum(found.column("next(c2)").to_pylist(), 1), 1, rtol=1e-12)


# ---- training ----


def readings(seed: int = 0, rows: int = 40, steps: int = 60) -> pa.Table:
    draw = np.random.default_rng(seed)
    z = np.cumsum(draw.random((rows, steps)) < 0.1, 1) % 2
    x = np.array([0.0, 6.0])[z] + draw.normal(size=z.shape)
    lengths = draw.integers(1, steps + 1, rows)
    return pa.table(
        {
            "x": [
                [None if draw.random() < 0.05 else v for v in row[:n]]
                for row, n in zip(x.tolist(), lengths, strict=True)
            ]
        }
    )


@pytest.mark.parametrize("covariance", ["diag", "spherical", "full", "tied"])
def test_training_finds_what_made_the_data(hmm, covariance):
    trained, model = hmm.fit(readings(), states=2, covariance=covariance)
    emission = model.parameters.emissions[0]
    order = emission.mean[:, 0].argsort()
    np.testing.assert_allclose(emission.mean[order, 0], [0, 6], atol=0.25)
    np.testing.assert_allclose(np.diag(model.parameters.transition), 0.9, atol=0.05)
    assert trained.metrics["log_prob_per_step"] > trained.metrics["first_log_prob_per_step"]
    assert trained.config.states == 2


def test_counts_and_symbols_are_learned_too(hmm):
    draw = np.random.default_rng(1)
    z = np.cumsum(draw.random((50, 40)) < 0.1, 1) % 2
    counts, words = (
        draw.poisson(np.array([2, 15])[z]),
        np.array([["low", "off"], ["high", "off"]])[z, (draw.random(z.shape) < 0.2).astype(int)],
    )
    _, model = hmm.fit(pa.table({"n": counts.tolist(), "w": words.tolist()}), states=2)
    np.testing.assert_allclose(np.sort(model.parameters.emissions[0].rate[:, 0]), [2, 15], rtol=0.1)
    assert model.config.columns[1].values == ["high", "low", "off"]
    assert np.sort(model.parameters.emissions[1].probability[:, 0])[1] == pytest.approx(0.8, abs=0.05)


def test_the_objective_rises_from_step_to_step(hmm):
    figures = []
    hmm.fit(readings(), states=3, tolerance=0, iterations=15, report=lambda done, total=None, /, **f: figures.append(f))
    curve = [f["log_prob_per_step"] for f in figures if f]
    assert len(curve) >= 10
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(curve))


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ({"topology": "left-right"}, lambda i, j: j >= i),
        ({"topology": "left-right", "band": 1}, lambda i, j: i <= j <= i + 1),
        ({"topology": "banded"}, lambda i, j: abs(i - j) <= 1),
        ({"mask": [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]]}, lambda i, j: (j - i) % 4 <= 1),
    ],
)
def test_transitions_that_the_topology_forbids_stay_zero(hmm, config, allowed):
    trained, model = hmm.fit(readings(), states=4, iterations=5, **config)
    for i, j in itertools.product(range(4), repeat=2):
        assert (trained.tensors["transition"][i, j] > 0) == allowed(i, j)
    draft = model.propose(np.arange(50, dtype=np.uint64), hmm.given(model, [{}] * 50))
    assert all(allowed(i, j) for row in draft.values.tolist() for i, j in itertools.pairwise(row))


def test_the_number_of_states_is_chosen_by_held_out_rows_or_bic(hmm):
    for validation, criterion in (
        (readings(1), "held-out"),
        (None, "held-out"),
        (readings(1), "bic"),
        (readings(1), "aic"),
    ):
        trained, model = hmm.fit(readings(), validation, states="1-3", criterion=criterion)
        assert trained.config.states >= 2
        assert model.parameters.states == trained.metrics["states"]
        assert {"score_1", "score_2", "score_3"} <= trained.metrics.keys()
    assert trained.metrics["validation_steps"] > 0


def test_restarts_keep_the_likeliest_and_the_seed_decides_everything(hmm):
    one, _ = hmm.fit(readings(), states=3, start="random", iterations=8)
    many, _ = hmm.fit(readings(), states=3, start="random", iterations=8, restarts=3)
    again, _ = hmm.fit(readings(), states=3, start="random", iterations=8, restarts=3)
    assert many.metrics["log_prob_per_step"] >= one.metrics["log_prob_per_step"]
    assert all(np.array_equal(many.tensors[name], again.tensors[name]) for name in many.tensors)


def test_an_empty_state_is_seeded_again(hmm):
    from genreg_hmm.start import reseeded

    model = model_of("gc")
    again = reseeded(model.parameters, np.array([50.0, 0.0, 30.0]), 1e-3, noise=0.5)
    assert again is not None
    assert again.emissions[0].mean[1, 0] != model.parameters.emissions[0].mean[1, 0]
    np.testing.assert_allclose(again.transition.sum(1), 1)
    assert reseeded(model.parameters, np.ones(3), 1e-3, noise=0.5) is None


def test_data_larger_than_memory_are_read_again_at_each_step(hmm, monkeypatch):
    held, _ = hmm.fit(readings(), states=2, iterations=5)
    monkeypatch.setattr("genreg_hmm.training.HELD", 100)
    monkeypatch.setattr("genreg_hmm.training.ROWS", 1000)
    read, _ = hmm.fit(readings(), states=2, iterations=5)
    for name, tensor in held.tensors.items():
        np.testing.assert_allclose(read.tensors[name], tensor, rtol=1e-9, atol=1e-12)


def test_float32_recursions_agree_with_float64(hmm):
    a, _ = hmm.fit(readings(), states=2, iterations=5)
    b, _ = hmm.fit(readings(), states=2, iterations=5, options=Options(dtype="float32"))
    np.testing.assert_allclose(b.tensors["emission.0.mean"], a.tensors["emission.0.mean"], atol=1e-4)
    assert b.tensors["transition"].dtype == np.float64


def test_one_state_is_the_unigram_model(hmm):
    text = pa.table({"text": ["to be or not to be", "that is the question"] * 3})
    trained, _ = hmm.fit(text, text, states=1, transition_prior=1, emission_prior=1)
    every = "".join(text.column("text").to_pylist())
    entropy = -sum(every.count(c) / len(every) * math.log2(every.count(c) / len(every)) for c in set(every))
    assert trained.metrics["validation_bits_per_step"] == pytest.approx(entropy, rel=1e-12)


def test_constant_columns_and_sequences_of_one_step_and_none_are_ordinary(hmm):
    table = pa.table({"x": [[2.5], [2.5, 2.5], [], None, [2.5] * 9]})
    trained, model = hmm.fit(table, states=2)
    assert trained.metrics["rows_without_steps"] == 2
    assert np.isfinite(trained.metrics["log_prob_per_step"])
    made = hmm.sample(model, range(5), length=4).column("x").to_pylist()
    np.testing.assert_allclose(made, 2.5, rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "config", "message"),
    [
        ({"x": pa.array([[], None], pa.list_(pa.float64()))}, {}, "none of the 2 training rows holds a step"),
        (
            {"x": [[1.0, 2.0], [3.0]]},
            {"states": 4},
            "states=4: there are only 3 steps of training data: ask for fewer states",
        ),
        ({"x": [[1.0, math.nan]]}, {}, "column x has NaN or infinity in its lists, which are not missing"),
        ({"x": [[1.0, math.inf]]}, {}, "column x has NaN or infinity in its lists"),
        ({"x": [[1.0, 2.0]], "y": [[1.0]]}, {}, "row 1: column y has 1 steps, and the columns before it"),
        ({"age": [3], "x": [[1.0]]}, {}, "column age holds int64, and hmm takes sequences: a list"),
        ({"x": [[-1, 2]]}, {}, "column x has -1, and counts are whole numbers from 0 to"),
        ({"x": [[[1.0]]]}, {}, "column x holds lists of list<"),
        (
            {"x": [[1.0]], "y": pa.array([[None]], pa.list_(pa.float64()))},
            {"states": 1},
            "column y has no value in the training rows",
        ),
        ({"t": ["", ""]}, {}, "column t has no symbol in the training rows: leave it out with --drop t"),
        ({"x": [[1e200, 1.0]]}, {"states": 1}, "column x holds numbers whose squares overflow"),
    ],
)
def test_training_refuses_what_it_cannot_use_by_name(hmm, values, config, message):
    with pytest.raises(DataError) as caught:
        hmm.fit(pa.table(values), **config)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"states": "0"}, "--set states=0: write a whole number from 1 to 1024, or a range such as 2-12"),
        ({"states": "5-2"}, "--set states=5-2: write a whole number from 1 to 1024, or a range such as 2-12"),
        ({"states": "many"}, "--set states=many: write a whole number from 1 to 1024, or a range such as 2-12"),
        ({"states": "2", "mask": "[[1,0]]"}, "--set: the mask needs one row and one column per state, and states=2"),
        ({"states": "2", "mask": "[[1,0],[0,0]]"}, "--set: each row of the mask must allow a transition"),
        ({"states": "2", "mask": "[[1,2],[0,1]]"}, "--set: the mask holds 0 and 1"),
        ({"transition_prior": "0.5"}, "--set transition_prior=0.5: input should be greater than or equal to 1"),
        ({"length": "5"}, "--set length=5: there is no length"),
    ],
)
def test_settings_are_refused_with_the_reason(knobs, message):
    with pytest.raises(UsageError) as caught:
        build(Config, knobs, "--set ")
    assert str(caught.value).startswith(message)


def test_training_takes_the_part_train_alone(hmm):
    with pytest.raises(UsageError, match="fitted on the part train, and this is the part test"):
        hmm.family.fit(
            Config(), Options(), Source.of(readings(), "test"), None, seed=0, folder=Path("unused"), report=print
        )


def test_an_unknown_device_is_refused(hmm):
    with pytest.raises(UsageError, match=r"^--option device=tpu: hmm runs on cpu and cuda"):
        hmm.fit(readings(), options=Options(device="tpu"))


# ---- checkpoints ----


def test_saving_and_loading_is_bit_identical(hmm, tmp_path):
    table = readings().append_column(
        "t", [["ab"[i % 2] * len(row) for i, row in enumerate(readings().column(0).to_pylist())]]
    )
    trained, model = hmm.fit(table, states=2, end=True)
    save_file(dict(trained.tensors), str(tmp_path / "model.safetensors"))
    config = Config.model_validate_json(trained.config.model_dump_json())
    again = hmm.family.load(config, Options(), Weights.open(tmp_path / "model.safetensors"))
    assert config == trained.config
    assert hmm.sample(again, range(50)).equals(hmm.sample(model, range(50)))
    batch = hmm.sample(model, range(50))
    assert np.array_equal(again.log_prob(batch, None), model.log_prob(batch, None))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "transition",
            np.array([[0.5, 0.6], [0.5, 0.5]]),
            "the tensor transition holds rows that are no probabilities",
        ),
        ("start", np.array([np.nan, 1.0]), "the tensor start holds NaN or infinity"),
        (
            "emission.0.covariance",
            np.array([np.eye(1), -np.eye(1)]),
            "the tensor emission.0.covariance holds a covariance that",
        ),
    ],
)
def test_tensors_that_are_no_model_are_refused(hmm, name, value, message):
    trained, _ = hmm.fit(readings(), states=2, covariance="full", iterations=1)
    with pytest.raises(CheckpointError) as caught:
        hmm.family.load(trained.config, Options(), hmm.Held({**trained.tensors, name: value}))
    assert str(caught.value).startswith(message)
    with pytest.raises(CheckpointError, match="train one with genreg train hmm"):
        hmm.family.load(trained.config, Options(), None)


# ---- the whole way, and what is bundled ----


def test_from_a_file_to_samples_in_the_form_of_the_data(tmp_path):
    rows = [{"x": [None if v is None else round(v, 1) for v in row]} for row in readings().column(0).to_pylist()]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    genreg.train("hmm", tmp_path / "data.jsonl", out=tmp_path / "model", settings={"states": 2})
    model = genreg.load(tmp_path / "model")
    for row in model.sample(3, seed=1).table.column("x").to_pylist():
        assert all(v == round(v, 1) for v in row)
    filled = model.sample(given=pa.table({"x": [[0.1, None, 6.2], [None, 5.5]]}), seed=1).table.column("x").to_pylist()
    assert filled[0][::2] == [0.1, 6.2]
    assert filled[1][1] == 5.5
    assert filled[0][1] is not None


def test_lists_in_a_pipe_are_json_lines(tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text('{"x": [1.0, 2.0, 3.5]}\n' * 5, "utf-8")
    genreg.train("hmm", tmp_path / "data.jsonl", out=tmp_path / "model", settings={"states": 1}, split="100")
    command = ["run", str(tmp_path / "model"), "--seed", "1", "--given"]
    done = subprocess.run([sys.executable, "-m", "genreg", *command, "length=2"], capture_output=True, check=True)
    assert len(json.loads(done.stdout)["x"]) == 2
    with pytest.raises(SystemExit) as ended:
        main([*command, "temperature=-1"])
    assert (ended.value.code, capsys.readouterr().err) == (2, "genreg: temperature=-1: it is 0 or more\n")


def test_text_of_which_each_row_differs_can_be_trained_on(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i} of many" for i in range(80)), "utf-8")
    record = genreg.train(
        "hmm", tmp_path / "lines.txt", out=tmp_path / "model", settings={"states": 3, "iterations": 3}
    )
    assert record["metrics"]["states"] == 3


def test_the_casino_shows_sixes_from_the_loaded_die():
    model = genreg.load("hmm-casino")
    rows = model.sample(400, seed=0).table.to_pylist()
    rolls, dice = ("".join(row[name] for row in rows) for name in ("rolls", "die"))
    loaded = [a for a, b in zip(rolls, dice, strict=True) if b == "L"]
    assert abs(loaded.count("6") / len(loaded) - 0.5) < 5 * math.sqrt(0.25 / len(loaded))
    likely = model.model.infer(pa.RecordBatch.from_pylist([{"rolls": "6" * 20 + "12345" * 6, "die": None}]), None)
    assert likely.column("path").to_pylist()[0] == [1] * 20 + [0] * 30
    assert model.sample(1, seed=3, prefix="666666").table.to_pylist()[0]["rolls"].startswith("666666")


def test_islands_are_rich_in_cpg():
    rows = genreg.load("hmm-cpg").sample(200, seed=0).table.to_pylist()
    pairs = [
        (a + b, s)
        for row in rows
        for a, b, s in zip(row["sequence"], row["sequence"][1:], row["islands"], strict=False)
    ]
    inside, outside = ([pair for pair, sign in pairs if sign == one] for one in "+-")
    assert inside.count("CG") / len(inside) > 3 * outside.count("CG") / len(outside)


def test_the_text_model_continues_in_the_language_of_the_prefix():
    model = genreg.load("hmm-text")
    english, chinese = (model.sample(5, seed=1, prefix=p).table.column(0).to_pylist() for p in ("To be", "模型"))
    assert all(text.startswith("To be") and text.isascii() for text in english)
    assert all(text.startswith("模型") for text in chinese)
    assert any("。" in text for text in chinese)


@pytest.mark.parametrize("name", ["hmm-casino", "hmm-cpg", "hmm-text"])
def test_the_bundled_files_are_those_that_the_registry_names(name):
    entry = yaml.safe_load((PACKAGE / "registry.yaml").read_text("utf-8"))["models"][name]
    for file, facts in entry["files"].items():
        content = (PACKAGE / name / file).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def test_only_settings_are_options_of_training():
    names = [option.name for option in of_model(Config)]
    assert "columns" not in names
    assert "states" in names
    assert all(option.help for option in of_model(Config))


def test_importing_the_plugin_does_not_import_torch():
    code = "import sys, genreg_hmm; sys.exit('torch' in sys.modules or 'genreg_hmm.model' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- at the size that the fact sheet measured ----


def witten_bell(train: list[str], held: list[str]) -> float:
    """Bits per character of a character bigram, interpolated by Witten and Bell (1991) with the unigram."""
    pairs, singles, alphabet = Counter(), Counter(), set()
    for text in train:
        singles.update(text)
        pairs.update(itertools.pairwise(text))
        alphabet.update(text)
    total, followers = sum(singles.values()), Counter(a for a, _ in pairs)
    starts = Counter()
    for (a, _), n in pairs.items():
        starts[a] += n

    def unigram(b: str) -> float:
        return (singles[b] + len(alphabet) / (len(alphabet) + 1)) / (total + len(alphabet))

    def bigram(a: str, b: str) -> float:
        if not starts[a]:
            return unigram(b)
        return (pairs[a, b] + followers[a] * unigram(b)) / (starts[a] + followers[a])

    bits = sum(-math.log2(unigram(t[0])) - sum(math.log2(bigram(a, b)) for a, b in itertools.pairwise(t)) for t in held)
    return bits / sum(map(len, held))


@pytest.mark.slow
def test_thirty_two_states_beat_the_bigram_on_held_out_text(hmm):
    from pydoc_data.topics import topics  # the reference of Python: text that every Python has

    whole = "".join(topics[name] for name in sorted(topics))
    blocks = [whole[at : at + 1000] for at in range(0, len(whole) - 999, 1000)]
    order = np.random.default_rng(0).permutation(len(blocks))
    held, train = ([blocks[i] for i in part] for part in (order[: len(blocks) // 10], order[len(blocks) // 10 :]))
    trained, _ = hmm.fit(
        pa.table({"text": train}), pa.table({"text": held}), states=32, iterations=150, options=Options(dtype="float32")
    )
    figures = trained.metrics["validation_bits_per_step"], witten_bell(train, held)
    print(f"held-out bits per character: HMM {figures[0]:.3f}, bigram {figures[1]:.3f}")
    assert figures[0] < figures[1]


def test_a_sequence_of_no_steps_is_refused():
    import genreg

    with pytest.raises(genreg.UsageError, match="rolls: row 1 is given as a sequence of no steps: leave it out"):
        genreg.load("hmm-casino").sample(1, given={"rolls": ""})


def test_the_state_graph_is_drawn_as_svg_and_as_png(tmp_path):
    import io
    import xml.etree.ElementTree as ElementTree

    from PIL import Image

    import genreg

    model = genreg.load("hmm-casino").model
    words = [element.text for element in ElementTree.fromstring(model.draw("svg")).iter() if element.text]
    assert {"0", "1", "0.95", "0.05", "0.9", "0.1", "start 0.67"} <= set(words)
    assert any("'6' 0.5" in word for word in words)
    picture = Image.open(io.BytesIO(model.draw("png")))
    assert picture.format == "PNG"
    assert len(set(picture.convert("L").resize((40, 40)).tobytes())) > 3


def test_show_writes_the_drawing_and_refuses_what_has_none(tmp_path):
    from genreg.errors import GenregError
    from genreg.facts import draw_to

    draw_to("hmm-casino", str(tmp_path / "g.svg"))
    assert (tmp_path / "g.svg").read_bytes().startswith(b"<svg")
    for what, output, message in [
        ("hmm-casino", "g.svg", "is there already"),
        ("hmm-casino", "g.pdf", "drawings are .svg or .png"),
        ("nb-iris", "n.png", "nb-iris is of the family nb, which has no drawing"),
    ]:
        with pytest.raises(GenregError, match=message):
            draw_to(what, str(tmp_path / output))
