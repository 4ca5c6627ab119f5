"""Train the bundled model nb-iris from the iris flowers that come with scikit-learn, and note its files' hashes.

python plugins/nb/scripts/train_iris.py
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from sklearn.datasets import load_iris

import genreg
from genreg.offers import pin_files

PACKAGE = Path(__file__).parents[1] / "src" / "genreg_nb"


def write_iris(path: Path) -> None:
    """The 150 flowers as CSV: four lengths in cm, and the species as text."""
    iris = load_iris()
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*iris.feature_names, "species"])
        for flower, species in zip(iris.data.tolist(), iris.target, strict=True):
            rows.writerow([*flower, iris.target_names[species]])


def main() -> None:
    """Train on all flowers: the model is small, and there is nothing to choose."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "iris.csv"
        write_iris(data)
        genreg.train("nb", data=data, label="species", split="100", seed=0, out=PACKAGE / "nb-iris", force=True)
    pin_files(PACKAGE / "registry.yaml", "nb-iris", PACKAGE / "nb-iris")


if __name__ == "__main__":
    main()
