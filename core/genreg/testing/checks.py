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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import checkpoint as checkpoints
from genreg.api import LoadedModel, load
from genreg.data import conform, notes
from genreg.draft import Batch, Draft, Inferring, Scoring, Streaming
from genreg.entrypoints import package_folder
from genreg.errors import GenregError, UsageError
from genreg.form import given_names
from genreg.generate import generate, propose
from genreg.given import Given
from genreg.offers import offers, with_offers
from genreg.options import MISSING, of_model
from genreg.registry import core_file

HEAVY = ("torch", "openai", "huggingface_hub", "transformers", "sklearn", "scipy", "pandas", "rich", "lightning_fabric")
ROWS = 12  # samples a check draws
FEW = 3  # of a model that streams, whose samples may cost money
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

    What the model's registry entry says under ``check: expected_failures:`` is expected too. Raises UsageError where
    that names no check. An expected failure that passes is a failure of its own.
    """
    reasons = expected_failures(model, expected)
    return [run_check(check, model, reasons.get(check.name)) for check in CHECKS]


def expected_failures(model: LoadedModel, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The failures that the model's registry entry declares, and ``more``; raises UsageError for one of no check."""
    reasons = {**_declared(model, "expected_failures"), **(more or {})}
    unknown = reasons.keys() - {check.name for check in CHECKS}
    if unknown:
        raise UsageError(f"expected failures name no check: {', '.join(sorted(unknown))}")
    return reasons


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
    failure = _imported(package, tuple(sys.path))
    if failure:
        raise Failed(failure)


@cache
def _imported(package: str, path: tuple[str, ...]) -> str:
    """What is wrong with importing the package; empty where nothing is."""
    heavy_modules = f"json.dumps(sorted({set(HEAVY)!r} & sys.modules.keys()))"
    code = f"import sys, json; sys.path[:] = {list(path)!r}; import {package}; print({heavy_modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"importing {package} fails: {done.stderr.strip().splitlines()[-1]}"
    *printed, found = done.stdout.splitlines()
    heavy = json.loads(found)
    if heavy or printed:
        return f"importing {package} {'imports ' + ', '.join(heavy) if heavy else 'prints ' + printed[0]}"
    return ""


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
    _declared_repeatable(model)
    _equal(_rows(model), _rows(model), 0.0, "the same seeds give other samples")


def seeds_matter(model: LoadedModel) -> None:
    """Draw a dozen seeds, and look for a difference."""
    if isinstance(model.model, Streaming):
        raise Skipped("what a remote model makes of a seed is its own affair")
    rows = _rows(model).to_pylist()
    if all(row == rows[0] for row in rows):
        raise Failed(f"{len(rows)} seeds give one and the same sample")


def batch_invariance(model: LoadedModel) -> None:
    """Render in one batch, and in batches of 1 and of 5."""
    _repeatable(model)
    whole = _rows(model)
    for size in (1, 5):
        _equal(whole, _rows(model, batch=size), model.family.tolerance, f"batches of {size} give other samples")


def window_invariance(model: LoadedModel) -> None:
    """Propose for all seeds at once, in windows of 1 and of 5, and for the last seed alone."""
    _repeatable(model)
    (whole,) = _drafts(model)
    for size in (1, 5):
        for draft in _drafts(model, window=size):
            assert draft.rows is not None
            _same_draft(whole.take(draft.rows), draft, model.family.tolerance, f"windows of {size}")
    last = np.array([len(whole) - 1])
    (alone,) = _drafts(model, rows=last)
    _same_draft(whole.take(last), alone, model.family.tolerance, "a seed alone")


def _same_draft(one: Draft, two: Draft, tolerance: float, what: str) -> None:
    pairs = {"values": (_cut(one, one.values), _cut(two, two.values)), "lengths": (one.lengths, two.lengths)}
    pairs |= {
        f"context {name}": (_cut(one, array), _cut(two, two.context.get(name))) for name, array in one.context.items()
    }
    for name, (a, b) in pairs.items():
        if (a is None) != (b is None) or (a is not None and b is not None and not _near(a, b, tolerance)):
            raise Failed(f"{what} gives other drafts ({name})")


def _cut(draft: Draft, array: Any) -> Any:
    """The array without what lies beyond the draft's lengths: padding may follow the longest sample of a window."""
    if draft.lengths is None or array is None or array.ndim < 2:
        return array
    steps = int(np.max(draft.lengths, initial=0))
    there = (np.arange(steps) < np.asarray(draft.lengths)[:, None]).reshape(-1, steps, *[1] * (array.ndim - 2))
    return np.where(there, array[:, :steps], np.zeros((), array.dtype)) if array.shape[1] >= steps else array


