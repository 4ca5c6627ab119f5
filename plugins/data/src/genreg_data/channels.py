"""Channels of images as a map: each to mean 0 and deviation 1, and back to the same pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Array, Batch
from genreg.data import Source, with_column
from genreg.errors import DataError
from genreg.images import image_columns
from genreg.preprocess import chosen_columns


@dataclass(frozen=True)
class Channels:
    """x -> (x - mean) / deviation per channel of image columns, float32 [h, w, c]."""

    mean: Mapping[str, Array]  # [c] of each column
    deviation: Mapping[str, Array]

    def apply(self, batch: Batch, /) -> Batch:
        """Pixels in units of their channel's deviation: float32."""
        for name in self._there(batch):
            column: Any = batch.column(name)
            if column.type.value_type == pa.uint8():
                mapped = (_pixels(column) - self.mean[name]) / self.deviation[name]
                batch = _with_pixels(batch, name, mapped.astype(np.float32), column)
        return batch

    def undo(self, batch: Batch, /) -> Batch:
        """Pixels from 0 to 255: uint8, rounded and clipped."""
        for name in self._there(batch):
            column: Any = batch.column(name)
            values = _pixels(column).astype(np.float64) * self.deviation[name] + self.mean[name]
            batch = _with_pixels(batch, name, np.clip(np.rint(values), 0, 255).astype(np.uint8), column)
        return batch

    def log_jacobian(self, batch: Batch, /) -> Array:
        """-log deviation of each of an image's numbers."""
        total = np.zeros(batch.num_rows)
        for name in self._there(batch):
            kind: Any = batch.schema.field(name).type
            slope = -kind.shape[0] * kind.shape[1] * np.log(self.deviation[name]).sum()
            total += np.where(np.asarray(batch.column(name).is_null()), 0.0, slope)
        return total

    def _there(self, batch: Batch) -> list[str]:
        return [name for name in self.mean if name in batch.schema.names]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Columns as JSON, moments as float64 tensors [2, c]."""
        tensors = {f"{at}": np.stack([self.mean[name], self.deviation[name]]) for at, name in enumerate(self.mean)}
        return {"columns": list(self.mean)}, tensors


def channels(source: Source, *, columns: list[str] | None = None) -> Channels:
    """Bring each channel of images to mean 0 and deviation 1; a constant channel keeps its scale.

    Pixels are uint8 of one size, and come back exactly. Raises DataError for any other column.
    """
    able = image_columns(source.schema)
    chosen = chosen_columns(source.schema, columns, "channels", lambda field: field.name in able)
    sums: dict[str, Array] = {}
    for name in chosen:
        kind: Any = source.schema.field(name).type
        if name not in able or not isinstance(kind, pa.FixedShapeTensorType):
            what = "encoded images" if name in able else str(kind)
            raise DataError(f"--preprocess channels: column {name} holds {what}, and it takes pixels of one size")
        sums[name] = np.zeros((3, kind.shape[2]))
    for batch in source.scan():
        for name, total in sums.items():  # whole numbers below 2^53, so that the sums are exact
            x = _pixels(batch.column(name).drop_null()).reshape(-1, total.shape[1]).astype(np.int64)
            total += [np.full(x.shape[1], len(x)), x.sum(axis=0), (x * x).sum(axis=0)]
    mean = {name: s / np.maximum(n, 1) for name, (n, s, _) in sums.items()}
    deviation = {
        name: np.where(n * q > s * s, np.sqrt(np.maximum(n * q - s * s, 0)) / np.maximum(n, 1), 1.0)
        for name, (n, s, q) in sums.items()
    }
    return Channels(mean, deviation)


def _pixels(column: Any) -> Array:
    """An image column as [n, h, w, c]; a null is zeros."""
    kind = column.type
    if column.null_count:
        flat = pc.fill_null(pc.list_flatten(_storage_without_nulls(column)), 0)
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, *kind.shape)
    return np.asarray(column.to_numpy_ndarray()).reshape(-1, *kind.shape)


def _storage_without_nulls(column: Any) -> Any:
    nothing = pa.scalar([0] * column.type.storage_type.list_size, column.type.storage_type)
    return pc.if_else(column.is_valid(), column.storage, nothing)


def _with_pixels(batch: Batch, name: str, values: Array, like: Any) -> Batch:
    """The batch with images [n, h, w, c] in the column, null where ``like`` is."""
    kind: Any = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), like.type.shape)
    size = int(np.prod(like.type.shape))
    mask = like.is_null() if like.null_count else None
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size, mask=mask)
    column = pa.ExtensionArray.from_storage(kind, flat.cast(kind.storage_type))
    return with_column(batch, batch.schema.field(name).with_type(kind), column)


def restore_channels(state: Mapping[str, Any], tensors: Mapping[str, Array]) -> Channels:
    """Moments of channels; raises ValueError where they are damaged."""
    mean, deviation = {}, {}
    for at, name in enumerate(state["columns"]):
        mean[name], deviation[name] = tensors[f"{at}"]
        if not (np.isfinite(tensors[f"{at}"]).all() and (deviation[name] > 0).all()):
            raise ValueError(f"channels needs finite means, and deviations above 0, for {name}")
    return Channels(mean, deviation)
