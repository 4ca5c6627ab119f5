"""The schema of a CSV or JSON file, in a file beside it: ``people.csv.schema.json``, which reading goes by.

A JSON object: ``genreg_schema`` is 1, ``columns`` a list of objects in the file's order with ``name``, ``type`` (as
Arrow spells it: ``int8``, ``timestamp[us, tz=UTC]``, ``list<item: string>``), and where they say something ``nullable``
(false), ``notes`` (role, decimals, the values of a category) and ``metadata`` (text by key, also of the whole).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from genreg.data import noted, notes
from genreg.errors import DataError
from genreg.spelling import is_scalar
from genreg.textfiles import unpacked_name

LIST = r"(large_|fixed_size_|)list<(\w+): (.+?)( not null)?>(?:\[(\d+)\])?"


def beside(path: Path) -> Path:
    """Where the schema of a file lies; one that is packed has that of what it holds."""
    return path.with_name(f"{unpacked_name(path)}.schema.json")


def write_schema(schema: pa.Schema, path: Path) -> None:
    """Write the schema of a text file that holds it; raises DataError for metadata that is no text."""
    columns = []
    for field in schema:
        own = {"nullable": False} if not field.nullable else {}
        rest = _text(noted(field).metadata, f"column {field.name}", without=b"genreg")
        more = {"notes": notes(field), "metadata": rest}
        columns.append({"name": field.name, "type": str(field.type), **own, **{k: v for k, v in more.items() if v}})
    whole = _text(schema.metadata, "the schema")
    content = {"genreg_schema": 1, "columns": columns, **({"metadata": whole} if whole else {})}
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def known_schema(paths: Iterable[Path]) -> pa.Schema | None:
    """The schema that lies beside files which are read as one; None where there is none.

    Raises DataError for a damaged one, and where the files' differ.
    """
    found = {path: read_schema(beside(path)) if beside(path).is_file() else None for path in paths}
    first, *others = found
    for other in others:
        mine, its = found[first], found[other]
        if mine is not its and not (mine and its and mine.equals(its, check_metadata=True)):
            raise DataError(f"{beside(other).name} and {beside(first).name} differ, and the files are read as one")
    return found[first]


def read_schema(path: Path) -> pa.Schema:
    """A schema file's schema; raises DataError that names what is wrong in it."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["genreg_schema"] != 1:
            raise DataError(f"{path.name} is of format {content['genreg_schema']}, and this genreg reads format 1")
        fields = [_field(column, path) for column in content["columns"]]
        return pa.schema(fields, content.get("metadata"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path.name} is no schema file: {type(error).__name__}: {error}") from None


def _field(column: dict[str, Any], path: Path) -> pa.Field[Any]:
    kind = parsed(column["type"])
    if kind is None:
        raise DataError(f"{path.name}: column {column['name']} has the type {column['type']}, which no text file holds")
    field = pa.field(column["name"], kind, column.get("nullable", True), column.get("metadata"))
    return noted(field, **column.get("notes", {}))


def parsed(name: str) -> Any:
    """The type of a name that Arrow gave it; None for a type that no text file holds.

    >>> parsed("list<item: timestamp[ms, tz=Asia/Shanghai]>")
    ListType(list<item: timestamp[ms, tz=Asia/Shanghai]>)
    """
    with suppress(ValueError):
        kind = pa.type_for_alias(name)  # type: ignore[call-overload]
        return kind if is_scalar(kind) else None
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=(.+)\]", name):
        return pa.timestamp(match[1], match[2])
    if match := re.fullmatch(r"(decimal(?:32|64|128|256))\((\d+), (-?\d+)\)", name):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    match = re.fullmatch(LIST, name)
    inner = parsed(match[3]) if match else None
    if match is None or inner is None:
        return None
    item = pa.field(match[2], inner, not match[4])
    return pa.large_list(item) if match[1] == "large_" else pa.list_(item, int(match[5] or -1))


def _text(metadata: Any, where: str, without: bytes = b"") -> dict[str, str]:
    try:
        return {key.decode(): value.decode() for key, value in (metadata or {}).items() if key != without}
    except UnicodeDecodeError:
        raise DataError(f"{where} has metadata that is no text: write .parquet or .arrow") from None
