"""Sequences of any lengths as batches for the recursions: sorted by length, padded on the right, of bounded size.

A few long sequences are cut into pieces that lie side by side. Cells are prepared and brought into time-major order
once; every EM step reads them as they lie. Padding has evidence 1 in every state, so that no loop needs a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genreg.draft import Array
from genreg_hmm.emissions import Emission
from genreg_hmm.sequences import Sequences

BYTES = 16 << 20  # of one [T, B, K] array: what all of them take together stays near the cache
LONG = 2000  # steps from which a sequence is cut, where there are few of them
FEW = 64
PIECE = 128  # steps of a piece
GOES_ON, ENDS, UNKNOWN = 0, 1, 2  # whether a sequence is known to end at a step


@dataclass(frozen=True, eq=False)
class Bucket:
    """B blocks of T steps. ``cells`` are time-major: [T * B, F] or [T * B]."""

    cells: tuple[Tensor, ...]
    lengths: Array  # int64 [B]: of the blocks
    first: Tensor  # bool [B]: the block begins a sequence
    row: Array  # int64 [B]: the sequence that it belongs to
    steps: int  # T
    open: bool = False  # whether sequences may go on after their last step

    @property
    def joined(self) -> bool:
        """Whether there are pieces of longer sequences."""
        return not bool(self.first.all())

    @cached_property
    def real(self) -> Tensor | None:
        """bool [T, B]: steps that are no padding; None where all are real."""
        if (self.lengths == self.steps).all():
            return None
        there = np.arange(self.steps)[:, None] < self.lengths
        return torch.from_numpy(there).to(self.first.device)

    @cached_property
    def ends(self) -> Tensor:
        """int64 [T * B]: ENDS at the last step of a sequence, GOES_ON before it, UNKNOWN in padding."""
        at = np.arange(self.steps)[:, None]
        final = np.append(self.first.cpu().numpy()[1:], True)
        last = np.where((at == self.lengths - 1) & final, UNKNOWN if self.open else ENDS, GOES_ON)
        flags = np.where(at < self.lengths, last, UNKNOWN)
        return torch.from_numpy(flags.reshape(-1)).to(self.first.device)

    def take(self, blocks: Array) -> Bucket:
        """Some of the blocks, whole sequences each."""
        at = torch.from_numpy(blocks).to(self.first.device)
        cells = tuple(c.view(self.steps, len(self.row), *c.shape[1:])[:, at].flatten(0, 1) for c in self.cells)
        return Bucket(cells, self.lengths[blocks], self.first[at], self.row[blocks], self.steps, self.open)

    def whole(self, emissions: tuple[Emission, ...]) -> Bucket:
        """The sequences that the pieces came from, uncut."""
        first = np.flatnonzero(self.first.cpu().numpy())
        pieces = np.diff(np.append(first, len(self.row)))
        lengths = np.add.reduceat(self.lengths, first)
        at = np.arange(pieces.max() * self.steps)[:, None]
        padded = at >= lengths
        block = np.where(padded, 0, first + at // self.steps)
        index = torch.from_numpy((at % self.steps * len(self.row) + block).reshape(-1)).to(self.first.device)
        cells = [values[index] for values in self.cells]
        for values, emission in zip(cells, emissions, strict=True):
            values[torch.from_numpy(padded.reshape(-1)).to(values.device)] = emission.empty
        return Bucket(tuple(cells), lengths, self.first[self.first], self.row[first], len(at), self.open)


def buckets(
    data: Sequences, emissions: tuple[Emission, ...], states: int, *, device: str = "cpu",
    dtype: torch.dtype = torch.float64, cut: bool = True,
) -> Iterator[Bucket]:  # fmt: skip
    """All sequences that have a step, in batches; ``states`` bounds how many go together."""
    prepared = [one.prepare(cells) for one, cells in zip(emissions, data.parts, strict=True)]
    long = np.flatnonzero(data.lengths >= LONG) if cut else np.empty(0, np.int64)
    if len(long) > FEW:
        long = long[:0]
    short = np.setdiff1d(np.flatnonzero(data.lengths > 0), long)
    room = BYTES // (states * (4 if dtype == torch.float32 else 8))
    for chosen in _groups(data.lengths, short, room):
        starts, whole = data.offsets[chosen], np.ones(len(chosen), bool)
        yield _bucket(prepared, emissions, starts, data.lengths[chosen], whole, chosen, device, dtype)
    if len(long):
        pieces = [np.arange(0, data.lengths[row], PIECE) for row in long]
        rows = np.repeat(long, [len(p) for p in pieces])
        starts = np.concatenate(pieces)
        lengths = np.minimum(data.lengths[rows] - starts, PIECE)
        yield _bucket(prepared, emissions, data.offsets[rows] + starts, lengths, starts == 0, rows, device, dtype)


def _groups(lengths: Array, rows: Array, room: int) -> Iterator[Array]:
    """Rows by falling length, in groups of at most ``room`` steps, padding included, and of similar lengths."""
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        end = start + max(1, room // longest)
        alike = start + int(np.searchsorted(-lengths[order[start:]], -0.8 * longest, side="right"))
        end = min(end, max(alike, start + 16))
        yield order[start:end]
        start = end


def _bucket(
    prepared: list[Array], emissions: tuple[Emission, ...], starts: Array, lengths: Array, first: Array, rows: Array,
    device: str, dtype: torch.dtype,
) -> Bucket:  # fmt: skip
    """Blocks of ``lengths`` steps from ``starts`` on, side by side, time-major, padded with what is missing."""
    steps = int(lengths.max())
    at = np.arange(steps)[:, None]
    padded = at >= lengths
    index = np.where(padded, 0, starts + at).reshape(-1)
    cells = []
    for values, emission in zip(prepared, emissions, strict=True):
        taken = values[index]
        if padded.any():
            taken[padded.reshape(-1)] = emission.empty
        tensor = torch.from_numpy(taken)
        cells.append(tensor.to(device, dtype if tensor.is_floating_point() else torch.int64))
    return Bucket(tuple(cells), lengths, torch.from_numpy(first).to(device), rows, steps)
