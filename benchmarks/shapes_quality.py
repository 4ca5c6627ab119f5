"""How good are generated shapes? Real, blurred and generated ones in one table, with goals.

    python benchmarks/shapes_quality.py [CHECKPOINTS OR ENTRIES; default: gan-shapes]

Each model is asked for discs, squares, triangles and rings alike. A small CNN, trained on the real training shapes to
tell the shape and its two colors, is the judge.

| name | definition |
|---|---|
| acc | the judge on samples, against the shape asked for; real: on held-out shapes |
| svm | 5-fold accuracy of telling 1,000 samples from 1,000 held-out shapes, PCA-64; .5 is perfect |
| P, R, C | precision, recall and coverage in the judge's 64 features, k = 5, 1,000 v 1,000 |
| fd | Fréchet distance of these features |
| sharp | mean difference of pixels side by side, over that of held-out shapes |

All but acc are means over four choices of the 1,000 samples, as many of each shape as among the held-out ones.

Goals: acc .94, svm .72 at most, P .82, R .88, C .80. Needs torch and scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from quality import COMPARED, Judge, accuracy, blurred, features, flat, manifold, matched, pixels, told_apart
from shapes import KINDS, Shapes, shapes
from torch import nn

from genreg.draft import Array

COLUMNS = ("acc", "svm", "P", "R", "C", "fd", "sharp")
LEAST, MOST = {"acc": 0.94, "P": 0.82, "R": 0.88, "C": 0.80}, {"svm": 0.72}
SAMPLES = 4000


def judge(data: Shapes, *, steps: int = 1600) -> Judge:
    """A judge trained on the shapes' kinds and colors."""
    torch.manual_seed(0)
    x, y, colors = pixels(data), torch.from_numpy(data.labels), torch.from_numpy(data.colors).float()
    network, to_colors = Judge(3), nn.Linear(64, 6)
    network(x[:2])
    optimizer = torch.optim.AdamW([*network.parameters(), *to_colors.parameters()], lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        at = torch.randint(len(x), (128,))
        h = network.features(x[at])
        loss = nn.functional.cross_entropy(network.classes(h), y[at]) + 10 * (to_colors(h) - colors[at]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def frechet(a: Array, b: Array) -> float:
    """Between two clouds of points, as if they were normal."""
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    first, second = np.cov(a.T), np.cov(b.T)
    crossed = np.real(np.linalg.eigvals(first @ second))  # of whose root the trace is wanted
    return float(apart + np.trace(first + second) - 2 * np.sqrt(np.maximum(crossed, 0)).sum())


def edges(images: Array) -> float:
    """Mean difference of pixels side by side."""
    return float(np.abs(np.diff(images.astype(np.float64), axis=2)).mean())


class Table:
    """The judge and what it compares with; ``row`` measures one set of samples."""

    def __init__(self) -> None:
        self.train, held = shapes()
        self.network = judge(self.train)
        self.held = held
        self.compared = _at(held, np.arange(COMPARED))

    def row(self, made: Shapes) -> dict[str, float]:
        compared = np.mean([self.beside(_at(made, few)) for few in matched(made.labels, self.compared.labels)], axis=0)
        return dict(zip(COLUMNS, map(float, (accuracy(self.network, made), *compared)), strict=True))

    def beside(self, few: Shapes) -> tuple[float, ...]:
        """svm, P, R, C, fd and sharp of as many samples as are compared with."""
        real, seen = features(self.network, self.compared), features(self.network, few)
        precision, recall, _, coverage = manifold(real, seen)
        svm = told_apart(flat(self.compared.images), flat(few.images))[1]
        return svm, precision, recall, coverage, frechet(real, seen), edges(few.images) / edges(self.compared.images)


def generated(model: str) -> Shapes:
    """4,000 samples of an entry or checkpoint, 1,000 of each kind, seeds from 0 on."""
    import genreg

    labels = np.repeat(np.arange(len(KINDS)), SAMPLES // len(KINDS))
    rows = pa.table({"shape": [KINDS[kind] for kind in labels]})
    table = genreg.load(model).sample(1, seed=0, given=rows).table.combine_chunks()
    return Shapes(table.column("image").chunk(0).to_numpy_ndarray(), labels, np.zeros((len(labels), 6)))


def _at(data: Shapes, rows: Array) -> Shapes:
    return Shapes(*(column[rows] for column in data))


def main() -> int:
    """Print a Markdown table; 1 where the mean of the models misses a goal."""
    ask = argparse.ArgumentParser(description="Quality of generated shapes")
    ask.add_argument("models", nargs="*", default=["gan-shapes"], help="entries or checkpoint folders")
    torch.set_num_threads(1)
    table, found = Table(), []
    print(f"| | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    soft = table.train._replace(images=blurred(table.train, 0.7).images)
    print(shown("real train v held-out", table.row(table.train) | {"acc": accuracy(table.network, table.held)}))
    print(shown("copies blurred, sigma .7", table.row(soft)), flush=True)
    for model in ask.parse_args().models:
        found.append(table.row(generated(model)))
        print(shown(Path(model).name, found[-1]), flush=True)
    mean = {column: float(np.mean([row[column] for row in found])) for column in COLUMNS}
    if len(found) > 1:
        print(shown("mean", mean))
    missed = [name for name in LEAST if mean[name] < LEAST[name]] + [name for name in MOST if mean[name] > MOST[name]]
    return int(bool(missed))


def shown(name: str, row: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in COLUMNS) + " |"


if __name__ == "__main__":
    sys.exit(main())
