"""The toys, and toys that are wrong in one way each: the check of that name fails on them, and no other one.

This module is a plugin: its hook returns the right and the wrong ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.checkpoint import Weights
from genreg.data import with_column
from genreg.draft import Array, Batch, Done, Draft, Seeds
from genreg.hooks import hookimpl
from genreg.specs import ModelFamily, Settings

from . import toys
from .toys import FAMILIES, Nothing

SYSTEM = random.SystemRandom()  # another number each time, whatever the seed
WRONG: dict[str, ModelFamily] = {}  # by "check: what is wrong"


def wrong(check: str, what: str, base: str) -> Any:
    """Register a family whose model is made of the right one's by the function decorated."""

    def register(make: Any) -> Any:
        right = FAMILIES[base]
        name = f"{base}-{what.replace(' ', '-')}"
        WRONG[f"{check}: {what}"] = replace(right, name=name, load=lambda *arguments: make(right.load(*arguments)))
        return make

    return register


@dataclass(frozen=True, eq=False)
class Around:
    """A right model, of which one operation is changed."""

    right: Any

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        return self.right.propose(seeds, given)

    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(draft)


class Undescribed(Settings, frozen=True):
    """A knob that nobody explains."""

    knob: int = 1


WRONG["knobs: undescribed option"] = replace(FAMILIES["weather"], name="weather-undescribed", options=Undescribed)
WRONG["knobs: condition without help"] = replace(
    FAMILIES["weather"],
    name="weather-helpless",
    conditions=lambda config: [replace(one, help="") for one in toys.weather_conditions(config)],
)


@wrong("same-seed", "a seed of its own", "weather")
class OwnSeed(Around):
    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(replace(draft, seeds=np.array([SYSTEM.getrandbits(64) for _ in draft.seeds], "u8")))


@wrong("seeds-matter", "the same seed for all", "petals")
class OneSeed(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        return replace(self.right.propose(np.zeros_like(seeds), given), seeds=seeds)

    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(replace(draft, seeds=np.zeros_like(draft.seeds)))


@wrong("batch-invariance", "batch statistics", "petals")
class BatchStatistics(Around):
    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(replace(draft, values=draft.values - draft.values.mean(0)))


@wrong("window-invariance", "place in the window", "petals")
class PlaceInWindow(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        draft = self.right.propose(seeds, given)
        return replace(draft, values=draft.values + 0.01 * np.arange(len(seeds))[:, None, None])


@dataclass(frozen=True, eq=False)
class OtherDraft(Around):
    """A draft that says something else than it is; it is put right before it is rendered."""

    change: Any = None

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        return replace(draft := self.right.propose(seeds, given), **self.change(draft))

    def render(self, draft: Draft, /) -> Batch:
        lengths = None if draft.lengths is None else np.minimum(draft.lengths, draft.values.shape[1])
        return self.right.render(replace(draft, lengths=lengths))


for what, base, change in [
    ("an axis without a name", "petals", lambda draft: {"axes": ("layer",)}),
    ("a center of another shape", "petals", lambda draft: {"center": draft.values[:, 0].copy()}),
    ("a value beyond the levels", "weather", lambda draft: {"levels": 1}),
    ("levels and a center", "weather", lambda draft: {"center": np.zeros(len(draft))}),
    ("a length beyond the axis", "melody", lambda draft: {"lengths": draft.lengths + 5}),
]:
    wrong("honest-draft", what, base)(lambda right, change=change: OtherDraft(right, change))


@wrong("honest-draft", "values that nobody looks at", "petals")
class Blind(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        draft = self.right.propose(seeds, given)
        return replace(draft, context={**draft.context, "styles": draft.values})

    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(replace(draft, values=draft.context["styles"]))


@wrong("honest-draft", "values written into", "petals")
class Writing(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        draft = self.right.propose(seeds, given)
        return replace(draft, values=draft.values.copy())

    def render(self, draft: Draft, /) -> Batch:
        rendered = self.right.render(draft)
        draft.values[:] = 0
        return rendered


@wrong("declared-schema", "a column too many", "weather")
class ColumnTooMany(Around):
    def render(self, draft: Draft, /) -> Batch:
        return with_column(self.right.render(draft), pa.field("extra", pa.int64()), pa.array([1] * len(draft)))


@wrong("given-bit-equal", "another length than given", "melody")
class AnotherLength(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        self.right.propose(seeds, given)  # what is wrong is refused
        return self.right.propose(
            seeds, given.set_column(1, given.schema.field(1), pa.nulls(len(seeds), given[1].type))
        )


def load_elsewhere(config: toys.SlopeConfig, options: Nothing, weights: Weights | None) -> toys.Slope:
    """Something that is neither in the config nor in the tensors: the name of the folder."""
    right = toys.load_slope(config, options, weights)
    return replace(right, mean=right.mean + len(weights.path.parent.name) if weights else right.mean)


WRONG["save-and-load: the name of the folder"] = replace(FAMILIES["slope"], name="slope-elsewhere", load=load_elsewhere)


@dataclass(frozen=True, eq=False)
class Forgetful:
    """A remote model that ignores seeds, and keeps no journal."""

    right: toys.Oracle

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        return self.right.propose(seeds, given)

    def render(self, draft: Draft, /) -> Batch:
        return self.right.render(draft)

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Done]:
        for request in toys.requests(drafts):
            yield Done(request.row, {"text": str(SYSTEM.random())})


WRONG["stream: no journal"] = replace(
    FAMILIES["oracle"],
    name="oracle-forgetful",
    repeatable=False,
    load=lambda *arguments: Forgetful(FAMILIES["oracle"].load(*arguments)),
)


@dataclass(frozen=True, eq=False)
class Scored(Around):
    """A model whose knowledge is wrong."""

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        return self.right.log_prob(batch, seeds)

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        return self.right.infer(batch, seeds)


@wrong("log-prob", "minus infinity", "weather")
class Impossible(Scored):
    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        scores = self.right.log_prob(batch, seeds)
        return scores if batch.column("temperature").null_count else np.full_like(scores, -np.inf)


@wrong("log-prob", "a column of scores", "weather")
class ColumnOfScores(Scored):
    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        return self.right.log_prob(batch, seeds)[:, None]


@wrong("log-prob-sum", "not normalized", "weather")
class NotNormalized(Scored):
    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        return self.right.log_prob(batch, seeds) + 0.01


@wrong("infer", "a row too few", "weather")
class RowTooFew(Scored):
    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        return self.right.infer(batch, seeds).slice(1)


@wrong("infer", "chance of its own", "weather")
class OwnChance(Scored):
    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        return pa.RecordBatch.from_pydict({"p": [SYSTEM.random() for _ in seeds]})


@wrong("wrong-input", "an error of its own", "petals")
class OwnError(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        if (toys.codes(given, "label") >= len(toys.FLOWERS)).any():
            raise KeyError("label")
        return self.right.propose(seeds, given)


@wrong("wrong-input", "anything goes", "petals")
class AnythingGoes(Around):
    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        label = np.minimum(toys.codes(given, "label"), len(toys.FLOWERS) - 1)
        codes = pa.array(label, pa.int32(), mask=label < 0)
        return self.right.propose(seeds, with_column(given, given.schema.field("label"), codes))


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The right toys and the wrong ones."""
    return [*FAMILIES.values(), *WRONG.values()]
