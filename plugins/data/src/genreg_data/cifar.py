"""CIFAR-10's binary files: a byte of label and 3,072 of pixels a row, red, green and blue planes of 32 x 32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg import Batch
from genreg.data import Source, noted
from genreg.errors import DataError
from genreg.files import reason
from genreg.images import image_field
from genreg.images import images as image_column

SHAPE = (32, 32, 3)
ROW = 1 + 32 * 32 * 3  # bytes
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES = "batches.meta.txt"  # lies beside the files, a class a line
BATCH = 4096  # rows


def cifar10(path: Path) -> Source:
    """CIFAR-10's binary files (data_batch_1.bin, test_batch.bin): images of 32 x 32 with their classes.

    Raises DataError for a file that is cut off, or of another data set.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error).lower()}") from None
    if not size or size % ROW:
        two = size and size % (ROW + 1) == 0
        why = "CIFAR-100 has two labels a row, and is not read" if two else "it is cut off, or something else"
        raise DataError(f"{path.name} is {size:,} bytes, and CIFAR-10's rows are {ROW:,} each: {why}")
    classes = _classes(path.parent / NAMES)
    label = noted(pa.field("label", pa.string()), role="label", values=classes)
    schema = pa.schema([image_field("image", SHAPE), label])

    def batches(most: int) -> Iterator[Batch]:
        with path.open("rb") as file:
            while data := file.read(ROW * min(most, BATCH)):
                rows = np.frombuffer(data, np.uint8).reshape(-1, ROW)
                if rows[:, 0].max() >= len(classes):
                    raise DataError(
                        f"{path.name} has the label {rows[:, 0].max()}, and there are {len(classes)} classes"
                    )
                pixels = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                names: Any = pa.array(classes, pa.string()).take(pa.array(rows[:, 0]))
                yield pa.RecordBatch.from_arrays([image_column(np.ascontiguousarray(pixels)), names], schema=schema)

    return Source(schema, batches, size // ROW)


def _classes(path: Path) -> list[str]:
    """The names of the classes: those beside the file, or CIFAR-10's own."""
    if not path.is_file():
        return CLASSES
    names = [line.strip() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    if len(names) != len(CLASSES) or len(set(names)) != len(names):
        raise DataError(f"{path.name} names {len(names)} classes, and CIFAR-10 has {len(CLASSES)}")
    return names
