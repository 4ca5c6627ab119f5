"""``genreg run``: draw samples, print them or write them with the recipe that makes them again."""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from genreg.api import LoadedModel, load
from genreg.cli.common import echo_json, note, pairs, progress
from genreg.draft import Batch, Planning
from genreg.errors import UsageError
from genreg.generate import propose
from genreg.given import Given
from genreg.images import image_columns, write_picture
from genreg.loading import writer_of
from genreg.outputs import as_text, refuse_output, write
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
from genreg.specs import Write
from genreg.tables import write_csv, write_jsonl

OK = {"ok", "length"}


@click.command("run")
@click.argument("name", required=False)
@click.argument("condition", required=False)
@click.option("-n", type=int, help="How many samples (for each row of a given file).")
@click.option("--seed", type=int, help="The first seed; the next samples take the next ones.")
@click.option("--seeds", help="These seeds alone, such as 1,5-9.")
@click.option(
    "--given", multiple=True, metavar="K=V|FILE", help="A condition, or a table of them with one row per sample."
)
@click.option("--key", help="A column of the given file to keep beside the samples.")
@click.option(
    "--sampler", "samplers", multiple=True, metavar="NAME:K=V,…", help="Edit the draft, such as truncate:psi=0.7."
)
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the model is loaded.")
@click.option("--device", help="The same as --option device=…")
@click.option(
    "-o", "--output", metavar="OUT", help="Write to this file as its suffix says, or to a folder (OUT/). - is stdout."
)
@click.option("--recipe", metavar="OUT", help="Make the same samples as this output again.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
def command(
    name: str | None, condition: str | None, recipe: str | None, registries: tuple[str, ...], **flags: Any
) -> int:
    """Draw samples from the model NAME (an entry, a checkpoint folder or a reference), given its first CONDITION."""
    if recipe:
        asked = _again(Path(recipe), name, condition, flags)
    elif name is None:
        raise UsageError("name a model: genreg run NAME (genreg list shows them)")
    else:
        asked = _asked(name, condition, flags)
    out: str | None = None if flags["output"] == "-" else flags["output"]  # text: a / at its end asks for a folder
    if out is not None:
        refuse_output(out, force=flags["force"])
    model = load(asked.recipe.model, options=asked.recipe.options, registries=registries)
    if out:
        writer_of(out, model.components.loaders)
    digest = model.checkpoint.digest() if model.checkpoint else None
    if recipe and asked.recipe.checkpoint != digest:
        raise UsageError(f"{recipe}: {asked.recipe.model} is another checkpoint now than the one that made it")
    given, kept = _given(model, asked)
    n = asked.recipe.n
    seeds = parse_seeds(asked.recipe.seeds) if asked.recipe.seeds or flags["seeds"] is not None else None
    prepared = model.prepare(given, n, seeds=seeds, seed=flags["seed"])
    edits = model.samplers(asked.recipe.samplers)
    made = replace(
        asked.recipe,
        given=asked.recipe.given if recipe else kept,
        seeds=spell_seeds(prepared.seeds),
        checkpoint=digest,
        versions=versions(model.components.owners.get(("families", model.family.name))),
    )
    schema = model.schema(prepared)
    out = out or _picture_name(model.name, made.seeds, schema, flags["output"])
    if flags["dry_run"]:
        echo_json(_planned(model, prepared, made, edits, out))
        return 0
    drawn = flags["seed"] is None and seeds is None and len(prepared.seeds)
    outcome = model.form.outcome(hasattr(model.model, "stream"))
    counted = Counted(model.generate(prepared, edits), outcome, f"seed {prepared.seeds[0]}" if drawn else None)
    with progress("sampling", "samples", hidden=out is None and sys.stdout.isatty()) as report:
        batches = counted.reported(report, len(prepared.seeds))
        if out is None:
            _print(batches, schema, flags["as_json"], to_stdout=flags["output"] == "-")
        else:
            own = None if any(sampler.scope == "all" for sampler, _ in edits) else prepared.seeds
            write(batches, schema, out, model.components.loaders, force=flags["force"], seeds=own, recipe=made)
            write_recipe(Path(out), made)
    if out:
        _tell(out, counted.rows, made.seeds, flags)
    return 3 if counted.not_ok else 0


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
    names = {"n": "-n", "samplers": "--sampler", "options": "--option"}
    given = [names.get(key, f"--{key}") for key in keys if flags[key] not in (None, ())]
    if name or condition or given:
        raise UsageError(f"--recipe {output} says everything: leave out {given[0] if given else 'the model'}")
    found = read_recipe(output)
    table: Any = None
    if "file" in found.given:
        from genreg.files import sha256

        table = Path(found.given["file"])
        if sha256(table) != found.given["sha256"]:
            raise UsageError(f"{table} has changed since the recipe was written")
    elif "rows" in found.given:
        rows = found.given["rows"]
        table = pa.table(
            {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
        )
    for dist, version in versions(None).items():
        if found.versions.get(dist, version) != version:
            note(f"the recipe was made with {dist} {found.versions[dist]}, and this is {version}")
    return Asked(found, found.given.get("values", {}), table)


def _given(model: LoadedModel, asked: Asked) -> tuple[Given, dict[str, Any]]:
    """The conditions, and how the recipe keeps them."""
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
    given = model.given(table, values, key=asked.recipe.key)
    digest, before = image_digest(given.batch), asked.recipe.given.get("images")
    if before and before != digest:
        raise UsageError("an image among the conditions has changed since the recipe was written")
    images = {"images": digest} if digest else {}
    if isinstance(table, Path):
        whole = (
            pa.Table.from_batches([given.batch]).to_pylist()
            if given.batch.nbytes < 1 << 20 and not given.passed
            else None
        )
        return given, keep_given(values, table, _plain(whole)) | images
    rows = {"rows": _plain(table.to_pylist())} if table is not None else {}
    return given, keep_given(values, None, None) | rows | images


def _plain(rows: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Rows that JSON holds exactly, or None."""
    if rows is None:
        return None
    kept = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    exact = all(isinstance(cell, (str, int, float, bool, list)) for row in kept for cell in row.values())
    return kept if exact else None


def _picture_name(model: str, seeds: str, schema: pa.Schema, output: str | None) -> str | None:
    """Where images go that were given no name: NAME-SEED.png, numbered where that is there; None for stdout."""
    if not image_columns(schema) or (output == "-" and not sys.stdout.isatty()):
        return None
    if output == "-":
        raise UsageError("-o -: the bytes of a picture are not for a terminal: leave it out, or name a file")
    name = re.sub(r"[^\w.+-]+", "-", Path(model).name.partition("@")[0])
    first = seeds.partition(",")[0].partition("-")[0]
    names = (f"{name}-{first}{f'-{number}' if number > 1 else ''}.png" for number in itertools.count(1))
    return next(found for found in names if not Path(found).exists())


def _tell(out: str, rows: int, seeds: str, flags: Mapping[str, Any]) -> None:
    if flags["as_json"]:
        echo_json({"output": out, "recipe": str(recipe_path(Path(out))), "rows": rows, "seeds": seeds})
    elif flags["output"] is None:
        click.echo(out)
    else:
        note(f"wrote {out} ({rows:,} rows) and {recipe_path(Path(out)).name}")


def _planned(model: LoadedModel, given: Given, recipe: Recipe, edits: Sequence[Any], out: str | None) -> dict[str, Any]:
    plan: Mapping[str, str] = {}
    if isinstance(model.model, Planning):
        plan = model.model.plan(
            propose(model.model, model.form, given.seeds, given.window(0, len(given.seeds)).batch, edits)
        )
    return {
        "model": recipe.model,
        "family": model.family.name,
        "samples": len(given.seeds),
        "seeds": recipe.seeds,
        "given": recipe.given,
        "samplers": [{"name": sampler.name, **knobs} for sampler, knobs in edits],
        "options": recipe.options,
        "columns": {field.name: str(field.type) for field in model.schema(given)},
        "output": out,
        **plan,
    }


def _print(batches: Iterator[Batch], schema: pa.Schema, as_json: bool, *, to_stdout: bool) -> None:
    """Rows on stdout: JSON lines, plain lines of a single text column, a table on a terminal, CSV in a pipe."""
    text_only = len(schema) == 1 and pa.types.is_string(schema.field(0).type)
    if image_columns(schema):
        with tempfile.TemporaryDirectory() as folder:
            write_picture(batches, schema, path := Path(folder) / "out.png")
            sys.stdout.buffer.write(path.read_bytes())
    elif as_json:
        _stream(batches, schema, write_jsonl)
    elif text_only:
        for batch in batches:
            click.echo("".join(f"{cell or ''}\n" for cell in batch.column(0).to_pylist()), nl=False)
    elif sys.stdout.isatty() and not to_stdout:
        for batch in batches:
            click.echo(as_text(pa.Table.from_batches([batch])))
    else:
        _stream(batches, schema, write_csv)


def _stream(batches: Iterator[Batch], schema: pa.Schema, writer: Write) -> None:
    """Each batch as the writer writes it to a file, without the head that comes first, as soon as it is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        writer([], schema, path)
        head = rest = path.read_bytes()
        for batch in batches:
            writer([batch], schema, path)
            sys.stdout.buffer.write(rest + path.read_bytes()[len(head) :])
            sys.stdout.buffer.flush()
            rest = b""
