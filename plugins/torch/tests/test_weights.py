"""Weights in and out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genreg.checkpoint import Weights, write_tensors
from genreg.errors import CheckpointError
from genreg_torch.weights import load_into, tensors_of


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def stored(path: Path, module: nn.Module, dtype=None, **more) -> Weights:
    write_tensors(path, {**tensors_of(module, dtype=dtype), **more})
    return Weights.open(path)


def test_a_module_comes_back_in_evaluation_mode_without_gradients(tmp_path):
    module = build()
    found = load_into(build, stored(tmp_path / "w.safetensors", module, **{"chain.0.mean": np.zeros(3)}))
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), found.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_in_half_precision_are_read_as_asked(tmp_path, dtype):
    module = build()
    weights = stored(tmp_path / "w.safetensors", module, torch.float16)
    assert weights.header["0.weight"][1] == "F16"
    found = load_into(build, weights, dtype=dtype)
    assert found[0].weight.dtype == getattr(torch, dtype)
    assert found[1].num_batches_tracked.dtype == torch.int64
    assert torch.allclose(found[0].weight.float(), module[0].weight, atol=4e-3)


def test_all_differences_are_named(tmp_path):
    weights = stored(tmp_path / "w.safetensors", build(), extra=np.zeros(2, np.float32))
    with pytest.raises(CheckpointError) as error:
        load_into(lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4), nn.Linear(1, 1)), weights)
    for part in ("2.weight is missing", "extra is not expected", "0.weight is F32 [4, 3], expected F32 [5, 3]"):
        assert part in str(error.value)


def test_whole_numbers_in_place_of_weights_are_refused(tmp_path):
    arrays = tensors_of(build())
    write_tensors(tmp_path / "w.safetensors", {**arrays, "0.bias": np.zeros(4, np.int64)})
    with pytest.raises(CheckpointError, match=re.escape("0.bias is I64 [4], expected F32 [4]")):
        load_into(build, Weights.open(tmp_path / "w.safetensors"))


def test_tensors_beside_the_module_are_expected_and_left_to_the_family(tmp_path):
    weights = stored(tmp_path / "w.safetensors", build(), **{"prior.mean": np.zeros((2, 3))})
    load_into(build, weights, beside={"prior.mean": ((2, 3), "F64")})
    with pytest.raises(CheckpointError, match=re.escape("prior.mean is F64 [2, 3], expected F64 [2, 4]")):
        load_into(build, weights, beside={"prior.mean": ((2, 4), "F64")})


def test_tied_weights_stay_tied(tmp_path):
    def tied() -> nn.Module:
        net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        net["b"].weight = net["a"].weight
        return net

    found = load_into(tied, stored(tmp_path / "w.safetensors", tied()))
    assert found["a"].weight.data_ptr() == found["b"].weight.data_ptr()


def test_loading_allocates_the_weights_once(tmp_path):
    resource = pytest.importorskip("resource")
    write_tensors(tmp_path / "w.safetensors", {"weight": np.zeros((4096, 8192), np.float32)})  # 134 MB
    weights = Weights.open(tmp_path / "w.safetensors")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_into(lambda: nn.Linear(8192, 4096, bias=False), weights)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1.5 * 134e3


# ---- files that others wrote ----


def tied() -> nn.Module:
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    net["b"].weight = net["a"].weight
    return net


def test_shards_of_the_hub_library_are_loaded(tmp_path):
    from huggingface_hub import save_torch_state_dict

    module = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    save_torch_state_dict(module.state_dict(), tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    weights = Weights.open(tmp_path / "model.safetensors.index.json")
    found = load_into(lambda: nn.Sequential(*(nn.Linear(64, 64) for _ in range(4))), weights)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), found.parameters(), strict=True))


@pytest.mark.parametrize("kept", ["a", "b"])
def test_a_shared_tensor_is_loaded_by_whichever_name_was_kept(tmp_path, kept):
    from safetensors.torch import save_file

    module = tied()
    state = {name: tensor for name, tensor in module.state_dict().items() if name != f"{'ba'[kept == 'b']}.weight"}
    save_file(state, tmp_path / "w.safetensors", {"format": "pt", "b.weight": "a.weight"})
    found = load_into(tied, Weights.open(tmp_path / "w.safetensors"))
    assert torch.equal(found["b"].weight, module["a"].weight)
    assert found["a"].weight.data_ptr() == found["b"].weight.data_ptr()


def test_a_shared_tensor_that_the_hub_library_wrote_is_loaded(tmp_path):
    from huggingface_hub import save_torch_state_dict

    module = tied()
    save_torch_state_dict(module.state_dict(), tmp_path)
    found = load_into(tied, Weights.open(tmp_path / "model.safetensors"))
    assert torch.equal(found["b"].weight, module["a"].weight)


def test_a_shared_tensor_that_was_written_twice_is_refused_with_the_reason(tmp_path):
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in tied().state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"b.weight is not expected"):
        load_into(tied, Weights.open(tmp_path / "w.safetensors"))
