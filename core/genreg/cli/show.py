"""``genreg show``: what a model, a family or an output is, and what can be said to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from genreg.cli.common import echo_json, note


@click.command("show")
@click.argument("what", metavar="NAME|FAMILY|FILE")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("-o", "--output", metavar="OUT", help="Draw the model's insides to this .svg or .png file instead.")
@click.option("--offline", is_flag=True, help="Fetch nothing: what is cached must do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--force", is_flag=True, help="Replace the drawing if it is there.")
def command(
    what: str, registries: tuple[str, ...], output: str | None, offline: bool, as_json: bool, force: bool
) -> None:
    """Show a model with its conditions, options and fitting samplers, a family, a component, or an output's recipe."""
    from genreg.facts import draw_to, facts_of

    if output:
        draw_to(what, output, registries, force=force, offline=offline)
        note(f"wrote {output}")
        return

    facts = facts_of(what, registries, offline=offline)
    if as_json:
        echo_json(facts)
    else:
        _draw(facts)


def _draw(facts: Mapping[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping):
            click.echo(f"{indent}{name}:")
            _draw(value, indent + "  ")
        elif name == "inside":
            click.echo("\n".join([f"{indent}{name}:", *(f"{indent}  {line}" for line in value)]))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            click.echo(f"{indent}{name}:")
            for row in value:
                click.echo(f"{indent}  {_line(row)}")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            click.echo(f"{indent}{name}: {shown}")


def _line(row: Mapping[str, Any]) -> str:
    default = f" = {row['default']}" if "default" in row else ""
    tail = f"  {row['help']}" if row.get("help") else ""
    values = f"  [{', '.join(map(str, row['values']))}]" if row.get("values") else ""
    also = f" (or {row['also']})" if row.get("also") else ""
    return f"{row['name']}{also}: {row['type']}{default}{tail}{values}"
