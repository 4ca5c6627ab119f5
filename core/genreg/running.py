"""What ``genreg run`` does: from flags to a run, from its rows to the terminal, a file, or the windows of a file."""

from __future__ import annotations

import filecmp
import itertools
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from genreg.api import LoadedModel, load
from genreg.cli.common import echo_json, note, pairs, progress
from genreg.draft import Account, Accounting, Array, Batch, Planning
from genreg.errors import NotCached, UsageError
from genreg.files import sha256
from genreg.generate import sees_all
from genreg.given import Given, resolve_name
from genreg.images import FORMATS, SUFFIXES, image_columns, media_of
from genreg.loading import writer_of
from genreg.outputs import as_in_data, refuse_output, write
from genreg.printing import Live, print_rows
from genreg.recipe import (
    Recipe,
    image_digest,
    keep_given,
    parse_seeds,
    read_recipe,
    recipe_path,
    spell_seeds,
    versions,
    write_recipe,
)
from genreg.shards import bounds, parse_shard
from genreg.specs import free_fields
from genreg.windows import JOURNAL, RECIPE, Run, Windows, begin, kept, refuse_unfinished, stretches, window_rows
from genreg.workers import Work, fill_with, refuse_workers

OK = {"ok", "length"}


def run(name: str | None, condition: str | None, flags: Mapping[str, Any]) -> int:
    """Do what the flags say; the exit code: 0, or 3 where some rows are not ok."""
    out: str | None = None if flags["output"] == "-" else flags["output"]  # text: a / at its end asks for a folder
    begun = _refuse(out, flags)
    recipe = Path(flags["recipe"]) if flags["recipe"] else begun if name is None else None
    if recipe:
        asked = _again(recipe, name, condition, flags)
    elif name is None:
        raise UsageError("name a model: genreg run NAME (genreg list shows them)")
    else:
        asked = _asked(name, condition, flags)
    model = _loaded(asked.recipe, recipe, flags)
    if out:
        writer_of(out, model.components.loaders)
    job = _job(model, asked, out, flags, _first_seed(begun, flags) if begun and not recipe else None, again=recipe)
    refuse_workers(flags["workers"], streams=job.run.streams, to_file=job.out is not None)
    if flags["dry_run"]:
        echo_json(_planned(job))
        return 0
    if job.out is None:
        return _to_stdout(job)
    there = begun == recipe_path(Path(job.out)) and Path(job.out).exists()
    if begun and there and not (made := read_recipe(begun)).differs(job.recipe, job.free):
        also = f"; rows that are not ok: {made.not_ok:,}" if made.not_ok else ""
        _tell(job, job.windows.stop - job.windows.start, f"is finished already{also}")
        return 3 if made.not_ok else 0
    refuse_output(job.out, force=flags["force"] or begun == job.windows.folder / RECIPE)
    whole = len(job.windows) <= 1 and not job.run.streams and not job.windows.folder.exists()
    return _at_once(job) if whole else _by_windows(job)


def _loaded(asked: Recipe, file: Path | None, flags: Mapping[str, Any]) -> LoadedModel:
    """The model; one that a recipe ``file`` names is fetched only after a yes: the file may be anyone's."""
    refused = file is not None and not flags["yes"]
    offline = flags["offline"] or refused
    try:
        return load(asked.model, options=asked.options, registries=flags["registries"], offline=offline)
    except NotCached:
        if flags["offline"] or not refused:
            raise
        raise UsageError(f"{file} needs {asked.model}, which is not here: --yes fetches it") from None


