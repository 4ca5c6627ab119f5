"""The words: a request, its answer, and what is known of one that failed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from genreg.errors import GenregError

NOTE = "note"  # the column in which every remote family says why a row is not ok


@dataclass(frozen=True)
class Request:
    """What is to be asked for one row of the run."""

    row: int  # over all drafts of the run
    key: str  # its name in the journal: ``key_of`` everything that is asked
    body: Mapping[str, Any]  # as it is sent
    tokens: int = 0  # at most, in and out: for a limit per minute
    worst: Decimal | None = None  # at most, in USD; None: nobody knows


@dataclass(frozen=True)
class Answer:
    """How a request ended; ``columns`` hold what JSON can, and bytes."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "ok"
    usage: Mapping[str, int] = field(default_factory=dict)  # input_tokens, output_tokens, …
    cost: Decimal | None = None  # in USD; None: nobody knows


@dataclass(frozen=True)
class Call:
    """What a pool hands to the function that asks: a way to tell, and what an earlier run knows."""

    piece: Callable[[str], None]  # a part of the answer, for people to watch
    submitted: Callable[[str], Awaitable[None]]  # note the id under which the service goes on without us
    id: str | None = None  # the id noted by an earlier run: fetch that, and do not ask again


class Failure(Exception):
    """Why there is no whole answer, and whether it may have been billed all the same.

    ``billed`` False: surely not, so it may be asked again now (``retry``, after ``after`` seconds where the service
    says so) or in a resumed run. ``crowded``: there were too many requests. ``stops``: what the run is to end with,
    where every other request would fail alike. ``columns`` are the part that came.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: str = "failed",
        billed: bool = True,
        retry: bool = False,
        after: float | None = None,
        crowded: bool = False,
        stops: type[GenregError] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.outcome, self.billed = message, outcome, billed
        self.retry, self.after, self.crowded, self.stops = retry, after, crowded, stops
        self.columns = dict(columns or {})


Ask: TypeAlias = Callable[[Request, Call], Awaitable[Answer]]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]  # opened once, inside the loop that asks


def key_of(*asked: Any) -> str:
    """The name of a request in the journal: a digest of all that was asked, whatever the order of its keys.

    >>> key_of("host", {"a": 1, "b": 2}) == key_of("host", {"b": 2, "a": 1}) != key_of("host", {"a": 1})
    True
    """
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
