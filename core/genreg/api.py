"""The Python surface: load a model, sample from it, keep the samples."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg import checkpoint as checkpoints
from genreg.data import Source
from genreg.draft import Array, Model, Seeds
from genreg.errors import CheckpointError, UsageError
from genreg.foreign import adopt, is_foreign, no_folder
from genreg.form import Form
from genreg.given import Given, as_table, read_given
from genreg.images import WIDEST_SHOWN, as_pillow, contact_sheet, each_image, encode, image_columns, thumbnail
from genreg.loading import open_source
from genreg.options import bind, build, of_function, of_model, parse_call
from genreg.outputs import as_html, as_text, write
from genreg.plugins import Components, load_plugins
from genreg.preprocess import restore_chain
from genreg.recipe import MOST_SAMPLES
from genreg.registry import Entry, Registry, read_registries, user_file
from genreg.scoring import Scorer
from genreg.sequences import as_sequences, named_by
from genreg.specs import ModelFamily
from genreg.weights import resolve
from genreg.windows import Edits, Run


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows that a model made: an Arrow table that knows its seeds, saves itself and shows itself in a notebook."""

    table: pa.Table
    seeds: Seeds
    summary: Mapping[str, Any] = field(default_factory=dict)  # of scores: rows, mean_log_prob, impossible, accuracy

    def __len__(self) -> int:
        return self.table.num_rows

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the rows by the suffix of ``path`` (``/``: a folder of images); raises UsageError where it is there."""

        own = self.seeds if len(self.seeds) == len(self) else None
        names = np.arange(len(self)) if own is None else own
        how: dict[str, Any] = {"force": force, "seeds": own, "names": names}
        write(iter(self.table.to_batches()), self.table.schema, path, load_plugins().loaders, **how)

    def images(self) -> list[Any]:
        """The image column as Pillow images (None where one is missing); raises UsageError where there is none."""
        return [None if image is None else as_pillow(image) for image in self._pixels()]

    def _pixels(self) -> list[Array | None]:
        names = image_columns(self.table.schema)
        if not names:
            raise UsageError(f"these samples have no image column; there are: {', '.join(self.table.schema.names)}")
        return list(each_image(self.table.column(names[0])))

    def to_pandas(self) -> Any:
        """A pandas DataFrame; raises UsageError where pandas is not installed."""
        try:
            return self.table.to_pandas()
        except ModuleNotFoundError:
            raise UsageError("to_pandas needs pandas: pip install pandas") from None

    def _repr_html_(self) -> str:

        return as_html(self.table)

    def _repr_png_(self) -> bytes | None:
        if not len(self) or not image_columns(self.table.schema):
            return None
        first = Samples(self.table.slice(0, 100), self.seeds)._pixels()
        return encode(contact_sheet([None if one is None else thumbnail(one, WIDEST_SHOWN) for one in first]))

    def __repr__(self) -> str:

        return as_text(self.table.slice(0, 20)) + ("" if len(self) <= 20 else f"\n… {len(self):,} rows")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that is ready: ``model`` is the bare contract, ``sample`` the whole way."""

    name: str
    family: ModelFamily
    config: Any
    model: Model
    form: Form
    components: Components
    checkpoint: checkpoints.Checkpoint | None = None
    entry: Entry | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int | None = None,
        given: Any = None,
        samplers: Sequence[str] = (),
        batch: int | None = None,
        **conditions: Any,
    ) -> Samples:
        """Draw samples: ``n`` of them, or ``n`` (1) for each row of a ``given`` table.

        ``given`` is a mapping of values, a table (Arrow or pandas) or a file; keywords are conditions. Seeds are seed,
        seed + 1, …; without ``seed`` one is drawn, and kept in the result's ``seeds``. ``samplers`` are calls such as
        ``truncate:psi=0.7``.
        """
        prepared = self.prepare(self.given(given, conditions), 1 if n is None else n, seed=seed)
        edits = self.samplers(samplers)
        batches = list(self.run(prepared, edits).rows(batch=batch))
        return Samples(pa.Table.from_batches(batches), prepared.seeds)

    def score(self, data: Any, *, key: str | None = None, loader: str | None = None, seed: int = 0) -> Samples:
        """How probable rows are (``log_prob``, in nats and the data's units), and what the family infers of them.

        ``data`` is a file or a table (Arrow or pandas); ``key`` names a column to keep beside the scores. Raises
        Unsupported where the family can do neither, DataError for data that does not fit the model.
        """
        scorer = self.scorer(data, key=key, loader=loader, seed=seed)
        table = pa.Table.from_batches(list(scorer.batches()))
        return Samples(table, np.arange(len(table), dtype=np.uint64) + np.uint64(seed), scorer.summary())

    def scorer(self, data: Any, *, key: str | None = None, loader: str | None = None, seed: int = 0) -> Scorer:
        """The same, batch by batch."""
        if isinstance(data, (str, Path)):
            source = open_source(data, self.components.loaders, loader)
        else:
            source = Source.of(as_table(data, "data takes a table or a file"))
        by = named_by(self.form.schema)
        if by in source.schema.names:
            source, key = as_sequences(source, self.form.schema), key or by
        return Scorer(self.model, self.form, source, key, seed)

    def given(self, given: Any, values: Mapping[str, Any], *, key: str | None = None) -> Given:
        """Conditions from a mapping, table or file and from single values, over the entry's defaults."""
        found = read_given(self.form, given, values, self.components.loaders, key=key, elsewhere=self.home)
        defaults = self.entry.defaults.get("given", {}) if self.entry else {}
        whole = found.over(read_given(self.form, None, defaults, {}))
        self.form.into_model(whole.batch)  # a value that the maps refuse is refused now, before any sample is drawn
        return whole

    def home(self, control: str) -> str | None:
        """Where a control belongs that was put elsewhere; None where nobody has it."""
        return home(control, self.family, self.config, self.components)

    def prepare(self, given: Given, n: int, *, seeds: Seeds | None = None, seed: int | None = None) -> Given:
        """Conditions and seeds for each sample: copy k of row r has seed + r * n + k."""
        rows = given.batch.num_rows if given.from_file else 1
        if n < 0 or rows * n > MOST_SAMPLES:
            raise UsageError(f"-n {n}: ask for 0 samples or more, and for at most {MOST_SAMPLES:,} in one run")
        if given.from_file and seeds is not None and len(seeds) != rows * n:
            raise UsageError(
                f"--seeds: {rows} rows of conditions, {n} samples each, take {rows * n} seeds, not {len(seeds)}"
            )
        count = rows * n if seeds is None else len(seeds)
        first = draw_seed() if seed is None else seed
        if not 0 <= first <= 2**64 - max(count, 1):
            raise UsageError(f"--seed {first}: seeds lie between 0 and {2**64 - 1}")
        own = np.arange(count, dtype=np.uint64) + np.uint64(first) if seeds is None else seeds
        if given.passed and n > 1 and named_by(self.form.schema) in given.passed.schema.names:
            given = replace(given, passed=None)  # several samples of one sequence: each goes by its seed
        return replace(given, seeds=own, copies=n)

    def samplers(self, calls: Sequence[str]) -> Edits:
        """Sampler calls as functions with typed knobs; raises UsageError for what is unknown or mistyped."""
        edits = []
        for call in calls or (self.entry.defaults.get("samplers", []) if self.entry else []):
            name, knobs = parse_call(call, "--sampler")
            elsewhere = self.home(name.partition("=")[0]) if name not in self.components.samplers else None
            if elsewhere:
                raise UsageError(f"--sampler {call}: {elsewhere}")
            sampler = self.components.find("samplers", name)
            edits.append((sampler, bind(of_function(sampler.edit), knobs, f"--sampler {name}: ", self.home)))
        return edits

    def run(self, given: Given, edits: Edits) -> Run:
        """The rows of a run, any stretch of which can be made alone."""
        return Run(self.model, self.form, given, edits, self.family.batch, aligned=self.family.tolerance > 0)


