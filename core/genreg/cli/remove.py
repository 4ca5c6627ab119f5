"""``genreg remove``: forget a name; the folder stays."""

from __future__ import annotations

import click

from genreg.cli.common import echo_json, note


@click.command("remove")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, as_json: bool) -> None:
    """Forget the NAME of your own registry; the checkpoint's folder stays where it is."""
    from genreg.userregistry import remove

    removed = remove(name)
    if as_json:
        echo_json(removed)
        return
    note(f"{name} is forgotten" + (f"; {removed['weights']} is kept" if removed["weights"] else ""))
    if removed["now_from"]:
        note(f"the name is that of {removed['now_from']} again")
    if not removed["comments_kept"]:
        note("the file had to be written anew: its comments are gone")
