"""From an answer or a stream of events to pictures: their bytes as they came, each of them checked to be one."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from genreg.errors import DataError
from genreg.images import decode, media_of
from genreg_openai.calls import NOTE, Answer, Failure
from genreg_openai.prices import Prices

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]

PICTURES = "pictures"  # the column of an answer that tells of each picture; their bytes are the columns "0", "1", …


async def answer_of(found: Mapping[str, Any], wanted: int, form: str | None, fetch: Fetch, prices: Prices) -> Answer:
    """The ``wanted`` pictures of one request, in the order in which they came; one that is missing is told as that.

    ``form`` is the format that was asked for, if any. Raises Failure where the answer is none of the images API.
    """
    items = found.get("data")
    if not isinstance(items, list):
        raise Failure(_error(found) or "the answer is none of the images API: it has no list of pictures")
    columns: dict[str, Any] = {}
    told: list[dict[str, Any]] = []
    for at in range(wanted):
        item = items[at] if at < len(items) and isinstance(items[at], dict) else None
        try:
            if item is None:
                raise Failure(f"{len(items)} of {wanted} pictures came")
            data = await _data(item, fetch)
            told.append({**await _seen(data, form), "revised_prompt": item.get("revised_prompt")})
            columns[str(at)] = data
        except (Failure, DataError) as error:
            told.append({"outcome": "failed", NOTE: str(error)})
    wrong = [picture[NOTE] for picture in told if picture["outcome"] != "ok"]
    usage = used(found.get("usage"))
    cost = prices.cost(usage) if usage or prices.local else None
    # "failed" may be asked again where resend=true says so: not where some pictures have come, and are paid for
    outcome = "ok" if not wrong else "truncated" if columns else "failed"
    return Answer({**columns, PICTURES: told, NOTE: "; ".join(dict.fromkeys(wrong)) or None}, outcome, usage, cost)


async def partial_of(event: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A picture on its way as the columns of an answer, and its bytes. Raises Failure or DataError for none."""
    data = await _data(event, no_url)
    return {PICTURES: [{**await _seen(data, None), "outcome": "truncated"}], "0": data}, data


def row_of(columns: Mapping[str, Any], outcome: str, at: int) -> tuple[dict[str, Any], str]:
    """The cells of one picture of an answer, and its own outcome."""
    told = columns.get(PICTURES)
    own = dict(told[at]) if told else {"outcome": outcome}
    ended = str(own.pop("outcome"))
    why = own.pop(NOTE, None) or (columns.get(NOTE) if ended != "ok" else None)
    return {"image": columns.get(str(at)), **own, NOTE: why}, ended


def used(usage: Any) -> dict[str, int]:
    """Tokens by kind, as prices know them."""
    if not isinstance(usage, dict):
        return {}
    details = {way: usage.get(f"{way}_tokens_details") or {} for way in ("input", "output")}
    counts = {f"{way}_tokens": usage.get(f"{way}_tokens") for way in details}
    counts |= {f"{way}_image_tokens": details[way].get("image_tokens") for way in details}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def share(total: int | None, of: int, at: int) -> int | None:
    """The part of a whole number that falls to one of several, such that all parts add up to it.

    >>> [share(8, 3, at) for at in range(3)]
    [3, 3, 2]
    """
    return None if total is None else total // of + (at < total % of)


async def _seen(data: bytes, form: str | None) -> dict[str, Any]:
    """What is to be told of a picture that came; raises DataError where it is damaged or none."""
    height, width = (await asyncio.to_thread(decode, data, name="a picture that came")).shape[:2]
    media = media_of(data)
    other = form is not None and media != f"image/{form}"
    why = f"format={form} was asked for, and {media} came" if other else None
    return {"outcome": "ok", "size": f"{width}x{height}", NOTE: why}


async def _data(item: Mapping[str, Any], fetch: Fetch) -> bytes:
    """The bytes of a picture; raises Failure where there are none, or they are broken."""
    if item.get("b64_json") is not None:
        try:
            return base64.b64decode(item["b64_json"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Failure("a picture came in broken base64") from None
    if item.get("url"):
        return await fetch(str(item["url"]))
    raise Failure("a picture came without bytes and without a URL")


async def no_url(url: str) -> bytes:
    """For answers whose pictures come along."""
    raise Failure(f"a picture came as a URL ({url})")


def _error(found: Mapping[str, Any]) -> str | None:
    error = found.get("error")
    return str(error.get("message") or error) if isinstance(error, dict) else None
