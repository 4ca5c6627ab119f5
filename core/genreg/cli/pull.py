"""``genreg pull``: fetch weights now, so that they are here when there is no network."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json


@click.command("pull")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: tuple[str, ...], registries: tuple[str, ...], as_json: bool) -> None:
    """Fetch the weights of the models NAME… (entries or hf:// references), or of all that the registries name."""
    from genreg.stored import pull

    rows = []
    for row in pull(names, registries):
        rows.append(row)
        if not as_json:
            click.echo(f"{row['name']}: {row['bytes']:,} bytes in {row['folder']}")
    if as_json:
        echo_json(rows)
