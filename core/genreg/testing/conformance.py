"""The tests that ``pytest --genreg NAME`` collects."""

from __future__ import annotations

from functools import cache

import pytest

from genreg.api import LoadedModel, load
from genreg.testing.checks import CHECKS, Check, expected_failures, run_check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per model and check."""
    names = metafunc.config.getoption("--genreg", default=[])
    cases = [pytest.param(name, check, id=f"{name}-{check.name}") for name in names for check in CHECKS]
    metafunc.parametrize(("name", "check"), cases)


@cache
def loaded(name: str) -> LoadedModel:
    """The model, loaded once for all checks."""
    return load(name)


def test_the_contract_is_kept(name: str, check: Check, request: pytest.FixtureRequest) -> None:
    """The check passes, is skipped with its reason, or fails as the plugin or the ini file declares."""
    reasons = {}
    for line in request.config.getini("genreg_expected_failures"):
        head, _, reason = line.partition(":")
        model, _, failing = head.strip().rpartition(" ")
        if model.strip() == name:
            reasons[failing] = reason.strip()
    result = run_check(check, loaded(name), expected_failures(loaded(name), reasons).get(check.name))
    if result.status == "skipped":
        pytest.skip(result.message)
    if result.status == "expected":
        pytest.xfail(result.message)
    assert result.status == "passed", f"{check.explains}: {result.message}. To mend it: {check.mend}"
