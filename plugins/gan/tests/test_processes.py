"""Two processes learn what one learns: gradients of gradients too."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "alone_or_together.py"
RUNS = [
    {"penalty_every": 2, "augment": ["color", "translation", "cutout"]},  # R1 and R2, lazily, before augmentation
    {"objective": "wgan-gp", "generator_every": 2},
    {"objective": "hinge"},
    {"accumulate": 2},
]


@pytest.fixture(scope="module")
def alone_or_together():
    spec = importlib.util.spec_from_file_location("alone_or_together", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_processes_on_gloo_give_the_weights_of_one(tmp_path, alone_or_together):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path), json.dumps(RUNS)], check=True, timeout=120, env=environment)
    for number, settings in enumerate(RUNS):
        first, second = (load_file(tmp_path / f"{number}-of-{rank}.safetensors") for rank in (0, 1))
        alone = alone_or_together.run(tmp_path / f"alone{number}", **settings)
        for name, weights in alone.items():
            torch.testing.assert_close(
                first[name], second[name], rtol=0, atol=0, msg=f"{settings} {name}: ranks differ"
            )
            torch.testing.assert_close(first[name], weights, rtol=1e-9, atol=1e-9)
        started = alone_or_together.started(
            alone_or_together.settled(
                alone_or_together.Config(network="conv", width=4, hidden=8, **settings), alone_or_together.source()
            ),
            3,
        )
        moved = [(alone[f"g.{name}"] - weight).abs().max() for name, weight in started[0].state_dict().items()]
        assert max(moved) > 1e-3  # it did learn


def test_pieces_of_a_batch_give_what_the_whole_gives(tmp_path, alone_or_together):
    whole = alone_or_together.run(tmp_path / "whole")
    pieces = alone_or_together.run(tmp_path / "pieces", accumulate=4)
    for name, weights in whole.items():
        torch.testing.assert_close(pieces[name], weights, rtol=1e-9, atol=1e-9)
