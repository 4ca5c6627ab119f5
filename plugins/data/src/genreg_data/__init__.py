"""Loaders beyond the core's: folders of images, NumPy arrays, IDX files."""

from __future__ import annotations

from genreg import DataLoader, hookimpl
from genreg_data.arrays import arrays
from genreg_data.folders import images
from genreg_data.idx import idx

IDX = (".idx", "idx3-ubyte", "idx3-ubyte.gz")  # train-images-idx3-ubyte.gz, train-images.idx3-ubyte


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """Folders of images, .npz and .npy, IDX."""
    return [DataLoader(images, ("/",)), DataLoader(arrays, (".npz", ".npy")), DataLoader(idx, IDX)]
