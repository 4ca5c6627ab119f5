"""Pictures of a run: curves as small panels, samples as a grid."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genreg.draft import Array

Points: TypeAlias = list[tuple[float, float]]

_WIDTH, _HEIGHT, _MARGIN = 360, 200, 12  # of a panel, pixels
_INK, _FAINT, _FRAME = (20, 60, 140), (170, 195, 235), (205, 205, 205)
_UNDRAWN = {"step", "seconds", "rows_per_second"}


def curves(history: Sequence[Mapping[str, float]], steps: int) -> Array:
    """One panel per figure over the steps: the readings faint, their moving mean dark; uint8 [h, w, 3]."""
    names = list(dict.fromkeys(name for line in history for name in line if name not in _UNDRAWN))
    names.sort(key=lambda name: name == "lr")  # last
    across = min(max(len(names), 1), 3)
    image = Image.new("RGB", (across * _WIDTH, max(-(-len(names) // across), 1) * _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for at, name in enumerate(names):
        points = [(line["step"], line[name]) for line in history if math.isfinite(line.get(name, math.nan))]
        _panel(draw, (at % across * _WIDTH, at // across * _HEIGHT), name, points, steps)
    return np.asarray(image)


def grid(images: Array, *, across: int | None = None, side: int = 64) -> Array:
    """Images uint8 [n, h, w, c], ``across`` in a row, enlarged to ``side`` pixels at most: uint8 [H, W, 3]."""
    n, height, width, channels = images.shape
    across = across or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    images = np.broadcast_to(images, (n, height, width, 3)) if channels == 1 else images[..., :3]
    gap, tall, wide = 2, height * scale + 2, width * scale + 2
    sheet = np.full((-(-n // across) * tall + gap, across * wide + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // across * tall + gap, i % across * wide + gap
        sheet[top : top + height * scale, left : left + width * scale] = image.repeat(scale, 0).repeat(scale, 1)
    return sheet


def png(image: Array) -> bytes:
    """An image, uint8 [h, w, 3], as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG")
    return out.getvalue()


def _panel(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, points: Points, steps: int) -> None:
    """One figure's curve, with its range, its last reading and the steps."""
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    left, top = corner[0] + 58, corner[1] + 30
    right, bottom = corner[0] + _WIDTH - _MARGIN, corner[1] + _HEIGHT - 24
    last = f"  {points[-1][1]:.4g}" if points else ""
    draw.text((left, corner[1] + 8), name + last, "black", font)
    draw.rectangle((left, top, right, bottom), outline=_FRAME)
    draw.text((left, bottom + 4), "0", (90, 90, 90), small)
    draw.text((right, bottom + 4), f"step {steps:,}", (90, 90, 90), small, anchor="ra")
    if not points:
        return
    values = np.array([value for _, value in points])
    low, high = _range(values)
    for value, at in ((high, top), (low, bottom)):
        draw.text((left - 6, at), f"{value:.3g}", (90, 90, 90), small, anchor="rm")

    def placed(ys: Array) -> Points:
        down = np.clip((high - ys) / (high - low), 0, 1).tolist()
        along = [left + (right - left) * step / steps for step, _ in points]
        return [(x, top + (bottom - top) * y) for x, y in zip(along, down, strict=True)]

    draw.line(placed(values), _FAINT)
    draw.line(placed(_smooth(values)), _INK, 2)


def _range(values: Array) -> tuple[float, float]:
    """The panel's range: the readings but for their extreme hundredths, which else would flatten all the rest."""
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.99]))
    pad = 0.05 * (high - low) or max(abs(high) * 0.05, 1e-6)
    return low - pad, high + pad


def _smooth(values: Array) -> Array:
    """The mean of the readings around each."""
    reach = max(len(values) // 40, 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    begin = np.maximum(np.arange(len(values)) - reach, 0)
    end = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    smoothed: Array = (total[end] - total[begin]) / (end - begin)
    return smoothed
