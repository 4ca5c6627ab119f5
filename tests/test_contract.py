"""The contract over toys of every shape: one table of models, and what must hold for each of them."""

import ast
import datetime
import doctest
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import toys
from tests.toys import FAMILIES, Nothing, Remote

import genreg.draft
from genreg.data import no_columns, noted, with_column
from genreg.draft import Draft, Inferring, Model, Planning, Scoring, Streaming
from genreg.errors import DataError, PluginError, Unsupported, UsageError
from genreg.form import Form, given_names
from genreg.generate import LARGEST_WHOLE, generate, propose
from genreg.given import read_given
from genreg.preprocess import Categories, Chain, Standardize, Step
from genreg.random import Stream, normal
from genreg.samplers import SAMPLERS
from genreg.specs import Condition, Sampler

BY_NAME = {sampler.name: sampler for sampler in SAMPLERS}
BIG = 2**53 + 1  # float64 has no such number


def seeds(n: int, first: int = 100) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.uint64)


def chain(*steps: Any) -> Chain:
    return Chain(tuple(Step(type(step).__name__.lower(), "genreg-core", step) for step in steps))


def standardized(**moments: tuple[float, float]) -> Standardize:
    names = tuple(name.replace("_g", " (g)") for name in moments)
    mean, deviation = np.array(list(moments.values())).T
    return Standardize(names, mean, deviation)


def slope() -> toys.Slope:
    """In standardized units; ``count`` is whole in the data."""
    return toys.Slope(
        ("a", "b", "count"), np.array([0.1, -0.2, 0.3]), np.array([[0.9, 0, 0], [0.5, 0.7, 0], [-0.4, 0.2, 0.6]])
    )


SLOPE_DATA = pa.schema(
    [noted(pa.field("a", pa.float64()), decimals=2), pa.field("b", pa.float32()), pa.field("count", pa.int64())]
)
WEATHER_DATA = pa.schema(
    [
        pa.field("temperature", pa.float64()),
        noted(pa.field("outcome", pa.string()), values=toys.SKIES),
        pa.field("station", pa.int64()),
    ],
    {"from": "a file"},
)
PETALS_DATA = pa.schema(
    [
        noted(pa.field("label", pa.string()), role="label", values=toys.FLOWERS),
        *list(toys.petals_columns(Nothing()))[1:],
    ]
)
IN_DEGREES = chain(standardized(temperature=(17.1, 3.7)), Categories({"outcome": toys.SKIES}))


def weather() -> toys.Weather:
    """In standardized units: of a mean of 17.1 degrees and a deviation of 3.7."""
    plain = toys.load_weather(Nothing(), Nothing(), None)
    return toys.Weather(plain.prior, (plain.mean - 17.1) / 3.7, plain.deviation / 3.7)


@dataclass(frozen=True)
class Case:
    """A model in the user's form, and rows of given that are repeated for as many samples as are wanted."""

    model: Callable[[], Model]
    schema: pa.Schema
    rows: list[dict[str, Any]]
    chain: Chain = field(default_factory=Chain)
    config: Any = field(default_factory=Nothing)
    family: str = ""

    @property
    def form(self) -> Form:
        family = FAMILIES[self.family]
        return Form(self.schema, family.columns(self.config), family.conditions(self.config), self.chain)

    def given(self, n: int, rows: list[dict[str, Any]] | None = None) -> pa.RecordBatch:
        cells = list(itertools.islice(itertools.cycle(rows or self.rows), n))
        return pa.RecordBatch.from_pylist(cells, schema=self.form.given)

    def table(self, at: Any, given: Any = None, samplers: Any = (), folder: Path = Path(), **how: int) -> pa.Table:
        form = self.form
        batches = generate(
            self.model(), form, at, self.given(len(at)) if given is None else given, samplers, folder=folder, **how
        )
        return pa.Table.from_batches(list(batches), form.samples(streams=isinstance(self.model(), Streaming)))


