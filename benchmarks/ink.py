"""Handwritten digits in random ink on random paper, 32 x 32: shape and colors of a picture are independent.

For the training script of stylegan-ink and for its quality table. Every digit is drawn DRAWINGS times: slanted, sized
and moved at random, in a dark ink on a light paper whose color changes across it.
"""

from __future__ import annotations

import numpy as np
import torch
from digits import Digits
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.draft import Array
from genreg.random import Stream, uniform

SIDE, DRAWINGS = 32, 4
DRAWING, INK = Stream.USER, Stream.USER + 1


def inked(data: Digits) -> Digits:
    """Every digit drawn DRAWINGS times: the same pictures always."""
    rows = np.arange(len(data.images), dtype=np.uint64) * DRAWINGS
    many = [drawn(data.images, rows + np.uint64(k)) for k in range(DRAWINGS)]
    return Digits(np.concatenate(many), np.tile(data.labels, DRAWINGS))


def drawn(digits: Array, seeds: Array) -> Array:
    """Digits uint8 [n, 28, 28, 1], each in the way of its seed: uint8 [n, 32, 32, 3]."""
    chance = uniform(seeds, (8,), stream=DRAWING)
    slant, size = 0.9 * (chance[:, 0] - 0.5), 0.85 + 0.45 * chance[:, 1]
    right, down = 0.2 * (chance[:, 2] - 0.5), 0.2 * (chance[:, 3] - 0.5)
    zero = np.zeros(len(seeds))
    rows = np.stack([1 / size, slant / size, right, zero, 1 / size, down], 1).reshape(-1, 2, 3) * (SIDE / 28)
    rows[:, :, 2] *= 28 / SIDE
    strokes = torch.from_numpy(digits.transpose(0, 3, 1, 2) / 255).float()
    grid = F.affine_grid(torch.from_numpy(rows).float(), [len(seeds), 1, SIDE, SIDE], align_corners=False)
    ink = F.grid_sample(strokes, grid, align_corners=False)[:, 0, :, :, None].numpy()
    dark, one, other = colors(seeds)
    angle = 2 * np.pi * chance[:, 4]
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    along = np.cos(angle)[:, None, None] * at[None, None, :] + np.sin(angle)[:, None, None] * at[None, :, None]
    share = (0.5 + along / np.sqrt(2))[..., None]
    paper = (1 - share) * one[:, None, None] + share * other[:, None, None]
    return np.rint(255 * ((1 - ink) * paper + ink * dark[:, None, None])).astype(np.uint8)


def colors(seeds: Array) -> tuple[Array, Array, Array]:
    """A dark ink and the two light colors between which the paper changes: [n, 3] each, in [0, 1]."""
    u = uniform(seeds, (9,), stream=INK)
    ink = from_hsv(u[:, 0], 0.5 + 0.5 * u[:, 1], 0.1 + 0.65 * u[:, 2])
    hue = u[:, 3]
    one = from_hsv(hue, 0.05 + 0.5 * u[:, 4], 0.9 + 0.1 * u[:, 5])
    other = from_hsv(hue + 0.3 * (u[:, 6] - 0.5), 0.05 + 0.5 * u[:, 7], 0.75 + 0.25 * u[:, 8])
    return ink, one, other


def from_hsv(hue: Array, saturation: Array, value: Array) -> Array:
    """Colors [n, 3] in [0, 1]; hues go around once in [0, 1]."""
    around = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    return np.asarray(value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(around, 4 - around), 0, 1)))
