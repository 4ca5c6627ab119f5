"""The helpers beside the tests can be imported by them, and the names that published files use can be pickled."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def published_names(monkeypatch):
    """Modules named as the published code's, so that stand-ins for its classes can be pickled."""

    def _reconstruct_persistent_obj(record):
        raise AssertionError("a function that the file names was called")

    class EasyDict(dict):
        def __setstate__(self, state):
            raise AssertionError("a class that the file names was used")

    for name, one in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        package, _, _ = name.partition(".")
        one.__module__, one.__qualname__ = name, one.__name__
        module = ModuleType(name)
        setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, name, module)
