"""Toys with everything that makes a run hard to repeat.

As a script, runs: toys.py '[[kind, folder, stop, settings], …]'."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import softplus

from genreg.data import Source
from genreg_torch.loop import Objective, Training, adam, initialized, train
from genreg_torch.schedules import cosine
from genreg_torch.settings import TrainSettings
from genreg_torch.state import persistent

ROWS, SIDE = 300, 8


def source() -> Source:
    x = np.random.default_rng(0).normal(size=(ROWS, SIDE * SIDE)).astype(np.float32)
    columns = {
        "x": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), SIDE * SIDE),
        "y": pa.array(np.arange(ROWS) % 3),
    }
    return Source.of(pa.table(columns), "train")


def decode(batch):
    x = batch.column("x").flatten().to_numpy().reshape(-1, 1, SIDE, SIDE)
    return {"x": torch.tensor(x), "y": torch.tensor(batch.column("y").to_numpy())}


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(3, 4)
        self.body = nn.Sequential(
            nn.Linear(12, 64), nn.SiLU(), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.SiLU(),
            nn.Dropout(0.1), nn.Conv2d(6, 1, 3, padding=1),
        )  # fmt: skip
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, z, y):
        if self.training:
            self.seen += z.mean().detach()  # follows the rows, as batch statistics do
        return self.body(torch.cat([z, self.label(y)], 1))


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 4, 2, 1), nn.SiLU(), nn.Conv2d(6, 6, 3, padding=1), nn.SiLU(), nn.Flatten()
        )
        self.head, self.label = nn.Linear(96, 1), nn.Embedding(3, 96)

    def forward(self, x, y):
        h = self.body(x)
        return self.head(h)[:, 0] + (h * self.label(y)).sum(1) / 10


def slope(score, x):
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def gan(*, lazy: int = 3, dropout: bool = True, double: bool = False, penalty_only: bool = False) -> Training:
    """Two networks, two optimizers, R1 and R2 every ``lazy`` steps."""
    g, d = initialized(1, Generator), initialized(2, Discriminator)
    if double:
        g.double(), d.double()
    if not dropout:
        g.body[5].p = 0.0

    def fakes(rows, at):
        z = at.normal(8).to(rows["x"].dtype)
        return at.run(g, z, rows["y"])

    def d_loss(rows, at):
        x, f, y = rows["x"].requires_grad_(), fakes(rows, at).requires_grad_(), rows["y"]
        r, k = at.run(d, x, y), at.run(d, f, y)
        gamma = cosine(at.progress, 1.0, 0.1)
        if at.step % lazy:
            return softplus(k - r).mean(), {"real": r.mean(), "fake": k.mean()}
        penalty = gamma / 2 * (slope(r, x) + slope(k, f))
        total = penalty if penalty_only else softplus(k - r).mean() + lazy * penalty
        return total, {"real": r.mean(), "fake": k.mean(), "penalty": penalty}

    def g_loss(rows, at):
        assert not any(p.requires_grad for p in d.parameters())
        r, k = at.run(d, rows["x"], rows["y"]), at.run(d, fakes(rows, at), rows["y"])
        return softplus(r - k).mean(), {}

    def schedule(at):
        return {"lr": cosine(at.progress, 1e-3, 1e-4), "betas": (0.0, cosine(at.progress, 0.9, 0.99))}

    def samples(networks):
        z = torch.linspace(-1, 1, 32, dtype=torch.float64 if double else torch.float32).view(4, 8)
        made = networks["g"](z, torch.tensor([0, 1, 2, 0]))
        return ((made.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()

    objectives = {"d": Objective(d_loss, adam(d), schedule), "g": Objective(g_loss, adam(g), schedule, every=1)}
    widen = (lambda batch: {n: c.double() if n == "x" else c for n, c in decode(batch).items()}) if double else decode
    return Training({"g": g, "d": d}, objectives, widen, averaged=("g",), samples=samples)


def vae() -> Training:
    """One network with dropout, called by its methods."""
    net = initialized(3, lambda: nn.ModuleDict({"encoder": nn.Linear(64, 8), "decoder": nn.Linear(4, 64)}))
    noise = nn.Dropout(0.2)

    def loss(rows, at):
        x = rows["x"].flatten(1)
        mu, logvar = at.run(net["encoder"], noise(x)).chunk(2, 1)
        kl = (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean() / 2
        error = (at.run(net["decoder"], mu + (logvar / 2).exp() * at.normal(4)) - x).square().sum(1).mean() / 2
        return error + kl, {"kl": kl}

    return Training({"vae": net}, {"loss": Objective(loss, adam(net, decay=0.01))}, decode, averaged=("vae",))


KINDS = {
    "vae": vae,
    "gan": gan,
    "gan-exact": partial(gan, dropout=False, double=True),
    "gan-penalty": partial(gan, dropout=False, double=True, lazy=2, penalty_only=True),
}


def tensors(networks) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": t.contiguous() for name, net in networks.items() for key, t in persistent(net).items()}


def run(kind: str, folder: Path, report=None, hold=None, **settings):
    chosen = TrainSettings(**{"steps": 60, "batch": 32, "ema": 0.9, "warmup": 5, **settings})
    return train(KINDS[kind](), source(), chosen, seed=7, folder=folder, device="cpu", report=report, hold=hold)


def stop_at(step: int, number: int):
    """A report that sends this process a signal, and again at once, as torchrun does."""

    def report(done, total=None, /, **figures):
        if done == step:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)

    return report


if __name__ == "__main__":
    for kind, folder, stop, settings in json.loads(sys.argv[1]):
        try:
            finished = run(kind, Path(folder), stop_at(stop, signal.SIGTERM), **settings)
        except KeyboardInterrupt:
            continue
        if os.environ.get("RANK", "0") == "0":
            save_file(tensors(finished.networks), f"{folder}/weights.safetensors")
