"""What the verbs of ``genreg data`` share: broken images left out and named, and text written with its schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from genreg import Batch, DataLoader
from genreg.data import Source
from genreg.files import new_file, refuse_existing
from genreg.images import LABELS, image_columns
from genreg.loading import by_scheme, by_suffix, is_folder, open_source
from genreg.options import of_function, parse_call
from genreg.outputs import refuse_output, write
from genreg.schemafile import beside, write_schema
from genreg.textfiles import unpacked_name

TYPELESS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")  # text, whose types lie in a file beside it
NAMED = 5  # of what was left out


def read(where: Sequence[str], loaders: Mapping[str, DataLoader], call: str | None = None, *, strict: bool) -> Source:
    """The source of one or several files or references; broken images are left out, unless ``strict``.

    Raises UsageError and DataError as ``open_source`` does; ``left_out`` tells of what a pass over it skipped.
    """
    if call:
        name, knobs = parse_call(call, "--loader")
    else:
        scheme, is_reference, _ = where[0].partition("://")
        name, knobs = (by_scheme(scheme, loaders) if is_reference else by_suffix(where[0], loaders)).name, {}
    known = {option.name for option in of_function(loaders[name].read)} if name in loaders else set()
    if "broken" in known and "broken" not in knobs:
        call = f"{call or name}{',' if knobs else ':'}broken={'refuse' if strict else 'skip'}"
    return open_source(where, loaders, call)


def left_out(source: Source) -> str:
    """One line on what was broken and left out; none where nothing was."""
    named = [f"{name} ({why})" for name, why in sorted(source.skipped.items())]
    more = f", and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return f"left out {len(named):,} broken: {', '.join(named[:NAMED])}{more}" if named else ""


def write_typed(
    batches: Iterable[Batch], schema: pa.Schema, out: str, loaders: Mapping[str, DataLoader], *, force: bool = False
) -> None:
    """Write a file or a folder by its suffix, and the schema beside what is text; raises UsageError where it cannot.

    Raises DataError for a type that the format cannot hold.
    """
    typed = schema_path(out)
    refuse_output(out, force=force)
    if typed and not is_folder(out):
        refuse_existing(typed, force=force)
    write(batches, schema, out, loaders, force=force)
    if typed and is_folder(out):
        images = image_columns(schema)
        schema = pa.schema([pa.field("file", pa.string()), *(field for field in schema if field.name not in images)])
    if typed and (not is_folder(out) or len(schema) > 1):
        with new_file(typed, force=True) as temporary:
            write_schema(schema, temporary)


def schema_path(out: str) -> Path | None:
    """Where the schema of an output lies; None for a format that holds it itself."""
    if is_folder(out):
        return beside(Path(out, LABELS))
    return beside(Path(out)) if unpacked_name(Path(out)).lower().endswith(TYPELESS) else None
