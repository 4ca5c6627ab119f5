"""Tables in and out: nothing that a file says may be lost or guessed, and each bad file gets one clear line."""

from __future__ import annotations

import datetime
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg import columnar, delimited, lines
from genreg.builtin import LOADERS
from genreg.columnar import parquet
from genreg.data import Source, noted, notes, single_batch
from genreg.delimited import csv, csv_text
from genreg.errors import DataError
from genreg.lines import jsonl, txt

BY_NAME = {loader.name: loader for loader in LOADERS}
UTC = datetime.UTC
DAY = datetime.datetime(2020, 2, 29)
TIMES = [datetime.datetime(2020, 1, 1, 10, 0, 0, 500_000, UTC), datetime.datetime(2020, 1, 1, 2, tzinfo=UTC)]


def whole(source: Source, size: int = 1000) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(size=size)), source.schema)


def types(source: Source) -> dict[str, str]:
    return {field.name: str(field.type) for field in source.schema}


def text_file(folder: Path, text: str | bytes, name: str = "people.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def written(table: pa.Table, path: Path, loader: str, size: int = 1000) -> Path:
    write = BY_NAME[loader].write
    assert write is not None
    write(table.to_batches(max_chunksize=size), table.schema, path)
    return path


def column_of(tmp_path: Path, *cells: str, **knobs: Any) -> tuple[str, list[Any]]:
    """One column's type and values, a second column keeping empty lines apart."""
    source = csv(text_file(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells)), **knobs)
    return str(source.schema.field("a").type), whole(source)["a"].to_pylist()


def refusal(read: Any, *args: Any, **knobs: Any) -> str:
    with pytest.raises(DataError) as caught:
        whole(read(*args, **knobs))
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- CSV: types ----


@pytest.mark.parametrize(
    ("cells", "type_", "values"),
    [
        (["00123", "4"], "string", ["00123", "4"]),
        (["0", "-7"], "int64", [0, -7]),
        (["9223372036854775807", "-9223372036854775808"], "int64", [2**63 - 1, -(2**63)]),
        (["18446744073709551615", "0"], "uint64", [2**64 - 1, 0]),
        (["18446744073709551615", "-1"], "string", ["18446744073709551615", "-1"]),
        (["-1", "18446744073709551615"], "string", ["-1", "18446744073709551615"]),
        (["18446744073709551616", "0"], "string", ["18446744073709551616", "0"]),
        (["0x1F", "0x20"], "string", ["0x1F", "0x20"]),
        (["+4915112345678", "5"], "string", ["+4915112345678", "5"]),
        (["00.5", "1.5"], "string", ["00.5", "1.5"]),
        ([" 5", "6\t"], "int64", [5, 6]),
        ([" 5", "6.25 "], "double", [5.0, 6.25]),
        (["1_000", "2"], "string", ["1_000", "2"]),
        (["0.1", "-2", "1e-7"], "double", [0.1, -2.0, 1e-7]),
        (["inf", "-Infinity", "1"], "double", [math.inf, -math.inf, 1.0]),
        (["true", "FALSE", ""], "bool", [True, False, None]),
        (["yes", "no"], "string", ["yes", "no"]),
        (["2020-02-29", ""], "date32[day]", [datetime.date(2020, 2, 29), None]),
        (["2021-02-29", "2020-01-01"], "string", ["2021-02-29", "2020-01-01"]),
        (["2020-02-29T10:20", "2020-02-29"], "timestamp[us]", [DAY.replace(hour=10, minute=20), DAY]),
        (["2020-01-01 10:00:00.5Z", "2020-01-01T10:00:00+08:00"], "timestamp[us, tz=UTC]", TIMES),
        (["2020-01-01 10:00:00Z", "2020-01-01 10:00:00"], "string", ["2020-01-01 10:00:00Z", "2020-01-01 10:00:00"]),
        (["2020-01-01 10:00:00.1234567"], "string", ["2020-01-01 10:00:00.1234567"]),
        (["", ""], "string", [None, None]),
        (["NA", "null"], "string", ["NA", "null"]),
        (["1", "", "3"], "int64", [1, None, 3]),
        (['"1"', '""'], "string", ["1", ""]),
        (["true", "1"], "string", ["true", "1"]),
        (["1", "2020-01-01"], "string", ["1", "2020-01-01"]),
        (["张三", "李四"], "string", ["张三", "李四"]),
    ],
)  # fmt: skip
def test_the_type_of_a_column_is_what_all_its_cells_say(
    tmp_path: Path, cells: list[str], type_: str, values: list[Any]
) -> None:
    assert column_of(tmp_path, *cells) == (type_, values)


