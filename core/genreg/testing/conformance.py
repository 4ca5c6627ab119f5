"""The tests that ``pytest --genreg NAME`` collects."""

from __future__ import annotations

import pytest

from genreg.api import load
from genreg.testing.checks import CHECKS, Check, run_check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per model and check."""
    names = metafunc.config.getoption("--genreg", default=[])
    cases = [pytest.param(name, check, id=f"{name}-{check.name}") for name in names for check in CHECKS]
    metafunc.parametrize(("name", "check"), cases)


def test_the_contract_is_kept(name: str, check: Check, request: pytest.FixtureRequest) -> None:
    """The check passes, is skipped with its reason, or fails as the plugin declares."""
    reasons = {}
    for line in request.config.getini("genreg_expected_failures"):
        head, _, reason = line.partition(":")
        reasons[tuple(head.split())] = reason.strip()
    result = run_check(check, load(name), reasons.get((name, check.name)))
    if result.status == "skipped":
        pytest.skip(result.message)
    if result.status == "expected":
        pytest.xfail(result.message)
    assert result.status == "passed", f"{check.explains}: {result.message}. To mend it: {check.mend}"
