"""``genreg plugins``: healthy, broken and known-but-not-installed ones side by side."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json
from genreg.entrypoints import install_line
from genreg.registry import read_registries


@click.command("plugins")
@click.option("--verbose", is_flag=True, help="Show the traceback of a broken plugin.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(verbose: bool, as_json: bool) -> int:
    """Show installed plugins with what they provide, broken ones with the cause, and those to install.

    Exits with 1 where a plugin or its registry file is broken.
    """
    from genreg.plugins import load_plugins

    registry = read_registries()
    rows: list[dict[str, object]] = []
    for status in load_plugins().statuses:
        row: dict[str, object] = {
            "plugin": status.point.dist, "entry_point": status.point.name, "version": status.point.version,
            "status": "broken" if status.cause else "ok", "provides": dict(status.provides),
        }  # fmt: skip
        if status.cause:
            row |= {"cause": status.cause, "traceback": status.trace}
        rows.append(row)
    for name, known in sorted(registry.plugins.items()):
        if name not in registry.installed:
            about = {"summary": known["summary"], "install": install_line(name)}
            rows.append({"plugin": name, "status": "not installed", **about})
    if as_json:
        echo_json(rows)
    for row in [] if as_json else rows:
        _draw(row, verbose)
    for problem in registry.problems:
        click.echo(f"genreg: {problem}", err=True)
    return 1 if any(row["status"] == "broken" for row in rows) or registry.problems else 0


def _draw(row: dict[str, object], verbose: bool) -> None:
    click.echo(f"{row['plugin']} {row.get('version', '')}".strip() + f": {row['status']}")
    provides = row.get("provides")
    if isinstance(provides, dict):
        for kind, names in provides.items():
            click.echo(f"  {kind}: {', '.join(names)}")
    if row.get("cause"):
        click.echo(f"  cause: {row['cause']}")
        if verbose:
            for line in str(row["traceback"]).splitlines():
                click.echo(f"    {line}")
    if row.get("install"):
        click.echo(f"  {row['summary']}\n  {row['install']}")
