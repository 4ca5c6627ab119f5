"""``genreg data convert``: what goes through any of the formats comes back with its schema, or is refused by name."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from genreg.cli import main
from genreg.data import Source, noted
from genreg.images import encode, image_field, pixels
from genreg.images import images as image_column
from genreg.loading import open_source
from genreg.plugins import load_plugins


@pytest.fixture
def convert(capsys, monkeypatch, tmp_path):
    """``genreg data convert …`` in the test's folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["data", "convert", *arguments])
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        return said.out, said.err

    return call


def whole(where: Any, call: str | None = None) -> pa.Table:
    source: Source = open_source(where, load_plugins().loaders, call)
    return pa.Table.from_batches(list(source.batches(size=100)), source.schema)


def people() -> pa.Table:
    """What conversions lose elsewhere."""
    sizes = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["S", "M", "L"], ordered=True)
    fields = [
        noted(pa.field("zip", pa.string()), role="key"),
        pa.field("born", pa.date32(), nullable=False),
        pa.field("id", pa.uint64()),
        pa.field("small", pa.int8()),
        pa.field("size", sizes.type, metadata={"unit": "bucket"}),
        pa.field("seen", pa.timestamp("ms", "Asia/Shanghai")),
        pa.field("paid", pa.decimal128(10, 2)),
        pa.field("note", pa.string()),
        pa.field("none", pa.int16()),
        pa.field("ok", pa.bool_()),
        pa.field("share", pa.float32()),
    ]
    day = datetime.date(1969, 2, 28)
    at = datetime.datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=datetime.UTC)
    columns = [
        pa.array(["00123", "NA", None]),
        pa.array([day] * 3, pa.date32()),
        pa.array([2**64 - 1, 0, None], pa.uint64()),
        pa.array([-128, 127, None], pa.int8()),
        sizes,
        pa.array([at, None, at], pa.timestamp("ms", "Asia/Shanghai")),
        pa.array([Decimal("1.10"), None, Decimal("-0.01")], pa.decimal128(10, 2)),
        pa.array(["", None, 'a,"b"\r\n今天天气不错']),
        pa.nulls(3, pa.int16()),
        pa.array([True, False, None]),
        pa.array([0.1, float(np.float32(1e-45)), None], pa.float32()),
    ]
    return pa.table(columns, schema=pa.schema(fields, {"origin": "调查"}))


FORMATS = [
    "csv",
    "tsv",
    "json",
    "jsonl",
    "ndjson",
    "csv.gz",
    "tsv.zst",
    "json.zst",
    "jsonl.gz",
    "parquet",
    "arrow",
    "feather",
]


def test_a_table_goes_through_every_format_in_turn_and_comes_back_exactly(convert, tmp_path):
    pa.parquet.write_table(people(), tmp_path / "t0.parquet")
    before = "t0.parquet"
    for at, suffix in enumerate([*FORMATS, *reversed(FORMATS), "parquet"], 1):
        _, err = convert(before, "-o", f"t{at}.{suffix}")
        assert err == f"genreg: wrote t{at}.{suffix}: 3 rows, 11 columns\n"
        before = f"t{at}.{suffix}"
    stored = pa.parquet.read_table(before)
    assert stored.schema.field("size").type == people().schema.field("size").type
    assert whole(before).schema.equals(whole("t0.parquet").schema, check_metadata=True)
    assert whole(before).equals(whole("t0.parquet"))
    assert (tmp_path / "t3.json.schema.json").is_file()
    assert json.loads((tmp_path / "t3.json").read_text("utf-8"))[0]["zip"] == "00123"


def test_lists_go_through_json_and_are_refused_by_csv(convert, tmp_path):
    table = pa.table({"tokens": pa.array([[1, None], [], None], pa.list_(pa.uint8())), "text": ["a", "b", None]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    convert("a.parquet", "-o", "b.json")
    convert("b.json", "-o", "c.arrow")
    assert whole("c.arrow").equals(table)
    _, err = convert("a.parquet", "-o", "d.csv", code=2)
    assert err == "genreg: column tokens holds list<item: uint8>, which CSV cannot hold: write .jsonl or .parquet\n"
    assert not [*tmp_path.glob("*d.csv*")]


def photos(folder: Path) -> Any:
    """Two classes of three images, one of them no image."""
    made = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    for at, image in enumerate(made):
        path = folder / ("cat" if at < 3 else "dog") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image))
    (folder / "cat" / "1.png").write_bytes(b"<html>")
    return made[[0, 2, 3, 4, 5]]


def test_broken_images_are_left_out_and_named_or_stop_it(convert, tmp_path):
    kept = photos(tmp_path / "photos")
    why = "no image that genreg reads (PNG, JPEG, WebP, BMP, GIF)"
    _, err = convert("photos", "-o", "a.parquet")
    assert err == (f"genreg: left out 1 broken: photos/cat/1.png ({why})\ngenreg: wrote a.parquet: 5 rows, 2 columns\n")
    assert (pixels(whole("a.parquet").column("image")) == kept).all()
    out, err = convert("photos", "-o", "b.parquet", "--json", "--loader", "images:channels=1")
    assert not err
    assert json.loads(out) == {
        "output": "b.parquet",
        "rows": 5,
        "columns": {"image": str(image_field("", (4, 4, 1)).type), "label": "string"},
        "skipped": {"photos/cat/1.png": why},
    }
    _, err = convert("photos", "-o", "c.parquet", "--strict", code=2)
    assert err.startswith(f"genreg: photos/cat/1.png: {why}: mend or remove it")
    _, err = convert("photos", "-o", "c.parquet", "--loader", "images:broken=refuse", code=2)
    assert err.startswith(f"genreg: photos/cat/1.png: {why}")
    assert not (tmp_path / "c.parquet").exists()


