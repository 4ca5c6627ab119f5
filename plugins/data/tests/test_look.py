"""genreg data inspect: what it counts, what it shows, and the contact sheet."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from genreg.cli import main
from genreg.data import Source
from genreg.errors import DataError
from genreg.images import encode, image_field, images
from genreg_data.look import bars, first_images, inspect


def silent(*_: Any, **__: Any) -> None: ...


def look(columns: dict[str, Any] | pa.Table, **knobs: Any) -> dict[str, Any]:
    return inspect(Source.of(columns if isinstance(columns, pa.Table) else pa.table(columns)), silent, **knobs)


def test_numbers_dates_and_text_are_described():
    day = datetime.date(2020, 1, 1)
    found = look(
        {
            "x": [1.0, 2.0, None, 4.0, float("nan"), float("inf")],
            "n": pa.array([2**63, 0, 1, 2, 3, 4], pa.uint64()),
            "d": [day, None, None, day, day, day.replace(year=2021)],
            "t": ["雪", "", None, "abc", "abc", "abc"],
            "b": [True, True, False, None, None, None],
            "l": [[1, 2], [], None, [3], [3], [3]],
            "c": pa.nulls(6),
        }
    )
    about = found["columns"]
    assert found["rows"] == 6
    assert {k: about["x"][k] for k in ("missing", "not_finite", "least", "most", "mean", "median")} == {
        "missing": 1, "not_finite": 2, "least": 1.0, "most": 4.0, "mean": 7 / 3, "median": 2.0,
    }  # fmt: skip
    assert (about["n"]["least"], about["n"]["most"], about["n"]["different"]) == (0, 2**63, 6)
    assert (about["d"]["least"], about["d"]["most"], about["d"]["missing_share"]) == ("2020-01-01", "2021-01-01", 1 / 3)
    assert (about["t"]["length"], about["t"]["common"]) == ([0, 3], {"abc": 3, "": 1, "雪": 1})
    assert about["b"]["common"] == {"True": 2, "False": 1}
    assert about["l"]["length"] == [0, 2]
    assert (about["c"]["missing"], "least" in about["c"]) == (6, False)
    json.dumps(found, allow_nan=False)


def test_a_histogram_has_16_pieces_of_equal_width():
    values = np.repeat(np.arange(16) + 0.5, np.arange(16) * 10)
    counts = look({"x": [0.0, *values.tolist(), 16.0]})["columns"]["x"]["histogram"]
    np.testing.assert_allclose(counts, np.histogram([0.0, *values, 16.0], 16)[0], atol=3)
    assert bars([0, 1, 100]) == " ▁█"


def test_batches_change_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    columns = {"x": draw.normal(size=500), "t": [f"t{n}" for n in draw.integers(0, 9, 500)]}
    whole = look(columns, label="t")
    monkeypatch.setattr(Source, "scan", lambda self: self.batches(size=7))
    again = look(columns, label="t")
    assert whole["columns"]["x"].pop("mean") == pytest.approx(again["columns"]["x"].pop("mean"))
    assert whole == again


def test_the_label_is_counted_and_a_wrong_one_refused():
    found = look({"label": ["a", "b", "a", None]}, label="label")
    assert (found["label"], found["balance"]) == ("label", {"a": 2, "": 1, "b": 1})
    with pytest.raises(DataError, match=r"^--label klass: the data has no column klass; there are: label$"):
        look({"label": ["a"]}, label="klass")


def test_too_many_values_are_not_counted():
    found = look({"t": [f"t{n}" for n in range(10_001)]})["columns"]["t"]
    assert ("different" in found, "common" in found, found["length"]) == (False, False, [2, 6])


def test_images_are_told_by_their_sizes():
    cells = [encode(np.zeros((h, 5, c), np.uint8)) for h, c in ((4, 3), (4, 3), (6, 1))]
    table = pa.table([pa.array([*cells, None])], pa.schema([image_field("image")]))
    about = look(table)["columns"]["image"]
    assert (about["type"], about["sizes"], about["missing"]) == ("image", {"4 x 5 x 3": 2, "6 x 5 x 1": 1}, 1)
    pixels = pa.table({"image": images(np.zeros((3, 2, 2), np.uint8))})
    assert look(pixels)["columns"]["image"]["sizes"] == {"2 x 2 x 1": 3}
    assert look(pixels)["sample"] == [{"image": "image"}] * 3


def test_a_sheet_needs_one_column_of_images():
    one = images(np.zeros((3, 2, 2), np.uint8))
    assert len(first_images(Source.of(pa.table({"a": one})), 2)) == 2
    with pytest.raises(DataError, match=r"several columns of images \(a, b\): leave out -o$"):
        first_images(Source.of(pa.table({"a": one, "b": one})), 2)
    with pytest.raises(DataError, match=r"and the source has no images: leave out -o$"):
        first_images(Source.of(pa.table({"a": [1]})), 2)


def genreg(*words: str) -> int:
    try:
        return main(list(words)) or 0
    except SystemExit as ended:
        return int(ended.code or 0)


def test_the_command_prints_a_table_or_json_and_writes_a_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("文本,n\n今天天气不错,1\n股市大涨,\n", "utf-8")
    assert genreg("data", "inspect", "rows.csv", "--label", "文本") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 rows"
    assert lines[2].split() == ["column", "type", "missing", "different", "range"]
    assert lines[4].split() == ["n", "int64", "1", "(50.0%)", "1", "1", "..", "1", "1", "1"]
    assert "  今天天气不错  1 (50.0%)" in lines
    assert genreg("data", "inspect", "rows.csv", "--json", "--rows", "1") == 0
    assert json.loads(capsys.readouterr().out)["sample"] == [{"文本": "今天天气不错", "n": 1}]
    for at in range(5):
        Path(f"photos/{'ab'[at % 2]}").mkdir(parents=True, exist_ok=True)
        Path(f"photos/{'ab'[at % 2]}/{at}.png").write_bytes(encode(np.full((70, 64, 3), 50 * at, np.uint8)))
    assert genreg("data", "inspect", "photos", "-o", "sheet.png", "--images", "4") == 0
    out = capsys.readouterr()
    assert "70 x 64 x 3 (5)" in out.out
    assert out.err == "genreg: wrote sheet.png\n"
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (3 * 64 + 4, 2 * 70 + 2)
    assert genreg("data", "inspect", "photos", "-o", "sheet.png") == 2
    assert genreg("data", "inspect", "photos", "-o", "sheet.txt") == 2
    assert "-o sheet.txt: a sheet is a picture, such as sheet.png" in capsys.readouterr().err
