"""Between Arrow and arrays: columns of pictures as uint8 [n, h, w, c], labels as int64 [n], and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg.draft import Array, Batch
from genreg.errors import DataError
from genreg.images import decode


def pictures(column: Any, shape: Sequence[int]) -> tuple[Array, Array]:
    """A column of uint8 tensors as uint8 [n, h, w, c], zeros where null, and which rows are not null: bool [n]."""
    valid = np.asarray(column.is_valid())
    flat = column.storage.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)  # without the nulls
    if valid.all():
        return flat, valid
    out = np.zeros((len(column), *shape), np.uint8)
    out[valid] = flat
    return out, valid


def labels(batch: Batch, name: str | None, classes: int) -> Array:
    """The label's codes: int64 [n]; -1 where it is null or absent, C for a value that training did not see."""
    if name is None:
        return np.zeros(batch.num_rows, np.int64)
    at = batch.schema.get_field_index(name)
    if at < 0:
        return np.full(batch.num_rows, -1)
    codes: Array = pc.fill_null(batch.column(at), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.minimum(codes, classes)


def training_pictures(column: Any, shape: Sequence[int] | None) -> Array:
    """A training column, tensors or encoded, as uint8 [n, h, w, c]; raises DataError where sizes or channels differ."""
    if column.null_count:
        raise DataError(f"{column.null_count} rows have no picture: leave them out with --preprocess dropna")
    if isinstance(column.type, pa.FixedShapeTensorType):
        return pictures(column, column.type.shape)[0]
    made = [decode(value, name=f"picture {row}") for row, value in enumerate(column.to_pylist())]
    shape = tuple(shape or (made[0].shape if made else (1, 1, 1)))
    odd = next((one.shape for one in made if one.shape != shape), None)
    if odd is not None:
        told = " and ".join("x".join(map(str, size)) for size in (shape, odd))
        raise DataError(
            f"pictures of one size and form are needed, and there are {told}: "
            "bring them to one with --loader images:size=…,channels=…"
        )
    return np.stack(made) if made else np.zeros((0, *shape), np.uint8)
