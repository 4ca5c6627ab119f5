"""``genreg data inspect``: what is in a source, before anything is made of it."""

from __future__ import annotations

import click


@click.command("inspect")
@click.argument("source")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the source, such as csv:encoding=gb18030.")
@click.option("--strict", is_flag=True, help="Stop at a broken image; without it, it is left out and named.")
@click.option("--label", metavar="COLUMN", help="The column whose values are counted as labels.")
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="How many rows to show.")
@click.option("-o", "--output", metavar="SHEET", help="Write a contact sheet of the first images, such as sheet.png.")
@click.option("--images", type=click.IntRange(min=1), default=64, show_default=True, help="How many it shows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--force", is_flag=True, help="Replace the sheet if it is there.")
def command(
    source: str, loader: str | None, strict: bool, label: str | None, rows: int, output: str | None, images: int,
    as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Print the schema of SOURCE, counts, missing cells, ranges, a histogram per column, labels and sample rows."""
    from pathlib import Path

    from genreg.cli.common import echo_json, note, progress
    from genreg.errors import UsageError
    from genreg.files import new_file, refuse_existing
    from genreg.images import FORMATS, contact_sheet, encode
    from genreg.plugins import load_plugins
    from genreg_data.files import read
    from genreg_data.look import first_images, inspect, told

    sheet = None if output is None else Path(output)
    if sheet is not None:
        if sheet.suffix.lower() not in FORMATS:
            raise UsageError(f"-o {output}: a sheet is a picture, such as sheet.png")
        refuse_existing(sheet, force=force)
    found = read([source], load_plugins().loaders, loader, strict=strict)
    if sheet is not None:
        picture = encode(contact_sheet(first_images(found, images)), kind=FORMATS[sheet.suffix.lower()])
        with new_file(sheet, force=force) as temporary:
            temporary.write_bytes(picture)
    with progress("reading", "rows") as report:
        seen = inspect(found, report, label=label, rows=rows)
    if as_json:
        echo_json(seen)
    else:
        click.echo(told(seen))
    if sheet is not None:
        note(f"wrote {output}")