SKIES_GIVEN: list[dict[str, Any]] = [
    {},
    {"temperature": 0.1, "outcome": "dry"},
    {"temperature": 12.3, "station": BIG, "@temperature": 0.5},
    {"outcome": "rain", "station": -(2**63)},
    {"temperature": 5e-324, "station": 2**63 - 1},
    {"temperature": -0.0, "outcome": "dry", "@temperature": 2.0},
]
CASES = {
    "petals": Case(
        lambda: toys.load_petals(Nothing(), Nothing(), None),
        PETALS_DATA,
        [{"label": "tulip"}, {"label": "菊"}, {}, {"label": "rose"}, {}],
        chain(Categories({"label": toys.FLOWERS}), standardized(weight_g=(3.0, 1.7))),
        family="petals",
    ),
    "melody": Case(
        lambda: toys.load_melody(Nothing(), Nothing(), None),
        toys.melody_columns(Nothing()),
        [
            {},
            {"tokens": ["la", None, "音", None]},
            {"tokens": [None]},
            {"prefix": ["音", "li"]},
            {"prefix": [None, "音"]},
            {"prefix": ["la"], "tokens": [None, None, "li"]},
        ],
        family="melody",
    ),
    "oracle": Case(
        lambda: toys.load_oracle(Nothing(), Remote(), None),
        toys.oracle_columns(Nothing()),
        [{"prompt": "the weather"}, {"prompt": "boom"}, {"prompt": "明天?", "temperature": 0.0}, {"prompt": "secret"}],
        family="oracle",
    ),
    "slope": Case(
        slope,
        SLOPE_DATA,
        [
            {},
            {"a": 0.123456789},
            {"b": 0.1, "count": 7},
            {"a": 1 / 3, "count": -(2**53)},
            {"a": 0.1, "b": 2.5, "count": 3},
        ],
        chain(standardized(a=(5.0, 2.0), b=(-1.0, 0.3), count=(10.0, 7.0))),
        toys.SlopeConfig(columns=["a", "b", "count"]),
        family="slope",
    ),
    "weather": Case(weather, WEATHER_DATA, SKIES_GIVEN, IN_DEGREES, family="weather"),
    "forecast": Case(lambda: toys.Forecast(weather()), WEATHER_DATA, SKIES_GIVEN, IN_DEGREES, family="forecast"),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
N = 41  # a prime: no batch and no window divides it


# ---- one seed is one sample ----


@every_case
def test_a_seed_is_a_sample_whatever_the_batch_and_the_window(case, tmp_path):
    whole = case.table(seeds(N), folder=tmp_path)
    assert whole.num_rows == N
    for at, (batch, window) in enumerate([(1, 1), (7, 5), (5, 7), (N, N), (1000, 2)]):
        own = tmp_path / str(at)
        own.mkdir()
        assert case.table(seeds(N), folder=own, batch=batch, window=window).equals(whole)


@every_case
def test_a_seed_is_a_sample_whatever_the_order_and_the_company(case, tmp_path):
    whole, own, rows = case.table(seeds(N), folder=tmp_path), case.given(N), np.random.default_rng(0).permutation(N)
    for at, chosen in enumerate([rows, np.array([17]), np.array([40, 3, 3])]):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert case.table(seeds(N)[chosen], own.take(pa.array(chosen)), folder=folder).equals(
            whole.take(pa.array(chosen))
        )


@every_case
def test_different_seeds_are_different_samples(case, tmp_path):
    free = case.given(64, [{"prompt": "x"}] if "prompt" in case.form.given.names else [{}])
    one, two = (case.table(seeds(64, first), free, folder=tmp_path) for first in (0, 64))
    assert not one.equals(two)


# ---- what is given comes back ----


def bits_of(column: Any) -> list[Any]:
    """Cells as they are, floats by their bits."""
    if pa.types.is_floating(column.type):
        width = {32: np.uint32, 64: np.uint64}[column.type.bit_width]
        column = pa.array(column.to_numpy(zero_copy_only=False).view(width))
    return column.to_pylist()


@every_case
def test_given_cells_come_back_bit_equal(case, tmp_path):
    own, form = case.given(N), case.form
    made, checked = case.table(seeds(N), own, folder=tmp_path).combine_chunks(), 0
    for name, condition in zip(given_names(form.conditions), form.conditions, strict=True):
        if condition.column is None:
            continue
        given, cells = own.column(name), made[condition.column].combine_chunks()
        for valid, seen, cell in zip(given.is_valid().to_pylist(), bits_of(given), bits_of(cells), strict=True):
            if not valid:
                continue
            checked += 1
            if isinstance(seen, list):
                assert len(seen) == len(cell)
                assert all(s in (None, c) and c is not None for s, c in zip(seen, cell, strict=True))
            else:
                assert seen == cell
    assert checked


class Careless:
    """Ignores whatever is given: it is the core that writes given cells over what was made."""

    def propose(self, seeds, given, /):
        return Draft(np.zeros(len(seeds)), seeds)

    def render(self, draft, /):
        return pa.RecordBatch.from_pylist([MADE] * len(draft), schema=CARELESS)


MADE = {
    "list": ["x", "y", "z"],
    "large": [1, 2],
    "fixed": [0.5, 1.5],
    "whole": 1,
    "text": "made",
    "day": datetime.date(2000, 1, 1),
    "yes": False,
    "bytes": b"made",
    "unsigned": 0,
    "narrow": 0.5,
}
CARELESS = pa.schema(
    {
        "list": pa.list_(pa.string()),
        "large": pa.large_list(pa.int64()),
        "fixed": pa.list_(pa.float32(), 2),
        "whole": pa.int64(),
        "text": pa.string(),
        "day": pa.date32(),
        "yes": pa.bool_(),
        "bytes": pa.binary(),
        "unsigned": pa.uint64(),
        "narrow": pa.float32(),
    }
)
OVERLAID: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"list": ["花", None, ""]}, {"list": ["花", "y", ""]}),
    ({"list": [None, "b"]}, {"list": ["x", "b", "z"]}),
    ({"list": ["a", "b", "c", "d", None]}, {"list": ["a", "b", "c", "d", None]}),
    ({"list": []}, {}),
    ({"large": [BIG, None]}, {"large": [BIG, 2]}),
    ({"fixed": [None, 0.25]}, {"fixed": [0.5, 0.25]}),
    ({"whole": BIG, "unsigned": 2**64 - 1}, {"whole": BIG, "unsigned": 2**64 - 1}),
    ({"whole": 0, "text": "", "yes": False, "narrow": 0.0}, {"whole": 0, "text": "", "narrow": 0.0}),
    ({"text": "菊\n", "day": datetime.date(1, 1, 1), "yes": True, "bytes": b"\0\xff"},) * 2,
]


