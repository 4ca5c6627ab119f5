"""Between Arrow and arrays: columns of pictures as uint8 [n, h, w, c], labels as int64 [n], and what both say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from genreg.data import Source
from genreg.draft import Array, Batch, Seeds
from genreg.errors import DataError, UsageError
from genreg.images import decode
from genreg.images import images as image_column
from genreg.random import Stream, categorical
from genreg_torch.labeled import Images, columns, described
from genreg_torch.rows import Rows

PIECE = 2048  # rows looked at together
ROWS = 512  # rows that pass through a network together


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


def given_labels(given: Batch, config: Images) -> Array:
    """The codes of the classes that are given: int64 [n], -1 where none is; 0 without classes.

    Raises UsageError for a value that training did not see, with those it saw.
    """
    y = labels(given, config.label, config.classes)
    if config.classes and (y == config.classes).any():
        there = ", ".join(map(str, config.values))
        raise UsageError(f"label: a value that training did not see; there are: {there}")
    return y


def drawn_labels(y: Array, seeds: Seeds, config: Images) -> Array:
    """Codes of classes, int64 [n], with those that are -1 drawn as often as training had them."""
    if not (y < 0).any():
        return y
    return np.where(y < 0, categorical(seeds, log_classes(config), stream=Stream.PATH), y)


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


def quantized(x: Tensor, levels: int) -> Tensor:
    """x in [0, 1] at the nearest of its levels."""
    return (x * (levels - 1)).round() / (levels - 1)


def row_parts(count: int, rows: int = ROWS) -> Iterator[slice]:
    """Slices of at most ``rows`` of that many rows: what passes through a network together."""
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def as_tensor(pixels: Array, levels: int, device: torch.device) -> Tensor:
    """Pictures uint8 [n, h, w, c] as float32 [n, c, h, w] in [0, 1], at their levels."""
    x = torch.from_numpy(np.array(pixels.transpose(0, 3, 1, 2), order="C")).to(device, torch.float32)
    return quantized(x / 255, levels)


def as_pixels(x: Tensor, levels: int) -> Array:
    """x [n, c, h, w] in [0, 1] at the nearest of its levels, as pictures uint8 [n, h, w, c]."""
    grey = (quantized(x, levels) * 255).round().to(torch.uint8)
    return grey.permute(0, 2, 3, 1).cpu().numpy()


def picture_batch(config: Images, pixels: Array, y: Array) -> Batch:
    """Pictures uint8 [n, h, w, c], and the codes of the classes that they were made for, as the config's columns."""
    made: list[Any] = [image_column(pixels)]
    if config.label is not None:
        made.append(pa.array(y.astype(np.int32)))
    return pa.RecordBatch.from_arrays(made, schema=columns(config))


def looked_at(train: Source, family: str) -> dict[str, Any]:
    """What the training rows say of the config: columns, the pictures' shape, rows per class.

    Raises DataError for rows without a label, a single row, pictures of several sizes.
    """
    if train.part != "train":
        raise UsageError(f"{family} is fitted on the part train, and this is the part {train.part}")
    found = described(train.schema, family)
    shape: list[int] | None = None
    counts, rows = np.zeros(len(found["values"]) + 1, np.int64), 0
    for images, y in pieces(train, found["image"], found["label"], len(found["values"])):
        shape = shape or list(images.shape[1:])
        if (y < 0).any():
            raise DataError(
                f"{(y < 0).sum()} training rows have no {found['label']}: leave them out with --preprocess dropna"
            )
        counts += np.bincount(y, minlength=len(counts))[: len(counts)]
        rows += len(y)
    if rows < 2:
        raise DataError(
            f"{family} learns what pictures have in common, and there is {rows or 'no'} training picture: give more"
        )
    counts = counts[: len(found["values"])]
    for value in np.asarray(found["values"], object)[counts == 1]:
        warnings.warn(
            f"{found['label']}={value} has one training picture, so its samples will look like it", stacklevel=2
        )
    return {**found, "shape": shape, "counts": counts.tolist()}


def pieces(source: Source, image: str, label: str | None, classes: int) -> Iterator[tuple[Array, Array]]:
    """The pictures uint8 [n, h, w, c] and label codes of a source, some rows at a time."""
    shape = None
    for batch in source.batches(size=PIECE):
        images = training_pictures(batch.column(image), shape)
        shape = images.shape[1:]
        yield images, labels(batch, label, classes)


def rows_of(config: Images, batch: Batch) -> Rows:
    """A batch as the loss takes it: x uint8 [n, c, h, w], y int64 [n]."""
    images = training_pictures(batch.column(config.image), config.shape)
    x = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
    return {"x": x, "y": torch.from_numpy(labels(batch, config.label, config.classes))}


def log_classes(config: Images) -> Array:
    """log p(y), as training had them: float64 [C], one nameless class without labels."""
    counts = np.asarray(config.counts or [1], np.float64)
    with np.errstate(divide="ignore"):
        log_p: Array = np.log(counts) - np.log(counts.sum())
    return log_p
