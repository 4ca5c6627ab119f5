"""genreg_nb.sklearn against scikit-learn, its fixtures, and what scikit-learn gets wrong."""

from __future__ import annotations

import itertools
import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import sklearn.naive_bayes as peer
from nb_tables import FIXTURES
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import genreg_nb.sklearn as own
from genreg_nb.sklearn import BernoulliNB, CategoricalNB, GaussianNB, MixedNB, MultinomialNB, NotFittedError

NAMES = ("GaussianNB", "BernoulliNB", "MultinomialNB", "CategoricalNB")
DRAW = np.random.default_rng(0)
X, Y, WEIGHTS = DRAW.poisson(2.0, (300, 7)), DRAW.choice(["a", "b", "c"], 300), DRAW.integers(0, 4, 300) / 2


# ---- the same numbers ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float32])
def test_attributes_and_probabilities_are_scikit_learns(name, weights, dtype):
    x = X.astype(dtype)
    a, b = (getattr(module, name)().fit(x, Y, weights) for module in (peer, own))
    close = {"rtol": 2e-5 if dtype == np.float32 and name == "GaussianNB" else 1e-10, "atol": 1e-12}
    for attribute in sorted(name for name in vars(a) if name.endswith("_")):
        theirs, ours = getattr(a, attribute), getattr(b, attribute)
        if attribute == "classes_":
            assert (theirs == ours).all()
        else:
            for p, q in zip(theirs, ours, strict=True) if isinstance(theirs, list) else [(theirs, ours)]:
                np.testing.assert_allclose(q, p, **close, err_msg=attribute)
    for method in ("predict_joint_log_proba", "predict_log_proba", "predict_proba"):
        theirs, ours = getattr(a, method)(x), getattr(b, method)(x)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            ours, theirs, rtol=max(close["rtol"], 1e-9), atol=1e-6 if dtype == np.float32 else 1e-10
        )
    assert (a.predict(x) == b.predict(x)).mean() > 0.99
    assert b.score(x, Y) == pytest.approx(a.score(x, Y), abs=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_partial_fit_of_any_pieces_is_fit(name, weights):
    whole = getattr(own, name)().fit(X, Y, weights)
    parts = getattr(own, name)()
    for at in np.array_split(np.arange(300), 7):
        parts.partial_fit(X[at], Y[at], ["c", "a", "b"], None if weights is None else weights[at])
    np.testing.assert_allclose(parts.predict_joint_log_proba(X), whole.predict_joint_log_proba(X), rtol=1e-11)


@pytest.mark.parametrize("case", ["default", "weighted", "priors", "smooth"])
def test_gaussian_iris_is_the_reference(case):
    held = np.load(FIXTURES / "nb_gaussian_iris.npz")
    model = GaussianNB(
        priors=[1 / 6, 2 / 6, 3 / 6] if case == "priors" else None, var_smoothing=1e-3 if case == "smooth" else 1e-9
    )
    model.fit(held["X"], held["y"], held["sample_weight"] if case == "weighted" else None)
    found = {
        "class_log_prior": np.log(model.class_prior_),
        "theta": model.theta_,
        "var": model.var_,
        "epsilon": model.epsilon_,
        "jll_rows": model.predict_joint_log_proba(held["X"][held["rows"]]),
        "proba_rows": model.predict_proba(held["X"][held["rows"]]),
        "accuracy": model.score(held["X"], held["y"]),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, held[f"{case}_{name}"], rtol=1e-9, atol=1e-300, err_msg=name)


def test_partial_fit_with_a_large_floor_is_fit_where_scikit_learns_is_not():
    held = np.load(FIXTURES / "nb_gaussian_iris.npz")
    parts, theirs = GaussianNB(var_smoothing=1e-3), peer.GaussianNB(var_smoothing=1e-3)
    for at in np.array_split(held["chunks_perm"], 3):
        for model in (parts, theirs):
            model.partial_fit(held["X"][at], held["y"][at], [0, 1, 2])
    np.testing.assert_allclose(parts.var_, held["smooth_var"], rtol=1e-9)
    np.testing.assert_allclose(parts.theta_, held["smooth_theta"], rtol=1e-9)
    assert np.abs(theirs.var_ / held["smooth_var"] - 1).max() > 1e-5


@pytest.mark.parametrize(
    ("case", "model", "weighted"),
    [
        ("multi_a1", MultinomialNB(alpha=1), False),
        ("multi_a05_w", MultinomialNB(alpha=0.5), True),
        ("multi_a1e-10", MultinomialNB(alpha=1e-10), False),
        ("multi_uniform", MultinomialNB(fit_prior=False), False),
        ("bern_thr8", BernoulliNB(binarize=7.5), False),
        ("bern_a2_w", BernoulliNB(binarize=7.5, alpha=2), True),
        ("cat_div4", CategoricalNB(), False),
        ("cat_div4_min7_w", CategoricalNB(alpha=0.3, min_categories=7), True),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_discrete_digits_are_the_reference(case, model, weighted, sparse):
    held = np.load(FIXTURES / "nb_discrete_digits.npz")
    x = held["X"] // 4 if case.startswith("cat") else held["X"]
    if sparse and case.startswith("cat"):
        with pytest.raises(TypeError, match=r"^Sparse data was passed to CategoricalNB, which takes dense data"):
            model.fit(sp.csr_array(x), held["y"])
        return
    x = sp.csr_array(x.astype(np.float64)) if sparse else x
    model.fit(x, held["y"], held["sample_weight"] if weighted else None)
    close = {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(model.class_log_prior_, held[f"{case}_class_log_prior"], **close)
    expected = held[f"{case}_feature_log_prob"]
    if case.startswith("cat"):
        assert (model.n_categories_ == held[f"{case}_n_categories"]).all()
        for j, table in enumerate(model.feature_log_prob_):
            np.testing.assert_allclose(table, expected[:, j, : table.shape[1]], **close)
    else:
        np.testing.assert_allclose(model.feature_log_prob_, expected, **close)
    np.testing.assert_allclose(model.predict_joint_log_proba(x[held["rows"]]), held[f"{case}_jll_rows"], **close)
    assert (model.predict(x) == held[f"{case}_pred"]).all()


def test_wide_sparse_counts_are_summed_as_narrow_ones():
    x = sp.random_array((40, 60_000), density=0.001, rng=np.random.default_rng(0), format="csr")
    x.data = np.ceil(5 * x.data)
    y = np.arange(40) % 20
    a, b = (module.MultinomialNB().fit(x, y, np.arange(40)) for module in (peer, own))
    np.testing.assert_allclose(b.feature_count_, a.feature_count_, rtol=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -3e4])
def test_float32_with_an_offset_keeps_its_moments(offset):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 60_000)
    x = (offset + y[:, None] + draw.normal(0, 1, (60_000, 3))).astype(np.float32)
    model, exact = GaussianNB().fit(x, y), peer.GaussianNB().fit(x.astype(np.float64), y)
    np.testing.assert_allclose(model._moments.mean, exact.theta_, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(model.var_, exact.var_, rtol=1e-4)
    joint = model.predict_joint_log_proba(x[:999]) - exact.predict_joint_log_proba(x[:999].astype(np.float64))
    assert np.abs(joint).max() < (2e-3 if offset == 0 else 0.03 * abs(offset) / 1000)


def test_numbers_far_apart_and_far_out_are_scored_as_the_formula_does():
    x = np.array([[0.0, 1e9], [1e-3, 1e9], [1e6, -1e9], [1e6 + 1e-3, -1e9 + 1]])
    y = np.array([0, 0, 1, 1])
    a, b = (
        module.GaussianNB(var_smoothing=0).fit(x + np.array([[0, 0.1]] + 3 * [[0, 0]]), y) for module in (peer, own)
    )
    ask = np.vstack([x, [[1e5, 3.0], [1e150, 1e150]]])
    np.testing.assert_allclose(b.predict_joint_log_proba(ask)[:-1], a.predict_joint_log_proba(ask)[:-1], rtol=1e-9)
    assert np.isfinite(b.predict_joint_log_proba(np.array([[1e200, 0.0]]))).all()


# ---- sampling ----


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_a_row_whatever_the_number_of_rows(name):
    model = getattr(own, name)().fit(X, Y)
    x, y = model.sample(500, seed=7)
    assert x.shape == (500, 7)
    for i in (0, 77, 499):
        one, label = model.sample(seed=7 + i)
        assert (one[0] == x[i]).all()
        assert label[0] == y[i]
    of_b, labels = model.sample(500, y="b", seed=7)
    assert set(labels) == {"b"}
    assert (of_b[y == "b"] == x[y == "b"]).all()
    _, labels = model.sample(3, y=["c", "a", "c"], seed=1)
    assert labels.tolist() == ["c", "a", "c"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_fitted_on_samples_is_the_model(name):
    model = getattr(own, name)().fit(X, Y)
    x, y = model.sample(60_000)
    again = getattr(own, name)().fit(x, y)
    share = again.class_count_ / 60_000
    expected = np.exp(model._log_prior())
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 60_000)).all()
    if name == "GaussianNB":
        assert (np.abs(again.theta_ - model.theta_) < 5 * np.sqrt(model.var_ / again.class_count_[:, None])).all()
        np.testing.assert_allclose(again.var_, model.var_, rtol=0.06)
        return
    tables = zip(model.feature_log_prob_, again.feature_log_prob_, strict=True)
    for theirs, ours in tables:
        p = np.exp(theirs[..., : ours.shape[-1]])
        assert (np.abs(np.exp(ours) - p) < 6 * np.sqrt(p * (1 - p) / 15_000) + 1e-4).all()


def test_row_totals_of_samples_are_those_that_were_seen():
    model = MultinomialNB().fit(X, Y)
    x, _ = model.sample(2000)
    assert x.dtype == np.int64
    assert set(x.sum(1)) <= set(X.sum(1))
    assert x.sum(1).mean() == pytest.approx(X.sum(1).mean(), rel=0.03)


def test_fractions_are_fitted_and_scored_and_refuse_to_be_sampled():
    model = MultinomialNB().fit(X / 3, Y)
    np.testing.assert_allclose(model.predict_proba(X / 3), peer.MultinomialNB().fit(X / 3, Y).predict_proba(X / 3))
    with pytest.raises(ValueError, match="these rows are not counts but fractions"):
        model.sample()


# ---- scikit-learn's company ----


def test_scikit_learn_takes_the_classifiers_into_its_tools():
    x, y = load_iris(return_X_y=True)
    ours = cross_val_score(make_pipeline(StandardScaler(), GaussianNB()), x, y, cv=5)
    assert ours == pytest.approx(cross_val_score(make_pipeline(StandardScaler(), peer.GaussianNB()), x, y, cv=5))
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 0.1]}, cv=3).fit(x, y)
    assert isinstance(search.best_estimator_, GaussianNB)
    twin = clone(BernoulliNB(alpha=3, binarize=None))
    assert twin.get_params() == {
        "alpha": 3, "force_alpha": True, "binarize": None, "fit_prior": True, "class_prior": None
    }  # fmt: skip
    assert repr(twin) == "BernoulliNB(alpha=3, binarize=None)"
    assert pickle.loads(pickle.dumps(twin.set_params(binarize=1.0).fit(x, y))).score(x, y) == twin.score(x, y)
    with pytest.raises(ValueError, match=r"^BernoulliNB has no parameter beta; there are: alpha, force_alpha"):
        twin.set_params(beta=1)


