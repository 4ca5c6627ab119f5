"""Server-sent events, and the JSON objects that they carry."""

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


def read(data: str, host: str) -> dict[str, Any]:
    """The JSON object of an event; raises Failure where it is none."""
    try:
        found = json.loads(data)
    except ValueError:
        raise Failure(f"{host} answered with broken JSON") from None
    if not isinstance(found, dict):
        raise Failure(f"{host} answered with JSON that is no answer of the API")
    return found