@dataclass(frozen=True, eq=False)
class Job:
    """A run that is ready to start: its recipe, its rows, and the windows that keep them on the way to ``out``."""

    model: LoadedModel
    recipe: Recipe
    run: Run
    windows: Windows
    out: str | None
    flags: Mapping[str, Any]
    news: str | None = None  # what people are told once the first rows are there

    @property
    def seeds(self) -> Array | None:
        """The seed of each row; None where a sampler that sees them all makes rows of its own."""
        return None if sees_all(self.run.edits) else self.run.given.seeds[self.windows.start : self.windows.stop]

    @property
    def names(self) -> Array:
        """The numbers that the rows go by in a long table: their seeds, or else their places."""
        return np.arange(self.windows.start, self.windows.stop) if self.seeds is None else self.seeds

    @property
    def free(self) -> frozenset[str]:
        """The options that may change when the run is resumed."""
        return frozenset(free_fields(self.model.family.options))

    def account(self, folder: Path) -> Account:
        """What the family's journal in ``folder`` adds up to; nothing where it keeps no accounts."""
        model = self.run.model
        account = model.account(folder) if isinstance(model, Accounting) else Account()
        for line in account.lines:
            note(line)
        return account

    def counted(self, batches: Iterator[Batch]) -> Counted:
        """The batches, counted on their way."""
        return Counted(batches, self.model.form.outcome(self.run.streams), self.news)


@dataclass(frozen=True)
class Asked:
    """A run as it was asked for: the recipe so far, and where its conditions come from."""

    recipe: Recipe
    values: Mapping[str, str]
    table: Any = None
    bare: str | None = None


@dataclass
class Counted:
    """Batches on their way, counted: rows, and rows whose outcome is not ok; the first one tells the ``news``."""

    batches: Iterator[Batch]
    outcome: str | None
    news: str | None = None
    rows: int = 0
    not_ok: int = 0

    def reported(self, report: Any, total: int) -> Iterator[Batch]:
        """The batches, telling the report."""
        for batch in self.batches:
            if self.news and not self.rows:  # not before: what is refused is told in one line
                note(self.news)
            self.rows += batch.num_rows
            if self.outcome:
                self.not_ok += sum(cell not in OK for cell in batch.column(self.outcome).to_pylist())
            report(self.rows, total)
            yield batch


def _refuse(out: str | None, flags: Mapping[str, Any]) -> Path | None:
    """Refuse what cannot go before anything is loaded; the recipe that --resume goes on with, if one is there."""
    if flags["shard"]:
        parse_shard(flags["shard"])
    if out is None:
        if flags["resume"]:
            raise UsageError("--resume goes on with a file: name it with -o")
        return None
    refuse_output(out, force=flags["force"] or flags["resume"])
    part = _part(out)
    refuse_unfinished(part, resume=flags["resume"], force=flags["force"])
    found = (path for path in (part / RECIPE, recipe_path(Path(out))) if flags["resume"] and path.is_file())
    return next(found, None)


def _part(out: str) -> Path:
    return Path(out).with_name(f"{Path(out).name}.part")


def _first_seed(recipe: Path, flags: Mapping[str, Any]) -> int | None:
    """The first seed of the run that --resume goes on with, where that was drawn and is not named again."""
    seeds = read_recipe(recipe).seeds
    return int(parse_seeds(seeds)[0]) if seeds and flags["seed"] is None and flags["seeds"] is None else None


def _job(
    model: LoadedModel, asked: Asked, out: str | None, flags: Mapping[str, Any], first: int | None, again: Path | None
) -> Job:
    """The run that is asked for; ``first`` is its first seed where that is known from before."""
    digest = model.checkpoint.digest() if model.checkpoint else None
    if again and asked.recipe.checkpoint != digest:
        raise UsageError(f"{again}: {asked.recipe.model} is another checkpoint now than the one that made it")
    given, kept_given = _given(model, asked, typed=not again)
    seeds = parse_seeds(asked.recipe.seeds) if asked.recipe.seeds or flags["seeds"] is not None else None
    seed = flags["seed"] if first is None else first
    prepared = model.prepare(given, asked.recipe.n, seeds=seeds, seed=seed)
    recipe = replace(
        asked.recipe,
        model=model.name,
        given=asked.recipe.given if again else kept_given,
        seeds=spell_seeds(prepared.seeds),
        checkpoint=digest,
        versions=versions(model.components.owners.get(("families", model.family.name))),
        shard=flags["shard"] or asked.recipe.shard,
    )
    rows = model.run(prepared, model.samplers(recipe.samplers))
    start, stop = bounds(recipe.shard, len(rows), rows.unit)
    out = out or _picture_name(model.name, recipe.seeds, rows, flags["output"])
    windows = Windows(_part(out or "-"), rows.schema, start, stop, window_rows(rows))
    drawn = seed is None and seeds is None and len(prepared.seeds)
    return Job(model, recipe, rows, windows, out, flags, f"seed {prepared.seeds[0]}" if drawn else None)


