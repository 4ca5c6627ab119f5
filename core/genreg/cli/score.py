"""``genreg score``: how probable rows are, and what they came from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("score")
@click.argument("name")
@click.option("--data", required=True, metavar="FILE", help="The rows to score.")
@click.option("--key", metavar="COLUMN", help="A column to keep beside the scores.")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the file.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the model is loaded.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is estimated by drawing.")
@click.option("-o", "--output", metavar="OUT", help="Write to this file; without it, scores are printed.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON (the rows, where there is no OUT).")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
def command(
    name: str, data: str, key: str | None, loader: str | None, options: tuple[str, ...], seed: int,
    output: str | None, registries: tuple[str, ...], as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Score the rows of a file with the model NAME: log p in the data's units, and what the family infers."""
    from genreg.api import load
    from genreg.cli.common import echo_json, note, pairs, print_rows, progress
    from genreg.files import refuse_existing
    from genreg.loading import open_source
    from genreg.outputs import write_first
    from genreg.scoring import Scorer

    out = Path(output) if output and output != "-" else None
    if out:
        refuse_existing(out, force=force)
    model = load(name, options=pairs(options, "--option"), registries=registries)
    source = open_source(data, model.components.loaders, loader)
    scorer = Scorer(model, key, seed)
    with progress("scoring", "rows") as report:
        batches = scorer.batches(source)
        if out:
            write_first(batches, out, model.components.loaders, force=force, report=report, total=source.rows)
        else:
            print_rows(batches, as_json=as_json)
    if out and as_json:
        echo_json({"output": str(out), **scorer.summary.described()})
    else:
        note(", ".join(f"{what} {value:,.6g}" for what, value in scorer.summary.described().items()))
