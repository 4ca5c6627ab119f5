"""The data sets of others: CIFAR-10's files, scikit-learn's own, and Hugging Face datasets from a local folder."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from sklearn import datasets as peer

from genreg.data import Source, notes
from genreg.errors import GenregError
from genreg.images import pixels
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg_data.bundled import NAMES, sklearn
from genreg_data.cifar import CLASSES, cifar10
from genreg_data.hub import hf_datasets

RNG = np.random.default_rng(0)


def whole(source: Source, size: int = 1000) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(size=size)), source.schema)


def refusal(read: Any, where: Any, **knobs: Any) -> str:
    with pytest.raises(GenregError) as caught:
        whole(read(where, **knobs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- CIFAR-10 ----


def batch_file(folder: Path, name: str, images: Any, labels: Any) -> Path:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    (folder / name).write_bytes(np.concatenate([labels[:, None], planes], 1).astype(np.uint8).tobytes())
    return folder / name


def test_cifar10_is_images_with_the_names_of_their_classes(tmp_path):
    images, labels = RNG.integers(0, 256, (25, 32, 32, 3), np.uint8), RNG.integers(0, 10, 25)
    source = cifar10(batch_file(tmp_path, "data_batch_1.bin", images, labels))
    assert source.rows == 25
    for size in (1, 7, 100):
        table = whole(source, size)
        assert (pixels(table.column("image")) == images).all()
        assert table.column("label").to_pylist() == [CLASSES[label] for label in labels]
    assert notes(source.schema.field("label")) == {"role": "label", "values": CLASSES}
    names = [f"类{number}" for number in range(10)]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n", "utf-8")
    assert whole(cifar10(tmp_path / "data_batch_1.bin")).column("label")[0].as_py() == names[labels[0]]
    batch_file(tmp_path, "data_batch_2.bin", images, labels)
    loaders = load_plugins().loaders
    assert whole(open_source(tmp_path / "data_batch_*.bin", loaders)).num_rows == 50


def test_files_that_are_not_cifar10_are_refused(tmp_path):
    images, labels = RNG.integers(0, 256, (2, 32, 32, 3), np.uint8), np.array([3, 10])
    path = batch_file(tmp_path, "a.bin", images, labels)
    assert refusal(cifar10, path) == "a.bin has the label 10, and there are 10 classes"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(cifar10, path) == (
        "a.bin is 6,145 bytes, and CIFAR-10's rows are 3,073 each: it is cut off, or something else"
    )
    path.write_bytes(b"\0" * 3074 * 5)
    assert refusal(cifar10, path).endswith("each: CIFAR-100 has two labels a row, and is not read")
    path.write_bytes(b"")
    assert refusal(cifar10, path).startswith("a.bin is 0 bytes, and CIFAR-10's rows are 3,073 each: it is cut off")
    path.write_bytes(b"\0" * 3073)
    (tmp_path / "batches.meta.txt").write_text("one\ntwo\n")
    assert refusal(cifar10, path) == "batches.meta.txt names 2 classes, and CIFAR-10 has 10"
    assert refusal(cifar10, tmp_path / "no.bin") == f"{tmp_path / 'no.bin'} cannot be read: no such file or directory"


# ---- scikit-learn ----


def test_sklearns_digits_are_images():
    source = sklearn("sklearn://digits")
    digits = peer.load_digits()
    table = whole(source)
    found = pixels(table.column("image"))
    assert found.shape == (1797, 8, 8, 1)
    assert (np.rint(found[..., 0] / 255 * 16) == digits.images).all()
    assert table.column("label").to_pylist() == digits.target.tolist()
    assert notes(source.schema.field("label")) == {"role": "label"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_sklearns_tables_are_exact(name):
    found = getattr(peer, f"load_{name}")()
    source = open_source(f"sklearn://{name}", load_plugins().loaders)
    table = whole(source)
    width = found.data.shape[1]
    assert np.stack([table.column(at).to_numpy() for at in range(width)], 1).tolist() == found.data.tolist()
    assert all(field.name.isidentifier() for field in source.schema), source.schema.names
    if name in ("iris", "wine", "breast_cancer"):
        assert table.column("label").to_pylist() == [str(found.target_names[code]) for code in found.target]
        assert notes(source.schema.field("label")) == {"role": "label", "values": [str(n) for n in found.target_names]}
    elif name == "diabetes":
        assert table.column("target").to_pylist() == found.target.tolist()
    else:
        assert table.column("weight").to_pylist() == found.target[:, 0].tolist()
    if name == "iris":
        assert source.schema.names[0] == "sepal_length_cm"
        assert notes(source.schema.field(0)) == {"decimals": 1}


def test_what_sklearn_does_not_bring_is_refused(monkeypatch):
    assert refusal(sklearn, "sklearn://irs") == "sklearn://irs: scikit-learn brings no irs; did you mean iris?"
    assert refusal(sklearn, "sklearn://").startswith("sklearn://: scikit-learn brings no data set without a name; ")
    without(monkeypatch, "sklearn")
    assert refusal(sklearn, "sklearn://iris") == 'sklearn://iris needs scikit-learn: pip install "scikit-learn>=1.5"'


def without(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


# ---- Hugging Face datasets ----


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The library without a network, its cache in a folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


def test_a_local_folder_of_a_dataset_is_read_with_its_types(hub, tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    features = hub.Features(
        {"text": hub.Value("string"), "stars": hub.Value("int8"), "label": hub.ClassLabel(names=["坏", "好"])}
    )
    rows = {"text": ["great", None, "今天"], "stars": [5, 1, None], "label": [1, 0, None]}
    hub.Dataset.from_dict(rows, features=features).to_parquet(str(folder / "train-00000.parquet"))
    hub.Dataset.from_dict({"text": ["t"], "stars": [3], "label": [0]}, features=features).to_parquet(
        str(folder / "test-00000.parquet")
    )
    source = open_source(f"hf-datasets://{folder}", load_plugins().loaders)
    assert source.rows == 3
    assert {field.name: str(field.type) for field in source.schema} == {
        "text": "string", "stars": "int8", "label": "string",
    }  # fmt: skip
    assert notes(source.schema.field("label")) == {"role": "label", "values": ["坏", "好"]}
    for size in (1, 2, 100):
        assert whole(source, size).to_pydict() == {**rows, "label": ["好", "坏", None]}
    assert whole(hf_datasets(f"hf-datasets://{folder}", split="test")).num_rows == 1
    assert whole(hf_datasets(f"hf-datasets://{folder}", split="train[:2]")).num_rows == 2
    message = refusal(hf_datasets, f"hf-datasets://{folder}", split="dev")
    assert message.startswith(f"hf-datasets://{folder} cannot be loaded: ValueError: Unknown split")


def test_a_local_folder_of_images_is_encoded_images_with_classes(hub, tmp_path):
    picture = RNG.integers(0, 256, (2, 4, 5, 3), np.uint8)
    for at, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        Image.fromarray(picture[at]).save(tmp_path / "pets" / "train" / name / "a.png")
    table = whole(hf_datasets(f"hf-datasets://{tmp_path / 'pets'}"))
    assert (pixels(table.column("image")) == picture).all()
    assert table.column("label").to_pylist() == ["cat", "dog"]


def test_images_within_a_dataset_are_their_bytes(hub, tmp_path):
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (3, 2), np.uint8)).save(out, "PNG")
    cells = [{"bytes": out.getvalue(), "path": None}, None]
    (tmp_path / "d").mkdir()
    features = hub.Features({"image": hub.Image()})
    hub.Dataset.from_dict({"image": cells}, features=features).to_parquet(str(tmp_path / "d" / "train.parquet"))
    assert whole(hf_datasets(f"hf-datasets://{tmp_path / 'd'}")).to_pydict() == {"image": [out.getvalue(), None]}


def test_what_the_library_cannot_load_is_one_line(hub, tmp_path, monkeypatch):
    message = refusal(hf_datasets, f"hf-datasets://{tmp_path / 'none'}")
    assert message.startswith(f"hf-datasets://{tmp_path / 'none'} cannot be loaded: ")
    without(monkeypatch, "datasets")
    assert refusal(hf_datasets, "hf-datasets://a/b") == (
        'hf-datasets://a/b needs the library datasets: pip install "datasets>=4"'
    )
