"""Every Arrow type that a format lists comes back exactly, from text by the schema file beside it."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.builtin import LOADERS
from genreg.data import Source, noted
from genreg.errors import DataError
from genreg.schemafile import beside, read_schema, write_schema

BY_NAME = {loader.name: loader for loader in LOADERS}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROUND = st.floats(allow_nan=False, allow_infinity=False)
YEARS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SHANGHAI, INDIA = "Asia/Shanghai", "+05:30"


def whole_numbers(kind: Any) -> st.SearchStrategy[Any]:
    low = -(2 ** (kind.bit_width - 1)) if pa.types.is_signed_integer(kind) else 0
    return st.integers(low, low + 2**kind.bit_width - 1)


def ticks(kind: Any) -> st.SearchStrategy[Any]:
    """Counts of a timestamp's unit since 1970, within the years 1 to 9999, and 64 bits but for their first second.

    Arrow writes nanoseconds of 1677-09-21 00:12:43 as text, and refuses to read that.
    """
    per = YEARS[kind.unit]
    return st.integers(max(-62_135_596_800 * per, -(2**63) + 10**9), min(253_402_300_799 * per, 2**63 - 1))


DAY = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
CELLS: dict[Any, st.SearchStrategy[Any]] = {  # what is drawn is cast to the type from int32, int64 or itself
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    **{kind: whole_numbers(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: whole_numbers(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    pa.float16(): st.floats(width=16, allow_nan=False, allow_infinity=False),
    pa.float32(): st.floats(width=32, allow_nan=False, allow_infinity=False),
    pa.float64(): ROUND,
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.decimal128(20, 4): st.decimals(-(10**15), 10**15, places=4),
    pa.decimal256(60, 2): st.decimals(-(10**50), 10**50, places=2),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.time32("s"): st.integers(0, DAY["s"] - 1),
    pa.time32("ms"): st.integers(0, DAY["ms"] - 1),
    pa.time64("us"): st.integers(0, DAY["us"] - 1),
    pa.time64("ns"): st.integers(0, DAY["ns"] - 1),
    **{kind: ticks(kind) for unit in YEARS for kind in (pa.timestamp(unit), pa.timestamp(unit, SHANGHAI))},  # type: ignore[call-overload]
    pa.timestamp("us", "UTC"): ticks(pa.timestamp("us")),
    pa.timestamp("ms", INDIA): ticks(pa.timestamp("ms")),
    **{pa.duration(unit): st.integers(-(2**63), 2**63 - 1) for unit in YEARS},  # type: ignore[call-overload]
}
LISTED = [pa.int8(), pa.uint64(), pa.float32(), pa.string(), pa.bool_(), pa.date32(), pa.timestamp("ns", SHANGHAI)]
LISTS = {
    **{pa.list_(kind): st.lists(CELLS[kind] | st.none(), max_size=3) for kind in LISTED},
    pa.large_list(pa.int16()): st.lists(CELLS[pa.int16()], max_size=3),
    pa.list_(pa.float64(), 2): st.lists(ROUND, min_size=2, max_size=2),
    pa.list_(pa.list_(pa.string())): st.lists(st.lists(TEXT, max_size=2), max_size=2),
}
HOLDS = {"csv": CELLS, "tsv": CELLS, "jsonl": CELLS | LISTS, "parquet": CELLS | LISTS, "arrow": CELLS | LISTS}


def column(cells: list[Any], kind: Any) -> Any:
    leaf: Any = kind
    depth = 0
    while pa.types.is_nested(leaf):
        leaf, depth = leaf.value_type, depth + 1
    if not (pa.types.is_temporal(leaf) and not pa.types.is_date(leaf)):
        return pa.array(cells, kind)
    held: Any = pa.int32() if leaf.bit_width == 32 else pa.int64()
    for _ in range(depth):
        held = pa.list_(held)
    return pa.array(cells, held).cast(kind)


@st.composite
def drawn(draw: st.DrawFn, suffix: str) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(list(HOLDS[suffix])), min_size=1, max_size=5))
    rows = draw(st.integers(0, 6))
    columns, fields = [], []
    for at, kind in enumerate(kinds):
        cells = draw(st.lists(HOLDS[suffix][kind] | st.none(), min_size=rows, max_size=rows))
        columns.append(column(cells, kind))
        field = pa.field(f'{at} 列,"', kind, metadata=draw(st.sampled_from([None, {"unit": "米"}])))
        fields.append(noted(field, role=draw(st.sampled_from([None, "label"]))))
    return pa.table(columns, schema=pa.schema(fields).with_metadata(draw(st.sampled_from([None, {"origin": "测试"}]))))


def whole(source: Source) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(size=4)), source.schema)


def through(table: pa.Table, folder: Path, suffix: str) -> pa.Table:
    path = folder / f"t.{suffix}"
    loader = BY_NAME["csv" if suffix.startswith("tsv") else suffix.partition(".")[0]]
    assert loader.write is not None
    loader.write(table.to_batches(), table.schema, path)
    if suffix.partition(".")[0] not in ("parquet", "arrow"):
        write_schema(table.schema, beside(path))
    return whole(loader.read(path))


@pytest.mark.parametrize("suffix", HOLDS)
def test_every_type_that_a_format_holds_comes_back_exactly(suffix: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(drawn(suffix))
    def check(table: pa.Table) -> None:
        with tempfile.TemporaryDirectory() as folder:
            back = through(table, Path(folder), suffix)
        assert back.schema.equals(table.schema, check_metadata=True)
        assert back.equals(table)

    check()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("packed", ["gz", "zst"])
def test_packed_text_is_written_and_read_with_the_schema_of_what_is_packed(
    tmp_path: Path, suffix: str, packed: str
) -> None:
    table = pa.table({"zip": ["00123"], "n": pa.array([1], pa.int8())})
    assert through(table, tmp_path, f"{suffix}.{packed}").equals(table)
    assert (tmp_path / f"t.{suffix}.schema.json").is_file()
    magic = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}[packed]
    assert (tmp_path / f"t.{suffix}.{packed}").read_bytes().startswith(magic)


def test_the_file_is_for_people_to_read_and_write(tmp_path: Path) -> None:
    field = noted(pa.field("size", pa.string(), nullable=False), values=["S", "M"], dictionary="int8", ordered=True)
    schema = pa.schema([pa.field("zip", pa.string(), metadata={"from": "邮局"}), field], {"origin": "survey"})
    path = beside(tmp_path / "people.csv")
    write_schema(schema, path)
    assert path.name == "people.csv.schema.json"
    assert json.loads(path.read_text("utf-8")) == {
        "genreg_schema": 1,
        "columns": [
            {"name": "zip", "type": "string", "metadata": {"from": "邮局"}},
            {
                "name": "size",
                "type": "string",
                "nullable": False,
                "notes": {"values": ["S", "M"], "dictionary": "int8", "ordered": True},
            },
        ],
        "metadata": {"origin": "survey"},
    }
    assert read_schema(path).equals(schema, check_metadata=True)
    path.write_text(
        '{"genreg_schema": 1, "columns": [{"name": "zip", "type": "string"}, {"name": "n", "type": "int8"}]}'
    )
    (tmp_path / "people.csv").write_text("zip,n\n12345,7\n")
    source = BY_NAME["csv"].read(tmp_path / "people.csv")
    assert [str(field.type) for field in source.schema] == ["string", "int8"]
    assert whole(source).to_pydict() == {"zip": ["12345"], "n": [7]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "t.csv.schema.json is no schema file: TypeError: "),
        ("{", "t.csv.schema.json is no schema file: JSONDecodeError: "),
        ('{"columns": []}', "t.csv.schema.json is no schema file: KeyError: 'genreg_schema'"),
        ('{"genreg_schema": 2, "columns": []}', "t.csv.schema.json is of format 2, and this genreg reads format 1"),
        (
            '{"genreg_schema": 1, "columns": [{"name": "a", "type": "binary"}]}',
            "t.csv.schema.json: column a has the type binary, which no text file holds",
        ),
        (
            '{"genreg_schema": 1, "columns": [{"name": "b", "type": "int8"}]}',
            "t.csv has the columns a; t.csv.schema.json: b",
        ),
        (
            '{"genreg_schema": 1, "columns": [{"name": "a", "type": "int8"}]}',
            "t.csv cannot be read as CSV (with the types of t.csv.schema.json): ",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text("a\n300\n")
    (tmp_path / "t.csv.schema.json").write_text(content)
    with pytest.raises(DataError) as caught:
        whole(BY_NAME["csv"].read(tmp_path / "t.csv"))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "cells", "csv", "jsonl"),
    [
        (pa.binary(), [b"x"], "binary", "binary"),
        (pa.binary(1), [b"x"], "fixed_size_binary[1]", "fixed_size_binary[1]"),
        (pa.struct([("a", pa.int8())]), [{"a": 1}], "struct<a: int8>", "struct<a: int8>"),
        (pa.map_(pa.string(), pa.int8()), [[("a", 1)]], "map<string, int8>", "map<string, int8>"),
        (pa.month_day_nano_interval(), [(1, 2, 3)], "month_day_nano_interval", "month_day_nano_interval"),
        (pa.list_(pa.int8()), [[1]], "list<item: int8>", ""),
        (pa.list_(pa.time32("s")), [[1]], "list<item: time32[s]>", "list<item: time32[s]>"),
        (pa.list_(pa.duration("s")), [[1]], "list<item: duration[s]>", "list<item: duration[s]>"),
        (pa.string_view(), ["x"], "string_view", "string_view"),
        (pa.dictionary(pa.int8(), pa.binary()), [b"x"], "dictionary<values=binary, indices=int8, ordered=0>", None),
    ],
    ids=str,
)
def test_types_that_text_cannot_hold_are_refused_by_name(
    tmp_path: Path, kind: Any, cells: list[Any], csv: str, jsonl: str | None
) -> None:
    table = pa.table({"x": pa.array(cells, kind)})
    for suffix, what, named in (("csv", "CSV", csv), ("jsonl", "JSON", csv if jsonl is None else jsonl)):
        if named:
            with pytest.raises(DataError) as caught:
                through(table, tmp_path, suffix)
            assert str(caught.value).startswith(f"column x holds {named}, which {what} cannot hold: write .")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_values_that_text_cannot_hold_are_refused(tmp_path: Path, suffix: str) -> None:
    for kind, cell in ((pa.timestamp("s"), 253_402_300_800), (pa.date32(), -800_000)):
        held: Any = pa.array([cell], pa.int64() if pa.types.is_timestamp(kind) else pa.int32())
        with pytest.raises(
            DataError, match=r"the time \S+.* is not within the years 0 to 9999: write .parquet or .arrow"
        ):
            through(pa.table({"x": held.cast(kind)}), tmp_path, suffix)
    with pytest.raises(DataError, match=r"the schema has metadata that is no text: write \.parquet or \.arrow"):
        write_schema(pa.schema([("a", pa.int8())], {b"x": b"\xff"}), tmp_path / "x")


def test_times_within_lists_are_spelled_in_utc_and_within_years(tmp_path: Path) -> None:
    """Shanghai was 8:05:43 ahead until 1901, and no spelling of an offset has seconds."""
    kind = pa.list_(pa.timestamp("ns", SHANGHAI))
    table = pa.table({"x": pa.array([[-2_177_481_943_000_000_001, None], [], None], pa.list_(pa.int64())).cast(kind)})
    assert through(table, tmp_path, "jsonl").equals(table)
    assert '["1900-12-31 15:54:16.999999999Z", null]' in (tmp_path / "t.jsonl").read_text()
    late = pa.array([[253_402_300_800]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("s")))
    with pytest.raises(DataError, match="the time 10000-01-01 00:00:00 is not within the years 0 to 9999"):
        through(pa.table({"x": late}), tmp_path, "jsonl")


def test_nan_and_infinity_are_exact_in_csv(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([math.nan, math.inf, -math.inf, None, -0.0], pa.float32())})
    assert list(map(repr, through(table, tmp_path, "csv")["x"].to_pylist())) == ["nan", "inf", "-inf", "None", "-0.0"]


@pytest.mark.parametrize(
    ("column", "suffix", "what"),
    [
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "parquet", "Parquet"),
        (pa.array([[None]], pa.list_(pa.decimal128(5, -2))), "parquet", "Parquet"),
        (
            pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
            "parquet",
            "Parquet",
        ),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])), "parquet", "Parquet"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])), "arrow", "an Arrow file"),
        (pa.array(["x"], pa.string_view()), "arrow", "an Arrow file"),
        (pa.array([[1]], pa.list_view(pa.int8())), "arrow", "an Arrow file"),
    ],
    ids=lambda part: str(getattr(part, "type", part)),
)
def test_types_that_a_binary_file_cannot_hold_are_refused_by_name(
    tmp_path: Path, column: Any, suffix: str, what: str
) -> None:
    with pytest.raises(DataError) as caught:
        through(pa.table({"x": column}), tmp_path, suffix)
    assert str(caught.value) == f"column x holds {column.type}, which {what} cannot hold: cast it to a plain type"


def test_nested_types_come_back_from_parquet_with_the_names_of_what_is_within(tmp_path: Path) -> None:
    table = pa.table(
        {
            "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
            "view": pa.array([[1]], pa.list_view(pa.int8())),
            "struct": pa.array([{"at": 1}], pa.struct([("at", pa.int64())])).cast(
                pa.struct([("at", pa.timestamp("s"))])
            ),
            "levels": pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        }
    )
    back = through(table, tmp_path, "parquet")
    assert back.schema.equals(table.schema, check_metadata=True)
    assert back.equals(table)
