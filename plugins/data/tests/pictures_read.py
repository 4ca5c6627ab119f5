"""What loaders of pictures give, whole, or the one line that they refuse with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genreg.data import Source
from genreg.errors import DataError
from genreg.images import pixels


def rows(source: Source, size: int = 3) -> tuple[Any, list[Any]]:
    """All pixels, and the labels where there are some, read so many rows at a time."""
    batches = list(source.batches(size=size))
    labelled = "label" in source.schema.names
    labels = [cell for batch in batches for cell in batch.column("label").to_pylist()] if labelled else []
    return np.concatenate([pixels(batch.column("image")) for batch in batches]), labels


def refusal(loader: Callable[..., Source], path: Path, **knobs: Any) -> str:
    """Why the loader cannot read all that is there."""
    with pytest.raises(DataError) as caught:
        rows(loader(path, **knobs))
    message = str(caught.value)
    assert "\n" not in message
    return message
