"""One request over a connection: read, answered by a route, and sent with the fault that is on order."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # this name for good: tests like to replace time.sleep, and these waits must stay real
from typing import TYPE_CHECKING, Any

from genreg.testing.hub.exchange import BLOCK, Answer, File, Refusal, Request
from genreg.testing.hub.faults import NONE

if TYPE_CHECKING:
    from genreg.testing.hub.fake import FakeHub

Route = Callable[[Request], Answer | File]


class Server(ThreadingHTTPServer):
    """A listener; a client that hangs up is a normal event."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


def listen(hub: FakeHub, name: str, port: int, route: Route) -> Server:
    """A listener of this name ("hub" or "cdn") on loopback, which answers by the route."""
    handler = type(f"{name.title()}Handler", (_Handler,), {"hub": hub, "listener": name, "route": staticmethod(route)})
    return Server(("127.0.0.1", port), handler)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    listener: str
    route: Route
    protocol_version = "HTTP/1.1"
    server_version = "fakehub/1"

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        request = Request(self.hub, self.command, self.path, self.headers, self.rfile)
        self.record: dict[str, Any] = {
            "server": self.listener,
            "method": self.command,
            "path": self.path,
            "range": self.headers.get("Range"),
            "auth": "Authorization" in self.headers,
            "user_agent": self.headers.get("User-Agent", ""),
            "status": None,
            "sent": 0,
        }
        self.fault = NONE if request.parts[0] == "_fake" else self.hub.noted(self.record)
        try:
            try:
                answer = self._answer(request)
            except Refusal as refused:
                answer = refused.answer
            for _ in request.chunks():  # what nobody read would be taken for the next request
                pass
            if isinstance(answer, File):
                with answer.source:
                    self._send_file(answer)
            else:
                self._send(answer)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def _answer(self, request: Request) -> Answer | File:
        kind, options = self.fault.kind, self.fault.options
        if kind == "delay":
            sleep(options.get("seconds", 1))
        if kind == "status":
            body = options.get("body", {"error": "made up by fakehub"})
            return Answer(body, options.get("code", 500), options.get("headers", {}))
        return self.route(request)

    # -- sending ------------------------------------------------------------------------------------

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        if self.fault.kind == "headers":
            headers = self.fault.altered(headers)
        self.record["status"] = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, answer: Answer) -> None:
        headers, body = dict(answer.headers), answer.body
        if isinstance(body, bytes):
            data = body
        elif isinstance(body, str):
            data = body.encode()
            headers.setdefault("Content-Type", "text/html; charset=utf-8" if "<html" in body else "text/plain")
        else:
            data = b"" if body is None else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        headers["Content-Length"] = str(len(data))
        headers.setdefault("X-Request-Id", f"Root=1-fake-{os.urandom(4).hex()}")
        self._head(answer.status, headers)
        if self.command != "HEAD":
            self._pump(memoryview(data), 0)

    def _send_file(self, file: File) -> None:
        """The file, or the range of it that was asked for."""
        size = min(file.size, self.fault.options.get("after", 0)) if self.fault.kind == "truncate" else file.size
        wanted = None if self.fault.kind == "ignore_range" else asked_range(self.headers.get("Range", ""), size)
        first, last = wanted or (0, size - 1)
        if wanted and not first <= last < size:
            return self._send(Answer(b"", 416, {"Content-Range": f"bytes */{size}"}))
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **file.headers}
        headers["Content-Length"] = str(last - first + 1)
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._head(206 if wanted else 200, headers)
        if self.command == "HEAD":
            return None
        file.source.seek(first)
        at = first
        while at <= last and self._pump(memoryview(file.source.read(min(BLOCK, last + 1 - at))), at):
            at = file.source.tell()
        return None

    def _pump(self, data: memoryview, at: int) -> bool:
        """Send body bytes that start at offset ``at`` of the file; False when the fault ended the answer."""
        kind, options = self.fault.kind, self.fault.options
        if kind == "corrupt":
            data = self.fault.corrupted(data, at)
        if kind in ("drop", "reset", "stall"):
            room = max(options.get("after", 0) - self.record["sent"], 0)
            if len(data) >= room:
                self._write(data[:room])
                self._hang_up()
                return False
        step = max(1, int(options.get("rate", 65536) / 20)) if kind == "slow" else len(data) or 1
        for start in range(0, len(data), step):
            self._write(data[start : start + step])
            if kind == "slow":
                sleep(0.05)
        return True

    def _write(self, data: memoryview) -> None:
        self.wfile.write(data)
        self.record["sent"] += len(data)

    def _hang_up(self) -> None:
        kind = self.fault.kind
        if kind == "stall":
            sleep(self.fault.options.get("seconds", 30))
        self.close_connection = True
        if kind == "reset":
            sleep(0.2)  # let the bytes arrive before the reset discards them
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # RST at once: nothing is left to send
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


def asked_range(wanted: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte that a Range header asks for, perhaps beyond the file; None for all of it."""
    match = re.fullmatch(r"\s*bytes=(\d*)-(\d*)\s*", wanted)
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size - 1
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