def load(
    name: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    registries: Sequence[str] = (),
    offline: bool = False,
) -> LoadedModel:
    """Load a registry entry by name, a checkpoint by its folder, or a reference such as ``hf://org/repo``.

    ``options`` say how it is loaded (``device``, ``dtype``); ``offline`` fetches nothing. Raises NotFound for an
    unknown name, CheckpointError for a damaged checkpoint, HubError for one that cannot be fetched, UsageError for a
    wrong option.
    """
    registry = read_registries(registries)
    name, entry, folder = locate(str(name), registry, offline=offline)
    components = load_plugins()
    foreign = folder is not None and is_foreign(folder)
    saved = (adopt(folder, components.families.values()) if foreign else checkpoints.read(folder)) if folder else None
    family: ModelFamily = components.find("families", saved.family if saved else entry.family if entry else "")
    if entry and saved and entry.family != saved.family:
        raise CheckpointError(f"{name} is registered as {entry.family}, and its checkpoint is a {saved.family}")
    config = read_config(family, saved)
    chosen = {**(entry.defaults.get("options", {}) if entry else {}), **(options or {})}
    loaded_options = build(family.options, chosen, "--option ", lambda name: home(name, family, config, components))
    tensors = saved.weights.under(checkpoints.CHAIN_PREFIX) if saved and saved.weights else {}
    written = saved.chain if saved else []
    chain = restore_chain(written, tensors, lambda step: components.find("preprocessors", step))
    columns = family.columns(config)
    form = Form(saved.schema if saved and not foreign else columns, columns, family.conditions(config), chain)
    model = family.load(config, loaded_options, saved.weights if saved else None)
    return LoadedModel(name, family, config, model, form, components, saved, entry, chosen)