def _to_stdout(job: Job) -> int:
    as_json, to_stdout = job.flags["as_json"], job.flags["output"] == "-"
    watched = sys.stdout.isatty() and not as_json and not to_stdout and job.run.streams
    live = Live.of(job.model.form.columns) if watched and job.model.family.makes == "text" else None
    start, stop = job.windows.start, job.windows.stop
    with tempfile.TemporaryDirectory() as folder, progress("sampling", "samples", hidden=sys.stdout.isatty()) as report:
        journal, watch = Path(folder), live.watch if live else None
        try:
            with closing(job.run.rows(start, stop, folder=journal, watch=watch)) as rows:
                counted = job.counted(rows)
                batches, schema = as_in_data(counted.reported(report, stop - start), job.run.schema, job.names)
                if live:
                    deque(live.print_rows(iter(batches)), maxlen=0)
                else:
                    print_rows(iter(batches), schema, as_json=as_json, to_stdout=to_stdout)
        finally:
            job.account(journal)
    return 3 if counted.not_ok else 0


def _at_once(job: Job) -> int:
    """Rows of one window go straight to the file."""
    counted = job.counted(job.run.rows(job.windows.start, job.windows.stop))
    with progress("sampling", "samples") as report:
        return _finished(job, counted, counted.reported(report, job.windows.stop - job.windows.start))


def _by_windows(job: Job) -> int:
    """Rows are kept window by window, and put together at the end."""
    windows, flags = job.windows, job.flags
    _probe(job)
    begin(windows.folder, job.recipe, resume=flags["resume"], force=flags["force"], free=job.free)
    total, news = windows.stop - windows.start, [job.news] if job.news else []
    with kept(windows, str(job.out)):
        todo = windows.missing()
        made = total - windows.count(todo)
        with progress("sampling", "samples") as report:

            def tell(rows: int) -> None:
                nonlocal made
                while news:  # not before: what is refused is told in one line
                    note(news.pop())
                made += rows
                report(made, total)

            _fill(job, todo, tell)
        named = _by_bytes(job)
        if named is None:
            job.account(windows.folder / JOURNAL)
            shutil.rmtree(windows.folder, ignore_errors=True)
            note("no image came, and nothing is written")
            return 3
        job = named
        with progress("writing", "samples") as report:
            counted = replace(job.counted(windows.rows()), news=None)
            code = _finished(job, counted, counted.reported(report, total))
    return code


def _fill(job: Job, todo: list[int], tell: Callable[[int], object]) -> None:
    count = min(job.flags["workers"], len(todo))
    if count < 2:
        job.windows.fill(job.run, stretches(todo), tell)
        return
    recipe, given = job.recipe, replace(job.run.given, seeds=job.run.given.seeds[:0])
    how = (recipe.model, recipe.options, job.flags["registries"], given, recipe.seeds, recipe.samplers)
    fill_with(count, Work(*how, job.windows), tell)


def _probe(job: Job) -> None:
    """Let the writer refuse what it cannot hold before the first row is made."""

    class Enough(Exception):
        pass

    def none() -> Iterator[Batch]:
        raise Enough
        yield

    assert job.out is not None
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        target = f"{folder}/{Path(job.out).name}{'/' * job.out.endswith('/')}"
        write(none(), job.run.schema, target, job.model.components.loaders)


