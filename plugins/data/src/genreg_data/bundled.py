"""The data sets that scikit-learn brings: ``sklearn://iris``; nothing is downloaded."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.data import Source, noted
from genreg.errors import DataError, UsageError, did_you_mean
from genreg.images import image_field
from genreg.images import images as image_column

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
DECIMALS = 6  # more are of a computation, not of a measurement


def sklearn(reference: str) -> Source:
    """scikit-learn's own data sets: digits (images), iris, wine, breast_cancer, diabetes, linnerud.

    ``sklearn://digits`` is 1,797 images of 8 x 8 with their digits, 16 shades of grey as 0 to 255; the others are
    tables whose columns' names are words joined by ``_``. Raises UsageError for another name, DataError without
    scikit-learn.
    """
    name = reference.partition("://")[2].strip("/")
    if name not in NAMES:
        raise UsageError(
            f"{reference}: scikit-learn brings no {name or 'data set without a name'}{did_you_mean(name, NAMES)}"
        )
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError(f'{reference} needs scikit-learn: pip install "scikit-learn>=1.5"') from None
    found: Any = getattr(datasets, f"load_{name}")()
    return Source.of(_digits(found) if name == "digits" else _table(found))


def _digits(found: Any) -> pa.Table:
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    label = noted(pa.field("label", pa.int64()), role="label")
    schema = pa.schema([image_field("image", (8, 8, 1)), label])
    return pa.table([image_column(pixels), pa.array(found.target.astype(np.int64))], schema=schema)


def _table(found: Any) -> pa.Table:
    """Measurements as float64 with their decimals, then what is to be told of them: a class, or numbers."""
    names = [str(name) for name in found.get("target_names", [])]
    measured = [*zip(map(_word, found.feature_names), np.asarray(found.data, np.float64).T, strict=True)]
    if found.target.ndim == 2:
        measured += zip(map(_word, names), found.target.T, strict=True)
    elif not names:
        measured.append(("target", found.target))
    columns: list[Any] = [pa.array(values) for _, values in measured]
    fields = [noted(pa.field(name, pa.float64()), decimals=_decimals(values)) for name, values in measured]
    if found.target.ndim == 1 and names:
        columns.append(pa.array(names).take(pa.array(found.target)))
        fields.append(noted(pa.field("label", pa.string()), role="label", values=names))
    return pa.table(columns, schema=pa.schema(fields))


def _word(name: str) -> str:
    """``sepal length (cm)`` as ``sepal_length_cm``."""
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _decimals(values: Any) -> int | None:
    """How many decimals the numbers are written with; None for more than DECIMALS."""
    return next((digits for digits in range(DECIMALS + 1) if (np.round(values, digits) == values).all()), None)
