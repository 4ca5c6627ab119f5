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


async def answer_of(found: Mapping[str, Any], wanted: int, format: str | None, fetch: Fetch, prices: Prices) -> Answer:
    """The ``wanted`` pictures of one request, in the order in which they came; one that is missing is told as that.

    Raises Failure where the answer is none of the API, or has no picture at all.
    """
    if not isinstance(found.get("data"), list):
        raise Failure(_error(found) or "the answer is none of the images API: it has no list of pictures")
    items = [item for item in found["data"] if isinstance(item, dict)][:wanted]
    told: list[dict[str, Any]] = []
    columns: dict[str, Any] = {PICTURES: told}
    for at, item in enumerate(items):
        try:
            data = await _data(item, fetch)
            width, height, media = await asyncio.to_thread(checked, data)
        except (Failure, DataError) as error:
            told.append({"outcome": "failed", NOTE: str(error)})
            continue
        other = format is not None and media != f"image/{format}"
        columns[str(at)] = data
        told.append({
            "outcome": "ok", "size": f"{width}x{height}", "revised_prompt": item.get("revised_prompt"),
            NOTE: f"format={format} was asked for, and {media} came" if other else None,
        })  # fmt: skip
    came = len(columns) - 1
    short = f"{wanted - came} of {wanted} pictures did not come" if came < wanted else None
    reasons = dict.fromkeys(picture[NOTE] for picture in told if picture["outcome"] != "ok")
    told += [{"outcome": "failed", NOTE: short}] * (wanted - len(items))
    columns |= {"model": found.get("model"), NOTE: "; ".join([*filter(None, [short if wanted > 1 else None]), *reasons])}
    if short and not columns[NOTE]:
        columns[NOTE] = "the answer has no picture"
        told = columns[PICTURES] = [{"outcome": "failed", NOTE: columns[NOTE]}]
    usage = used(found.get("usage"))
    cost = prices.cost(usage) if usage or prices.local else None
    return Answer(columns, "failed" if not came else "truncated" if short else "ok", usage, cost)


def row_of(columns: Mapping[str, Any], outcome: str, at: int) -> tuple[dict[str, Any], str]:
    """The cells of one picture of an answer, and its own outcome."""
    told = columns.get(PICTURES) or []
    own = told[at] if at < len(told) else {"outcome": outcome, NOTE: columns.get(NOTE)}
    cells = {"image": columns.get(str(at)), "model": columns.get("model"), **own}
    return cells, str(cells.pop("outcome"))


def checked(data: bytes) -> tuple[int, int, str]:
    """Width, height and media type of an encoded picture; raises DataError where it is damaged or none."""
    height, width = decode(data, name="a picture came").shape[:2]
    return width, height, media_of(data)


async def _data(item: Mapping[str, Any], fetch: Fetch) -> bytes:
    if item.get("b64_json") is not None:
        try:
            return base64.b64decode(item["b64_json"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Failure("a picture came in broken base64") from None
    if item.get("url"):
        return await fetch(str(item["url"]))
    raise Failure("a picture came without bytes and without a URL")


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


def _error(found: Mapping[str, Any]) -> str | None:
    error = found.get("error")
    return str(error.get("message") or error) if isinstance(error, dict) else None
