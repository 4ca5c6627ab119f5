"""Several files as one source: patterns such as ``parts/*.csv``, and tables put one after the other."""

from __future__ import annotations

import glob
import os
from collections import ChainMap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from genreg.data import Source, noted, notes
from genreg.draft import Batch
from genreg.errors import DataError

BESIDE = (".schema.json", ".recipe.json")  # files about files


def matched(where: str | Path) -> list[Path]:
    """The files of a path, or of a pattern (``*``, ``?``, ``[…]``), in order; raises DataError where there is none."""
    if os.path.exists(where):  # noqa: PTH110 - pathlib raises where a name is too long
        return [Path(where)]
    if glob.escape(str(where)) == str(where):
        raise DataError(f"{where}: there is no such file")
    found = sorted(Path(name) for name in glob.glob(str(where), recursive=True))  # noqa: PTH207 - takes any path
    files = [file for file in found if file.is_file() and not file.name.endswith(BESIDE)]
    if not files:
        raise DataError(f"{where}: no file fits the pattern")
    return files


def joined(sources: Sequence[Source], names: Sequence[str]) -> Source:
    """The rows of sources one after the other; raises DataError where their columns differ, by the files' ``names``."""
    first = sources[0]
    for source, name in zip(sources, names, strict=True):
        if source.schema.names != first.schema.names:
            own, others = ", ".join(source.schema.names), ", ".join(first.schema.names)
            raise DataError(f"{name} has the columns {own}; {names[0]}: {others}")
        for field, other in zip(source.schema, first.schema, strict=True):
            if field.type != other.type:
                raise DataError(f"column {field.name} is {field.type} in {name}, and {other.type} in {names[0]}")
    fields = [_merged([source.schema.field(at) for source in sources]) for at in range(len(first.schema))]
    schema = pa.schema(fields).with_metadata(first.schema.metadata)

    def read(size: int) -> Iterator[Batch]:
        for source in sources:
            for batch in source.batches(size=size):
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    counts = [source.rows for source in sources]
    rows = None if None in counts else sum(count for count in counts if count is not None)
    return Source(schema, read, rows, skipped=ChainMap(*(source.skipped for source in sources)))


def _merged(fields: Sequence[pa.Field[Any]]) -> pa.Field[Any]:
    """One field's notes: the most decimals, all values of a category; what else differs is not noted."""
    found = [notes(field) for field in fields]
    both = {key: value for key, value in found[0].items() if all(one.get(key) == value for one in found)}
    if all("decimals" in one for one in found):
        both["decimals"] = max(one["decimals"] for one in found)
    if all("values" in one for one in found):
        both["values"] = list(dict.fromkeys(value for one in found for value in one["values"]))
        if any("dictionary" in one for one in found):
            both["dictionary"] = "int32"  # all values may need a wider index than those of one file
    return noted(noted(fields[0], **dict.fromkeys(found[0])), **both)
