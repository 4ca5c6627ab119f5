"""load → split → clean → fit the maps on train → apply → fit → checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genreg import checkpoint as checkpoints
from genreg.api import home
from genreg.card import model_card
from genreg.data import (
    PARTS,
    Part,
    Source,
    assign_parts,
    chosen_rows,
    named_with_role,
    noted,
    parse_split,
    refuse_not_finite,
    require_columns,
    spool,
)
from genreg.draft import Batch
from genreg.errors import DataError, Unsupported, UsageError
from genreg.loading import open_source
from genreg.options import build, jsonable, parse_call
from genreg.plugins import Components, load_plugins
from genreg.preprocess import Chain, cleaned, fit_steps
from genreg.recipe import versions
from genreg.resume import agree, digest, is_first, run_folder
from genreg.sequences import gathered
from genreg.specs import ModelFamily, Preprocessor, Report, Trained, fixed
from genreg.steps import read_calls

DISTINCT_SHARE, DISTINCT_ROWS = 0.95, 50  # text with this share of distinct values, in this many rows, is a key


@dataclass(frozen=True)
class Roles:
    """Which column plays which part; ``drop`` leaves columns out."""

    label: str | None = None
    group: str | None = None
    key: str | None = None
    drop: Sequence[str] = ()
    weight: str | None = None
    sequence_by: str | None = None  # rows are steps, and those with the same value are one sequence

    def with_noted(self, schema: pa.Schema) -> Roles:
        """The label that a loader noted (the class of an image), where none is named and it is no other role's."""
        noted = named_with_role(schema, "label")
        return self if self.label or noted in (self.group, self.key, *self.drop) else replace(self, label=noted)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything decided before the fit: what ``--dry-run`` shows."""

    family: ModelFamily
    plugin: str
    config: Any
    options: Any
    schema: pa.Schema  # of the data
    parts: Mapping[Part, Source]  # mapped
    chain: Chain
    record: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """The resolved configuration as JSON."""
        return {
            "family": self.family.name,
            "rows": {part: source.rows for part, source in self.parts.items()},
            "columns": {field.name: str(field.type) for field in self.schema},
            "maps": [step.name for step in self.chain.steps],
            "config": self.config.model_dump(mode="json"),
            **self.record,
        }

    def identity(self) -> dict[str, Any]:
        """What must be the same when a run is resumed."""
        return {
            "family": self.family.name,
            "settings": fixed(self.config),
            **self.record,
            "data": digest(self.parts["train"]),
        }

    def estimated(self) -> dict[str, str]:
        """What the family says of the fit's size."""
        estimate = self.family.estimate
        return dict(estimate(self.config, self.options, self.parts["train"])) if estimate else {}


def prepare(
    family: str,
    data: str | Path,
    folder: Path,
    *,
    roles: Roles,
    loader: str | None = None,
    preprocess: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    split: str = "70/15/15",
    seed: int = 0,
) -> Prepared:
    """Load, split, clean and map; ``folder`` takes rows that do not fit in memory.

    Raises UsageError for what is asked wrong, DataError for data that cannot be trained on.
    """
    components = load_plugins()
    spec = _trainable(components.find("families", family), roles)

    def elsewhere(control: str) -> str | None:
        return home(control, spec, None, components)

    config = build(spec.config, settings or {}, "--set ", elsewhere)
    loaded = build(spec.options, options or {}, "--option ", elsewhere)
    shares = parse_split(split)
    calls = _with_own_maps(read_calls(preprocess), spec)
    source = spool(open_source(data, components.loaders, loader), folder)
    if not source.rows:
        raise DataError(f"{data} has no rows to train on")
    roles = roles.with_noted(source.schema)
    source, roles = _as_sequences(source, roles, folder)
    parts = split_parts(source, roles, shares, seed, folder)
    columns = [name for name in source.schema.names if name not in {roles.group, roles.key, *roles.drop}]
    chosen = {part: with_roles(piece, columns, roles) for part, piece in parts.items()}
    mapped, chain, schema = _through_steps(chosen, calls, components)
    if roles.weight:
        schema = schema.remove(schema.get_field_index(roles.weight))  # which is not sampled
    rounded = {part: round(share, 6) for part, share in shares.items()}
    record = {
        "seed": seed,
        "split": {"shares": rounded, "by": roles.group or roles.key or "row"},
        "preprocess": calls,
        **({"weight": roles.weight} if roles.weight else {}),
    }
    plugin = components.owners["families", family]

    return Prepared(spec, plugin, config, loaded, schema, mapped, chain, record)


