"""What an error means: whether the request can have been billed, whether to ask again, and what to tell people.

Asked again is only what was surely not billed: a connection that was never made, and "too many requests" (429). Not
asked again: an exhausted quota, which no waiting mends, and everything that may have been billed: a server's error, a
time-out or a lost connection after the request went out. (The official client's own retries pay twice for those.)
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from genreg.errors import GenregError, UsageError
from genreg_openai.calls import Failure

FILTERED = {"content_filter", "content_policy_violation", "moderation_blocked"}
QUOTA = {"insufficient_quota", "billing_hard_limit_reached"}
LONGEST = 300  # characters of a service's own words


class Unreachable(GenregError):
    """The service cannot be reached, or is too busy, for longer than we wait."""


def judged(error: Exception, host: str) -> Failure:
    """What an exception of the client, of HTTP or of JSON means; what is none of these is raised again."""
    import httpx2
    import openai

    if isinstance(error, Failure):
        return error
    if isinstance(error, openai.APIStatusError):
        return _answered(error, host)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)):
        why = f"{host} cannot be reached ({_words(cause)})"
        return Failure(why, billed=False, retry=True, stops=Unreachable)
    if isinstance(cause, httpx2.TimeoutException):
        return Failure(f"{host} did not answer in time: it may have been billed", outcome="unknown")
    if isinstance(cause, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL)):
        return Failure(f"{host} cannot be asked ({_words(cause)})", billed=False, stops=UsageError)
    if isinstance(cause, (httpx2.HTTPError, openai.APIConnectionError)):
        return Failure(f"the connection to {host} was lost: it may have been billed", outcome="unknown")
    if isinstance(error, json.JSONDecodeError):
        return Failure(f"{host} answered with broken JSON")
    if isinstance(error, openai.APIError):  # an error event in a stream
        return Failure(f"{host} broke off: {_words(error)}")
    raise error


def _answered(error: Any, host: str) -> Failure:
    """What an HTTP status means."""
    status, code = error.status_code, error.code
    said = f"{host} answered {status}: {_said(error)}"
    if code in FILTERED:
        return Failure(said, outcome="filtered", billed=False)
    if code in QUOTA:
        return Failure(f"{said} (retrying is useless: see the account's billing)", billed=False, stops=UsageError)
    if status == 429:
        after = retry_after(error.response.headers)
        return Failure(said, billed=False, retry=True, after=after, crowded=True, stops=Unreachable)
    if status == 401:
        mend = f"; genreg keys set {host} stores another key"
        return Failure(said + mend, billed=False, stops=UsageError)
    if 300 <= status < 400:
        where = error.response.headers.get("location", "elsewhere")
        return Failure(f"{host} points to {where}: name it in base_url", billed=False, stops=UsageError)
    if status in (403, 405) or code == "model_not_found" or (status == 404 and not error.param):
        return Failure(said, billed=False, stops=UsageError)
    return Failure(said, billed=status == 408 or status >= 500)


def retry_after(headers: Any) -> float | None:
    """Seconds that a service asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, TypeError):
        return None


def _said(error: Any) -> str:
    """A service's own words, whatever shape its error has."""
    body = error.body
    if isinstance(body, dict):
        found = body.get("message") or body.get("detail") or body.get("error") or body
    else:
        found = body or error.message
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    if text.lstrip().startswith("<"):
        text = "a web page, not an answer of the API"
    return _cut(text)


def _words(error: BaseException) -> str:
    return _cut(getattr(error, "message", None) or str(error) or type(error).__name__)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
