"""Maps: what they do, agreement with scikit-learn, and that everything comes back through a checkpoint."""

import datetime
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer, RobustScaler

from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source, conform, noted, with_column
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.images import images
from genreg.plugins import load_plugins
from genreg.preprocess import Chain, fit_steps, minmax, restore_chain, standardize
from genreg_data.categories import onehot, ordinal
from genreg_data.channels import channels
from genreg_data.logarithm import log
from genreg_data.ranks import quantile, robust
from genreg_data.sketch import EXACT, Quantiles

COMPONENTS = load_plugins()


def find(name: str) -> Any:
    return COMPONENTS.find("preprocessors", name)


def train(columns: dict[str, Any] | pa.Table) -> Source:
    return Source.of(columns if isinstance(columns, pa.Table) else pa.table(columns), "train")


def whole(source: Source) -> pa.RecordBatch:
    (batch,) = source.batches(size=10**9)
    return batch


def fitted(source: Source, *calls: str) -> Chain:
    _, steps = fit_steps(calls, source, lambda name: (find(name), "genreg-data"), "map")
    return Chain(tuple(steps))


def through_files(chain: Chain, folder) -> Chain:
    written, tensors = chain.state()
    write_tensors(folder / "chain.safetensors", tensors)
    found = Weights.open(folder / "chain.safetensors").under("") if tensors else {}
    return restore_chain(json.loads(json.dumps(written)), found, find)


# ---- every Arrow type that a map takes comes back: save -> load -> undo ----

DAY = datetime.date(2020, 2, 29)
NOON = datetime.datetime(2020, 2, 29, 12, 0, 0, 1)
EXACT_TYPES = {
    "int8": [-128, 127, 3, 3],
    "int16": [-(2**15), 2**15 - 1, 5],
    "int32": [-(2**31), 2**31 - 1, 7],
    "int64": [-(2**40), 2**40, 11],
    "uint8": [0, 255, 4],
    "uint16": [0, 2**16 - 1, 4],
    "uint32": [0, 2**32 - 1, 4],
    "uint64": [0, 2**40, 4],
    "bool": [True, False, True],
    "date32": [DAY, datetime.date(1969, 1, 1), datetime.date(2100, 1, 1)],
    "date64": [DAY, datetime.date(1969, 1, 1), datetime.date(2100, 1, 1)],
    "timestamp[s]": [NOON.replace(microsecond=0), datetime.datetime(1950, 1, 1)],
    "timestamp[ms]": [NOON.replace(microsecond=1000), datetime.datetime(2019, 1, 1)],
    "timestamp[us]": [NOON, NOON + datetime.timedelta(hours=1)],
    "timestamp[ns]": [datetime.datetime(1970, 1, 1), datetime.datetime(1970, 1, 2, 3, 0, 0, 7)],
    "time32[s]": [datetime.time(0), datetime.time(23, 59, 59)],
    "time32[ms]": [datetime.time(0), datetime.time(23, 59, 59, 999_000)],
    "time64[us]": [datetime.time(0), datetime.time(23, 59, 59, 999_999)],
    "time64[ns]": [datetime.time(0), datetime.time(23, 59, 59, 999_999)],
    "duration[s]": [datetime.timedelta(0), datetime.timedelta(days=9)],
}
CLOSE_TYPES = {"float": 1e-6, "double": 1e-12, "halffloat": 2e-3}


def there_and_back(column: Any, call: str, folder) -> Any:
    table = pa.table({"x": column})
    source = train(table)
    chain = through_files(fitted(source, call), folder)
    mapped = chain.apply(whole(source))
    assert not mapped.equals(whole(source)) or pa.types.is_floating(table.schema.field("x").type)  # it may be 0 and 1
    return conform(chain.undo(mapped), table.schema).column("x")


@pytest.mark.parametrize("step", ["robust", "quantile", "standardize", "minmax"])
@pytest.mark.parametrize("kind", EXACT_TYPES)
def test_whole_numbers_dates_and_times_come_back_exactly(kind, step, tmp_path):
    column = pa.array([*EXACT_TYPES[kind], None], pa.type_for_alias(kind))
    assert there_and_back(column, f"{step}:columns=x", tmp_path).equals(column)


