"""The conformance kit: what the contract promises, one check per promise, for any model that is loaded.

Each check has a name, an explanation, and a way to mend it. ``run_checks`` runs them all and lets nothing stop the
others; ``pytest --genreg NAME`` and ``genreg check NAME`` are its two fronts.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import checkpoint as checkpoints
from genreg.api import LoadedModel, load
from genreg.draft import Batch, Draft, Scoring, Streaming
from genreg.entrypoints import package_folder
from genreg.errors import GenregError, UsageError
from genreg.form import given_names
from genreg.generate import propose
from genreg.offers import offers, with_offers
from genreg.options import MISSING, of_model
from genreg.registry import core_file

HEAVY = ("torch", "openai", "huggingface_hub", "transformers", "sklearn", "scipy", "pandas", "rich", "lightning_fabric")
ROWS = 12  # samples a check draws
MOST_OUTCOMES = 4096  # rows that are enumerated to see whether probabilities sum to 1


class Failed(AssertionError):
    """A promise is not kept, as the message says."""


class Skipped(Exception):
    """The check does not apply, for the reason given."""


@dataclass(frozen=True)
class Check:
    """One promise of the contract."""

    name: str
    explains: str
    mend: str
    run: Callable[[LoadedModel], None]


@dataclass(frozen=True)
class Result:
    """How one check ended; ``expected`` is a failure that the plugin declares with a reason."""

    check: Check
    status: Literal["passed", "failed", "skipped", "expected"]
    message: str = ""


def run_checks(model: LoadedModel, *, expected: Mapping[str, str] | None = None) -> list[Result]:
    """Run every check; ``expected`` maps names of checks that fail for a known reason to that reason.

    Raises UsageError where ``expected`` names no check. An expected failure that passes is a failure of its own.
    """
    reasons = dict(expected or {})
    unknown = reasons.keys() - {check.name for check in CHECKS}
    if unknown:
        raise UsageError(f"expected failures name no check: {', '.join(sorted(unknown))}")
    return [run_check(check, model, reasons.get(check.name)) for check in CHECKS]


def run_check(check: Check, model: LoadedModel, reason: str | None = None) -> Result:
    """Run one check; whatever the model raises is a failure with its message."""
    try:
        check.run(model)
    except Skipped as skip:
        return Result(check, "skipped", str(skip))
    except Exception as error:  # a model under test may raise anything
        message = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        return Result(check, "expected", f"{reason} ({message})") if reason else Result(check, "failed", message)
    if reason:
        return Result(check, "failed", f"it passes, though a failure is expected: {reason}")
    return Result(check, "passed")


# ---- what the plugin's package promises ----


def import_budget(model: LoadedModel) -> None:
    """Import the plugin in a fresh interpreter and look at what came with it."""
    package = _package(model)
    code = f"import sys, json, {package}; print(json.dumps(sorted({set(HEAVY)!r} & sys.modules.keys())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"importing {package} fails: {done.stderr.strip().splitlines()[-1]}")
    *printed, found = done.stdout.splitlines()
    heavy = json.loads(found)
    if heavy or printed:
        raise Failed(f"importing {package} {'imports ' + ', '.join(heavy) if heavy else 'prints ' + printed[0]}")


def registry_file(model: LoadedModel) -> None:
    """Compare the plugin's registry.yaml with its hooks."""
    owner = model.components.owners["families", model.family.name]
    folder = package_folder(_package(model))
    path = Path(core_file()) if owner == "genreg-core" else Path(folder or "", "registry.yaml")
    if not path.is_file():
        raise Failed(f"{owner} ships no registry.yaml beside its package")
    text = path.read_text("utf-8")
    if with_offers(text, offers(model.components, owner)) != text:
        raise Failed(f"{path.name} of {owner} says something else than its hooks")


def _package(model: LoadedModel) -> str:
    owner = model.components.owners.get(("families", model.family.name))
    point = next((status.point for status in model.components.statuses if status.point.dist == owner), None)
    if point is None:
        raise Skipped("the family is not from an installed plugin")
    return point.package


def knobs(model: LoadedModel) -> None:
    """Options and config survive JSON; every knob and condition has a type, a help text, and a default of that type."""
    config = type(model.config).model_validate(json.loads(model.config.model_dump_json()))
    if config != model.config:
        raise Failed("the config changes when it is written as JSON and read again")
    for kind, record in (("option", model.family.options), ("setting", model.family.config)):
        for option in of_model(record):
            if not option.help:
                raise Failed(f"the {kind} {option.name} has no description")
            if option.default is MISSING:
                raise Failed(f"the {kind} {option.name} has no default")
    names = given_names(model.form.conditions)
    if len(set(names)) < len(names):
        raise Failed(f"two conditions share a name: {', '.join(names)}")
    for condition in model.form.conditions:
        if not condition.help:
            raise Failed(f"the condition {condition.name} has no help text")
        if condition.column is not None and condition.column not in model.form.columns.names:
            raise Failed(f"the condition {condition.name} names {condition.column}, which is no column of the model")
        pa.scalar(condition.default, condition.type)


