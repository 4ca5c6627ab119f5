"""``genreg data convert``: from any format that is read to any that is written."""

from __future__ import annotations

import click


@click.command("convert")
@click.argument("source")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the source, such as csv:encoding=gb18030.")
@click.option("-o", "--output", required=True, metavar="OUT", help="The file to write; its suffix says how.")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
def command(source: str, loader: str | None, output: str, force: bool) -> None:
    """Read SOURCE and write it in the format of OUT, its schema kept exactly."""
    from genreg.loading import open_source
    from genreg.outputs import refuse_output, write
    from genreg.plugins import load_plugins

    refuse_output(output, force=force)
    loaders = load_plugins().loaders
    found = open_source(source, loaders, loader)
    write(found.scan(), found.schema, output, loaders, force=force)
