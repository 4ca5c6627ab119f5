"""How fast do GANs train? Pictures per CPU second against the loop of PyTorch's own DCGAN example.

    OMP_NUM_THREADS=1 python benchmarks/gan_speed.py

The example's loop is written here as it is there: a DataLoader, two passes of the discriminator and one of the
generator, binary cross-entropy, Adam, torch's default layout. Both train the same networks, 32 x 32 x 3, 64 channels
at the finest grid, batch 128, one thread. genreg does more in a step: the generator's turn takes a batch of its own,
so it generates twice, and the discriminator sees dequantized pictures.

Goals: 1.15 times the example in float32, 1.5 in bf16 (1.8 where the CPU has AMX). Every way is warmed up with a short
run; rounds are interleaved, and the best of each is taken. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from genreg.data import Source
from genreg.images import images
from genreg_gan.config import Config
from genreg_gan.model import discriminator, generator
from genreg_gan.training import settled, training_of
from genreg_torch.loop import train

SIDE, ROWS, BATCH, ROUNDS = 32, 1024, 128, 4


def has_amx() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "amx_bf16" in cpu.read_text()


GOALS = {"float32": 1.15, "bf16": 1.8 if has_amx() else 1.5}


def data() -> np.ndarray:
    """uint8 [n, h, w, c]"""
    return np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8)


def config_of(precision: str = "float32", steps: int = 8) -> Config:
    return settled(Config(network="dcgan", precision=precision, steps=steps, batch=BATCH, ema=0.0), source())


def source() -> Source:
    return Source.of(pa.table({"image": images(data())}), "train")


def ours(steps: int, precision: str) -> float:
    """CPU seconds of training."""
    config = config_of(precision, steps)
    rows = source()
    training = training_of(config, generator(config), discriminator(config), rows, watched=False)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        train(training, rows, config, seed=0, folder=Path(folder), device="cpu")
        return time.process_time() - began


def example_networks(nz: int, nf: int) -> tuple[nn.Module, nn.Module]:
    """The example's generator and discriminator, one stage less than for its 64 x 64."""
    net_g = nn.Sequential(
        nn.ConvTranspose2d(nz, nf * 4, 4, 1, 0, bias=False), nn.BatchNorm2d(nf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(nf * 4, nf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(nf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(nf * 2, nf, 4, 2, 1, bias=False), nn.BatchNorm2d(nf), nn.ReLU(True),
        nn.ConvTranspose2d(nf, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    net_d = nn.Sequential(
        nn.Conv2d(3, nf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(nf, nf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(nf * 2), nn.LeakyReLU(0.2, True),
        nn.Conv2d(nf * 2, nf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(nf * 4), nn.LeakyReLU(0.2, True),
        nn.Conv2d(nf * 4, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    return net_g, net_d


def example(steps: int) -> float:
    """CPU seconds of the example's loop."""
    config = config_of()
    net_g, net_d = example_networks(config.latents, config.width)
    pictures = torch.from_numpy(data().transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
    loader = DataLoader(TensorDataset(pictures), BATCH, shuffle=True)
    criterion = nn.BCELoss()
    adam_d, adam_g = (torch.optim.Adam(net.parameters(), lr=0.0002, betas=(0.5, 0.999)) for net in (net_d, net_g))
    real, fake = torch.ones(BATCH), torch.zeros(BATCH)
    began = time.process_time()
    for _ in range(steps * BATCH // ROWS):
        for (x,) in loader:
            net_d.zero_grad()
            loss_real = criterion(net_d(x).view(-1), real)
            loss_real.backward()
            made = net_g(torch.randn(BATCH, config.latents, 1, 1))
            loss_fake = criterion(net_d(made.detach()).view(-1), fake)
            loss_fake.backward()
            adam_d.step()
            net_g.zero_grad()
            loss = criterion(net_d(made).view(-1), real)
            loss.backward()
            adam_g.step()
            (loss_real + loss_fake).item(), loss.item()  # printed there
    return time.process_time() - began


def main() -> int:
    """Print a Markdown table; 1 where a goal is missed."""
    torch.set_num_threads(1)
    ways: dict[str, Callable[[int], float]] = {"example": example}
    ways |= {precision: partial(ours, precision=precision) for precision in GOALS}
    for way in ways.values():
        way(ROWS // BATCH)
    steps = 3 * ROWS // BATCH
    times = [{name: way(steps) for name, way in ways.items()} for _ in range(ROUNDS)]
    rate = {name: steps * BATCH / min(one[name] for one in times) for name in ways}
    print("| precision | PyTorch's example, pictures/s | genreg | ratio | goal |")
    print("|---|---|---|---|---|")
    for precision, goal in GOALS.items():
        ratio = rate[precision] / rate["example"]
        print(f"| {precision} | {rate['example']:,.0f} | {rate[precision]:,.0f} | {ratio:.2f} | {goal} |", flush=True)
    return int(any(rate[precision] < goal * rate["example"] for precision, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
