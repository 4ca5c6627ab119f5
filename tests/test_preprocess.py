"""The chain of maps and the built-in steps: what they do, what undoes them, how they are kept, what they refuse."""

import datetime
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source, conform, noted, notes, refuse_not_finite
from genreg.errors import CheckpointError, DataError, NotFound, UsageError, did_you_mean
from genreg.preprocess import (
    PREPROCESSORS,
    Categories,
    Chain,
    Standardize,
    Step,
    categories,
    cleaned,
    clip,
    dedupe,
    dropna,
    fillna,
    fit_steps,
    minmax,
    restore_chain,
    standardize,
)

BY_NAME = {preprocessor.name: preprocessor for preprocessor in PREPROCESSORS}


def find(name: str) -> Any:
    if name not in BY_NAME:
        raise NotFound(f"there is no preprocessor {name}{did_you_mean(name, BY_NAME)}")
    return BY_NAME[name]


def train(columns: dict[str, Any] | pa.Table, part: Any = "train") -> Source:
    return Source.of(columns if isinstance(columns, pa.Table) else pa.table(columns), part)


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def fitted(data: Source, *calls: str) -> Chain:
    _, steps = fit_steps(calls, data, lambda name: (find(name), "genreg-core"), "map")
    return Chain(tuple(steps))


def through_files(chain: Chain, folder) -> Chain:
    """The chain as a checkpoint keeps it: JSON and safetensors."""
    written, tensors = chain.state()
    write_tensors(folder / "chain.safetensors", {"chain." + name: array for name, array in tensors.items()})
    found = Weights.open(folder / "chain.safetensors").under("chain.") if tensors else {}
    return restore_chain(json.loads(json.dumps(written)), found, find)


# ---- standardize ----


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9, -1e9])
@pytest.mark.parametrize("rows", [3, 70_000, 200_000])  # 65,536 rows are looked at together
def test_moments_are_stable_whatever_the_offset(offset, rows):
    values = np.random.default_rng(0).normal(size=rows) + offset
    step = standardize(train({"x": values}))
    exact = np.asarray(values, np.longdouble)
    np.testing.assert_allclose(step.mean, [float(exact.mean())], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(step.deviation, [float(exact.std())], rtol=1e-9)


def test_standardized_columns_have_mean_0_and_deviation_1():
    data = train({"x": pa.array([1.5, None, 2.5, 4.0]), "n": [1, 2, 3, 10], "text": ["a", "b", "c", "d"]})
    out = fitted(data, "standardize").apply(next(data.batches(size=9)))
    for name in ("x", "n"):
        values = np.array([value for value in out.column(name).to_pylist() if value is not None])
        assert abs(values.mean()) < 1e-15
        assert abs(values.std() - 1) < 1e-15
    assert out.column("x").is_null().to_pylist() == [False, True, False, False]
    assert out.column("text").to_pylist() == ["a", "b", "c", "d"]
    assert out.schema.types == [pa.float64(), pa.float64(), pa.string()]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.1, -7, 5e-324])
@pytest.mark.parametrize("rows", [1, 3, 10, 70_000])
def test_a_constant_column_keeps_its_scale_and_comes_back_exactly(value, rows):
    step = standardize(train({"x": [value] * rows}))
    assert step.deviation.tolist() == [1.0]
    mapped = step.apply(batch(x=[value]))
    assert mapped.column("x").to_pylist() == [0.0]
    assert step.undo(mapped).column("x").to_pylist() == [value]


def test_a_column_of_nulls_is_left_where_it_is():
    step = standardize(train({"x": pa.nulls(4, pa.float64())}))
    assert step.apply(batch(x=[2.0, None])).column("x").to_pylist() == [2.0, None]


def test_what_is_standardized_unless_columns_are_named():
    schema = pa.schema(
        [
            pa.field("half", pa.float16()),
            pa.field("count", pa.uint8()),
            noted(pa.field("grade", pa.int64()), values=[1, 2]),
            noted(pa.field("weight", pa.float64()), role="weight"),
            noted(pa.field("label", pa.int64()), role="label"),
            pa.field("yes", pa.bool_()),
            pa.field("day", pa.date32()),
            pa.field("text", pa.string()),
        ]
    )
    data = Source.of(schema.empty_table(), "train")
    assert standardize(data).columns == ("half", "count")
    assert standardize(data, columns=["grade", "yes"]).columns == ("grade", "yes")


