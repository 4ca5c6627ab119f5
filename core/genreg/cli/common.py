"""What the verbs share: notes on stderr, JSON on stdout, a progress bar where there is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from genreg.errors import UsageError


def note(message: str) -> None:
    """Tell people something beside the result."""
    click.echo(f"genreg: {message}", err=True)


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``k=v`` texts as a mapping; raises UsageError for one given twice."""
    from genreg.options import split_pair

    found: dict[str, str] = {}
    for text in texts:
        name, value = split_pair(text, option)
        if name in found:
            raise UsageError(f"{option} {text}: {name} is given twice")
        found[name] = value
    return found


@contextmanager
def progress(what: str, unit: str, *, hidden: bool = False) -> Iterator[Callable[..., None]]:
    """A report that draws a bar on stderr; nothing where it is hidden, another process's, or there is no terminal."""
    if hidden or not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield lambda *_, **__: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    done, figures = TextColumn("{task.completed:,.0f} " + unit), TextColumn("{task.fields[figures]}")
    shown = (TextColumn("{task.description}"), BarColumn(), done, TimeRemainingColumn(), figures)
    with Progress(*shown, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=None, figures="")

        def report(done: int, total: int | None = None, /, **figures: float) -> None:
            told = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            bar.update(task, completed=done, total=total, figures=told)

        yield report


@contextmanager
def downloads() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """A maker of bars on stderr, one for each file: ``bar(name, bytes)`` takes the bytes that are there so far."""
    if not sys.stderr.isatty() or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") == "1":
        yield lambda *_: lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*shown, TimeRemainingColumn(), console=Console(stderr=True), redirect_stdout=False) as bars:

        def bar(name: str, size: int) -> Callable[[int], None]:
            task = bars.add_task(name, total=size)
            return lambda done: bars.update(task, completed=done)

        yield bar
