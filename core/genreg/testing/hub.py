"""A small local stand-in for the Hugging Face Hub, for tests.

It binds to 127.0.0.1, so that the *real* ``huggingface_hub`` client can talk to it through ``HF_ENDPOINT`` and plugin
authors can test that their models are fetched, with every fault of a network on order.

It opens two listeners, because the client treats them differently:

* the "hub"  (API, ``/resolve/``, LFS batch, commits);
* the "cdn"  (large-file storage, another origin, so the client must drop its token when it is sent there).

Use in pytest, where ``genreg_hub`` is a fixture::

    def test_my_model_survives_a_broken_line(genreg_hub):
        genreg_hub.add_repo("genreg/tiny-vae", {"config.json": b"{}", "model.safetensors": weights})
        genreg_hub.fail("drop", server="cdn", after=1000)          # cut the next answer after 1000 bytes
        genreg.load("hf://genreg/tiny-vae")
        assert genreg_hub.requests(server="cdn")[-1]["range"] == "bytes=1000-"

Use from a shell::

    python -m genreg.testing.hub --port 8123 --seed ./repos      # ./repos/<namespace>/<name>/<files...>
    eval "$(python -m genreg.testing.hub --print-env 8123)"      # HF_ENDPOINT=... HF_HUB_DISABLE_XET=1 ...
    curl -X POST localhost:8123/_fake/faults -d '{"kind": "status", "code": 503, "times": 2}'

Fault kinds (``fail(kind, method=, path=<regex>, server="hub"|"cdn"|None, times=1|None, **options)``):

==============  ======================================================================================
status          answer ``code`` (``headers=``, ``body=``); 429 with ``headers={"Retry-After": "1"}``
drop            send ``after`` body bytes, then close the connection (FIN)
reset           the same, then a TCP reset (RST)
stall           send ``after`` body bytes, then nothing for ``seconds``, then close
corrupt         flip the bits of the file byte(s) at ``offset`` (int or list); the length stays right
truncate        pretend that the file is ``after`` bytes long (consistent headers, wrong length)
slow            send at most ``rate`` bytes a second
delay           wait ``seconds`` before answering
ignore_range    answer 200 with everything although a range was asked for
headers         answer normally, with ``set={...}`` added or replaced and ``unset=[...]`` removed
==============  ======================================================================================

Known differences from the real Hub (all deliberate):

* there is no Xet: clients run with ``HF_HUB_DISABLE_XET=1`` (``env()`` sees to it), because with hf_xet active every
  upload of a large file would go straight to the Xet protocol;
* a 401 always carries ``X-Error-Code: RepoNotFound``: the client's own fallback rule only knows https URLs;
* commit ids are sha1-shaped but there is no git behind them; no discussions, no merges, no rate limits
  other than the faults; repository ids are always ``namespace/name``.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import binascii
import fnmatch
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep as _sleep  # its own name: tests like to replace time.sleep, and these waits must stay real
from typing import Any, BinaryIO
from unittest import mock
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

__all__ = ["OWNER_TOKEN", "READER_TOKEN", "FakeHub", "Fault"]

Files = Mapping[str, bytes | str | os.PathLike[str]]  # path in the repository -> content, or a local file

OWNER_TOKEN = "hf_" + "fakeowner" * 3  # user "alice", member of the organisation "genreg", may write
READER_TOKEN = "hf_" + "fakereader" * 3  # user "bob", no organisation, may only read

_TYPES = ("models", "datasets", "spaces")
_BIG = ("bin", "ckpt", "gz", "h5", "msgpack", "npy", "npz", "onnx", "parquet", "pkl", "pt", "pth", "safetensors", "zip")
_DEFAULT_ATTRIBUTES = "".join(f"*.{ext} filter=lfs diff=lfs merge=lfs -text\n" for ext in _BIG).encode()
_BLOCK = 256 * 1024


def _git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


# ------------------------------------------------------------------------------------------------ state


@dataclass
class Entry:
    """A file at one commit; ``sha256`` is set when it is kept in large-file storage."""

    size: int
    blob_id: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        """What the client knows it by."""
        return self.sha256 or self.blob_id


@dataclass
class Commit:
    """A state of a repository's files."""

    oid: str
    parent: str | None
    title: str
    body: str
    when: float
    tree: dict[str, Entry]


@dataclass
class Repo:
    """A repository: its commits, and what names them."""

    id: str
    type: str = "models"
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set)
    disabled: bool = False
    created: float = field(default_factory=time.time)
    downloads: int = 0
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)  # blob id -> content of the files kept in "git"

    @property
    def namespace(self) -> str:
        """The user or organisation."""
        return self.id.split("/")[0]

    def ref_of(self, revision: str) -> str | None:
        """The full name of a branch, tag or other ref; None where there is none."""
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return ref
        return None

    def find(self, revision: str) -> Commit | None:
        """The commit of a ref or of the beginning of its id."""
        ref = self.ref_of(revision)
        if ref is not None:
            return self.commits[self.refs[ref]]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            hits = [c for oid, c in self.commits.items() if oid.startswith(revision)]
            if len(hits) == 1:
                return hits[0]
        return None

    def commit(self, ref: str, tree: dict[str, Entry], title: str, body: str = "") -> Commit:
        """A new commit on a ref."""
        parent = self.refs.get(ref)
        seed = json.dumps(
            [self.id, parent, title, body, len(self.commits), sorted((p, e.etag) for p, e in tree.items())]
        )
        oid = hashlib.sha1(seed.encode()).hexdigest()
        new = Commit(oid, parent, title, body, time.time(), dict(tree))
        self.commits[oid] = new
        self.refs[ref] = oid
        return new

    def history(self, commit: Commit) -> Iterable[Commit]:
        """A commit and those before it."""
        here: Commit | None = commit
        while here is not None:
            yield here
            here = self.commits.get(here.parent) if here.parent else None