def test_a_day_is_standardized_where_it_is_named():
    days = [datetime.date(2020, 1, 1), datetime.date(2020, 1, 3), None]
    data = train({"day": days})
    chain = fitted(data, "standardize:columns=day")
    mapped = chain.apply(next(data.batches(size=9)))
    assert mapped.column("day").to_pylist() == [-1.0, 1.0, None]
    assert chain.undo(mapped).column("day").to_pylist() == [18262.0, 18264.0, None]


def test_standardize_refuses_by_name():
    for columns, message in [
        ({"n": [2**53 + 1]}, r"^column n holds whole numbers beyond 2\^53, which float64 cannot hold exactly"),
        (
            {"x": [1e200, -1e200]},
            "^column x holds numbers whose squares float64 cannot hold: leave it out: --drop x$",
        ),
        ({"x": [1.7e308] * 9}, "^column x holds numbers whose squares float64 cannot hold"),
    ]:
        with pytest.raises(DataError, match=message):
            standardize(train(columns))
    with pytest.raises(DataError, match=r"^column t holds string, not numbers: leave it out with --drop t$"):
        standardize(train({"t": ["a"]}), columns=["t"])
    with pytest.raises(DataError, match=r"^--preprocess standardize: columns y: the data has no column y; there"):
        standardize(train({"x": [1.0]}), columns=["y"])


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_undo_is_the_inverse_and_null_stays_null(values):
    data = train({"x": pa.array(values, pa.float64())})
    step = standardize(data)
    back = step.undo(step.apply(next(data.batches(size=99)))).column("x").to_pylist()
    assert [value is None for value in back] == [value is None for value in values]
    for found, value in zip(back, values, strict=True):
        assert value is None or abs(found - value) <= 1e-9 * max(1, abs(value), *map(abs, step.mean))


# ---- minmax ----


def test_minmax_brings_columns_to_its_range_and_meets_both_ends():
    data = train({"x": [0.1, 0.3, 0.7, None], "n": [10, 20, 30, 30], "text": ["a", "b", "c", "d"]})
    out = fitted(data, "minmax").apply(next(data.batches(size=9)))
    assert out.column("n").to_pylist() == [0.0, 0.5, 1.0, 1.0]
    assert out.column("x").to_pylist()[::2] == [0.0, 1.0]
    assert out.column("x").null_count == 1
    assert out.column("text").to_pylist() == ["a", "b", "c", "d"]
    out = fitted(data, "minmax:low=-1,high=0.1,columns=x").apply(next(data.batches(size=9)))
    assert out.column("x").to_pylist()[::2] == [-1.0, 0.1]
    assert out.column("n").to_pylist() == [10, 20, 30, 30]


def test_minmax_does_not_clip_and_undoes_what_lies_beyond():
    step = minmax(train({"n": [0, 10]}))
    assert step.apply(batch(n=[20, -10])).column("n").to_pylist() == [2.0, -1.0]
    assert step.undo(batch(n=[2.0, -1.0])).column("n").to_pylist() == [20.0, -10.0]


def test_minmax_of_a_constant_and_of_nothing():
    assert minmax(train({"x": [1e300]})).apply(batch(x=[1e300])).column("x").to_pylist() == [0.0]
    assert minmax(train({"x": pa.nulls(2, pa.float64())})).apply(batch(x=[2.0])).column("x").to_pylist() == [2.0]


def test_the_jacobian_of_minmax_is_that_of_its_slope():
    step = minmax(train({"x": [0.0, 4.0], "y": [1.0, 2.0]}), low=-1, high=1)
    np.testing.assert_allclose(step.log_jacobian(batch(x=[1.0, None], y=[1.5, 1.5])), [0.0, np.log(2)], atol=1e-15)


def test_minmax_refuses_by_name():
    for knobs in ({"low": 1.0}, {"low": 2.0, "high": 1.0}, {"high": np.inf}):
        with pytest.raises(UsageError, match=r"^--preprocess minmax: low=.*,high=.*: low must lie below high$"):
            minmax(train({"x": [1.0]}), **knobs)
    with pytest.raises(DataError, match=r"^column x spans more than float64 can hold: leave it out: --drop x$"):
        minmax(train({"x": [1.7e308, -1.7e308]}))


# ---- what every map brings back ----

WHOLE = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.bool_()]
TIMES = [
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.duration("s")),
]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
TEXTS = [pa.string(), pa.large_string()]
AFFINE = ["standardize:columns=c", "minmax:columns=c", "minmax:columns=c,low=-1,high=1"]
EXACT = 2**47  # whole numbers up to here, on both sides of zero, come back exactly


