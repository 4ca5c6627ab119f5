"""Colored shapes, 32 x 32, drawn from a seed: discs, squares, triangles and rings, anywhere, of any size and angle.

For training scripts and for the quality table: nothing is fetched, and everybody has the same pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from genreg.draft import Array

KINDS = ("disc", "square", "triangle", "ring")
SIDE, FINE = 32, 4  # pixels, and points per pixel and axis that are averaged
TRAIN, HELD = 24000, 1500
RADIUS = (7.5, 11.5)  # of discs and rings, in pixels; the others have about the same area …
REACH = 1.25  # … and a triangle's corners reach this many radii
APART = 0.5  # the least distance of the two colors, each channel from 0 to 1


class Shapes(NamedTuple):
    """Pictures uint8 [n, 32, 32, 3], the kind of each int64 [n], its two colors float64 [n, 6] (shape, ground)."""

    images: Array
    labels: Array
    colors: Array

    @property
    def table(self) -> pa.Table:
        """The shapes as the columns image and shape."""
        images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(self.images))
        return pa.table({"image": images, "shape": pa.array([KINDS[kind] for kind in self.labels])})


def shapes() -> tuple[Shapes, Shapes]:
    """24,000 to train on and 1,500 held out: always the same."""
    return drawn(TRAIN, seed=0), drawn(HELD, seed=1)


def drawn(count: int, *, seed: int) -> Shapes:
    """As many shapes, each kind alike."""
    chance = np.random.default_rng(seed)
    labels = chance.permutation(np.arange(count) % len(KINDS))
    radius = chance.uniform(*RADIUS, count)
    margin = REACH * radius[:, None] + 1
    center = chance.uniform(margin, SIDE - margin, (count, 2))
    angle = chance.uniform(0, 2 * np.pi, count)
    colors = _two_colors(chance, count)
    parts = [
        _pictures(labels[at], radius[at], center[at], angle[at], colors[at])
        for at in np.array_split(np.arange(count), max(count // 250, 1))
    ]
    return Shapes(np.concatenate(parts), labels, colors)


def _two_colors(chance: np.random.Generator, count: int) -> Array:
    colors = chance.uniform(0, 1, (count, 6))
    while (near := np.linalg.norm(colors[:, :3] - colors[:, 3:], axis=1) < APART).any():
        colors[near] = chance.uniform(0, 1, (near.sum(), 6))
    return colors


def _pictures(labels: Array, radius: Array, center: Array, angle: Array, colors: Array) -> Array:
    at = (np.arange(SIDE * FINE) + 0.5) / FINE
    y, x = (axis[None] - center[:, i, None, None] for i, axis in enumerate(np.meshgrid(at, at, indexing="ij")))
    cosine, sine = (f(angle)[:, None, None] / radius[:, None, None] for f in (np.cos, np.sin))
    u, v = cosine * x + sine * y, cosine * y - sine * x  # in radii, turned
    away = np.hypot(u, v)
    kind = labels[:, None, None]
    inside = np.select(
        [kind == 0, kind == 1, kind == 2],
        [away <= 1, np.maximum(abs(u), abs(v)) <= 0.85, (v <= REACH / 2) & (abs(u) * np.sqrt(3) - v <= REACH)],
        (away <= 1) & (away >= 0.55),
    )
    share = inside.reshape(len(labels), SIDE, FINE, SIDE, FINE).mean((2, 4))[..., None]
    front, ground = (part[:, None, None] for part in (colors[:, :3], colors[:, 3:]))
    return np.rint(255 * (share * front + (1 - share) * ground)).astype(np.uint8)