def _finished(job: Job, counted: Counted, batches: Iterator[Batch]) -> int:
    """The file takes its name, its recipe comes beside it, and the windows go."""
    out, folder, forced = job.out, job.windows.folder, job.flags["force"]
    assert out is not None
    before = Path(out).exists() and not forced  # a run was killed between its last two steps, or it is another's
    if Path(out).is_dir():
        refuse_output(out, force=forced)
    target = str(folder / Path(out).name) if before else out
    about: dict[str, Any] = {"seeds": job.seeds, "names": job.names, "recipe": job.recipe}
    write(batches, job.run.schema, target, job.model.components.loaders, force=forced, **about)
    if before and not filecmp.cmp(target, out, shallow=False):
        raise UsageError(f"{out} is there already, with other rows: choose another name, or --force to replace it")
    used = job.account(folder / JOURNAL).facts
    write_recipe(Path(out), replace(job.recipe, used=used, not_ok=counted.not_ok))
    shutil.rmtree(folder, ignore_errors=True)
    _tell(job, counted.rows)
    return 3 if counted.not_ok else 0


def _tell(job: Job, rows: int, news: str | None = None) -> None:
    out, flags = str(job.out), job.flags
    recipe = recipe_path(Path(out))
    if flags["as_json"]:
        echo_json({"output": out, "recipe": str(recipe), "rows": rows, "seeds": job.recipe.seeds})
    elif flags["output"] is None:
        click.echo(out)
    else:
        note(f"{out} {news}" if news else f"wrote {out} ({rows:,} rows) and {recipe.name}")


def _picture_name(model: str, seeds: str, rows: Run, output: str | None, suffix: str = ".png") -> str | None:
    """Where images go that were given no name: NAME-SEED.png, numbered where that is there; None for stdout.

    Several encoded ones go to a folder: a sheet of them would not keep their bytes.
    """
    if not image_columns(rows.schema) or (output == "-" and not sys.stdout.isatty()):
        return None
    suffix = "/" if _encoded(rows.schema) and len(rows) > 1 else suffix
    if output == "-":
        raise UsageError("-o -: the bytes of a picture are not for a terminal: leave it out, or name a file")
    name = re.sub(r"[^\w.+-]+", "-", Path(model).name.partition("@")[0])
    first = seeds.partition(",")[0].partition("-")[0]
    names = (f"{name}-{first}{f'-{number}' if number > 1 else ''}{suffix}" for number in itertools.count(1))
    return next(found for found in names if not Path(found).exists())


def _encoded(schema: pa.Schema) -> str | None:
    """The column of encoded images, if there is one."""
    return next((name for name in image_columns(schema) if pa.types.is_binary(schema.field(name).type)), None)


def _by_bytes(job: Job) -> Job | None:
    """The job, a file that people did not name being named by what its one encoded image is; None where none came."""
    out, name = str(job.out), _encoded(job.run.schema)
    if name is None or Path(out).suffix.lower() not in FORMATS:
        return job
    came = (cell.as_py() for batch in job.windows.rows() for cell in batch.column(name) if cell.is_valid)
    first = next(came, None)
    if first is None:
        return None
    if job.flags["output"] is not None:
        return job
    suffix = SUFFIXES[media_of(first)]
    return replace(job, out=_picture_name(job.model.name, job.recipe.seeds, job.run, None, suffix))


def _asked(name: str, condition: str | None, flags: Mapping[str, Any]) -> Asked:
    files = [text for text in flags["given"] if "=" not in text]
    if len(files) > 1:
        raise UsageError(f"--given {files[1]}: one file of conditions is enough, and {files[0]} is given already")
    if flags["seed"] is not None and flags["seeds"] is not None:
        raise UsageError("--seed and --seeds cannot go together: --seed is the first of a row, --seeds names each")
    if flags["seeds"] is not None and flags["n"] is not None and not files:
        raise UsageError("-n and --seeds cannot go together: there are as many samples as seeds")
    options = pairs(flags["options"], "--option")
    if flags["device"]:
        options["device"] = flags["device"]
    values = pairs([text for text in flags["given"] if "=" in text], "--given")
    n = 1 if flags["n"] is None else flags["n"]
    recipe = Recipe(name, flags["seeds"] or "", n, key=flags["key"], samplers=list(flags["samplers"]), options=options)
    return Asked(recipe, values, Path(files[0]) if files else None, condition)


