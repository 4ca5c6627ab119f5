"""What starting costs, told by what is not imported: timing is a report (benchmarks/startup.py), this is the gate."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from genreg.entrypoints import scan

HEAVY = {
    "pydantic",
    "pluggy",
    "numpy",
    "pyarrow",
    "torch",
    "openai",
    "huggingface_hub",
    "rich",
    "safetensors",
    "PIL",
    "asyncio",
}
PLUGINS = {point.package for point in scan()} - {"genreg"}
PROBE = """
import json, sys
sys.argv = ["genreg", *sys.argv[1:]]
try:
    from genreg.cli import main
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


TOLD = "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
LIGHT = {
    "cli", "cli.concat", "cli.list", "cli.run", "entrypoints", "errors", "offline", "registry", "registryfile", "wide",
}  # fmt: skip


def imported(script: str, *arguments: str) -> set[str]:
    """The modules that a process has imported at its end."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--version",
        "--help",
        "list",
        "list --json",
        "list --offline",
        "list samplers -q",
        "list --help",
        "lst",
        "list modles",
        "run --help",
        "concat --help",
    ],
)
def test_what_does_not_compute_imports_nothing_that_does(arguments):
    modules = imported(PROBE, *arguments.split())
    assert "click" in modules
    assert modules & (HEAVY | PLUGINS) == set()
    assert {name for name in modules if name.startswith("genreg.")} <= {f"genreg.{name}" for name in LIGHT}


def test_importing_genreg_imports_nothing_else():
    modules = imported(f"import json, sys, genreg; {TOLD}")
    assert {name for name in modules if name.startswith("genreg")} == {"genreg"}
    assert modules & (HEAVY | PLUGINS | {"click", "yaml"}) == set()


def test_a_model_without_torch_brings_no_torch():
    modules = imported(f"import json, sys, genreg; genreg.load('nb-iris'); {TOLD}")
    assert "genreg_nb.model" in modules
    assert modules & {"torch", "openai", "huggingface_hub", "rich", "PIL"} == set()


def test_plugins_that_are_not_run_do_not_load_what_computes():
    modules = imported(f"import json, sys; from genreg.plugins import load_plugins; load_plugins(); {TOLD}")
    assert modules & {"torch", "openai", "huggingface_hub", "rich", "PIL", "genreg_nb.model"} == set()