def whole_numbers(kind: pa.DataType) -> st.SearchStrategy[int]:
    """Whole numbers that the type holds, as it holds them."""
    if pa.types.is_boolean(kind):
        return st.integers(0, 1)
    if pa.types.is_time(kind):
        return st.integers(0, 86_400 * 1000 ** ("s", "ms", "us", "ns").index(kind.unit) - 1)
    if pa.types.is_date64(kind):
        return st.integers(-100_000, 100_000).map(lambda day: day * 86_400_000)
    if pa.types.is_integer(kind):
        bounds = np.iinfo(str(kind))
        return st.integers(max(int(bounds.min), -EXACT), min(int(bounds.max), EXACT))
    return st.integers(-(2**31) if kind.bit_width == 32 else -EXACT, 2**31 - 1 if kind.bit_width == 32 else EXACT)


def column_of(numbers: list[int | None], kind: pa.DataType) -> Any:
    if pa.types.is_boolean(kind):
        return pa.array([None if n is None else bool(n) for n in numbers], kind)
    held = kind if pa.types.is_integer(kind) else pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(numbers, held).cast(kind)


def brought_back(column: Any, call: str, tmp: Any, **noted_: Any) -> Any:
    """The column after fit, save, load, apply and undo, in the data's form."""
    field = noted(pa.field("c", column.type), **noted_)
    data = Source.of(pa.table([column], schema=pa.schema([field])), "train")
    chain, rows = through_files(fitted(data, call), tmp), next(data.batches(size=999))
    return conform(chain.undo(chain.apply(rows)), data.schema).column("c")


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("chain")


@pytest.mark.parametrize("call", AFFINE)
@pytest.mark.parametrize("kind", [*WHOLE, *TIMES], ids=str)
def test_whole_numbers_dates_and_times_come_back_bit_for_bit(kind, call, tmp):
    @given(st.lists(st.none() | whole_numbers(kind), min_size=1, max_size=12))
    @settings(max_examples=25, deadline=None)
    def check(numbers):
        column = column_of(numbers, kind)
        assert brought_back(column, call, tmp).equals(column)

    check()


@pytest.mark.parametrize("call", AFFINE)
@pytest.mark.parametrize("kind", FLOATS, ids=str)
def test_floats_come_back_to_the_precision_of_the_largest(kind, call, tmp):
    width = kind.bit_width
    reach = 6e4 if width == 16 else 2.0**100

    @given(st.lists(st.none() | st.floats(-reach, reach, width=width), min_size=1, max_size=12))
    @settings(max_examples=40, deadline=None)
    def check(numbers):
        column = pa.array([None if n is None else np.dtype(f"f{width // 8}").type(n) for n in numbers], kind)
        back = brought_back(column, call, tmp)
        assert back.is_null().equals(column.is_null())
        a, b = (one.cast(pa.float64()).drop_null().to_numpy() for one in (column, back))
        digits = np.finfo(f"f{width // 8}").eps / 2 * abs(a) + 8 * np.finfo("f8").eps * abs(a).max(initial=0)
        assert (abs(a - b) <= digits).all()

    check()


@pytest.mark.parametrize("call", AFFINE)
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_floats_with_decimals_come_back_bit_for_bit(kind, call, tmp):
    @given(st.lists(st.none() | st.integers(-(10**6), 10**6), min_size=1, max_size=12))
    @settings(max_examples=25, deadline=None)
    def check(hundredths):
        column = pa.array([None if n is None else n / 100 for n in hundredths], kind)
        assert brought_back(column, call, tmp, decimals=2).equals(column)

    check()


@pytest.mark.parametrize("kind", [*WHOLE, *TEXTS], ids=str)
def test_categories_come_back_bit_for_bit(kind, tmp):
    text = kind in TEXTS
    every = st.text(max_size=4) if text else st.integers(0, 1) if kind == pa.bool_() else None
    bounds = None if every is not None else np.iinfo(str(kind))
    cells = every if bounds is None else st.integers(int(bounds.min), int(bounds.max))

    @given(st.lists(st.none() | cells, min_size=1, max_size=12))
    @settings(max_examples=25, deadline=None)
    def check(values):
        column = pa.array(values, kind) if text else column_of(values, kind)
        assert brought_back(column, "categories:columns=c", tmp, role="label").equals(column)

    check()


