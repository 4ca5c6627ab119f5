"""Files that others wrote: by safetensors, by huggingface_hub, with a BOM, with shared tensors; loaded, or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import genreg
from genreg.checkpoint import INDEX, Weights, read, weights_among
from genreg.entrypoints import package_folder
from genreg.errors import CheckpointError

NB = Path(package_folder("genreg_nb") or "") / "nb-iris"


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(NB / name, tmp_path)
    return tmp_path


def samples(folder) -> object:
    return genreg.load(folder).sample(4, seed=0).table


def test_extra_metadata_and_a_byte_order_mark_change_nothing(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"format": "pt", "author": "someone", "license": "mit"})
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())
    assert samples(folder) == samples(NB)


def test_shards_are_one_checkpoint(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    index = {"metadata": {"total_size": 1}, "weight_map": {}}
    for at, some in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{at}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(some, file)
    (folder / "model.safetensors").unlink()
    (folder / f"model{INDEX}").write_text(json.dumps(index))
    assert samples(folder) == samples(NB)
    whole = read(folder)
    before = whole.digest()
    (folder / file).write_bytes((folder / file).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors is not a readable safetensors file"):
        read(folder)
    index["weight_map"]["nobody"] = file
    (folder / f"model{INDEX}").write_text(json.dumps(index))
    shutil.copy(NB / "model.safetensors", folder / file)
    with pytest.raises(CheckpointError, match=r"and its shards differ in nobody"):
        Weights.open(folder / f"model{INDEX}")
    assert whole.digest() != before


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "x"]
)
def test_what_is_no_index_is_refused(tmp_path, text):
    (tmp_path / f"model{INDEX}").write_text(text)
    with pytest.raises(CheckpointError, match=r"is no index|is not readable JSON"):
        Weights.open(tmp_path / f"model{INDEX}")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("model.safetensors other.safetensors", "model.safetensors"),
        (
            "diffusion_pytorch_model.safetensors diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.safetensors",
        ),
        ("model.safetensors.index.json model-1.safetensors model-2.safetensors", "model.safetensors.index.json"),
        ("x.fp16.safetensors", "x.fp16.safetensors"),
    ],
)
def test_the_weights_among_files_are_found(names, found):
    assert weights_among(names.split()) == found


@pytest.mark.parametrize(
    ("names", "why"), [("a.safetensors b.safetensors", "it has 2"), ("config.json", "it has none")]
)
def test_weights_that_are_none_or_two_are_refused(names, why):
    with pytest.raises(CheckpointError, match=why):
        weights_among(names.split())


def test_a_file_that_is_cut_off_or_a_web_page_is_refused(folder):
    for data in (b"<html>log in</html>", (NB / "model.safetensors").read_bytes()[:-9], b"", b"\x80\x04."):
        (folder / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"is not a readable safetensors file"):
            genreg.load(folder)


def test_reading_a_file_once_is_enough_until_it_changes(tmp_path):
    from genreg.files import _sha256, sha256

    path = tmp_path / "x"
    path.write_bytes(b"one")
    before = _sha256.cache_info().misses
    assert sha256(path) == sha256(path)
    assert _sha256.cache_info().misses == before + 1
    path.write_bytes(b"others")
    assert sha256(path) == hashlib.sha256(b"others").hexdigest()