@pytest.mark.parametrize(("cells", "changed"), OVERLAID)
@pytest.mark.parametrize("at", [0, 2])
def test_the_core_writes_given_cells_over_what_a_careless_family_made(cells, changed, at):
    conditions = [Condition(name, CARELESS.field(name).type, "as in the data", column=name) for name in CARELESS.names]
    form = Form(CARELESS, CARELESS, conditions)
    rows: list[dict[str, Any]] = [{}, {}, {}]
    rows[at] = cells
    given = pa.RecordBatch.from_pylist(rows, schema=form.given)
    made = [row for batch in generate(Careless(), form, seeds(3), given, batch=2) for row in batch.to_pylist()]
    assert made.pop(at) == MADE | changed
    assert made == [MADE, MADE]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_cannot_be_given_and_mean_nothing_is_not_known(bad):
    for name in ("temperature", "@temperature"):
        with pytest.raises(
            UsageError, match=rf"^{name}: NaN and infinity cannot be given; leave out what is not known$"
        ):
            CASES["weather"].table(seeds(2), CASES["weather"].given(2, [{name: bad}, {}]))


def test_a_prefix_begins_every_melody_and_its_nulls_are_filled_in():
    case = CASES["melody"]
    rows = case.table(seeds(300), case.given(300, [{"prefix": ["音", None, "li"]}]))["tokens"].to_pylist()
    assert all(row[0] == "音" and row[1] in toys.TOKENS and row[2] == "li" for row in rows)
    assert {len(row) for row in rows} == {3, 4, 5}
    assert {row[1] for row in rows} == set(toys.TOKENS)


@given(
    st.lists(
        st.none() | st.lists(st.none() | st.sampled_from(toys.TOKENS), min_size=1, max_size=5), min_size=1, max_size=6
    )
)
@settings(max_examples=50, deadline=None)
def test_any_list_is_filled_in_and_nothing_else(rows):
    case = CASES["melody"]
    made = case.table(seeds(len(rows)), case.given(len(rows), [{"tokens": row} for row in rows]))["tokens"].to_pylist()
    for row, tokens in zip(rows, made, strict=True):
        assert None not in tokens
        assert row is None or [t if r is None else r for r, t in zip(row, tokens, strict=True)] == tokens


def test_given_cells_lie_over_rows_that_failed_too(tmp_path):
    made = CASES["oracle"].table(seeds(4), folder=tmp_path).to_pylist()
    assert [(row["prompt"], row["outcome"]) for row in made] == [
        ("the weather", "ok"),
        ("boom", "failed"),
        ("明天?", "ok"),
        ("secret", "refused"),
    ]
    assert [row["text"] is None for row in made] == [False, True, False, True]
    assert made[2]["text"] == "sun sun sun"  # its temperature is 0


# ---- conditions in data units ----


