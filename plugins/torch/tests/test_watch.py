"""What people see."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from genreg.errors import UsageError
from genreg_torch.memory import counting_saved, estimate, is_out_of_memory, out_of_memory, spelled
from genreg_torch.pictures import curves, grid, png
from genreg_torch.settings import TorchOptions, TrainSettings


def test_figures_are_told_and_kept_line_by_line(toys, tmp_path):
    told = []
    done = toys.run("gan", tmp_path, lambda done, total=None, /, **figures: told.append((done, total, figures)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(step, total) for step, total, _ in told] == [(step, 60) for step in range(1, 61)]
    assert set(told[0][2]) == {"d", "g", "real", "fake", "penalty", "rows/s"}
    assert "penalty" not in told[1][2]  # it is lazy
    assert lines[0]["d"] == told[0][2]["d"]
    assert done.metrics["steps"] == 60
    assert done.metrics["parameters"] == sum(p.numel() for net in done.networks.values() for p in net.parameters())


def test_pictures_are_drawn_twenty_times_though_readings_fall_between(toys, tmp_path, monkeypatch):
    monkeypatch.setattr("genreg_torch.loop._APART", -1.0)
    toys.run("gan", tmp_path, steps=430, batch=2)  # read every 2 steps, drawn every 21.5
    drawn = sorted(int(path.stem.removeprefix("samples-")) for path in tmp_path.glob("samples-*.png"))
    assert drawn == [2 * -(-430 * picture // 40) for picture in range(1, 21)]


def test_curves_and_samples_lie_in_the_folder_and_come_back(toys, tmp_path):
    done = toys.run("gan", tmp_path)
    assert set(done.pictures) == {"curves.png", "samples.png"}
    for name, size in (("curves.png", (1080, 400)), ("samples.png", (134, 134))):
        assert Image.open(io.BytesIO(done.pictures[name])).size == size
    assert (tmp_path / "samples-00000060.png").read_bytes() == done.pictures["samples.png"]


def test_validation_is_measured_on_the_averages_in_evaluation_mode(toys, tmp_path):
    from dataclasses import replace

    from genreg_torch.loop import train

    seen = []

    def validate(networks):
        seen.append((networks["vae"].training, any(p.requires_grad for p in networks["vae"].parameters())))
        return {"valid": 1.5}

    training = replace(toys.vae(), validate=validate)
    done = train(training, toys.source(), TrainSettings(steps=3, batch=8), seed=0, folder=tmp_path)
    assert seen[-1] == (False, False)
    assert done.metrics["valid"] == 1.5
    assert not done.networks["vae"].training


def test_the_last_line_of_a_killed_run_may_be_half_a_line(toys, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toys.run("vae", tmp_path, toys.stop_at(10, signal.SIGINT))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    toys.run("vae", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))


def test_curves_draw_each_figure_and_survive_odd_ones():
    history = [
        {"step": s, "seconds": s, "lr": 1e-3, "loss": 5 / s, **({"rare": 1.0} if s == 5 else {})} for s in range(1, 20)
    ]
    history.append({"step": 20, "seconds": 20, "lr": 1e-3, "loss": float("nan")})
    image = curves(history, 20)
    assert image.shape == (200, 3 * 360, 3)
    assert image.dtype == np.uint8
    assert len(np.unique(image[:, :360].reshape(-1, 3), axis=0)) > 3
    assert curves([], 10).shape == (200, 360, 3)


def test_a_grid_shows_every_image_enlarged():
    images = np.zeros((5, 8, 8, 1), np.uint8)
    images[4] = 200
    sheet = grid(images)
    assert sheet.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert (sheet[68:132, 68:132] == 200).all()
    assert grid(np.zeros((4, 100, 50, 3), np.uint8)).shape == (206, 106, 3)
    assert Image.open(io.BytesIO(png(sheet))).size == (200, 134)


def test_tensorboard_that_is_not_installed_is_named(toys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(UsageError, match="pip install 'genreg-torch\\[tensorboard\\]'"):
        toys.run("vae", tmp_path / "run", tensorboard=str(tmp_path / "board"))


def test_activations_are_counted_once_and_weights_not():
    net = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 1, bias=False))
    with counting_saved([net]) as saved:
        net(torch.zeros(8, 10)).sum()
    assert saved == [4 * 8 * (10 + 20)]  # the input, and what ReLU made, which the second layer shares


def test_the_estimate_scales_with_the_batch():
    net = nn.Linear(10, 20, bias=False)
    settings = TrainSettings(batch=64, accumulate=2)
    found = estimate({"net": net}, lambda n: net(torch.zeros(n, 10)).square().sum(), settings, averaged=("net",))
    assert found == {
        "parameters": "200",
        "memory": "4.0 kB for weights, gradients, Adam and averages; 3.8 kB for a batch",
    }


def test_out_of_memory_at_one_row_says_so():
    assert "try --set batch=8, or --set accumulate=4" in str(out_of_memory(16, 2, 1, "step 1"))
    assert "a batch is one row already: make the network smaller" in str(out_of_memory(2, 2, 1, "step 1"))
    assert spelled(0) == "0 bytes"
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_settings_follow_the_step_alone_and_are_described():
    settings = TrainSettings(steps=100, lr=1.0, warmup=10, lr_end=0.1)
    assert settings.rate(0) == pytest.approx(0.1)
    assert settings.rate(100) == pytest.approx(0.1)
    for model in (TrainSettings, TorchOptions):
        assert all(field.description for field in model.model_fields.values())


def test_settings_and_schedules_import_no_torch():
    code = "import sys, genreg_torch.settings, genreg_torch.schedules; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
