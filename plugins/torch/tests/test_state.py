"""States on disk: whole or not there, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from genreg.errors import CheckpointError, UsageError
from genreg_torch.loop import adam
from genreg_torch.state import State, read_record, restore, save, states, write


def small(value: float = 0.0) -> State:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    optimizer = adam(net)
    net(torch.ones(2, 2, 5, 5) * value).sum().backward()
    optimizer.step()
    return State.of({"net": net}, {"all": optimizer}, ("net",))


def test_a_state_is_restored_to_the_bit_and_in_the_layout_of_its_parameters(tmp_path):
    first, second = small(1.0), small(2.0)
    path = save(tmp_path, first, 7, {"seconds": 1.5})
    record = read_record(path)
    assert (record["step"], record["seconds"]) == (7, 1.5)
    restore(path, second, record)
    for own, read in ((first.weights(), second.weights()), (first.memories(), second.memories())):
        assert own.keys() == read.keys()
        assert all(torch.equal(own[name], read[name]) and own[name].stride() == read[name].stride() for name in own)
    assert second.optimizers["all"].param_groups[0]["betas"] == (0.9, 0.999)


def test_names_are_those_of_networks_and_parameters_and_other_tools_read_them(tmp_path):
    path = save(tmp_path, small(), 1, {})
    with safe_open(str(path), framework="numpy") as file:
        names = set(file.keys())
    assert {"network.net.0.weight", "network.net.1.running_mean", "average.net.0.bias"} <= names
    assert {"optimizer.all.net.0.weight.exp_avg", "optimizer.all.net.1.bias.step"} <= names


def test_tied_parameters_are_written_once(tmp_path):
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    net["b"].weight = net["a"].weight
    path = save(tmp_path, State.of({"net": net}, {"all": adam(net)}, ()), 1, {})
    assert set(load_file(path)) == {"network.net.a.weight", "network.net.a.bias", "network.net.b.bias"}


def test_two_states_are_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, small(), step, {})
    assert [path.name for path in states(tmp_path)] == ["state-00000002.safetensors", "state-00000003.safetensors"]


def test_every_dtype_comes_back(tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    tensors = {str(kind): torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in kinds}
    tensors["scalar"], tensors["empty"] = torch.tensor(3.0), torch.empty(0, 2)
    write(tmp_path / "all.safetensors", tensors, {"step": 0})
    read = load_file(tmp_path / "all.safetensors")
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in tensors)


def test_a_kill_in_the_middle_of_a_save_leaves_the_last_good_state(toys, tmp_path):
    whole = toys.run("gan", tmp_path / "whole")
    folder = tmp_path / "killed"
    code = [sys.executable, toys.__file__, json.dumps([["gan", str(folder), 0, {"save_minutes": 0}]])]
    caught = 0
    for kill in range(1, 3):
        child = subprocess.Popen(code, env={**os.environ, "OMP_NUM_THREADS": "1"})
        until = time.monotonic() + 60
        while not (
            len(states(folder)) == 2 and int(states(folder)[-1].stem[-8:]) >= 4 * kill and list(folder.glob("*.tmp"))
        ):
            time.sleep(0.0005)
            assert child.poll() is None
            assert time.monotonic() < until
        child.send_signal(signal.SIGKILL)
        child.wait()
        caught += bool(list(folder.glob("*.tmp")))
        for path in states(folder):
            assert load_file(path)
            assert read_record(path)["step"] == int(path.stem[-8:])
    assert caught
    again = toys.run("gan", folder)
    first, second = toys.tensors(whole.networks), toys.tensors(again.networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list(folder.glob("*.tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_stops_with_one_line_and_leaves_the_last_good_state(toys, tmp_path):
    def fill(name):
        def report(done, total=None, /, **figures):
            if done == 30:
                (tmp_path / name).unlink(missing_ok=True)
                (tmp_path / name).symlink_to("/dev/full")

        return report

    with pytest.raises(KeyboardInterrupt):
        toys.run("vae", tmp_path, toys.stop_at(20, signal.SIGINT))
    kept = (tmp_path / "state-00000020.safetensors").read_bytes()
    for name, what in (("state-00000060.tmp", "the state at step 60"), ("metrics.jsonl", "metrics.jsonl")):
        with pytest.raises(UsageError) as error:
            toys.run("vae", tmp_path, fill(name))
        assert str(error.value) == (
            f"{what} cannot be written to {tmp_path}: No space left on device; "
            "the last good one is state-00000020.safetensors, from which --resume continues"
        )
        assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000020.safetensors"]
        assert (tmp_path / "state-00000020.safetensors").read_bytes() == kept
        (tmp_path / "metrics.jsonl").unlink()


def test_a_damaged_state_is_named_with_the_older_one(tmp_path):
    for step in (1, 2):
        save(tmp_path, small(), step, {})
    newest = states(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=re.escape("remove it to continue from state-00000001.safetensors")):
        read_record(newest)
    states(tmp_path)[0].unlink()
    with pytest.raises(CheckpointError, match="start over with --force"):
        read_record(newest)


def test_a_state_of_other_networks_is_refused_by_name(tmp_path):
    path = save(tmp_path, small(), 1, {})
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    other = State.of({"net": net}, {"all": adam(net)}, ())
    with pytest.raises(CheckpointError, match=re.escape("does not fit the networks of this run: average.net.0.bias, ")):
        restore(path, other, read_record(path))
