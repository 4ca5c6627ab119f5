"""The helpers beside the tests of genreg-openai and genreg-openai-text can be imported by these."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "openai" / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "openai-text" / "tests"))

from openai_fixtures import alone, main, server  # noqa: F401 - fixtures, from where the line above leads
