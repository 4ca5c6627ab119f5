"""Sources, shuffles, spools; notes at fields; generated columns take the form of the data's."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg import data
from genreg.data import (
    Source,
    conform,
    conform_column,
    empty_batch,
    floats,
    named_with_role,
    no_columns,
    noted,
    notes,
    refuse_not_finite,
    require_columns,
    shuffled,
    single_batch,
    spool,
    with_column,
)
from genreg.errors import DataError


def numbers(rows: int, chunks: int = 1) -> pa.Table:
    """Rows that tell their number, in chunks as a file may bring them."""
    at = np.arange(rows)
    columns = {"at": pa.array(at), "text": pa.array([f"row {i}" if i % 3 else None for i in at], pa.string())}
    whole = pa.table(columns)
    step = -(-rows // chunks) or 1
    return pa.concat_tables([whole.slice(start, step) for start in range(0, rows, step)] or [whole])


def stream(table: pa.Table) -> Source:
    """The same rows as a source that is not over a table."""
    return Source(table.schema, lambda size: iter(table.to_batches(max_chunksize=size)), table.num_rows)


def order(batches) -> list[int]:
    return [row for batch in batches for row in batch["at"].to_pylist()]


# ---- batches ----


@pytest.mark.parametrize("rows", [0, 1, 7, 12])
@pytest.mark.parametrize("chunks", [1, 5])
@pytest.mark.parametrize("size", [1, 2, 5, 12, 100])
def test_batches_have_the_size_asked_for_from_any_start(rows, chunks, size):
    source = Source.of(numbers(rows, chunks))
    assert source.rows == rows
    for start in range(rows + 2):
        batches = list(source.batches(size=size, start=start))
        assert order(batches) == list(range(start, rows))
        assert [batch.num_rows for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert all(isinstance(batch, pa.RecordBatch) and batch.schema == source.schema for batch in batches)
        assert order(stream(numbers(rows, chunks)).batches(size=size, start=start)) == order(batches)


def test_a_source_can_be_read_again_and_says_its_part():
    source = Source.of(numbers(5), "train")
    assert order(source.batches(size=2)) == order(source.batches(size=2)) == list(range(5))
    assert source.part == "train"
    assert Source.of(numbers(1)).part == "all"


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    twice = pa.array(2 * batch["at"].to_numpy())
    return with_column(batch, pa.field("twice", pa.int64()), twice)


def test_map_passes_every_batch_through_and_keeps_rows_and_part():
    plain = Source.of(numbers(10, 3), "train")
    source = plain.map(doubled)
    assert source.schema.names == ["at", "text", "twice"]
    assert (source.rows, source.part) == (10, "train")
    for shuffle in (None, 4):
        for batch in source.batches(size=3, shuffle=shuffle, start=2):
            assert batch["twice"].to_pylist() == [2 * at for at in batch["at"].to_pylist()]
    twice = source.map(lambda batch: batch.select(["twice"]))
    assert twice.schema.names == ["twice"]
    assert plain.schema.names == ["at", "text"]  # the first source is as it was
    assert plain.through == ()


# ---- shuffle ----


@pytest.fixture
def small(monkeypatch):
    """Blocks of four rows, mixed three at a time."""
    monkeypatch.setattr(data, "BLOCK", 4)
    monkeypatch.setattr(data, "BUFFER", 3)


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 12, 13, 50])
def test_a_shuffle_is_a_permutation_whatever_the_batch_size_and_resumes_at_any_row(rows, small):
    source = Source.of(numbers(rows, 3))
    whole = order(source.batches(size=1000, shuffle=9))
    assert sorted(whole) == list(range(rows))
    for size in (1, 3, 4, 7, 12, 100):
        for start in range(rows + 2):
            batches = list(source.batches(size=size, shuffle=9, start=start))
            assert order(batches) == whole[start:]
            assert all(batch.num_rows == size for batch in batches[:-1])
            assert all(0 < batch.num_rows <= size for batch in batches)


def test_a_shuffle_follows_from_its_seed_alone(small):
    once, again = (Source.of(numbers(50, chunks)) for chunks in (1, 7))
    assert order(once.batches(size=5, shuffle=1)) == order(again.batches(size=8, shuffle=1))
    assert len({tuple(order(once.batches(size=5, shuffle=seed))) for seed in range(20)}) == 20


def test_a_shuffle_moves_blocks_and_mixes_rows_of_different_blocks(small):
    found = order(Source.of(numbers(400)).batches(size=400, shuffle=0))
    assert len({at // 4 for at in found[:12]}) == 3  # a buffer holds three blocks
    assert [at // 4 for at in found[:12]] != sorted(at // 4 for at in found[:12])
    assert abs(np.corrcoef(found, np.arange(400))[0, 1]) < 0.2


def test_every_buffer_is_mixed_in_its_own_way(small):
    found = np.array(order(Source.of(numbers(48)).batches(size=48, shuffle=0))).reshape(4, 12)
    blocks = shuffled(12, 0, step=0).reshape(4, 3)  # the blocks that each buffer holds
    inner = [[4 * list(of).index(at // 4) + at % 4 for at in row] for of, row in zip(blocks, found, strict=True)]
    assert inner == [shuffled(12, 0, step=1 + buffer).tolist() for buffer in range(4)]


def test_a_table_of_the_real_block_size_is_shuffled_over_its_blocks():
    rows = data.BLOCK * data.BUFFER + 10
    source = Source.of(pa.table({"at": np.arange(rows)}))
    found = np.array(order(source.batches(size=10_000, shuffle=3)))
    assert np.array_equal(np.sort(found), np.arange(rows))
    assert order(source.batches(size=999, shuffle=3, start=rows - 20)) == found[-20:].tolist()


def test_shuffled_is_uniform_over_permutations():
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(600):
        permutation = tuple(shuffled(3, seed, step=1).tolist())
        counts[permutation] = counts.get(permutation, 0) + 1
    assert len(counts) == 6
    assert max(counts.values()) < 150
    assert shuffled(0, 1, step=0).tolist() == []
    assert not np.array_equal(shuffled(50, 1, step=0), shuffled(50, 1, step=1))


def test_only_rows_at_hand_can_be_shuffled():
    with pytest.raises(AssertionError, match="spool it first"):
        next(stream(numbers(3)).batches(size=1, shuffle=0))


# ---- spool ----


@pytest.mark.parametrize("above", [1 << 28, 100])
def test_spooled_rows_are_the_rows_in_memory_and_in_a_file(above, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SPOOL_ABOVE", above)
    table = numbers(300, 7)
    source = spool(Source(table.schema, stream(table).read, None, "train"), tmp_path)
    assert source.table is not None
    assert source.table.equals(table)
    assert (source.rows, source.part, source.schema) == (300, "train", table.schema)
    assert [path.name for path in tmp_path.iterdir()] == (["rows.arrow"] if above == 100 else [])
    assert order(source.batches(size=7, shuffle=1)) == order(Source.of(table).batches(size=20, shuffle=1))


def test_what_is_at_hand_is_not_spooled_again(tmp_path):
    source = Source.of(numbers(3))
    assert spool(source, tmp_path) is source


def test_spooling_applies_what_a_source_passes_through(tmp_path):
    source = spool(Source.of(numbers(9)).map(doubled), tmp_path)
    assert source.through == ()
    assert source.table["twice"].to_pylist() == list(range(0, 18, 2))


@pytest.mark.parametrize("above", [1 << 28, 0])
def test_spooling_keeps_metadata_and_a_source_without_rows(above, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SPOOL_ABOVE", above)
    schema = pa.schema([noted(pa.field("at", pa.int64()), role="label")], metadata={"a": "b"})
    for rows in (0, 3):
        source = spool(stream(pa.table({"at": pa.array(range(rows), pa.int64())}).cast(schema)), tmp_path)
        assert source.rows == rows
        assert source.schema.equals(schema, check_metadata=True)


def test_a_second_spool_into_a_folder_leaves_the_first_ones_rows_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SPOOL_ABOVE", 100)
    first = spool(stream(numbers(1000)), tmp_path)
    spool(stream(numbers(20)), tmp_path)
    assert order(first.batches(size=100)) == list(range(1000))


def test_an_interrupted_spool_leaves_no_finished_file(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SPOOL_ABOVE", 0)

    def read(size: int):
        yield from numbers(3).to_batches()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool(Source(numbers(0).schema, read), tmp_path)
    assert not (tmp_path / "rows.arrow").exists()


# ---- batches with few or no columns ----

TENSOR = pa.fixed_shape_tensor(pa.uint8(), [2, 3])
TYPES = [pa.int8(), pa.string(), pa.list_(pa.float32()), pa.dictionary(pa.int8(), pa.string()), TENSOR, pa.null()]


@pytest.mark.parametrize("rows", [0, 3])
def test_an_empty_batch_has_its_rows_of_nulls_with_and_without_columns(rows):
    schema = pa.schema([(str(kind), kind) for kind in TYPES], metadata={"a": "b"})
    batch = empty_batch(schema, rows)
    assert batch.schema.equals(schema, check_metadata=True)
    assert batch.num_rows == rows
    assert all(column.null_count == rows for column in batch.columns)
    for bare in (no_columns(rows), empty_batch(pa.schema([]), rows)):
        assert (bare.num_rows, bare.num_columns) == (rows, 0)


def test_a_column_takes_its_old_place_or_the_end():
    batch = pa.RecordBatch.from_pydict({"a": [1], "b": [2]})
    field = pa.field("a", pa.string())
    assert with_column(batch, field, pa.array(["x"])).to_pydict() == {"a": ["x"], "b": [2]}
    added = with_column(batch, noted(pa.field("c", pa.string()), role="label"), pa.array(["x"]))
    assert added.to_pydict() == {"a": [1], "b": [2], "c": ["x"]}
    assert notes(added.schema.field("c")) == {"role": "label"}
    assert with_column(no_columns(2), pa.field("c", pa.int8()), pa.array([1, 2], pa.int8())).to_pydict() == {
        "c": [1, 2]
    }
    assert batch.schema.names == ["a", "b"]


def test_a_tables_rows_make_one_batch():
    table = numbers(10, 4)
    assert pa.Table.from_batches([single_batch(table)]).equals(table)
    assert single_batch(table.slice(0, 0)).schema == table.schema
    parts = [pa.array(["a"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()]
    assert single_batch(pa.table({"x": pa.chunked_array(parts)}))["x"].to_pylist() == ["a", "b", "a"]


# ---- notes ----


def test_notes_travel_beside_foreign_metadata():
    field = pa.field(
        "x", pa.int64(), nullable=False, metadata={"foreign": b"\xff", "ARROW:extension:name": "their.own"}
    )
    once = noted(field, role="label", values=["é", 1, None, 2.5], decimals=2)
    assert notes(once) == {"role": "label", "values": ["é", 1, None, 2.5], "decimals": 2}
    assert once.metadata[b"foreign"] == b"\xff"
    assert (once.name, once.type, once.nullable) == ("x", pa.int64(), False)
    fewer = noted(once, role=None, values=None, decimals=3)
    assert notes(fewer) == {"decimals": 3}
    assert noted(fewer, decimals=None).equals(field, check_metadata=True)
    assert notes(field) == {}  # a field is never changed
    assert noted(pa.field("x", pa.int8()), role=None).metadata is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "field"), JSON, max_size=4))
@settings(deadline=None)
def test_notes_come_back_as_they_were_also_through_a_file(found):
    kept = {name: value for name, value in found.items() if value is not None}
    field = noted(pa.field("x", pa.int64()), **found)
    assert notes(field) == kept
    schema = pa.ipc.read_schema(pa.schema([field]).serialize())
    assert notes(schema.field("x")) == kept


def test_a_role_names_its_column_and_a_missing_column_gets_a_suggestion():
    schema = pa.schema([pa.field("species", pa.string()), noted(pa.field("kind", pa.string()), role="label")])
    assert named_with_role(schema, "label") == "kind"
    assert named_with_role(schema, "weight") is None
    require_columns(schema, ["kind", "species"], "--label")
    with pytest.raises(DataError) as raised:
        require_columns(schema, ["specis"], "--label")
    assert str(raised.value) == "--label specis: the data has no column specis; did you mean species?"


# ---- conform ----


def into(values, want: pa.DataType, type_: pa.DataType | None = None, **found) -> list:
    column = conform_column(pa.array(values, type_ or pa.float64()), noted(pa.field("x", want), **found))
    assert column.type == want
    column.validate(full=True)
    return column.to_pylist()


INTEGERS = [kind() for kind in (pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64)]


def limits(kind: pa.DataType) -> tuple[int, int]:
    info = np.iinfo(kind.to_pandas_dtype())
    return int(info.min), int(info.max)


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
@pytest.mark.parametrize("held", [pa.float64(), pa.float32(), pa.float16()], ids=str)
def test_whole_numbers_are_rounded_half_to_even_and_clipped(kind, held):
    low, high = limits(kind)
    assert into([0.5, 1.5, 2.5, 2.49, 3.51, None, -0.0], kind, held) == [0, 2, 2, 2, 4, None, 0]
    signed = [-1, -2, -2] if low else [0, 0, 0]
    assert into([-1.25, -1.5, -2.5], kind, held) == signed
    infinity, nan = float("inf"), float("nan")
    assert into([infinity, -infinity, nan, None], kind, held) == [high, low, None, None]


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_the_ends_of_a_type_are_exact(kind):
    low, high = limits(kind)
    for value in (1e300, high * 2.0 + 2, float(high + 1)):
        assert into([value, -value], kind) == [high, max(low, -int(min(value, 2.0**70)))]
    below = float(np.nextafter(float(high), 0)) if high > 2**53 else float(high - 1)
    assert into([below], kind) == [int(below)]


@given(st.sampled_from(INTEGERS), st.lists(st.floats(allow_nan=False) | st.none(), max_size=5))
@settings(deadline=None)
def test_rounding_and_clipping_agree_with_python(kind, values):
    low, high = limits(kind)
    expected = [
        None if value is None else low if value < low else high if value > high else round(value) for value in values
    ]
    assert into(values, kind) == expected


def test_columns_of_the_right_type_are_untouched():
    big = [2**53 + 1, -(2**63), 2**63 - 1, None]
    assert into(big, pa.int64(), pa.int64()) == big
    assert into([2**64 - 1, None], pa.uint64(), pa.uint64()) == [2**64 - 1, None]
    assert into([0.1, float("nan"), None], pa.float64())[::2] == [0.1, None]
    nested = [[1, None], None, []]
    assert into(nested, pa.list_(pa.int8()), pa.list_(pa.int8())) == nested


def test_dates_and_times_are_whole_and_within_a_day():
    days = [datetime.date(1970, 1, 1), datetime.date(1970, 1, 3), datetime.date(1969, 12, 31), None]
    assert into([0.4, 1.6, -0.7, None], pa.date32()) == days
    moment = datetime.datetime(2020, 1, 1)
    count = moment.replace(tzinfo=datetime.UTC).timestamp()
    assert into([count + 0.4], pa.timestamp("s")) == [moment]
    assert into([count * 1e6 - 0.4], pa.timestamp("us", "UTC")) == [moment.replace(tzinfo=datetime.UTC)]
    assert into([1.5, None], pa.duration("s")) == [datetime.timedelta(seconds=2), None]
    last = datetime.time(23, 59, 59)
    assert into([-5, 3600.2, 1e9, None], pa.time32("s")) == [datetime.time(0), datetime.time(1), last, None]
    assert into([1e300, -1], pa.time64("us")) == [last.replace(microsecond=999_999), datetime.time(0)]


def test_truth_is_above_a_half():
    assert into([0, 0.5, 0.51, 7, None], pa.bool_()) == [False, False, True, True, None]
    assert into([0.25, 0.75], pa.bool_(), pa.float16()) == [False, True]
    assert into([True, None], pa.bool_(), pa.bool_()) == [True, None]


def test_floats_are_rounded_to_their_noted_decimals():
    assert into([1.234, -5.678, None], pa.float64(), decimals=1) == [1.2, -5.7, None]
    assert into([0.5, 1.5, 12.0], pa.float64(), decimals=0) == [0, 2, 12]
    assert into([1.234], pa.float64()) == [1.234]
    assert into([1.26], pa.float32(), decimals=1) == [float(np.float32(1.3))]
    for narrow in (pa.float32(), pa.float16()):
        assert into([1.26, None], pa.float64(), narrow, decimals=1) == [1.3, None]
        assert into([1.26], narrow, decimals=1) == pytest.approx([1.3], rel=1e-3)


def test_text_becomes_a_category():
    kind = pa.dictionary(pa.int8(), pa.string())
    assert into(["b", None, "a"], kind, pa.string()) == ["b", None, "a"]


def test_conform_gives_the_schemas_columns_in_its_order_with_its_metadata():
    schema = pa.schema([noted(pa.field("b", pa.int8()), role="label"), pa.field("c", pa.string()), ("a", pa.float32())])
    batch = pa.RecordBatch.from_pydict({"a": [1.5, 2.5], "left over": [0, 0], "b": [2.5, 300.0]})
    found = conform(batch, schema)
    assert found.schema.equals(schema, check_metadata=True)
    assert found.to_pydict() == {"b": [2, 127], "c": [None, None], "a": [1.5, 2.5]}
    assert conform(batch, pa.schema([])).num_rows == 2
    assert conform(batch.slice(0, 0), schema).num_rows == 0


def test_a_slice_conforms_as_its_rows():
    batch = pa.RecordBatch.from_pydict({"x": [None, 0.5, None, 2.6, 9.0]})
    schema = pa.schema([("x", pa.int64())])
    assert conform(batch.slice(1, 3), schema).to_pydict() == {"x": [0, None, 3]}


# ---- floats ----


def one(values, kind: pa.DataType) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["x"])


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None], pa.int8(), [1, np.nan]),
        ([2**53, -(2**53)], pa.int64(), [2.0**53, -(2.0**53)]),
        ([0.1, None], pa.float32(), [float(np.float32(0.1)), np.nan]),
        ([0.5, None], pa.float16(), [0.5, np.nan]),
        ([True, False, None], pa.bool_(), [1, 0, np.nan]),
        ([datetime.date(1970, 1, 3), None], pa.date32(), [2, np.nan]),
        ([datetime.date(1970, 1, 2)], pa.date64(), [86_400_000]),
        ([datetime.datetime(1970, 1, 2), None], pa.timestamp("us"), [86_400e6, np.nan]),
        ([datetime.time(0, 0, 3)], pa.time32("s"), [3]),
        ([datetime.timedelta(seconds=3)], pa.duration("ms"), [3000]),
        ([], pa.int64(), []),
    ],
)
def test_floats_reads_whatever_is_a_number(values, kind, expected):
    found = floats(one(values, kind), "x")
    assert found.dtype == np.float64
    assert found.flags.writeable
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()], ids=str)
def test_floats_refuses_by_name_what_float64_cannot_hold(kind):
    with pytest.raises(DataError) as raised:
        floats(one([1, 2**53 + 1], kind), "x")
    assert str(raised.value) == (
        "column x holds whole numbers beyond 2^53, which float64 cannot hold exactly: "
        "leave it out with --drop x, or name it as --key x"
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.int8()), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_floats_refuses_by_name_what_is_not_a_number(kind):
    with pytest.raises(DataError) as raised:
        floats(one([None], kind), "x")
    assert str(raised.value) == f"column x holds {kind}, not numbers: leave it out with --drop x"


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_by_name(kind, bad):
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "b"]), pa.array([bad, None], kind)], names=["t", "x"])
    with pytest.raises(DataError) as raised:
        refuse_not_finite(batch)
    assert str(raised.value) == (
        "column x has NaN or infinity, which are not missing values: "
        "clip them with --preprocess clip:columns=x, or --drop x"
    )
    refuse_not_finite(one([None, 1e300 if kind == pa.float64() else 1.0, None], kind))
    refuse_not_finite(one([], kind))


def test_the_file_of_a_spool_lies_in_the_folder_given(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SPOOL_ABOVE", 0)
    spool(stream(numbers(3)), tmp_path)
    assert [Path(name).name for name in tmp_path.iterdir()] == ["rows.arrow"]


def test_lists_are_conformed_element_by_element():
    whole = noted(pa.field("x", pa.list_(pa.float64())), decimals=1)
    made = pa.array([[0.14, None, -2.26], None, [], [1.0]], pa.list_(pa.float64()))
    assert conform_column(made, whole).to_pylist() == [[0.1, None, -2.3], None, [], [1.0]]
    counts = pa.field("n", pa.list_(pa.int8()))
    assert conform_column(made.slice(1), counts).to_pylist() == [None, [], [1]]
    assert conform_column(pa.array([[1.6, 1e9]]), counts).to_pylist() == [[2, 127]]


def test_nan_within_lists_is_refused_by_name():
    batch = pa.RecordBatch.from_pydict({"x": [[1.0], [2.0, float("nan")]]})
    with pytest.raises(DataError, match="column x has NaN or infinity"):
        refuse_not_finite(batch)
