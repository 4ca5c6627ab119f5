"""The mathematics of a VAE: likelihoods, divergence, bounds, mixture; against sums, brute force, closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genreg_vae.likelihoods import LIKELIHOODS, bernoulli, discretized_logistic, gaussian
from genreg_vae.mixture import (
    Gaussians,
    Mixture,
    choose_mixture,
    expect,
    fit_class,
    fit_mixture,
    log_density,
    maximize,
)
from genreg_vae.objective import beta_at, importance_bound, kl_to_normal, log_normal, negative_elbo, regularizer
from genreg_vae.quantize import Codebook, perplexity

F64 = torch.float64


def parameters(mean, log_scale) -> torch.Tensor:
    """[1, 2, 1, 1, n] of n locations and log scales."""
    mean, log_scale = torch.broadcast_tensors(torch.as_tensor(mean, dtype=F64), torch.as_tensor(log_scale, dtype=F64))
    return torch.stack([mean, log_scale]).reshape(1, 2, 1, 1, -1)


def values(levels: int) -> torch.Tensor:
    return torch.arange(levels, dtype=F64) / (levels - 1)


# ---- likelihoods ----


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.37, 1.2])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 2.0])
def test_the_bins_of_the_discretized_logistic_sum_to_one(levels, mean, log_scale):
    x = values(levels)[None, None, None]
    for kind in (torch.float32, F64):
        log_p = discretized_logistic(
            x.to(kind), parameters(mean, log_scale).expand(1, 2, 1, 1, levels).to(kind), levels
        )
        assert abs(float(log_p.double().exp().sum()) - 1) < (1e-9 if kind == F64 else 1e-5)


def test_each_bin_is_the_difference_of_the_cumulative_logistic():
    x, mean, scale, levels = values(17), 0.4, math.exp(-2.0), 17
    half = 0.5 / 16
    cdf = lambda at: 1 / (1 + np.exp(-(at - mean) / scale))  # noqa: E731
    low = np.where(x.numpy() < half, 0.0, cdf(x.numpy() - half))
    high = np.where(x.numpy() > 1 - half, 1.0, cdf(x.numpy() + half))
    found = discretized_logistic(x[None, None, None], parameters(mean, -2.0).expand(1, 2, 1, 1, 17), levels)
    np.testing.assert_allclose(found.flatten().exp(), high - low, rtol=1e-9)


@pytest.mark.parametrize("kind", [torch.float32, F64])
@pytest.mark.parametrize("deviations", [0.0, 20.0, 50.0, 500.0])
def test_far_from_the_mean_log_probability_and_gradient_are_finite_and_right(deviations, kind):
    scale, levels = math.exp(-6.0), 256
    x = torch.tensor([0.0, 0.5019607843, 1.0], dtype=kind)[None, None, None]
    for side in (-1, 1):
        p = parameters([0.5 + side * deviations * scale] * 3, -6.0).to(kind).requires_grad_()
        log_p = discretized_logistic(x, p, levels)
        (gradient,) = torch.autograd.grad(log_p.sum(), p)
        assert log_p.isfinite().all()
        assert gradient.isfinite().all()
        if deviations >= 20:  # in the tail: log p = -(distance - half a bin) / s + log(1 - exp(-2 h / s))
            half = 0.5 / 255
            distance = abs(float(x[..., 1]) - float(p.detach()[0, 0, 0, 0, 1]))
            tail = -(distance - half) / scale + math.log(-math.expm1(-2 * half / scale))
            assert float(log_p.detach()[..., 1]) == pytest.approx(tail, rel=1e-3)
            assert abs(float(gradient[0, 0, 0, 0, 1])) == pytest.approx(1 / scale, rel=1e-3)


@pytest.mark.parametrize(("density", "rows"), [(discretized_logistic, 2), (gaussian, 2), (bernoulli, 1)])
def test_gradients_are_those_of_finite_differences(density, rows):
    x = values(17)[None, None, None]
    p = torch.randn(1, rows, 1, 1, 17, dtype=F64, generator=torch.Generator().manual_seed(0)) * 0.5
    assert torch.autograd.gradcheck(lambda q: density(x, q, 17).sum(), p.requires_grad_())


def test_a_normal_per_level_sums_to_about_one_over_many_levels():
    x = values(256)[None, None, None]
    log_p = gaussian(x, parameters(0.5, math.log(0.05)).expand(1, 2, 1, 1, 256), 256)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-6)


def test_bernoulli_is_a_distribution_of_two_values():
    logits = torch.tensor([[[[[-3.0, 0.0, 40.0]]]]], dtype=F64)
    p = sum(bernoulli(torch.full((1, 1, 1, 3), at, dtype=F64), logits, 2).exp() for at in (0.0, 1.0))
    np.testing.assert_allclose(p, 1, atol=1e-12)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_follow_the_likelihood_at_temperature_one_and_its_mean_at_zero(name):
    likelihood, n = LIKELIHOODS[name], 40_000
    mean = 0.4
    first = math.log(mean / (1 - mean)) if name == "bernoulli" else mean
    p = parameters(first, math.log(0.05)).expand(n, 2, 1, 1, 1)[:, : likelihood.parameters]
    u = torch.rand(n, 1, 1, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    cold = likelihood.draw(p, None, torch.zeros(n))
    assert (cold == cold[0]).all()
    assert float(cold[0]) == pytest.approx(mean)
    warm = likelihood.draw(p, u, torch.ones(n, dtype=F64))
    spread = {"logistic": 0.05 * math.pi / math.sqrt(3), "gaussian": 0.05, "bernoulli": math.sqrt(mean * (1 - mean))}[
        name
    ]
    assert float(warm.mean()) == pytest.approx(mean, abs=5 * spread / math.sqrt(n))
    assert float(warm.std()) == pytest.approx(spread, rel=0.03)


# ---- the evidence lower bound ----


def test_the_divergence_is_that_of_monte_carlo():
    mean, log_variance = torch.tensor([[0.7, -1.2, 0.0]], dtype=F64), torch.tensor([[-1.0, 0.5, 0.0]], dtype=F64)
    noise = torch.randn(400_000, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    z = mean + torch.exp(0.5 * log_variance) * noise
    ratio = log_normal(z, mean, log_variance) - log_normal(z, torch.zeros(3), torch.zeros(3))
    error = 5 * float(ratio.std()) / math.sqrt(len(z))
    assert float(kl_to_normal(mean, log_variance).sum()) == pytest.approx(float(ratio.mean()), abs=error)


def test_free_bits_hold_up_latents_that_say_little_and_leave_others():
    kl = torch.tensor([[0.01, 3.0], [0.03, 1.0]])
    assert float(regularizer(kl, 0.0)) == pytest.approx(2.02)
    assert float(regularizer(kl, 0.5)) == pytest.approx(2.5)
    assert float(negative_elbo(torch.tensor([-4.0, -6.0]), kl, beta=2.0)) == pytest.approx(5 + 4.04)


def test_beta_grows_from_zero_over_its_warm_up():
    assert [beta_at(step, 100, 2.0, 0.25) for step in (0, 5, 25, 99)] == [0.0, pytest.approx(0.4), 2.0, 2.0]
    assert beta_at(0, 100, 2.0, 0.0) == 2.0


def test_the_importance_bound_grows_with_samples_to_the_evidence_of_a_linear_gaussian():
    """z ~ N(0, 1), x | z ~ N(2 z, .5^2), so x ~ N(0, 4.25); the proposal is wrong on purpose."""
    x, n = 1.3, 20_000
    evidence = -0.5 * (x * x / 4.25 + math.log(2 * math.pi * 4.25))
    mean, log_variance = torch.tensor([0.5], dtype=F64), torch.tensor([-0.5], dtype=F64)
    bounds = []
    for k in (1, 4, 32, 256):
        noise = torch.randn(k, n, 1, dtype=F64, generator=torch.Generator().manual_seed(k))
        z = mean + torch.exp(0.5 * log_variance) * noise
        likelihood = log_normal(torch.full((1,), x, dtype=F64), 2 * z, torch.full((1,), 2 * math.log(0.5), dtype=F64))
        prior = log_normal(z, torch.zeros(1), torch.zeros(1))
        bounds.append(float(importance_bound(likelihood + prior - log_normal(z, mean, log_variance)).mean()))
    assert bounds == sorted(bounds)
    assert all(bound < evidence + 0.005 for bound in bounds)
    assert bounds[-1] == pytest.approx(evidence, abs=0.02)
    assert bounds[0] < evidence - 0.3


# ---- the mixture ----


def clusters(n: int = 600, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    centers = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 4.0, -1.0]])
    mixing = np.array([[1.0, 0.5, 0.0], [0.0, 0.6, 0.2], [0.0, 0.0, 0.8]])
    return centers[draw.integers(0, 3, n)] + draw.normal(size=(n, 3)) @ mixing


def test_every_step_of_em_raises_the_likelihood():
    z = clusters()
    g = maximize(z, np.eye(3)[np.arange(len(z)) % 3], np.eye(3), floor=1e-9, shrink=0)
    seen = []
    for _ in range(40):
        responsibilities, now = expect(z, g)
        np.testing.assert_allclose(responsibilities.sum(1), 1)
        seen.append(now)
        g = maximize(z, responsibilities, np.eye(3), floor=1e-9, shrink=0)
    assert (np.diff(seen) > -1e-9).all()
    assert seen[-1] > seen[0] + 0.5


def test_the_density_is_that_of_scipy():
    from scipy.stats import multivariate_normal

    g = fit_class(clusters(), 3, np.eye(3), seed=0)
    z = clusters(50, seed=1)
    by_hand = sum(
        np.exp(log_weight) * multivariate_normal(mean, factor @ factor.T).pdf(z)
        for log_weight, mean, factor in zip(*g, strict=True)
    )
    np.testing.assert_allclose(log_density(z, g), np.log(by_hand))


def test_one_component_is_the_mean_and_covariance():
    z = clusters()
    g = fit_class(z, 1, np.eye(3), seed=0, floor=0, shrink=0)
    np.testing.assert_allclose(g.means[0], z.mean(0))
    np.testing.assert_allclose(g.factors[0] @ g.factors[0].T, np.cov(z.T, bias=True))


def test_the_number_of_components_is_that_with_the_best_held_out_density():
    z, y = clusters(2000), np.zeros(2000, np.int64)
    chosen = choose_mixture(z, y, None, 1, components=None, seed=0)
    assert chosen.components == max(chosen.densities, key=chosen.densities.get)
    assert chosen.components > 1
    normal = np.random.default_rng(0).normal(size=(400, 8))
    assert choose_mixture(normal, y[:400], None, 1, components=None, seed=0).components == 1
    assert choose_mixture(normal, y[:400], None, 1, components=2, seed=0).components == 2


def test_draws_have_the_mixture_s_moments_and_do_not_depend_on_the_batch():
    z, y = clusters(), np.arange(600) % 2
    mixture = fit_mixture(z, y, 2, 3, seed=0)
    seeds, labels = np.arange(50_000, dtype=np.uint64), np.ones(50_000, np.int64)
    drawn = mixture.draw(seeds, labels)
    np.testing.assert_allclose(drawn.mean(0), mixture.center(np.array([1]))[0], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(z[y == 1].T), atol=0.25)
    np.testing.assert_array_equal(mixture.draw(seeds[7:8], labels[:1]), drawn[7:8])
    again = Mixture.from_tensors(mixture.tensors())
    np.testing.assert_allclose(again.draw(seeds[:9], labels[:9]), drawn[:9], atol=1e-5)


def test_a_class_with_one_row_and_a_class_with_none_still_have_a_density():
    z, y = clusters(100), np.zeros(100, np.int64)
    y[0] = 1
    mixture = fit_mixture(z, y, 3, 4, seed=0)
    assert np.isfinite(mixture.log_prob(z, np.arange(100) % 3)).all()
    np.testing.assert_allclose(mixture.center(np.array([1]))[0], z[0])


def test_the_standard_mixture_is_the_normal():
    z = np.random.default_rng(0).normal(size=(5, 3))
    found = Mixture.standard(2, 3).log_prob(z, np.array([0, 1, 0, 1, 1]))
    np.testing.assert_allclose(found, -0.5 * (z**2).sum(1) - 1.5 * math.log(2 * math.pi))
    g = Gaussians(np.array([0.0, -np.inf]), np.zeros((2, 3)), np.stack([np.eye(3)] * 2))
    np.testing.assert_allclose(log_density(z, g), found)  # a component of weight 0 is not there


# ---- the codebook ----


def test_the_gradient_of_a_code_goes_straight_to_the_vector():
    book = Codebook(8, 4).eval()
    h = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = book(h)
    weight = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((found.straight * weight).sum(), h, retain_graph=True)
    torch.testing.assert_close(gradient, weight)
    torch.testing.assert_close(found.straight, book.lookup(found.codes))
    distances = ((h[:, :, None] - book.vectors.T[None, :, :, None, None]) ** 2).sum(1)
    assert (found.codes == distances.argmin(1)).all()
    (pull,) = torch.autograd.grad(found.commitment.sum(), h)
    torch.testing.assert_close(pull, 2 * (h - book.lookup(found.codes)))


def test_codes_follow_the_mean_of_what_chose_them():
    torch.manual_seed(0)
    book = Codebook(2, 1)
    book.vectors.copy_(torch.tensor([[0.0], [10.0]]))
    book.total.copy_(book.vectors)
    rows = torch.tensor([[1.0], [2.0], [3.0], [11.0], [13.0]])
    book.follow_(rows, torch.tensor([0, 0, 0, 1, 1]))
    wanted = [(0.98 * 0 + 0.02 * 6) / (0.98 + 0.02 * 3), (0.98 * 10 + 0.02 * 24) / (0.98 + 0.02 * 2)]
    torch.testing.assert_close(book.vectors.flatten(), torch.tensor(wanted))
    for _ in range(600):
        book.follow_(rows, torch.tensor([0, 0, 0, 1, 1]))
    torch.testing.assert_close(book.vectors.flatten(), torch.tensor([2.0, 12.0]), atol=1e-3, rtol=0)


def test_a_code_that_nothing_chooses_begins_anew_at_a_vector():
    torch.manual_seed(0)
    book = Codebook(3, 1)
    rows = torch.tensor([[5.0], [7.0]])
    for _ in range(200):
        book.follow_(rows, torch.cdist(rows, book.vectors).argmin(1))
    assert all(float((book.vectors[:, 0] - at).abs().min()) < 0.5 for at in (5.0, 7.0))
    assert float(perplexity(torch.tensor([0, 1, 2, 3]), 8)) == pytest.approx(4)