@pytest.mark.parametrize("step", ["robust:columns=x", "quantile:columns=x", "log:columns=x,shift=101"])
@pytest.mark.parametrize("kind", CLOSE_TYPES)
@given(values=st.lists(st.none() | st.floats(-100, 100, width=16), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_floats_come_back_closely(kind, step, values, tmp_path_factory):
    column = pa.array(np.array([np.nan if v is None else v for v in values], np.float16), from_pandas=True)
    column = column.cast(pa.type_for_alias(kind))
    found = there_and_back(column, step, tmp_path_factory.getbasetemp())
    assert found.is_null().equals(column.is_null())
    np.testing.assert_allclose(
        found.drop_null().to_numpy(),
        column.drop_null().to_numpy(),
        rtol=CLOSE_TYPES[kind],
        atol=100 * CLOSE_TYPES[kind],
    )


@pytest.mark.parametrize("step", ["robust", "quantile"])
@given(
    seen=st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=60),
    others=st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_whole_numbers_that_training_never_saw_come_back_too(step, seen, others):
    chain = fitted(train({"x": pa.array(seen, pa.int32())}), step)
    batch = pa.record_batch([pa.array(others, pa.int32())], ["x"])
    assert conform(chain.undo(chain.apply(batch)), batch.schema).equals(batch)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", "雪", "", None, "b"]),
        pa.array(["b", "雪", "", None], pa.large_string()),
        pa.array([3, -1, None], pa.int16()),
        pa.array([2**64 - 1, 0, None], pa.uint64()),
        pa.array([True, False, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_categories_come_back_exactly_from_zeros_and_ones(column, tmp_path):
    assert there_and_back(column, "onehot:columns=x", tmp_path).equals(column)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.int8(), pa.uint64()])
def test_categories_come_back_exactly_from_their_order(kind, tmp_path):
    column = pa.array(["3", "1", None, "2"]).cast(kind)
    assert there_and_back(column, "ordinal:column=x,order=[3,1,2]", tmp_path).equals(column)


def test_pixels_come_back_exactly_from_their_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 3), dtype=np.uint8)
    source = train(pa.table({"image": images(pixels), "n": range(7)}))
    chain = through_files(fitted(source, "channels"), tmp_path)
    mapped = chain.apply(whole(source))
    values = mapped.column("image").to_numpy_ndarray()
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.mean(axis=(0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=(0, 1, 2)), 1, atol=1e-6)
    np.testing.assert_array_equal(chain.undo(mapped).column("image").to_numpy_ndarray(), pixels)


def test_a_missing_image_stays_missing_and_a_constant_channel_keeps_its_scale():
    cells = images(np.full((3, 2, 2), 9, np.uint8))
    gap = pa.ExtensionArray.from_storage(cells.type, pa.array([*cells.storage.to_pylist(), None], cells.storage.type))
    source = train(pa.table({"image": gap}))
    step = channels(source)
    mapped = step.apply(whole(source))
    assert (step.deviation["image"].tolist(), mapped.column("image").null_count) == ([1.0], 1)
    back = step.undo(mapped).column("image")
    assert back.storage.to_pylist() == gap.storage.to_pylist()


STRANGE = {
    "decimal": pa.array([Decimal("1.5")]),
    "binary": pa.array([b"x"]),
    "list": pa.array([[1.0]]),
    "struct": pa.array([{"a": 1}]),
    "string": pa.array(["x"]),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3])]),
    "large decimal": pa.array([1], pa.decimal256(40, 2)),
    "fixed binary": pa.array([b"ab"], pa.binary(2)),
    "large binary": pa.array([b"a"], pa.large_binary()),
    "large list": pa.array([[1]], pa.large_list(pa.int64())),
    "fixed list": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "null": pa.nulls(1),
    "pixels": images(np.zeros((1, 2, 2), np.uint8)),
}


