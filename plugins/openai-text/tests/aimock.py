"""The npm package @copilotkit/aimock as a server for tests: a stand-in for OpenAI's API that no one here wrote."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VERSION = "1.43.0"


def installed() -> Path:
    """The program, installed once into a cache folder; skips where npm is missing or cannot reach its registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "genreg-tests" / f"aimock-{VERSION}"
    program = folder / "node_modules" / ".bin" / "llmock"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            line = [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                f"@copilotkit/aimock@{VERSION}",
            ]
            done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.skip(f"npm cannot install aimock: {done.stderr.strip()[-200:]}")
    return program


@contextmanager
def serving(folder: Path, fixtures: list[dict[str, Any]], key: str) -> Iterator[str]:
    """Its address, while it serves the fixtures to whoever has the key."""
    program = installed()
    (folder / "fixtures").mkdir()
    (folder / "fixtures" / "own.json").write_text(json.dumps({"fixtures": fixtures}), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [str(program), "-p", str(port), "-h", "127.0.0.1", "-f", str(folder / "fixtures"), "-l", "1", "-c", "8"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            [*line, "--strict"], env={**os.environ, "AIMOCK_API_KEYS": key}, stdout=log, stderr=log
        )
    try:
        for _ in range(400):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert child.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


def control(url: str, what: str, key: str, body: dict[str, Any] | None = None) -> Any:
    """Its own door: ``chaos`` and ``journal``."""
    head = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/__aimock/{what}", data, head), timeout=10) as answer:
        return json.loads(answer.read() or b"null")