def test_nan_is_a_float_and_not_null(tmp_path: Path) -> None:
    type_, values = column_of(tmp_path, "nan", "", "NaN", "1.5")
    assert type_ == "double"
    assert math.isnan(values[0])
    assert math.isnan(values[2])
    assert values[1] is None


def test_null_words_are_null_only_where_asked_and_not_in_quotes(tmp_path: Path) -> None:
    assert column_of(tmp_path, "NA", "1", "", null="NA") == ("int64", [None, 1, None])
    assert column_of(tmp_path, "NA", "-", "2.5", null=["NA", "-"]) == ("double", [None, None, 2.5])
    assert column_of(tmp_path, '"NA"', "NA", null="NA") == ("string", ["NA", None])


def test_floats_note_the_largest_number_of_decimals_unless_an_exponent_is_there(tmp_path: Path) -> None:
    path = text_file(tmp_path, "a,b,c,d,e\n1.5,1e5,1,nan,0.1234567890123456\n2.25,2.5,-0,3,1.5\n")
    assert [notes(field) for field in csv(path).schema] == [{"decimals": 2}, {}, {"decimals": 0}, {"decimals": 0}, {}]


def test_a_late_change_of_type_across_blocks_is_seen_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 1 << 12)
    path = text_file(tmp_path, "zip,n\n" + "".join(f"{10000 + i % 80000},{i}\n" for i in range(30_000)) + "0A123,5\n")
    source = csv(path)
    assert types(source) == {"zip": "string", "n": "int64"}
    assert source.rows == 30_001
    table = whole(source)
    assert table["zip"][0].as_py() == "10000"
    assert table["zip"][30_000].as_py() == "0A123"
    assert table["n"].to_pylist() == [*range(30_000), 5]


