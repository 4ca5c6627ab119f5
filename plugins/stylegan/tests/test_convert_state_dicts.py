"""Bare state dicts tell their config by their shapes alone, bit for bit, or what is wrong with them."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from stylegan_files import CONFIGS, SMALL, generator_of, refusal, same, tensors_of

from genreg.errors import CheckpointError, GenregError
from genreg_stylegan.config import Stylegan3Config
from genreg_stylegan.convert import read_networks
from genreg_stylegan.shapes import channels


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["zip", "older", "safetensors", "within"])
def test_a_bare_state_dict_tells_its_config_by_its_shapes(tmp_path, name, kind):
    config = CONFIGS[name].model_copy(update={"discriminator": None, "w_avg_beta": type(CONFIGS[name])().w_avg_beta})
    tensors = OrderedDict(tensors_of(generator_of(config)))
    path = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        whole = {"state_dict": tensors, "step": 3} if kind == "within" else tensors
        torch.save(whole, path, _use_new_zipfile_serialization=kind != "older")
    found = read_networks(path, settings={"conv_clamp": config.conv_clamp})
    told = {"channel_base", "channel_max"}  # of 4 x 4 pixels, say, no more than 8 channels are known
    assert found.config.model_dump(exclude=told) == config.model_dump(exclude=told)
    assert same(found.generator, dict(tensors))
    assert found.notes == ["shapes do not tell lr_multiplier: taken as 0.01; --set lr_multiplier=… if it is another"]


def test_channels_that_follow_no_rule_are_told():
    assert channels({4: 512, 8: 512, 16: 256}) == {"channel_base": 4096, "channel_max": 512}
    with pytest.raises(CheckpointError, match="follow no StyleGAN's rule"):
        channels({4: 512, 8: 256, 16: 256})


def test_a_state_dict_of_something_else_is_told(tmp_path):
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "x.pt")
    assert "no generator of StyleGAN2 or StyleGAN3" in refusal(tmp_path / "x.pt", CheckpointError)
    torch.save([1, 2], tmp_path / "x.pt")
    assert refusal(tmp_path / "x.pt", CheckpointError) == "FILE: it holds no state dict"
    torch.save({"g": 3, "step": 4}, tmp_path / "x.pt")
    assert refusal(tmp_path / "x.pt", CheckpointError) == "FILE: g in its state dict is no tensor"
    tensors = tensors_of(generator_of(CONFIGS["skip"]))
    torch.save({name: one for name, one in tensors.items() if name != "mapping.w_avg"}, tmp_path / "x.pt")
    assert "no whole generator: 'mapping.w_avg' is missing" in refusal(tmp_path / "x.pt", CheckpointError)
    save_file({"mapping.w_avg": torch.ones(3).long()}, tmp_path / "x.safetensors")
    assert "mapping.w_avg is I64, and networks are F32 or F16" in refusal(tmp_path / "x.safetensors", CheckpointError)


def test_layers_of_an_unusual_stylegan3_are_asked_for(tmp_path):
    config = Stylegan3Config(**SMALL, num_layers=4, margin_size=3, first_cutoff=3)
    save_file(tensors_of(generator_of(config)), tmp_path / "x.safetensors")
    assert "follow from no usual arguments: give those of training" in refusal(
        tmp_path / "x.safetensors", CheckpointError
    )
    given = {"first_cutoff": "3", "num_critical": "2", "channel_base": "64", "margin_size": "3"}
    assert read_networks(tmp_path / "x.safetensors", settings=given).config == config


def test_bfloat16_becomes_the_float32_of_the_same_value(tmp_path):
    config = CONFIGS["skip"]
    stored = {name: one.bfloat16() for name, one in tensors_of(generator_of(config)).items()}
    torch.save(stored, tmp_path / "x.pt")
    assert same(read_networks(tmp_path / "x.pt").generator, {name: one.float() for name, one in stored.items()})


@given(st.dictionaries(st.sampled_from([
    "mapping.w_avg", "mapping.fc0.weight", "mapping.fc1.weight", "mapping.embed.weight", "synthesis.b4.const",
    "synthesis.b4.conv1.weight", "synthesis.b8.conv1.weight", "synthesis.b8.torgb.weight", "synthesis.input.freqs",
    "synthesis.L0_9_8.weight", "synthesis.L1_16_3.weight", "synthesis.L0_9_8.down_filter",
]), st.lists(st.integers(1, 9), max_size=4)))  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shapes_are_a_network_or_refused(tmp_path, shapes):
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "x.safetensors")
    refusal(tmp_path / "x.safetensors", GenregError)


def test_names_that_no_module_gives_are_told_without_their_control_characters(tmp_path):
    save_file({"\x1b[2Jw": torch.ones(1)}, tmp_path / "x.safetensors")
    torch.save({"\x1b[2Jw": torch.ones(1)}, tmp_path / "x.pt")
    torch.save({7: torch.ones(1)}, tmp_path / "y.pt")
    for name in ("x.safetensors", "x.pt"):
        message = refusal(tmp_path / name, CheckpointError)
        assert message == r"FILE: it has a tensor named '\x1b[2Jw', and no module gives such a name"
    assert "it has a tensor named 7, and" in refusal(tmp_path / "y.pt", CheckpointError)
