"""``genreg list``: from registry files alone; no plugin is imported."""

from __future__ import annotations

import click

from genreg.entrypoints import install_line
from genreg.errors import NotFound, UsageError, did_you_mean
from genreg.registry import Registry, read_registries
from genreg.wide import padded, width

MAKES = {"table", "sequence", "text", "image"}
KINDS = ("models", "families", "samplers", "loaders", "preprocessors")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), default="models")
@click.option("--family", help="Only models of this family.")
@click.option("--makes", help="Only what makes this: table, sequence, text, image.")
@click.option("--installed", is_flag=True, help="Only what can be run now.")
@click.option("--offline", is_flag=True, help="Mark what can run without a network; with -q, print that alone.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print names alone.")
def command(
    kind: str,
    family: str | None,
    makes: str | None,
    installed: bool,
    offline: bool,
    registries: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """List what there is: models, or the KIND of component named."""
    if offline and kind != "models":
        raise UsageError(f"--offline marks models, and {kind} need no network: genreg list --offline")
    registry = read_registries(registries)
    rows = _models(registry, offline) if kind == "models" else _components(registry, kind)
    for option, value, known in (
        ("family", family, {entry.family for entry in registry.entries.values()} | registry.offers["families"].keys()),
        ("makes", makes, {entry.makes for entry in registry.entries.values()} | MAKES),
    ):
        if value is not None and value not in known:
            raise NotFound(f"--{option} {value}: there is none{did_you_mean(value, known)}")
    rows = [
        row
        for row in rows
        if (family is None or row["family"] == family)
        and (makes is None or row["makes"] == makes)
        and (not installed or row["installed"])
        and (not (offline and quiet) or row["offline"])
    ]
    if as_json:
        import json

        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif quiet:
        click.echo("".join(f"{row['name']}\n" for row in rows), nl=False)
    else:
        _draw(rows, kind)
    for problem in registry.problems:
        click.echo(f"genreg: {problem}", err=True)


def _models(registry: Registry, offline: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, entry in sorted(registry.entries.items()):
        row: dict[str, object] = {
            "name": name, "family": entry.family, "makes": entry.makes, "summary": entry.summary,
            "installed": entry.installed, "license": entry.license,
        }  # fmt: skip
        if entry.plugin:
            row["plugin"] = entry.plugin
            if not entry.installed:
                row["install"] = install_line(entry.plugin)
        if offline:
            from genreg.offline import obstacle

            why_not = obstacle(entry, registry)
            row |= {"offline": False, "obstacle": why_not} if why_not else {"offline": True}
        if entry.overrides:
            row["overrides"] = entry.overrides
        rows.append(row)
    return rows


def _components(registry: Registry, kind: str) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "family": name if kind == "families" else None,
            "makes": offer.get("makes"),
            "installed": True,
            **offer,
        }
        for name, offer in sorted(registry.offers[kind].items())
    ]


def _draw(rows: list[dict[str, object]], kind: str) -> None:
    heads = ("name", "family", "makes", "summary") if kind == "models" else ("name", "plugin", "summary")
    if rows and "offline" in rows[0]:
        heads = (*heads[:-1], "offline", heads[-1])
    cells = [heads, *(tuple(_cell(row.get(head)) for head in heads) for row in rows)]
    widths = [max(width(row[at]) for row in cells) for at in range(len(heads) - 1)]
    for row, source in zip(cells, [None, *rows], strict=True):
        line = "  ".join(padded(cell, wide) for cell, wide in zip(row, widths, strict=False)) + "  " + row[-1]
        click.echo(line.upper() if source is None else line)
        if source and source.get("install"):
            click.echo(f"{'':{widths[0]}}  not installed: {source['install']}")
        elif source and source.get("obstacle"):
            click.echo(f"{'':{widths[0]}}  {source['obstacle']}")
        if source and source.get("overrides"):
            click.echo(f"{'':{widths[0]}}  overrides the entry of {source['overrides']}")


def _cell(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value or "")