def gaussian(x: Any, mean: Any, deviation: Any) -> Any:
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("name", ["weather", "forecast"])
@pytest.mark.parametrize(("degrees", "heat"), [(12.3, 1.0), (17.1, 1.0), (16.0, 2.0)])
def test_the_posterior_of_the_outcome_is_that_of_degrees_and_not_of_deviations(name, degrees, heat, tmp_path):
    case, n = CASES[name], 4000
    own = case.given(n, [{"temperature": degrees, "@temperature": heat}])
    rain = np.mean([sky == "rain" for sky in case.table(seeds(n), own, folder=tmp_path)["outcome"].to_pylist()])
    joint = np.array([0.3, 0.7]) * gaussian(degrees, np.array([10, 20]), heat * np.array([3, 5]))
    expected = joint[0] / joint.sum()
    assert abs(rain - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("given_a", [0.25, 5.0, -3.0])
def test_a_quarter_of_a_centimetre_means_a_quarter_of_a_centimetre(given_a):
    """E[b | a] in data units, by regression; psi = 0 is the conditional mean itself."""
    case, model, n = CASES["slope"], slope(), 4000
    scale, offset = np.array([2.0, 0.3, 7.0]), np.array([5.0, -1.0, 10.0])
    mean, covariance = offset + scale * model.mean, np.outer(scale, scale) * (model.factor @ model.factor.T)
    expected = mean[1] + covariance[1, 0] / covariance[0, 0] * (given_a - mean[0])
    spread = np.sqrt(covariance[1, 1] - covariance[1, 0] ** 2 / covariance[0, 0])
    own = case.given(n, [{"a": given_a}])
    assert abs(case.table(seeds(n), own)["b"].to_numpy().mean() - expected) < 4 * spread / np.sqrt(n)
    center = case.table(seeds(3), own.slice(0, 3), [(BY_NAME["truncate"], {"psi": 0.0})])
    np.testing.assert_allclose(center["b"].to_numpy(), expected, rtol=1e-6)  # the column is float32
    assert center["a"].to_pylist() == [given_a] * 3


def test_a_label_is_given_by_its_name_and_reaches_the_model_as_its_code():
    case = CASES["petals"]
    (draft,) = propose(case.model(), case.form, seeds(3), case.given(3, [{"label": name} for name in toys.FLOWERS]))
    assert draft.context["label"].tolist() == [0, 1, 2]
    with pytest.raises(UsageError, match=r"^label=rsoe was not seen in training; did you mean rose\?$"):
        case.table(seeds(1), case.given(1, [{"label": "rsoe"}]))


def test_what_float64_cannot_hold_is_refused_by_name_where_a_map_would_round_it():
    with pytest.raises(DataError, match=r"^column count holds whole numbers beyond 2\^53"):
        CASES["slope"].table(seeds(1), CASES["slope"].given(1, [{"count": BIG}]))


def paths(length: int) -> np.ndarray:
    """All state paths: [2 ** length, length]."""
    return np.array(list(itertools.product(range(2), repeat=length)))


def path_weights(model: toys.Melody, tokens: list[str | None]) -> np.ndarray:
    """p(path, tokens) for all paths, by the formula."""
    weights = []
    for path in paths(len(tokens)):
        p = model.start[path[0]]
        for t, token in enumerate(tokens):
            p *= model.step[path[t - 1], path[t]] if t else 1.0
            p *= 1.0 if token is None else model.emit[path[t], toys.TOKENS.index(token)]
        weights.append(p)
    return np.array(weights)


EVIDENCE: list[list[str | None]] = [
    ["la", None, "音", None],
    ["音", "音", "la"],
    [None, None, None, None, "音"],
    ["li"],
]


@pytest.mark.parametrize("tokens", EVIDENCE)
def test_paths_follow_the_exact_posterior_at_every_position(tokens):
    case, n = CASES["melody"], 6000
    model = case.model()
    (draft,) = propose(model, case.form, seeds(n), case.given(n, [{"tokens": tokens}]), window=n)
    assert (draft.lengths == len(tokens)).all()
    exact = path_weights(model, tokens) / path_weights(model, tokens).sum()
    index = draft.values[:, : len(tokens)] @ (2 ** np.arange(len(tokens))[::-1])
    found = np.bincount(index, minlength=len(exact)) / n
    assert (abs(found - exact) < 4.5 * np.sqrt(exact * (1 - exact) / n) + 1e-9).all()


@pytest.mark.parametrize("tokens", EVIDENCE)
def test_inference_of_the_ragged_one_agrees_with_all_paths(tokens):
    model = toys.load_melody(Nothing(), Nothing(), None)
    batch = pa.RecordBatch.from_pylist([{"tokens": tokens}], schema=toys.melody_columns(Nothing()))
    weights = path_weights(model, tokens)
    smoothed = (weights[:, None] * paths(len(tokens))).sum(0) / weights.sum()
    np.testing.assert_allclose(model.infer(batch, seeds(1)).column("p(1)")[0].as_py(), smoothed, rtol=1e-12)
    expected = np.log(weights.sum() * model.length[len(tokens) - 1])
    np.testing.assert_allclose(CASES["melody"].form.log_prob(model, batch, seeds(1)), [expected], rtol=1e-12)


def test_infilled_tokens_follow_the_exact_posterior():
    case, n, tokens = CASES["melody"], 6000, ["la", None, "音"]
    rows = case.table(seeds(n), case.given(n, [{"tokens": tokens}]))["tokens"].to_pylist()
    exact = np.array([path_weights(case.model(), ["la", token, "音"]).sum() for token in toys.TOKENS])
    found = np.array([sum(row[1] == token for row in rows) for token in toys.TOKENS]) / n
    np.testing.assert_allclose(found, exact / exact.sum(), atol=0.025)


# ---- densities in data units ----


def unmapped(case: Case) -> tuple[Any, Form]:
    """The same density without a map, its model being in the data's units."""
    if case.family == "slope":
        scale, offset, own = np.array([2.0, 0.3, 7.0]), np.array([5.0, -1.0, 10.0]), slope()
        model: Any = toys.Slope(own.names, offset + scale * own.mean, scale[:, None] * own.factor)
    else:
        model = toys.load_weather(Nothing(), Nothing(), None)
    categories = [step for step in case.chain.steps if isinstance(step.fitted, Categories)]
    form = case.form
    return model, Form(form.schema, form.columns, form.conditions, Chain(tuple(categories)))


ROWS = {
    "slope": [
        {"a": 0.25, "b": -0.5, "count": 3},
        {"a": 1.5, "b": None, "count": None},
        {"a": None, "b": 1.5, "count": 12},
        {"a": None, "b": None, "count": 4},
    ],
    "weather": [{"temperature": 3.33, "outcome": "rain"}, {"temperature": 30.0}, {"outcome": "dry"}, {}],
}


@pytest.mark.parametrize("name", ROWS)
def test_log_prob_is_the_same_with_and_without_a_map(name):
    case = CASES[name]
    batch = pa.RecordBatch.from_pylist(ROWS[name], schema=case.schema)
    model, form = unmapped(case)
    mapped = case.form.log_prob(case.model(), batch, seeds(4))
    np.testing.assert_allclose(mapped, form.log_prob(model, batch, seeds(4)), rtol=1e-9, atol=1e-12)
    if name == "slope":  # by the formula: the second row is the density of a alone
        assert np.isclose(mapped[1], np.log(gaussian(1.5, 5 + 2 * 0.1, 2 * 0.9)))
    else:
        assert np.isclose(mapped[0], np.log(0.3 * gaussian(3.33, 10, 3)))


@pytest.mark.parametrize("name", ROWS)
def test_a_density_in_data_units_has_mass_one(name):
    column, low, high = {"slope": ("a", -30, 40), "weather": ("temperature", -40, 80)}[name]
    x = np.linspace(low, high, 4001)
    batch = pa.RecordBatch.from_pydict({column: x})  # other columns are absent: integrated out
    log_p = CASES[name].form.log_prob(CASES[name].model(), batch, seeds(len(x)))
    assert abs(np.exp(log_p).sum() * (x[1] - x[0]) - 1) < 1e-6


def test_a_density_is_that_of_the_value_asked_for_and_not_of_its_rounding():
    batch = pa.RecordBatch.from_pydict({"a": [0.251, 0.254]})  # the data has two decimals
    log_p = CASES["slope"].form.log_prob(slope(), batch, seeds(2))
    np.testing.assert_allclose(log_p, np.log(gaussian(np.array([0.251, 0.254]), 5.2, 1.8)), rtol=1e-9)


def test_the_ragged_ones_probabilities_sum_to_one_and_nulls_are_summed_out():
    case = CASES["melody"]
    rows = [list(row) for length in range(1, 6) for row in itertools.product(toys.TOKENS, repeat=length)]
    batch = pa.RecordBatch.from_pydict({"tokens": [*rows, ["la", None], None]}, schema=case.schema)
    log_p = case.form.log_prob(case.model(), batch, seeds(len(rows) + 2))
    assert abs(np.exp(log_p[:-2]).sum() - 1) < 1e-12
    assert np.isclose(
        np.exp(log_p[-2]),
        sum(np.exp(p) for p, row in zip(log_p, rows, strict=False) if len(row) == 2 and row[0] == "la"),
    )
    assert log_p[-1] == 0


def test_a_family_without_a_density_says_so():
    case = CASES["petals"]
    with pytest.raises(Unsupported, match=r"^this family has no log_prob$"):
        case.form.log_prob(case.model(), case.given(1), seeds(1))


# ---- the declared schema ----


@every_case
@pytest.mark.parametrize("n", [0, 1, 5])
def test_every_window_has_the_declared_schema(case, n, tmp_path):
    streams = isinstance(case.model(), Streaming)
    batches = list(generate(case.model(), case.form, seeds(n), case.given(n), batch=2, window=3, folder=tmp_path))
    assert batches
    assert all(batch.schema.equals(case.form.samples(streams=streams), check_metadata=True) for batch in batches)
    assert all(batch.num_rows <= 2 for batch in batches)
    assert sum(batch.num_rows for batch in batches) == n


@every_case
def test_samples_are_in_the_datas_types(case, tmp_path):
    made = case.table(seeds(N), folder=tmp_path)
    assert made.schema.names[: len(case.schema)] == case.schema.names
    if case.family == "petals":
        assert set(made["label"].to_pylist()) == set(toys.FLOWERS)
        assert made["image"].combine_chunks().to_numpy_ndarray().shape == (N, 5, 5)
    if case.family == "slope":
        free = case.table(seeds(N), case.given(N, [{}]))
        assert all(value == round(value, 2) for value in free["a"].to_pylist())


def test_a_model_without_conditions_takes_no_given():
    class Line:
        def propose(self, seeds, given, /):
            assert given.num_columns == 0
            assert given.num_rows == len(seeds)
            return Draft(normal(seeds, (1,), stream=Stream.PRIOR), seeds, ("latent",), center=np.zeros(1))

        def render(self, draft, /):
            return pa.RecordBatch.from_pydict({"y": draft.values[:, 0]})

    schema = pa.schema([pa.field("y", pa.float64())])
    batches = generate(Line(), Form(schema, schema), seeds(7), no_columns(7), batch=2, window=3)
    assert [batch.num_rows for batch in batches] == [2, 1, 2, 1, 1]


# ---- drafts are what they say ----


@every_case
def test_drafts_are_honest(case):
    drafts = list(propose(case.model(), case.form, seeds(N), case.given(N), window=10))
    assert [len(draft) for draft in drafts] == [10, 10, 10, 10, 1]
    np.testing.assert_array_equal(np.concatenate([draft.rows for draft in drafts]), np.arange(N))
    for draft in drafts:
        assert draft.values.shape[0] == len(draft.seeds)
        assert draft.values.ndim == 1 + len(draft.axes)
        assert draft.seeds.dtype == np.uint64
        if draft.center is not None:
            assert np.broadcast_shapes(draft.center.shape, draft.values.shape) == draft.values.shape
        if draft.levels is not None:
            assert draft.values.dtype.kind in "iu"
            assert ((draft.values >= 0) & (draft.values < draft.levels)).all()
        if draft.lengths is not None:
            assert ((draft.lengths >= 0) & (draft.lengths <= draft.values.shape[1])).all()
        assert all(len(array) == len(draft) for array in draft.context.values())


def test_the_centers_are_the_means_of_the_prior():
    styles = CASES["petals"]
    (draft,) = propose(styles.model(), styles.form, seeds(3000), styles.given(3000, [{"label": "rose"}]))
    np.testing.assert_allclose(draft.values.mean(0), draft.center[0], atol=0.05)
    linear = CASES["slope"]
    (draft,) = propose(linear.model(), linear.form, seeds(3000), linear.given(3000, [{"a": 3.0}]))
    np.testing.assert_allclose(draft.values.mean(0), draft.center[0], atol=0.08)


def test_abilities_are_found_by_protocol():
    able = {
        name: {
            ability.__name__
            for ability in (Scoring, Inferring, Streaming, Planning)
            if isinstance(case.model(), ability)
        }
        for name, case in CASES.items()
    }
    assert able == {
        "petals": set(),
        "melody": {"Scoring", "Inferring"},
        "oracle": {"Streaming"},
        "slope": {"Scoring", "Inferring"},
        "weather": {"Scoring", "Inferring"},
        "forecast": {"Streaming"},
    }


# ---- samplers ----

CALLS: dict[str, dict[str, Any]] = {
    "truncate": {"psi": 0.0},
    "interpolate": {"steps": 3},
    "mix": {"layers": "2-3"},
    "clamp": {"at": 0, "value": 1},
}
NO_MEAN, NO_AVERAGE = "this draft has none", "those of this draft cannot be averaged"
REFUSED = {
    ("melody", "truncate"): NO_MEAN,
    ("melody", "interpolate"): NO_AVERAGE,
    ("melody", "mix"): r"this draft has the axes \('time',\)",
    ("oracle", "truncate"): NO_MEAN,
    ("oracle", "interpolate"): NO_AVERAGE,
    ("oracle", "mix"): "this draft has no axes",
    ("oracle", "clamp"): "this draft holds text",
    ("slope", "mix"): r"this draft has the axes \('latent',\)",
    ("weather", "truncate"): NO_MEAN,
    ("weather", "interpolate"): NO_AVERAGE,
    ("weather", "mix"): "this draft has no axes",
    ("forecast", "truncate"): NO_MEAN,
    ("forecast", "interpolate"): NO_AVERAGE,
    ("forecast", "mix"): "this draft has no axes",
}
ALIKE: dict[str, dict[str, Any]] = {"petals": {"label": "rose"}, "slope": {"a": 0.25}, "oracle": {"prompt": "x"}}


@every_case
@pytest.mark.parametrize("call", CALLS)
def test_each_sampler_keeps_its_promise_or_refuses_with_a_reason(case, call, tmp_path):
    own = case.given(4, [ALIKE.get(case.family, {})])
    edit = [(BY_NAME[call], CALLS[call])]
    if (case.family, call) in REFUSED:
        with pytest.raises(Unsupported, match=REFUSED[case.family, call] + "$"):
            case.table(seeds(4), own, edit, tmp_path)
        return
    model = case.model()
    (before,) = propose(model, case.form, seeds(4), own)
    (after,) = propose(model, case.form, seeds(4), own, edit)
    made = case.table(seeds(4), own, edit, tmp_path, batch=3)
    assert made.num_rows == len(after)
    if call == "truncate":
        np.testing.assert_array_equal(after.values, np.broadcast_to(before.center, before.values.shape))
    elif call == "interpolate":
        assert len(after) == 10
        np.testing.assert_array_equal(after.values[::3], before.values)
        assert (after.given_rows == -1).all()
        keyframes = case.table(seeds(4), own, folder=tmp_path)  # the last keeps the noise of the one before it
        assert (
            made.take([0, 3, 6])
            .drop_columns(list(ALIKE[case.family]))
            .equals(keyframes.take([0, 1, 2]).drop_columns(list(ALIKE[case.family])))
        )
    elif call == "mix":
        np.testing.assert_array_equal(after.values[:, :2], before.values[:2, :2])
        np.testing.assert_array_equal(after.values[:, 2:], before.values[2:, 2:])
    else:
        first = after.values[:, 0] if after.axes else after.values
        assert (first == 1).all()


def test_rows_with_other_conditions_are_not_blended():
    with pytest.raises(Unsupported, match=r"alike in label, and these differ: give all the same label$"):
        CASES["petals"].table(seeds(4), None, [(BY_NAME["interpolate"], {})])
    with pytest.raises(Unsupported, match=r"alike in seen, and these differ: give all the same seen$"):
        CASES["slope"].table(seeds(4), None, [(BY_NAME["interpolate"], {})])


def test_nothing_is_written_over_rows_that_come_from_several():
    case = CASES["petals"]
    made = case.table(seeds(4), case.given(4, [{"label": "rose"}]), [(BY_NAME["mix"], {"layers": "0"})])
    assert made["label"].to_pylist() == ["rose", "rose"]  # the model's own: the label rides along


def test_samplers_compose_from_left_to_right():
    case = CASES["petals"]
    own = case.given(4, [{"label": "rose"}])
    edits = [
        (BY_NAME["mix"], {"layers": "1"}),
        (BY_NAME["interpolate"], {"steps": 4}),
        (BY_NAME["truncate"], {"psi": 0.5}),
    ]
    assert case.table(seeds(4), own, edits).num_rows == 5
    assert case.table(seeds(4), own, edits, batch=1).equals(case.table(seeds(4), own, edits))


def test_a_sampler_that_sees_all_rows_refuses_too_many_before_drawing_any():
    case = CASES["petals"]

    def draws_nothing(*_):
        raise AssertionError

    model = case.model()
    object.__setattr__(model, "propose", draws_nothing)
    n = LARGEST_WHOLE + 1
    with pytest.raises(
        Unsupported, match=r"^interpolate looks at all samples at once, and takes at most 65,536, not 65,537$"
    ):
        next(propose(model, case.form, seeds(n), case.given(n), [(BY_NAME["interpolate"], {})]))


def test_a_sampler_of_rows_works_in_windows():
    seen = []

    def watch(draft: Draft) -> Draft:
        """Watch."""
        seen.append(len(draft))
        return draft

    CASES["petals"].table(seeds(N), None, [(Sampler(watch), {})], window=10)
    assert seen == [10, 10, 10, 10, 1]
    seen.clear()
    CASES["petals"].table(seeds(N), None, [(Sampler(watch, scope="all"), {})], window=10)
    assert seen == [N]


# ---- a plugin that breaks the contract is told so ----


def broken(case: Case, **methods: Callable[..., Any]) -> Any:
    class Broken:
        def propose(self, seeds, given, /):
            return case.model().propose(seeds, given)

        def render(self, draft, /):
            return case.model().render(draft)

    for name, method in methods.items():
        setattr(Broken, name, method)
    return Broken()


BREACHES: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "rows": (
        {"render": lambda self, draft: slope().render(draft.take(slice(1, None)))},
        "render made 4 rows of a draft of 5",
    ),
    "columns": (
        {"render": lambda self, draft: slope().render(draft).select(["a", "count"])},
        "render left out the column b, which the family declares",
    ),
    "fewer": (
        {"propose": lambda self, s, g: slope().propose(s, g).take(slice(1, None))},
        "propose made 4 rows for 5 seeds, or changed the seeds",
    ),
    "seeds": (
        {"propose": lambda self, s, g: slope().propose(s[::-1], g)},
        "propose made 5 rows for 5 seeds, or changed the seeds",
    ),
}


