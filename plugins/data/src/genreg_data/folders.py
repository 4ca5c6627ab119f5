"""A folder of images as a stream: classes from the folders' names, decoded in threads, in the order of their names."""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, named_with_role, noted, single_batch
from genreg.delimited import csv
from genreg.errors import DataError
from genreg.files import reason
from genreg.images import FORMATS, LABELS, Fit, decode, image_field
from genreg.images import images as image_column

BATCH = 1 << 26  # bytes of pixels in a batch
TASK = 1 << 20  # bytes of pixels that a thread decodes before it hands them over
MOST_TASK = 32  # images
READ = (*FORMATS, ".gif")
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Folder:
    """Files of images and what all of them are brought to; None: what the first one has."""

    path: Path
    files: list[str]  # below the path, with /
    beside: pa.Table  # what is known of each file: its class, or the columns of labels.csv
    size: tuple[int, int] | None
    channels: int | None
    fit: Fit
    skip: bool  # leave out what is broken
    threads: int
    skipped: dict[str, str] = field(default_factory=dict)  # names of what is broken, and why

    def read(self, file: str) -> Array | None:
        """One image, uint8 [h, w, c]; None for one that is broken and skipped."""
        name = self.shown(file)
        try:
            with open(f"{self.path}/{file}", "rb") as opened:  # noqa: PTH123 - a Path costs as much as a tiny image does
                data = opened.read()
            return decode(data, size=self.size, channels=self.channels, fit=self.fit, name=name)
        except OSError as error:
            why = f"{name} cannot be read: {reason(error).lower()}"
        except DataError as error:
            why = str(error)
            if "fit=" in why:  # it is whole, and its size is refused
                raise
        if self.skip:
            self.skipped[name] = why.removeprefix(f"{name}: ").removeprefix(f"{name} ")
            return None
        raise DataError(f"{why}: mend or remove it, or leave out what is broken with --loader images:broken=skip")

    def first(self) -> tuple[str, Array]:
        """The first image that can be read, and its name."""
        for file in self.files:
            if (image := self.read(file)) is not None:
                return self.shown(file), image
        raise DataError(f"{self.path} has no image that can be read")

    def rows(self, first: tuple[str, Array]) -> Iterator[tuple[Array, int]]:
        """All images with the numbers of their files, in order; raises DataError for one that is not like the first."""

        def some(numbers: list[int]) -> list[tuple[Array, int]]:
            found = [(image, number) for number in numbers if (image := self.read(self.files[number])) is not None]
            for image, number in found:
                if image.shape != first[1].shape:
                    raise DataError(_differs(self.shown(self.files[number]), image.shape, first[0], first[1].shape))
            return found

        tasks = _cut(range(len(self.files)), max(1, min(MOST_TASK, TASK // first[1].nbytes)))
        return itertools.chain.from_iterable(in_threads(some, tasks, self.threads))

    def shown(self, file: str) -> str:
        """The file as messages name it."""
        return f"{self.path.name}/{file}"


def images(
    path: Path,
    *,
    size: int | list[int] | None = None,
    channels: Literal[1, 3, 4] | None = None,
    fit: Fit = "crop",
    label: str = "label",
    broken: Literal["refuse", "skip"] = "refuse",
    threads: int = 0,
) -> Source:
    """A folder of images (PNG, JPEG, WebP, BMP, GIF): the class is the folder's name.

    A flat folder has none, but the columns of the ``labels.csv`` in it, which names each ``file``. All images are alike
    in size and channels, or brought there: ``size`` is a side or [height,width], reached as ``fit`` says (crop, pad,
    resize; refuse). Raises DataError naming the first image that is broken (unless they are skipped), or differs.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder of images")
    threads = threads if threads > 0 else _processors()
    files, beside = _described(path, _files(path), label)
    folder = Folder(path, files, beside, _size(size), channels, fit, broken == "skip", threads)
    first = folder.first()
    schema = pa.schema([image_field("image", first[1].shape), *beside.schema])

    def batches(most: int) -> Iterator[Batch]:
        for some in _cut(folder.rows(first), max(1, min(most, BATCH // first[1].nbytes))):
            column: Any = image_column(np.stack([image for image, _ in some]))
            known = single_batch(beside.take(pa.array([number for _, number in some])))
            yield pa.RecordBatch.from_arrays([column, *known.columns], schema=schema)

    return Source(schema, batches, None if folder.skip else len(files), skipped=folder.skipped)


def _described(folder: Path, files: list[str], label: str) -> tuple[list[str], pa.Table]:
    """The files in the order of their rows, and a table of what is known of each: a class, or what labels.csv says."""
    if (folder / LABELS).is_file() and "/" not in files[0]:
        return _listed(folder, files, label)
    classes = [file.partition("/")[0] for file in files if "/" in file]
    if not classes:
        return files, pa.table({"file": pa.array(files, pa.string())}).select([])
    field = noted(pa.field(label, pa.string()), role="label", values=sorted(set(classes)))
    return files, pa.table([pa.array(classes, pa.string())], schema=pa.schema([field]))


def _listed(folder: Path, files: list[str], label: str) -> tuple[list[str], pa.Table]:
    """The rows of labels.csv, whose column ``file`` names the images; raises DataError where they do not fit."""
    source = csv(folder / LABELS)
    table = pa.Table.from_batches(list(source.scan()), source.schema)
    where = f"{folder.name}/{LABELS}"
    if "file" not in table.schema.names or "image" in table.schema.names:
        raise DataError(f"{where} has the columns {', '.join(table.schema.names)}, and needs file, and no image")
    if table.column("file").null_count:
        raise DataError(f"{where} has rows that name no file")
    named = [str(name) for name in table.column("file").to_pylist()]
    (twice, times), *_ = [*Counter(named).most_common(1), ("", 0)]
    if times > 1:
        raise DataError(f"{where} names {twice} {times} times")
    if gone := sorted(set(named) - set(files)):
        raise DataError(f"{where} names {gone[0]}, which is not in the folder")
    if unnamed := sorted(set(files) - set(named)):
        raise DataError(f"{where} does not name {unnamed[0]}, which is in the folder")
    table = table.drop_columns(["file"])
    at = table.schema.get_field_index(label)
    if at >= 0 and named_with_role(table.schema, "label") is None:
        table = table.cast(table.schema.set(at, noted(table.schema.field(at), role="label")))
    return named, table


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """``work`` of each item, in order, while threads are at most two items each ahead."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _cut(items: Iterable[A], size: int) -> Iterator[list[A]]:
    left = iter(items)
    while some := list(itertools.islice(left, size)):
        yield some


def _files(folder: Path) -> list[str]:
    """The images below a folder in the order of their names; hidden files and folders are left alone."""
    found: list[str] = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        below = "" if Path(at) == folder else f"{Path(at).relative_to(folder).as_posix()}/"
        found += [below + name for name in names if name.lower().endswith(READ) and name[0] != "."]
    if not found:
        raise DataError(f"{folder} has no images ({', '.join(READ)})")
    loose = [file for file in found if "/" not in file]
    if loose and len(loose) < len(found):
        raise DataError(
            f"{folder} has images beside its class folders, such as {min(loose)}: move them into a class, or away"
        )
    for file in found:
        try:
            file.encode()
        except UnicodeEncodeError:
            raise DataError(f"{folder} has a name that is not UTF-8, {file.rpartition('/')[2]!a}: rename it") from None
    return sorted(found)


def _size(size: int | list[int] | None) -> tuple[int, int] | None:
    both = (size, size) if isinstance(size, int) else tuple(size or ())
    if both and (len(both) != 2 or min(both) < 1 or max(both) > 8192):
        raise DataError(f"size={size}: write a side, or [height,width], from 1 to 8192 pixels")
    return (both[0], both[1]) if both else None


def _differs(name: str, shape: tuple[int, ...], first: str, wanted: tuple[int, ...]) -> str:
    colors = {1: "grey", 3: "RGB", 4: "RGBA"}
    ways = [f"size={min(wanted[:2])}"] * (shape[:2] != wanted[:2]) + ["channels=3"] * (shape[2] != wanted[2])
    own, other = (f"{width} x {height} {colors[depth]}" for height, width, depth in (shape, wanted))
    return f"{name} is {own}, and {first} is {other}: bring all to one form with --loader images:{','.join(ways)}"
