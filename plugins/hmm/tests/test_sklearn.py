"""hmmlearn's surface, against the reference values that hmmlearn itself agrees with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genreg_hmm.sklearn import CategoricalHMM, GaussianHMM, PoissonHMM

FIXTURES = Path(__file__).parent / "fixtures"


def gaussian(held, **more) -> GaussianHMM:
    model = GaussianHMM(3, init_params="", **more)
    model.startprob_, model.transmat_, model.means_ = held["startprob"], held["transmat"], held["means"]
    model.covars_ = held["covars"]
    return model


def test_scores_paths_and_posteriors_are_the_references():
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    model, x, lengths = gaussian(held), held["X"], held["lengths"]
    assert model.score(x, lengths) == pytest.approx(float(held["loglik"]), abs=1e-9)
    log_p, posteriors = model.score_samples(x, lengths)
    assert log_p == model.score(x, lengths)
    np.testing.assert_allclose(posteriors, held["posteriors"], atol=1e-9)
    log_p, path = model.decode(x, lengths)
    assert log_p == pytest.approx(float(held["viterbi_logprob"]), abs=1e-9)
    assert path.tolist() == held["viterbi_path"].tolist()
    assert model.decode(x, lengths, "map")[1].tolist() == held["map_path"].tolist()


def test_fit_is_hmmlearns_default_em():
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    model = gaussian(held, n_iter=5, tol=-np.inf).fit(held["X"], held["lengths"])
    np.testing.assert_allclose(model.means_, held["hmmlearn_default_em5_means"], atol=1e-9)
    np.testing.assert_allclose(model.transmat_, held["hmmlearn_default_em5_transmat"], atol=1e-9)
    np.testing.assert_allclose([np.diag(c) for c in model.covars_], held["hmmlearn_default_em5_covars"], atol=1e-9)
    assert len(model.monitor_.history) == 5


@pytest.mark.parametrize("covariance", ["spherical", "diag", "full", "tied"])
def test_a_sample_is_learned_from_again(covariance):
    true = GaussianHMM(2, covariance)
    true.startprob_, true.transmat_ = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])
    true.means_ = np.array([[0.0, 0.0], [6.0, 6.0]])
    true.n_features = 2
    true.covars_ = {"spherical": [1, 1], "diag": np.ones((2, 2)), "full": [np.eye(2)] * 2, "tied": np.eye(2)}[
        covariance
    ]
    x, states = true.sample(3000, random_state=1)
    model = GaussianHMM(2, covariance, n_iter=50, random_state=0).fit(x, [1000, 2000])
    order = model.means_[:, 0].argsort()
    np.testing.assert_allclose(model.means_[order], true.means_, atol=0.2)
    assert (order.argsort()[model.predict(x)] == states).mean() > 0.99
    assert model.bic(x) > model.aic(x)
    np.testing.assert_allclose(true.get_stationary_distribution(), [2 / 3, 1 / 3])


def test_symbols_and_counts():
    held = np.load(FIXTURES / "hmm_categorical.npz")
    model = CategoricalHMM(3, init_params="", n_iter=5, tol=-np.inf)
    model.startprob_, model.transmat_, model.emissionprob_ = held["startprob"], held["transmat"], held["emissionprob"]
    x = held["x"].reshape(-1, 1)
    assert model.score(x, held["lengths"]) == pytest.approx(float(held["loglik"]), abs=1e-9)
    model.fit(x, held["lengths"])
    np.testing.assert_allclose(model.emissionprob_, held["em5_emissionprob"], atol=1e-9)
    counts = np.random.default_rng(0).poisson([[2.0]] * 300 + [[20.0]] * 300)
    fitted = PoissonHMM(2, n_iter=50, random_state=1).fit(counts)
    np.testing.assert_allclose(np.sort(fitted.lambdas_[:, 0]), [2, 20], rtol=0.1)
    assert fitted.sample(10, random_state=0)[0].shape == (10, 1)


def test_letters_freeze_and_keep():
    held = np.load(FIXTURES / "hmm_gauss_diag.npz")
    model = gaussian(held, params="st", n_iter=3).fit(held["X"], held["lengths"])
    np.testing.assert_array_equal(model.means_, held["means"])
    assert not np.array_equal(model.transmat_, held["transmat"])


def test_parameters_are_set_and_read():
    model = GaussianHMM(2, "full", n_iter=7)
    assert model.get_params()["n_iter"] == 7
    assert model.set_params(n_components=3).n_components == 3
    with pytest.raises(ValueError, match="has no parameter states; there are: algorithm"):
        model.set_params(states=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: setattr(m, "startprob_", np.array([0.5, 0.5, 0.5])),
            "startprob_ holds probabilities, and it must sum",
        ),
        (lambda m: setattr(m, "transmat_", np.eye(2)), r"transmat_ must have the shape \(3, 3\), and has \(2, 2\)"),
        (lambda m: setattr(m, "covars_", -np.ones((3, 3))), "covars must be above 0"),
        (lambda m: m.score(np.zeros(4)), r"X has 1 dimensions.*reshape\(-1, 1\)"),
        (lambda m: m.score(np.zeros((4, 2))), "X has 2 features, and the model has 3"),
        (lambda m: m.score(np.zeros((4, 3)), [1, 2]), "lengths add up to 3, and X has 4 samples"),
        (lambda m: m.score(np.full((4, 3), np.inf)), "X holds infinity; what is missing is NaN"),
        (lambda m: m.decode(np.zeros((4, 3)), algorithm="best"), "algorithm=best: there are viterbi and map"),
        (lambda m: GaussianHMM(2).score(np.zeros((4, 3))), "is not fitted: call fit first"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(change, message):
    model = gaussian(np.load(FIXTURES / "hmm_gauss_diag.npz"))

    def use():
        change(model)
        model.score(np.zeros((4, 3)))

    with pytest.raises(ValueError, match=message):
        use()
