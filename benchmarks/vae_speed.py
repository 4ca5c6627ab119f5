"""How fast do VAEs train? Pictures per CPU second against pythae's trainer: the same networks, loss and batch.

    pip install pythae==0.1.2 && OMP_NUM_THREADS=1 python benchmarks/vae_speed.py

Goals (one thread): MLP at least 2 times pythae, convolutions 1.05 in float32 and 1.35 in bf16 (1.8 where the CPU has
AMX). Every way is warmed up with a short run, so that no first import is timed; both hold the pictures as one tensor.
Rounds are interleaved, and the best of each is taken. pythae runs twice: with genreg's modules as they are, which keep
channels last, and in torch's default layout, which is what its users have (the layout is the engine's doing, so the
goals are for this one). The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch

from genreg.data import Source
from genreg.images import images
from genreg_torch.loop import Training, adam, train
from genreg_torch.pixels import rows_of
from genreg_torch.turn import Objective
from genreg_vae.config import Config
from genreg_vae.model import network
from genreg_vae.training import loss

ROUNDS = 4
CASES: dict[str, dict[str, Any]] = {
    "MLP 8 x 8": {"shape": [8, 8, 1], "batch": 128, "rows": 8192, "epochs": 30, "goals": {"float32": 2.0}},
    "conv 32 x 32": {
        "shape": [32, 32, 1],
        "batch": 128,
        "rows": 2048,
        "epochs": 5,
        "goals": {"float32": 1.05, "bf16": 1.35},
    },
}


def config_of(case: dict[str, Any], **change: Any) -> Config:
    """Black and white pictures, Bernoulli's likelihood, no dropout: what both trainers can do alike."""
    return Config(
        shape=case["shape"], likelihood="bernoulli", levels=2, dropout=0.0, batch=case["batch"], **change
    ).resolved()


def data_of(case: dict[str, Any]) -> np.ndarray:
    """uint8 [n, h, w, c], black and white."""
    chance = np.random.default_rng(0).random((case["rows"], *case["shape"]))
    return np.where(chance < 0.3, 255, 0).astype(np.uint8)


def ours(case: dict[str, Any], precision: str) -> float:
    """CPU seconds of training."""
    x = data_of(case)
    steps = case["epochs"] * case["rows"] // case["batch"]
    config = config_of(case, precision=precision, steps=steps, ema=0.0)
    source = Source.of(pa.table({"image": images(x)}), "train")
    vae = network(config)
    objective = Objective(partial(loss, config, vae), adam(vae))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        training = Training({"vae": vae}, {"elbo": objective}, partial(rows_of, config))
        train(training, source, config, seed=0, folder=Path(folder), device="cpu")
        return time.process_time() - began


def pythae(case: dict[str, Any], layout: str = "channels last") -> float:
    """CPU seconds of training by pythae's BaseTrainer, on the same networks."""
    if layout == "default":
        as_it_is = torch.Tensor.contiguous
        with patch.object(torch.Tensor, "contiguous", lambda tensor, **_: as_it_is(tensor)):
            return pythae(case)
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = config_of(case)
    vae, height, width, channels = network(config), *case["shape"]

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = vae.encoder

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_variance = self.net(x, x.new_zeros((len(x), 0)))
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = vae.decoder

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z, z.new_zeros((len(z), 0)))[:, 0]))

    shape = (channels, height, width)
    model = VAE(VAEConfig(input_dim=shape, latent_dim=config.latents, reconstruction_loss="bce"), Encoder(), Decoder())
    x = data_of(case).transpose(0, 3, 1, 2).astype(np.float32) / 255
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            folder, num_epochs=case["epochs"], per_device_train_batch_size=case["batch"], no_cuda=True
        )
        rows = BaseDataset(torch.from_numpy(x), torch.zeros(len(x)))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trainer = BaseTrainer(model, rows, None, settings)
            began = time.process_time()
            trainer.train()
            return time.process_time() - began


def main() -> int:
    """Print a Markdown table; 1 where a goal is missed."""
    torch.set_num_threads(1)
    logging.disable()
    print("| case | pythae, pictures/s | channels last | genreg | ratio | to channels last | goal |")
    print("|---|---|---|---|---|---|---|")
    missed = 0
    for name, case in CASES.items():
        ways: dict[str, Callable[[dict[str, Any]], float]] = {
            layout: partial(pythae, layout=layout) for layout in ("default", "channels last")
        }
        ways |= {precision: partial(ours, precision=precision) for precision in case["goals"]}
        for way in ways.values():
            way({**case, "epochs": 1})
        times = [{name: way(case) for name, way in ways.items()} for _ in range(ROUNDS)]
        rate = {way: case["epochs"] * case["rows"] / min(one[way] for one in times) for way in ways}
        for precision, goal in case["goals"].items():
            ratio, second = (rate[precision] / rate[layout] for layout in ("default", "channels last"))
            missed += ratio < goal
            rates = " | ".join(f"{rate[way]:,.0f}" for way in ("default", "channels last", precision))
            print(f"| {name}, {precision} | {rates} | {ratio:.2f} | {second:.2f} | {goal} |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
