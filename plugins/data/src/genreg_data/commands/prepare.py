"""``genreg data prepare``: steps from raw data to files of train, validation and test, with an account of each."""

from __future__ import annotations

import click


@click.command("prepare")
@click.argument("source", required=False)
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the source, such as csv:encoding=gb18030.")
@click.option("--steps", multiple=True, metavar="NAME:K=V,…|FILE", help="A step, or a .yaml file of steps; in order.")
@click.option(
    "--format", "formats", multiple=True, metavar="SUFFIX", help="What to write: csv, jsonl, parquet (default) …"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split.")
@click.option("--strict", is_flag=True, help="Stop at a broken image; without it, it is left out and named.")
@click.option("--manifest", metavar="FILE", help="Make the files of this manifest again, byte for byte.")
@click.option("-o", "--output", metavar="FOLDER", help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, which has the report.")
@click.option("--force", is_flag=True, help="Replace the folder if it is there.")
def command(
    source: str | None, loader: str | None, steps: tuple[str, ...], formats: tuple[str, ...], seed: int, strict: bool,
    manifest: str | None, output: str | None, as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Clean, label, split and map SOURCE, and write a file per part, with a manifest that makes them again.

    The steps are those of --preprocess and, once, split. What comes after it is fitted on the training part alone.
    """
    from pathlib import Path

    from genreg.cli.common import echo_json, note, progress
    from genreg.errors import UsageError
    from genreg.steps import read_calls
    from genreg_data.store import Order, prepare, reproduce
    from genreg_data.told import told

    if manifest is not None and (source or steps or formats or loader):
        raise UsageError("--manifest says what is read and done: leave out the source, steps, formats and loader")
    with progress("preparing", "rows") as report:
        if manifest is not None:
            done = reproduce(Path(manifest), None if output is None else Path(output), report, force=force)
            output = output or str(Path(manifest) if Path(manifest).is_dir() else Path(manifest).parent)
        elif source and output:
            forms = [form.lower().removeprefix(".") for form in formats] or ["parquet"]
            order = Order(source, read_calls(steps, "--steps"), loader, forms, seed, strict)
            done = prepare(order, Path(output), report, force=force)
        else:
            raise UsageError("genreg data prepare SOURCE --steps … -o FOLDER: name the source and the folder")
    if as_json:
        echo_json(done)
        return
    click.echo(told(done))
    rows = ", ".join(f"{count:,} {part}" for part, count in done["rows"].items())
    note(f"{'made again' if manifest else 'wrote'} {output} (rows: {rows})")