def test_images_go_through_folders_and_arrays_and_come_back(convert, tmp_path):
    made = np.random.default_rng(1).integers(0, 256, (12, 5, 4, 3), np.uint8)
    fields = [
        image_field("image", (5, 4, 3)),
        noted(pa.field("label", pa.string()), role="label", values=["0", "07"]),
        pa.field("score", pa.float32()),
    ]
    scores = pa.array([None, *np.linspace(0, 1, 11)], pa.float32())
    table = pa.table([image_column(made), pa.array(["07", "0"] * 6), scores], schema=pa.schema(fields))
    loaders = load_plugins().loaders
    write: Any = loaders["parquet"].write
    write(table.to_batches(), table.schema, tmp_path / "a.parquet")
    convert("a.parquet", "-o", "folder/")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir())[-2:] == [
        "labels.csv",
        "labels.csv.schema.json",
    ]
    convert("folder/", "-o", "b.parquet")
    assert whole("b.parquet").schema.equals(table.schema, check_metadata=True)
    assert whole("b.parquet").equals(table)
    convert("a.parquet", "-o", "folder/", "--force")
    assert whole("folder/").equals(table)
    convert("b.parquet", "-o", "c.npz")
    back = whole("c.npz")
    assert (pixels(back.column("image")) == made).all()
    assert back.column("label").to_pylist() == ["07", "0"] * 6
    _, err = convert("a.parquet", "-o", "d.csv", code=2)
    assert err.startswith("genreg: column image holds images, which CSV cannot hold: write .png, a folder (OUT/)")


def test_several_sources_become_one_table_of_settled_types(convert, tmp_path):
    for name, rows in (("a", "zip,n\n1,\n"), ("b", "zip,n\n007,3\n")):
        (tmp_path / f"{name}.csv").write_text(rows)
    for sources in (("*.csv",), ("a.csv", "b.csv")):
        convert(*sources, "-o", "all.parquet", "--force")
        assert whole("all.parquet").to_pydict() == {"zip": ["1", "007"], "n": [None, 3]}


def test_what_is_there_is_not_overwritten_unasked(convert, tmp_path):
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "b.csv.schema.json").write_text("{}")
    _, err = convert("a.csv", "-o", "b.csv", code=2)
    assert err == "genreg: b.csv.schema.json is there already: choose another name, or --force to replace it\n"
    assert not (tmp_path / "b.csv").exists()
    convert("a.csv", "-o", "b.csv", "--force")
    assert whole("b.csv").to_pydict() == {"n": [1]}
    _, err = convert("a.csv", "-o", "a.csv", code=2)
    assert err == "genreg: a.csv is there already: choose another name, or --force to replace it\n"
    _, err = convert("a.csv", "-o", "a.xlsx", code=2)
    assert err.startswith("genreg: a.xlsx: the suffix .xlsx has no writer; there are: .apng, .arrow, .bmp, .csv, ")
    _, err = convert("none.csv", "-o", "c.csv", code=2)
    assert err == "genreg: none.csv: there is no such file\n"


def test_a_file_that_is_replaced_takes_its_schema_along(convert, capsys, tmp_path):
    (tmp_path / "a.csv").write_text("species\n1\n")
    convert("a.csv", "-o", "b.csv")
    assert (tmp_path / "b.csv.schema.json").is_file()
    with pytest.raises(SystemExit) as ended:
        main(["run", "nb-iris", "-n", "2", "--seed", "0", "-o", "b.csv", "--force"])
    assert not ended.value.code, capsys.readouterr().err
    assert not (tmp_path / "b.csv.schema.json").exists()
    assert whole("b.csv").num_columns == 5


def test_a_failed_conversion_leaves_nothing(convert, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n" * 1000 + "3\n")
    _, err = convert("a.csv", "-o", "b.parquet", code=2)
    assert err == "genreg: a.csv: row 2000 (line 2001) has 1 columns, and the header has 2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv"]


def test_the_verb_in_a_process_of_its_own_and_its_help(tmp_path):
    (tmp_path / "人.csv").write_text("名,zip\n张三,00123\n", "gb18030")
    asked = ["data", "convert", "人.csv", "--loader", "csv:encoding=gb18030", "-o", "人.jsonl"]
    done = subprocess.run([sys.executable, "-m", "genreg", *asked], cwd=tmp_path, capture_output=True, check=False)
    assert done.stderr.decode() == "genreg: wrote 人.jsonl: 1 rows, 2 columns\n"
    assert done.returncode == 0
    assert (tmp_path / "人.jsonl").read_text("utf-8") == '{"名": "张三", "zip": "00123"}\n'


def test_the_group_lists_its_verbs_and_names_a_close_one(capsys):
    for arguments, code in ((["data", "--help"], 0), (["data", "convrt"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    said = capsys.readouterr()
    assert "convert  Write data in another format, its schema kept exactly" in said.out
    assert said.err == "genreg: genreg data has no verb convrt; did you mean convert?\n"


def test_left_out_images_are_named_up_to_five():
    from genreg_data.files import left_out

    source = Source(pa.schema([]), lambda size: iter(()), skipped={f"{at}.png": "no bytes" for at in range(8)})
    named = ", ".join(f"{at}.png (no bytes)" for at in range(5))
    assert left_out(source) == f"left out 8 broken: {named}, and 3 more"
