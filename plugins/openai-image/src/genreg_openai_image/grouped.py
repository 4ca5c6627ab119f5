"""Rows that ask the same share requests: several pictures of one prompt cost its tokens, and its waiting, once.

Which rows go together must not change when a run goes on without the rows that are kept, or their request would have
another key and be paid for again. So the seeds of each request of several pictures are noted before it is sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

Ask = TypeVar("Ask")

NAME = "groups.jsonl"


@dataclass(frozen=True)
class Row(Generic[Ask]):
    """A row of the run: its seed, what is asked, and a digest of that."""

    row: int
    seed: int
    digest: str
    ask: Ask


@dataclass
class Group(Generic[Ask]):
    """Rows that one request answers: picture k is that of ``seeds[k]``, whether or not that row is wanted now."""

    digest: str
    ask: Ask
    seeds: tuple[int, ...] = ()
    rows: list[tuple[int, int]] = field(default_factory=list)  # a row of the run, and which picture is its own
    fixed: bool = False  # its seeds were noted by an earlier run: it takes no others in

    def place(self, seed: int, noted: tuple[int, ...] | None, most: int) -> int | None:
        """Which picture is that of a row that asks the same; None where the row belongs into another group.

        ``noted`` are the seeds of the row's group in an earlier run. A new seed is taken in, up to ``most`` of them.
        """
        if self.fixed:
            return self.seeds.index(seed) if noted == self.seeds else None
        if noted is not None:
            return None
        if seed not in self.seeds:
            if len(self.seeds) >= most:
                return None
            self.seeds += (seed,)
        return self.seeds.index(seed)


class Noted:
    """The groups of a run, in its folder; without one they live as long as the process."""

    def __init__(self, folder: Path | None) -> None:
        self.groups: dict[tuple[str, int], tuple[int, ...]] = {}
        self._file: BinaryIO | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = self._path = folder / NAME
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            if not line.endswith(b"\n"):
                break  # torn: its request was never sent
            found = json.loads(line)
            self._keep(found["ask"], tuple(found["seeds"]))
            whole += len(line)
        self._file = path.open("r+b" if path.is_file() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def note(self, digest: str, seeds: tuple[int, ...]) -> None:
        """Write a group down, on the disk when this is back."""
        self._keep(digest, seeds)
        if self._file and len(seeds) > 1:
            self._file.write(json.dumps({"ask": digest, "seeds": seeds}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self, *, keep: bool = True) -> None:
        """Let the file go, and keep it only where something was asked in these groups."""
        if self._file:
            self._file.close()
            if not keep:
                self._path.unlink()

    def _keep(self, digest: str, seeds: tuple[int, ...]) -> None:
        if len(seeds) > 1:
            self.groups.update(((digest, seed), seeds) for seed in seeds)


def grouped(rows: Iterable[Row[Ask]], most: int, noted: Noted) -> Iterator[Group[Ask]]:
    """Rows beside each other that ask the same, at most ``most`` seeds of them together, or as they were noted."""
    group: Group[Ask] | None = None
    for row in rows:
        known = noted.groups.get((row.digest, row.seed))
        if group is not None and group.digest == row.digest:
            at = group.place(row.seed, known, most)
            if at is not None:
                group.rows.append((row.row, at))
                continue
        if group is not None:
            yield _noted(group, noted)
        seeds = known or (row.seed,)
        group = Group(row.digest, row.ask, seeds, [(row.row, seeds.index(row.seed))], fixed=known is not None)
    if group is not None:
        yield _noted(group, noted)


def _noted(group: Group[Ask], noted: Noted) -> Group[Ask]:
    """The group, written down if it is new."""
    if not group.fixed:
        noted.note(group.digest, group.seeds)
    return group
