"""``genreg chat``."""

import click


@click.command("chat")
def chat() -> None:
    """Keep a conversation with a text model."""