@pytest.mark.parametrize("step", [robust, quantile, standardize, minmax])
@pytest.mark.parametrize("kind", STRANGE)
def test_every_other_type_is_refused_by_name(kind, step):
    column = STRANGE[kind]
    with pytest.raises(DataError, match=r"^column x holds .*, not numbers: leave it out with --drop x$") as error:
        step(train({"x": column}), columns=["x"])
    assert str(column.type) in str(error.value)


@pytest.mark.parametrize("step", ["robust", "quantile", "standardize", "minmax"])
@pytest.mark.parametrize(
    "column",
    [pa.array([NOON], pa.timestamp("ns")), pa.array([2**53 + 1]), pa.array([2**64 - 1], pa.uint64())],
    ids=["nanoseconds", "int64", "uint64"],
)
def test_whole_numbers_that_float64_cannot_hold_are_refused_by_name(column, step):
    with pytest.raises(
        DataError, match=r"^column x holds whole numbers (beyond 2\^53|that .* cannot bring back exactly)"
    ):
        find(step).fit(train({"x": column}), columns=["x"])


@pytest.mark.parametrize("kind", sorted(STRANGE.keys() - {"string", "pixels"}))
def test_what_is_no_category_is_refused_by_name(kind):
    message = r"^--preprocess onehot: column x holds .*: categories are text, whole numbers, yes/no$"
    with pytest.raises(DataError, match=message):
        onehot(train({"x": STRANGE[kind]}), columns=["x"])
    with pytest.raises(DataError, match=r"^--preprocess log: column x holds .*, and numbers have logarithms$"):
        log(train({"x": STRANGE[kind]}), columns=["x"])
    with pytest.raises(DataError, match=r"^--preprocess channels: column x holds .*, and it takes pixels of one size$"):
        channels(train({"x": STRANGE[kind]}), columns=["x"])


# ---- what they do, against scikit-learn ----


def test_robust_is_scikit_learns():
    values = np.random.default_rng(0).lognormal(size=(999, 2))
    step = robust(train({"a": values[:, 0], "b": values[:, 1]}))
    peer = RobustScaler().fit(values)
    np.testing.assert_allclose(step.mean, peer.center_, rtol=1e-12)
    np.testing.assert_allclose(step.deviation, peer.scale_, rtol=1e-12)


def test_quantile_is_scikit_learns_at_its_quantiles():
    values = np.random.default_rng(0).gamma(2, size=5000)
    source = train({"x": values})
    own = quantile(source, quantiles=200).apply(whole(source)).column("x").to_numpy()
    peer = QuantileTransformer(n_quantiles=200, output_distribution="normal", subsample=None).fit(values[:, None])
    knots = peer.quantiles_[:, 0]
    at_knots = quantile(source, quantiles=200).apply(pa.record_batch([pa.array(knots)], ["x"])).column("x").to_numpy()
    np.testing.assert_allclose(at_knots[1:-1], peer.transform(knots[1:-1, None])[:, 0], atol=1e-9)
    inside = (values > knots[1]) & (values < knots[-2])
    np.testing.assert_allclose(own[inside], peer.transform(values[inside, None])[:, 0], atol=0.02)
    assert (abs(own.mean()) < 0.02, abs(own.std() - 1) < 0.03) == (True, True)


def test_equal_values_go_to_their_middle_rank_as_scikit_learns_do():
    values = np.array([0.0] * 50 + list(range(1, 51)))
    source = train({"x": values})
    own = quantile(source, quantiles=100).apply(pa.record_batch([pa.array([0.0])], ["x"])).column("x")[0].as_py()
    peer = QuantileTransformer(n_quantiles=100, output_distribution="uniform", subsample=None).fit(values[:, None])
    first, last = np.flatnonzero(peer.quantiles_[:, 0] == 0)[[0, -1]] / 99
    from statistics import NormalDist

    assert own == pytest.approx(NormalDist().inv_cdf((first + last) / 2), abs=1e-12)