def test_quoted_newlines_work_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 256)
    cells = [f'line {i}\nand\r\n\n"more", {i}' for i in range(500)]
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    source = csv(text_file(tmp_path, "text,n\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(quoted))))
    assert source.rows == 500
    assert whole(source).to_pydict() == {"text": cells, "n": list(range(500))}


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("loader", ["csv", "jsonl", "parquet", "arrow"])
def test_batches_have_exactly_the_size_asked_for(
    tmp_path: Path, loader: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 64)
    monkeypatch.setattr(lines, "BLOCK", 64)
    table = pa.table({"a": pa.array(range(30), pa.int64()), "s": [str(n) + "x" for n in range(30)]})
    source = BY_NAME[loader].read(written(table, tmp_path / f"t.{loader}", loader, 11))
    sizes = [batch.num_rows for batch in source.batches(size=size)]
    assert sizes == [size] * (30 // size) + ([30 % size] if 30 % size else [])
    assert whole(source, size).equals(table)
    assert whole(source, size).equals(table), "a source can be read again"
    assert single_batch(pa.Table.from_batches(source.batches(size=size, start=13), source.schema))[
        "a"
    ].to_pylist() == list(range(13, 30))


# ---- CSV: layout and encodings ----


def test_tabs_separate_tsv_and_the_delimiter_can_be_named(tmp_path: Path) -> None:
    assert whole(csv(text_file(tmp_path, "a\tb\n1,5\t2\n", "t.tsv"))).to_pylist() == [{"a": "1,5", "b": 2}]
    for delimiter, mark in ((";", ";"), ("tab", "\t"), ("|", "|")):
        path = text_file(tmp_path, f"a{mark}b\n1,5{mark}2\n")
        assert whole(csv(path, delimiter=delimiter)).to_pylist() == [{"a": "1,5", "b": 2}]
    assert refusal(csv, path, delimiter="::") == "delimiter=::: write one character, such as ; or tab"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "shift_jis"])
def test_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = text_file(tmp_path, '名,"b"\n中国,1\n"日,本",2\n', encoding=encoding)
    named = "utf-8" if encoding == "utf-8-sig" else encoding
    assert whole(csv(path, encoding=named)).to_pydict() == {"名": ["中国", "日,本"], "b": [1, 2]}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-8"):
        path = text_file(tmp_path, '"id",x\n1,2\n', encoding="utf-8-sig")
        assert whole(csv(path, encoding=encoding)).to_pydict() == {"id": [1], "x": [2]}
    path = text_file(tmp_path, '{"id": 1}\n', "t.jsonl", "utf-8-sig")
    assert whole(jsonl(path)).to_pydict() == {"id": [1]}


def test_empty_lines_are_skipped_but_are_null_in_a_single_column(tmp_path: Path) -> None:
    assert whole(csv(text_file(tmp_path, "\n\na,b\n\n1,2\n\n3,4\n\n"))).to_pydict() == {"a": [1, 3], "b": [2, 4]}
    assert whole(csv(text_file(tmp_path, "a\n1\n\n3\n"))).to_pydict() == {"a": [1, None, 3]}


def test_header_only_is_a_source_of_no_rows_and_text_columns(tmp_path: Path) -> None:
    for text in ("a,b\n", "a,b"):
        source = csv(text_file(tmp_path, text))
        assert source.rows == 0
        assert types(source) == {"a": "string", "b": "string"}
        assert list(source.batches(size=10)) == []


def test_wrong_encodings_are_named_with_the_way_out(tmp_path: Path) -> None:
    people = "name,city\n" + "Ann,Rome\n" * 3 + "张三,北京市\n"
    assert refusal(csv, text_file(tmp_path, people, encoding="gb18030")) == (
        "people.csv is not UTF-8 (line 5); it looks like GB18030: --loader csv:encoding=gb18030"
    )
    assert refusal(csv, text_file(tmp_path, people, encoding="utf-16")) == (
        "people.csv is not UTF-8; it looks like UTF-16: --loader csv:encoding=utf-16"
    )
    assert refusal(csv, text_file(tmp_path, "name,city\nAnn,Rome\n", encoding="utf-16-le")) == (
        "people.csv is not UTF-8; it looks like UTF-16-LE: --loader csv:encoding=utf-16-le"
    )
    assert refusal(csv, text_file(tmp_path, "name,city\nJosé,Orléans\n", encoding="cp1252")) == (
        "people.csv is not UTF-8 (line 2); it looks like CP1252: --loader csv:encoding=cp1252"
    )
    assert refusal(csv, text_file(tmp_path, people + "é,x\n"), encoding="ascii") == (
        "people.csv is not ASCII (line 5); it looks like UTF-8: --loader csv:encoding=utf-8"
    )
    assert refusal(csv, text_file(tmp_path, people), encoding="klingon") == (
        "encoding=klingon: no such encoding; try utf-8, gb18030, utf-16 or cp1252"
    )
    assert refusal(jsonl, text_file(tmp_path, '{"a": 1}\n{"a": "中文字"}\n', "t.jsonl", "gb18030")) == (
        "t.jsonl is not UTF-8 (line 2); it looks like GB18030: --loader jsonl:encoding=gb18030"
    )
    assert refusal(txt, text_file(tmp_path, "a\n中文字\n", "t.txt", "gb18030")) == (
        "t.txt is not UTF-8 (line 2); it looks like GB18030: --loader txt:encoding=gb18030"
    )


def test_a_wrong_byte_far_into_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK", 1 << 12)
    path = text_file(tmp_path, b"a,b\n" + b"1,x\n" * 50_000 + "2,中文\n".encode("gb18030"))
    assert refusal(csv, path).startswith("people.csv is not UTF-8 (line 50002); it looks like GB18030")


def test_ragged_rows_are_named_with_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(csv, text_file(tmp_path, 'a,b\n1,2\n\n"x\ny",4\n5\n')) == (
        "people.csv: row 3 (line 6) has 1 columns, and the header has 2"
    )
    monkeypatch.setattr(delimited, "BLOCK", 64)
    assert refusal(csv, text_file(tmp_path, "a,b\n" + "1,2\n" * 100 + "1,2,3\n")) == (
        "people.csv: row 101 (line 102) has 3 columns, and the header has 2"
    )


def test_bad_csv_files_get_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(csv, text_file(tmp_path, "")) == "people.csv is empty"
    assert refusal(csv, text_file(tmp_path, "\n\n")) == "people.csv is empty"
    assert refusal(csv, text_file(tmp_path, "a,b,a,c,b\n1,2,3,4,5\n")) == (
        "people.csv has more than one column named a, b: rename them"
    )
    assert refusal(csv, tmp_path) == f"{tmp_path} cannot be read: is a directory"
    assert refusal(csv, tmp_path / "no.csv") == f"{tmp_path / 'no.csv'} cannot be read: no such file or directory"
    monkeypatch.setattr(delimited, "BLOCK", 64)
    assert refusal(csv, text_file(tmp_path, 'a,b\n"x,1\n' + "y,2\n" * 100)) == (
        "people.csv: a quote is not closed, or a row is longer than 64 bytes"
    )


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    path = text_file(tmp_path, "a\n1\n")
    monkeypatch.setattr(Path, "open", refuse)
    for loader in LOADERS:
        assert refusal(loader.read, path) == f"{path} cannot be read: permission denied"


# ---- JSON Lines ----


def json_types(tmp_path: Path, *rows: str) -> dict[str, str]:
    return types(jsonl(text_file(tmp_path, "\n".join(rows) + "\n", "t.jsonl")))


def test_json_types_follow_from_all_values(tmp_path: Path) -> None:
    assert json_types(tmp_path, '{"a": 1, "b": "x", "c": true, "d": null}', '{"a": 2.5, "e": "00123"}') == {
        "a": "double", "b": "string", "c": "bool", "d": "string", "e": "string",
    }  # fmt: skip
    assert json_types(tmp_path, '{"a": "2020-01-01", "b": "2020-01-01T10:00:00Z", "c": "2020-01-01 10:00"}') == {
        "a": "date32[day]", "b": "timestamp[us, tz=UTC]", "c": "timestamp[us]",
    }  # fmt: skip
    assert json_types(tmp_path, '{"a": "2020-01-01"}', '{"a": "soon"}') == {"a": "string"}
    assert json_types(tmp_path, '{"a": "12"}', '{"a": "13"}') == {"a": "string"}


def test_json_whole_numbers_are_exact_or_refused(tmp_path: Path) -> None:
    big = jsonl(
        text_file(
            tmp_path, '{"a": 9223372036854775807, "b": 18446744073709551615, "c": [18446744073709551615]}\n', "t.jsonl"
        )
    )
    assert types(big) == {"a": "int64", "b": "uint64", "c": "list<item: uint64>"}
    assert whole(big).to_pylist() == [{"a": 2**63 - 1, "b": 2**64 - 1, "c": [2**64 - 1]}]
    for rows, number in (('{"a": 18446744073709551616}', 2**64), ('{"a": -1}\n{"a": 9223372036854775808}', 2**63)):
        assert refusal(jsonl, text_file(tmp_path, rows, "t.jsonl")) == (
            f"column a holds {number}, beyond 64 bits: write it as text, in quotes"
        )


def test_json_lists_are_sequences(tmp_path: Path) -> None:
    path = text_file(
        tmp_path,
        '{"i": [1, null, 3], "f": [0.5], "s": ["2020-01-01"], "e": [], "n": [[1], []]}\n'
        '{"i": null, "f": [1], "s": []}\n',
        "t.jsonl",
    )
    source = jsonl(path)
    assert types(source) == {
        "i": "list<item: int64>", "f": "list<item: double>", "s": "list<item: string>", "e": "list<item: string>",
        "n": "list<item: list<item: int64>>",
    }  # fmt: skip
    assert whole(source).to_pylist() == [
        {"i": [1, None, 3], "f": [0.5], "s": ["2020-01-01"], "e": [], "n": [[1], []]},
        {"i": None, "f": [1.0], "s": [], "e": None, "n": None},
    ]


def test_json_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": i, "t": f"2020-01-{i % 28 + 1:02d}", "l": list(range(i % 4))} for i in range(500)]
    rows += [{"a": 0.25, "t": "never", "l": [7], "new": "中"}]
    path = text_file(tmp_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "t.ndjson")
    one = jsonl(path)
    monkeypatch.setattr(lines, "BLOCK", 100)
    many = jsonl(path)
    assert types(many) == {"a": "double", "t": "string", "l": "list<item: int64>", "new": "string"}
    assert many.rows == 501
    assert whole(many).equals(whole(one))
    assert whole(many).schema.equals(whole(one).schema, check_metadata=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', "t.jsonl line 3 is not JSON: Expecting value: line 1 column 7 (char 6)"),
        ('{"a": 1}\n[1]\n', 't.jsonl line 2 is not an object such as {"column": 1}'),
        (
            '{"a": 1}\n{"a": null}\n{"a": "x"}\n',
            "t.jsonl line 3: column a holds numbers and text: write one kind of value",
        ),
        (
            '{"a": 1}\n{"a": true}\n',
            "t.jsonl line 2: column a holds numbers and true or false: write one kind of value",
        ),
        (
            '{"a": [1]}\n{"a": 1}\n',
            "t.jsonl line 2: column a holds lists of numbers and numbers: write one kind of value",
        ),
        (
            '{"a": [1, "x"]}\n',
            "t.jsonl line 1: column a holds lists of numbers and lists of text: write one kind of value",
        ),
        ('{"a": {"b": 1}}\n', "column a holds objects: write each of their keys as a column"),
        ('{"a": 1, "a": 2}\n', "t.jsonl line 1 is not JSON: a is there twice"),
        ("{}\n", "t.jsonl has no columns"),
        ("\n \n", "t.jsonl has no columns"),
        ("", "t.jsonl is empty"),
        ('{"a": "\\ud800"}\n', "t.jsonl is damaged, or not text in the column a: 'utf-8' codec can't encode character"),
        ('{"a": 1e400}\n', "JSON parse error: Number too big to be stored in double"),
    ],
)
def test_bad_json_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(jsonl, text_file(tmp_path, text, "t.jsonl"))


