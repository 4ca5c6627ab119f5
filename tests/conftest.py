"""What the tests share: the command line as a process and in this one, and distributions made on the spot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest


@dataclass(frozen=True)
class Outcome:
    """How the command line ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a mistake is told in; nothing else was printed."""
        assert self.out == ""
        assert self.err.startswith("genreg: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err[len("genreg: ") : -1]


@pytest.fixture(autouse=True)
def _no_user_registry(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("COLUMNS", "120")


def start(*arguments: object, env: dict[str, str] | None = None, **popen: object) -> subprocess.Popen[bytes]:
    """The command line as a process of its own, in which Ctrl-C works also where the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "genreg", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
    )


@pytest.fixture(scope="session")
def process() -> Callable[..., Outcome]:
    """Run the command line as a process: ``process("list", stdin=…, env={…}, cwd=…)``."""

    def run(*arguments: object, stdin: str = "", **popen: object) -> Outcome:
        child = start(*arguments, **{"stdin": subprocess.PIPE, **popen})
        out, err = child.communicate(stdin.encode(), timeout=60)
        return Outcome(child.returncode, (out or b"").decode(), (err or b"").decode())

    return run


@pytest.fixture(scope="session", name="start")
def _start() -> Callable[..., subprocess.Popen[bytes]]:
    return start


@pytest.fixture
def genreg(capfdbinary, monkeypatch) -> Iterator[Callable[..., Outcome]]:
    """The command line in this process, for long tables: ``genreg("run", "nb-iris")``."""
    from genreg.cli import main

    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Outcome:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Outcome(ended.value.code or 0, out.decode(), err.decode())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def distribution(tmp_path, monkeypatch) -> Iterator[Callable[..., SimpleNamespace]]:
    """Make an installed distribution: ``distribution("genreg-x", "import …", registry="version: 1")``."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def make(
        dist: str, code: str = "", *, registry: str | None = None, points: str | None = None, bare: bool = False
    ) -> SimpleNamespace:
        package = dist.replace("-", "_")
        module = site / f"{package}.py" if bare else site / package / "__init__.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(code, "utf-8")
        if registry is not None:
            (module.parent / "registry.yaml").write_text(registry, "utf-8")
        info = site / f"{package}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.5\n", "utf-8")
        points = points if points is not None else f"[genreg]\n{package.removeprefix('genreg_')} = {package}\n"
        (info / "entry_points.txt").write_text(points, "utf-8")
        return SimpleNamespace(dist=dist, package=package, folder=module.parent, site=site, info=info)

    yield make
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def registry_file(tmp_path_factory) -> Callable[..., Path]:
    """A registry file with the text given."""

    def make(text: str) -> Path:
        path = tmp_path_factory.mktemp("registry") / "registry.yaml"
        path.write_text(text, "utf-8")
        return path

    return make
