import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toys():
    """The module beside this file, which is a script too."""
    spec = importlib.util.spec_from_file_location("toys", Path(__file__).parent / "toys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def launched():
    """Runs of the toys, one after the other, in two processes that torchrun starts."""

    def launch(runs, timeout=120):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [str(Path(__file__).parent / "toys.py"), json.dumps(runs)]
        subprocess.run(command, check=True, timeout=timeout, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return launch
