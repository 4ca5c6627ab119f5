"""The loop: repeatable, resumable, the same however the batch is cut."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genreg.errors import UsageError
from genreg_torch.loop import Objective, adam, train
from genreg_torch.settings import TrainSettings


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize(("kind", "number"), [("gan", signal.SIGINT), ("vae", signal.SIGTERM)])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_resumed_run_is_bit_equal_to_an_unbroken_one(toys, tmp_path, kind, number, precision):
    whole = toys.run(kind, tmp_path / "whole", precision=precision)
    for at in (17, 41):
        with pytest.raises(KeyboardInterrupt):
            toys.run(kind, tmp_path / "broken", toys.stop_at(at, number), precision=precision)
        assert (tmp_path / "broken" / f"state-{at:08d}.safetensors").is_file()
    again = toys.run(kind, tmp_path / "broken", precision=precision)
    assert equal(toys.tensors(whole.networks), toys.tensors(again.networks))
    lines = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))


def test_a_finished_run_is_handed_back_without_a_step(toys, tmp_path):
    first = toys.run("vae", tmp_path)
    again = toys.run("vae", tmp_path)
    assert equal(toys.tensors(first.networks), toys.tensors(again.networks))
    assert again.metrics == first.metrics
    assert again.seconds == first.seconds


def test_rows_that_are_streamed_give_the_weights_of_rows_that_are_held(toys, tmp_path):
    held, streamed = (toys.run("gan", tmp_path / str(hold), hold=hold) for hold in (True, False))
    assert equal(toys.tensors(held.networks), toys.tensors(streamed.networks))


@pytest.mark.parametrize("kind", ["gan-exact", "gan-penalty"])
def test_a_batch_in_pieces_gives_the_same_weights_but_for_rounding(toys, tmp_path, kind):
    whole, pieces = (toys.run(kind, tmp_path / str(n), accumulate=n) for n in (1, 4))
    del whole.networks["g"].seen, pieces.networks["g"].seen  # counts the times it is run
    assert distance(toys.tensors(whole.networks), toys.tensors(pieces.networks)) < 1e-10


def test_two_processes_give_the_weights_of_one_and_a_run_of_two_goes_on_in_one(toys, tmp_path, launched):
    pytest.importorskip("lightning_fabric")
    short, long = {"steps": 12, "accumulate": 2}, {"steps": 200}
    runs = [("gan-exact", 0, short), ("gan-penalty", 0, short), ("gan-exact", 5, long)]
    launched([[kind, str(tmp_path / f"two-{i}"), stop, settings] for i, (kind, stop, settings) in enumerate(runs)])
    for i, (kind, stop, settings) in enumerate(runs):
        alone = toys.tensors(toys.run(kind, tmp_path / f"one-{i}", **settings).networks)
        if stop:
            (state,) = (tmp_path / f"two-{i}").glob("state-*")
            assert stop <= int(state.stem.removeprefix("state-")) < 200
            joined = toys.tensors(toys.run(kind, tmp_path / f"two-{i}", **settings).networks)
        else:
            joined = load_file(tmp_path / f"two-{i}" / "weights.safetensors")
        assert distance(alone, joined) < 1e-9


def test_the_seed_decides_and_the_global_generator_is_left_alone(toys, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    toys.run("vae", tmp_path, steps=3)
    assert torch.equal(torch.rand(3), expected)


def test_other_settings_are_refused_by_name_and_free_ones_may_change(toys, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toys.run("vae", tmp_path, toys.stop_at(10, signal.SIGINT))
    with pytest.raises(
        UsageError, match=re.escape("batch=32 (now 16), steps=60 (now 70): give the same to continue it")
    ):
        toys.run("vae", tmp_path, batch=16, steps=70)
    toys.run("vae", tmp_path, lr=1e-4, clip=1.0, accumulate=2)


def test_a_loss_that_is_no_number_stops_with_step_rate_and_last_good_state(toys, tmp_path):
    training = toys.vae()
    loss = training.objectives["loss"].loss

    def bad(rows, at):
        total, figures = loss(rows, at)
        return total * (float("nan") if at.step == 29 else 1.0), figures

    broken = replace(training, objectives={"loss": Objective(bad, training.objectives["loss"].optimizer)})
    with pytest.raises(KeyboardInterrupt):
        toys.run("vae", tmp_path, toys.stop_at(20, signal.SIGINT))
    settings = TrainSettings(steps=60, batch=32, ema=0.9, warmup=5)
    with pytest.raises(UsageError) as error:
        train(broken, toys.source(), settings, seed=7, folder=tmp_path, device="cpu")
    assert str(error.value) == (
        "the loss is no number at step 30 (learning rate 0.000531); the last good one is state-00000020.safetensors, "
        "from which --resume continues: try a smaller --set lr=0.00033, or --set clip=1"
    )
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000020.safetensors"]


@pytest.mark.parametrize("failure", ["gpu", "cpu"])
def test_out_of_memory_names_what_to_try(toys, tmp_path, failure):
    training = toys.vae()

    def greedy(rows, at):
        if failure == "gpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return torch.empty(1 << 55).sum(), {}

    greedily = replace(training, objectives={"loss": replace(training.objectives["loss"], loss=greedy)})
    with pytest.raises(UsageError) as error:
        train(greedily, toys.source(), TrainSettings(batch=64), seed=0, folder=tmp_path, device="cpu")
    assert str(error.value) == (
        "out of memory at step 1 (no state of the run was saved before) with batch=64, accumulate=1: "
        "try --set batch=32, or --set accumulate=2 (the same result from smaller pieces)"
    )
    assert not list(tmp_path.iterdir())  # nothing to go on from, so nothing is left


def test_a_batch_that_cannot_be_cut_is_refused(toys, tmp_path):
    with pytest.raises(UsageError, match="batch=32 cannot be cut into 3 equal pieces"):
        toys.run("vae", tmp_path, accumulate=3)


def test_an_objective_may_rest_between_its_steps(toys, tmp_path):
    training = toys.gan()
    slow = {**training.objectives, "g": replace(training.objectives["g"], every=5)}
    train(replace(training, objectives=slow), toys.source(), TrainSettings(steps=10, batch=8), seed=0, folder=tmp_path)
    state = load_file(tmp_path / "state-00000010.safetensors")
    assert state["optimizer.g.g.label.weight.step"] == 2
    assert state["optimizer.d.d.label.weight.step"] == 10


def test_penalties_in_bf16_are_computed_on_float32_scores(toys, tmp_path):
    seen = []
    training = toys.gan()
    loss = training.objectives["d"].loss

    def watched(rows, at):
        total, figures = loss(rows, at)
        seen.append((total.dtype, at.run(training.networks["d"], rows["x"], rows["y"]).dtype))
        return total, figures

    both = {**training.objectives, "d": replace(training.objectives["d"], loss=watched)}
    settings = TrainSettings(steps=4, batch=8, precision="bf16")
    train(replace(training, objectives=both), toys.source(), settings, seed=0, folder=tmp_path)
    assert set(seen) == {(torch.float32, torch.float32)}


def test_the_clip_bounds_the_gradient(toys, tmp_path):
    norms = []
    training = toys.vae()
    net = training.networks["vae"]
    optimizer = adam(net)
    optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.nn.utils.get_total_norm([p.grad for p in net.parameters()]))
    )
    clipped = replace(training, objectives={"loss": replace(training.objectives["loss"], optimizer=optimizer)})
    train(clipped, toys.source(), TrainSettings(steps=5, batch=8, clip=0.5), seed=0, folder=tmp_path)
    assert max(norms) <= 0.5001


def test_a_device_that_is_not_there_is_refused_with_those_that_are(toys, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    for name in ("cuda", "cuda:3", "tpu", "gpu0"):
        with pytest.raises(UsageError, match=f"device={name}: torch .* finds here: .*cpu"):
            train(toys.vae(), toys.source(), TrainSettings(), seed=0, folder=Path("unused"), device=name)
