"""``genreg push``: publish a checkpoint on the Hub, and get the entry that pins it."""

from __future__ import annotations

import sys

import click

from genreg.cli.common import echo_json, note


@click.command("push")
@click.argument("folder")
@click.argument("repo", metavar="ORG/REPO")
@click.option("--license", help="Who may use it, as SPDX spells it, such as Apache-2.0.")
@click.option("--dataset", "datasets", multiple=True, metavar="ORG/NAME", help="A dataset on the Hub it learned from.")
@click.option("--private", is_flag=True, help="Make the repository a private one, where it is made now.")
@click.option("--tag", help="Give the commit this name too, such as v1.0.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: str, repo: str, license: str | None, datasets: tuple[str, ...], private: bool, tag: str | None,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Publish the checkpoint in FOLDER as the model repository ORG/REPO, and print its registry entry.

    The token is Hugging Face's own: `hf auth login`, or HF_TOKEN.
    """
    from pathlib import Path

    import yaml
    from huggingface_hub.utils import disable_progress_bars

    from genreg.card import front_matter
    from genreg.push import push

    if not sys.stderr.isatty():
        disable_progress_bars()
    card = Path(folder) / "README.md"
    said = license or (front_matter(card.read_text("utf-8-sig"))[0].get("license") if card.is_file() else None)
    if not said and sys.stdin.isatty():
        license = click.prompt("Who may use it? A licence as SPDX spells it, such as Apache-2.0", err=True)
    done = push(Path(folder), repo, license=license or "", datasets=datasets, private=private, tag=tag, dry_run=dry_run)
    if as_json:
        echo_json(done)
        return
    if not dry_run:
        note(f"{done['url']} is at commit {done['commit']} now; its entry:")
    for name, size in done["files"].items() if dry_run else ():
        click.echo(f"{name}: {size:,} bytes")
    if not dry_run:
        entry = {"version": 1, "models": {done["name"]: done["entry"]}}
        click.echo(yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, width=110), nl=False)
