"""The rows of a step: one order that follows from the seed, whether the data is held as tensors or streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from genreg.data import Source, single_batch
from genreg.draft import Batch
from genreg.random import Stream, bits
from genreg_torch.devices import free_bytes

Rows: TypeAlias = Mapping[str, Tensor]  # columns as the loss takes them: [n, ...] each
Decode: TypeAlias = Callable[[Batch], Rows]  # from Arrow to tensors, one row per row
_EPOCHS = 1 << 40  # counted from here: the core's own shuffling counts from 0
_SHARE = 4  # data is held where it takes less than one part in so many of the free memory
_PIECE = 4096  # rows decoded at a time when data is held


@dataclass(frozen=True, eq=False)
class Data:
    """Training rows, endless and shuffled anew in each epoch; ``held`` are all of them as tensors, or None."""

    source: Source
    decode: Decode
    seed: int
    device: torch.device
    held: Rows | None = None

    def batches(self, size: int, start: int, part: slice) -> Iterator[Rows]:
        """Every batch of ``size`` rows from row ``start`` of the endless order on, cut to ``part``."""
        if self.held is not None:
            for at in endless_numbers(self.source, size, self.seed, start, self.device):
                yield {name: column.index_select(0, at[part]) for name, column in self.held.items()}
            return
        with ThreadPoolExecutor(1) as ahead:  # the next batch is read and decoded while this one is learned from
            whole = endless(self.source, size, self.seed, start)
            stream = (self.decode(batch.slice(part.start, part.stop - part.start)) for batch in whole)
            coming = ahead.submit(next, stream)
            while True:
                rows = coming.result()
                coming = ahead.submit(next, stream)
                yield {name: column.to(self.device) for name, column in rows.items()}


def open_data(source: Source, decode: Decode, seed: int, device: torch.device, *, hold: bool | None = None) -> Data:
    """The rows of a training source, held on the device as one tensor per column where they fit, or as told."""
    if hold is None:
        first = decode(next(source.batches(size=64)))
        row = sum(column[:1].nbytes for column in first.values())
        hold = row * (source.rows or 0) * _SHARE <= free_bytes(device)
    if not hold:
        return Data(source, decode, seed, device)
    pieces = [decode(batch) for batch in source.batches(size=_PIECE)]
    columns = {name: torch.cat([piece[name] for piece in pieces]).to(device) for name in pieces[0]}
    return Data(source, decode, seed, device, columns)


def endless(source: Source, size: int, seed: int, start: int) -> Iterator[Batch]:
    """Batches of exactly ``size`` rows of the source, epoch after epoch, from row ``start`` of the whole order on."""
    epoch, skip = divmod(start, source.rows or 1)
    left: list[Batch] = []
    while True:
        for batch in source.batches(size=size, shuffle=epoch_seed(seed, epoch), start=skip):
            left.append(batch)
            while sum(piece.num_rows for piece in left) >= size:
                whole = single_batch(pa.Table.from_batches(left)) if len(left) > 1 else left[0]
                yield whole.slice(0, size)
                left = [whole.slice(size)] if whole.num_rows > size else []
        epoch, skip = epoch + 1, 0


def endless_numbers(source: Source, size: int, seed: int, start: int, device: torch.device) -> Iterator[Tensor]:
    """The numbers of the rows that ``endless`` yields: int64 [size] each."""
    epoch, skip = divmod(start, source.rows or 1)
    left = torch.empty(0, dtype=torch.int64, device=device)
    while True:
        left = torch.cat([left, torch.from_numpy(source.order(epoch_seed(seed, epoch))[skip:]).to(device)])
        whole = len(left) - len(left) % size
        yield from left[:whole].view(-1, size)
        left = left[whole:]
        epoch, skip = epoch + 1, 0


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order."""
    low, high = bits(np.array([seed], np.uint64), 2, stream=Stream.SHUFFLE, step=_EPOCHS + epoch)[0].tolist()
    return int(high << 32 | low)
