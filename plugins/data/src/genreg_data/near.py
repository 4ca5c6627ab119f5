"""Rows that are nearly equal: texts by MinHash (Broder 1997), images by a perceptual hash of their cosine transform.

Both look at the rows in order and keep the first of those that are alike. What is kept of a row is small: 512 bytes of
a text, 8 of an image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source
from genreg.errors import UsageError
from genreg.images import each_image
from genreg.preprocess import CleanStep
from genreg_data.clean import image_column, text_column

Words = npt.NDArray[np.uint64]
PERMUTATIONS = 128  # of a MinHash: the similarity of two texts is told to about 0.04
SIDE, LOW = 32, 8  # pixels of the shrunken image, and how many of its frequencies are looked at in each direction


def neartext(source: Source, *, column: str | None = None, threshold: float = 0.8, size: int = 4) -> CleanStep:
    """Keep the first of texts that are alike: their runs of ``size`` characters overlap by ``threshold`` or more.

    The overlap (Jaccard) is estimated by MinHash with 128 permutations, to about 0.04; pairs are found by bands, which
    miss few at the threshold and fewer above. Missing texts are kept. Raises UsageError for a threshold beyond 0..1.
    """
    if not 0 < threshold <= 1 or size < 1:
        raise UsageError(f"--preprocess neartext: threshold={threshold:g},size={size}: above 0, at most 1; 1 or more")
    name = text_column(source.schema, column, "neartext")
    rows = rows_of_a_band(threshold)

    def begin() -> Callable[[Batch], Batch]:
        kept: list[npt.NDArray[np.uint32]] = []
        bands: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(PERMUTATIONS // rows)]

        def is_new(text: str | None) -> bool:
            if text is None:
                return True
            own = minhash(shingles(text, size))
            keys = [own[at * rows : (at + 1) * rows].tobytes() for at in range(len(bands))]
            candidates = {at for band, key in zip(bands, keys, strict=True) for at in band.get(key, ())}
            if any(np.mean(kept[at] == own) >= threshold for at in candidates):
                return False
            for band, key in zip(bands, keys, strict=True):
                band[key].append(len(kept))
            kept.append(own)
            return True

        return lambda batch: _first(batch, is_new, batch.column(name).to_pylist())

    return CleanStep(lambda batch: begin()(batch), begin)


def nearimage(source: Source, *, column: str | None = None, distance: int = 4) -> CleanStep:
    """Keep the first of images that look alike: their perceptual hashes differ in at most ``distance`` of 64 bits.

    A copy in another size, or saved as JPEG, differs in 0 to 4. Missing images are kept.
    Raises UsageError for a distance beyond 0..31.
    """
    if not 0 <= distance < 32:
        raise UsageError(f"--preprocess nearimage: distance={distance}: write 0 to 31 of 64 bits")
    name = image_column(source.schema, column, "nearimage")
    edges = np.linspace(0, 64, distance + 2).astype(int)  # alike in one of distance + 1 pieces, or not alike

    def begin() -> Callable[[Batch], Batch]:
        pieces: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in edges[1:]]

        def is_new(image: Array | None) -> bool:
            if image is None:
                return True
            own = perceptual_hash(image)
            keys = [own >> int(low) & (1 << int(high - low)) - 1 for low, high in pairwise(edges)]
            for piece, key in zip(pieces, keys, strict=True):
                if any((own ^ other).bit_count() <= distance for other in piece.get(key, ())):
                    return False
            for piece, key in zip(pieces, keys, strict=True):
                piece[key].append(own)
            return True

        return lambda batch: _first(batch, is_new, each_image(batch.column(name)))

    return CleanStep(lambda batch: begin()(batch), begin)


def shingles(text: str, size: int) -> Words:
    """Hashes of a text's different runs of ``size`` characters: uint64 [k]; a shorter text is one run."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = max(1, len(codes) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for code in (codes[at : at + count] for at in range(min(size, len(codes)))):
        hashes = (hashes ^ code) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return np.unique(hashes)


def minhash(hashes: Words) -> npt.NDArray[np.uint32]:
    """The least of the hashes under each permutation: uint32 [128]. Two sets agree in as large a share as they overlap.

    The permutations are h -> a h + b modulo 2^64, of which the upper half counts (Dietzfelbinger 1996).
    """
    odd, add = _permutations()
    return np.asarray(((odd[:, None] * hashes + add[:, None]) >> np.uint64(32)).min(axis=1), np.uint32)


def rows_of_a_band(threshold: float) -> int:
    """How many of the hashes a band compares: the most with which 95 % of pairs at the threshold share a band."""
    able = [rows for rows in (1, 2, 4, 8, 16, 32) if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.05]
    return max(able, default=1)


def perceptual_hash(image: Array) -> int:
    """64 bits that an image keeps when it is resized or compressed, from uint8 [h, w, c].

    The image is brought to 32 x 32 in grey; a bit tells whether one of its 8 x 8 lowest frequencies (DCT-II) lies
    above their median.
    """
    from PIL import Image

    from genreg.images import as_pillow

    grey = as_pillow(image[..., :3] if image.shape[2] > 1 else image).convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    low = _cosines() @ small @ _cosines().T
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _first(batch: Batch, is_new: Callable[[Any], bool], cells: Iterable[Any]) -> Batch:
    return batch.filter(pa.array([is_new(cell) for cell in cells], pa.bool_()))


@cache
def _permutations() -> tuple[Words, Words]:
    from genreg.random import Stream, bits

    drawn = bits(np.zeros(1, np.uint64), 4 * PERMUTATIONS, stream=Stream.SHUFFLE)[0].view(np.uint64)
    return drawn[:PERMUTATIONS] | np.uint64(1), drawn[PERMUTATIONS:]


@cache
def _cosines() -> Array:
    """The lowest frequencies of the DCT-II as a matrix [8, 32]."""
    k, n = np.mgrid[:LOW, :SIDE]
    return np.asarray(np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE)))