def test_scikit_learn_and_scipy_are_not_needed():
    code = """
import sys
from genreg_nb.sklearn import BernoulliNB, CategoricalNB, GaussianNB, MixedNB, MultinomialNB
x, y = [[1, 0], [0, 1], [1, 1]], [0, 1, 1]
for kind in (BernoulliNB, CategoricalNB, GaussianNB, MixedNB, MultinomialNB):
    model = kind().fit(x, y)
    model.predict_proba(x), model.sample(3)
sys.exit(any(name.split(".")[0] in ("sklearn", "scipy") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_attribute_that_is_changed_is_used():
    model = GaussianNB().fit(X, Y)
    before = model.predict_joint_log_proba(X[:3])
    model.theta_ = model.theta_ + 1.0
    assert (model.predict_joint_log_proba(X[:3]) != before).any()


# ---- what comes in wrong ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y, np.where(np.arange(300) == 4, -1.0, 1.0)), "sample_weight holds -1: weights are numbers"),
        (lambda x, y: (x, y, np.full(300, np.nan)), "sample_weight holds nan: weights are numbers from 0 on"),
        (lambda x, y: (x, y, np.zeros(300)), "sample_weight is 0 for every row: nothing is left to fit"),
        (lambda x, y: (x, y, np.ones(3)), r"sample_weight.shape == \(3,\), expected \(300,\)!"),
        (lambda x, y: (x[:, 0], y), "Expected 2D array, got 1D array instead"),
        (lambda x, y: (x[:0], y[:0]), "Found array with 0 sample"),
        (lambda x, y: (x[:, :0], y), "Found array with 0 feature"),
        (lambda x, y: (x, y[:9]), "Found input variables with inconsistent numbers of samples"),
        (lambda x, y: (x * 1j, y), "takes real numbers, not complex128"),
        (lambda x, y: (np.where(x == 1, np.nan, x), y), "Input X contains NaN or infinity, which .*NB does not take"),
        (lambda x, y: (np.where(x == 1, np.inf, x), y), "Input X contains NaN or infinity, which .*NB does not take"),
        (lambda x, y: (x, np.where(y == "a", np.nan, 1.0)), "Input y contains NaN or infinity"),
    ],
)
def test_training_data_are_refused_in_one_line(name, change, message):
    with pytest.raises(ValueError, match=message):
        getattr(own, name)().fit(*change(X, Y))


@pytest.mark.parametrize("name", ["MultinomialNB", "CategoricalNB"])
def test_negative_counts_and_codes_are_refused_in_fit_and_predict(name):
    model = getattr(own, name)()
    with pytest.raises(ValueError, match=rf"^Negative values in data passed to {name} \(input X\)$"):
        model.fit(-X, Y)
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
        model.predict(X)
    with pytest.raises(ValueError, match="Negative values"):
        model.fit(X, Y).predict(-X)


@pytest.mark.parametrize("name", ["MultinomialNB", "BernoulliNB"])
def test_sparse_data_are_looked_at_as_dense_ones(name):
    bad = sp.csr_matrix(np.where(X == 1, np.nan, X))
    with pytest.raises(ValueError, match="Input X contains NaN or infinity"):
        getattr(own, name)().fit(bad, Y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GaussianNB(priors=[0.5, 0.5]), "Number of priors must match number of classes."),
        (GaussianNB(priors=[0.5, 0.6, 0.7]), "The sum of the priors should be 1."),
        (GaussianNB(priors=[-0.5, 0.5, 1.0]), "Priors must be non-negative."),
        (GaussianNB(var_smoothing=-1), "var_smoothing must be at least 0, not -1"),
        (MultinomialNB(class_prior=[0.2, 1.2, 0.1]), "class_prior holds 1.2: a probability lies between 0 and 1"),
        (BernoulliNB(class_prior=[0.2, -0.2, 1.0]), "class_prior holds -0.2: a probability lies between 0 and 1"),
        (CategoricalNB(alpha=-1), "alpha is -1, below 0"),
        (CategoricalNB(min_categories=1.5), "'min_categories' should have integral type. Got float64 instead."),
        (BernoulliNB(binarize=None), r"BernoulliNB\(binarize=None\) takes 0, 1 and probabilities, and X holds others"),
        (MixedNB(priors=[0.5, 0.5]), "Number of priors must match number of classes."),
        (MixedNB(alpha=0), "alpha"),
        (MixedNB(bernoulli=[0]), "column x0 holds [2-9], and a Bernoulli column holds 0 and 1"),
        (MixedNB(bernoulli=["no"]), "bernoulli: the data has no column no"),
        (MixedNB(categorical=["no"]), "categorical: the table has no column no"),
    ],
)
def test_parameters_are_refused_in_one_line(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)


def test_what_is_refused_changes_nothing():
    model = GaussianNB().fit(X, Y)
    before = model.predict_joint_log_proba(X)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan, Y)
    assert (model.predict_joint_log_proba(X) == before).all()
    with pytest.raises(ValueError, match=r"X has 2 features, but GaussianNB is expecting 7 features as input"):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match=r"^The target label\(s\) \['z'\] in y do not exist in the initial classes"):
        model.partial_fit(X[:1], ["z"])


def test_column_names_are_remembered_and_compared():
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    model = GaussianNB().fit(frame, Y)
    assert model.feature_names_in_.tolist() == list("abcdefg")
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit: a, b, c"):
        model.predict(frame[list("gfedcba")])


def test_a_code_that_training_did_not_see_is_improbable_not_an_error():
    model = CategoricalNB().fit([[0], [1], [1]], [0, 1, 1])
    p = np.exp(model.predict_joint_log_proba([[7]]))
    np.testing.assert_allclose(p, [[1 / 3 * 1 / 3, 2 / 3 * 1 / 4]])


@pytest.mark.parametrize("x", [[[1, 0], [1, 0], [0, 0]], sp.csr_matrix([[1, 0], [1, 0], [0, 0]])])
def test_without_smoothing_the_impossible_has_no_probability(x):
    for kind in (BernoulliNB, MultinomialNB):
        p = kind(alpha=0).fit(x, [0, 0, 1]).predict_proba(np.array([[1, 0]]))
        assert p[0].tolist() == [1, 0] or kind is MultinomialNB
        assert not np.isnan(p).any()


def test_an_alpha_near_0_is_raised_with_a_warning_at_the_callers_line():
    with pytest.warns(UserWarning, match=r"alpha too small .* setting alpha = 1.0e-10") as caught:
        model = MultinomialNB(alpha=0, force_alpha=False).fit(X, Y)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(model.feature_log_prob_, MultinomialNB(alpha=1e-10).fit(X, Y).feature_log_prob_)


def test_samples_follow_the_alpha_that_was_fitted():
    model = MultinomialNB().fit(X, Y)
    before, _ = model.sample(50)
    after, _ = model.set_params(alpha=1e6).sample(50)
    assert (before == after).all()


# ---- tables ----


def people(rows: int = 80, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    draw = np.random.default_rng(seed)
    y = draw.choice(["high", "low"], rows)
    high = y == "high"
    frame = pd.DataFrame(
        {
            "age": draw.normal(40 + 10 * high, 8),
            "sector": draw.choice(["private", "public"], rows),
            "owns": draw.random(rows) < 0.3 + 0.4 * high,
            "smokes": draw.integers(0, 2, rows),
            "cats": draw.poisson(1.0, rows),
            "dogs": draw.poisson(0.5 + high, rows),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[::5, "sector"] = None
    return frame, y


KINDS = {"bernoulli": ["smokes"], "multinomial": ["cats", "dogs"]}


def test_mixed_tables_are_fitted_scored_and_sampled_with_holes():
    frame, y = people()
    model = MixedNB(**KINDS).fit(frame, y)
    assert model.score(frame, y) > 0.7
    np.testing.assert_allclose(model.predict_proba(frame).sum(1), 1)
    made, labels = model.sample(400, seed=3)
    assert made.columns.tolist() == frame.columns.tolist()
    assert set(made["sector"]) == {"private", "public"}
    assert set(made["owns"]) == {True, False}
    assert set(made["smokes"]) == {0, 1}
    assert made["age"].notna().all()
    assert (made["cats"] + made["dogs"]).isin(frame["cats"] + frame["dogs"]).all()
    one, label = model.sample(seed=3 + 77)
    assert one.iloc[0].equals(made.iloc[77])
    assert label[0] == labels[77]


def test_mixed_tables_are_the_product_of_their_kinds():
    frame, y = people()
    whole = frame[["age", "smokes"]].dropna()
    y = y[whole.index]
    model = MixedNB(bernoulli=["smokes"], var_smoothing=0).fit(whole, y)
    numbers = GaussianNB(var_smoothing=0).fit(whole[["age"]], y)
    bits = BernoulliNB().fit(whole[["smokes"]], y)
    expected = numbers.predict_joint_log_proba(whole[["age"]]) + bits.predict_joint_log_proba(whole[["smokes"]])
    np.testing.assert_allclose(model.predict_joint_log_proba(whole), expected - bits.class_log_prior_, rtol=1e-10)


def test_mixed_tables_in_pieces_with_new_values_are_one_fit():
    frame, y = people()
    frame = frame.sort_values("sector", na_position="last")
    y = y[frame.index]
    whole, parts = MixedNB(**KINDS).fit(frame, y), MixedNB(**KINDS)
    for at in np.array_split(np.arange(80), 6):
        parts.partial_fit(frame.iloc[at], y[at], ["high", "low"])
    np.testing.assert_allclose(
        parts.predict_joint_log_proba(frame), whole.predict_joint_log_proba(frame), rtol=1e-10
    )  # fmt: skip
    assert parts.class_count_.tolist() == whole.class_count_.tolist()


def test_given_cells_of_a_table_come_back_and_the_rest_follows():
    frame, y = people(400)
    model = MixedNB(**KINDS).fit(frame, y)
    made, labels = model.sample(3000, given={"age": 65.0, "sector": "public", "dogs": 1})
    assert set(made["age"]) == {65.0}
    assert set(made["sector"]) == {"public"}
    assert set(made["dogs"]) == {1}
    ask = pd.DataFrame({"age": [65.0], "sector": ["public"], "dogs": [1]})
    p = model.predict_proba(ask)[0, 0]
    assert abs((labels == "high").mean() - p) < 5 * math.sqrt(p * (1 - p) / 3000)
    holes = frame.head(20)
    filled, _ = model.sample(20, y=y[:20], given=holes)
    assert filled.notna().all().all()
    known = holes["age"].notna()
    assert (filled["age"][known] == holes["age"][known]).all()


@pytest.mark.parametrize("form", ["arrow", "array"])
def test_tables_come_back_in_the_form_in_which_they_came(form):
    frame, y = people()
    if form == "arrow":
        model = MixedNB(**KINDS).fit(pa.Table.from_pandas(frame), y)
        made, _ = model.sample(5)
        assert isinstance(made, pa.Table)
        assert made.schema.names == frame.columns.tolist()
    else:
        model = MixedNB(bernoulli=[1], multinomial=[2, 3]).fit(frame[["age", "smokes", "cats", "dogs"]].to_numpy(), y)
        made, _ = model.sample(5)
        assert made.shape == (5, 4)
        assert model.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]


def test_a_column_that_changes_kind_is_refused():
    frame, y = people()
    model = MixedNB(**KINDS).partial_fit(frame, y, ["high", "low"])
    for name, values, message in (
        ("age", ["old"] * 80, "column age held numbers when the model was fitted, and holds text now"),
        ("sector", range(80), "column sector held text when the model was fitted, and holds numbers now"),
        ("owns", ["yes"] * 80, "column owns held yes/no when the model was fitted, and holds text now"),
    ):
        changed = frame.assign(**{name: values})
        for ask in (lambda x=changed: model.partial_fit(x, y), lambda x=changed: model.predict(x)):
            with pytest.raises(ValueError, match=message):
                ask()
    with pytest.raises(ValueError, match="column shoe was not there when the model was fitted"):
        model.predict(frame.assign(shoe=1))


def test_cells_of_a_table_that_are_not_of_their_kind_are_refused():
    frame, y = people()
    model = MixedNB(**KINDS).fit(frame, y)
    for name, value, message in (("smokes", 2, "column smokes holds 2"), ("cats", -1, "column cats holds -1")):
        with pytest.raises(ValueError, match=message):
            model.fit(frame.assign(**{name: value}), y)
        with pytest.raises(ValueError, match=message):
            model.sample(given={name: value})
    with pytest.raises(ValueError, match="given has 80 rows for 3 samples"):
        model.sample(3, given=frame)


def test_weights_of_a_table_count_rows():
    frame, y = people()
    weights = np.arange(80) % 3
    again = np.repeat(np.arange(80), weights)
    a, b = MixedNB(**KINDS).fit(frame, y, weights), MixedNB(**KINDS).fit(frame.iloc[again], y[again])
    np.testing.assert_allclose(a.predict_joint_log_proba(frame), b.predict_joint_log_proba(frame), rtol=1e-9)


def test_every_subset_of_columns_may_be_absent():
    frame, y = people()
    model = MixedNB(**KINDS).fit(frame, y)
    for names in itertools.combinations(frame.columns, 2):
        assert np.isfinite(model.predict_joint_log_proba(frame[list(names)])).all()