def test_a_mixed_json_column_is_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 50)
    path = text_file(tmp_path, '{"a": 1}\n' * 100 + '{"a": 2}\n{"a": "x"}\n', "t.jsonl")
    assert refusal(jsonl, path) == "t.jsonl line 102: column a holds numbers and text: write one kind of value"


# ---- round trips ----

EXACT = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(2**63, 2**64 - 1)),
    "float64": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: text + "字")),
    "date": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us"), st.datetimes()),
    "zoned": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
}
LISTS = {
    "tokens": (pa.list_(pa.int64()), st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4)),
    "path": (pa.list_(pa.float64()), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4)),
    "words": (pa.list_(pa.string()), st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4)),
}
BINARY = {
    "float32": (pa.float32(), st.floats(width=32)),
    "bytes": (pa.binary(), st.binary(max_size=5)),
    "nothing": (pa.null(), st.none()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "fine": (pa.timestamp("ns"), st.none()),
}
KINDS = {
    "csv": EXACT,
    "tsv": EXACT,
    "jsonl": EXACT | LISTS,
    "parquet": EXACT | LISTS | BINARY,
    "arrow": EXACT | LISTS | BINARY,
}


@st.composite
def drawn_tables(draw: st.DrawFn, suffix: str) -> pa.Table:
    kinds = KINDS[suffix]
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(1, 12))
    columns = {}
    for name in names:
        type_, values = kinds[name]
        cells = draw(st.lists(values | st.none(), min_size=rows - 1, max_size=rows - 1))
        # a text format shows a type only where there is a value, a list's only where it has one
        witness = values.filter(
            lambda cell: cell is not None and (not isinstance(cell, list) or any(c is not None for c in cell))
        )
        last = draw(witness) if suffix not in ("parquet", "arrow") else None
        columns[name + draw(st.sampled_from(["", ' "quoted", 名']))] = pa.array([*cells, last], type_)  # type: ignore[call-overload]
    return pa.table(columns)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("size", [3, 1000])
