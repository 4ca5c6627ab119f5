"""What is given, as arrays: numbers, and pictures of whatever size and encoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genreg.draft import Array, Batch
from genreg.images import decode


def numbers(given: Batch, name: str) -> Array:
    """A condition's numbers: float64 [n], NaN where it is not given."""
    at = given.schema.get_field_index(name)
    if at < 0:
        return np.full(given.num_rows, np.nan)
    return np.array(given.column(at).to_numpy(zero_copy_only=False), np.float64)


def given_pictures(given: Batch, shape: Sequence[int]) -> tuple[Array, Array]:
    """The pictures of the condition ``like`` as uint8 [m, h, w, c], and the rows that they are given for: int64 [m]."""
    if "like" not in given.schema.names or given.column("like").null_count == given.num_rows:
        return np.empty((0, *shape), np.uint8), np.empty(0, np.int64)
    column = given.column("like")
    values: list[bytes] = column.drop_null().to_pylist()  # type: ignore[assignment]
    size, channels = (shape[0], shape[1]), shape[2]  # one picture given to many samples is decoded once:
    seen = {value: decode(value, size=size, channels=channels, name="like") for value in dict.fromkeys(values)}
    return np.stack([seen[value] for value in values]), np.flatnonzero(np.asarray(column.is_valid()))
