"""Checkpoints that genreg did not write: exactly one family may know them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.toys import genreg_models

from genreg.errors import CheckpointError
from genreg.foreign import adopt, is_foreign


def folder(path, config, *names):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    for name in names:
        save_file({"a.weight": np.zeros(2)}, str(path / name))
    return path


def families(**recognizes):
    import dataclasses

    made = genreg_models()[: len(recognizes)]
    return [dataclasses.replace(f, name=n, recognizes=r) for f, (n, r) in zip(made, recognizes.items(), strict=True)]


def of_kind(name):
    return lambda config, tensors: config.get("kind") == name and "a.weight" in set(tensors)


def test_the_one_family_that_recognizes_it_takes_it(tmp_path):
    path = folder(tmp_path / "m", {"kind": "one"}, "weights.safetensors")
    assert is_foreign(path)
    adopted = adopt(path, families(one=of_kind("one"), two=of_kind("two")))
    assert (adopted.family, adopted.config) == ("one", {"kind": "one"})
    assert adopted.weights is not None
    assert adopted.weights.path.name == "weights.safetensors"
    assert len(adopted.digest()) == 64


def test_what_genreg_wrote_is_not_foreign(tmp_path):
    assert not is_foreign(folder(tmp_path / "m", {"genreg": {}}))
    assert not is_foreign(tmp_path)


@pytest.mark.parametrize(
    ("able", "files", "message"),
    [
        ({}, ["a.safetensors"], "no family recognizes it (config.json names mine; 1 tensors, such as a.weight)"),
        ({"one": of_kind("one"), "two": of_kind("one")}, ["a.safetensors"], "one and two all claim it"),
        ({"one": of_kind("one")}, [], "one .safetensors file is needed: it has none"),
        ({"one": of_kind("one")}, ["a.safetensors", "b.safetensors"], "one .safetensors file is needed: it has 2"),
    ],
)
def test_none_two_and_no_weights_are_refused_with_what_was_looked_at(tmp_path, able, files, message):
    path = folder(tmp_path / "m", {"kind": "one", "model_type": "mine"}, *files)
    with pytest.raises(CheckpointError) as caught:
        adopt(path, families(**able))
    assert message in str(caught.value)


def test_a_pickle_is_named_and_not_read(tmp_path):
    path = folder(tmp_path / "m", {"kind": "one"})
    (path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        adopt(path, families(one=of_kind("one")))
