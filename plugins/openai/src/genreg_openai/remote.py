"""What every remote family does with its requests, whatever they ask: one run of them, its account, its description."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from genreg.cli.common import note
from genreg.draft import Account, Done, Piece
from genreg.errors import UsageError
from genreg_openai.batch import Answered, Batches, require_journal
from genreg_openai.budget import Budget
from genreg_openai.calls import Connect, Request
from genreg_openai.endpoint import Endpoint, require_key
from genreg_openai.journal import Journal, totals
from genreg_openai.limits import Throttle
from genreg_openai.models import shutdown
from genreg_openai.options import RemoteOptions
from genreg_openai.pool import Pool

T = TypeVar("T")


@dataclass(frozen=True)
class Ways:
    """The two ways in which a family asks: call by call, or in batches."""

    connect: Connect
    path: str  # of the API that a batch goes to
    sent: Callable[[Request], Mapping[str, Any]]  # a request's body as a batch has it
    answered: Answered  # a batch's answer to it


def begun(rows: Iterator[T], options: RemoteOptions, endpoint: Endpoint) -> Iterator[T] | None:
    """The same rows, the first of which is made at once; None where there are none.

    So what is refused is refused before anything is written. Raises UsageError, too, where the key is missing; says so
    where the model shuts down soon.
    """
    first = next(rows, None)
    if first is None:
        return None
    require_key(endpoint)
    if warning := shutdown(options.model, date.today()):
        note(warning)
    return chain([first], rows)


def own_folder(folder: Path) -> Path | None:
    """Where a journal can lie: ``folder``, or nowhere where that is no folder of the run's own."""
    return folder if folder != Path() else None


def answers(
    requests: Iterator[Request], ways: Ways, options: RemoteOptions, endpoint: Endpoint, journal: Journal, folder: Path
) -> Iterator[Piece | Done]:
    """What comes of the requests: pieces, and finished rows in any order, as the options say how to ask.

    Raises UsageError and Unreachable where all that is left would fail alike (see Pool and Batches).
    """
    budget = Budget(options.budget, journal.totals.bound)
    if options.batch:
        require_journal(folder)
        batches = Batches(
            endpoint, ways.path, journal, budget, ways.answered, ways.sent,
            poll=options.poll, timeout=options.timeout, attempts=options.attempts,
        )  # fmt: skip
        return batches.run(requests)
    throttle = Throttle(options.concurrency, rpm=options.rpm, tpm=options.tpm)
    pool = Pool(
        endpoint.host, ways.connect, journal, budget, throttle,
        attempts=options.attempts, patience=options.patience, resend=options.resend, scrub=endpoint.scrub,
    )  # fmt: skip
    return pool.run(requests)


def account(folder: Path, asked: Mapping[str, str]) -> Account:
    """What the journal in ``folder`` adds up to, with where it was asked; empty where nothing was sent."""
    found = totals(folder).account()
    return Account({**asked, **found.facts}, found.lines) if found.facts else found


def description(options: RemoteOptions, endpoint: Endpoint, where: str) -> str:
    """A line each on the host, as ``where`` words it, the model's name, its key, and its end if that is near."""
    try:
        require_key(endpoint)
        key = "there is one" if endpoint.key else "none, and this server may need none"
    except UsageError as error:
        key = str(error)
    named = options.model or "none is named"
    lines = [f"host: {where}", f"model: {named}", f"key: {key}", shutdown(options.model, date.today())]
    return "\n".join(filter(None, lines))
