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
    """The command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "genreg", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
    )


@pytest.fixture(scope="session")
def process() -> Callable[..., Outcome]:
    """Run the command line as a process: ``process("list", stdin=…, env={…}, cwd=…)``."""

    def run(*arguments: object, stdin: str = "", **popen: object) -> Outcome:
        child = start(*arguments, **{"stdin": subprocess.PIPE, **popen})
        out, err = child.communicate(stdin.encode(), timeout=300)
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


@pytest.fixture
def flowers_and_answers(distribution) -> SimpleNamespace:
    """The toys as an installed plugin with two models: flowers, which are images, and answers, which stream."""
    return distribution(
        "genreg-toys",
        "from tests.toys import *\nfrom tests.toys import genreg_models\n",
        registry="version: 1\nmodels:\n  flowers: {family: petals, makes: image, summary: Flowers}\n"
        "  answers: {family: oracle, makes: text, summary: Answers}\n",
    )


@pytest.fixture(scope="module")
def toy_plugin(tmp_path_factory) -> Iterator[Path]:
    """The toys as an installed plugin, genreg-toys, with a registry and checkpoints; the folder it is installed in."""
    site = tmp_path_factory.mktemp("site")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site))  # of child processes
        write_toy_plugin(site)
        yield site
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write_toy_plugin(site: Path) -> None:
    """Install genreg-toys there, train what is trained, and bring its registry in step with its hooks."""
    import yaml
    from tests import wrong_toys

    from genreg import train
    from genreg.offers import offers, write_offers
    from genreg.plugins import load_plugins

    package, info = site / "genreg_toys", site / "genreg_toys-1.5.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("from .wrong_toys import genreg_models\n", "utf-8")
    for name in ("toys.py", "wrong_toys.py"):
        (package / name).write_text(Path(__file__).with_name(name).read_text("utf-8"), "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: genreg-toys\nVersion: 1.5\n", "utf-8")
    (info / "entry_points.txt").write_text("[genreg]\ntoys = genreg_toys\n", "utf-8")
    (site / "rows.csv").write_text("a,b\n" + "".join(f"{at},{at * at % 7}\n" for at in range(20)), "utf-8")
    models = {}
    for family in wrong_toys.genreg_models():
        entry = {"family": family.name, "summary": family.summary, "makes": family.makes}
        if family.fit is not None:
            train(family.name, site / "rows.csv", out=package / family.name, split="100", settings={"epochs": "1"})
            entry["weights"] = f"pkg://genreg-toys/{family.name}"
        if family.name.startswith("oracle"):
            entry["check"] = {"given": {"prompt": "the weather"}}
        models[family.name] = entry
    (package / "registry.yaml").write_text(
        yaml.safe_dump({"version": 1, "models": models}, allow_unicode=True), "utf-8"
    )
    write_offers(package / "registry.yaml", offers(load_plugins(), "genreg-toys"))


@pytest.fixture(scope="session")
def registry_file(tmp_path_factory) -> Callable[..., Path]:
    """A registry file with the text given."""

    def make(text: str) -> Path:
        path = tmp_path_factory.mktemp("registry") / "registry.yaml"
        path.write_text(text, "utf-8")
        return path

    return make
