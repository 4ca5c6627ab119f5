"""``genreg verify``: compare the weights that are here with the registry, offline."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json


@click.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: tuple[str, ...], registries: tuple[str, ...], as_json: bool) -> int:
    """Hash the files of the models NAME…, or of all, and compare them with the registry; exit with 1 if one differs."""
    from genreg.stored import verify

    rows = list(verify(names, registries))
    if as_json:
        echo_json(rows)
    for row in [] if as_json else rows:
        click.echo(f"{row['status']:<12}{row['name']}" + (f": {row['message']}" if row["message"] else ""))
    return 1 if any(row["status"] == "damaged" for row in rows) else 0
