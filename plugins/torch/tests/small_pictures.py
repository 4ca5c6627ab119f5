"""What the tests of families of pictures share: small pictures as a table, seeds, and how far pictures are apart."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from genreg.data import noted
from genreg.images import images


@cache
def eights() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: uint8 [1797, 8, 8, 1] with 17 levels, and labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.rint(data.images * 255 / 16).astype(np.uint8)[..., None], data.target.astype(np.int32)


def table(x: np.ndarray, y: np.ndarray | None, classes: int = 10) -> pa.Table:
    """The column image and, where there are labels, the column digit; a label below 0 is missing."""
    column = images(np.ascontiguousarray(x))
    fields, arrays = [pa.field("image", column.type)], [column]
    if y is not None:
        fields.append(noted(pa.field("digit", pa.int32()), role="label", values=list(range(classes))))
        arrays.append(pa.array(y, pa.int32(), mask=np.asarray(y) < 0))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def seeds(count: int, first: int = 0) -> np.ndarray:
    """So many seeds in a row: uint64 [count]."""
    return np.arange(first, first + count, dtype=np.uint64)


def far(a: np.ndarray, b: np.ndarray) -> int:
    """The largest distance between two pixels of uint8 pictures in one place."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())
