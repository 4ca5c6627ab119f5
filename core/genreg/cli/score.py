"""``genreg score``: how probable rows are, and what the model infers of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from genreg.cli.common import echo_json, note, pairs, progress

if TYPE_CHECKING:
    from genreg.draft import Batch

WORDS = {"mean_log_prob": "mean log p", "impossible": "impossible", "accuracy": "accuracy"}


@click.command("score")
@click.argument("name")
@click.option("--data", required=True, metavar="FILE", help="The rows to score.")
@click.option("--key", metavar="COLUMN", help="A column to keep beside the scores.")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the file, such as csv:encoding=gb18030.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the model is loaded.")
@click.option("--device", help="The same as --option device=…")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is estimated by drawing.")
@click.option("-o", "--output", metavar="OUT", help="Write to this file; - and without it, scores are printed.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
@click.option("--offline", is_flag=True, help="Fetch nothing: what is cached must do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the scores, or with -o the summary.")
@click.option("--force", is_flag=True, help="Replace the output if it is there.")
def command(
    name: str, data: str, output: str | None, registries: tuple[str, ...], as_json: bool, force: bool, **flags: Any
) -> None:
    """Score the rows of a file with the model NAME: log p in the data's units, and what the model infers of them."""
    from pathlib import Path

    from genreg.api import load
    from genreg.loading import writer_of
    from genreg.outputs import refuse_output, write
    from genreg.printing import print_rows
    from genreg.textfiles import unpacked_name

    out = Path(output) if output not in (None, "-") else None
    if out:
        refuse_output(out, force=force)
    options = pairs(flags["options"], "--option") | ({"device": flags["device"]} if flags["device"] else {})
    model = load(name, options=options, registries=registries, offline=flags["offline"])
    if out:
        writer_of(out, model.components.loaders)
    scorer = model.scorer(data, key=flags["key"], loader=flags["loader"], seed=flags["seed"])
    with progress("scoring", "rows", hidden=out is None and sys.stdout.isatty()) as report:
        batches = scorer.batches()
        first = next(batches)  # its schema is that of all; and what is refused at once is told in one line
        for news in scorer.notes():
            note(news)
        json_lines = as_json if out is None else unpacked_name(out).lower().endswith((".jsonl", ".ndjson"))
        told = (_told(batch, report, scorer.rows, scorer.source.rows, json_lines) for batch in chain([first], batches))
        if out:
            write(told, first.schema, out, model.components.loaders, force=force)
        else:
            print_rows(told, first.schema, as_json=as_json, to_stdout=output == "-")
    if out and as_json:
        echo_json({"output": str(out), **scorer.summary()})
        return
    for news in scorer.surprises():
        note(news)
    note((f"wrote {out}: " if out else "") + _spelled(scorer.summary()))


def _told(batch: Batch, report: Any, done: int, total: int | None, json_lines: bool) -> Batch:
    """The batch, its progress told; for JSON, which has no infinity, the log p of what is impossible is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from genreg.scoring import LOG_PROB

    report(done, total)
    at = batch.schema.get_field_index(LOG_PROB)
    if not json_lines or at < 0:
        return batch
    scores = batch.column(at)
    finite = pc.if_else(pc.is_finite(scores), scores, pa.scalar(None, scores.type))
    return batch.set_column(at, batch.schema.field(at), finite)


def _spelled(summary: Mapping[str, Any]) -> str:
    figures = [f"{WORDS[name]} {summary[name]:,.6g}" for name in WORDS if summary.get(name)]
    return ", ".join([f"{summary['rows']:,} rows", *figures])
