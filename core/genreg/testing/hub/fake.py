"""The state of the fake Hub, and the two listeners that show it."""

from __future__ import annotations

import atexit
import fnmatch
import hashlib
import hmac
import io
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from genreg.testing.hub.access import USERS
from genreg.testing.hub.faults import KINDS, NONE, Fault
from genreg.testing.hub.repository import Entry, Repo, Tree
from genreg.testing.hub.routes import of_hub, of_storage
from genreg.testing.hub.wire import Server, listen

Files = Mapping[str, bytes | str | os.PathLike[str]]  # path in the repository -> content, or a local file

_BIG = ("bin", "ckpt", "gz", "h5", "msgpack", "npy", "npz", "onnx", "parquet", "pkl", "pt", "pth", "safetensors", "zip")
_DEFAULT_ATTRIBUTES = "".join(f"*.{ext} filter=lfs diff=lfs merge=lfs -text\n" for ext in _BIG).encode()


class FakeHub:
    """The state, and the two listeners that show it."""

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
        self.users = dict(USERS)
        self._secret = os.urandom(16)
        self._servers: list[Server] = []
        self._port = port

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> FakeHub:
        """Listen, in threads of this process."""
        for name, port, route in (("hub", self._port, of_hub), ("cdn", 0, of_storage)):
            server = listen(self, name, port, route)
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
        """Where large files lie."""
        # another host name on purpose: 1.x clients compare names only, 2.x clients compare scheme, name and port
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
            repo.commit("refs/heads/main", {".gitattributes": repo.keep(_DEFAULT_ATTRIBUTES)}, message)
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

    def store(self, repo: Repo, tree: Tree, path: str, data: bytes) -> Entry:
        """Keep a file as the Hub would: in git, or in large-file storage."""
        if self.upload_mode(repo, tree, path, len(data), data[:512]) == "regular":
            return repo.keep(data)
        sha = hashlib.sha256(data).hexdigest()
        target = self.lfs_path(sha)
        if not target.exists():
            target.write_bytes(data)
        return Entry.large(sha, len(data))

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

    def upload_mode(self, repo: Repo, tree: Tree, path: str, size: int, sample: bytes) -> str:
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
        """Order a fault, as the table of ``faults.py`` says."""
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}: one of {sorted(KINDS)}")
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

    def noted(self, record: dict[str, Any]) -> Fault:
        """Log a request; the fault that is on order for it, used up once."""
        with self.lock:
            self.log.append(record)
            for fault in self.faults:
                if fault.takes(record["server"], record["method"], record["path"]):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return NONE

    def sign(self, what: str) -> str:
        """The signature in an address of the storage."""
        return hmac.new(self._secret, what.encode(), "sha256").hexdigest()[:32]


def client_env(url: str) -> dict[str, str]:
    """Variables that point a client at this address."""
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
