"""What is asked and what is answered, apart from how it goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from genreg.testing.hub.fake import FakeHub

BLOCK = 256 * 1024


@dataclass
class Answer:
    """A body (text, bytes, or what JSON can say), a status and headers."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class File:
    """A file as an answer, whole or the range that was asked for; it is closed when it is sent."""

    source: BinaryIO
    size: int
    headers: Mapping[str, str]


class Refusal(Exception):
    """Raised anywhere below a route to end the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def refusal(status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> Refusal:
    """An error as the Hub says it: in the body for people, in headers for the client."""
    told = {"X-Error-Message": message, **(headers or {})}
    if code:
        told["X-Error-Code"] = code
    return Refusal(Answer({"error": message}, status, told))


class Request:
    """A request: its address in pieces, and its body, which is read once."""

    def __init__(self, hub: FakeHub, method: str, path: str, headers: Message, stream: BufferedIOBase) -> None:
        split = urlsplit(path)
        self.hub, self.method, self.path, self.headers = hub, method, path, headers
        self.parts = [unquote(part) for part in split.path.split("/")[1:]]
        self.query = parse_qs(split.query, keep_blank_values=True)
        self._stream: BufferedIOBase | None = stream

    def flag(self, name: str) -> bool:
        """Whether a parameter of the address is on."""
        return self.query.get(name, [""])[0].lower() in ("true", "1")

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece; nothing where it has been read."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while True:
                size = int(stream.readline().split(b";")[0], 16)
                data = stream.read(size)
                stream.readline()
                if size == 0:
                    return
                yield data
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            data = stream.read(min(left, BLOCK))
            if not data:
                return
            left -= len(data)
            yield data

    def bytes(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.bytes() or b"{}")
        except ValueError:
            raise refusal(400, "Body is not JSON") from None