@pytest.mark.parametrize(("methods", "message"), BREACHES.values(), ids=BREACHES)
def test_a_breach_of_the_contract_is_named(methods, message):
    case = CASES["slope"]
    with pytest.raises(PluginError) as raised:
        list(generate(broken(case, **methods), case.form, seeds(5), case.given(5)))
    assert str(raised.value) == message


# ---- a column named like a control, and like our own ----


@pytest.mark.parametrize("name", ["weather", "forecast"])
def test_a_bare_name_is_the_column_and_an_at_sign_names_the_control(name):
    form = CASES[name].form
    assert form.given.names == ["outcome", "temperature", "station", "@temperature"]
    batch = read_given(form, None, {"temperature": "0.25", "@temperature": "2", "outcome": "rain"}, {}).batch
    assert batch.to_pylist() == [{"outcome": "rain", "temperature": 0.25, "station": None, "@temperature": 2.0}]
    table = pa.table({"@temperature": [0.5, 1.0], "temperature": [1, None]})
    assert read_given(form, table, {}, {}).batch.to_pylist()[0] == {
        "outcome": None,
        "temperature": 1.0,
        "station": None,
        "@temperature": 0.5,
    }


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{name} of {home town}", ["李白 of 碎叶", "Ada of "]),
        ("{{name}} {name}{name}", ["{name} 李白李白", "{name} AdaAda"]),
        ('{"a": {"b": { name }}} {0} {name}', ['{"a": {"b": { name }}} {0} 李白', '{"a": {"b": { name }}} {0} Ada']),
    ],
)
def test_a_template_takes_the_cells_of_its_row_and_their_columns_pass_through(text, filled):
    table = pa.table({"name": ["李白", "Ada"], "home town": ["碎叶", None]})
    used = [name for name in table.column_names if f"{{{name}}}" in text.replace("{{", "")]
    found = read_given(CASES["oracle"].form, table.select(used), {"prompt": text}, {})
    assert found.batch.column("prompt").to_pylist() == filled
    assert found.passed.schema.names == used


