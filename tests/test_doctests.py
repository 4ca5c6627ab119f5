"""The examples in docstrings run, in the packages that are installed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import genreg
from genreg.entrypoints import GROUP, scan

PACKAGES = sorted({"genreg", *(point.package for point in scan() if point.group == GROUP)})


def modules(package):
    found = importlib.import_module(package)
    yield package
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith(("__main__", "conformance")):
            yield module.name


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in modules(package)])
def test_its_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_there_are_examples():
    assert genreg.__doc__
    assert doctest.testmod(importlib.import_module("genreg.draft")).attempted > 5
