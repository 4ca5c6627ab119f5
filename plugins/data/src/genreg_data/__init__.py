"""Loaders and steps beyond the core's: images, arrays, JSON, data sets of others; cleaning, labels, maps."""

from __future__ import annotations

from genreg import DataLoader, Preprocessor, hookimpl
from genreg_data.arrays import arrays
from genreg_data.bundled import sklearn
from genreg_data.cifar import cifar10
from genreg_data.folders import images
from genreg_data.hub import hf_datasets
from genreg_data.idx import idx
from genreg_data.labelstudio import labelstudio
from genreg_data.records import json, write_json
from genreg_data.steps import PREPROCESSORS

IDX = (".idx", "idx3-ubyte")  # train-images-idx3-ubyte.gz, train-images.idx3-ubyte


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """Folders of images, arrays, IDX, JSON, CIFAR-10, scikit-learn's, Hugging Face datasets, Label Studio's exports."""
    return [
        DataLoader(images, ("/",)),
        DataLoader(arrays, (".npz", ".npy")),
        DataLoader(idx, IDX, packed=True),
        DataLoader(json, (".json",), write=write_json, packed=True, several=True),
        DataLoader(cifar10, (".bin",)),
        DataLoader(sklearn, schemes=("sklearn",)),
        DataLoader(hf_datasets, schemes=("hf-datasets",)),
        DataLoader(labelstudio),
    ]


@hookimpl
def genreg_preprocessors() -> list[Preprocessor]:
    """Clean steps, labels and maps."""
    return PREPROCESSORS
