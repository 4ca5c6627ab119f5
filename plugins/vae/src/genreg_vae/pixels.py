"""Between Arrow and arrays: columns of pictures as uint8 [n, h, w, c], labels as int64 [n], and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from genreg.draft import Array, Batch
from genreg.errors import DataError, UsageError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MOST_PIXELS = 1 << 26


def pictures(column: Any, shape: Sequence[int]) -> tuple[Array, Array]:
    """A column of uint8 tensors as uint8 [n, h, w, c], zeros where null, and which rows are not null: bool [n]."""
    valid = np.asarray(column.is_valid())
    flat = column.storage.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)  # without the nulls
    if valid.all():
        return flat, valid
    out = np.zeros((len(column), *shape), np.uint8)
    out[valid] = flat
    return out, valid


def as_column(images: Array) -> Any:
    """uint8 [n, h, w, c] as a column of tensors."""
    kind = pa.fixed_shape_tensor(pa.uint8(), images.shape[1:])
    flat = pa.array(np.ascontiguousarray(images).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(images.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, storage)


def decoded(data: bytes, channels: int | None = None) -> Array:
    """An encoded picture as uint8 [h, w, c], in its own channels or those asked for; raises UsageError."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UsageError(f"a picture of {image.width} x {image.height} is too large")
            upright = ImageOps.exif_transpose(image)
            own = channels or {"L": 1, "1": 1, "RGBA": 4}.get(upright.mode, 3)
            pixels = np.asarray(upright.convert(MODES[own]))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"this is not a readable picture: {' '.join(str(error).split())}") from None
    return pixels.reshape(*pixels.shape[:2], own)


def fitted(data: bytes, shape: Sequence[int]) -> Array:
    """An encoded picture as uint8 of the shape: its middle, scaled; raises UsageError where it cannot be read."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    own = decoded(data, channels)
    if own.shape[:2] == (height, width):
        return own
    scaled = ImageOps.fit(Image.fromarray(own.squeeze(2) if channels == 1 else own), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(scaled).reshape(height, width, channels)


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
        own = [*column.type.shape, 1][:3]
        return pictures(column, own)[0]
    made = []
    for value in column.to_pylist():
        one = decoded(value)
        shape = shape or one.shape
        if one.shape != tuple(shape):
            told = " and ".join("x".join(map(str, size)) for size in (tuple(shape), one.shape))
            raise DataError(f"pictures of one size and form are needed, and there are {told}: resize them when loading")
        made.append(one)
    return np.stack(made) if made else np.zeros((0, *(shape or (1, 1, 1))), np.uint8)
