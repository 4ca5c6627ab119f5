"""A shard is a part of a run's rows that is made alone; put together, the shards are the file of the whole run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from genreg.errors import DataError, UsageError
from genreg.files import new_file, refuse_existing
from genreg.loading import open_source
from genreg.outputs import write
from genreg.recipe import Recipe, read_recipe, summed, write_recipe
from genreg.specs import DataLoader

LINES = {".csv": True, ".tsv": True, ".jsonl": False, ".ndjson": False, ".txt": False}  # whether a head comes first
BATCHES = (".parquet", ".arrow", ".feather")


def parse_shard(text: str) -> tuple[int, int]:
    """``3/8`` as numbers; raises UsageError.

    >>> parse_shard("3/8")
    (3, 8)
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and len(text) < 20 and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text}: write which part of how many, such as 3/8, from 1/8 to 8/8")
    return int(number), int(count)


def bounds(shard: str | None, rows: int, unit: int) -> tuple[int, int]:
    """The rows of a shard, from the first to before the last, at multiples of ``unit``: shares as equal as can be.

    >>> [bounds(f"{k}/3", 10, 2) for k in (1, 2, 3)]
    [(0, 2), (2, 6), (6, 10)]
    """
    number, count = parse_shard(shard) if shard else (1, 1)
    units = -(-rows // unit)
    return min(units * (number - 1) // count * unit, rows), min(units * number // count * unit, rows)


def concat(paths: Sequence[Path], out: Path, loaders: Mapping[str, DataLoader], *, force: bool = False) -> int:
    """Put the shards of one run together, in the order given, with the recipe of the whole: the number of shards.

    Raises UsageError where they are not all of its shards, in order, or of a kind that cannot be put together.
    """
    refuse_existing(out, force=force)
    suffix = out.suffix.lower()
    if suffix not in LINES and suffix not in BATCHES:
        raise UsageError(f"{out}: files of this kind cannot be put together; {', '.join([*LINES, *BATCHES])} can")
    if strange := next((path for path in paths if path.suffix.lower() != suffix), None):
        raise UsageError(
            f"{strange}: a {strange.suffix} file cannot go into a {suffix} file: name OUT as its parts are named"
        )
    recipe = _whole(paths)
    if suffix in LINES:
        _concat_lines(paths, out, has_head=LINES[suffix], force=force)
    else:
        _concat_batches(paths, out, loaders, force=force)
    write_recipe(out, recipe)
    return len(paths)


def _whole(paths: Sequence[Path]) -> Recipe:
    """The recipe of the run whose shards these are."""
    recipes = [read_recipe(path) for path in paths]
    for path, recipe in zip(paths, recipes, strict=True):
        if recipe.shard is None:
            raise UsageError(f"{path} is no shard, but all of a run")
        if recipe.differs(replace(recipes[0], shard=recipe.shard)):
            raise UsageError(f"{path} is no shard of the run that made {paths[0]}")
    count = parse_shard(str(recipes[0].shard))[1]
    there, wanted = [recipe.shard for recipe in recipes], [f"{number}/{count}" for number in range(1, count + 1)]
    if there != wanted:
        missing = [shard for shard in wanted if shard not in there]
        lack = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        way = lack if missing else "name each once, in order"
        raise UsageError(f"these are the shards {', '.join(map(str, there))} of {count}: {way}")
    used, not_ok = summed([recipe.used for recipe in recipes]), sum(recipe.not_ok for recipe in recipes)
    return replace(recipes[0], shard=None, used=used, not_ok=not_ok)


def _concat_lines(paths: Sequence[Path], out: Path, *, has_head: bool, force: bool) -> None:
    with new_file(out, force=force) as temporary, temporary.open("wb") as target:
        head = b""
        for number, path in enumerate(paths):
            with path.open("rb") as source:
                own = _head(source) if has_head else b""
                if number and own != head:
                    raise DataError(f"{path} has other columns than {paths[0]}")
                target.write(b"" if number else own)
                head = own
                shutil.copyfileobj(source, target)


def _head(file: Iterator[bytes]) -> bytes:
    """The first row of a CSV file, also where a name has a newline within its quotes."""
    head = b""
    for line in file:
        head += line
        if head.count(b'"') % 2 == 0:
            break
    return head


def _concat_batches(paths: Sequence[Path], out: Path, loaders: Mapping[str, DataLoader], *, force: bool) -> None:
    sources = [open_source(path, loaders) for path in paths]
    for path, source in zip(paths, sources, strict=True):
        if not source.schema.equals(sources[0].schema, check_metadata=True):
            raise DataError(f"{path} has other columns than {paths[0]}")

    batches = chain.from_iterable(source.batches(size=4096) for source in sources)
    write(batches, sources[0].schema, out, loaders, force=force)