@pytest.mark.parametrize("call", AFFINE)
@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a"]),
        pa.array([b"a"]),
        pa.array([[1.0]]),
        pa.array([{"a": 1}]),
        pa.array(["a"]).dictionary_encode(),
        pa.array([1]).cast(pa.decimal128(30, 2)),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 2), np.uint8)),
    ],
    ids=lambda column: str(column.type),
)
def test_every_other_type_is_refused_by_name(column, call):
    with pytest.raises(DataError, match=r"^column c holds .*, not numbers: leave it out with --drop c$"):
        fitted(train({"c": column}), call)


@pytest.mark.parametrize(
    "column",
    [pa.array([0.5]), pa.array([[1]]), pa.array([b"a"]), pa.array([datetime.date(2020, 1, 1)])],
    ids=lambda column: str(column.type),
)
def test_every_other_type_is_no_category_and_refused_by_name(column):
    with pytest.raises(DataError, match=r"^column c holds .*: categories are text, whole numbers or yes/no$"):
        categories(train({"c": column}), columns=["c"])


@pytest.mark.parametrize("call", AFFINE)
@pytest.mark.parametrize("numbers", [[0, 2**49], [2**52 + 1], [-(2**51), 2**51]])
def test_whole_numbers_that_would_not_come_back_are_refused_by_name(numbers, call):
    name = call.partition(":")[0]
    with pytest.raises(DataError, match=rf"^column c holds whole numbers that {name} cannot bring back exactly, from"):
        fitted(train({"c": numbers}), call)


# ---- categories ----

KINDS: dict[str, tuple[list[Any], list[Any]]] = {
    "text": (["b", "a", None, "b", "雪", "c"], ["a", "b", "c", "雪"]),
    "yes/no": ([True, None, False, True], [False, True]),
    "whole numbers": ([30, 4, None, 4, -1], [-1, 4, 30]),
}


@pytest.mark.parametrize(("cells", "values"), KINDS.values(), ids=KINDS)
def test_values_are_numbered_in_sorted_order_and_come_back(cells, values, tmp_path):
    data = Source.of(pa.table({"c": cells}).cast(label_schema(cells)), "train")
    chain = fitted(data, "categories")
    whole = next(data.batches(size=99))
    for one in (chain, through_files(chain, tmp_path)):
        mapped = one.apply(whole)
        assert mapped.column("c").to_pylist() == [None if cell is None else values.index(cell) for cell in cells]
        assert mapped.schema.field("c").type == pa.int32()
        assert notes(mapped.schema.field("c")) == {"role": "label", "values": values}
        assert one.undo(mapped).column("c").to_pylist() == cells


def label_schema(cells: list[Any]) -> pa.Schema:
    return pa.schema([noted(pa.field("c", pa.array(cells).type), role="label")])


def test_the_noted_order_wins_also_over_values_that_no_row_has():
    field = noted(pa.field("size", pa.string()), values=["small", "middle", "large"])
    data = Source.of(pa.table({"size": ["large", "small"]}).cast(pa.schema([field])), "train")
    assert categories(data).values == {"size": ["small", "middle", "large"]}


def test_null_and_unseen_are_two_codes():
    step = categories(train({"c": ["a", "b", "a"]}))
    mapped = step.apply(batch(c=["b", None, "z", "a"]))
    assert mapped.column("c").to_pylist() == [1, None, 2, 0]
    assert step.undo(mapped).column("c").to_pylist() == ["b", None, None, "a"]


def test_a_column_of_nulls_is_a_category_without_values(tmp_path):
    data = train({"c": pa.nulls(3, pa.string())})
    chain = through_files(fitted(data, "categories"), tmp_path)
    mapped = chain.apply(batch(c=pa.array([None, "a"])))
    assert mapped.column("c").to_pylist() == [None, 0]
    assert chain.undo(mapped).column("c").to_pylist() == [None, None]


def test_a_given_value_that_training_never_saw_is_refused_by_name():
    chain = fitted(train({"c": ["setosa", "virginica"], "x": [1.0, 2.0]}), "categories")
    chain.apply(batch(c=["setosa", None]), given=True)
    chain.apply(batch(x=[1.0]), given=True)
    with pytest.raises(UsageError, match=r"^c=setsa was not seen in training; did you mean setosa\?$"):
        chain.apply(batch(c=["setsa"]), given=True)


def test_numbers_are_categories_where_they_are_noted_labels_or_named():
    data = train({"n": [3, 1], "x": [0.5, 1.0]})
    assert categories(data).values == {}
    assert categories(data, columns=["n"]).values == {"n": [1, 3]}


