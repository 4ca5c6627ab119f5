"""What a service answers: one JSON object, or server-sent events that carry JSON objects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from genreg_openai.calls import Failure


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event (WHATWG HTML, 9.2), whatever the borders of the chunks.

    Lines end in LF or CRLF alone: the other ends of line that Python knows may stand within JSON.
    """
    rest, data = b"", []
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", "replace")
                data = []
    if rest.startswith(b"data:"):
        data.append(rest[5:].strip())
    if data:
        yield b"\n".join(data).decode("utf-8", "replace")


def is_stream(response: Any, host: str) -> bool:
    """Whether an answer is a stream of events, and not one JSON object; raises Failure where it is neither."""
    kind = response.headers.get("content-type", "")
    if "json" in kind:  # a server that does not stream
        return False
    if "event-stream" not in kind:
        raise Failure(f"{host} answered with {kind or 'something'}, not with an answer of the API")
    return True


async def read_whole(response: Any, host: str) -> dict[str, Any]:
    """The JSON object that an answer is; raises Failure where it is none."""
    return read((await response.read()).decode("utf-8", "replace"), host)


def read(data: str, host: str) -> dict[str, Any]:
    """The JSON object of an event or an answer; raises Failure where it is none."""
    try:
        found = json.loads(data)
    except ValueError:
        raise Failure(f"{host} answered with broken JSON") from None
    if not isinstance(found, dict):
        raise Failure(f"{host} answered with JSON that is no answer of the API")
    return found
