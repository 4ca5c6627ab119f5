"""``genreg run``: draw samples, print them or write them with the recipe that makes them again."""

from __future__ import annotations

from typing import Any

import click


@click.command("run")
@click.argument("name", required=False)
@click.argument("condition", required=False)
@click.option("-n", type=int, help="How many samples (for each row of a given file).")
@click.option("--seed", type=int, help="The first seed; the next samples take the next ones.")
@click.option("--seeds", help="These seeds alone, such as 1,5-9.")
@click.option(
    "--given", multiple=True, metavar="K=V|FILE", help="A condition, or a table of them with one row per sample."
)
@click.option("--key", help="A column of the given file to keep beside the samples.")
@click.option(
    "--sampler", "samplers", multiple=True, metavar="NAME:K=V,…", help="Edit the draft, such as truncate:psi=0.7."
)
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the model is loaded.")
@click.option("--device", help="The same as --option device=…")
@click.option(
    "-o", "--output", metavar="OUT", help="Write to this file as its suffix says, or to a folder (OUT/). - is stdout."
)
@click.option("--recipe", metavar="OUT", help="Make the same samples as this output again.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--offline", is_flag=True, help="Fetch nothing: what is cached must do.")
@click.option("--yes", is_flag=True, help="With --recipe: fetch the weights that it names, if they are not here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished run in OUT.part, or begin it.")
@click.option("--shard", metavar="K/N", help="Make this part of the rows alone; genreg concat puts the parts together.")
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes that share the work.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace the output if it is there, and start over.")
def command(name: str | None, condition: str | None, **flags: Any) -> int:
    """Draw samples from the model NAME (an entry, a checkpoint folder or a reference), given its first CONDITION."""
    from genreg.running import run

    return run(name, condition, flags)
