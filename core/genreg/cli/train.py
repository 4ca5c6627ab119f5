"""``genreg train``: from a file to a checkpoint."""

from __future__ import annotations

from typing import Any

import click

from genreg.cli.common import echo_json, note, pairs, progress


@click.command("train")
@click.argument("family")
@click.option("--data", required=True, metavar="FILE", help="The rows to learn from.")
@click.option("--label", metavar="COLUMN", help="The column that names each row's class.")
@click.option("--weight", metavar="COLUMN", help="How often each row counts, where the family can say so.")
@click.option("--group", metavar="COLUMN", help="Rows with the same value stay in the same part.")
@click.option("--key", metavar="COLUMN", help="A column that identifies rows; the model does not see it.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave this column out.")
@click.option("--sequence-by", metavar="COLUMN", help="The rows are steps: those with the same value are one sequence.")
@click.option("--loader", metavar="NAME:K=V,…", help="How to read the file, such as csv:encoding=gb18030.")
@click.option("--preprocess", multiple=True, metavar="NAME:K=V,…", help="A step before the model, such as standardize.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A setting of the family.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the family computes.")
@click.option("--device", help="The same as --option device=…")
@click.option("--split", default="70/15/15", show_default=True, help="Shares of train, validation and test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split and of the training.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The checkpoint to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--resume", is_flag=True, help="Continue the unfinished run in FOLDER.part, if there is one.")
@click.option("--force", is_flag=True, help="Replace the checkpoint, and an unfinished run, if they are there.")
def command(
    family: str, data: str, output: str, device: str | None, as_json: bool, dry_run: bool, resume: bool, force: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """Train FAMILY on a file and write the checkpoint to a folder."""
    from genreg.resume import is_first
    from genreg.training import train

    asked["settings"] = pairs(asked["settings"], "--set")
    asked["options"] = pairs(asked["options"], "--option") | ({"device": device} if device else {})
    if dry_run:
        echo_json(_planned(family, data, output, force, asked))
        return
    with progress(f"training {family}", "steps") as report:
        record = train(family, data, out=output, force=force, resume=resume, report=report, **asked)
    if not is_first():
        return
    if as_json:
        echo_json({"output": output, **record})
        return
    rows = ", ".join(f"{count:,} {part}" for part, count in record["rows"].items())
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in record["metrics"].items())
    note(f"wrote {output} (rows: {rows}{'; ' + metrics if metrics else ''})")
    note(f"try: genreg run {output if '/' in output else './' + output} -n 5")


def _planned(family: str, data: str, output: str, force: bool, asked: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    from dataclasses import fields
    from pathlib import Path

    from genreg.checkpoint import refuse_existing_folder
    from genreg.training import Roles, prepare

    refuse_existing_folder(Path(output), force=force)
    roles = Roles(**{field.name: asked.pop(field.name) for field in fields(Roles)})
    with tempfile.TemporaryDirectory() as folder:
        ready = prepare(family, data, Path(folder), roles=roles, **asked)
        return {**ready.described(), **ready.estimated()}