def test_too_many_values_and_values_that_are_no_category_are_refused_by_name():
    most = [f"value {at}" for at in range(10_001)]
    with pytest.raises(
        DataError, match=r"^column c has more than 10,000 different values: leave it out with --drop c$"
    ):
        categories(train({"c": most}))
    assert len(categories(train({"c": most[:-1]})).values["c"]) == 10_000
    with pytest.raises(DataError, match=r"^column x holds double: categories are text, whole numbers or yes/no$"):
        categories(train({"x": [0.5]}), columns=["x"])


# ---- the chain ----


def both() -> tuple[Source, Chain]:
    data = train({"a": [1.0, 2.0, 4.0, None], "b": [10, 20, 50, 90], "c": ["x", "y", None, "x"]})
    return data, fitted(data, "standardize", "categories", "standardize:columns=[b,a]")


def test_steps_are_fitted_on_what_those_before_them_make_and_undone_in_reverse():
    data = train({"n": [1, 2, 3]})
    chain = fitted(data, "standardize", "standardize")
    first, second = (step.fitted for step in chain.steps)
    assert isinstance(first, Standardize)
    assert isinstance(second, Standardize)
    np.testing.assert_allclose([*second.mean, *second.deviation], [0, 1], atol=1e-15)
    whole = next(both()[0].batches(size=9))
    chain = both()[1]
    back = chain.undo(chain.apply(whole))
    np.testing.assert_allclose(back.column("b").to_pylist(), whole.column("b").to_pylist(), rtol=1e-14)
    assert back.column("c").equals(whole.column("c"))