def _near(a: Any, b: Any, tolerance: float) -> bool:
    if np.shape(a) != np.shape(b):
        return False
    if tolerance and np.issubdtype(np.asarray(a).dtype, np.floating):
        return bool(np.allclose(a, b, rtol=0, atol=tolerance * max(float(np.abs(a).max(initial=0)), 1.0)))
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"))


def honest_draft(model: LoadedModel) -> None:
    """Look at the draft's shapes, center, levels and lengths, and whether render looks at its values."""
    (draft,) = _drafts(model)
    shape, rows = np.shape(draft.values), len(draft)
    if len(draft.axes) != len(shape) - 1:
        raise Failed(f"the draft's values have the shape {shape}, and its axes are {draft.axes}")
    for name, array in draft.context.items():
        if len(array) != rows:
            raise Failed(f"the context {name} of a draft of {rows} seeds has {len(array)} rows")
    if draft.center is not None and np.shape(draft.center) not in (shape, shape[1:]):
        raise Failed(f"the center has the shape {np.shape(draft.center)}, and the values {shape}")
    if draft.center is not None and draft.levels is not None:
        raise Failed("the draft has levels, which cannot be averaged, and a center, which says that they can")
    if draft.levels is not None and not ((draft.values >= 0) & (draft.values < draft.levels)).all():
        raise Failed(f"the draft has values outside its {draft.levels} levels")
    if draft.lengths is not None and not ((draft.lengths >= 0) & (draft.lengths <= shape[1])).all():
        raise Failed("the draft has lengths beyond its first axis")
    if not isinstance(model.model, Streaming):
        _render_looks_at_values(model, draft)


def _render_looks_at_values(model: LoadedModel, draft: Draft) -> None:
    """Give each row another row's values: some sample must change, and the draft must not."""
    _repeatable(model)
    other = replace(draft, values=draft.values[::-1].copy())
    if draft.lengths is not None:
        other = replace(other, lengths=draft.lengths[::-1])
    before = draft.values.copy()
    rendered = model.model.render(draft)
    if not _near(before, draft.values, 0.0):
        raise Failed("render writes into the values of the draft")
    if not _near(before, other.values, 0.0):
        with suppress(GenregError):  # the model may say that values and context do not fit
            if model.model.render(other).equals(rendered):
                raise Failed("render does not look at the values of the draft, so that no sampler has an effect")


def declared_schema(model: LoadedModel) -> None:
    """Compare what render returns with what the family declares, and what no samples look like."""
    if not isinstance(model.model, Streaming):
        (draft,) = _drafts(model)
        rendered = model.model.render(draft)
        if rendered.schema.names != model.form.columns.names or rendered.num_rows != len(draft):
            raise Failed(f"render returns {rendered.schema.names}, and the family declares {model.form.columns.names}")
    expected = model.form.samples(streams=isinstance(model.model, Streaming))
    if not model.sample(0, seed=0).table.schema.equals(expected):
        raise Failed("no samples have another schema than the one declared")


def given_bit_equal(model: LoadedModel) -> None:
    """Give each column's own generated cells back, and find them again."""
    columns = [str(c.column) for c in model.form.conditions if c.column in model.form.schema.names]
    if not columns:
        raise Skipped("no condition is a column of the data")
    _repeatable(model)
    source = _rows(model)
    for name in columns:
        others = {key: value for key, value in _declared(model, "given").items() if key != name}
        prepared = model.prepare(model.given(source.select([name]), others), 1, seed=1000)
        again = _generated(model, prepared)
        there = source.column(name).is_valid()
        if not again.column(name).filter(there).equals(source.column(name).filter(there)):
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
        again = replace(load(copy, options=model.options), entry=model.entry)
        _equal(_rows(model), _rows(again), model.family.tolerance, "the checkpoint written again gives other samples")


def stream(model: LoadedModel) -> None:
    """Run twice in one folder: every row is finished once, and what the journal has is not made anew."""
    if not isinstance(model.model, Streaming):
        raise Skipped("the family does not stream")
    prepared = _prepared(model)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_generated(model, prepared, folder=Path(folder)) for _ in range(2))
    if not first.equals(second):
        raise Failed("a second run in the same folder makes other rows than those that were finished")


# ---- what a model knows ----


def log_prob(model: LoadedModel) -> None:
    """Score own samples."""
    if not isinstance(model.model, Scoring):
        raise Skipped("the family has no log_prob")
    batch, seeds = _own(model)
    scores = model.form.log_prob(model.model, batch, seeds)
    if scores.shape != (batch.num_rows,) or not np.isfinite(scores).all():
        raise Failed(f"log_prob of own samples is not finite, or not [{batch.num_rows}]: {scores}")


