"""``genreg convert``: make a checkpoint of a file of StyleGAN networks."""

from __future__ import annotations

import click


@click.command("convert")
@click.argument("file")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The checkpoint's folder.")
@click.option("--network", type=click.Choice(["G_ema", "G"]), default="G_ema", help="The generator that runs.")
@click.option("--only", is_flag=True, help="Leave the other networks out.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An argument that the file does not tell.")
@click.option("--license", "license_name", metavar="TEXT", help="The license of the weights, for the model card.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that is there.")
def command(
    file: str,
    output: str,
    network: str,
    only: bool,
    settings: tuple[str, ...],
    license_name: str | None,
    as_json: bool,
    force: bool,
) -> None:
    """Make a checkpoint of StyleGAN networks in a .pkl, .pt or .safetensors FILE.

    FILE is a network pickle of StyleGAN2-ADA or StyleGAN3, a checkpoint of rosinality's StyleGAN2, or a state dict in
    either's layout. It is read as data: nothing that it names is imported, and nothing in it is run.
    """
    from pathlib import Path
    from typing import cast

    from genreg.cli.common import echo_json, note, pairs
    from genreg_stylegan.convert import Which, convert

    done = convert(
        Path(file), Path(output), network=cast("Which", network), settings=pairs(settings, "--set"),
        license_name=license_name, only=only, force=force,
    )  # fmt: skip
    for one in done["notes"]:
        note(one)
    if not license_name:
        note(f"whose weights are these? {Path(output) / 'README.md'} asks; --license notes the answer")
    if as_json:
        echo_json(done)
    else:
        beside = f", with {' and '.join(done['beside'])}" if done["beside"] else ""
        click.echo(f"{output}: {done['family']}, {done['resolution']} pixels, {done['numbers']:,} numbers{beside}")
