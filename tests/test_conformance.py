"""Every plugin's models against the contract, in one table."""

from functools import cache

import pytest

from genreg import load
from genreg.api import LoadedModel
from genreg.registry import read_registries
from genreg.testing import CHECKS, expected_failures, run_check

MODELS = sorted(
    name
    for name, entry in read_registries().entries.items()
    if entry.installed and entry.plugin and (entry.weights or "").startswith("pkg://")
)


@cache
def loaded(name: str) -> LoadedModel:
    return load(name)


def test_there_are_models() -> None:
    assert "nb-iris" in MODELS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_keeps_the_contract(name, check):
    result = run_check(check, loaded(name), expected_failures(loaded(name)).get(check.name))
    assert result.status != "failed", f"{check.explains}: {result.message}. To mend it: {check.mend}"
    assert result.status == "passed" or result.message