def test_what_is_written_reads_back_the_same(suffix: str, size: int) -> None:
    loader = "csv" if suffix == "tsv" else suffix

    @settings(max_examples=60, deadline=None)
    @given(drawn_tables(suffix))
    def check(table: pa.Table) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = BY_NAME[loader].read(written(table, Path(folder) / f"t.{suffix}", loader, size))
            back = whole(source, size)
        assert source.rows == table.num_rows
        assert back.schema.equals(table.schema)
        assert [repr(row) for row in back.to_pylist()] == [repr(row) for row in table.to_pylist()]

    check()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.none(), min_size=1), st.integers(1, 5))
def test_any_text_survives_csv_with_empty_text_and_null_apart(cells: list[str | None], size: int) -> None:
    table = pa.table({"a": pa.array(["text", *cells], pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        assert whole(csv(written(table, Path(folder) / "t.csv", "csv", size))).equals(table)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_any_text_survives_txt_with_escapes(cells: list[str]) -> None:
    table = pa.table({"text": pa.array(cells, pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        path = written(table, Path(folder) / "t.txt", "txt")
        assert path.read_bytes().count(b"\n") == len(cells)
        assert whole(txt(path, escapes=True)).equals(table)


def test_floats_keep_every_bit_and_stay_floats_in_text(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 1e22, 5e-324, 0.1 + 0.2, -0.0, 123456789012345680.0]})
    for loader in ("csv", "jsonl"):
        back = whole(BY_NAME[loader].read(written(table, tmp_path / f"t.{loader}", loader)))
        assert back.schema.equals(table.schema)
        assert list(map(repr, back["a"].to_pylist())) == list(map(repr, table["a"].to_pylist()))


@pytest.mark.parametrize("loader", ["csv", "jsonl", "parquet", "arrow"])
def test_no_rows_are_written_and_read(tmp_path: Path, loader: str) -> None:
    table = pa.table({"a": pa.array([], pa.string()), "b": pa.array([], pa.string())})
    path = written(table, tmp_path / f"t.{loader}", loader)
    if loader == "jsonl":
        assert path.read_bytes() == b""
    else:
        source = BY_NAME[loader].read(path)
        assert source.rows == 0
        assert whole(source).equals(table)


def categories(*codes: int | None, index: pa.DataType | None = None) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes, index or pa.int8()), ["low", "mid", "high"], ordered=True)


@pytest.mark.parametrize("loader", ["parquet", "arrow"])
def test_categories_and_metadata_survive_and_are_text_in_between(tmp_path: Path, loader: str) -> None:
    schema = pa.schema(
        [noted(pa.field("label", pa.string(), nullable=False, metadata={"mine": "x"}), role="label"),
         pa.field("size", categories(0).type, metadata={"unit": "bucket"})],
        {"origin": "test"},
    )  # fmt: skip
    table = pa.table([pa.array(["a", "b", "c"]), categories(2, None, 0)], schema=schema)
    original = tmp_path / f"in.{loader}"
    if loader == "parquet":
        pa.parquet.write_table(table, original)
    else:
        pa.feather.write_feather(table, original)
    source = BY_NAME[loader].read(original)
    assert source.schema.metadata == {b"origin": b"test"}
    assert (source.schema.field("label").metadata or {})[b"mine"] == b"x"
    assert notes(source.schema.field("size")) == {
        "values": ["low", "mid", "high"],
        "dictionary": "int8",
        "ordered": True,
    }
    assert whole(source)["size"].to_pylist() == ["high", None, "low"]
    path = written(whole(source), tmp_path / f"out.{loader}", loader, size=1)
    again = BY_NAME[loader].read(path)
    assert again.schema.equals(source.schema, check_metadata=True)
    assert whole(again).equals(whole(source))
    stored = pa.parquet.read_table(path) if loader == "parquet" else pa.ipc.open_file(str(path)).read_all()
    assert stored.schema.field("size").type == categories(0).type
    stored_sizes: Any = stored["size"].combine_chunks()
    assert stored_sizes.dictionary.to_pylist() == ["low", "mid", "high"]


def test_dictionaries_that_differ_between_batches_become_one(tmp_path: Path) -> None:
    parts = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c", "a"])]
    batches = [pa.record_batch([part], ["s"]) for part in parts]
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    source = BY_NAME["arrow"].read(tmp_path / "t.arrow")
    assert notes(source.schema.field("s")) == {"values": ["a", "b", "c"], "dictionary": "int32"}
    assert whole(source)["s"].to_pylist() == ["a", "b", "c", "a"]


def test_a_value_outside_the_noted_categories_is_refused(tmp_path: Path) -> None:
    field = noted(pa.field("s", pa.string()), values=["a"], dictionary="int8")
    table = pa.table([pa.array(["a", "z"])], schema=pa.schema([field]))
    with pytest.raises(DataError, match="column s holds z, which is not among the values noted for it"):
        written(table, tmp_path / "t.parquet", "parquet")


@pytest.mark.parametrize("loader", ["parquet", "arrow"])
def test_fixed_shape_tensors_survive_binary_files(tmp_path: Path, loader: str) -> None:
    type_ = pa.fixed_shape_tensor(pa.uint8(), [2, 2])
    storage = pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.uint8(), 4))
    table = pa.table({"image": pa.ExtensionArray.from_storage(type_, storage)})
    source = BY_NAME[loader].read(written(table, tmp_path / f"t.{loader}", loader))
    assert whole(source).equals(table)
    for suffix, way in (("csv", ".jsonl or .parquet"), ("jsonl", ".parquet or .arrow")):
        with pytest.raises(DataError, match=f"column image holds .*, which .* cannot hold: write {way}"):
            written(table, tmp_path / f"t.{suffix}", suffix)


