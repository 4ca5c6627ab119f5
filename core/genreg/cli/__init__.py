"""The command line: one file per verb, imported when it is called; every mistake is one line."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

import click

from genreg import __version__
from genreg.entrypoints import COMMANDS, EntryPoint, scan
from genreg.errors import GenregError, PluginError, did_you_mean

VERBS = {
    "list": "List models, families, samplers, loaders or preprocessors",
    "show": "Show what a model, a family or an output is",
    "run": "Draw samples from a model",
    "concat": "Put the shards of a run together",
    "score": "Say how probable rows are, and what a model infers of them",
    "train": "Train a family on a file",
    "pull": "Fetch weights from the Hub before they are needed",
    "verify": "Compare the weights that are here with the registry",
    "push": "Publish a checkpoint on the Hub",
    "add": "Give a checkpoint folder a name of your own",
    "remove": "Forget a name of your own",
    "plugins": "Show installed, broken and missing plugins",
    "check": "Check a model against the contract",
    "offers": "Write what a plugin's hooks offer into its registry.yaml",
    "completion": "Print the script that lets bash, zsh or fish complete",
}


class Verbs(click.Group):
    """The built-in verbs and those of plugins, none of which is imported before it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all verbs."""
        return [*VERBS, *sorted({point.name for point in _plugin_verbs()} - VERBS.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one verb."""
        if cmd_name in VERBS:
            command: click.Command = import_module(f"genreg.cli.{cmd_name}").command
            return command
        points = [point for point in _plugin_verbs() if point.name == cmd_name]
        if len({point.value for point in points}) > 1:
            raise PluginError(f"the verb {cmd_name} is claimed by {' and by '.join(point.dist for point in points)}")
        for point in points:
            return load_verb(point)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; raises UsageError with a close one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"there is no verb {args[0]}{did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing any verb."""
        with formatter.section("Verbs"):
            formatter.write_dl(self.summaries(ctx))

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Each verb with its line, of a plugin's as its registry file says."""
        from genreg.registry import read_registries

        try:
            offered = read_registries().offers["commands"]
        except GenregError:  # the user's own file is wrong: help must say how to go on all the same
            offered = {}
        known = {name: str(offer.get("summary", "")) for name, offer in offered.items()} | VERBS
        return [(name, known.get(name, "")) for name in self.list_commands(ctx)]


def load_verb(point: EntryPoint) -> click.Command:
    """Import a plugin's verb; raises PluginError where it is broken."""
    module, _, name = point.value.partition(":")
    try:
        found: click.Command = getattr(import_module(module), name or "command")
    except (Exception, SystemExit) as error:
        raise PluginError(f"{point.name} of {point.dist} is broken: {type(error).__name__}: {error}") from error
    return found


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="genreg %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def group(debug: bool) -> None:
    """Generative models behind one command: list them, run them, train them, write your own."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code: 0, 1 failed, 2 to be mended, 3 some rows not ok, 130 interrupted.

    Where the reader of a pipe has gone, click ends it with 1 and says nothing.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if shell := os.environ.get("_GENREG_COMPLETE"):  # a shell asks what may stand here
        from genreg.cli.complete import main as complete

        return complete(arguments, shell)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(group.main(args=arguments, prog_name="genreg", standalone_mode=False) or 0)
    except GenregError as error:
        _fail(error, str(error), error.exit_code, arguments, debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error, error.format_message(), 2, arguments, debug)
    except (KeyboardInterrupt, click.Abort) as error:
        _fail(error, "interrupted; what was finished is kept, and nothing is left half written", 130, arguments, debug)
    except Exception as error:  # a fault of ours or of a plugin's: one line all the same
        _fail(error, f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1, arguments, debug)


def _fail(error: BaseException, message: str, code: int, arguments: list[str], debug: bool) -> None:
    message = " ".join(message.split())
    if debug:
        import traceback

        traceback.print_exception(error)
    if "--json" in arguments:
        import json

        told = {"error": {"kind": type(error).__name__, "message": message}}
        click.echo(json.dumps(told, ensure_ascii=False), err=True)
    else:
        click.echo(f"genreg: {message}", err=True)
    sys.exit(code)


def _plugin_verbs() -> list[EntryPoint]:
    return [point for point in scan() if point.group == COMMANDS]
