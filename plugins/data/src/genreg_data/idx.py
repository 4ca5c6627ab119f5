"""IDX, the format of MNIST: images with the labels of the file beside them, also gzipped, as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, noted
from genreg.errors import DataError
from genreg.images import MODES, image_field
from genreg.images import images as image_column
from genreg.textfiles import opened

BATCH = 1 << 26  # bytes of pixels in a batch
UNSIGNED = 0x08  # the code of uint8 in the magic number
CODES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


@dataclass(frozen=True)
class File:
    """An IDX file of bytes, of which only the header has been read."""

    path: Path
    shape: tuple[int, ...]

    def blocks(self, rows: int) -> Iterator[Array]:
        """The rows in blocks, uint8 [rows, ...]; raises DataError where there are fewer bytes than rows, or more."""
        width = int(np.prod(self.shape[1:]))
        with _opened(self.path) as file:
            file.read(4 + 4 * len(self.shape))
            for at in range(0, self.shape[0], rows):
                some = min(rows, self.shape[0] - at)
                data = file.read(some * width)
                if len(data) < some * width:
                    raise DataError(
                        f"{self.path.name} is cut off: it ends in row {at + len(data) // width:,} of {self.shape[0]:,}"
                    )
                yield np.frombuffer(data, np.uint8).reshape(some, *self.shape[1:])
            if file.read(1):
                raise DataError(f"{self.path.name} is damaged: it has more bytes than its {self.shape[0]:,} rows")


def idx(path: Path, *, labels: str = "") -> Source:
    """IDX files of images, as MNIST's (.gz too), with the labels of the file beside them.

    The labels of ``train-images-idx3-ubyte`` are ``train-labels-idx1-ubyte``, unless ``labels`` names another file.
    Raises DataError for what is damaged, or does not fit together.
    """
    images = _header(path)
    shape = images.shape[1:] if len(images.shape) == 4 else (*images.shape[1:], 1)
    if len(shape) != 3 or shape[2] not in MODES or not all(shape):
        raise DataError(f"{path.name} is {list(images.shape)}, and images are [n, h, w]: name the file of the images")
    beside = _beside(path, labels)
    values = None
    if beside is not None:
        found = _header(beside)
        if found.shape != images.shape[:1]:
            raise DataError(f"{beside.name} is {list(found.shape)}, and {path.name} has {images.shape[0]:,} images")
        values = pa.array(np.concatenate([np.empty(0, np.int64), *found.blocks(1 << 20)]).astype(np.int64))
    label = [noted(pa.field("label", pa.int64()), role="label")] if values is not None else []
    schema = pa.schema([image_field("image", shape), *label])

    def batches(size: int) -> Iterator[Batch]:
        row = 0
        for block in images.blocks(max(1, min(size, BATCH // int(np.prod(shape))))):
            columns: list[Any] = [image_column(block.reshape(-1, *shape))]
            if values is not None:
                columns.append(values.slice(row, len(block)))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            row += len(block)

    return Source(schema, batches, images.shape[0])


def _beside(path: Path, labels: str) -> Path | None:
    """The file of the labels: the one named, or the one that is called like the images; None: there is none."""
    if labels:
        named = path.parent / labels
        if not named.is_file():
            raise DataError(f"labels={labels}: there is no file {named}")
        return named
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    names = [name, f"{name}.gz"] if name != path.name.removesuffix(".gz") else []
    return next((path.parent / name for name in names if (path.parent / name).is_file()), None)


def _header(path: Path) -> File:
    """Shape and place of a file's rows; raises DataError for what is no IDX file of bytes."""
    with _opened(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in {UNSIGNED, *CODES}:
            raise DataError(f"{path.name} is no IDX file: it does not begin as one")
        if magic[2] != UNSIGNED:
            raise DataError(f"{path.name} holds {CODES[magic[2]]}, and pixels and labels are bytes (uint8)")
        sizes = file.read(4 * magic[3])
        if len(sizes) < 4 * magic[3] or not sizes:
            raise DataError(f"{path.name} is cut off in its header")
        return File(path, tuple(np.frombuffer(sizes, ">u4").tolist()))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with opened(path) as file:
            yield file
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path.name} cannot be read: {' '.join(reason.split())}") from None
