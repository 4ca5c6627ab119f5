"""``genreg keys``: keys by host, stored where their owner alone can read them."""

from __future__ import annotations

import sys

import click

from genreg_openai.keys import IN_KEYRING, OPENAI, read_store, remove_key, set_key, store

NAMES = {"openai": OPENAI}


@click.group("keys")
def keys() -> None:
    """Keep the keys of remote services, each bound to its host."""


@keys.command("set")
@click.argument("host")
@click.option("--keyring", is_flag=True, help="Store it in the system's keyring.")
def set_(host: str, keyring: bool) -> None:
    """Store the key of HOST (openai, or a host such as localhost:8000), read from a prompt or from stdin."""
    from genreg.cli.common import note

    name = _host(host)
    key = click.prompt(f"key of {name}", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    set_key(name, key, keyring=keyring)
    note(f"the key of {name} is in {'the keyring' if keyring else store()}")


@keys.command("list")
def list_() -> None:
    """List the hosts that have a key, never the keys."""
    for host, kept in sorted(read_store().items()):
        click.echo(f"{host}  {'keyring' if kept == IN_KEYRING else 'file'}")


@keys.command("remove")
@click.argument("host")
def remove(host: str) -> None:
    """Forget the key of HOST."""
    from genreg.cli.common import note

    remove_key(_host(host))
    note(f"the key of {_host(host)} is forgotten")


def _host(name: str) -> str:
    """The host that is meant: a name, a URL, or a host as it is."""
    from genreg_openai.endpoint import host_of

    return NAMES.get(name) or host_of(name if "://" in name else f"https://{name}")