def locate(name: str, registry: Registry, *, offline: bool = False) -> tuple[str, Entry | None, Path | None]:
    """What a name on the command line stands for: an entry with its folder (if it has weights), or a folder.

    The name comes back as it means the same for ever: a reference to the Hub with its commit.
    """
    if name in registry.entries:
        entry = registry.entry(name)
        if not entry.weights:
            return name, entry, None
        mend, base = "install the package again", Path(entry.origin).parent
        if entry.weights.startswith("hf://"):
            mend = f"genreg pull {name}"
        elif entry.origin == user_file():
            mend = f"genreg add {name} {shlex.quote(entry.weights)} --force names it as it is now"
        return name, entry, resolve(entry.weights, base=base, files=entry.files, mend=mend, offline=offline)
    if name.startswith("hf://"):
        from genreg.fetch import fetch

        reference, folder = fetch(name, offline=offline)
        return str(reference), None, folder
    if os.path.isfile(name):  # noqa: PTH113 - pathlib raises where a name is too long
        raise CheckpointError(no_folder(name, registry))
    if "://" in name or "/" in name or os.path.isdir(name):  # noqa: PTH112 - pathlib raises where a name is too long
        return name, None, resolve(name)
    return name, registry.entry(name), None  # raises, with a close name


def read_config(family: ModelFamily, saved: checkpoints.Checkpoint | None) -> Any:
    """The family's config from a checkpoint; raises CheckpointError where it is not what the family declares."""
    from pydantic import ValidationError

    try:
        return family.config.model_validate(saved.config if saved else {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{saved.folder if saved else family.name}: config {where}: {first['msg']}") from None


def home(control: str, family: ModelFamily, config: Any, components: Components) -> str | None:
    """Where a control belongs that was put elsewhere, as the end of a message; None where nobody has it."""
    if config is not None and any(control in (c.name, c.column) for c in family.conditions(config)):
        return f"{control} is a condition: --given {control}=…"
    if control in {option.name for option in of_model(family.options)}:
        return f"{control} is an option: --option {control}=…"
    if control in {option.name for option in of_model(family.config)}:
        return f"{control} is a setting of training: genreg train {family.name} --set {control}=…"
    owners = [s.name for s in components.samplers.values() if control in {o.name for o in of_function(s.edit)}]
    return f"{control} is a knob of a sampler: --sampler {owners[0]}:{control}=…" if owners else None


def draw_seed() -> int:
    """A seed that is short enough to be typed again."""
    return secrets.randbelow(2**31)


def list_models(registries: Sequence[str] = ()) -> list[str]:
    """The names of all models that are registered and whose plugin is installed."""
    return sorted(name for name, entry in read_registries(registries).entries.items() if entry.installed)