def _with_own_maps(calls: list[str], family: ModelFamily) -> list[str]:
    """The steps that the user names, and the family's maps that are not among them."""
    named = {parse_call(call, "--preprocess")[0] for call in calls}
    if "split" in named:
        raise UsageError("--preprocess split: training splits by itself: give --split, and --group where rows belong")
    return calls + [name for name in family.preprocess if name not in named]


def _as_sequences(source: Source, roles: Roles, folder: Path) -> tuple[Source, Roles]:
    """One row per sequence, whose name is the key of the split, where the rows are steps."""
    by = roles.sequence_by
    if by is None:
        return source, roles
    if roles.key is not None:
        raise UsageError(f"--key {roles.key}: --sequence-by {by} names the sequences already: leave out --key")
    for role in ("label", "group", "weight"):
        name = getattr(roles, role)
        if name == by:
            raise UsageError(f"--{role} {by} names the sequences (--sequence-by): name another column")
        if name is not None:
            require_columns(source.schema, [name], f"--{role}")
    assert source.table is not None
    constant = [name for name in (roles.label, roles.group, roles.weight) if name]
    return spool(gathered(source.table, by, constant), folder, "sequences"), replace(roles, key=by)


def _trainable(family: ModelFamily, roles: Roles) -> ModelFamily:
    if family.fit is None:
        raise Unsupported(f"{family.name} cannot be trained here")
    if roles.weight and not family.takes_weights:
        raise Unsupported(f"--weight {roles.weight}: {family.name} counts every row alike: leave it out with --drop")
    return family


def _through_steps(
    parts: Mapping[Part, Source], calls: Sequence[str], components: Components
) -> tuple[dict[Part, Source], Chain, pa.Schema]:
    """Steps fitted on the training part, then applied to every part: nothing of the others leaks into them.

    The schema is that of the cleaned rows, which samples will have.
    """

    def find(name: str) -> tuple[Preprocessor, str]:
        return components.find("preprocessors", name), components.owners["preprocessors", name]

    train, clean = fit_steps(calls, parts["train"], find, "clean")
    numbered = any(parse_call(call, "--preprocess")[0] == "categories" for call in calls)
    refuse_untrainable(train, numbered=numbered)
    schema = train.schema
    train, maps = fit_steps(calls, train, find, "map")
    chain = Chain(tuple(maps))
    through: dict[Part, Source] = {"train": train}
    for part in parts.keys() - {"train"}:
        rows = parts[part]
        for step in clean:
            rows = cleaned(rows, step.fitted)
        through[part] = rows.map(chain.apply)
    return {part: through[part] for part in parts}, chain, schema


def train(
    family: str,
    data: str | Path,
    *,
    out: str | Path,
    label: str | None = None,
    group: str | None = None,
    key: str | None = None,
    drop: Sequence[str] = (),
    weight: str | None = None,
    sequence_by: str | None = None,
    loader: str | None = None,
    preprocess: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    split: str = "70/15/15",
    seed: int = 0,
    force: bool = False,
    resume: bool = False,
    report: Report | None = None,
) -> Mapping[str, Any]:
    """Train a family on a file and write a checkpoint to the folder ``out``; returns what the checkpoint records.

    With ``sequence_by`` the rows are steps, and those with the same value of that column are one sequence.
    The split follows from ``seed`` and the rows alone; maps and the model are fitted on the training part. A run
    that was interrupted lies in ``out``.part: ``resume`` continues it, ``force`` starts over. Raises UsageError,
    DataError or CheckpointError in the user's words, and leaves nothing half written.
    """
    folder = Path(out)
    checkpoints.refuse_existing_folder(folder, force=force)
    with run_folder(folder, resume=resume, force=force) as (work, rows):
        ready = prepare(
            family, data, rows, roles=Roles(label, group, key, drop, weight, sequence_by), loader=loader,
            preprocess=preprocess, settings=settings, options=options, split=split, seed=seed,
        )  # fmt: skip
        agree(work, ready.identity())
        report = report or (lambda *_, **__: None)
        return fit_and_save(ready, folder, work, Path(data).name, seed, force=force, report=report)