# ---- what a sample promises ----


def same_seed(model: LoadedModel) -> None:
    """Draw twice."""
    _repeatable(model)
    _equal(_rows(model), _rows(model), 0.0, "the same seeds give other samples")


def batch_invariance(model: LoadedModel) -> None:
    """Draw in one batch, in batches of 1 and of 5, and one seed alone."""
    _repeatable(model)
    whole = _rows(model)
    for size in (1, 5):
        _equal(whole, _rows(model, batch=size), model.family.tolerance, f"batches of {size} give other samples")
    alone = model.sample(1, seed=ROWS - 1).table
    _equal(whole.slice(ROWS - 1), alone, model.family.tolerance, "a seed alone gives another sample than among others")


def honest_draft(model: LoadedModel) -> None:
    """Look at the draft's shapes, center, levels and lengths."""
    draft = _draft(model)
    shape = np.shape(draft.values)
    if len(draft.axes) != len(shape) - 1:
        raise Failed(f"the draft's values have the shape {shape}, and its axes are {draft.axes}")
    if shape[0] != ROWS or any(len(value) != ROWS for value in draft.context.values()):
        raise Failed(f"a draft of {ROWS} seeds has values or context of another length")
    if draft.center is not None and np.shape(draft.center) not in (shape, shape[1:]):
        raise Failed(f"the center has the shape {np.shape(draft.center)}, and the values {shape}")
    if draft.levels is not None and not ((draft.values >= 0) & (draft.values < draft.levels)).all():
        raise Failed(f"the draft has values outside its {draft.levels} levels")
    if draft.lengths is not None and not ((draft.lengths >= 0) & (draft.lengths <= shape[1])).all():
        raise Failed("the draft has lengths beyond its first axis")


def declared_schema(model: LoadedModel) -> None:
    """Compare what render returns with what the family declares, and what no samples look like."""
    if not isinstance(model.model, Streaming):
        rendered = model.model.render(_draft(model))
        if rendered.schema.names != model.form.columns.names or rendered.num_rows != ROWS:
            raise Failed(f"render returns {rendered.schema.names}, and the family declares {model.form.columns.names}")
    expected = model.form.samples(streams=isinstance(model.model, Streaming))
    if not model.sample(0, seed=0).table.schema.equals(expected):
        raise Failed("no samples have another schema than the one declared")


def given_bit_equal(model: LoadedModel) -> None:
    """Give each column's own generated cells back, and find them again."""
    columns = [c.column for c in model.form.conditions if c.column in model.form.schema.names]
    if not columns:
        raise Skipped("no condition is a column of the data")
    _repeatable(model)
    source = _rows(model)
    for name in columns:
        again = model.sample(1, seed=1000, given=source.select([str(name)])).table
        if not again.column(name).equals(source.column(name)):
            raise Failed(f"given cells of the column {name} do not come back as they were")


def save_and_load(model: LoadedModel) -> None:
    """Write the checkpoint again, load it, and draw."""
    saved = model.checkpoint
    if saved is None or saved.weights is None:
        raise Skipped("the model has no checkpoint")
    _repeatable(model)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        tensors = {name: saved.weights.numpy(name) for name in saved.weights.header}
        checkpoints.save(copy, saved, tensors, "")
        again = load(copy, options=model.options)
        _equal(_rows(model), _rows(again), model.family.tolerance, "the checkpoint written again gives other samples")


def log_prob(model: LoadedModel) -> None:
    """Score own samples; where all rows can be enumerated, sum."""
    if not isinstance(model.model, Scoring):
        raise Skipped("the family has no log_prob")
    batch = pa.Table.combine_chunks(_rows(model)).to_batches()[0]
    seeds = np.arange(batch.num_rows, dtype=np.uint64)
    scores = model.form.log_prob(model.model, batch, seeds)
    if scores.shape != (batch.num_rows,) or not np.isfinite(scores).all():
        raise Failed(f"log_prob of own samples is not finite, or not [n]: {scores}")
    every = _every_row(model)
    if every is not None:
        total = float(np.exp(model.model.log_prob(every, np.zeros(every.num_rows, np.uint64))).sum())
        if abs(total - 1) > 1e-6:
            raise Failed(f"the probabilities of all rows sum to {total}")


