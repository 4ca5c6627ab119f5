"""What the tests of all plugins that ask a server share: a server on loopback, no key of one's own, the command line.

A plugin's ``conftest.py`` puts this folder on ``sys.path``, and imports the fixtures.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genreg_openai.testing import FakeOpenAI


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """No key and no server of the one who runs the tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def server(monkeypatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        yield server


@pytest.fixture
def main(capfdbinary, monkeypatch) -> Iterator[Callable[..., tuple[str, str]]]:
    """The command line in this process: what it prints on stdout and on stderr."""
    from genreg.cli import main

    def run(*arguments: object, code: int = 0, stdin: str = "", cwd: Path | None = None) -> tuple[str, str]:
        capfdbinary.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            patch.chdir(cwd or Path.cwd())
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        out, err = (text.decode() for text in capfdbinary.readouterr())
        assert (ended.value.code or 0) == code, err
        return out, err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)
