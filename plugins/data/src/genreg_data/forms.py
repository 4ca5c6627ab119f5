"""Which axis is which and what the numbers mean: recognized where there is one answer, else refused with the knob."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from genreg import Array
from genreg.errors import DataError

Axes: TypeAlias = Literal["nhw", "nhwc", "nchw"]
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Pixels:
    """How an array's rows become uint8 [n, h, w, c]: ``low`` is 0 and ``high`` is 255."""

    axes: Axes
    shape: tuple[int, int, int]  # [h, w, c]
    low: float
    high: float

    def of(self, block: Array) -> Array:
        """Rows [n, …] as uint8 [n, h, w, c]."""
        height, width, channels = self.shape
        if self.axes == "nchw":
            block = block.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        block = block.reshape(-1, height, width, channels)
        if block.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return np.ascontiguousarray(block)
        unit = (block.astype(np.float64) - self.low) / (self.high - self.low)
        return np.rint(unit * 255).astype(np.uint8)


def recognized_axes(shape: tuple[int, ...], axes: Axes | None, what: str) -> tuple[Axes, tuple[int, int, int]]:
    """The axes of an array [n, …] and the shape [h, w, c] of its images; raises DataError where it may be two."""
    if axes is None:
        last, second = shape[-1] in CHANNELS, len(shape) == 4 and shape[1] in CHANNELS
        if len(shape) == 3 and last:
            raise DataError(
                f"{what} is {list(shape)}, which may be one image: say axes=nhw if it is {shape[0]} grey ones"
            )
        if last and second:
            raise DataError(f"{what} is {list(shape)}, which may be channels last or first: say axes=nhwc or axes=nchw")
        axes = "nhw" if len(shape) == 3 else "nchw" if second else "nhwc"
    if len(shape) != len(axes):
        raise DataError(f"axes={axes}: {what} has {len(shape)} axes, {list(shape)}")
    size = dict(zip(axes, shape, strict=True))
    height, width, channels = size["h"], size["w"], size.get("c", 1)
    if channels not in CHANNELS or not height or not width:
        raise DataError(f"{what} is {list(shape)}, and images have 1, 3 or 4 channels: say axes=nhw, nhwc or nchw")
    return axes, (height, width, channels)


def recognized_range(blocks: Iterable[Array], kind: np.dtype, asked: str, what: str) -> tuple[float, float]:
    """The numbers that are black and white; raises DataError where the numbers do not say, or lie outside."""
    if kind.kind not in "buif":
        raise DataError(f"{what} holds {kind}, and pixels are numbers")
    low, high, whole = np.inf, -np.inf, True
    for block in blocks:
        if kind.kind == "f" and not np.isfinite(block).all():
            raise DataError(f"{what} has NaN or infinity: no pixel is that")
        if block.size:
            low, high = min(low, block.min()), max(high, block.max())
            whole = whole and (kind.kind != "f" or bool((np.rint(block) == block).all()))
    if asked:
        black, white = _asked(asked)
        if low < black or high > white:
            raise DataError(f"range={asked}: {what} holds numbers from {low:g} to {high:g}, outside of it")
        return black, white
    if kind.kind == "b":
        return 0.0, 1.0
    if low > high or (low >= 0 and 1 < high <= 255 and (kind == np.uint8 or (whole and high > 127))):
        return 0.0, 255.0
    if kind.kind == "f" and low >= -1 and high <= 1:
        return (0.0 if low >= 0 else -1.0), 1.0
    raise DataError(
        f"{what} ({kind}) holds numbers from {low:g} to {high:g}: say which are black and white, range=0..255"
    )


def _asked(text: str) -> tuple[float, float]:
    try:
        black, white = (float(part) for part in text.split(".."))
    except ValueError:
        black = white = 0.0
    if not black < white or not np.isfinite([black, white]).all():
        raise DataError(f"range={text}: write the numbers for black and white, such as 0..255 or -1..1")
    return black, white