def test_a_template_names_columns_that_are_there_and_without_a_table_braces_are_text():
    form, table = CASES["oracle"].form, pa.table({"name": ["Ada"]})
    why = "the file has no column nam; did you mean name? (for braces in the text, write {{nam}})"
    with pytest.raises(UsageError) as raised:
        read_given(form, table, {"prompt": "{nam}"}, {})
    assert str(raised.value) == f"--given prompt={{nam}}: {why}"
    with pytest.raises(UsageError, match="the column name: there is no condition name"):
        read_given(form, table, {"prompt": "{{name}}"}, {})
    assert read_given(form, None, {"prompt": "{{nam}} {x}"}, {}).batch.column("prompt")[0].as_py() == "{{nam}} {x}"


def test_the_outcome_of_a_stream_gives_way_to_a_column_of_that_name(tmp_path):
    assert CASES["weather"].form.samples(streams=False).names == ["temperature", "outcome", "station"]
    made = CASES["forecast"].table(seeds(N), folder=tmp_path)
    assert made.schema.names == ["temperature", "outcome", "station", "@outcome"]
    assert set(made["outcome"].to_pylist()) == set(toys.SKIES)
    assert set(made["@outcome"].to_pylist()) == {"ok"}
    assert made.drop_columns("@outcome").equals(CASES["weather"].table(seeds(N)))


