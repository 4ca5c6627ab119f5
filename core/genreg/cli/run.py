"""``genreg run``: draw samples, print them or write them with the recipe that makes them again."""

from __future__ import annotations

from typing import Any

import click


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
@click.option("--resume", is_flag=True, help="Go on with the unfinished run in OUT.part, or begin it.")
@click.option("--shard", metavar="K/N", help="Make this part of the rows alone; genreg concat puts the parts together.")
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes that share the work.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace the output if it is there, and start over.")
def command(name: str | None, condition: str | None, **flags: Any) -> int:
    """Draw samples from the model NAME (an entry, a checkpoint folder or a reference), given its first CONDITION."""
    from genreg.running import run

<<<<<<< HEAD

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
    """Rows on stdout: lines of a single text column, a table on a terminal; in a pipe CSV, or JSON lines of lists."""
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
        _stream(batches, schema, write_jsonl if any(pa.types.is_nested(f.type) for f in schema) else write_csv)


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
=======
    return run(name, condition, flags)
>>>>>>> main
