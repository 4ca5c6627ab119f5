"""Label Studio's JSON export: the tasks of text and image classification as rows with their labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlparse

import pyarrow as pa

from genreg import Batch
from genreg.data import Source, noted, resized
from genreg.errors import DataError, did_you_mean
from genreg.files import reason
from genreg.images import image_field

Mode: TypeAlias = Literal["refuse", "majority", "first"]


def labelstudio(
    path: Path,
    *,
    control: str = "",
    label: str = "label",
    disagreement: Mode = "refuse",
    images: str = "",
) -> Source:
    """Label Studio's JSON export of classified texts or images: a task's data, and its choice as the label.

    ``control`` names the choices where a task has several. Cancelled annotations do not count, and a task without one
    has no label. ``images`` is the folder that pictures lie in: the column ``image`` is then read from there.
    Raises DataError for what is no export, and where annotators disagree (unless the majority, or the first, decides).
    """
    rows = [_row(task, number, path, control, label, disagreement) for number, task in enumerate(_tasks(path), 1)]
    names = list(dict.fromkeys(name for row in rows for name in row if name != label))
    fields: list[Any] = []
    for name in names:
        if images and name == "image":
            fields.append(image_field(name))
        else:
            fields.append(pa.field(name, _type([row.get(name) for row in rows], name, path)))
    schema = pa.schema([*fields, noted(pa.field(label, pa.string()), role="label")])

    def batches(size: int) -> Iterator[Batch]:
        for at in range(0, len(rows), size):
            some = rows[at : at + size]
            columns = [pa.array([_cell(row.get(f.name), f, path, images) for row in some], f.type) for f in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return Source(schema, lambda size: resized(batches(min(size, 256) if images else size), schema, size), len(rows))


def _tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks of an export; raises DataError for a file that is none."""
    try:
        tasks = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error).lower()}") from None
    except ValueError as error:
        raise DataError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise DataError(f"{path.name} is no export of Label Studio: export as JSON (not JSON-MIN), a list of tasks")
    return tasks


def _row(task: dict[str, Any], number: int, path: Path, control: str, label: str, mode: Mode) -> dict[str, Any]:
    """The task's data and its label."""
    where = f"{path.name}: task {task.get('id', number)}"
    row = dict(task["data"])
    if label in row:
        raise DataError(f"{where} has data named {label}: --loader labelstudio:label=… calls the label otherwise")
    chosen = []
    for annotation in task.get("annotations") or []:
        if not annotation.get("was_cancelled"):
            chosen += [_choice(annotation.get("result") or [], where, control)]
    return {**row, label: _agreed([choice for choice in chosen if choice is not None], where, mode)}


def _choice(results: list[Any], where: str, control: str) -> str | None:
    """The one choice of an annotation; None where there is none."""
    able = {one.get("from_name"): one["value"]["choices"] for one in results if "choices" in (one.get("value") or {})}
    if control and able and control not in able:
        raise DataError(f"{where}: control={control}: there are no such choices{did_you_mean(control, map(str, able))}")
    if len(able) > 1 and not control:
        raise DataError(f"{where} has several choices ({', '.join(map(str, able))}): --loader labelstudio:control=…")
    choices = able.get(control) if control else next(iter(able.values()), None)
    if choices and len(choices) > 1:
        raise DataError(f"{where} has {len(choices)} choices at once ({', '.join(choices)}), and a row has one label")
    return str(choices[0]) if choices else None


def _agreed(choices: list[str], where: str, mode: Mode) -> str | None:
    """The label of a task whose annotators chose these; None without any. Raises DataError where they disagree."""
    counts = Counter(choices).most_common()
    if len(counts) < 2 or mode == "first":
        return choices[0] if choices else None
    if mode == "refuse" or counts[0][1] == counts[1][1]:
        found = ", ".join(f"{choice} ({count})" for choice, count in counts)
        way = "they are equally many" if mode == "majority" else "disagreement=majority or first decides"
        raise DataError(f"{where}: the annotators disagree, {found}: {way}")
    return counts[0][0]


def _type(values: list[Any], name: str, path: Path) -> pa.DataType:
    """The type that holds the values; raises DataError where they are of several kinds, or nested."""
    kinds = {type(value) for value in values if value is not None}
    if kinds not in ({str}, {bool}, {int}, {float}, {int, float}, set()):
        raise DataError(f"{path.name}: the data named {name} is of several kinds, or nested")
    known: dict[Any, pa.DataType] = {str: pa.string(), bool: pa.bool_(), float: pa.float64(), int: pa.int64()}
    return next((kind for python, kind in known.items() if python in kinds), pa.string())


def _cell(value: Any, field: pa.Field[Any], path: Path, images: str) -> Any:
    """A value as the column holds it; a picture's path as its bytes."""
    if value is None or not pa.types.is_binary(field.type):
        return value
    asked = parse_qs(urlparse(str(value)).query).get("d", [urlparse(str(value)).path])[0]
    file = Path(images) / Path(unquote(asked)).name
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name}: {file} cannot be read: {reason(error).lower()}") from None