def test_onehot_and_ordinal_are_scikit_learns():
    colors = ["red", "green", "red", "blue"]
    source = train({"color": colors, "n": [1, 2, 3, 4]})
    mapped = onehot(source).apply(whole(source))
    assert mapped.schema.names == ["n", "color=blue", "color=green", "color=red"]
    dense = OneHotEncoder(sparse_output=False).fit_transform(np.array(colors)[:, None])
    np.testing.assert_array_equal(np.stack([c.to_numpy() for c in mapped.columns[1:]], axis=1), dense)
    order = ["green", "blue", "red"]
    codes = ordinal(source, column="color", order=order).apply(whole(source)).column("color").to_pylist()
    peer = OrdinalEncoder(categories=[order]).fit_transform(np.array(colors)[:, None])[:, 0]
    assert codes == peer.tolist()


def test_log_jacobians_are_the_slopes():
    draw = np.random.default_rng(1)
    values = draw.lognormal(size=400)
    source = train({"x": values})
    inside = np.sort(draw.choice(values, 50)) * (1 + 1e-7)
    for call in ("robust", "quantile:quantiles=20", "log:columns=x,shift=0.5"):
        chain = fitted(source, call)

        def at(x: Any, chain: Chain = chain) -> Any:
            return chain.apply(pa.record_batch([pa.array(x)], ["x"])).column("x").to_numpy()

        h = 1e-9
        slopes = (at(inside + h) - at(inside - h)) / (2 * h)
        stated = chain.log_jacobian(pa.record_batch([pa.array(inside)], ["x"]))
        np.testing.assert_allclose(stated, np.log(slopes), atol=1e-4)
        assert chain.log_jacobian(pa.record_batch([pa.nulls(1, pa.float64())], ["x"])).tolist() == [0.0]


def test_the_log_jacobian_of_channels_is_that_of_each_pixel():
    source = train(pa.table({"image": images(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))}))
    step = channels(source)
    expected = -4 * np.log(step.deviation["image"]).sum()
    np.testing.assert_allclose(step.log_jacobian(whole(source)), [expected, expected])


def test_beyond_the_training_values_quantile_goes_on_straight():
    step = quantile(train({"x": [1.0, 2.0, 3.0, 4.0, 5.0]}), quantiles=5)
    at = step.apply(pa.record_batch([pa.array([4.0, 5.0, 6.0, 1e6])], ["x"])).column("x").to_numpy()
    np.testing.assert_allclose(at[2] - at[1], at[1] - at[0], rtol=1e-12)
    assert at[3] > at[2]


def test_maps_of_new_categories_and_of_absent_columns():
    step = onehot(train({"c": ["a", "b"]}))
    mapped = step.apply(pa.record_batch([pa.array(["a", "z", None])], ["c"]))
    assert [column.to_pylist() for column in mapped.columns] == [[1, 0, None], [0, 0, None]]
    assert step.undo(mapped).column("c").to_pylist() == ["a", None, None]
    generated = pa.record_batch([pa.array([0.2, -0.1]), pa.array([0.7, -0.3])], ["c=a", "c=b"])
    assert step.undo(generated).column("c").to_pylist() == ["b", "a"]
    other = pa.record_batch([pa.array([1])], ["n"])
    for fit, columns in ((robust, {"x": [1.0]}), (quantile, {"x": [1.0]}), (onehot, {"x": ["a"]})):
        found = fit(train(columns))
        assert found.undo(found.apply(other)).equals(other)
        assert found.log_jacobian(other).tolist() == [0.0]


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda: quantile(train({"x": [1.0]}), quantiles=1), "quantiles=1: write 2 to 100000$"),
        (lambda: robust(train({"x": [float("inf")]})), "column x has infinity: clip it first with --preprocess clip:c"),
        (lambda: robust(train({"x": [-1.7e308, 1.7e308] * 9})), "column x spans more than float64 can hold"),
        (lambda: quantile(train({"x": [-1.7e308, 1.7e308]})), "column x spans more than float64 can hold"),
        (
            lambda: robust(train({"x": [0, 2**50]})),
            "column x holds whole numbers that robust cannot bring back exactly",
        ),
        (lambda: quantile(train({"x": [0, 2**48]})), "column x holds whole numbers that quantile cannot bring back"),
        (lambda: log(train({"x": [0.0]}), columns=["x"]), "column x holds 0, which has no logarithm: .*shift=1 adds"),
        (lambda: log(train({"x": [-2.5]}), columns=["x"]), "column x holds -2.5, which has no logarithm: .*shift=3.5"),
        (lambda: log(train({"x": [2**45]}), columns=["x"]), "log brings whole numbers back to 2\\^44$"),
        (lambda: onehot(train({"x": ["a", "b"]}), most=1), "column x has more than 1 different values; most=…, up to"),
        (lambda: onehot(train({"x": ["a"], "x=a": [1]})), "onehot would make a second column x=a: rename one$"),
        (lambda: ordinal(train({"x": ["a"]}), column="x", order=["b"]), "column x holds a, which order="),
        (lambda: ordinal(train({"x": ["a"]}), column="x", order=["a", "a"]), "name each value once$"),
        (lambda: ordinal(train({"x": [1]}), column="x", order=["a"]), "is not of int64, which column x holds$"),
        (lambda: ordinal(train({"x": [1]}), column="y", order=["1"]), "columns y: the data has no column y; there are"),
    ],
)
def test_what_cannot_be_mapped_is_refused(fit, message):
    with pytest.raises((DataError, UsageError), match=message):
        fit()