def test_the_control_scales_the_spread_and_the_column_does_not():
    case = CASES["weather"]
    cold, hot = (
        case.table(seeds(500), case.given(500, [{"outcome": "dry", "@temperature": heat}]))["temperature"].to_numpy()
        for heat in (0.1, 1.0)
    )
    np.testing.assert_allclose((cold - 20) * 10, hot - 20, rtol=1e-9, atol=1e-9)


# ---- far away: rows that finish in any order ----


def test_a_full_pool_never_waits_for_a_window(tmp_path):
    case, n = CASES["oracle"], 1000
    model = toys.Oracle(64)
    own = case.given(n, [{"prompt": "x"}])
    made = list(generate(model, case.form, seeds(n), own, batch=16, window=64, folder=tmp_path))
    assert sum(batch.num_rows for batch in made) == n
    assert model.in_flight == {64: n - 63} | dict.fromkeys(range(1, 64), 1)  # full until no row is left


def test_the_next_window_is_proposed_before_this_one_is_finished(tmp_path):
    case, asked, finished = CASES["oracle"], [], []

    def watched(model):
        def asking(drafts):
            for draft in drafts:
                asked.append((len(draft), len(finished)))
                yield draft

        def stream(drafts, /, *, folder):
            for event in toys.Oracle.stream(model, asking(drafts), folder=folder):
                finished.extend([event] if isinstance(event, genreg.draft.Done) else [])
                yield event

        object.__setattr__(model, "stream", stream)
        return model

    list(generate(watched(toys.Oracle(8)), case.form, seeds(60), case.given(60), window=20, folder=tmp_path))
    assert [rows for rows, _ in asked] == [20, 20, 20]
    assert all(done < 20 * at for at, (_, done) in enumerate(asked) if at)