def _again(output: Path, name: str | None, condition: str | None, flags: Mapping[str, Any]) -> Asked:
    keys = ("n", "seed", "seeds", "given", "key", "samplers", "options", "device")
    spelled = {"n": "-n", "samplers": "--sampler", "options": "--option"}
    given = [spelled.get(key, f"--{key}") for key in keys if flags[key] not in (None, ())]
    if name or condition or given:
        raise UsageError(f"--recipe {output} says everything: leave out {given[0] if given else 'the model'}")
    found = read_recipe(output)
    table: Any = None
    if "file" in found.given:
        table = Path(found.given["file"])
        if sha256(table) != found.given["sha256"]:
            raise UsageError(f"{table} has changed since the recipe was written")
    elif "rows" in found.given:
        rows = found.given["rows"]
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
    for dist, version in versions(None).items():
        if found.versions.get(dist, version) != version:
            note(f"the recipe was made with {dist} {found.versions[dist]}, and this is {version}")
    return Asked(found, found.given.get("values", {}), table)


def _given(model: LoadedModel, asked: Asked, *, typed: bool) -> tuple[Given, dict[str, Any]]:
    """The conditions, and how the recipe keeps them; those that people ``typed`` may name files."""
    values, table = dict(asked.values), asked.table
    if asked.bare is not None:
        if not model.form.conditions:
            raise UsageError(f"{asked.bare}: {model.name} takes no condition")
        first = model.form.given.names[0]
        if first in values:
            raise UsageError(f"{asked.bare}: {first} is given twice")
        if asked.bare == "-":
            lines = sys.stdin.read().splitlines()
            table = pa.table({first: pa.array(lines, pa.string())})
        else:
            values[first] = asked.bare
    values = {name: _read(model, name, value) for name, value in values.items()} if typed else values
    given = model.given(table, values, key=asked.recipe.key)
    digest, before = image_digest(given.batch), asked.recipe.given.get("images")
    if before and before != digest:
        raise UsageError("an image among the conditions has changed since the recipe was written")
    images = {"images": digest} if digest else {}
    if isinstance(table, Path):
        small = given.batch.nbytes < 1 << 20 and not given.passed
        whole = _plain(pa.Table.from_batches([given.batch]).to_pylist()) if small else None
        return given, keep_given(values, table, whole) | images
    rows = {"rows": _plain(table.to_pylist())} if table is not None else {}
    return given, keep_given(values, None, None) | rows | images


def _read(model: LoadedModel, name: str, value: str) -> str:
    """A value as it was meant: ``@path`` is the text of a file, ``@@text`` is text that begins with @."""
    if not value.startswith("@"):
        return value
    asked = f"--given {name}={value}"
    kind = model.form.given.field(resolve_name(model.form, name, asked, model.home)).type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return value  # an image is a file in any case
    if value.startswith("@@"):
        return value[1:]
    try:
        return Path(value[1:]).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{asked}: the file cannot be read ({error}); for text that begins with @ write @{value}"
        ) from None


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Rows that JSON holds exactly, or None."""
    kept = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    exact = all(isinstance(cell, (str, int, float, bool, list)) for row in kept for cell in row.values())
    return kept if exact else None


def _planned(job: Job) -> dict[str, Any]:
    model, given, recipe, windows = job.run.model, job.run.given, job.recipe, job.windows
    plan: Mapping[str, str] = model.plan(job.run.drafts()) if isinstance(model, Planning) else {}
    shard = {"shard": recipe.shard, "rows": windows.stop - windows.start} if recipe.shard else {}
    return {
        "model": recipe.model,
        "family": job.model.family.name,
        "samples": len(given.seeds),
        "seeds": recipe.seeds,
        "given": recipe.given,
        "samplers": [{"name": sampler.name, **knobs} for sampler, knobs in job.run.edits],
        "options": recipe.options,
        "columns": {field.name: str(field.type) for field in job.run.schema},
        "output": job.out,
        **shard,
        **plan,
    }
