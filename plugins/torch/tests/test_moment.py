"""What chance gives a step."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import torch

from genreg_torch.moment import Moment, in_float32, key_of, mixed


def test_draws_are_those_of_the_whole_batch_however_it_is_cut():
    whole = Moment(3, 10, key=key_of(5, 3), batch=12)
    draws = whole.normal(4), whole.uniform(2, 2), whole.integers(7)
    for begin in range(0, 12, 4):
        piece = replace(whole, rows=slice(begin, begin + 4), calls=count())
        for all_of_them, own in zip(draws, (piece.normal(4), piece.uniform(2, 2), piece.integers(7)), strict=True):
            assert torch.equal(all_of_them[begin : begin + 4], own)


def test_each_call_step_and_seed_draws_anew():
    draws = [Moment(step, 10, key=key_of(seed, step), batch=4).normal(3) for seed in (0, 1) for step in (0, 1, 300)]
    at = Moment(0, 10, key=key_of(9, 0), batch=4)
    draws += [at.normal(3), at.normal(3)]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws)


def test_keys_are_known_answers():
    assert [key_of(0, 0), key_of(0, 255), key_of(0, 256), mixed(1, 0)] == [
        15131069855326545217,
        1536315137053950309,
        18041674449580694814,
        2177342782468422678,
    ]


def test_halves_are_widened_wherever_they_are():
    half = torch.zeros(2, dtype=torch.bfloat16)
    found = in_float32({"a": half, "b": (half, [torch.zeros(1, dtype=torch.int64)]), "c": None})
    assert found["a"].dtype == found["b"][0].dtype == torch.float32
    assert found["b"][1][0].dtype == torch.int64
    assert found["c"] is None


def test_running_in_bf16_rounds_and_hands_back_float32():
    net = torch.nn.Linear(64, 64)
    x = torch.randn(8, 64)
    exact, half = Moment(0, 1).run(net, x), Moment(0, 1, bf16=True).run(net, x)
    assert half.dtype == torch.float32
    assert 0 < (exact - half).abs().max() < 0.05