def test_a_hundred_thousand_rows_pass_in_bounded_memory(tmp_path):
    """Rows that have been proposed and are not written yet: those of two windows, of a batch, and those overtaken."""
    case, n, proposed, written, held, outcomes = CASES["oracle"], 100_000, 0, 0, 0, set()
    form, model = case.form, toys.Oracle(64)

    def propose(seeds, given, /):
        nonlocal proposed
        proposed += len(seeds)
        return toys.Oracle.propose(model, seeds, given)

    object.__setattr__(model, "propose", propose)
    prompts = pa.array(["x", "boom", "secret", "明天?"]).take(pa.array(np.arange(n) % 4))
    own = pa.RecordBatch.from_arrays([prompts, pa.nulls(n, pa.float64())], schema=form.given)
    for batch in generate(model, form, seeds(n), own, batch=256, window=512, folder=tmp_path):
        held = max(held, proposed - written)
        written += batch.num_rows
        outcomes.update(batch.column("outcome").to_pylist())
    assert (proposed, written, outcomes) == (n, n, {"ok", "failed", "refused"})
    assert held <= 2 * 512 + 256 + 64 * 4


def test_a_journal_is_not_asked_again(tmp_path):
    case = CASES["oracle"]
    first, second = toys.Oracle(4), toys.Oracle(4)
    whole = list(generate(first, case.form, seeds(N), case.given(N), folder=tmp_path))
    assert list(generate(second, case.form, seeds(N), case.given(N), folder=tmp_path)) == whole
    assert first.sent.total() == N
    assert second.sent.total() == 0


def test_a_run_that_was_interrupted_asks_for_the_rest_alone(tmp_path):
    case = CASES["oracle"]
    first, second = toys.Oracle(4), toys.Oracle(4)
    whole = case.table(seeds(N), folder=_folder(tmp_path, "whole"))
    broken_off = generate(first, case.form, seeds(N), case.given(N), batch=5, folder=_folder(tmp_path, "own"))
    next(broken_off)
    broken_off.close()
    kept = [json.loads(line) for line in (tmp_path / "own" / toys.JOURNAL).read_text("utf-8").splitlines()]
    assert 5 <= len(kept) < N
    made = list(generate(second, case.form, seeds(N), case.given(N), folder=tmp_path / "own"))
    assert pa.Table.from_batches(made).equals(whole)
    assert second.sent.total() == N - len(kept)


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


# ---- types ----


def test_the_doctest_and_the_toys_pass_mypy_strict(tmp_path):
    """The doctest as a module of its own; the toys are compared with the protocol Model."""
    lines = [example.source for example in doctest.DocTestParser().get_examples(genreg.draft.__doc__ or "")]
    ast.parse("".join(lines))
    (tmp_path / "example.py").write_text("".join(lines))
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "example.py"), "tests/toys.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_given_batch_is_never_changed():
    case = CASES["weather"]
    own, again = case.given(N), case.given(N)
    case.table(seeds(N), own)
    assert own.equals(again)
    assert with_column(own, own.schema.field("station"), own.column("station")).equals(again)
