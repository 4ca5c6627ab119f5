"""A folder of images as a stream: classes from the folders' names, decoded in threads, in the order of their names."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, noted
from genreg.errors import DataError
from genreg.images import FORMATS, Fit, decode, image_field
from genreg.images import images as image_column

BATCH = 1 << 26  # bytes of pixels in a batch
TASK = 1 << 20  # bytes of pixels that a thread decodes before it hands them over
MOST_TASK = 32  # images
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Folder:
    """Files of images and what all of them are brought to; None: what the first one has."""

    path: Path
    files: list[str]  # below the path, with /
    size: tuple[int, int] | None
    channels: int | None
    fit: Fit
    skip: bool  # leave out what is broken
    threads: int

    def read(self, file: str) -> Array | None:
        """One image, uint8 [h, w, c]; None for one that is broken and skipped."""
        name = self.shown(file)
        try:
            with open(f"{self.path}/{file}", "rb") as opened:  # noqa: PTH123 - a Path costs as much as a tiny image does
                data = opened.read()
            return decode(data, size=self.size, channels=self.channels, fit=self.fit, name=name)
        except OSError as error:
            reason = f"{name} cannot be read: {(error.strerror or str(error)).lower()}"
        except DataError as error:
            reason = str(error)
            if "fit=" in reason:  # it is whole, and its size is refused
                raise
        if self.skip:
            return None
        raise DataError(f"{reason}: mend or remove it, or leave out what is broken with --loader images:broken=skip")

    def first(self) -> tuple[str, Array]:
        """The first image that can be read, and its name."""
        for file in self.files:
            if (image := self.read(file)) is not None:
                return self.shown(file), image
        raise DataError(f"{self.path} has no image that can be read")

    def rows(self, first: tuple[str, Array]) -> Iterator[tuple[Array, str | None]]:
        """All images with their classes, in order; raises DataError for one that is not like the first."""

        def some(files: list[str]) -> list[tuple[Array, str | None]]:
            found = [(file, image) for file in files if (image := self.read(file)) is not None]
            for file, image in found:
                if image.shape != first[1].shape:
                    raise DataError(_differs(self.shown(file), image.shape, first[0], first[1].shape))
            return [(image, self.class_of(file)) for file, image in found]

        tasks = _cut(self.files, max(1, min(MOST_TASK, TASK // first[1].nbytes)))
        return itertools.chain.from_iterable(in_threads(some, tasks, self.threads))

    def class_of(self, file: str) -> str | None:
        """The name of the outermost folder that the file lies in; None in a flat folder."""
        outermost, slash, _ = file.partition("/")
        return outermost if slash else None

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
    """A folder of images (PNG, JPEG, WebP, BMP): the class is the folder's name, and a flat folder has none.

    All images are alike in size and channels, or brought there: ``size`` is a side or [height,width], reached as
    ``fit`` says (crop, pad, resize; refuse). Raises DataError naming the first image that is broken (unless they are
    skipped), or differs.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder of images")
    threads = threads if threads > 0 else _processors()
    folder = Folder(path, _files(path), _size(size), channels, fit, broken == "skip", threads)
    first = folder.first()
    classes = sorted({name for file in folder.files if (name := folder.class_of(file)) is not None})
    fields = [image_field("image", first[1].shape)]
    if classes:
        fields.append(noted(pa.field(label, pa.string()), role="label", values=classes))
    schema = pa.schema(fields)

    def batches(most: int) -> Iterator[Batch]:
        for some in _cut(folder.rows(first), max(1, min(most, BATCH // first[1].nbytes))):
            columns: list[Any] = [image_column(np.stack([image for image, _ in some]))]
            if classes:
                columns.append(pa.array([name for _, name in some], pa.string()))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return Source(schema, batches, None if folder.skip else len(folder.files))


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
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(at, name) for name in names if Path(name).suffix.lower() in FORMATS and name[0] != "."]
    if not found:
        raise DataError(f"{folder} has no images ({', '.join(FORMATS)})")
    loose = [file for file in found if file.parent == folder]
    if loose and len(loose) < len(found):
        raise DataError(
            f"{folder} has images beside its class folders, such as {min(loose).name}: move them into a class, or away"
        )
    for file in found:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise DataError(f"{folder} has a name that is not UTF-8, {file.name!a}: rename it") from None
    return sorted(file.relative_to(folder).as_posix() for file in found)


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
