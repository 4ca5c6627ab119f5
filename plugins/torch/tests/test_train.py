"""A torch family behind ``genreg train``: interrupted, resumed, refused, started over, shown."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import Field
from safetensors.numpy import load_file
from torch import nn

import genreg.training
from genreg.cli import main
from genreg.plugins import load_plugins
from genreg.specs import ModelFamily, Trained
from genreg_torch.loop import Objective, Training, adam, initialized, train
from genreg_torch.memory import estimate
from genreg_torch.settings import TorchOptions, TrainSettings
from genreg_torch.weights import load_into, tensors_of


class Config(TrainSettings, frozen=True):
    steps: int = Field(default=30, ge=1, description="updates of the weights")
    batch: int = Field(default=16, ge=1, description="rows of one update")
    width: int = Field(default=8, ge=1, description="hidden units")


def network(config: Config) -> nn.Module:
    return nn.Sequential(nn.Linear(2, config.width), nn.SiLU(), nn.Linear(config.width, 2))


def decode(batch):
    return {
        "x": torch.tensor(np.stack([batch.column(n).to_numpy(zero_copy_only=False) for n in ("a", "b")], 1)).float()
    }


def objective(net, stop: list[int]):
    def loss(rows, at):
        if at.step in stop:
            stop.remove(at.step)
            os.kill(os.getpid(), signal.SIGTERM)
        return (at.run(net, rows["x"] + 0.1 * at.normal(2)) - rows["x"]).square().mean(), {}

    return Objective(loss, adam(net))


def family(stop: list[int]) -> ModelFamily:
    def fit(config, options, source, validation, *, seed, folder, report):
        net = initialized(seed, lambda: network(config))
        training = Training({"toy": net}, {"loss": objective(net, stop)}, decode, averaged=("toy",))
        done = train(training, source, config, seed=seed, folder=folder, device=options.device, report=report)
        return Trained(tensors_of(done.networks["toy"]), config, done.metrics, done.pictures)

    def size(config, options, source):
        net = network(config)
        return estimate({"toy": net}, lambda n: net(torch.zeros(n, 2)).square().mean(), config, averaged=("toy",))

    return ModelFamily(
        name="toy", summary="A toy", makes="table", draft="nothing", config=Config, options=TorchOptions, fit=fit,
        columns=lambda _: pa.schema([("a", pa.float64()), ("b", pa.float64())]), estimate=size,
        load=lambda config, options, weights: load_into(lambda: network(config), weights, dtype=options.dtype),
    )  # fmt: skip


@pytest.fixture
def genreg_train(tmp_path, monkeypatch, capsys):
    """Run ``genreg train toy`` on a small table: the exit code and what was told."""
    numbers = np.random.default_rng(0).normal(size=(100, 2)).round(3)
    (tmp_path / "data.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in numbers.tolist()) + "\n")
    monkeypatch.chdir(tmp_path)
    stop: list[int] = []
    known = load_plugins()
    components = replace(
        known,
        families={**known.families, "toy": family(stop)},
        owners={**known.owners, ("families", "toy"): "genreg-core"},
    )
    monkeypatch.setattr(genreg.training, "load_plugins", lambda: components)

    def run(*arguments: str, at: int | None = None) -> tuple[int, str]:
        stop[:] = [at] if at is not None else []
        with pytest.raises(SystemExit) as end:
            main(["train", "toy", "--data", "data.csv", "--device", "cpu", *arguments])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out + told.err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


def weights(folder: str) -> dict[str, np.ndarray]:
    return load_file(Path(folder) / "model.safetensors")


def test_sigterm_saves_and_resume_gives_the_weights_of_an_unbroken_run(genreg_train):
    assert genreg_train("-o", "whole")[0] == 0
    assert genreg_train("-o", "out", at=11)[0] == 130
    assert [path.name for path in Path("out.part").glob("state-*")] == ["state-00000012.safetensors"]
    code, told = genreg_train("-o", "out")
    assert (code, told) == (2, "genreg: out.part holds an unfinished run: --resume continues it, --force starts over\n")
    assert genreg_train("-o", "out", "--resume")[0] == 0
    assert all((weights("whole")[name] == weights("out")[name]).all() for name in weights("whole"))
    assert not Path("out.part").exists()


def test_other_settings_data_or_seed_are_refused_when_resuming(genreg_train):
    genreg_train("-o", "out", at=11)
    code, told = genreg_train("-o", "out", "--resume", "--set", "width=9", "--set", "lr=0.01", "--seed", "3")
    assert code == 2
    assert "out.part holds a run with other data, seed=0 (now 3), width=8 (now 9): give the same to continue it" in told
    with Path("data.csv").open("a") as file:
        file.write("1,2\n")
    assert "holds a run with other data: give the same" in genreg_train("-o", "out", "--resume")[1]
    assert genreg_train("-o", "out", "--force", "--set", "width=9")[0] == 0


def test_resume_begins_where_there_is_nothing_to_continue(genreg_train):
    assert genreg_train("-o", "out", "--resume")[0] == 0


def test_a_folder_that_is_no_run_is_left_alone_even_by_force(genreg_train):
    Path("out.part").mkdir()
    Path("out.part/thesis.txt").write_text("mine")
    for flag in ("--force", "--resume", "--json"):
        code, told = genreg_train("-o", "out", flag)
        assert code == 2
        assert "out.part is in the way, and is no unfinished run: move it, or choose another name" in told
    assert Path("out.part/thesis.txt").read_text() == "mine"


def test_the_checkpoint_has_curves_and_shows_them_in_its_card(genreg_train):
    genreg_train("-o", "out")
    assert Path("out/curves.png").is_file()
    assert "![curves](curves.png)" in Path("out/README.md").read_text()
    record = json.loads(Path("out/config.json").read_text())["genreg"]["training"]
    assert record["metrics"]["parameters"] == 2 * 8 + 8 + 8 * 2 + 2


def test_a_dry_run_tells_parameters_and_memory(genreg_train):
    code, told = genreg_train("-o", "out", "--dry-run", "--set", "batch=32")
    found = json.loads(told)
    assert (code, found["config"]["batch"], found["parameters"]) == (0, 32, "42")
    assert found["memory"] == "840 bytes for weights, gradients, Adam and averages; 2.6 kB for a batch"
    assert not Path("out.part").exists()


def test_a_process_that_is_not_the_first_writes_nothing(genreg_train, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    code, told = genreg_train("-o", "out")
    assert (code, told) == (0, "")
    assert not Path("out").exists()
    assert not list(Path().glob(".out.rows*"))
