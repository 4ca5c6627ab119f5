"""Packed files and several files: read as what they hold, as one table, or refused in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from genreg import textfiles
from genreg.builtin import LOADERS
from genreg.columnar import parquet, write_parquet
from genreg.data import Source, noted, notes
from genreg.errors import GenregError
from genreg.loading import open_source, writer_of
from genreg.several import joined

BY_NAME = {loader.name: loader for loader in LOADERS}


def whole(source: Source) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(size=2)), source.schema)


def opened(where: Any, call: str | None = None) -> pa.Table:
    return whole(open_source(where, BY_NAME, call))


def refusal(where: Any, call: str | None = None) -> str:
    with pytest.raises(GenregError) as caught:
        opened(where, call)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


# ---- packed ----


@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_text_within_gzip_and_zstd_is_read_by_its_suffix_and_by_what_it_is(tmp_path: Path, end: str, pack: Any) -> None:
    texts = {
        "t.csv": "名,zip\n中国,00123\n".encode("gb18030"),
        "t.tsv": "名\tzip\n中国\t00123\n".encode("gb18030"),
        "t.jsonl": '{"名": "中国", "zip": "00123"}\n'.encode("gb18030"),
    }
    for name, text in texts.items():
        (tmp_path / (name + end)).write_bytes(pack(text))
        (tmp_path / f"un{name}").write_bytes(pack(text))
        call = f"{'jsonl' if 'jsonl' in name else 'csv'}:encoding=gb18030"
        for path in (tmp_path / (name + end), tmp_path / f"un{name}"):
            assert opened(path, call).to_pylist() == [{"名": "中国", "zip": "00123"}]
    (tmp_path / f"t.txt{end}").write_bytes(pack(b"one\ntwo\n") + pack(b"three\n"))  # several members are one file
    assert opened(tmp_path / f"t.txt{end}").to_pydict() == {"text": ["one", "two", "three"]}
    (tmp_path / f"bad.csv{end}").write_bytes(pack("a\n中文\n".encode("gb18030")))
    assert refusal(tmp_path / f"bad.csv{end}") == (
        f"bad.csv{end} is not UTF-8 (line 2); it looks like GB18030: --loader csv:encoding=gb18030"
    )


def noise(rows: int) -> str:
    return "a\n" + "".join(f"{number:x}\n" for number in np.random.default_rng(0).integers(0, 2**63, rows))


@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_packed_files_that_are_cut_off_or_damaged_are_named(tmp_path: Path, name: str, end: str, pack: Any) -> None:
    rows = 20_000
    text = "".join(json.dumps({"a": line}) + "\n" for line in noise(rows).split()) if name == "t.jsonl" else noise(rows)
    packed = pack(text.encode())
    path = tmp_path / (name + end)
    for content in (packed[: len(packed) // 2], packed[:-3], packed[: len(packed) // 2] + b"!!!!" * 9 + packed[-5000:]):
        path.write_bytes(content)
        assert refusal(path).startswith(f"{name}{end} is damaged, or cut off: it does not unpack (")
    path.write_bytes(pack(b""))
    if name != "t.txt":
        assert refusal(path) == f"{name}{end} is empty"


@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_a_bomb_is_refused_before_it_fills_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str, pack: Any
) -> None:
    monkeypatch.setattr(textfiles, "UNPACKED_FREELY", 1 << 20)
    path = tmp_path / (name + end)
    path.write_bytes(pack(b"a\n" + b"0" * (8 << 20) + b"\n"))
    assert refusal(path) == f"{name}{end} unpacks to more than 200 times its size, as a bomb does: unpack it yourself"
    path.write_bytes(pack(b"a\n" + b"0" * (1 << 19) + b"\n"))  # small enough to harm nobody
    if name != "t.jsonl":
        assert len(opened(path)) >= 1


def test_only_text_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "t.parquet.gz").write_bytes(gzip.compress(b"x"))
    assert "the suffix .gz has no loader; there are: .arrow, .csv, .feather, " in refusal(tmp_path / "t.parquet.gz")
    with pytest.raises(GenregError, match=r"the suffix \.gz has no writer"):
        writer_of(tmp_path / "t.arrow.gz", BY_NAME)


def test_the_bytes_of_a_packed_file_are_the_same_each_time(tmp_path: Path) -> None:
    for end in ("gz", "zst"):
        for name in ("one", "two"):
            table = pa.table({"a": [1, 2]})
            writer_of(tmp_path / f"{name}.csv.{end}", BY_NAME)(
                table.to_batches(), table.schema, tmp_path / f"{name}.csv.{end}"
            )
        assert (tmp_path / f"one.csv.{end}").read_bytes() == (tmp_path / f"two.csv.{end}").read_bytes()


# ---- several ----


def texts(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


def test_the_files_of_a_pattern_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    texts(tmp_path, b_csv="n,s\n3,z\n", a_csv="n,s\n1,x\n2,y\n")
    assert opened(tmp_path / "*.csv").to_pydict() == {"n": [1, 2, 3], "s": ["x", "y", "z"]}
    assert opened(str(tmp_path / "[b]*")).to_pydict() == {"n": [3], "s": ["z"]}
    assert opened([tmp_path / "b.csv", str(tmp_path / "a.csv")]).to_pydict() == {"n": [3, 1, 2], "s": ["z", "x", "y"]}
    assert open_source(tmp_path / "*.csv", BY_NAME).rows == 3
    (tmp_path / "odd [1].csv").write_text("n,s\n7,q\n")
    assert opened(tmp_path / "odd [1].csv").to_pydict() == {"n": [7], "s": ["q"]}, "a file's own name is no pattern"


def test_types_are_settled_over_all_files(tmp_path: Path) -> None:
    texts(tmp_path, a_csv="zip,n,e\n123,1,\n", b_csv="zip,n,e\n0A123,2.5,7\n")
    table = opened(tmp_path / "*.csv")
    assert [str(kind) for kind in table.schema.types] == ["string", "double", "int64"]
    assert table.to_pydict() == {"zip": ["123", "0A123"], "n": [1.0, 2.5], "e": [None, 7]}
    texts(tmp_path, a_jsonl='{"a": 1}\n', b_jsonl='{"a": 2.5, "b": "x"}\n')
    assert opened(tmp_path / "*.jsonl").to_pydict() == {"a": [1.0, 2.5], "b": [None, "x"]}


def test_knobs_go_to_each_file(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_bytes(f"{name} 中\n\n文\n".encode("gb18030"))
    assert opened(tmp_path / "?.txt", "txt:encoding=gb18030,by=file").to_pydict() == {
        "text": ["a 中\n\n文", "b 中\n\n文"]
    }


def test_files_whose_columns_differ_are_refused_by_name(tmp_path: Path) -> None:
    texts(tmp_path, a_csv="n,s\n1,x\n", b_csv="n,t\n1,x\n")
    assert refusal(tmp_path / "*.csv") == "b.csv has the columns n, t; a.csv: n, s"
    texts(tmp_path, a_jsonl='{"a": 1}\n', b_jsonl='{"a": "x"}\n')
    assert refusal(tmp_path / "*.jsonl") == ("b.jsonl line 1: column a holds numbers and text: write one kind of value")
    for name, column in (("a", pa.array([1])), ("b", pa.array(["x"]))):
        pa.parquet.write_table(pa.table({"n": column}), tmp_path / f"{name}.parquet")
    one, two = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert refusal(tmp_path / "*.parquet") == f"column n is string in {two}, and int64 in {one}"
    pa.parquet.write_table(pa.table({"m": [1]}), two)
    assert refusal([one, two]) == f"{two} has the columns m; {one}: n"
    assert refusal([one, tmp_path / "a.csv"]) == f"{tmp_path / 'a.csv'} has the columns n, s; {one}: n"


def test_files_of_several_formats_may_hold_the_same_columns(tmp_path: Path) -> None:
    texts(tmp_path, a_csv="n\n1\n", b_jsonl='{"n": 2}\n')
    assert opened(tmp_path / "?.*").to_pydict() == {"n": [1, 2]}


def test_schemas_beside_files_must_agree(tmp_path: Path) -> None:
    texts(tmp_path, a_csv="n\n1\n", b_csv="n\n2\n")
    said = '{"genreg_schema": 1, "columns": [{"name": "n", "type": "%s"}]}'
    (tmp_path / "a.csv.schema.json").write_text(said % "string")
    message = "b.csv.schema.json and a.csv.schema.json differ, and the files are read as one"
    assert refusal(tmp_path / "*.csv") == message
    (tmp_path / "b.csv.schema.json").write_text(said % "int8")
    assert refusal(tmp_path / "*.csv") == message
    (tmp_path / "b.csv.schema.json").write_text(said % "string")
    assert opened(tmp_path / "*.csv").to_pydict() == {"n": ["1", "2"]}
    assert opened(tmp_path / "*").to_pydict() == {"n": ["1", "2"]}, "a schema file is no data"


def test_patterns_and_files_that_are_not_there_are_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.csv") == f"{tmp_path / 'no.csv'}: there is no such file"
    assert refusal("x" * 5000 + ".csv") == "x" * 5000 + ".csv: there is no such file"
    assert refusal(tmp_path / "no*.csv") == f"{tmp_path / 'no*.csv'}: no file fits the pattern"


def test_what_is_noted_of_a_column_holds_for_all_files(tmp_path: Path) -> None:
    fields = [
        noted(pa.field("c", pa.string()), values=values, dictionary="int8", role=role, decimals=decimals)
        for values, role, decimals in ((["a"], "label", 1), (["b", "a"], "label", 2), (["c"], None, 0))
    ]
    cells = (["a"], ["b"], ["c"])
    sources = [
        Source.of(pa.table([cell], schema=pa.schema([field]))) for cell, field in zip(cells, fields, strict=True)
    ]
    both = joined(sources[:2], ["a", "b"])
    assert notes(both.schema.field("c")) == {
        "values": ["a", "b"], "dictionary": "int32", "role": "label", "decimals": 2,
    }  # fmt: skip
    assert notes(joined(sources, ["a", "b", "c"]).schema.field("c")) == {
        "values": ["a", "b", "c"], "dictionary": "int32", "decimals": 2,
    }  # fmt: skip
    write_parquet(both.batches(size=10), both.schema, tmp_path / "t.parquet")
    assert whole(parquet(tmp_path / "t.parquet")).to_pydict() == {"c": ["a", "b"]}
    assert joined([Source(fields and both.schema, both.read), both], ["a", "b"]).rows is None
