"""given → apply → propose → sampler* → render → undo → round → overlay given: streamed, in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genreg.data import empty_batch
from genreg.draft import Batch, Draft, Model, Seeds, Streaming
from genreg.errors import PluginError, Unsupported
from genreg.form import Form
from genreg.specs import Sampler
from genreg.stream import Watch, in_order

LARGEST_WHOLE = 65_536  # rows that a sampler may see at once
WINDOW = 4096  # rows proposed at a time where no sampler sees the whole draft


def generate(
    model: Model,
    form: Form,
    seeds: Seeds,
    given: Batch,
    samplers: Sequence[tuple[Sampler, Mapping[str, Any]]] = (),
    *,
    batch: int = 1024,
    window: int = WINDOW,
    folder: Path = Path(),
    watch: Watch | None = None,
) -> Iterator[Batch]:
    """Samples in the user's form, at most ``batch`` rows at a time, every batch of ``form.samples()``'s schema.

    ``given`` has one row per seed in the user's units. One seed is one sample, whatever ``batch`` and ``window`` are.
    A model that streams keeps its journal in ``folder``; its rows come in order, with their outcome, and ``watch`` sees
    their pieces. Raises Unsupported where a sampler refuses the draft, or would have to see more than 65,536 rows.
    """
    if not len(seeds):
        yield empty_batch(form.samples(streams=isinstance(model, Streaming)))
        return
    drafts = propose(model, form, seeds, given, samplers, window=window)
    yield from rendered(model, form, drafts, given, batch=batch, folder=folder, watch=watch)


def rendered(
    model: Model,
    form: Form,
    drafts: Iterator[Draft],
    given: Batch,
    *,
    batch: int,
    folder: Path = Path(),
    watch: Watch | None = None,
) -> Iterator[Batch]:
    """Drafts, whose ``rows`` count over ``given``, as samples in the user's form, at most ``batch`` rows at a time."""
    if isinstance(model, Streaming):
        yield from in_order(model, form, drafts, given, batch, folder, watch)
        return
    for draft in drafts:
        for start in range(0, len(draft), batch):
            part = draft.take(slice(start, start + batch))
            made = model.render(part)
            if made.num_rows != len(part):
                raise PluginError(f"render made {made.num_rows} rows of a draft of {len(part)}")
            yield form.out_of_model(made, given, part.given_rows)


def propose(
    model: Model,
    form: Form,
    seeds: Seeds,
    given: Batch,
    samplers: Sequence[tuple[Sampler, Mapping[str, Any]]] = (),
    *,
    window: int = WINDOW,
) -> Iterator[Draft]:
    """Drafts as the samplers leave them, window by window; ``rows`` says which row of given each came from."""
    whole = sees_all(samplers)
    if whole and len(seeds) > LARGEST_WHOLE:
        raise Unsupported(
            f"{whole} looks at all samples at once, and takes at most {LARGEST_WHOLE:,}, not {len(seeds):,}"
        )
    step = len(seeds) if whole else window
    for start in range(0, len(seeds), step):
        chunk = seeds[start : start + step]
        draft = model.propose(chunk, form.into_model(given.slice(start, len(chunk))))
        if len(draft.values) != len(chunk) or not np.array_equal(draft.seeds, chunk):
            raise PluginError(f"propose made {len(draft.values)} rows for {len(chunk)} seeds, or changed the seeds")
        draft = replace(draft, rows=np.arange(start, start + len(chunk)))
        for sampler, knobs in samplers:
            draft = sampler.edit(draft, **knobs)
        yield draft


def sees_all(samplers: Sequence[tuple[Sampler, Mapping[str, Any]]]) -> str | None:
    """The name of the first sampler that sees the whole draft."""
    return next((sampler.name for sampler, _ in samplers if sampler.scope == "all"), None)
