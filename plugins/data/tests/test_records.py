"""JSON arrays: every object, whatever the layout and the blocks, or the one that stands in the way."""

from __future__ import annotations

import gzip
import json as standard
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.data import Source
from genreg.errors import DataError
from genreg.lines import jsonl
from genreg.schemafile import beside, write_schema
from genreg_data import records
from genreg_data.records import json, write_json


def whole(source: Source) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(size=3)), source.schema)


def put(folder: Path, text: str, encoding: str = "utf-8", name: str = "t.json") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def refusal(path: Path, **knobs: Any) -> str:
    with pytest.raises(DataError) as caught:
        whole(json(path, **knobs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


CELLS = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
TEXT = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"n": CELLS, 'a "名"': TEXT}, optional={"l": st.lists(TEXT)}), min_size=1),
    st.sampled_from([None, 1]),
    st.sampled_from([1, 7, 1 << 20]),
    st.booleans(),
)
def test_an_array_is_read_as_its_objects_are_as_json_lines(
    tmp_path_factory: Any, rows: list[Any], indent: int | None, block: int, ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("json")
    path = put(folder, standard.dumps(rows, indent=indent, ensure_ascii=ascii_only))
    lines = put(folder, "".join(standard.dumps(row) + "\n" for row in rows), name="t.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK", block)
        source = json(path)
        assert source.rows == len(rows)
        found, wanted = whole(source), whole(jsonl(lines))
    assert found.schema.equals(wanted.schema, check_metadata=True)
    assert found.equals(wanted)


def test_whole_numbers_are_exact_and_encodings_and_gzip_are_read(tmp_path: Path) -> None:
    text = '[{"名": "中\\n", "u": 18446744073709551615},\r\n {"名": null, "u": 0}]\n'
    wanted = {"名": ["中\n", None], "u": [2**64 - 1, 0]}
    for encoding, named in (("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("gb18030", "gb18030"), ("utf-16", "utf-16")):
        assert whole(json(put(tmp_path, text, encoding), encoding=named)).to_pydict() == wanted
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(text.encode()))
    assert whole(json(tmp_path / "t.json.gz")).to_pydict() == wanted
    assert whole(json([put(tmp_path, text), tmp_path / "t.json.gz"])).num_rows == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.json is empty"),
        ("[]", "t.json has no columns"),
        ('{"a": 1}', "t.json is no array of objects, [{…}, …]: name objects that are a line each .jsonl"),
        ("[1]", '1. item of t.json is not an object such as {"column": 1}'),
        ('[{"a": 1}, [2]]', '2. item of t.json is not an object such as {"column": 1}'),
        ('[{"a": 1}', "t.json object 1 is not JSON: it is cut off"),
        ('[{"a": 1}, {"a": "x', "t.json object 2 is not JSON: it is cut off"),
        ('[{"a": 1},', "t.json object 2 is not JSON: it is cut off"),
        ('[{"a": 1},]', '2. item of t.json is not an object such as {"column": 1}'),
        ('[{"a": 1} {"a": 2}]', "t.json object 1 is not JSON: the array goes on without a comma"),
        ('[{"a": 1}] x', "t.json object 1 is not JSON: something follows the array"),
        ('[{"a": 1}, {"a" 2}]', "t.json object 2 is not JSON: Expecting ':' delimiter"),
        ('[{"a": 1, "a": 2}]', "t.json object 1 is not JSON: a is there twice"),
        ('[{"a": 1}, {"a": "x"}]', "t.json object 2: column a holds numbers and text: write one kind of value"),
        ('[{"a": {"b": 1}}]', "column a holds objects: write each of their keys as a column"),
        ('[{"a": 18446744073709551616}]', "column a holds 18446744073709551616, beyond 64 bits: write it as text"),
        ('[{"a": "\\ud800"}]', "t.json is damaged, or not text in the column a: "),
        ('[{"a": "x\ny"}]', "t.json object 1 is not JSON: Invalid control character at"),
        ("[" + '{"a":' * 100_000, "t.json object 1 is not JSON: "),
    ],
)
def test_what_is_no_array_of_objects_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(put(tmp_path, text)).startswith(message)


def test_mixed_types_late_in_the_file_and_wrong_encodings_are_named(tmp_path: Path) -> None:
    rows = '{"zip": 1},' * 50_000
    assert refusal(put(tmp_path, f'[{rows}{{"zip": "0A1"}}]')) == (
        "t.json object 50001: column zip holds numbers and text: write one kind of value"
    )
    assert refusal(put(tmp_path, '[{"名": "中文字"}]', "gb18030")) == (
        "t.json is not UTF-8 (line 1); it looks like GB18030: --loader json:encoding=gb18030"
    )
    assert refusal(put(tmp_path, '[{"a": "b"}]', "utf-16")) == (
        "t.json is not UTF-8; it looks like UTF-16: --loader json:encoding=utf-16"
    )


def test_what_has_no_end_is_refused_before_all_of_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST", 10_000)
    monkeypatch.setattr(records, "BLOCK", 1000)
    path = put(tmp_path, '[{"a": "' + "x" * 1_000_000)
    assert refusal(path) == "t.json object 1 is not JSON: it is longer than 10,000 characters, or its end is missing"


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_an_array_is_written_an_object_a_line(tmp_path: Path, rows: int) -> None:
    table = pa.table({"名": pa.array(["中"] * rows, pa.string()), "n": pa.array([1] * rows, pa.int8())})
    path = tmp_path / "t.json"
    write_json(table.to_batches(max_chunksize=2), table.schema, path)
    text = path.read_text("utf-8")
    assert standard.loads(text) == table.to_pylist()
    assert text == ("[\n" + ",\n".join(['{"名": "中", "n": 1}'] * rows) + "\n]\n" if rows else "[]\n")
    write_schema(table.schema, beside(path))
    assert whole(json(path)).equals(table)
    with pytest.raises(DataError, match=r"column x holds binary, which JSON cannot hold: write \.parquet or \.arrow"):
        write_json([], pa.schema([("x", pa.binary())]), path)