@pytest.mark.parametrize(
    ("step", "state", "tensors"),
    [
        ("quantile", {"columns": ["x"]}, {"0.knots.0": np.array([[1.0, 1.0], [0.0, 1.0]])}),
        ("quantile", {"columns": ["x"]}, {"0.knots.0": np.array([1.0, 2.0])}),
        ("quantile", {"columns": ["x"]}, {}),
        ("log", {"columns": "x", "shift": 0}, {}),
        ("log", {"columns": ["x"], "shift": "a"}, {}),
        ("channels", {"columns": ["x"]}, {"0.0": np.array([[0.0], [0.0]])}),
        ("onehot", {"values": {"x": [1, "a"]}, "uint64": []}, {}),
        ("onehot", {"values": {"x": "ab"}, "uint64": []}, {}),
    ],
)
def test_a_damaged_state_is_refused(step, state, tensors):
    with pytest.raises(CheckpointError, match=r"^step 0 of the checkpoint's chain is damaged: "):
        restore_chain([{"step": step, "plugin": "genreg-data", "state": state}], tensors, find)


# ---- quantiles of a stream ----


@pytest.mark.parametrize("size", [1000, 65_536, 7])
def test_quantiles_are_exact_while_values_are_few_whatever_the_batches(size):
    values = np.random.default_rng(0).normal(size=3000)
    sketch = Quantiles()
    for at in range(0, len(values), size):
        sketch.add(values[at : at + size])
    shares = np.linspace(0, 1, 37)
    np.testing.assert_allclose(sketch.at(shares), np.quantile(values, shares), rtol=1e-13)


@pytest.mark.parametrize("order", ["drawn", "sorted"])
def test_quantiles_of_many_values_are_off_by_less_than_2_in_10000_ranks(order):
    rows = 20 * EXACT + 123
    values = np.random.default_rng(0).permutation(rows).astype(float)
    if order == "sorted":
        values.sort()
    sketch = Quantiles()
    for at in range(0, rows, 50_000):
        sketch.add(values[at : at + 50_000])
    shares = np.linspace(0, 1, 101)
    assert np.abs(sketch.at(shares) / (rows - 1) - shares).max() < 2e-4


def test_there_are_no_quantiles_of_nothing():
    assert np.isnan(Quantiles().at([0.5])).all()


def test_a_label_is_made_zeros_and_ones_in_its_noted_order():
    field = noted(pa.field("size", pa.string()), role="label", values=["s", "m", "l"])
    batch = with_column(pa.record_batch([pa.array(["l", "s"])], ["size"]), field, pa.array(["l", "s"]))
    assert onehot(Source.of(pa.Table.from_batches([batch]), "train")).values == {"size": ["s", "m", "l"]}
