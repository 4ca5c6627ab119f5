"""Labels by name, from a second file, and from Label Studio's exports."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genreg.data import Source, named_with_role
from genreg.errors import DataError
from genreg.images import encode, image_columns
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg.preprocess import cleaned
from genreg_data.labels import label, labels
from genreg_data.labelstudio import labelstudio


def after(fit: Any, columns: dict[str, Any], **knobs: Any) -> Source:
    source = Source.of(pa.table(columns), "train")
    return cleaned(source, fit(source, **knobs))


def rows(source: Source) -> dict[str, list[Any]]:
    return pa.Table.from_batches(list(source.batches(size=100)), source.schema).to_pydict()


def test_a_label_is_named_and_rows_without_one_are_kept_or_dropped_on_purpose():
    columns = {"text": ["a", "b", "c"], "class": ["x", None, "y"]}
    for unlabeled, left in (("keep", ["a", "b", "c"]), ("drop", ["a", "c"])):
        found = after(label, columns, column="class", unlabeled=unlabeled)
        assert (named_with_role(found.schema, "label"), rows(found)["text"]) == ("class", left)
    message = r"^column class has no label in 1 of 3 rows: unlabeled=drop leaves them out, unlabeled=keep keeps them$"
    with pytest.raises(DataError, match=message):
        after(label, columns, column="class")


def test_labels_come_from_a_second_file_by_key(tmp_path):
    path = tmp_path / "标签.csv"
    path.write_text("id,标签\n7,天气\n3,财经\n9,\n7,天气\n,体育\n", "utf-8")
    columns = {"id": [3, 7, None, 9], "text": ["a", "b", "c", "d"]}
    knobs = {"file": str(path), "key": "id", "column": "标签"}
    found = after(labels, columns, unlabeled="keep", **knobs)
    assert rows(found)["标签"] == ["财经", "天气", None, None]
    assert named_with_role(found.schema, "label") == "标签"
    named = after(labels, columns, unlabeled="drop", name="class", **knobs)
    assert (rows(named)["text"], named.schema.names) == (["a", "b"], ["id", "text", "class"])


@pytest.mark.parametrize(
    ("content", "knobs", "message"),
    [
        ("id,label\n1,a\n1,b\n", {}, "labels.csv has two labels for id=1: a, b$"),
        ("id,label\n1,a\n", {"key": "n"}, "labels: key n: the data has no column n; there are: id, text$"),
        ("id,label\n1,a\n", {"column": "text"}, "labels: the data has a column text already: name=… calls the label"),
        ("id,label\n1,a\n", {"column": "klass"}, "labels: labels.csv: klass: the data has no column klass"),
        ("id,label\nx,a\n", {}, "labels: id is int64 in the data, and .*labels.csv has others$"),
        ("id,label\n2,a\n", {}, "column label has no label in 1 of 1 rows: unlabeled=drop"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, content, knobs, message):
    path = tmp_path / "labels.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        after(labels, {"id": [1], "text": ["a"]}, **{"file": str(path), "key": "id", **knobs})


def test_a_second_label_is_refused():
    once = after(label, {"a": ["x"], "b": ["y"]}, column="a")
    with pytest.raises(DataError, match=r"^--preprocess label: a is the label already, and b would be a second one$"):
        label(once, column="b")


# ---- Label Studio: https://labelstud.io/guide/task_format ----


def task(number: int, choices: list[Any], *, control: str = "sentiment", **data: Any) -> dict[str, Any]:
    """A task as it is exported, with an annotation for each of the choices (None: cancelled)."""
    annotations = [
        {
            "id": at,
            "was_cancelled": choice is None,
            "result": []
            if choice is None
            else [
                {"type": "choices", "from_name": control, "to_name": "text", "value": {"choices": [choice]}},
                {"type": "textarea", "from_name": "note", "to_name": "text", "value": {"text": ["?"]}},
            ],
        }
        for at, choice in enumerate(choices)
    ]
    return {"id": number, "data": data, "annotations": annotations, "predictions": []}


def export(folder, tasks: Any):
    path = folder / "export.json"
    path.write_text(json.dumps(tasks, ensure_ascii=False), "utf-8")
    return path


def test_an_export_of_texts_is_rows_with_labels(tmp_path):
    tasks = [
        task(1, ["正面"], text="好吃！", stars=5),
        task(2, [None, "负面"], text="难吃", stars=1.5),
        task(3, [], text="一般", page="a"),
        task(4, [None], text="?"),
    ]
    path = export(tmp_path, tasks)
    found = open_source(path, load_plugins().loaders, "labelstudio")
    assert rows(found) == {
        "text": ["好吃！", "难吃", "一般", "?"],
        "stars": [5.0, 1.5, None, None],
        "page": [None, None, "a", None],
        "label": ["正面", "负面", None, None],
    }
    assert (found.rows, named_with_role(found.schema, "label")) == (4, "label")
    assert [batch.num_rows for batch in found.batches(size=3)] == [3, 1]


def test_an_export_of_images_reads_them_from_their_folder(tmp_path):
    picture = encode(np.full((4, 5, 3), 7, np.uint8))
    for name in ("a.png", "雪 1.png"):
        (tmp_path / name).write_bytes(picture)
    names = ["/data/upload/3/a.png", "/data/local-files/?d=photos/%E9%9B%AA%201.png", None]
    path = export(tmp_path, [task(at, ["cat"], image=name) for at, name in enumerate(names)])
    found = labelstudio(path, images=str(tmp_path))
    assert image_columns(found.schema) == ["image"]
    assert rows(found) == {"image": [picture, picture, None], "label": ["cat"] * 3}
    assert rows(labelstudio(path))["image"] == names
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"^export.json: .*a.png cannot be read: no such file or directory$"):
        rows(labelstudio(path, images=str(tmp_path)))


def test_annotators_who_disagree_are_told_or_outvoted(tmp_path):
    path = export(tmp_path, [task(5, ["a", "b", "b"], text="t")])
    with pytest.raises(DataError, match=r"^export.json: task 5: the annotators disagree, b \(2\), a \(1\): disagre"):
        labelstudio(path)
    assert rows(labelstudio(path, disagreement="majority"))["label"] == ["b"]
    assert rows(labelstudio(path, disagreement="first"))["label"] == ["a"]
    even = export(tmp_path, [task(5, ["a", "b"], text="t")])
    with pytest.raises(DataError, match=r"disagree, a \(1\), b \(1\): they are equally many$"):
        labelstudio(even, disagreement="majority")


def test_one_of_several_choices_is_named(tmp_path):
    both = task(1, ["a"], text="t")
    both["annotations"][0]["result"] += task(1, ["x"], control="topic")["annotations"][0]["result"]
    path = export(tmp_path, [both])
    with pytest.raises(DataError, match=r"^export.json: task 1 has several choices \(sentiment, topic\): --loader l"):
        labelstudio(path)
    assert rows(labelstudio(path, control="topic"))["label"] == ["x"]
    with pytest.raises(DataError, match=r"task 1: control=topik: there are no such choices; did you mean topic\?$"):
        labelstudio(path, control="topik")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": 1}, "export.json is no export of Label Studio: export as JSON"),
        ([{"text": "a", "sentiment": "b"}], "export.json is no export of Label Studio: export as JSON"),
        (
            [task(1, [], label="x")],
            "task 1 has data named label: --loader labelstudio:label=… calls the label o",
        ),
        ([task(1, [], x=1), task(2, [], x="a")], "the data named x is of several kinds, or nested$"),
        ([task(1, [], x=[1])], "the data named x is of several kinds, or nested$"),
        (
            [
                {
                    "id": 8,
                    "data": {},
                    "annotations": [{"result": [{"from_name": "c", "value": {"choices": ["a", "b"]}}]}],
                }
            ],
            r"task 8 has 2 choices at once \(a, b\), and a row has one label$",
        ),
    ],
)
def test_what_is_no_export_of_classes_is_refused(tmp_path, tasks, message):
    with pytest.raises(DataError, match=message):
        labelstudio(export(tmp_path, tasks))


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[", "utf-8")
    with pytest.raises(DataError, match=r"^x.json is no JSON: "):
        labelstudio(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"none.json cannot be read: no such file or directory$"):
        labelstudio(tmp_path / "none.json")
