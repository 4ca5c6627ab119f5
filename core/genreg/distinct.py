"""Equal rows, found in one pass: a fingerprint of 104 bits per row, and which of them were there before.

A fingerprint is a complex number whose parts are whole numbers below 2^52: NumPy sorts and searches those as pairs.
Among a milliard rows, two that differ share one with a chance of 3e-14.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genreg.data import canonical, tensor_bytes, untimed
from genreg.draft import Batch

Words = npt.NDArray[np.uint64]
PRIMES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd, with as many ones as zeros: one for each half
NULL = 0xA0761D6478BD642F
LONG = 512  # bytes: longer texts are hashed one by one
RUN = 1 << 22  # fingerprints in a run that lies in a file: 64 MB


def fingerprints(batch: Batch, columns: Sequence[str]) -> npt.NDArray[np.complex128]:
    """A number per row that equal rows share: complex128 [n]. 0 is -0, and NaN is NaN; null equals null alone."""
    halves = [np.full(batch.num_rows, prime >> 1, np.uint64) for prime in PRIMES]
    for name in columns:
        _absorb(halves, batch.column(name))
    high, low = (_mixed(half) >> np.uint64(12) for half in halves)
    return high.astype(np.float64) + 1j * low.astype(np.float64)


class Seen:
    """The fingerprints of earlier batches in sorted runs; a full run lies in a file and is mapped."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.complex128]] = []

    def first(self, prints: npt.NDArray[np.complex128]) -> npt.NDArray[np.bool_]:
        """Which rows are the first with their fingerprint: bool [n]."""
        own, at = np.unique(prints, return_index=True)
        fresh = np.ones(len(own), bool)
        for run in self._runs:
            fresh &= run[np.minimum(np.searchsorted(run, own), len(run) - 1)] != own
        self._add(own[fresh])
        found = np.zeros(len(prints), bool)
        found[at[fresh]] = True
        return found

    def _add(self, run: npt.NDArray[np.complex128]) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run) < 2 * RUN:  # so that runs are few
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run) >= RUN:
            with tempfile.TemporaryFile() as file:
                run.tofile(file)
                file.flush()
                run = np.memmap(file, np.complex128, "r")
        if len(run):
            self._runs.append(run)


def _absorb(halves: Sequence[Words], column: Any) -> None:
    """Take a column into both halves."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _absorb(halves, column.dictionary_decode())
    valid = np.asarray(column.is_valid())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return _absorb_text(halves, column.cast(pa.large_binary()), valid)
    if isinstance(column, pa.FixedShapeTensorArray):
        return _absorb_text(halves, pa.array(tensor_bytes(column), pa.large_binary()), valid)
    column = untimed(column)
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0  # -0 + 0 is 0
        words = np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    elif pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        whole = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
        words = whole.to_numpy(zero_copy_only=False).astype(np.int64 if column.type != pa.uint64() else np.uint64)
    else:
        texts = [None if value is None else ascii(canonical(value)).encode() for value in column.to_pylist()]
        return _absorb_text(halves, pa.array(texts, pa.large_binary()), valid)
    _stir(halves, np.where(valid, words.view(np.uint64), np.uint64(NULL)), ...)
    return _stir(halves, np.uint64(NULL), ~valid)  # twice, so that it is no number


def _absorb_text(halves: Sequence[Words], column: Any, valid: npt.NDArray[np.bool_]) -> None:
    """Eight bytes of each text at a time, its length first; what is long is hashed one by one."""
    column = column.fill_null(b"")
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    sizes = np.diff(offsets)
    _stir(halves, np.where(valid, sizes.view(np.uint64), np.uint64(NULL)), ...)
    if not sizes.any():
        return
    begin, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end - begin + 8, np.uint8)
    data[:-8] = np.frombuffer(column.buffers()[2], np.uint8)[begin:end]
    words: Any = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))  # at every byte
    starts = offsets[:-1] - begin
    for row in np.flatnonzero(sizes > LONG).tolist():
        digest = hashlib.blake2b(data[starts[row] : starts[row] + sizes[row]].tobytes(), digest_size=16).digest()
        for word in np.frombuffer(digest, np.uint64):
            _stir(halves, word, row)
    rows = np.flatnonzero((sizes > 0) & (sizes <= LONG))
    for at in range(0, int(sizes[rows].max(initial=0)), 8):
        rows = rows[sizes[rows] > at]
        left = np.minimum(sizes[rows] - at, 8).astype(np.uint64)
        _stir(halves, words[starts[rows] + at] & (np.uint64(2**64 - 1) >> (np.uint64(64) - 8 * left)), rows)


def _stir(halves: Sequence[Words], words: Any, rows: Any) -> None:
    for half, prime in zip(halves, PRIMES, strict=True):
        mixed = half[rows] ^ words
        with np.errstate(over="ignore"):
            mixed *= np.uint64(prime)
        half[rows] = mixed ^ (mixed >> np.uint64(29))


def _mixed(half: Words) -> Words:
    """Murmur3's last step: each bit depends on every other."""
    for prime in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        half = (half ^ (half >> np.uint64(33))) * np.uint64(prime)
    return half ^ (half >> np.uint64(33))
