"""The fake's HTTP: routes, faults, and a log of what would have been billed."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from genreg_openai.testing.images import by_tool, form_of, generation, mistake
from genreg_openai.testing.jobs import Jobs
from genreg_openai.testing.text import Event, Made, chat, count, early, flat, response

MODELS = ("gpt-5.5", "gpt-5.4-mini", "gpt-image-2", "fake-text", "fake-image")
RETIRED = ("dall-e-2", "dall-e-3", "gpt-image-1")
FAULTS = {
    "rate_limit": "429 with Retry-After: `retry_after` seconds, or `retry_after_ms`",
    "quota": "429 insufficient_quota",
    "server_error": "`status` (500) with a JSON error",
    "html": "`status` (502) with a web page",
    "redirect": "307 to `location`",
    "hang": "`seconds` of silence before the answer",
    "slow": "`seconds` between the events of a stream",
    "drop": "the connection is reset before any answer",
    "drop_midstream": "reset after `after` events, or half of a plain body",
    "lost": "a batch is begun, and the connection is reset before its id is told",
    "drop_after": "reset after the whole answer, before the end of the body",
    "truncate_stream": "a clean end after `after` events",
    "stream_error": "an error event after `after` events",
    "malformed_json": "broken JSON (in a stream, after `after` events)",
    "wrong_type": "200 with a list",
    "content_filter": "a content filter ends the answer",
    "refusal": "the model refuses",
    "empty": "no text, no image",
    "one_missing": "one image less than was asked for",
    "half_image": "the last image is cut in half",
    "no_bytes": "the last image has no bytes",
    "not_image": "the last image is a web page",
    "bad_base64": "the last image is broken base64",
    "batch_expired": "a batch expires after `after` answers",
    "batch_failed": "a batch is refused",
    "batch_cancelled": "somebody cancels a batch after `after` answers",
    "url": "images by their `url`, on this server unless told (`{}` is their number)",
    "echo_key": "401 that repeats the key",
}


def _words(text: str) -> set[str]:
    return set(text.split())


COMMON = _words("model stream temperature top_p metadata store user service_tier tools tool_choice safety_identifier")
KNOWN = {
    "/v1/chat/completions": COMMON
    | _words(
        "messages stream_options n stop seed max_tokens max_completion_tokens logprobs top_logprobs "
        "response_format presence_penalty frequency_penalty logit_bias reasoning_effort verbosity "
        "prompt_cache_key"
    ),
    "/v1/responses": COMMON
    | _words(
        "input instructions stream_options max_output_tokens text background include "
        "previous_response_id reasoning truncation top_logprobs max_tool_calls conversation prompt "
        "prompt_cache_key parallel_tool_calls"
    ),
    "/v1/images/generations": COMMON
    | _words("prompt n size quality background output_format output_compression moderation partial_images"),
}
KNOWN["/v1/images/edits"] = KNOWN["/v1/images/generations"] | _words("image mask input_fidelity")
KNOWN["/v1/responses/input_tokens"] = KNOWN["/v1/responses"]
NEEDED = {
    "/v1/chat/completions": "messages", "/v1/images/generations": "prompt", "/v1/images/edits": "prompt"
}  # fmt: skip


class ApiError(Exception):
    """An error as the service spells it."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None,
        param: str | None = None, headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Drop(Exception):
    """Reset the connection."""