def log_prob_sum(model: LoadedModel) -> None:
    """Sum the probabilities of all combinations of categories, where what is not a category is null."""
    if not isinstance(model.model, Scoring):
        raise Skipped("the family has no log_prob")
    every = _every_row(model)
    if every is None:
        raise Skipped("there is no column of categories, or there are too many combinations")
    try:
        scores = np.asarray(model.model.log_prob(every, np.arange(every.num_rows, dtype=np.uint64)), np.float64)
    except GenregError as error:
        raise Skipped(f"a row of categories alone is refused: {error}") from None
    if np.isnan(scores).any():
        raise Skipped("log_prob is not a number, see log-prob")
    total = float(np.exp(scores.reshape(every.num_rows, -1)[:, 0]).sum())
    if abs(total - 1) > 1e-6:
        raise Failed(f"the probabilities of all {every.num_rows} combinations sum to {total}")


def infer(model: LoadedModel) -> None:
    """Infer from own samples, twice."""
    if not isinstance(model.model, Inferring):
        raise Skipped("the family has no infer")
    batch, seeds = _own(model)
    mapped = conform(model.form.chain.apply(batch), model.form.columns)
    found = model.model.infer(mapped, seeds)
    if found.num_rows != batch.num_rows:
        raise Failed(f"infer makes {found.num_rows} rows of {batch.num_rows}")
    if model.family.repeatable and not model.model.infer(mapped, seeds).equals(found):
        raise Failed("infer says something else the second time")


# ---- what is refused ----


def wrong_input(model: LoadedModel) -> None:
    """Ask for what is not there, and give each condition values of a wrong type, outside its values, and odd ones."""
    _answer("an unknown condition", lambda: _try(model, {"no such condition": 1}))
    _answer("an unknown sampler", lambda: model.samplers(["nosuchsampler"]))
    _answer("an unknown option", lambda: load(model.name, options={"no_such_option": 1}))
    for field, condition in zip(model.form.given, model.form.conditions, strict=True):
        for value in _wrong_values(model, field, condition.column):
            _answer(f"{value!r} for the condition {field.name}", lambda n=field.name, v=value: _try(model, {n: v}))  # type: ignore[misc]
        for value in _odd_values(field.type):
            what = f"{value!r} for the condition {field.name}"
            _answer(what, lambda n=field.name, v=value: _try(model, {n: v}), taken=True)  # type: ignore[misc]


def _answer(what: str, attempt: Callable[[], object], *, taken: bool = False) -> None:
    """Fail where the attempt ends otherwise than in a refusal of one line, or, if it may be taken, in a result."""
    try:
        attempt()
    except GenregError as error:
        if "\n" in str(error):
            raise Failed(f"the refusal of {what} is more than one line") from None
        return
    except Exception as error:
        raise Failed(f"{what} raises {type(error).__name__} instead of a UsageError: {error}") from error
    if not taken:
        raise Failed(f"{what} is silently accepted")


def _try(model: LoadedModel, given: Mapping[str, Any]) -> None:
    """Draw two samples; of a model that streams, propose them and send nothing."""
    prepared = model.prepare(model.given(None, {**_declared(model, "given"), **given}), 2, seed=0)
    if isinstance(model.model, Streaming):
        next(propose(model.model, model.form, prepared.seeds, prepared.window(0, 2).batch))
    else:
        _generated(model, prepared)


def _wrong_values(model: LoadedModel, field: pa.Field[Any], column: str | None) -> list[Any]:
    """Values that must be refused: text for a number, and what is none of the values of a category."""
    kind = field.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    wrong: list[Any] = ["text"] if numeric else []
    values = notes(model.form.columns.field(column)).get("values") if column in model.form.columns.names else None
    if values and pa.types.is_integer(kind):
        own = [value for value in values if isinstance(value, int)]
        wrong.append(max(own) + 1 if own else len(values))
    elif values and pa.types.is_string(kind):
        wrong.append("".join(values) + "?")
    return wrong


def _odd_values(kind: pa.DataType) -> list[Any]:
    """Values of the right type that a model may take or refuse, and must not stumble over."""
    if pa.types.is_floating(kind):
        return [0.0, -1.0]
    if pa.types.is_signed_integer(kind):
        return [0, -1]
    if pa.types.is_string(kind):
        return ["", "花\0"]
    if pa.types.is_binary(kind):
        return [b"", b"no picture"]
    if pa.types.is_list(kind):
        return [[], [None], *([value] for value in _odd_values(kind.value_type))]
    return []


# ---- what the checks share ----


def _declared(model: LoadedModel, what: str) -> dict[str, Any]:
    """What the model's registry entry says under ``check:``."""
    return dict(model.entry.check.get(what, {})) if model.entry else {}


def _declared_repeatable(model: LoadedModel) -> None:
    if not model.family.repeatable:
        raise Skipped("the family says that the same seed may not give the same sample")


