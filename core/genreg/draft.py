'''Draft and Model: the contract that every family fulfills.

A generative model is a learned prior and a transform: draw from the prior, transform the draw into a sample.
So a model is two operations, with nothing to inherit from, and what passes between them is a draft:

>>> import numpy as np, pyarrow as pa
>>> from genreg import Batch, Draft, Model, Seeds
>>> from genreg.random import Stream, normal
>>> class Line:
...     """y = 2 z + 1, z ~ N(0, 1)."""
...
...     def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
...         z = normal(seeds, (1,), stream=Stream.PRIOR)
...         return Draft(z, seeds, axes=("latent",), center=np.zeros(1))
...
...     def render(self, draft: Draft, /) -> Batch:
...         return pa.RecordBatch.from_arrays([pa.array(2 * draft.values[:, 0] + 1)], names=["y"])
>>> model: Model = Line()
>>> seeds = np.arange(3, dtype=np.uint64)
>>> model.render(model.propose(seeds, pa.RecordBatch.from_pydict({}))).num_rows
3
'''

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array: TypeAlias = npt.NDArray[Any]
Seeds: TypeAlias = npt.NDArray[np.uint64]
Batch: TypeAlias = pa.RecordBatch


@dataclass(frozen=True, eq=False)
class Draft:
    """What has been decided about each of n samples so far; samplers edit ``values`` and nothing else."""

    values: Array  # [n, *axes], axes named below
    seeds: Seeds  # uint64 [n]: drives whatever chance render still has to take
    axes: tuple[str, ...] = ()  # ("latent",), ("layer", "channel"), ("time",)
    center: Array | None = None  # [n, *axes], the prior mean (broadcast_to is enough); None: rows cannot be averaged
    levels: int | None = None  # discrete values lie in range(levels)
    lengths: Array | None = None  # int64 [n]: valid steps of the first axis; padding beyond
    context: Mapping[str, Array] = field(default_factory=dict)  # [n, ...] each: rides along, never edited
    rows: Array | None = None  # int64 [n], set by the core: the row of given that each came from; -1: none

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def given_rows(self) -> Array:
        """``rows``, or -1 for each sample where the core has not set them: int64 [n]."""
        return np.full(len(self), -1) if self.rows is None else self.rows

    def take(self, at: slice | Array) -> Draft:
        """The rows at ``at`` (a slice or indices [m]), every field alike."""

        shared = self.center is None or self.center.ndim < self.values.ndim  # a center without rows fits every row
        return replace(
            self,
            values=self.values[at],
            seeds=self.seeds[at],
            center=self.center if self.center is None or shared else self.center[at],
            lengths=None if self.lengths is None else self.lengths[at],
            context={name: array[at] for name, array in self.context.items()},
            rows=None if self.rows is None else self.rows[at],
        )


class Model(Protocol):
    """The two operations; further abilities are further methods, found by the protocols below."""

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """Draw from the prior, conditioned on ``given``: one row per seed, null where nothing is given."""
        ...

    def render(self, draft: Draft, /) -> Batch:
        """Transform the draft into samples: one row out per row in, in the family's declared columns."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A model that knows how probable a row is."""

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        """log p of the model's own columns: float64 [n], in nats; nulls are summed or integrated out."""
        ...


@runtime_checkable
class Inferring(Protocol):
    """A model that knows the posterior over what its drafts hold."""

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        """Label and probabilities, a state path, or latents: one row per row."""
        ...


@dataclass(frozen=True)
class Piece:
    """A part of a row on its way, for people to watch: tokens, a partial image."""

    row: int
    text: str


@dataclass(frozen=True)
class Done:
    """A finished row of a stream; ``row`` counts over all drafts, ``columns`` holds the cells it has."""

    row: int
    columns: Mapping[str, Any]
    outcome: str = "ok"  # ok, length, refused, filtered, truncated, failed, unknown


@runtime_checkable
class Streaming(Protocol):
    """A model whose rows finish in any order (remote APIs)."""

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Piece | Done]:
        """Render all drafts, pulling them as there is room; ``folder`` keeps the family's journal.

        A run that goes on hands over the rows alone that are not kept yet, and ``Done.row`` counts over those: so the
        journal must key each answer by its seed and by all that was asked, never by the row's number.
        """
        ...


@dataclass(frozen=True)
class Account:
    """What a run has used: ``facts`` are kept in its recipe, ``lines`` are told to people at its end."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@runtime_checkable
class Accounting(Protocol):
    """A model whose samples cost something."""

    def account(self, folder: Path, /) -> Account:
        """What the journal in ``folder`` adds up to, failed attempts and earlier runs included."""
        ...


@runtime_checkable
class Planning(Protocol):
    """A model that can say what a run would take."""

    def plan(self, drafts: Iterator[Draft], /) -> Mapping[str, str]:
        """What ``--dry-run`` adds: tokens, price, host; parameters, memory."""
        ...


@runtime_checkable
class Describing(Protocol):
    """A model whose insides people can read."""

    def describe(self) -> str:
        """What ``genreg show`` adds: lines of text, such as a state graph."""
        ...


@runtime_checkable
class Drawing(Protocol):
    """A model whose insides can be drawn."""

    def draw(self, kind: Literal["svg", "png"], /) -> bytes:
        """What ``genreg show -o`` writes: the picture as a file's bytes."""
        ...