@dataclass
class Fault:
    """A fault on order: for which requests, and how often (None: always)."""

    kind: str
    method: str | None = None
    path: str = ""
    server: str | None = None
    times: int | None = 1
    options: dict[str, Any] = field(default_factory=dict)

    def takes(self, server: str, method: str, path: str) -> bool:
        """Whether the fault is for this request."""
        return (
            (self.times is None or self.times > 0)
            and self.server in (None, server)
            and self.method in (None, method)
            and re.search(self.path, path) is not None
        )


class FakeHub:
    """The state, and the two listeners that show it."""

    KINDS = frozenset(
        ["status", "drop", "reset", "stall", "corrupt", "truncate", "slow", "delay", "ignore_range", "headers"]
    )

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        page_size: int = 1000,
        lfs_over: int = 10 * 1024 * 1024,
    ) -> None:
        self._own_root = root is None
        self.root = Path(root) if root is not None else Path(tempfile.mkdtemp(prefix="fakehub-"))
        if self._own_root:
            atexit.register(shutil.rmtree, self.root, True)
        (self.root / "lfs").mkdir(parents=True, exist_ok=True)
        (self.root / "parts").mkdir(exist_ok=True)
        self.page_size, self.lfs_over = page_size, lfs_over
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moved: dict[tuple[str, str], str] = {}
        self.faults: list[Fault] = []
        self.log: list[dict[str, Any]] = []
        self.users = {
            OWNER_TOKEN: {"name": "alice", "orgs": ["genreg"], "write": True},
            READER_TOKEN: {"name": "bob", "orgs": [], "write": False},
        }
        self._secret = os.urandom(16)
        self._servers: list[ThreadingHTTPServer] = []
        self._port = port

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> FakeHub:
        """Listen, in threads of this process."""
        for name, port in (("hub", self._port), ("cdn", 0)):
            handler = type(f"{name.title()}Handler", (_Handler,), {"hub": self, "server_name_": name})
            server = _Server(("127.0.0.1", port), handler)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name=f"fakehub-{name}").start()
            self._servers.append(server)
        return self

    def stop(self) -> None:
        """Listen no more; forget what was stored in a folder of our own."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()
        if self._own_root:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> FakeHub:
        return self if self._servers else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What ``HF_ENDPOINT`` must be."""
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def cdn_url(self) -> str:
        # another host name on purpose: 1.x clients compare names only, 2.x clients compare scheme, name and port
        """Where large files lie."""
        return f"http://localhost:{self._servers[1].server_address[1]}"

    def env(self, home: str | os.PathLike[str] | None = None, token: str | None = None) -> dict[str, str]:
        """Variables for a client process (to be set before it imports ``huggingface_hub``)."""
        env = client_env(self.url)
        if home is not None:
            env |= {"HF_HOME": str(home), "HF_HUB_CACHE": str(Path(home, "hub"))}
        env["HF_TOKEN"] = token or ""  # never the developer's own
        return env

    @contextmanager
    def serving(self, home: str | os.PathLike[str], token: str | None = None) -> Iterator[None]:
        """Within the block ``huggingface_hub``, here and in child processes, talks to this hub; caches in ``home``."""
        from huggingface_hub import constants

        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, self.url)
        frozen: dict[str, Any] = {  # the client reads its variables once, when it is imported
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(Path(home, "hub")),
            "HF_TOKEN_PATH": str(Path(home, "token")),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }
        with mock.patch.dict(os.environ, self.env(home, token)), mock.patch.multiple(constants, **frozen):
            yield

    # -- content ------------------------------------------------------------------------------------

    def add_repo(
        self,
        repo_id: str,
        files: Files | None = None,
        *,
        repo_type: str = "model",
        private: bool = False,
        gated: str | bool = False,
        message: str = "initial commit",
    ) -> Repo:
        """Create a repository; ``files`` maps a path to bytes, or to the path of a local file."""
        if repo_id.count("/") != 1:
            raise ValueError("repo_id must be 'namespace/name'")
        with self.lock:
            repo = Repo(repo_id, f"{repo_type}s", private=private, gated=gated)
            self.repos[repo.type, repo_id] = repo
            repo.commit("refs/heads/main", {".gitattributes": self._put_small(repo, _DEFAULT_ATTRIBUTES)}, message)
            if files:
                self.push(repo_id, files, repo_type=repo_type, message="add files")
            return repo

    def push(
        self,
        repo_id: str,
        files: Files,
        *,
        repo_type: str = "model",
        branch: str = "main",
        message: str = "update",
    ) -> str:
        """Add or replace files behind the client's back; returns the new commit id."""
        with self.lock:
            repo = self.repos[f"{repo_type}s", repo_id]
            head = repo.find(branch) or repo.find("main")
            tree = dict(head.tree) if head else {}
            for path, content in files.items():
                if not isinstance(content, bytes):
                    content = Path(content).read_bytes()
                tree[path] = self.store(repo, tree, path, content)
            return repo.commit(f"refs/heads/{branch}", tree, message).oid

    def tag(self, repo_id: str, tag: str, revision: str = "main", *, repo_type: str = "model") -> None:
        """Name a commit."""
        repo = self.repos[f"{repo_type}s", repo_id]
        repo.refs[f"refs/tags/{tag}"] = repo.find(revision).oid  # type: ignore[union-attr]

    def move(self, old: str, new: str, *, repo_type: str = "model") -> None:
        """Rename a repository; requests for the old name are redirected, as on the Hub."""
        with self.lock:
            repo = self.repos.pop((f"{repo_type}s", old))
            repo.id = new
            self.repos[repo.type, new] = repo
            self.moved[repo.type, old] = new

    def store(self, repo: Repo, tree: dict[str, Entry], path: str, data: bytes) -> Entry:
        """Keep a file as the Hub would: in git, or in large-file storage."""
        if self.upload_mode(repo, tree, path, len(data), data[:512]) == "regular":
            return self._put_small(repo, data)
        sha = hashlib.sha256(data).hexdigest()
        target = self.lfs_path(sha)
        if not target.exists():
            target.write_bytes(data)
        return Entry(len(data), _git_blob_id(_lfs_pointer(sha, len(data))), sha)

    @staticmethod
    def _put_small(repo: Repo, data: bytes) -> Entry:
        blob = _git_blob_id(data)
        repo.small[blob] = data
        return Entry(len(data), blob)

    def lfs_path(self, sha256: str) -> Path:
        """Where a large file lies."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(sha256)
        return self.root / "lfs" / sha256

    def open(self, repo: Repo, entry: Entry) -> BinaryIO:
        """A file of a repository."""
        if entry.sha256:
            return self.lfs_path(entry.sha256).open("rb")
        return io.BytesIO(repo.small[entry.blob_id])

    def upload_mode(self, repo: Repo, tree: dict[str, Entry], path: str, size: int, sample: bytes) -> str:
        """Large-file storage for what .gitattributes names, for long files and for binary ones."""
        attributes = tree.get(".gitattributes")
        rules = repo.small.get(attributes.blob_id, b"").decode(errors="replace") if attributes else ""
        for line in rules.splitlines():
            pattern, _, rest = line.partition(" ")
            if "filter=lfs" in rest:
                name = path if "/" in pattern else path.rsplit("/", 1)[-1]
                if fnmatch.fnmatch(name, pattern):
                    return "lfs" if size else "regular"
        return "lfs" if size and (size > self.lfs_over or b"\0" in sample) else "regular"

    # -- faults and log -----------------------------------------------------------------------------

    def fail(
        self,
        kind: str,
        *,
        method: str | None = None,
        path: str = "",
        server: str | None = None,
        times: int | None = 1,
        **options: Any,
    ) -> Fault:
        """Order a fault, as the table above says."""
        if kind not in self.KINDS:
            raise ValueError(f"unknown fault {kind!r}: one of {sorted(self.KINDS)}")
        fault = Fault(kind, method, path, server, times, options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget all faults."""
        with self.lock:
            self.faults.clear()

    def forget(self) -> None:
        """Empty the request log."""
        with self.lock:
            self.log.clear()

    def requests(self, *, server: str | None = None, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """The requests so far, oldest first."""
        with self.lock:
            return [
                r
                for r in self.log
                if server in (None, r["server"]) and method in (None, r["method"]) and re.search(path, r["path"])
            ]

    def take_fault(self, server: str, method: str, path: str) -> Fault | None:
        """The fault for a request, used up once."""
        with self.lock:
            for fault in self.faults:
                if fault.takes(server, method, path):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def sign(self, what: str) -> str:
        """The signature in an address of the storage."""
        return hmac.new(self._secret, what.encode(), "sha256").hexdigest()[:32]


def client_env(url: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HUGGING_FACE_HUB_TOKEN": "",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


# ------------------------------------------------------------------------------------------------- http


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hung up is a normal event here


class _Answer(Exception):
    """Raised anywhere below a route to end the request with this answer."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}


def _error(status: int, message: str, code: str | None = None, **headers: str) -> _Answer:
    extra = {"X-Error-Message": message, **{k.replace("_", "-"): v for k, v in headers.items()}}
    if code:
        extra["X-Error-Code"] = code
    return _Answer(status, {"error": message}, extra)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    server_name_: str
    protocol_version = "HTTP/1.1"
    server_version = "fakehub/1"

    def log_message(self, *_: Any) -> None:
        pass

    # -- one request --------------------------------------------------------------------------------

    def _serve(self) -> None:
        split = urlsplit(self.path)
        self.query = parse_qs(split.query, keep_blank_values=True)
        self.parts = [unquote(p) for p in split.path.split("/")[1:]]
        self.fault: Fault | None = None
        control = self.server_name_ == "hub" and self.parts[0] == "_fake"
        self.record: dict[str, Any] = {
            "server": self.server_name_,
            "method": self.command,
            "path": self.path,
            "range": self.headers.get("Range"),
            "auth": "authorization" in {k.lower() for k in self.headers},
            "user_agent": self.headers.get("User-Agent", ""),
            "status": None,
            "sent": 0,
        }
        if not control:
            with self.hub.lock:
                self.hub.log.append(self.record)
            self.fault = self.hub.take_fault(self.server_name_, self.command, self.path)
        self._body_read = False
        try:
            fault = self.fault
            if fault and fault.kind == "delay":
                _sleep(fault.options.get("seconds", 1))
            if fault and fault.kind == "status":
                raise _Answer(
                    fault.options.get("code", 500),
                    fault.options.get("body", {"error": "made up by fakehub"}),
                    dict(fault.options.get("headers", {})),
                )
            route = self._control if control else self._hub if self.server_name_ == "hub" else self._cdn
            route()
        except _Answer as answer:
            self._reply(answer.status, answer.body, answer.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    # -- reading ------------------------------------------------------------------------------------

    def _chunks(self) -> Iterable[bytes]:
        self._body_read = True
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data = self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return
                yield data
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            data = self.rfile.read(min(left, _BLOCK))
            if not data:
                return
            left -= len(data)
            yield data

    def _bytes(self) -> bytes:
        return b"".join(self._chunks())

    def _json(self) -> Any:
        try:
            return json.loads(self._bytes() or b"{}")
        except ValueError:
            raise _error(400, "Body is not JSON") from None

    # -- writing ------------------------------------------------------------------------------------

    def _head(self, status: int, headers: dict[str, str]) -> None:
        if not self._body_read and self.command in ("POST", "PUT", "DELETE"):
            for _ in self._chunks():  # keep the connection usable
                pass
        if self.fault and self.fault.kind == "headers":
            gone = {h.lower() for h in self.fault.options.get("unset", [])}
            new = self.fault.options.get("set", {})
            gone |= {h.lower() for h in new}
            headers = {k: v for k, v in headers.items() if k.lower() not in gone} | new
        self.record["status"] = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _reply(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
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
        self._head(status, headers)
        if self.command != "HEAD":
            self._pump(memoryview(data), 0)

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # RST at once: nothing is left to send
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _pump(self, data: memoryview, at: int) -> bool:
        """Send body bytes that start at offset ``at`` of the file; False when the fault ended the answer."""
        fault = self.fault
        kind = fault.kind if fault else ""
        options = fault.options if fault else {}
        if kind == "corrupt":
            offsets = options.get("offset", 0)
            changed = bytearray(data)
            for offset in [offsets] if isinstance(offsets, int) else offsets:
                if 0 <= offset - at < len(changed):
                    changed[offset - at] ^= 0xFF
            data = memoryview(bytes(changed))
        if kind in ("drop", "reset", "stall"):
            room = options.get("after", 0) - self.record["sent"]
            if len(data) >= room:
                self.wfile.write(data[: max(room, 0)])
                self.wfile.flush()
                self.record["sent"] += max(room, 0)
                if kind == "stall":
                    _sleep(options.get("seconds", 30))
                elif kind == "reset":
                    _sleep(0.2)  # let the bytes arrive before the reset discards them
                self._hang_up(kind == "reset")
                return False
        step = max(1, int(options.get("rate", 65536) / 20)) if kind == "slow" else len(data) or 1
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self.wfile.write(piece)
            self.record["sent"] += len(piece)
            if kind == "slow":
                self.wfile.flush()
                _sleep(0.05)
        return True

    def _send_file(self, source: BinaryIO, size: int, headers: dict[str, str]) -> None:
        """A file, or the range that was asked for."""
        if self.fault and self.fault.kind == "truncate":
            size = min(size, self.fault.options.get("after", 0))
        first, last, status = 0, size - 1, 200
        wanted = self.headers.get("Range")
        if wanted and not (self.fault and self.fault.kind == "ignore_range"):
            match = re.fullmatch(r"\s*bytes=(\d*)-(\d*)\s*", wanted)
            if match and (match[1] or match[2]):
                if match[1]:
                    first = int(match[1])
                    last = min(int(match[2]), size - 1) if match[2] else size - 1
                else:
                    first = max(size - int(match[2]), 0)
                if first >= size or last < first:
                    raise _Answer(416, b"", {"Content-Range": f"bytes */{size}"})
                status = 206
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        headers["Content-Length"] = str(last - first + 1)
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._head(status, headers)
        if self.command == "HEAD":
            return
        source.seek(first)
        at, left = first, last - first + 1
        while left:
            block = source.read(min(_BLOCK, left))
            if not self._pump(memoryview(block), at):
                return
            at += len(block)
            left -= len(block)

    # -- who and what -------------------------------------------------------------------------------

    def _user(self) -> dict[str, Any] | None:
        value = self.headers.get("Authorization", "")
        if not value:
            return None
        user = self.hub.users.get(value.removeprefix("Bearer ").strip())
        if user is None:
            raise _error(401, "Invalid credentials in Authorization header")
        return user

    def _repo(self, kind: str, repo_id: str, *, write: bool = False) -> Repo:
        user = self._user()
        repo = self.hub.repos.get((kind, repo_id))
        mine = user is not None and repo_id.split("/")[0] in [user["name"], *user["orgs"]]
        if repo is None and (kind, repo_id) in self.hub.moved:
            raise _Answer(307, None, {"Location": self.path.replace(repo_id, self.hub.moved[kind, repo_id], 1)})
        if repo is None or (repo.private and not mine):
            if user is None:  # the Hub does not tell "missing" from "private" to strangers
                raise _error(401, "Invalid username or password.", "RepoNotFound")
            raise _error(404, "Repository not found", "RepoNotFound")
        if repo.disabled:
            raise _error(403, "Access to this resource is disabled.")
        if write and not (mine and user and user["write"]):
            if user is None:
                raise _error(401, "Invalid username or password.", "RepoNotFound")
            raise _error(403, f"You don't have the rights to write to {repo_id}")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise _error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _entry(self, commit: Commit, path: str) -> Entry:
        entry = commit.tree.get(path)
        if entry is None:
            raise _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.oid)
        return entry

    def _check_gate(self, repo: Repo) -> None:
        if not repo.gated:
            return
        user = self._user()
        if user and (repo.namespace in [user["name"], *user["orgs"]] or user["name"] in repo.granted):
            return
        page = f"{self.hub.url}/{repo.id}"
        if user is None:
            raise _error(
                401,
                f"Access to model {repo.id} is restricted. You must be authenticated to access it.",
                "GatedRepo",
            )
        raise _error(
            403,
            f"Access to model {repo.id} is restricted and you are not on the list. Visit {page} to ask for access.",
            "GatedRepo",
        )

    # -- the hub's routes ---------------------------------------------------------------------------

    def _hub(self) -> None:
        parts, method = self.parts, self.command
        if parts[0] == "api":
            return self._api(parts[1:], method)
        kind, rest = (parts[0], parts[1:]) if parts[0] in _TYPES[1:] else ("models", parts)
        if len(rest) > 4 and rest[2] == "resolve" and method in ("GET", "HEAD"):
            return self._resolve(kind, f"{rest[0]}/{rest[1]}", rest[3], "/".join(rest[4:]))
        if len(rest) > 5 and rest[1].endswith(".git") and rest[2:6] == ["info", "lfs", "objects", "batch"]:
            self._repo(kind, f"{rest[0]}/{rest[1][:-4]}", write=True)
            return self._lfs_batch()
        raise _error(404, "Sorry, we can't find the page you are looking for.")

    def _api(self, parts: list[str], method: str) -> None:
        simple = {
            ("GET", "whoami-v2"): self._whoami,
            ("POST", "validate-yaml"): self._validate_yaml,
            ("POST", "repos/create"): self._create,
            ("POST", "repos/move"): self._move,
        }.get((method, "/".join(parts)))
        if simple:
            return simple()
        if parts[0] == "resolve-cache" and len(parts) > 5:
            kind, repo_id = parts[1], f"{parts[2]}/{parts[3]}"
            return self._small_file(self._repo(kind, repo_id), parts[4], "/".join(parts[5:]))
        if parts[0] in _TYPES and len(parts) >= 3:
            return self._repo_api(parts[0], f"{parts[1]}/{parts[2]}", parts[3:], method)
        raise _error(404, "Not found")

    def _repo_api(self, kind: str, repo_id: str, rest: list[str], method: str) -> None:
        what = rest[0] if rest else ""
        arg = rest[1] if len(rest) > 1 else "main"
        write = method in ("POST", "PUT", "DELETE") and what != "paths-info"
        repo = self._repo(kind, repo_id, write=write)
        if method in ("GET", "HEAD"):
            if what in ("", "revision"):
                return self._reply(200, self._info(repo, self._commit(repo, arg), full=True))
            if what == "tree":
                return self._tree(self._commit(repo, arg), "/".join(rest[2:]))
            if what == "refs":
                return self._reply(200, self._refs(repo))
            if what == "commits":
                return self._reply(200, [self._commit_json(c) for c in repo.history(self._commit(repo, arg))])
            if what == "auth-check":
                self._check_gate(repo)
                return self._reply(200, {})
        elif what == "paths-info":
            return self._paths_info(self._commit(repo, arg))
        elif what == "preupload":
            return self._preupload(repo, self._commit(repo, arg))
        elif what == "commit":
            return self._post_commit(repo, arg)
        elif what in ("branch", "tag"):
            return self._ref(repo, what, arg, method)
        raise _error(404, "Not found")

    # -- reading a repository -----------------------------------------------------------------------

    def _info(self, repo: Repo, commit: Commit, full: bool) -> dict[str, Any]:
        blobs = self.query.get("blobs", [""])[0].lower() in ("true", "1")
        card = self._card(repo, commit)
        names = sorted(commit.tree)
        tags = list(card.get("tags") or [])
        tags += [t for t in (card.get("library_name"),) if t]
        tags += ["safetensors"] if any(n.endswith(".safetensors") for n in names) else []
        if isinstance(card.get("license"), str):
            tags.append(f"license:{card['license']}")
        data: dict[str, Any] = {
            "_id": hashlib.md5(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.namespace,
            "sha": commit.oid,
            "lastModified": _iso(commit.when),
            "createdAt": _iso(repo.created),
            "private": repo.private,
            "gated": repo.gated,
            "disabled": repo.disabled,
            "downloads": repo.downloads,
            "likes": 0,
            "tags": list(dict.fromkeys(tags)),
        }
        data |= {k: card[k] for k in ("library_name", "pipeline_tag") if card.get(k)}
        if full:
            data["cardData"] = card or None
            data["usedStorage"] = sum(e.size for e in commit.tree.values())
            siblings: list[dict[str, Any]] = []
            for name in names:
                entry = commit.tree[name]
                sibling: dict[str, Any] = {"rfilename": name}
                if blobs:
                    sibling |= {"size": entry.size, "blobId": entry.blob_id}
                    if entry.sha256:
                        sibling["lfs"] = {
                            "sha256": entry.sha256,
                            "size": entry.size,
                            "pointerSize": len(_lfs_pointer(entry.sha256, entry.size)),
                        }
                siblings.append(sibling)
            data["siblings"] = siblings
        return data

    def _card(self, repo: Repo, commit: Commit) -> dict[str, Any]:
        entry = commit.tree.get("README.md")
        if entry is None:
            return {}
        with self.hub.open(repo, entry) as f:
            text = f.read().decode(errors="replace")
        match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
        try:
            card = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError:
            card = {}
        return card if isinstance(card, dict) else {}

    def _file_json(self, path: str, entry: Entry) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "file", "oid": entry.blob_id, "size": entry.size, "path": path}
        if entry.sha256:
            pointer = len(_lfs_pointer(entry.sha256, entry.size))
            out["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer}
        return out

    @staticmethod
    def _folder_json(tree: dict[str, Entry], folder: str) -> dict[str, Any]:
        inside = sorted((p, e.etag) for p, e in tree.items() if p.startswith(folder + "/"))
        return {
            "type": "directory",
            "oid": hashlib.sha1(json.dumps(inside).encode()).hexdigest(),
            "size": 0,
            "path": folder,
        }

    def _tree(self, commit: Commit, folder: str) -> None:
        deep = self.query.get("recursive", [""])[0].lower() in ("true", "1")
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        rows: dict[str, dict[str, Any]] = {}
        for path, entry in commit.tree.items():
            if not path.startswith(prefix):
                continue
            steps = path[len(prefix) :].split("/")
            for n in range(1, len(steps)) if deep else range(1, min(2, len(steps))):
                sub = prefix + "/".join(steps[:n])
                rows.setdefault(sub, self._folder_json(commit.tree, sub))
            if deep or len(steps) == 1:
                rows[path] = self._file_json(path, entry)
        if prefix and not rows:
            raise _error(404, f"{folder} does not exist on {commit.oid}", "EntryNotFound")
        ordered = [rows[k] for k in sorted(rows)]
        start = int(self.query.get("cursor", ["0"])[0])
        page = ordered[start : start + self.hub.page_size]
        headers: dict[str, str] = {}
        if start + len(page) < len(ordered):
            query = {k: v[0] for k, v in self.query.items()} | {"cursor": str(start + len(page))}
            link = f"{self.hub.url}{urlsplit(self.path).path}?" + "&".join(f"{k}={quote(v)}" for k, v in query.items())
            headers["Link"] = f'<{link}>; rel="next"'
        self._reply(200, page, headers)

    def _paths_info(self, commit: Commit) -> None:
        raw = self._bytes().decode()
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(raw).get("paths", [])
        else:
            paths = parse_qs(raw).get("paths", [])
        out = []
        for path in paths:
            if path in commit.tree:
                out.append(self._file_json(path, commit.tree[path]))
            elif any(p.startswith(path.rstrip("/") + "/") for p in commit.tree):
                out.append(self._folder_json(commit.tree, path.rstrip("/")))
        self._reply(200, out)

    @staticmethod
    def _refs(repo: Repo) -> dict[str, Any]:
        out: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, oid in sorted(repo.refs.items()):
            for prefix, group in (("refs/heads/", "branches"), ("refs/tags/", "tags"), ("refs/pr/", "pullRequests")):
                if ref.startswith(prefix):
                    out[group].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
        return out

    @staticmethod
    def _commit_json(commit: Commit) -> dict[str, Any]:
        return {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.body,
            "date": _iso(commit.when),
            "authors": [{"user": "alice"}],
        }

    # -- downloading --------------------------------------------------------------------------------

    def _resolve(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        repo = self._repo(kind, repo_id)
        commit = self._commit(repo, revision)
        self._check_gate(repo)
        entry = self._entry(commit, path)
        if self.command == "GET":
            repo.downloads += 1
        common = {"X-Repo-Commit": commit.oid, "Access-Control-Expose-Headers": "X-Repo-Commit,X-Linked-Size,ETag"}
        if entry.sha256 is None:  # small files: a redirect that stays on the Hub
            prefix = f"/api/resolve-cache/{kind}/{repo_id}/{commit.oid}/"
            raise _Answer(307, b"", {**common, "Location": prefix + quote(path)})
        target = f"{self.hub.cdn_url}/lfs/{entry.sha256}?sig={self.hub.sign(entry.sha256)}"
        raise _Answer(
            302,
            f"Found. Redirecting to {target}",
            {
                **common,
                "Location": target,
                "X-Linked-Size": str(entry.size),
                "X-Linked-Etag": f'"{entry.sha256}"',
                "Accept-Ranges": "bytes",
            },
        )

    def _small_file(self, repo: Repo, oid: str, path: str) -> None:
        self._check_gate(repo)
        commit = self._commit(repo, oid)
        entry = self._entry(commit, path)
        with self.hub.open(repo, entry) as f:
            self._send_file(f, entry.size, {"ETag": f'"{entry.blob_id}"', "X-Repo-Commit": commit.oid})

    def _cdn(self) -> None:
        if self.parts[0] == "lfs" and self.command in ("GET", "HEAD") and len(self.parts) == 2:
            sha = self.parts[1]
            if self.query.get("sig") != [self.hub.sign(sha)]:
                raise _Answer(403, "<html>AccessDenied</html>")
            target = self.hub.lfs_path(sha)
            with target.open("rb") as f:
                return self._send_file(f, target.stat().st_size, {"ETag": f'"{sha}"'})
        if self.parts[0] == "upload" and self.command == "PUT" and len(self.parts) == 3:
            return self._receive(self.parts[1], int(self.parts[2]))
        raise _Answer(404, "<html>NoSuchKey</html>")

    # -- uploading ----------------------------------------------------------------------------------

    def _lfs_batch(self) -> None:
        body = self._json()
        out: list[dict[str, Any]] = []
        for item in body["objects"]:
            oid, size = item["oid"], item["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            target = self.hub.lfs_path(oid)
            if not (target.exists() and target.stat().st_size == size):
                answer["actions"] = {"upload": {"href": f"{self.hub.cdn_url}/upload/{oid}/0?sig={self.hub.sign(oid)}"}}
            out.append(answer)
        self._reply(200, {"transfer": "basic", "objects": out})

    def _receive(self, oid: str, part: int) -> None:
        if self.query.get("sig") != [self.hub.sign(oid)]:
            raise _Answer(403, "<html>AccessDenied</html>")
        spool = self.hub.root / "parts" / f"{oid}.{part}"
        digest, etag = hashlib.sha256(), hashlib.md5()
        with spool.open("wb") as f:
            for data in self._chunks():
                digest.update(data)
                etag.update(data)
                f.write(data)
        if part == 0:
            if digest.hexdigest() != oid:
                spool.unlink()
                raise _Answer(400, "<html>BadDigest</html>")
            spool.replace(self.hub.lfs_path(oid))
        self._reply(200, b"", {"ETag": f'"{etag.hexdigest()}"'})

    def _preupload(self, repo: Repo, commit: Commit) -> None:
        out = []
        for item in self._json()["files"]:
            sample = base64.b64decode(item.get("sample", ""))
            old = commit.tree.get(item["path"])
            mode = self.hub.upload_mode(repo, commit.tree, item["path"], item["size"], sample)
            row = {"path": item["path"], "uploadMode": mode, "shouldIgnore": False}
            if old:
                row["oid"] = old.etag
            out.append(row)
        self._reply(200, {"files": out})

    def _post_commit(self, repo: Repo, revision: str) -> None:
        lines = [json.loads(line) for line in self._bytes().splitlines() if line.strip()]
        with self.hub.lock:
            head = self._commit(repo, revision)
            ref = repo.ref_of(revision)
            title, body, parent = "", "", None
            tree = dict(head.tree)
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "header":
                    title, body = value.get("summary", ""), value.get("description", "")
                    parent = value.get("parentCommit")
                    if parent and not head.oid.startswith(parent):
                        raise _error(412, "A commit has happened since. Please refresh and try again.")
                elif key == "file":
                    try:
                        data = base64.b64decode(value["content"], validate=True)
                    except binascii.Error:
                        raise _error(400, f"Bad base64 for {value['path']}") from None
                    tree[self._path(value["path"])] = self.hub._put_small(repo, data)
                elif key == "lfsFile":
                    target = self.hub.lfs_path(value["oid"])
                    if not target.exists():
                        raise _error(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                    size = target.stat().st_size
                    pointer = _lfs_pointer(value["oid"], size)
                    tree[self._path(value["path"])] = Entry(size, _git_blob_id(pointer), value["oid"])
                elif key == "deletedFile":
                    if tree.pop(value["path"], None) is None:
                        raise _error(404, "A file with this name doesn't exist", "EntryNotFound")
                elif key == "deletedFolder":
                    prefix = value["path"].rstrip("/") + "/"
                    gone = [p for p in tree if p.startswith(prefix)]
                    if not gone:
                        raise _error(404, "A file with this name doesn't exist", "EntryNotFound")
                    for path in gone:
                        del tree[path]
                else:
                    raise _error(400, f"Unknown operation {key}")
            pull = None
            if self.query.get("create_pr") == ["1"]:
                number = 1 + sum(r.startswith("refs/pr/") for r in repo.refs)
                ref = f"refs/pr/{number}"
                repo.refs[ref] = head.oid
                pull = f"{self.hub.url}/{repo.id}/discussions/{number}"
            if ref is None or ref.startswith("refs/tags/"):
                raise _error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            new = repo.commit(ref, tree, title, body)
        answer = {"success": True, "commitOid": new.oid, "commitUrl": f"{self.hub.url}/{repo.id}/commit/{new.oid}"}
        if pull:
            answer["pullRequestUrl"] = pull
        self._reply(200, answer)

    @staticmethod
    def _path(path: str) -> str:
        if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
            raise _error(400, f"Invalid path in repo: {path}")
        return path

    def _ref(self, repo: Repo, what: str, arg: str, method: str) -> None:
        prefix = "refs/heads/" if what == "branch" else "refs/tags/"
        if method == "DELETE":
            if repo.refs.pop(prefix + arg, None) is None:
                raise _error(404, f"Invalid rev id: {arg}", "RevisionNotFound")
            return self._reply(200, {})
        body = self._json()
        name, start = (arg, body.get("startingPoint", "main")) if what == "branch" else (body["tag"], arg)
        if prefix + name in repo.refs:
            raise _error(409, f"Reference already exists: {prefix}{name}")
        repo.refs[prefix + name] = self._commit(repo, start).oid
        self._reply(200, {})
        return None

    # -- account-like calls -------------------------------------------------------------------------

    def _whoami(self) -> None:
        user = self._user()
        if user is None:
            raise _error(401, "Invalid username or password.")
        self._reply(
            200,
            {
                "type": "user",
                "name": user["name"],
                "fullname": user["name"].title(),
                "orgs": [{"type": "org", "name": o, "roleInOrg": "admin"} for o in user["orgs"]],
                "auth": {"type": "access_token", "accessToken": {"role": "write" if user["write"] else "read"}},
            },
        )

    def _create(self) -> None:
        body, user = self._json(), self._user()
        if user is None:
            raise _error(401, "Invalid username or password.")
        namespace = body.get("organization") or user["name"]
        if not user["write"] or namespace not in [user["name"], *user["orgs"]]:
            raise _error(403, f"You don't have the rights to create a model under the namespace {namespace!r}")
        kind, repo_id = body.get("type") or "model", f"{namespace}/{body['name']}"
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}", body["name"]) or "--" in body["name"] or ".." in body["name"]:
            raise _error(400, f"Invalid repo name: {body['name']}")
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id, "id": repo_id}
        with self.hub.lock:
            if (f"{kind}s", repo_id) in self.hub.repos:
                raise _Answer(409, {"error": f"You already created this {kind} repo", **answer})
            private = body.get("private") or body.get("visibility") == "private"
            self.hub.add_repo(repo_id, repo_type=kind, private=bool(private))
        self._reply(200, answer)

    def _move(self) -> None:
        body = self._json()
        kind = body.get("type") or "model"
        self._repo(f"{kind}s", body["fromRepo"], write=True)
        self.hub.move(body["fromRepo"], body["toRepo"], repo_type=kind)
        self._reply(200, {})

    def _validate_yaml(self) -> None:
        content = self._json().get("content", "")
        match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.S)
        if not match:
            return self._reply(
                200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
            )
        errors = []
        try:
            card = yaml.safe_load(match[1]) or {}
            if not isinstance(card, dict):
                errors.append("metadata must be a mapping")
            else:
                for key in ("license", "pipeline_tag", "library_name"):
                    if key in card and not isinstance(card[key], (str, list) if key == "license" else str):
                        errors.append(f'"{key}" must be a string')
                if "tags" in card and not isinstance(card["tags"], (list, type(None))):
                    errors.append('"tags" must be an array')
        except yaml.YAMLError as problem:
            errors.append(f"invalid yaml: {problem}")
        body = {"errors": [{"message": e} for e in errors], "warnings": []}
        self._reply(400 if errors else 200, body)
        return None

    # -- remote control -----------------------------------------------------------------------------

    def _control(self) -> None:
        what = (self.command, "/".join(self.parts[1:]))
        if what == ("POST", "faults"):
            self.hub.fail(**self._json())
        elif what == ("DELETE", "faults"):
            self.hub.heal()
        elif what == ("GET", "log"):
            return self._reply(200, self.hub.requests())
        elif what == ("DELETE", "log"):
            self.hub.forget()
        elif what == ("POST", "repos"):
            body = self._json()
            files = {k: base64.b64decode(v) for k, v in body.pop("files", {}).items()}
            self.hub.add_repo(body.pop("id"), files, **body)
        else:
            raise _error(404, "Not found")
        self._reply(200, {"ok": True})
        return None


def _seed(hub: FakeHub, folder: Path) -> None:
    for place in sorted(p for p in folder.glob("*/*") if p.is_dir()):
        files = {f.relative_to(place).as_posix(): f for f in sorted(place.rglob("*")) if f.is_file()}
        hub.add_repo(f"{place.parent.name}/{place.name}", files)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A local stand-in for the Hugging Face Hub, for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", help="where large files are kept (default: a temporary folder)")
    parser.add_argument("--seed", type=Path, help="folder of <namespace>/<name>/<files>")
    parser.add_argument("--print-env", type=int, metavar="PORT", help="print the client's variables and leave")
    args = parser.parse_args(argv)
    if args.print_env:
        print("\n".join(f"export {k}={v}" for k, v in client_env(f"http://127.0.0.1:{args.print_env}").items()))
        return
    with FakeHub(args.root, port=args.port) as hub:
        if args.seed:
            _seed(hub, args.seed)
        print(f"hub {hub.url}  cdn {hub.cdn_url}  {len(hub.repos)} repositories", flush=True)
        try:
            while True:
                _sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
