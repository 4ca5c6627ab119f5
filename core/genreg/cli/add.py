"""``genreg add``: give a checkpoint folder a name."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json, note


@click.command("add")
@click.argument("name")
@click.argument("folder")
@click.option("--summary", metavar="TEXT", help="The line that genreg list shows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--force", is_flag=True, help="Replace the entry of that name.")
def command(name: str, folder: str, summary: str | None, as_json: bool, force: bool) -> None:
    """Name the checkpoint in FOLDER in your own registry: then genreg list, run, score and show know it by NAME."""
    from pathlib import Path

    from genreg.userregistry import add

    added = add(name, Path(folder), summary=summary, force=force)
    if as_json:
        echo_json(added)
        return
    note(f"{name} is {added['weights']} now, by {added['registry']}")
    if added["overrides"]:
        note(f"it overrides the entry of {added['overrides']}")
    if not added["comments_kept"]:
        note("the file had to be written anew: its comments are gone")
