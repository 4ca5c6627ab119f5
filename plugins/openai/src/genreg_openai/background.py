"""Background responses: the service goes on without us, under an id that the journal keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from genreg_openai.calls import Call, Failure
from genreg_openai.events import read_whole
from genreg_openai.policy import Unreachable, judged

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FIRST_POLL, LONGEST_POLL = 0.2, 10.0  # seconds between two looks
TRIES = 6  # looks in a row that may fail
ENDED = {"completed", "incomplete", "failed", "cancelled"}


async def in_background(service: AsyncOpenAI, body: Mapping[str, Any], call: Call, host: str) -> dict[str, Any]:
    """The whole response to a body of the Responses API, begun here or by an earlier run (``call.id``).

    Looking costs nothing, so a look that fails is repeated. Raises Unreachable where that goes on: the journal keeps
    the id, and a resumed run looks again. Raises Failure for a response that was cancelled or is not kept any longer.
    """
    if call.id is not None:
        return await _ended(service, call.id, host)
    rest = {**body, "background": True, "store": True, "stream": False}
    model, given = rest.pop("model"), rest.pop("input")
    begun = service.responses.with_streaming_response.create(model=model, input=given, extra_body=rest)
    found = await _json(begun, host)
    if not isinstance(found.get("id"), str):
        raise Failure(f"{host} answered with JSON that is no answer of the API")
    await call.submitted(found["id"])
    if found.get("status") in ENDED:
        return _whole(found, found["id"], host)
    return await _ended(service, found["id"], host)


async def _ended(service: AsyncOpenAI, id: str, host: str) -> dict[str, Any]:
    """The response of that id, looked at until it has ended."""
    wait, failed = FIRST_POLL, 0
    while True:
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, LONGEST_POLL)
        try:
            found = await _json(service.responses.with_streaming_response.retrieve(id), host)
        except Exception as error:
            failure = judged(error, host)
            if failure.message.startswith(f"{host} answered 404"):
                raise Failure(
                    f"{host} does not keep the response {id}: it may have been billed", outcome="unknown"
                ) from None
            failed += 1
            if failed == TRIES:
                raise Unreachable(f"{failure.message}; it goes on with {id}, and --resume looks for it again") from None
            continue
        failed = 0
        if found.get("status") in ENDED:
            return _whole(found, id, host)


def _whole(found: dict[str, Any], id: str, host: str) -> dict[str, Any]:
    """A response that has ended; raises Failure where it was cancelled."""
    if found["status"] == "cancelled":
        raise Failure(f"the response {id} was cancelled at {host}")
    return found


async def _json(asking: Any, host: str) -> dict[str, Any]:
    async with asking as response:
        return await read_whole(response, host)
