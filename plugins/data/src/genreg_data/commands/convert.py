"""``genreg data convert``: from any format that is read to any that is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from genreg.cli.common import echo_json, note, progress

if TYPE_CHECKING:
    from genreg.draft import Batch


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the sources, such as csv:encoding=gb18030.")
@click.option("-o", "--output", required=True, metavar="OUT", help="A file, whose suffix says how, or a folder (OUT/).")
@click.option("--strict", is_flag=True, help="Stop at a broken image; without it, it is left out and named.")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: rows, columns, what was left out.")
def command(
    sources: tuple[str, ...], loader: str | None, output: str, strict: bool, force: bool, as_json: bool
) -> None:
    """Write SOURCE, or several as one table, in the format of OUT, the schema kept exactly.

    CSV and JSON cannot hold a schema: it is written beside them (OUT.schema.json), and whatever reads OUT goes by it.
    """
    from genreg.loading import writer_of
    from genreg.outputs import refuse_output
    from genreg.plugins import load_plugins
    from genreg_data.files import left_out, read, write_typed

    loaders = load_plugins().loaders
    refuse_output(output, force=force)
    writer_of(output, loaders)
    source = read(sources, loaders, loader, strict=strict)
    done = 0

    def told(report: Any, batch: Batch) -> Batch:
        nonlocal done
        done += batch.num_rows
        report(done, source.rows)
        return batch

    with progress("converting", "rows") as report:
        batches = (told(report, batch) for batch in source.scan())
        write_typed(batches, source.schema, output, loaders, force=force)
    columns = {field.name: str(field.type) for field in source.schema}
    if as_json:
        echo_json({"output": output, "rows": done, "columns": columns, "skipped": dict(source.skipped)})
        return
    if lost := left_out(source):
        note(lost)
    note(f"wrote {output}: {done:,} rows, {len(columns)} columns")