class State:
    """What the server knows: its log, the faults to come, the responses that it keeps."""

    def __init__(self, key: str | None, models: Sequence[str], rpm: int | None, delay: float) -> None:
        self.key, self.models, self.rpm, self.delay = key, models, rpm, delay
        self.lock = threading.Lock()
        self.log: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.stored: dict[str, dict[str, Any]] = {}  # id -> made, ready: when it is finished, status
        self.in_flight = self.max_in_flight = self.seen = 0
        self.background_seconds = 0.2
        self.jobs = Jobs()
        self.pictures: dict[str, tuple[int, str, bytes]] = {}  # path -> status, content type, bytes
        self.window: list[float] = []

    def fault(self, kind: str, times: int = 1, path: str = "", match: str = "", **how: Any) -> None:
        """Fail ``times`` times (-1: always) where the path and the body contain the texts."""
        if kind not in FAULTS:
            raise ValueError(f"unknown fault {kind!r}; known: {', '.join(sorted(FAULTS))}")
        with self.lock:
            self.faults.append({"kind": kind, "times": times, "path": path, "match": match, **how})

    def take_fault(self, path: str, raw: str) -> dict[str, Any]:
        """The next fault that fits, used up once."""
        with self.lock:
            for fault in self.faults:
                if fault["times"] and fault["path"] in path and fault["match"] in raw:
                    fault["times"] -= fault["times"] > 0
                    return fault
        return {}

    def stats(self) -> dict[str, int]:
        """What would have been billed."""
        with self.lock:
            billed = [entry for entry in self.log if entry.get("billed")]
            return {
                "requests": len(self.log),
                "billed_requests": len(billed),
                "billed_tokens": sum(entry.get("tokens", 0) for entry in billed),
                "billed_images": sum(entry.get("images", 0) for entry in billed),
                "max_in_flight": self.max_in_flight,
            }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fakeopenai", ""
    disable_nagle_algorithm = True
    state: State  # set on the subclass of a server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the log is in the state."""

    def handle(self) -> None:
        """Serve until the client goes away."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def do_GET(self) -> None:
        """Any request."""
        self.dispatch("GET")

    def do_POST(self) -> None:
        """Any request."""
        self.dispatch("POST")

    def do_DELETE(self) -> None:
        """Any request."""
        self.dispatch("DELETE")

    def dispatch(self, method: str) -> None:
        """Answer one request and log it."""
        state, path = self.state, self.path.split("?")[0].rstrip("/")
        length = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(length)
        if len(data) < length:  # the client died while it was sending
            self.close_connection = True
            return None
        raw = data.decode("utf-8", "replace")
        if path.startswith("/__fake/"):
            return self.control(method, path, raw)
        with state.lock:
            state.seen += 1
            state.in_flight += 1
            state.max_in_flight = max(state.max_in_flight, state.in_flight)
            self.entry: dict[str, Any] = {
                "request_id": f"req_fake{state.seen:06d}", "time": time.time(), "method": method, "path": path,
                "authorization": self.headers.get("authorization"), "port": self.client_address[1],
                "billed": False,
            }  # fmt: skip
            state.log.append(self.entry)
        self.fault = state.take_fault(path, raw)
        self.entry["fault"] = self.fault.get("kind")
        try:
            kind = self.headers.get("content-type", "")
            multipart = kind.startswith("multipart/form-data")
            self.entry["body"] = form_of(data, kind) if multipart else json.loads(raw) if raw else None
            self.route(method, path)
        except ApiError as error:
            self.send(error.status, error.body, headers=error.headers)
        except Drop:
            self.reset()
        except (ConnectionError, TimeoutError):
            self.entry["client_gone"] = True
            self.close_connection = True
        finally:
            with state.lock:
                state.in_flight -= 1

    def control(self, method: str, path: str, raw: str) -> None:
        """The test's own door: /__fake/log, /__fake/faults, /__fake/stats."""
        state, what = self.state, path.rsplit("/", 1)[1]
        self.entry, self.fault = {"request_id": "control"}, {}
        if what == "faults" and method == "POST":
            state.fault(**json.loads(raw))
        with state.lock:
            if method == "DELETE" and what in ("log", "faults"):
                getattr(state, what).clear()
            listed = list(getattr(state, what)) if what in ("log", "faults") else None
        self.send(200, state.stats() if what == "stats" else listed)

    def send(
        self, status: int, body: Any, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        """A plain answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})})
        if self.fault.get("kind") == "drop_midstream":
            self.wfile.write(data[: len(data) // 2])
            raise Drop
        self.wfile.write(data)
        if self.fault.get("kind") == "drop_after":
            raise Drop

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers."""
        self.entry["status"] = status
        self.send_response(status)
        for name, value in {"x-request-id": self.entry["request_id"], **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def reset(self) -> None:
        """RST instead of FIN, as a broken network would; what was written arrives first."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def sse(self, events: list[Event]) -> None:
        """Server-sent events in chunks, with the faults of a stream."""
        kind, after = self.fault.get("kind"), int(self.fault.get("after", 2))
        self.head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
        for at, (name, data) in enumerate(events):
            if at == after and kind == "drop_midstream":
                raise Drop
            if at == after and kind == "truncate_stream":
                break
            if at == after and kind == "malformed_json":
                self.put('data: {"type": "response.output_text.delta", "delta": "bro\n\n')
                break
            if at == after and kind == "stream_error":
                message = "The server had an error while processing your request."
                named = {"type": "error", "code": "server_error", "message": message, "param": None}
                plain = {"error": {"message": message, "type": "server_error", "code": None, "param": None}}
                self.put(f"event: error\ndata: {json.dumps(named if name else plain)}\n\n")
                break
            if kind == "slow":
                time.sleep(float(self.fault.get("seconds", 0.05)))
            head = f"event: {name}\n" if name else ""
            self.put(f"{head}data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n")
        if kind == "drop_after":
            raise Drop
        self.wfile.write(b"0\r\n\r\n")

    def put(self, text: str) -> None:
        """A chunk."""
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def route(self, method: str, path: str) -> None:
        """Faults, the key, and the endpoint."""
        if self.faulty():
            return None
        if not self.path.startswith("/pictures/"):
            self.let_in()
        body = self.entry["body"]
        stream = isinstance(body, dict) and body.get("stream")
        kind = self.fault.get("kind")
        if kind == "wrong_type":
            return self.send(200, [1, 2, 3])
        if path.startswith(("/v1/files", "/v1/batches")):
            return self.job(method, path, body)
        if method == "GET" and path in self.state.pictures:
            status, kind, data = self.state.pictures[path]
            return self.send(status, data, kind)
        if method == "GET" and path == "/v1/models":
            rows = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self.state.models]
            return self.send(200, {"object": "list", "data": rows})
        if path.startswith("/v1/responses/") and path not in KNOWN:
            return self.stored(method, path)
        if method != "POST" or path not in KNOWN:
            raise ApiError(404, f"Invalid URL ({method} {path})")
        self.check(path, body)
        time.sleep(self.state.delay)
        made = self.make(path, body, kind)
        if made is None:
            return None
        self.entry.update(billed=True, tokens=made.tokens, images=made.images)
        if kind == "malformed_json" and not stream:
            return self.send(200, b'{"object": "chat.completion", "choices": [')
        return self.sse(made.events) if stream else self.send(200, made.whole)

    def faulty(self) -> bool:
        """Whether a fault has answered already."""
        fault, kind = self.fault, self.fault.get("kind")
        if kind == "hang":
            time.sleep(float(fault.get("seconds", 5)))
        elif kind == "drop":
            raise Drop
        elif kind == "server_error":
            message = "The server had an error while processing your request."
            raise ApiError(int(fault.get("status", 500)), message, "server_error")
        elif kind == "html":
            self.send(int(fault.get("status", 502)), b"<html><h1>Bad Gateway</h1></html>", "text/html")
            return True
        elif kind == "redirect":
            self.send(307, {}, headers={"location": fault["location"]})
            return True
        elif kind == "rate_limit":
            wait = {"retry-after": str(fault.get("retry_after", 1))}
            wait = {"retry-after-ms": str(fault["retry_after_ms"])} if "retry_after_ms" in fault else wait
            raise ApiError(429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded", headers=wait)
        elif kind == "quota":
            raise ApiError(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
        elif kind == "echo_key":
            raise ApiError(401, f"Incorrect API key: {self.headers.get('authorization')}", code="invalid_api_key")
        return False

    def let_in(self) -> None:
        """The key, and requests per minute."""
        state, got = self.state, self.headers.get("authorization", "")
        if state.key is not None and got != f"Bearer {state.key}":
            raise ApiError(401, f"Incorrect API key provided: {got[7:10]}***.", code="invalid_api_key")
        if state.rpm:
            now = time.monotonic()
            with state.lock:
                state.window = [at for at in state.window if now - at < 60]
                full = len(state.window) >= state.rpm
                state.window += [] if full else [now]
            if full:
                wait = {"retry-after": "1"}
                raise ApiError(429, "Rate limit reached.", "requests", "rate_limit_exceeded", headers=wait)

    def check(self, path: str, body: Any) -> None:
        """Refuse what the service would refuse."""
        if not isinstance(body, dict):
            raise ApiError(400, "We could not parse the JSON body of your request.")
        for name in body:
            if name not in KNOWN[path]:
                raise ApiError(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        for name in ("model", NEEDED.get(path, "input")):
            if body.get(name) in (None, "", []):
                message = f"Missing required parameter: '{name}'."
                raise ApiError(400, message, code="missing_required_parameter", param=name)
        warm = body.get("temperature")
        if warm is not None and not (isinstance(warm, (int, float)) and 0 <= warm <= 2):
            raise ApiError(400, f"Invalid 'temperature': {warm!r}. Expected a number from 0 to 2.", param="temperature")
        if body["model"] in RETIRED or body["model"] not in self.state.models:
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found", param="model")

    def make(self, path: str, body: dict[str, Any], kind: str | None) -> Made | None:
        """What the endpoint makes; None where it has answered itself."""
        name = self.entry["request_id"][4:]
        if path == "/v1/chat/completions":
            return chat(body, kind, name)
        if path == "/v1/responses/input_tokens":
            tokens = count(f"{body.get('instructions') or ''} {flat(body['input'])}")
            self.send(200, {"object": "response.input_tokens", "input_tokens": tokens})
            return None
        if path.startswith("/v1/images/"):
            if kind in ("content_filter", "refusal"):
                said = "Your request was rejected by the safety system."
                raise ApiError(400, said, "image_generation_user_error", "moderation_blocked")
            if wrong := mistake(body):
                raise ApiError(400, wrong[0], param=wrong[1], code="invalid_value")
            host = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            return generation(body, kind, self.fault.get("url") or f"{host}/pictures/{{}}.png")
        made = response(body, kind, name)
        if drawn := by_tool(body, kind == "refusal"):
            made.whole["output"] = drawn
        background, state = bool(body.get("background")), self.state
        if background and not body.get("store", True):
            raise ApiError(400, "background requires store", param="store")
        if body.get("store", True):
            ready = time.monotonic() + (state.background_seconds if background else 0)
            state.stored[made.whole["id"]] = {"made": made, "ready": ready, "cancelled": False}
        if background and not body.get("stream"):
            self.entry.update(billed=True, tokens=made.tokens)
            self.send(200, early(made.whole, "queued"))
            return None
        return made

    def job(self, method: str, path: str, body: Any) -> None:
        """Files and batches."""
        jobs, (kind, id, rest) = self.state.jobs, [*path.split("/")[2:], "", ""][:3]
        if method == "POST" and path == "/v1/files":
            return self.send(200, jobs.upload(body["file"][0].pop("data")))
        if method == "POST" and path == "/v1/batches":
            batch = jobs.begin(body, self.line, self.fault)
            if self.fault.get("kind") == "lost":
                raise Drop
            return self.send(200, batch)
        if method == "GET" and path == "/v1/batches":
            rows = [jobs.see(one) for one in reversed(jobs.batches)]
            return self.send(200, {"object": "list", "data": rows, "has_more": False})
        if method == "GET" and id in jobs.batches:
            return self.send(200, jobs.see(id))
        if method == "GET" and kind == "files" and rest == "content" and id in jobs.files:
            return self.send(200, jobs.files[id], "application/octet-stream")
        raise ApiError(404, f"No such object: {path}", code="not_found")

    def line(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to a line of a batch, and a line in the log."""
        fault = self.state.take_fault("/line", json.dumps(body, ensure_ascii=False)).get("kind")
        try:
            self.check(path, body)
            made = self.make(path, body, fault)
        except ApiError as error:
            return error.status, error.body
        assert made is not None
        entry = {"path": "/line", "body": body, "billed": True, "tokens": made.tokens, "images": made.images}
        self.state.log.append(entry)
        return 200, made.whole

    def stored(self, method: str, path: str) -> None:
        """A background response goes on without its client: it can be fetched, or streamed on, later."""
        name, _, action = path.removeprefix("/v1/responses/").partition("/")
        found = self.state.stored.get(name)
        if not found or action not in ("", "cancel") or method != ("POST" if action else "GET"):
            raise ApiError(404, f"Response with id '{name}' not found.", code="not_found")
        made, done = found["made"], time.monotonic() >= found["ready"]
        query = parse_qs(urlsplit(self.path).query)
        if action and not done:
            found["cancelled"] = True
        elif query.get("stream") == ["true"]:
            after = int(query.get("starting_after", ["-1"])[0])
            return self.sse([event for event in made.events if event[1]["sequence_number"] > after])
        if found["cancelled"]:
            return self.send(200, early(made.whole, "cancelled"))
        return self.send(200, made.whole if done else early(made.whole))


class FakeOpenAI:
    """The server in a thread; ``url`` is the base URL for a client."""

    def __init__(
        self, key: str | None = "test-key", port: int = 0, *, models: Sequence[str] = MODELS, rpm: int | None = None,
        delay: float = 0.0,
    ) -> None:  # fmt: skip
        self.key, self.state = key, State(key, models, rpm, delay)

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 256

        handler = type("BoundHandler", (Handler,), {"state": self.state})
        self.httpd = Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}/v1"
        self.fault: Callable[..., None] = self.state.fault

    @property
    def log(self) -> list[dict[str, Any]]:
        """All requests so far."""
        return list(self.state.log)

    @property
    def billed(self) -> int:
        """How many requests the real service would have billed."""
        return self.state.stats()["billed_requests"]

    def stats(self) -> dict[str, int]:
        """What would have been billed, in sum."""
        return self.state.stats()

    def __enter__(self) -> FakeOpenAI:
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
