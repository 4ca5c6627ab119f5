"""Loaders beyond the core's: folders of images, arrays, JSON, and the data sets of others."""

from __future__ import annotations

from genreg import DataLoader, hookimpl
from genreg_data.arrays import arrays
from genreg_data.folders import images
from genreg_data.idx import idx
from genreg_data.records import json, write_json

IDX = (".idx", "idx3-ubyte", "idx3-ubyte.gz")  # train-images-idx3-ubyte.gz, train-images.idx3-ubyte


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """Folders of images, .npz and .npy, IDX, JSON."""
    return [
        DataLoader(images, ("/",)),
        DataLoader(arrays, (".npz", ".npy")),
        DataLoader(idx, IDX),
        DataLoader(json, (".json",), write=write_json, packed=True, several=True),
    ]