def test_row_groups_are_gathered_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"a": pa.array(range(1000), pa.int64())})
    path = written(table, tmp_path / "one.parquet", "parquet", size=10)
    assert pa.parquet.ParquetFile(path).num_row_groups == 1
    monkeypatch.setattr(columnar, "GROUP", 8 * 100)
    path = written(table, tmp_path / "many.parquet", "parquet", size=10)
    assert pa.parquet.ParquetFile(path).num_row_groups > 5
    assert whole(parquet(path)).equals(table)


@pytest.mark.parametrize(("loader", "kind"), [("parquet", "Parquet"), ("arrow", "Arrow IPC")])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, loader: str, kind: str) -> None:
    read = BY_NAME[loader].read
    table = pa.table({"s": ["some text"] * 5000, "n": pa.array(range(5000), pa.int64())})
    good = written(table, tmp_path / f"good.{loader}", loader).read_bytes()
    bad = tmp_path / f"bad.{loader}"
    for content in (good[: len(good) // 2], good[:-10], b"not a table at all", good[:6]):
        bad.write_bytes(content)
        assert refusal(read, bad).startswith(f"bad.{loader} is damaged, or not {kind}: ")
    bad.write_bytes(b"")
    assert refusal(read, bad) == f"bad.{loader} is empty"
    assert refusal(read, tmp_path) == f"{tmp_path} cannot be read: is a directory"


def test_a_damaged_offset_in_an_arrow_file_is_not_followed(tmp_path: Path) -> None:
    table = pa.table({"s": ["some text"] * 100})
    path = written(table, tmp_path / "t.arrow", "arrow")
    content = path.read_bytes()
    at = content.index((9).to_bytes(4, "little") + (18).to_bytes(4, "little"))
    path.write_bytes(content[:at] + (2**30).to_bytes(4, "little") + content[at + 4 :])
    assert refusal(BY_NAME["arrow"].read, path).startswith("t.arrow is damaged, or not Arrow IPC: ")


@pytest.mark.parametrize("loader", ["parquet", "arrow"])
def test_columns_of_the_same_name_are_refused(tmp_path: Path, loader: str) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], schema=pa.schema([("a", pa.int64()), ("a", pa.int64())]))
    path = tmp_path / f"t.{loader}"
    if loader == "parquet":
        pa.parquet.write_table(table, path)
    else:
        pa.feather.write_feather(table, path)
    assert refusal(BY_NAME[loader].read, path) == f"{path.name} has more than one column named a: rename them"


