"""``genreg data``: a file per verb, imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from genreg.errors import did_you_mean

VERBS = {
    "inspect": "Say what is in a source: schema, counts, missing cells, ranges, labels, sample rows",
    "prepare": "Clean, label, split and map a source, and write the parts with a manifest",
    "convert": "Write data in another format, its schema kept exactly",
}


class DataVerbs(click.Group):
    """The verbs of this folder: ``genreg_data.commands.NAME.command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all verbs."""
        return [*VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"genreg_data.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; raises UsageError with a close one."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.UsageError(f"genreg data has no verb {args[0]}{did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in ``--help``, without importing any verb."""
        with formatter.section("Verbs"):
            formatter.write_dl([*VERBS.items()])


@click.group("data", cls=DataVerbs)
def command() -> None:
    """From raw tables, text and pictures to training data."""
