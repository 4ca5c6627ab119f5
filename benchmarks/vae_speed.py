"""How fast do VAEs train? Pictures per CPU second against pythae's trainer: the same networks, loss and batch.

    pip install pythae==0.1.2 && OMP_NUM_THREADS=1 python benchmarks/vae_speed.py

Goals (one thread): MLP at least 2 times pythae, convolutions 1.05 in float32 and 1.35 in bf16 (1.8 where the CPU has
AMX). Rounds are interleaved, and the best of each is taken. The exit code is 1 when a goal is missed.
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

import numpy as np
import pyarrow as pa
import torch

from genreg.data import Source
from genreg.images import images
from genreg_torch.loop import Training, adam, train
from genreg_torch.turn import Objective
from genreg_vae.config import Config
from genreg_vae.model import network
from genreg_vae.training import loss, rows_of

ROUNDS = 3
CASES: dict[str, dict[str, Any]] = {
    "MLP 8 x 8": {"shape": [8, 8, 1], "batch": 128, "rows": 8192, "epochs": 20, "goals": {"float32": 2.0}},
    "conv 32 x 32": {
        "shape": [32, 32, 1],
        "batch": 128,
        "rows": 2048,
        "epochs": 6,
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


def pythae(case: dict[str, Any]) -> float:
    """CPU seconds of training by pythae's BaseTrainer, on the same networks."""
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
    print("| case | pythae, pictures/s | genreg | ratio | goal |\n|---|---|---|---|---|")
    missed = 0
    for name, case in CASES.items():
        runs: dict[str, Callable[[], float]] = {"pythae": partial(pythae, case)}
        runs |= {precision: partial(ours, case, precision) for precision in case["goals"]}
        times = [{way: run() for way, run in runs.items()} for _ in range(ROUNDS)]
        best = {way: min(one[way] for one in times) for way in runs}
        for precision, goal in case["goals"].items():
            ratio = best["pythae"] / best[precision]
            missed += ratio < goal
            rates = [case["epochs"] * case["rows"] / best[way] for way in ("pythae", precision)]
            print(f"| {name}, {precision} | {rates[0]:,.0f} | {rates[1]:,.0f} | {ratio:.2f} | {goal} |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