# ---- what the text formats cannot hold ----


@pytest.mark.parametrize(
    ("column", "suffix", "message"),
    [
        (pa.array([[1]]), "csv", "column x holds list<item: int64>, which CSV cannot hold: write .jsonl or .parquet"),
        (pa.array([b"x"]), "csv", "column x holds binary, which CSV cannot hold: write .jsonl or .parquet"),
        (
            pa.array([{"a": 1}]),
            "csv",
            "column x holds struct<a: int64>, which CSV cannot hold: write .jsonl or .parquet",
        ),
        (pa.array([b"x"]), "jsonl", "column x holds binary, which JSON cannot hold: write .parquet or .arrow"),
        (pa.array([math.nan]), "jsonl", "column x has NaN or infinity, which JSON cannot hold: write .csv or .parquet"),
        (
            pa.array([[math.inf]]),
            "jsonl",
            "column x has NaN or infinity, which JSON cannot hold: write .csv or .parquet",
        ),
        (pa.array([1]), "txt", "a .txt file holds one column of text, and here are x (int64): write .csv or .jsonl"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(tmp_path: Path, column: Any, suffix: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        written(pa.table({"x": column}), tmp_path / f"t.{suffix}", suffix)
    assert str(caught.value) == message


def test_txt_refuses_several_columns_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"here are text \(string\), outcome \(string\): write .csv or .jsonl"):
        written(pa.table({"text": ["a"], "outcome": ["ok"]}), tmp_path / "t.txt", "txt")


def test_csv_quotes_only_where_needed(tmp_path: Path) -> None:
    table = pa.table(
        {"a b": ["plain", "", None, 'say "hi"', "a,b", "a\nb"], "n": [1.5, 2.0, None, math.nan, -math.inf, 0.1]}
    )
    text = 'a b,n\nplain,1.5\n"",2.0\n,\n"say ""hi""",nan\n"a,b",-inf\n"a\nb",0.1\n'
    assert written(table, tmp_path / "t.csv", "csv").read_text() == text
    assert csv_text(table, header=True) == text
    assert csv_text(table.slice(0, 1), header=False) == "plain,1.5\n"
    assert csv_text(table.slice(0, 0), header=True) == "a b,n\n"


def test_json_lines_are_plain_utf8_with_nulls_and_iso_dates(tmp_path: Path) -> None:
    day = datetime.datetime(2020, 1, 2, 3, 4, 5)
    table = pa.table(
        {"名": ["中\n", None], "d": pa.array([day, None], pa.timestamp("s")), "l": [[1, None], []], "b": [True, None]}
    )
    assert written(table, tmp_path / "t.jsonl", "jsonl").read_text(encoding="utf-8") == (
        '{"名": "中\\n", "d": "2020-01-02 03:04:05", "l": [1, null], "b": true}\n'
        '{"名": null, "d": null, "l": [], "b": null}\n'
    )


def test_plain_text_is_read_line_by_line_as_it_is(tmp_path: Path) -> None:
    source = txt(text_file(tmp_path, "one\\n\r\n\n two", "t.txt"))
    assert source.rows == 3
    assert whole(source).to_pydict() == {"text": ["one\\n", "", " two"]}


def test_each_suffix_has_one_loader_that_reads_and_writes() -> None:
    suffixes = [suffix for loader in LOADERS for suffix in loader.suffixes]
    assert sorted(suffixes) == [".arrow", ".csv", ".feather", ".jsonl", ".ndjson", ".parquet", ".tsv", ".txt"]
    assert all(loader.write for loader in LOADERS)
