"""``genreg concat``: put the shards of a run together."""

from __future__ import annotations

import click


@click.command("concat")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD…")
@click.option("-o", "--output", required=True, metavar="OUT", help="Write to this file, of the shards' suffix.")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(shards: tuple[str, ...], output: str, force: bool, as_json: bool) -> int:
    """Put the outputs of --shard 1/N to N/N together, in order: the file that one run would have written."""
    from pathlib import Path

    from genreg.cli.common import echo_json, note
    from genreg.plugins import load_plugins
    from genreg.recipe import recipe_path
    from genreg.shards import concat

    out = Path(output)
    count = concat([Path(shard) for shard in shards], out, load_plugins().loaders, force=force)
    if as_json:
        echo_json({"output": output, "recipe": str(recipe_path(out)), "shards": count})
    else:
        note(f"wrote {output} ({count} shards) and {recipe_path(out).name}")
    return 0
