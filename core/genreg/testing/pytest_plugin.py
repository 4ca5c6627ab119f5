"""``pytest --genreg NAME``: one test per check and model; nothing is imported unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest


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
