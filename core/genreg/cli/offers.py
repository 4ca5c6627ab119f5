"""``genreg offers``: what a plugin's hooks offer, and the part of its registry.yaml that says so."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json, note
from genreg.entrypoints import package_folder
from genreg.errors import NotFound
from genreg.registry import core_file


@click.command("offers")
@click.argument("dist")
@click.option("--write", "write", is_flag=True, help="Bring the plugin's registry.yaml in step with its hooks.")
@click.option("--json", "as_json", is_flag=True, help="With --write: print JSON (without it, JSON is what is printed).")
def command(dist: str, write: bool, as_json: bool) -> int:
    """Print what the distribution DIST offers; exit with 1 where its registry.yaml says something else."""
    from pathlib import Path

    from genreg.offers import offers, with_offers, write_offers
    from genreg.plugins import load_plugins

    components = load_plugins()
    offered = offers(components, dist)
    package = next(status.point.package for status in components.statuses if status.point.dist == dist)
    path = Path(core_file()) if dist == "genreg-core" else Path(package_folder(package) or ".", "registry.yaml")
    if not path.is_file():
        raise NotFound(
            f"{path} is not there: a plugin's package holds a registry.yaml; begin it with the line version: 1"
        )
    if write:
        written = write_offers(path, offered)
        if as_json:
            echo_json({"registry": str(path), "written": written})
        else:
            note(f"{path} {'written' if written else 'is in step already'}")
        return 0
    echo_json(offered)
    text = path.read_text("utf-8")
    if with_offers(text, offered) != text:
        note(f"{path} is out of step with the hooks: genreg offers {dist} --write")
        return 1
    return 0
