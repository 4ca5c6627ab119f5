"""Is naive Bayes good for the data? Generated rows of iris and wine against a held-out twin, mean of ten splits.

    PYTHONPATH=core:plugins/nb/src python benchmarks/nb_quality.py

Each split halves the rows by class. The model sees one half and generates as many rows, written as the data are (with
their decimals). The other half is the held-out twin: what a second draw from nature looks like. Goals:

- per column, 1 - the Kolmogorov-Smirnov distance to the training half: at least the twin's - 0.08;
- a random forest trained on generated rows, tested on the held-out half: at least 0.95 of one trained on the real half;
- wine: the 5th percentile of the distance to the nearest training row (standardized columns): at least 0.9 of the
  twin's, so rows are not copied.

Shown beside them, without a goal, is the harder question of the Kolmogorov-Smirnov distance to the held-out half, which
the model never saw, against the training half's. Prints a Markdown table; the exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree
from scipy.stats import ks_2samp
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from genreg.data import Source, empty_batch, noted
from genreg.draft import Array
from genreg_nb.config import Config, columns
from genreg_nb.densities import densities
from genreg_nb.model import NaiveBayes, fit
from genreg_nb.statistics import gather

SPLITS = 10


def silent(_done: int, _total: int | None = None, /, **_figures: float) -> None:
    """No progress to show."""


def as_table(x: Array, y: Array, classes: int) -> pa.Table:
    """Columns x0, x1, … of float64, and the label y as codes."""
    label = noted(pa.field("y", pa.int32()), role="label", values=list(range(classes)))
    fields = [*(pa.field(f"x{j}", pa.float64()) for j in range(x.shape[1])), label]
    return pa.Table.from_arrays([*map(pa.array, x.T), pa.array(y, pa.int32())], schema=pa.schema(fields))


def decimals(x: Array) -> list[int]:
    """The decimals in which each column is written."""
    return [max(len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in column) for column in x.T]


def generate(x: Array, y: Array, rows: int, seed: int) -> tuple[Array, Array]:
    """Fit naive Bayes on real rows, and generate rows of it: features and labels."""
    source = Source.of(as_table(x, y, int(y.max()) + 1), "train")
    config: Any = fit(Config(), source, None, report=silent).config
    model = NaiveBayes(config, densities(config, gather(config, source, silent)[0]))
    seeds = np.arange(seed, seed + rows, dtype=np.uint64)
    batch = model.render(model.propose(seeds, empty_batch(columns(config), rows)))
    made = np.stack([column.to_numpy() for column in batch.columns], 1)
    return made[:, :-1], made[:, -1].astype(int)


def fidelity(made: Array, real: Array) -> Array:
    """1 - the Kolmogorov-Smirnov distance of each column."""
    return np.array([1 - ks_2samp(a, b).statistic for a, b in zip(made.T, real.T, strict=True)])


def accuracy(x: Array, y: Array, held_x: Array, held_y: Array, seed: int) -> float:
    """Of a random forest trained on (x, y), on the held-out half."""
    forest = RandomForestClassifier(200, random_state=seed, n_jobs=1).fit(x, y)
    return float(forest.score(held_x, held_y))


def distance(x: Array, train: Array) -> float:
    """The 5th percentile of the distance to the nearest training row, in units of the training rows' deviations."""
    center, scale = train.mean(0), train.std(0)
    nearest = cKDTree((train - center) / scale).query((x - center) / scale)[0]
    return float(np.percentile(nearest, 5))


def measure(x: Array, y: Array) -> dict[str, Any]:
    """All figures of one data set: lists over the splits."""
    found: dict[str, list[Any]] = {n: [] for n in ("ks", "ks held", "ks twin", "made", "real", "far", "far twin")}
    for split in range(SPLITS):
        a, b, a_y, b_y = train_test_split(x, y, test_size=0.5, stratify=y, random_state=split)
        made, made_y = generate(a, a_y, len(a), seed=1000 * split)
        made = np.stack([np.round(column, places) for column, places in zip(made.T, decimals(x), strict=True)], 1)
        found["ks"].append(fidelity(made, a))
        found["ks held"].append(fidelity(made, b))
        found["ks twin"].append(fidelity(a, b))
        found["made"].append(accuracy(made, made_y, b, b_y, split))
        found["real"].append(accuracy(a, a_y, b, b_y, split))
        found["far"].append(distance(made, a))
        found["far twin"].append(distance(b, a))
    return {name: np.mean(values, 0) for name, values in found.items()}


def rows_of(name: str, found: dict[str, Any], names: list[str]) -> list[tuple[str, float | None, float]]:
    """What is measured, the goal (None: no goal), the result."""
    rows: list[tuple[str, float | None, float]] = []
    for what, key, goal in (("training", "ks", -0.08), ("held-out", "ks held", None)):
        gap = found[key] - found["ks twin"]
        means = f"{names[int(gap.argmin())]}; mean {found[key].mean():.3f}, twin {found['ks twin'].mean():.3f}"
        rows.append((f"{name}: KS complement to the {what} half - twin's, worst column ({means})", goal, gap.min()))
    forests = f"accuracy {found['made']:.3f}, real {found['real']:.3f}"
    rows.append((f"{name}: forest trained on generated / real rows ({forests})", 0.95, found["made"] / found["real"]))
    if name == "wine":
        far = f"{found['far']:.2f}, twin {found['far twin']:.2f}"
        ratio = found["far"] / found["far twin"]
        rows.append((f"{name}: distance to the nearest training row, 5th percentile / twin's ({far})", 0.9, ratio))
    return rows


def main() -> int:
    """Print the table; 1 when a goal is missed."""
    missed = 0
    sys.stdout.write("| measure | at least | result | |\n|---|---|---|---|\n")
    for name, load in {"iris": load_iris, "wine": load_wine}.items():
        data = load()
        for what, goal, result in rows_of(name, measure(data.data, data.target), data.feature_names):
            verdict = "" if goal is None else "met" if result >= goal else "**missed**"
            missed += "missed" in verdict
            sys.stdout.write(f"| {what} | {'' if goal is None else f'{goal:.2f}'} | {result:.3f} | {verdict} |\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
