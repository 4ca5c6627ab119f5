"""The rows of a run, any stretch of which can be made alone, and the windows in which a long run keeps them.

A window is a pure function of the recipe and its number, so it can be made by any process, at any time, once. While a
run lasts, ``OUT.part/`` holds its recipe and each finished window as an Arrow file. The file's name carries the
checksum of its bytes: what a crash has torn is found out, and made again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from genreg.data import empty_batch, guessed_rows, resized
from genreg.draft import Batch, Draft, Model, Streaming
from genreg.errors import GenregError, Interrupted, UsageError
from genreg.files import reason
from genreg.form import Form
from genreg.generate import WINDOW, generate, propose, rendered, sees_all
from genreg.given import Given
from genreg.recipe import Recipe, read_recipe, write_recipe
from genreg.specs import Sampler
from genreg.stream import Watch

Edits: TypeAlias = Sequence[tuple[Sampler, Mapping[str, Any]]]

CHUNK = 1 << 16  # samples whose conditions are laid out at a time
WINDOW_BYTES = 1 << 24  # of a window, as guessed from the schema
STREAM_WINDOW = 256  # rows of a window where each takes a while
SYNC_SECONDS = 1.0  # at least so long between two times that a window is forced onto the disk, which takes a while
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # there is no more room
RECIPE = "recipe.json"
JOURNAL = "journal"  # the folder in OUT.part that a family which streams keeps its journal in


@dataclass(frozen=True, eq=False)
class Run:
    """All rows of a run in their order; where the family's samples are not exact, they are rendered aligned."""

    model: Model
    form: Form
    given: Given
    edits: Edits
    batch: int
    aligned: bool = False

    @property
    def streams(self) -> bool:
        """Whether rows finish in any order, each in its own time."""
        return isinstance(self.model, Streaming)

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows."""
        return self.given.passing(self.form.samples(streams=self.streams))

    @cached_property
    def draft(self) -> Draft | None:
        """The whole draft, where a sampler sees all of it; raises UsageError where a passed column rules that out."""
        whole = sees_all(self.edits)
        if whole and self.given.passed:
            raise UsageError(
                f"--key keeps a column beside each sample, and {whole} makes samples of its own: leave out one"
            )
        return next(self.drafts(), None) if whole else None

    def drafts(self) -> Iterator[Draft]:
        """All drafts as the samplers leave them."""
        given = self.given.window(0, len(self.given.seeds)).batch
        return propose(self.model, self.form, self.given.seeds, given, self.edits)

    def __len__(self) -> int:
        return len(self.given.seeds) if self.draft is None else len(self.draft)

    @property
    def unit(self) -> int:
        """A stretch that begins at a multiple of this has the rows, bit for bit, that the whole has there."""
        return self.batch if self.aligned else 1

    def rows(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        batch: int | None = None,
        folder: Path = Path(),
        watch: Watch | None = None,
    ) -> Generator[Batch, None, None]:
        """The rows from ``start`` to before ``stop``, in the user's form, with the columns that pass through.

        ``watch`` sees the pieces of the row that comes next, of a family that streams.
        """
        stop, size = len(self) if stop is None else stop, batch or self.batch
        if start >= stop:
            yield empty_batch(self.schema)
        elif self.draft is not None:
            given = self.given.window(0, len(self.given.seeds)).batch
            part = iter([self.draft.take(slice(start, stop))])
            yield from rendered(self.model, self.form, part, given, batch=size, folder=folder, watch=watch)
        else:
            window = size if self.aligned else WINDOW  # a proposal too may depend on the rows beside it
            step = stop - start if self.streams else max(CHUNK // size, 1) * size
            for at in range(start, stop, step):
                own = self.given.window(at, min(step, stop - at))
                how: Any = {"batch": size, "window": window, "folder": folder, "watch": watch}
                made = generate(self.model, self.form, own.seeds, own.batch, self.edits, **how)
                yield from own.pass_through(made)


def window_rows(run: Run) -> int:
    """The rows of each window: from the schema and the family's batch alone."""
    rows = guessed_rows(run.schema, WINDOW_BYTES, STREAM_WINDOW if run.streams else WINDOW)
    return -(-rows // run.unit) * run.unit


@dataclass(frozen=True)
class Windows:
    """The windows of the rows ``start`` to ``stop`` of a run, each of ``size`` rows but the last, in ``folder``."""

    folder: Path
    schema: pa.Schema
    start: int
    stop: int
    size: int

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.size)

    def first(self, number: int) -> int:
        """The row with which a window begins."""
        return min(self.start + number * self.size, self.stop)

    def count(self, numbers: Iterable[int]) -> int:
        """The rows of these windows together."""
        return sum(self.first(number + 1) - self.first(number) for number in numbers)

    def finished(self) -> dict[int, Path]:
        """The windows that are whole, by number; what is torn or half written is removed."""
        found: dict[int, Path] = {}
        for path in self.folder.iterdir():
            name = re.fullmatch(r"([0-9]{6,})-([0-9a-f]{8})\.arrow", path.name)
            if name and zlib.crc32(path.read_bytes()) == int(name[2], 16):
                found[int(name[1])] = path
            elif path.suffix == ".arrow":
                path.unlink()
        return found

    def missing(self) -> list[int]:
        """The numbers of the windows that are yet to be made."""
        there = self.finished()
        return [number for number in range(len(self)) if number not in there]

    def keep(self, number: int, batch: Batch, *, sync: bool) -> None:
        """Write a window, whole or not at all."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.schema) as writer:
            writer.write_batch(batch)
        data = sink.getvalue()
        temporary = self.folder / f".{os.getpid()}.{number}.arrow"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(self.folder / f"{number:06d}-{zlib.crc32(data):08x}.arrow")
        finally:
            temporary.unlink(missing_ok=True)

    def fill(self, run: Run, stretches: Iterable[tuple[int, int]], tell: Callable[[int], object]) -> None:
        """Make and keep the windows from a first to a last number, and ``tell`` how many rows each has."""
        synced = -SYNC_SECONDS
        for first, last in stretches:
            begin, end = self.first(first), self.first(last + 1)
            batch, journal = (self.size, self.folder / JOURNAL) if run.streams else (None, self.folder)
            with closing(run.rows(begin, end, batch=batch, folder=journal)) as made:  # a stream ends when we do
                for number, rows in enumerate(resized(made, self.schema, self.size), first):
                    sync = time.monotonic() - synced >= SYNC_SECONDS
                    self.keep(number, rows, sync=sync)
                    synced = time.monotonic() if sync else synced
                    tell(rows.num_rows)

    def rows(self) -> Iterator[Batch]:
        """The rows of all windows, in order."""
        there = self.finished()
        for number in range(len(self)):
            with pa.OSFile(str(there[number]), "rb") as file:
                yield pa.ipc.open_file(file).get_batch(0)


def begin(folder: Path, recipe: Recipe, *, resume: bool, force: bool, free: frozenset[str] = frozenset()) -> None:
    """Make the folder of a run, or enter it to go on; raises UsageError where it holds another run.

    The ``free`` options may be others than when it began.
    """
    refuse_unfinished(folder, resume=resume, force=force)
    if resume and folder.exists():
        there = read_recipe(folder / RECIPE)
        if name := there.differs(recipe, free):
            old, new = (json.dumps(getattr(one, name), ensure_ascii=False, default=str)[:60] for one in (there, recipe))
            told = f"--resume: {folder} holds another run: its {name} is {old}, and here it is {new}"
            raise UsageError(f"{told}; ask for the same, or --force starts over")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        (folder / JOURNAL).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {reason(error)}") from None
    write_recipe(folder / RECIPE, recipe)


def refuse_unfinished(folder: Path, *, resume: bool, force: bool) -> None:
    """Raise UsageError where an unfinished run is there, and neither flag says what to do with it."""
    if folder.exists() and not (folder / RECIPE).is_file():
        raise UsageError(f"{folder} is in the way, and is no unfinished run: move it, or choose another name")
    if folder.exists() and not resume and not force:
        raise UsageError(f"{folder} holds an unfinished run: --resume continues it, --force starts over")


@contextmanager
def kept(windows: Windows, out: str) -> Iterator[None]:
    """Whatever ends the block early, what was finished stays; the message of an interrupt or a full disk says so."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {_left(windows)}") from None
    except (OSError, GenregError) as error:
        cause, left = error if isinstance(error, OSError) else error.__cause__, _left(windows)
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        raise UsageError(f"{out} cannot be written: {reason(cause)}; {left}") from error


def _left(windows: Windows) -> str:
    folder = windows.folder
    rows = windows.count(windows.finished())
    if not rows and not any((folder / JOURNAL).iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
        return "nothing was finished, and nothing is left half written"
    return f"{rows:,} of {windows.stop - windows.start:,} rows are kept in {folder}: --resume continues from there"


def stretches(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as stretches without a gap: the first and the last of each.

    >>> list(stretches([0, 1, 4]))
    [(0, 1), (4, 4)]
    """
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):  # which rise together
        found = [number for _, number in run]
        yield found[0], found[-1]
