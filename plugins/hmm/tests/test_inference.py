"""Recursions and learning against enumeration, the reference values, and each other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import genreg_hmm.batches as batches_module
from genreg_hmm.batches import buckets
from genreg_hmm.categorical import Categorical
from genreg_hmm.config import Config
from genreg_hmm.decoding import decoded, inferred
from genreg_hmm.emissions import Diagonal, Poisson
from genreg_hmm.gaussian import Full
from genreg_hmm.inference import Chain, block_forward, forward, log_backward, log_forward, viterbi
from genreg_hmm.learning import (
    Parameters,
    e_step,
    evidence_of,
    log_evidence_of,
    log_likelihoods,
    m_step,
    penalty,
    posterior,
)
from genreg_hmm.sequences import Sequences

FIXTURES = Path(__file__).parent / "fixtures"
CASES = json.loads((FIXTURES / "hmm_enumerated.json").read_text("utf-8"))
POSSIBLE = [case for case in CASES if case["loglik"] != "-inf"]
ML = Config(transition_prior=1, emission_prior=1)  # maximum likelihood
TINY = np.finfo(float).tiny


def diagonal(mean, variance, **more) -> Diagonal:
    mean, variance = np.array(mean, float), np.array(variance, float)
    return Diagonal(mean, variance, np.median(mean, 0), np.full(mean.shape[1], TINY), **more)


def of_case(case) -> tuple[Parameters, Sequences]:
    chain = np.array(case["startprob"], float), np.array(case["transmat"], float)
    if case["emission"] == "categorical":
        emission, cells = Categorical(np.array(case["emissionprob"], float), 1e-3), np.array(case["obs"], np.int64)
    else:
        emission = diagonal(case["means"], case["vars"])
        size = emission.mean.shape[1]
        rows = [[None] * size if row is None else row if isinstance(row, list) else [row] for row in case["obs"]]
        cells = np.array([[np.nan if x is None else x for x in row] for row in rows], float)
    return Parameters(*chain, (emission,)), Sequences(np.array([len(cells)]), (cells,))


def prepared(parameters: Parameters, data: Sequences, **knobs):
    return list(buckets(data, parameters.emissions, parameters.states, **knobs))


def random_chain(draw: np.random.Generator, states: int, *, stay: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return draw.dirichlet(np.ones(states)), draw.dirichlet(np.ones(states), states) * (1 - stay) + stay * np.eye(states)


def close(found, expected, tolerance=1e-12):
    expected = np.asarray(expected, float)
    assert np.all(np.abs(np.asarray(found) - expected) <= tolerance * np.maximum(1, np.abs(expected)))


def as_parameters(held, emission: str) -> Parameters:
    if emission == "diagonal":
        return Parameters(held["startprob"], held["transmat"], (diagonal(held["means"], held["covars"]),))
    return Parameters(held["startprob"], held["transmat"], (Categorical(held["emissionprob"], 1e-3),))


# ---- tiny cases, all paths enumerated with 50 digits ----


@pytest.mark.parametrize("case", POSSIBLE, ids=lambda case: case["name"])
def test_likelihood_posteriors_and_transitions_are_those_of_enumeration(case):
    parameters, data = of_case(case)
    (bucket,) = prepared(parameters, data)
    found = e_step(parameters, [bucket], torch.float64)
    close(found.log_likelihood, case["loglik"])
    close(log_likelihoods(parameters, [bucket], 1), [case["loglik"]])
    close(posterior(parameters, bucket)[:, 0], case["posteriors"])
    close(found.transition, case["xi_sum"])
    close(found.mass, np.sum(case["posteriors"], 0))


@pytest.mark.parametrize("case", POSSIBLE, ids=lambda case: case["name"])
def test_viterbi_finds_a_path_of_the_highest_probability(case):
    parameters, data = of_case(case)
    (bucket,) = prepared(parameters, data)
    path, log_p = viterbi(
        parameters.chain(torch.float64), log_evidence_of(parameters, bucket), torch.from_numpy(bucket.lengths)
    )
    close(log_p, [case["viterbi_logprob"]])
    if case["name"] != "three_states":  # two paths are tied there
        assert path[:, 0].tolist() == case["viterbi_path"]
    z, log_b = path[:, 0].tolist(), log_evidence_of(parameters, bucket)[:, 0].numpy()
    steps = [np.log(parameters.transition[a, b]) for a, b in itertools.pairwise(z)]
    close(
        np.log(parameters.start[z[0]]) + sum(steps) + sum(log_b[t, k] for t, k in enumerate(z)), case["viterbi_logprob"]
    )


@pytest.mark.parametrize("case", [c for c in POSSIBLE if "next_symbol_probs" in c], ids=lambda case: case["name"])
def test_what_comes_next_is_that_of_enumeration(case):
    parameters, data = of_case(case)
    config = Config.model_validate(
        {
            "states": parameters.states,
            "columns": [{"name": "x", "kind": "categorical", "values": list(range(case_size(case)))}],
        }
    )
    found = inferred(config, parameters, data)
    close(found.column("next(x)").to_pylist()[0], case["next_symbol_probs"])
    two = np.array(case["posteriors"])[-1] @ np.linalg.matrix_power(parameters.transition, 2)
    close(two @ parameters.emissions[0].probability, case["next2_symbol_probs"])


def case_size(case) -> int:
    return len(case["emissionprob"][0])


@pytest.mark.parametrize("case", [c for c in POSSIBLE if "missing_index" in c], ids=lambda case: case["name"])
def test_a_missing_symbol_is_summed_out_exactly(case):
    parameters, data = of_case(case)
    cells = data.parts[0].copy()
    cells[case["missing_index"]] = case_size(case) + 1
    (bucket,) = prepared(parameters, Sequences(data.lengths, (cells,)))
    close(log_likelihoods(parameters, [bucket], 1), [case["loglik_missing"]])
    gamma = posterior(parameters, bucket)[:, 0].numpy()
    close(gamma, case["posteriors_missing"])
    close(gamma[case["missing_index"]] @ parameters.emissions[0].probability, case["infill_symbol_probs"])


@pytest.mark.parametrize("case", [c for c in POSSIBLE if "em1" in c], ids=lambda case: case["name"])
def test_one_em_step_is_the_exact_one(case):
    parameters, data = of_case(case)
    stepped = m_step(parameters, e_step(parameters, prepared(parameters, data), torch.float64), ML)
    close(stepped.start, case["em1"]["startprob"])
    close(stepped.transition, case["em1"]["transmat"])
    close(stepped.emissions[0].probability, case["em1"]["emissionprob"])


def test_impossible_data_have_minus_infinity_and_no_mass():
    parameters, data = of_case(next(case for case in CASES if case["loglik"] == "-inf"))
    held = prepared(parameters, data)
    found = e_step(parameters, held, torch.float64)
    assert log_likelihoods(parameters, held, 1).tolist() == [-np.inf]
    assert found.impossible == 1
    assert not np.any(found.transition)
    stepped = m_step(parameters, found, ML)
    assert all(np.isfinite(tensor).all() for tensor in stepped.tensors().values())


# ---- the reference values ----


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_gaussian_em_agrees_with_the_reference(dtype, tolerance):
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    parameters = as_parameters(held, "diagonal")
    batches = prepared(parameters, Sequences(held["lengths"], (held["X"],)), dtype=dtype)
    np.testing.assert_allclose(
        log_likelihoods(parameters, batches, 4, dtype), held["loglik_per_seq"], atol=tolerance, rtol=0
    )
    for step in range(5):
        found = e_step(parameters, batches, dtype)
        assert found.log_likelihood == pytest.approx(held["em5_history"][step], abs=tolerance)
        parameters = m_step(parameters, found, ML)
        if step in (0, 4):
            for name, own in (
                ("startprob", parameters.start), ("transmat", parameters.transition),
                ("means", parameters.emissions[0].mean), ("covars", parameters.emissions[0].variance),
            ):  # fmt: skip
                np.testing.assert_allclose(own, held[f"em{step + 1}_{name}"], atol=tolerance, rtol=0)


def test_paths_and_posteriors_agree_with_the_reference():
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    parameters = as_parameters(held, "diagonal")
    config = Config.model_validate({"states": 3, "columns": [{"name": n, "kind": "gaussian"} for n in "abc"]})
    found = inferred(config, parameters, Sequences(held["lengths"], (held["X"],)))
    flat = {
        name: np.concatenate(found.column(name).to_pylist())
        for name in ("path", "marginal_path", "state_probabilities")
    }
    assert flat["path"].tolist() == held["viterbi_path"].tolist()
    assert flat["marginal_path"].tolist() == held["map_path"].tolist()
    np.testing.assert_allclose(flat["state_probabilities"], held["posteriors"], atol=1e-9)


def test_a_variance_prior_is_hmmlearns_default():
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    parameters = as_parameters(held, "diagonal")
    batches = prepared(parameters, Sequences(held["lengths"], (held["X"],)))
    for _ in range(5):
        parameters = m_step(
            parameters,
            e_step(parameters, batches, torch.float64),
            Config(variance_prior=0.01, transition_prior=1, emission_prior=1),
        )
    np.testing.assert_allclose(parameters.emissions[0].variance, held["hmmlearn_default_em5_covars"], atol=1e-9)
    np.testing.assert_allclose(parameters.transition, held["hmmlearn_default_em5_transmat"], atol=1e-9)


@pytest.mark.parametrize("name", ["hmm_categorical", "hmm_left_right"])
def test_categorical_em_agrees_with_the_reference_and_zeros_stay(name):
    held = np.load(FIXTURES / f"{name}.npz")
    parameters = as_parameters(held, "categorical")
    data = Sequences(held["lengths"], (held["x"].reshape(-1).astype(np.int64),))
    batches = prepared(parameters, data)
    assert log_likelihoods(parameters, batches, 4).sum() == pytest.approx(float(held["loglik"]), abs=1e-9)
    config = Config.model_validate(
        {"states": 3, "columns": [{"name": "x", "kind": "categorical", "values": list(range(5))}]}
    )
    found = inferred(config, parameters, data)
    np.testing.assert_allclose(
        np.concatenate(found.column("state_probabilities").to_pylist()), held["posteriors"], atol=1e-9
    )
    assert np.concatenate(found.column("path").to_pylist()).tolist() == held["viterbi_path"].tolist()
    for step in range(5):
        counted = e_step(parameters, batches, torch.float64)
        assert counted.log_likelihood == pytest.approx(held["em5_history"][step], abs=1e-9)
        parameters = m_step(parameters, counted, ML)
    for key, own in (
        ("startprob", parameters.start), ("transmat", parameters.transition),
        ("emissionprob", parameters.emissions[0].probability),
    ):  # fmt: skip
        np.testing.assert_allclose(own, held[f"em5_{key}"], atol=1e-9, rtol=0)
    assert (parameters.transition[held["transmat"] == 0] == 0).all()
    assert (parameters.start[held["startprob"] == 0] == 0).all()


def test_a_state_that_is_never_reached_keeps_its_parameters_and_disturbs_nobody():
    held = np.load(FIXTURES / "hmm_empty_state.npz")
    emission = diagonal(held["means"].reshape(3, 1), held["vars"].reshape(3, 1))
    parameters = Parameters(held["startprob"], held["transmat"], (emission,))
    batches = prepared(parameters, Sequences(held["lengths"], (held["X"],)))
    for _ in range(5):
        parameters = m_step(parameters, e_step(parameters, batches, torch.float64), ML)
    np.testing.assert_allclose(parameters.emissions[0].mean[:2, 0], held["em5_means2"].reshape(2), atol=1e-9)
    np.testing.assert_allclose(parameters.emissions[0].variance[:2, 0], held["em5_vars2"].reshape(2), atol=1e-9)
    np.testing.assert_allclose(parameters.transition[:2, :2], held["em5_transmat2"], atol=1e-9)
    assert parameters.emissions[0].mean[2, 0] == 1e6
    assert parameters.transition[2].sum() == pytest.approx(1)
    assert np.isfinite(log_likelihoods(parameters, batches, 1)).all()


# ---- forms of the same recursion ----


def some_data(seed: int, lengths, *, holes: float = 0.1) -> tuple[Parameters, Sequences]:
    draw = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    x = draw.normal(size=(lengths.sum(), 2)) * 3
    x[draw.random(x.shape) < holes] = np.nan
    counts = draw.poisson(4.0, (lengths.sum(), 1)).astype(float)
    symbols = draw.integers(0, 4, lengths.sum())
    symbols[draw.random(len(symbols)) < holes] = 5
    emissions = (
        diagonal(draw.normal(size=(3, 2)) * 3, draw.uniform(0.5, 3, (3, 2))),
        Poisson(draw.uniform(1, 9, (3, 1))),
        Categorical(draw.dirichlet(np.ones(4), 3), 1e-3),
    )
    parameters = Parameters(*random_chain(draw, 3), emissions, draw.uniform(0.01, 0.2, 3))
    return parameters, Sequences(lengths, (x, counts, symbols))


def alone(data: Sequences, at: int) -> Sequences:
    a, b = data.offsets[at], data.offsets[at + 1]
    return Sequences(data.lengths[at : at + 1], tuple(part[a:b] for part in data.parts))


def test_a_padded_batch_is_its_sequences_one_by_one():
    parameters, data = some_data(0, [5, 1, 40, 17, 0, 16, 16, 33])
    together = log_likelihoods(parameters, prepared(parameters, data), len(data))
    apart = [log_likelihoods(parameters, prepared(parameters, alone(data, i)), 1)[0] for i in range(len(data))]
    np.testing.assert_allclose(together, apart, rtol=1e-13)
    assert together[4] == 0
    whole = e_step(parameters, prepared(parameters, data), torch.float64)
    each = [
        e_step(parameters, prepared(parameters, alone(data, i)), torch.float64)
        for i in range(len(data))
        if data.lengths[i]
    ]
    np.testing.assert_allclose(whole.transition, sum(one.transition for one in each), rtol=1e-12)
    np.testing.assert_allclose(whole.ends, sum(one.ends for one in each), rtol=1e-12)
    for at in range(3):
        np.testing.assert_allclose(whole.sums[at], sum(one.sums[at] for one in each), rtol=1e-9, atol=1e-12)


def test_padded_paths_are_those_of_the_sequences_one_by_one():
    parameters, data = some_data(13, [5, 1, 40, 17, 39, 16, 16, 33])
    whole = decoded(parameters, data)
    apart = [decoded(parameters, alone(data, i)) for i in range(len(data))]
    assert whole.path.tolist() == np.concatenate([one.path for one in apart]).tolist()
    np.testing.assert_allclose(whole.log_p, [one.log_p[0] for one in apart], rtol=1e-13)
    np.testing.assert_allclose(whole.probability, np.concatenate([one.probability for one in apart]), atol=1e-13)
    np.testing.assert_allclose(whole.ahead, [one.ahead[0] for one in apart], atol=1e-13)


def test_forward_equals_backward_at_every_step():
    parameters, data = some_data(1, [30])
    (bucket,) = prepared(parameters, data)
    log_b, chain = log_evidence_of(parameters, bucket), parameters.chain(torch.float64)
    alpha, beta = (
        log_forward(chain.start.log(), chain.transition.log(), log_b),
        log_backward(chain.transition.log(), log_b),
    )
    log_p = torch.logsumexp(alpha + beta, 2)
    np.testing.assert_allclose(log_p, np.full(log_p.shape, log_likelihoods(parameters, [bucket], 1)[0]), rtol=1e-12)
    gamma = posterior(parameters, bucket)
    np.testing.assert_allclose(gamma.sum(2), 1, rtol=1e-13)
    np.testing.assert_allclose(gamma, (alpha + beta - log_p[..., None]).exp(), atol=1e-12)
    found = e_step(parameters, [bucket], torch.float64)
    assert found.transition.sum() == pytest.approx(29, rel=1e-12)
    np.testing.assert_allclose(found.transition.sum(1), gamma[:-1, 0].sum(0), rtol=1e-12)


@pytest.mark.parametrize("stay", [0.0, 0.9, 0.999])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_long_sequences_in_pieces_are_the_whole(stay, dtype, tolerance):
    parameters, data = some_data(2, [4321, 2000, 3000])
    transition = parameters.transition * (1 - stay) + stay * np.eye(3)
    parameters = Parameters(parameters.start, transition, parameters.emissions, parameters.end)
    (joined,) = prepared(parameters, data, dtype=dtype)
    assert joined.joined
    assert joined.steps == batches_module.PIECE
    whole = e_step(parameters, prepared(parameters, data, cut=False), torch.float64)
    found = e_step(parameters, [joined], dtype)
    assert found.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-6 if dtype == torch.float32 else 1e-11)
    np.testing.assert_allclose(found.transition, whole.transition, rtol=tolerance)
    np.testing.assert_allclose(found.start, whole.start, atol=tolerance)
    np.testing.assert_allclose(found.ends, whole.ends, rtol=tolerance, atol=1e-5)
    np.testing.assert_allclose(found.sums[2], whole.sums[2], rtol=tolerance)


def test_a_chain_that_never_forgets_is_run_step_by_step():
    cycle = np.roll(np.eye(3), 1, axis=1)
    draw = np.random.default_rng(3)
    parameters = Parameters(np.array([0.2, 0.3, 0.5]), cycle, (Categorical(np.full((3, 2), 0.5), 1e-3),))
    data = Sequences(np.array([2500]), (draw.integers(0, 2, 2500),))
    (bucket,) = prepared(parameters, data)
    evidence = evidence_of(parameters, bucket, torch.float64).scaled
    assert block_forward(parameters.chain(torch.float64), evidence, bucket.first) is None
    found = e_step(parameters, [bucket], torch.float64)
    assert found.log_likelihood == pytest.approx(2500 * np.log(0.5), rel=1e-12)
    np.testing.assert_allclose(found.start, [0.2, 0.3, 0.5], atol=1e-9)


def test_an_outlier_in_a_long_sequence_is_exact_too():
    parameters, data = some_data(4, [2500], holes=0)
    parameters = Parameters(
        np.array([1.0, 0, 0]),
        np.triu(np.full((3, 3), 1 / 3)) / np.array([[1], [2 / 3], [1 / 3]]),
        parameters.emissions[:1],
    )
    x = data.parts[0].copy()
    x[1200] = 1e4
    (bucket,) = prepared(parameters, Sequences(data.lengths, (x,)))
    exact = log_forward(
        *(t.log() for t in parameters.chain(torch.float64)),
        log_evidence_of(parameters, bucket.whole(parameters.emissions)),
    )
    assert log_likelihoods(parameters, [bucket], 1)[0] == pytest.approx(float(torch.logsumexp(exact[-1], 1)), rel=1e-12)
    assert np.isfinite(e_step(parameters, [bucket], torch.float64).log_likelihood)


def test_float32_is_within_five_hundredths_of_a_nat_on_20_000_steps():
    parameters, data = some_data(5, [20_000])
    parameters = Parameters(parameters.start, parameters.transition, parameters.emissions)
    exact = log_likelihoods(parameters, prepared(parameters, data), 1)
    single = log_likelihoods(parameters, prepared(parameters, data, dtype=torch.float32), 1, torch.float32)
    assert abs(single - exact) < 0.05


def test_any_scaling_gives_the_same_posterior():
    parameters, data = some_data(6, [50, 50])
    (bucket,) = prepared(parameters, data)
    evidence, chain = evidence_of(parameters, bucket, torch.float64).scaled, parameters.chain(torch.float64)
    first = chain.start.expand(2, 3)
    logs = [forward(first, chain.transition, evidence, every=every).scale.log().sum(0) for every in (1, 3, 4, 50)]
    for other in logs[1:]:
        np.testing.assert_allclose(other, logs[0], rtol=1e-13)


def test_permuting_the_states_permutes_everything():
    parameters, data = some_data(7, [20, 9])
    order = np.array([2, 0, 1])
    d, p, c = parameters.emissions
    turned = Parameters(
        parameters.start[order], parameters.transition[np.ix_(order, order)],
        (diagonal(d.mean[order], d.variance[order]), Poisson(p.rate[order]), Categorical(c.probability[order], 1e-3)),
        parameters.end[order],
    )  # fmt: skip
    a, b = (m_step(one, e_step(one, prepared(one, data), torch.float64), ML) for one in (parameters, turned))
    np.testing.assert_allclose(b.transition, a.transition[np.ix_(order, order)], atol=1e-12)
    np.testing.assert_allclose(b.emissions[0].mean, a.emissions[0].mean[order], atol=1e-12)
    np.testing.assert_allclose(b.end, a.end[order], atol=1e-12)


def test_uniform_transitions_are_a_mixture():
    draw = np.random.default_rng(8)
    weights, emission = draw.dirichlet(np.ones(3)), diagonal(draw.normal(size=(3, 1)), draw.uniform(0.5, 1, (3, 1)))
    x = draw.normal(size=(25, 1))
    parameters = Parameters(weights, np.tile(weights, (3, 1)), (emission,))
    density = (
        weights
        * np.exp(-((x - emission.mean.T) ** 2) / 2 / emission.variance.T)
        / np.sqrt(2 * np.pi * emission.variance.T)
    )
    found = log_likelihoods(parameters, prepared(parameters, Sequences(np.array([25]), (x,))), 1)
    assert found[0] == pytest.approx(np.log(density.sum(1)).sum(), rel=1e-13)


def test_viterbi_equals_the_best_of_all_paths():
    parameters, data = some_data(9, [6])
    (bucket,) = prepared(parameters, data)
    log_b = log_evidence_of(parameters, bucket)[:, 0].numpy()
    best = max(
        (
            np.log(parameters.start[z[0]])
            + sum(np.log(parameters.transition[a, b]) for a, b in itertools.pairwise(z))
            + log_b[range(6), z].sum(),
            z,
        )
        for z in itertools.product(range(3), repeat=6)
    )
    path, log_p = viterbi(
        parameters.chain(torch.float64), log_evidence_of(parameters, bucket), torch.from_numpy(bucket.lengths)
    )
    assert tuple(path[:, 0].tolist()) == best[1]
    assert float(log_p) == pytest.approx(best[0], rel=1e-13)


# ---- EM ----


def objective(parameters, found, config):
    return found.log_likelihood + penalty(parameters, config)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    kind=st.sampled_from(["diag", "spherical", "full", "tied"]), prior=st.sampled_from([1.0, 2.5]),
)  # fmt: skip
def test_em_never_lowers_the_objective(seed, lengths, kind, prior):
    parameters, data = some_data(seed, lengths)
    if kind in ("full", "tied"):
        d = parameters.emissions[0]
        shared = np.diag(d.variance.mean(0)) if kind == "tied" else np.stack([np.diag(v) for v in d.variance])
        emission = Full(d.mean, np.broadcast_to(shared, (3, 2, 2)).copy(), d.shift, np.full(2, 1e-3), kind == "tied")
    else:
        d = parameters.emissions[0]
        emission = Diagonal(
            d.mean,
            d.variance if kind == "diag" else np.broadcast_to(d.variance.mean(1)[:, None], (3, 2)),
            d.shift,
            np.full(2, 1e-3),
            kind == "spherical",
        )
    config = Config(transition_prior=prior, emission_prior=prior)
    parameters = Parameters(
        parameters.start, parameters.transition, (emission, *parameters.emissions[1:]), parameters.end
    )
    batches, last = prepared(parameters, data), -np.inf
    for _ in range(6):
        found = e_step(parameters, batches, torch.float64)
        now = objective(parameters, found, config)
        assert now >= last - 1e-9 * max(1, abs(now))
        last, parameters = now, m_step(parameters, found, config)
    for table in (parameters.start[None], parameters.transition, parameters.emissions[2].probability):
        np.testing.assert_allclose(table.sum(1), 1, rtol=1e-12)


def test_a_full_covariance_with_missing_cells_is_the_marginal_and_its_em_is_exact():
    draw = np.random.default_rng(10)
    root = draw.normal(size=(2, 3, 3))
    covariance = root @ root.swapaxes(1, 2) + np.eye(3)
    emission = Full(draw.normal(size=(2, 3)), covariance, np.zeros(3), np.full(3, 1e-9))
    x = draw.normal(size=(40, 3)) * 2
    x[draw.random(x.shape) < 0.3] = np.nan
    log_p = emission.log_density(torch.from_numpy(emission.prepare(x))).numpy()
    for row, found in zip(x, log_p, strict=True):
        at = np.flatnonzero(~np.isnan(row))
        for k in range(2):
            c, away = covariance[k][np.ix_(at, at)], row[at] - emission.mean[k, at]
            expected = (
                -0.5 * (away @ np.linalg.solve(c, away) + np.linalg.slogdet(2 * np.pi * c)[1]) if len(at) else 0.0
            )
            assert found[k] == pytest.approx(expected, rel=1e-10, abs=1e-10)
    complete = np.where(np.isnan(x), 0.5, x)
    whole = emission.sums(torch.from_numpy(complete), torch.ones(40, 2, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(whole[0, 1:4], complete.sum(0), rtol=1e-12)
    np.testing.assert_allclose(whole[1, 4:].reshape(3, 3), complete.T @ complete, rtol=1e-12)


def test_one_state_is_the_maximum_likelihood_fit_of_independent_steps():
    parameters, data = some_data(11, [60, 40], holes=0)
    d, p, c = parameters.emissions
    one = Parameters(
        np.ones(1),
        np.ones((1, 1)),
        (diagonal(d.mean[:1], d.variance[:1]), Poisson(p.rate[:1]), Categorical(c.probability[:1], 1e-3)),
    )
    fitted = m_step(one, e_step(one, prepared(one, data), torch.float64), ML)
    np.testing.assert_allclose(fitted.emissions[0].mean[0], data.parts[0].mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.emissions[0].variance[0], data.parts[0].var(0), rtol=1e-11)
    np.testing.assert_allclose(fitted.emissions[1].rate[0], data.parts[1].mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        fitted.emissions[2].probability[0], np.bincount(data.parts[2], minlength=4)[:4] / 100, rtol=1e-12
    )


def test_float32_data_with_an_offset_keep_their_digits():
    draw = np.random.default_rng(12)
    x = draw.normal(size=(3000, 1)) + 5 * draw.integers(0, 2, (3000, 1))
    fits = []
    for shift, dtype in ((0.0, torch.float64), (1e6, torch.float32)):
        emission = Diagonal(np.array([[0.5], [4.0]]) + shift, np.ones((2, 1)), x.mean(0) + shift, np.full(1, 1e-9))
        parameters = Parameters(np.full(2, 0.5), np.full((2, 2), 0.5), (emission,))
        batches = prepared(parameters, Sequences(np.array([1500, 1500]), (x + shift,)), dtype=dtype)
        for _ in range(5):
            parameters = m_step(parameters, e_step(parameters, batches, dtype), ML)
        fits.append(parameters.emissions[0])
    np.testing.assert_allclose(fits[1].mean - 1e6, fits[0].mean, atol=1e-4)
    np.testing.assert_allclose(fits[1].variance, fits[0].variance, rtol=1e-4)


def test_chains_are_named_tuples_of_tensors():
    parameters, _ = some_data(0, [1])
    assert isinstance(parameters.chain(torch.float32), Chain)
