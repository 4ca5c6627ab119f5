"""A short run in float64, for one process or several: alone_or_together.py FOLDER SETTINGS; weights go to FOLDER."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from genreg.data import Source, noted
from genreg.images import images
from genreg_gan.config import Config
from genreg_gan.training import settled, started, training_of
from genreg_torch.loop import train


def source() -> Source:
    """64 pictures of 12 x 12 in three classes."""
    x = np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3), np.uint8)
    column = images(x)
    label = noted(pa.field("y", pa.int32()), role="label", values=["a", "b", "c"])
    schema = pa.schema([pa.field("image", column.type), label])
    return Source.of(pa.Table.from_arrays([column, pa.array(np.arange(64) % 3, pa.int32())], schema=schema), "train")


def run(folder: Path, **settings) -> dict[str, torch.Tensor]:
    """The weights after a few steps: generator, its average, and discriminator."""
    rows = source()
    config = settled(Config(network="conv", batch=16, steps=7, width=4, hidden=8, lr=0.01, warmup=0, **settings), rows)
    g, d = (network.double() for network in started(config, 3))
    done = train(training_of(config, g, d, rows, watched=False), rows, config, seed=5, folder=folder, device="cpu")
    networks = {"g": g, "d": d, "average": done.networks["generator"]}
    return {f"{n}.{key}": t.contiguous().clone() for n, net in networks.items() for key, t in net.state_dict().items()}


if __name__ == "__main__":
    for number, chosen in enumerate(json.loads(sys.argv[2])):
        made = run(Path(sys.argv[1]) / str(number), **chosen)
        save_file(made, f"{sys.argv[1]}/{number}-of-{os.environ.get('RANK', '0')}.safetensors")