@dataclass(frozen=True)
class Power:
    """x -> x ** exponent, for x > 0: a map whose slope depends on where it is."""

    exponent: float

    def _raised(self, batch: pa.RecordBatch, exponent: float) -> pa.RecordBatch:
        return batch.set_column(0, "x", pa.array(batch.column("x").to_numpy() ** exponent))

    def apply(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        return self._raised(batch, self.exponent)

    def undo(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        return self._raised(batch, 1 / self.exponent)

    def log_jacobian(self, batch: pa.RecordBatch, /) -> np.ndarray:
        return np.log(self.exponent) + (self.exponent - 1) * np.log(batch.column("x").to_numpy())

    def state(self) -> Any:
        return {}, {}


def test_the_order_of_steps_matters_and_each_jacobian_is_taken_where_its_step_is():
    shift = Standardize(("x",), np.array([-3.0]), np.array([2.0]))
    chain = Chain(tuple(Step("x", "x", step) for step in (Power(2.0), shift, Power(3.0))))
    x = np.array([0.5, 1.0, 4.0])
    mapped = chain.apply(batch(x=x)).column("x").to_numpy()
    np.testing.assert_allclose(mapped, ((x**2 + 3) / 2) ** 3)
    np.testing.assert_allclose(chain.undo(batch(x=mapped)).column("x").to_numpy(), x)
    slope = 3 * ((x**2 + 3) / 2) ** 2 * x
    np.testing.assert_allclose(chain.log_jacobian(batch(x=x)), np.log(slope))


def test_absent_columns_are_skipped_and_strange_ones_left_alone():
    _, chain = both()
    strange = batch(z=[1.0], b=[20])
    mapped = chain.apply(strange)
    assert mapped.schema.names == ["z", "b"]
    assert mapped.column("z").to_pylist() == [1.0]
    assert chain.undo(mapped).column("b").to_pylist() == pytest.approx([20])
    assert chain.apply(batch(z=[1.0])).equals(batch(z=[1.0]))


def test_a_map_takes_each_column_alone():
    data, chain = both()
    whole = next(data.batches(size=9))
    mapped = chain.apply(whole)
    for name in whole.schema.names:
        assert chain.apply(whole.select([name])).column(0).equals(mapped.column(name))


def test_the_jacobian_is_that_of_finite_differences():
    data, chain = both()
    whole = next(data.batches(size=9))
    step, total = 1e-4, np.zeros(4)
    for name in ("a", "b"):
        at = whole.schema.get_field_index(name)
        values = np.array(whole.column(name).to_pylist(), float)

        def mapped(move: float, at: int = at, name: str = name, values: Any = values) -> Any:
            moved = whole.set_column(at, name, pa.array(values + move, from_pandas=True))
            return np.array(chain.apply(moved).column(name).to_pylist(), float)

        total += np.nan_to_num(np.log((mapped(step) - mapped(-step)) / (2 * step)))
    np.testing.assert_allclose(chain.log_jacobian(whole), total, rtol=1e-6)
    np.testing.assert_allclose(chain.log_jacobian(whole.select(["c"])), np.zeros(4))


def test_what_is_kept_and_restored_is_the_same_to_the_last_bit(tmp_path):
    data, chain = both()
    again = through_files(chain, tmp_path)
    whole = next(data.batches(size=9))
    assert again.apply(whole).equals(chain.apply(whole))
    assert again.apply(whole).schema.equals(chain.apply(whole).schema, check_metadata=True)
    assert again.undo(chain.apply(whole)).equals(chain.undo(chain.apply(whole)))
    assert json.dumps(again.state()[0]) == json.dumps(chain.state()[0])
    assert [(step.name, step.plugin) for step in again.steps] == [
        ("standardize", "genreg-core"),
        ("categories", "genreg-core"),
        ("standardize", "genreg-core"),
    ]


def test_an_empty_batch_keeps_its_types_through_the_chain():
    data, chain = both()
    whole = next(data.batches(size=9))
    assert chain.apply(whole.slice(0, 0)).schema.equals(chain.apply(whole).schema, check_metadata=True)
    assert chain.undo(chain.apply(whole.slice(0, 0))).num_rows == 0


def written(step: str, **state: Any) -> dict[str, Any]:
    return {"step": step, "plugin": "genreg-core", "state": state}


EXTENTS = {"0.smallest": np.zeros(1), "0.span": np.ones(1)}
MOMENTS = {"0.mean": np.zeros(1), "0.deviation": np.ones(1)}
DAMAGED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no step": ({"state": {}}, {}, "KeyError('step')"),
    "no plugin": ({"step": "categories", "state": {"values": {}}}, {}, "KeyError('plugin')"),
    "not a mapping": ("categories", {}, "TypeError"),
    "no columns": (written("standardize"), MOMENTS, "KeyError('columns')"),
    "no span": (
        written("minmax", columns=["x"], low=0, high=1),
        {**EXTENTS, "0.span": np.zeros(1)},
        "minmax needs finite values, spans above 0, and low below high",
    ),
    "a range upside down": (written("minmax", columns=["x"], low=1, high=0), EXTENTS, "low below high"),
    "too few extents": (
        written("minmax", columns=["x", "y"], low=0, high=1),
        EXTENTS,
        "minmax needs a smallest value and a span for each column",
    ),
    "no tensor": (
        written("standardize", columns=["x"]),
        {},
        "KeyError('mean')",
    ),
    "another length": (
        written("standardize", columns=["x", "y"]),
        MOMENTS,
        "standardize needs a mean and a deviation for each column",
    ),
    "text for columns": (
        written("standardize", columns="x"),
        MOMENTS,
        "standardize needs a mean and a deviation for each column",
    ),
    "zero deviation": (
        written("standardize", columns=["x"]),
        {**MOMENTS, "0.deviation": np.zeros(1)},
        "standardize needs finite means, and deviations above 0",
    ),
    "NaN": (
        written("standardize", columns=["x"]),
        {**MOMENTS, "0.mean": np.full(1, np.nan)},
        "standardize needs finite means, and deviations above 0",
    ),
    "values no mapping": (
        written("categories", values=3),
        {},
        "AttributeError",
    ),
    "values no list": (written("categories", values={"c": "ab"}), {}, "for c"),
    "mixed values": (
        written("categories", values={"c": ["a", 1]}),
        {},
        "for c",
    ),
    "twice": (written("categories", values={"c": ["a", "a"]}), {}, "for c"),
    "lists": (written("categories", values={"c": [["a"]]}), {}, "for c"),
    "null": (written("categories", values={"c": [None]}), {}, "for c"),
}


@pytest.mark.parametrize(("step", "tensors", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_state_is_told(step, tensors, message):
    with pytest.raises(CheckpointError) as raised:
        restore_chain([step], tensors, find)
    assert str(raised.value).startswith("step 0 of the checkpoint's chain is damaged: ")
    assert message in str(raised.value)


def test_a_step_whose_plugin_is_missing_names_the_plugin():
    written = {"step": "quantile", "plugin": "genreg-data", "state": {}}
    with pytest.raises(CheckpointError, match=r"^the checkpoint's chain needs genreg-data: there is no preprocessor"):
        restore_chain([written], {}, find)


def test_a_clean_step_is_no_part_of_a_checkpoint():
    with pytest.raises(CheckpointError, match=r"^a clean step acts before training and is not part of a checkpoint$"):
        restore_chain([{"step": "dropna", "plugin": "genreg-core", "state": {}}], {}, find)


# ---- fitting ----


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("part", ["all", "validation", "test"])
def test_a_step_is_fitted_on_the_training_part_alone(name, part):
    data = train({"x": [1.0]}, part)
    with pytest.raises(DataError) as raised:
        fit_steps([name], data, lambda name: (find(name), "genreg-core"), BY_NAME[name].kind)
    assert str(raised.value) == f"{name} is fitted on the training part alone, and this is the part {part}"


def test_steps_of_the_other_kind_are_left_alone():
    data = train({"x": [1.0, None]})
    calls = ["standardize", "dropna"]
    _, maps = fit_steps(calls, data, lambda name: (find(name), "genreg-core"), "map")
    rest, clean = fit_steps(calls, data, lambda name: (find(name), "genreg-core"), "clean")
    assert ([step.name for step in maps], [step.name for step in clean]) == (["standardize"], ["dropna"])
    assert (rest.rows, rest.part) == (1, "train")


def test_a_knob_typed_wrong_is_told():
    with pytest.raises(
        UsageError, match=r"^--preprocess standardize: column=x: there is no column; did you mean columns"
    ):
        fitted(train({"x": [1.0]}), "standardize:column=x")


# ---- clean steps ----


def cleaned_cells(step: Any, data: Source) -> dict[str, list[Any]]:
    return step.apply(next(data.batches(size=99))).to_pydict()


def test_dropna_leaves_whole_rows_or_rows_whole_in_the_columns_named():
    data = train({"a": [1, None, 3], "b": ["x", "y", None]})
    assert cleaned_cells(dropna(data), data) == {"a": [1], "b": ["x"]}
    assert cleaned_cells(dropna(data, columns=["b"]), data) == {"a": [1, None], "b": ["x", "y"]}
    with pytest.raises(DataError, match=r"^--preprocess dropna: columns bb: the data has no column bb; did you mean b"):
        dropna(data, columns=["bb"])


def day(number: int) -> datetime.date:
    return datetime.date(2020, 1, number)


FILLS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "mean": (pa.array([1.0, None, 4.0, 4.0]), {}, 3.0),
    "median": (pa.array([1.0, None, 4.0, 10.0]), {"strategy": "median"}, 4.0),
    "mode": (pa.array([1.0, None, 4.0, 4.0]), {"strategy": "mode"}, 4.0),
    "a mean of whole numbers is rounded": (pa.array([1, None, 2, 5]), {}, 3),
    "a median of whole numbers is rounded": (pa.array([1, None, 2, 5], pa.int8()), {"strategy": "median"}, 2),
    "the smaller of two modes": (pa.array(["b", None, "a", "b", "a"]), {}, "a"),
    "text takes the mode": (pa.array(["b", None, "雪", "雪"]), {"strategy": "median"}, "雪"),
    "yes/no takes the mode": (pa.array([True, None, True, False]), {}, True),
    "days take the mode": (pa.array([day(3), None, day(1), day(3)]), {}, day(3)),
    "a value": (pa.array([1.0, None]), {"value": "0.5"}, 0.5),
    "a value in text": (pa.array(["a", None]), {"value": "none"}, "none"),
    "a value in days": (pa.array([day(1), None]), {"value": "2020-01-09"}, day(9)),
    "a value where nothing is": (pa.nulls(3, pa.int64()), {"value": "7"}, 7),
}


@pytest.mark.parametrize(("cells", "knobs", "fill"), FILLS.values(), ids=FILLS)
def test_missing_cells_are_filled_in(cells, knobs, fill):
    data = train({"x": cells})
    found = cleaned_cells(fillna(data, **knobs), data)["x"]
    assert found == [fill if cell is None else cell for cell in cells.to_pylist()]


def test_what_is_filled_in_is_the_training_parts_also_elsewhere():
    step = fillna(train({"x": [1.0, 3.0, None]}))
    assert step.apply(batch(x=[100.0, None])).column("x").to_pylist() == [100.0, 2.0]


def test_whole_columns_need_no_fill():
    data = train({"list": [[1], [2]], "x": [1, 2]})
    assert cleaned_cells(fillna(data), data) == {"list": [[1], [2]], "x": [1, 2]}


@pytest.mark.parametrize(
    ("cells", "knobs", "message"),
    [
        (pa.array([1.0, None]), {"strategy": "max"}, "--preprocess fillna: strategy=max: there are mean, median, mode"),
        (pa.array([1, None]), {"value": "abc"}, "--preprocess fillna: value=abc is not a int64, which column x holds"),
        (
            pa.array([[1], None]),
            {"value": "1"},
            "--preprocess fillna: value=1 is not a list<item: int64>, which column x holds",
        ),
        (
            pa.nulls(3, pa.float64()),
            {},
            "column x has no value to fill from: --preprocess fillna:columns=x,value=…, or --drop x",
        ),
        (
            pa.array([[1], None]),
            {},
            "column x holds list<item: int64>, which has no typical value: --preprocess dropna:columns=x, or --drop x",
        ),
    ],
)
def test_fillna_says_what_is_wrong(cells, knobs, message):
    with pytest.raises(UsageError) as raised:
        fillna(train({"x": cells}), **knobs)
    assert str(raised.value) == message


def test_clip_makes_nan_missing_and_infinity_the_end_of_the_finite_values():
    data = train({"x": [1.0, np.nan, np.inf, -2.0, -np.inf, None], "n": [1, 2, 3, 4, 5, 6]})
    assert cleaned_cells(clip(data), data) == {"x": [1.0, None, 1.0, -2.0, -2.0, None], "n": [1, 2, 3, 4, 5, 6]}


def test_clip_leaves_finite_values_beyond_trainings_as_they_are():
    step = clip(train({"x": [0.0, 1.0]}))
    assert step.apply(batch(x=[7.0, np.inf, -np.inf, -3.0])).column("x").to_pylist() == [7.0, 1.0, 0.0, -3.0]


def test_clip_makes_missing_what_has_no_finite_value_at_all():
    data = train({"x": pa.array([np.inf, np.nan, None], pa.float32())})
    assert cleaned_cells(clip(data), data) == {"x": [None, None, None]}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_name_and_clip_is_the_way_out(bad):
    data = train({"fine": [1.0, 2.0, 3.0], "x": [1.0, bad, None]})
    with pytest.raises(DataError, match=r"^column x has NaN or infinity.* --preprocess clip:columns=x, or --drop x$"):
        refuse_not_finite(next(data.batches(size=9)))
    refuse_not_finite(clip(data, columns=["x"]).apply(next(data.batches(size=9))))


ROWS = {"a": [1, 1, 2, 1, None, None, 2], "b": ["x", "x", "x", "雪", None, None, "x"]}


def kept(step: Any, data: Source) -> dict[str, list[Any]]:
    table = cleaned(data, step).table
    assert table is not None
    return table.to_pydict()


def test_what_is_missing_in_later_rows_alone_is_filled_from_training_too():
    step = fillna(train({"x": [1.0, 3.0], "t": ["a", "a"], "l": [[1], [2]]}))
    later = pa.record_batch({"x": [None, 9.0], "t": [None, "b"], "l": [[3], [4]]})
    assert step.apply(later).to_pydict() == {"x": [2.0, 9.0], "t": ["a", "b"], "l": [[3], [4]]}
    with pytest.raises(DataError, match=r"^column l holds list<.*>, which has no typical value: "):
        step.apply(pa.record_batch({"x": [1.0], "t": ["a"], "l": pa.array([None], pa.list_(pa.int64()))}))


def test_dedupe_keeps_the_first_of_equal_rows(monkeypatch):
    data = train(ROWS)
    expected = {"a": [1, 2, 1, None], "b": ["x", "x", "雪", None]}
    assert kept(dedupe(data), data) == expected
    monkeypatch.setattr(Source, "scan", lambda self: self.batches(size=2))  # equal rows in batches of their own
    assert kept(dedupe(data), data) == expected
    assert kept(dedupe(data, columns=["b"]), data) == {"a": [1, 1, None], "b": ["x", "雪", None]}


def test_dedupe_begins_anew_with_each_pass():
    data = train(ROWS)
    step = dedupe(data)
    assert kept(step, data) == kept(step, data)


def test_dedupe_keeps_what_differs_by_type_alone_apart():
    data = train({"a": ["1", "None", None, ""]})
    assert kept(dedupe(data), data) == {"a": ["1", "None", None, ""]}


def test_a_clean_step_keeps_nothing():
    assert clip(train({"x": [1.0]})).state() == ({}, {})


def test_steps_know_their_kind():
    assert {name: step.kind for name, step in BY_NAME.items()} == {
        "standardize": "map",
        "minmax": "map",
        "categories": "map",
        "dropna": "clean",
        "dedupe": "clean",
        "fillna": "clean",
        "clip": "clean",
    }
    assert isinstance(Step("c", "genreg-core", Categories({})).fitted, Categories)