def _repeatable(model: LoadedModel) -> None:
    _declared_repeatable(model)
    if not _steady(model):
        raise Skipped("the same seed gives other samples, see same-seed")


@lru_cache(maxsize=4)
def _steady(model: LoadedModel) -> bool:
    one, two = _rows(model), _rows(model)
    return bool(one.equals(two)) or repr(one.to_pylist()) == repr(two.to_pylist())  # NaN too


def _prepared(model: LoadedModel) -> Given:
    rows = FEW if isinstance(model.model, Streaming) else ROWS
    return model.prepare(model.given(None, _declared(model, "given")), rows, seed=0)


def _rows(model: LoadedModel, batch: int | None = None) -> pa.Table:
    return _generated(model, _prepared(model), batch=batch)


def _generated(
    model: LoadedModel, prepared: Given, *, batch: int | None = None, folder: Path | None = None
) -> pa.Table:
    with tempfile.TemporaryDirectory() as own:
        rows, size, kept = prepared.window(0, len(prepared.seeds)), batch or model.family.batch, folder or Path(own)
        made = generate(model.model, model.form, rows.seeds, rows.batch, batch=size, folder=kept)
        return pa.Table.from_batches(list(made))


def _drafts(model: LoadedModel, *, window: int | None = None, rows: Any = None) -> list[Draft]:
    prepared = _prepared(model)
    seeds, given = prepared.seeds, prepared.window(0, len(prepared.seeds)).batch
    if rows is not None:
        seeds, given = seeds[rows], given.slice(int(rows[0]), len(rows))
    return list(propose(model.model, model.form, seeds, given, window=window or len(seeds)))


def _own(model: LoadedModel) -> tuple[Batch, Any]:
    """Samples of the model's own, in the data's units, and a seed for each."""
    rows = _rows(model).select(model.form.schema.names).combine_chunks()
    return rows.to_batches()[0], np.arange(rows.num_rows, dtype=np.uint64)


def _every_row(model: LoadedModel) -> Batch | None:
    """All combinations of the columns that are categories, in the model's codes, and null in the others."""
    values = {field.name: notes(field).get("values") for field in model.form.columns}
    sizes = {name: len(own) for name, own in values.items() if own}
    if not sizes or np.prod(list(map(float, sizes.values()))) > MOST_OUTCOMES:
        return None
    rows = list(itertools.product(*map(range, sizes.values())))
    codes = dict(zip(sizes, zip(*rows, strict=True), strict=True))
    columns: Sequence[Any] = [
        pa.array(codes[field.name], field.type) if field.name in codes else pa.nulls(len(rows), field.type)
        for field in model.form.columns
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
        allowed = 1.0 if whole and tolerance else tolerance * max(float(np.nanmax(np.abs(x))), 1.0)
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
        "seeds-matter", "different seeds give different samples",
        "draw from genreg.random with each row's own seed", seeds_matter,
    ),
    Check(
        "batch-invariance", "a sample does not depend on the rows rendered beside it",
        "keep rows apart (no batch statistics); state the tolerance of what follows matrix products", batch_invariance,
    ),
    Check(
        "window-invariance", "a draft does not depend on the seeds proposed beside it",
        "let every draw follow from the row's seed, never from its place in the window", window_invariance,
    ),
    Check(
        "honest-draft", "the draft's axes, center, levels and lengths describe its values, and render looks at them",
        "name one axis per dimension after the first; keep in values what samplers may edit", honest_draft,
    ),
    Check(
        "declared-schema", "render returns the declared columns, and no samples have the same schema",
        "make columns(config) and render agree in names, and return one row per row", declared_schema,
    ),
    Check(
        "given-bit-equal", "given cells come back as they were",
        "name the data column in Condition(column=...) and make lists as long as those given", given_bit_equal,
    ),
    Check(
        "save-and-load", "a checkpoint that is written again gives the same samples",
        "keep all that load needs in config and tensors", save_and_load,
    ),
    Check(
        "stream", "every row of a stream is finished once, and a second run in its folder makes the same rows",
        "write each finished row into a journal in folder, and look there before asking again", stream,
    ),
    Check(
        "log-prob", "log_prob is finite on own samples",
        "return float64 [n] in nats, of the model's own columns, summed or integrated over what is null", log_prob,
    ),
    Check(
        "log-prob-sum", "the probabilities of all combinations of categories sum to 1",
        "normalize; sum or integrate over what is null", log_prob_sum,
    ),
    Check(
        "infer", "infer returns one row per row, the same each time",
        "draw whatever chance it takes from the seeds it is handed", infer,
    ),
    Check(
        "wrong-input", "what is asked wrong is refused in one line",
        "raise genreg.UsageError with what was asked, why not, and what would work", wrong_input,
    ),
]  # fmt: skip