def wrong_input(model: LoadedModel) -> None:
    """Ask for what is not there; the answer is one line that the user can act on."""
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("an unknown condition", lambda: model.sample(1, given={"no such condition": 1})),
        ("an unknown sampler", lambda: model.sample(1, samplers=["nosuchsampler"])),
        ("an unknown option", lambda: load(model.name, options={"no_such_option": 1})),
    ]
    number = next(
        (name for name, f in _given(model) if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)), None
    )
    if number:
        attempts.append((f"text for the number {number}", lambda: model.sample(1, given={number: "text"})))
    for what, attempt in attempts:
        try:
            attempt()
        except GenregError as error:
            if "\n" in str(error):
                raise Failed(f"the refusal of {what} is more than one line") from None
            continue
        except Exception as error:
            raise Failed(f"{what} raises {type(error).__name__} instead of a UsageError") from error
        raise Failed(f"{what} is silently accepted")


def _given(model: LoadedModel) -> Iterator[tuple[str, Any]]:
    return zip(model.form.given.names, model.form.given, strict=True)


def _repeatable(model: LoadedModel) -> None:
    if not model.family.repeatable:
        raise Skipped("the family says that the same seed may not give the same sample")


def _rows(model: LoadedModel, batch: int | None = None) -> pa.Table:
    return model.sample(ROWS, seed=0, batch=batch).table


def _draft(model: LoadedModel) -> Draft:
    prepared = model.prepare(model.given(None, {}), ROWS, seed=0)
    return next(propose(model.model, model.form, prepared.seeds, prepared.window(0, ROWS).batch))


def _every_row(model: LoadedModel) -> Batch | None:
    """All rows of a model whose columns are all categories, in its own codes; None where there are too many."""
    sizes: list[int] = []
    for field in model.form.columns:
        noted = json.loads((field.metadata or {}).get(b"genreg", b"{}"))
        if "values" not in noted:
            return None
        sizes.append(len(noted["values"]))
    if not sizes or np.prod(sizes) > MOST_OUTCOMES:
        return None
    rows = list(itertools.product(*map(range, sizes)))
    columns: Sequence[Any] = [
        pa.array(codes, f.type) for codes, f in zip(zip(*rows, strict=True), model.form.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=model.form.columns)


def _equal(one: pa.Table, two: pa.Table, tolerance: float, message: str) -> None:
    for name in one.schema.names:
        a, b = one.column(name), two.column(name)
        if a.combine_chunks().equals(b.combine_chunks()):
            continue
        x, y = _numbers(a), _numbers(b)
        if x is None or y is None or x.shape != y.shape:
            raise Failed(f"{message} (column {name})")
        whole = np.issubdtype(x.dtype, np.integer)
        worst = float(np.nanmax(np.abs(x.astype(np.float64) - y)))
        allowed = max(1.0, 0.0) if whole and tolerance else tolerance * max(float(np.nanmax(np.abs(x))), 1.0)
        if not worst <= allowed:
            raise Failed(f"{message} (column {name} differs by up to {worst:.3g}, and {allowed:.3g} is stated)")


def _numbers(column: Any) -> Any:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pc.fill_null(column, 0).to_numpy()
    if isinstance(kind, pa.FixedShapeTensorType):
        return column.combine_chunks().to_numpy_ndarray()
    return None


CHECKS = [
    Check(
        "import-budget", "importing the plugin imports nothing heavy and prints nothing",
        "import torch, openai and the like inside load and fit; import the model module there", import_budget,
    ),
    Check(
        "registry-file", "the plugin's registry.yaml says what its hooks offer",
        "run genreg offers DIST --write and ship the file beside __init__.py", registry_file,
    ),
    Check(
        "knobs", "options, settings and conditions are described, have defaults, and survive JSON",
        "give every Field a description and a default, every Condition a help text and an existing column", knobs,
    ),
    Check(
        "same-seed", "the same seed gives the same sample",
        "draw from genreg.random with the row's seed, never from global state; else say repeatable=False", same_seed,
    ),
    Check(
        "batch-invariance", "a sample does not depend on the rows beside it",
        "keep rows apart (no batch statistics); state the tolerance of what follows matrix products", batch_invariance,
    ),
    Check(
        "honest-draft", "the draft's axes, center, levels and lengths describe its values",
        "name one axis per dimension after the first; give center the shape of values (np.broadcast_to)", honest_draft,
    ),
    Check(
        "declared-schema", "render returns the declared columns, and no samples have the same schema",
        "make columns(config) and render agree in names, and return one row per row", declared_schema,
    ),
    Check(
        "given-bit-equal", "given cells come back as they were",
        "name the data column in Condition(column=...): the core then writes given cells over it", given_bit_equal,
    ),
    Check(
        "save-and-load", "a checkpoint that is written again gives the same samples",
        "keep all that load needs in config and tensors", save_and_load,
    ),
    Check(
        "log-prob", "log_prob is finite on own samples, and sums to 1 where it can be summed",
        "return float64 [n] in nats, of the model's own columns, summed over what is null", log_prob,
    ),
    Check(
        "wrong-input", "what is asked wrong is refused in one line",
        "raise genreg.UsageError with what was asked, why not, and what would work", wrong_input,
    ),
]  # fmt: skip
