"""``genreg check``: a model against the contract, check by check."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json


@click.command("check")
@click.argument("name")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--offline", is_flag=True, help="Fetch nothing: what is cached must do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, registries: tuple[str, ...], offline: bool, as_json: bool) -> int:
    """Check the model NAME against the contract; exit with 1 where a promise is not kept."""
    from genreg.api import load
    from genreg.testing import run_checks

    results = run_checks(load(name, registries=registries, offline=offline))
    if as_json:
        echo_json([{"check": r.check.name, "status": r.status, "message": r.message} for r in results])
    for result in [] if as_json else results:
        click.echo(f"{result.status:<8}{result.check.name}: {result.check.explains}")
        if result.message:
            click.echo(f"        {result.message}")
        if result.status == "failed":
            click.echo(f"        to mend it: {result.check.mend}")
    return 1 if any(result.status == "failed" for result in results) else 0
