"""``pytest --genreg NAME``: one test per check and model; ``genreg_hub``: a Hub on this machine.

Nothing is imported unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from genreg.testing.hub import FakeHub


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --genreg, and the ini list of expected failures."""
    group = parser.getgroup("genreg")
    group.addoption(
        "--genreg", action="append", default=[], metavar="NAME", help="Check this model against the contract."
    )
    parser.addini("genreg_expected_failures", "NAME CHECK: reason, one a line", type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """With --genreg, collect the conformance module: alone where no path was named."""
    if config.getoption("--genreg"):
        module = str(Path(__file__).with_name("conformance.py"))
        named = config.args_source is pytest.Config.ArgsSource.ARGS
        config.args[:] = [*config.args, module] if named else [module]
        config.addinivalue_line("python_files", "conformance.py")


@pytest.fixture
def genreg_hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A Hugging Face Hub on loopback that huggingface_hub, here and in child processes, takes for the real one."""
    from genreg.testing.hub import OWNER_TOKEN, FakeHub

    with FakeHub() as hub, hub.serving(tmp_path / "hf", OWNER_TOKEN):
        yield hub