def fit_and_save(
    ready: Prepared, folder: Path, work: Path, data: str, seed: int, *, force: bool, report: Report
) -> Mapping[str, Any]:
    """Fit the family and write its checkpoint; returns the training record."""
    fit = ready.family.fit
    assert fit is not None
    validation = ready.parts.get("validation")
    trained: Trained = fit(
        ready.config, ready.options, ready.parts["train"], validation if validation and validation.rows else None,
        seed=seed, folder=work, report=report,
    )  # fmt: skip
    written, tensors = ready.chain.state()
    record = {
        "data": data,
        "rows": {part: source.rows for part, source in ready.parts.items()},
        "seed": seed,
        **{name: ready.record[name] for name in ("preprocess", "weight") if name in ready.record},
        "metrics": {name: float(value) for name, value in trained.metrics.items()},
        "versions": versions(ready.plugin),
    }
    saved = checkpoints.Checkpoint(
        folder, ready.family.name, jsonable(trained.config), ready.schema, list(written), ready.record["split"], record
    )
    both = {**trained.tensors, **{checkpoints.CHAIN_PREFIX + name: array for name, array in tensors.items()}}
    if is_first():
        card = model_card(folder.name, ready.family, saved, list(trained.pictures))
        checkpoints.save(folder, saved, both, card, pictures=trained.pictures, force=force)
    return record


def split_parts(
    source: Source, roles: Roles, shares: Mapping[Part, float], seed: int, folder: Path
) -> dict[Part, Source]:
    """The source's rows by part, each tagged and at hand; raises DataError for a role whose column is not there."""
    named = {"--label": roles.label, "--group": roles.group, "--key": roles.key, "--weight": roles.weight}
    for option, name in named.items():
        if name is not None:
            require_columns(source.schema, [name], option)
    require_columns(source.schema, roles.drop, "--drop")
    parts = assign_parts(source, shares, seed=seed, key=roles.key, group=roles.group, label=roles.label)
    counts = {part: int((parts == at).sum()) for at, part in enumerate(PARTS)}
    if not counts["train"]:
        raise DataError(f"none of the {source.rows} rows falls into the training part: give it a larger --split share")
    there = [(at, part) for at, part in enumerate(PARTS) if counts[part]]
    return {part: spool(chosen_rows(source, parts == at, part), folder, part) for at, part in there}


def with_roles(source: Source, columns: Sequence[str], roles: Roles) -> Source:
    """The columns that the model sees, with the roles of the label and the weight noted."""
    assert source.table is not None
    for role in ("label", "weight"):
        name = getattr(roles, role)
        if name and name in (roles.group, roles.key, *roles.drop):
            raise UsageError(f"--{role} {name} is left out by another option: a {role} must stay")
    if roles.weight and roles.weight == roles.label:
        raise UsageError(f"--weight {roles.weight} is the label: name another column")
    if not set(columns) - {roles.weight}:
        raise DataError("no column is left to train on")
    table = source.table.select(list(columns))
    own = {roles.label: "label", roles.weight: "weight"}
    fields = [noted(f, role=own[f.name]) if f.name in own else f for f in table.schema]
    return Source.of(table.cast(pa.schema(fields)), source.part)


def refuse_untrainable(train: Source, *, numbered: bool = True) -> None:
    """Raise DataError naming the first column that has NaN, nothing but nulls, or text that identifies its rows.

    Text that no step makes categories of (not ``numbered``) is the family's to read, and may differ in each row.
    """
    if not train.rows:
        raise DataError("the clean steps left no row to train on")
    text = [f.name for f in train.schema if numbered and f.type in (pa.string(), pa.large_string())]
    distinct: dict[str, set[Any]] = {name: set() for name in text}
    filled = dict.fromkeys(train.schema.names, 0)
    for batch in train.scan():
        refuse_not_finite(batch)
        refuse_wrong_weights(batch)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            filled[name] += len(column) - column.null_count
            if name in distinct:
                distinct[name].update(pc.unique(column).drop_null().to_pylist())
    for name, count in filled.items():
        if not count:
            raise DataError(f"column {name} has no value in the training rows: leave it out with --drop {name}")
        if count >= DISTINCT_ROWS and len(distinct.get(name, ())) >= DISTINCT_SHARE * count:
            raise DataError(
                f"column {name} is text with {len(distinct[name])} different values in {count} rows, so it identifies "
                f"them: --key {name} keeps it out of the model, --drop {name} leaves it out"
            )


def refuse_wrong_weights(batch: Batch) -> None:
    """Raise DataError where the column of weights has anything but numbers from 0 on."""
    name = named_with_role(batch.schema, "weight")
    if name is None:
        return
    weights, kind = batch.column(name), batch.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"--weight {name}: the column holds {kind}, and weights are numbers")
    if weights.null_count:
        raise DataError(
            f"--weight {name}: some rows have none: fill them with --preprocess fillna:columns={name},value=1"
        )
    if pc.any(pc.less(weights, 0), min_count=0).as_py():
        raise DataError(f"--weight {name}: some are negative, and a row counts 0 times or more")
