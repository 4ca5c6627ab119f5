"""Loaders and steps beyond the core's: images, arrays, JSON, data sets of others; cleaning, labels, maps."""

from __future__ import annotations

from genreg import DataLoader, Preprocessor, hookimpl
from genreg_data.arrays import arrays
from genreg_data.folders import images
from genreg_data.idx import idx
from genreg_data.labelstudio import labelstudio
from genreg_data.records import json, write_json
from genreg_data.steps import PREPROCESSORS

IDX = (".idx", "idx3-ubyte", "idx3-ubyte.gz")  # train-images-idx3-ubyte.gz, train-images.idx3-ubyte


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """Folders of images, .npz and .npy, IDX, JSON, Label Studio's exports."""
    return [
        DataLoader(images, ("/",)),
        DataLoader(arrays, (".npz", ".npy")),
        DataLoader(idx, IDX),
        DataLoader(json, (".json",), write=write_json, packed=True, several=True),
        DataLoader(labelstudio),
    ]


@hookimpl
def genreg_preprocessors() -> list[Preprocessor]:
    """Clean steps, labels and maps."""
    return PREPROCESSORS
