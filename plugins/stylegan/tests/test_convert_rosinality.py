"""Files of rosinality's code give the same networks, and what is wrong with one is told in a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stylegan_files import CONFIGS, generator_of, refusal, same, tensors_of

from genreg.errors import CheckpointError
from genreg_stylegan.convert import read_networks
from genreg_stylegan.discriminator import Critic


def as_rosinality(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A generator's tensors as rosinality's code names and shapes them."""
    blur = torch.tensor([1.0, 3, 3, 1])[:, None] * torch.tensor([1.0, 3, 3, 1]) / 64
    made = {"input.input": tensors["synthesis.b4.const"][None]}
    for name, one in tensors.items():
        if name.startswith("mapping.fc"):
            made[f"style.{int(name[10]) + 1}.{name.rpartition('.')[2]}"] = one
    layers = [("conv1", "b4.conv1"), ("convs.0", "b8.conv0"), ("convs.1", "b8.conv1")]
    layers += [("convs.2", "b16.conv0"), ("convs.3", "b16.conv1")]
    for number, (theirs, ours) in enumerate(layers):
        layer = f"synthesis.{ours}"
        made[f"{theirs}.conv.weight"] = tensors[f"{layer}.weight"][None]
        made[f"{theirs}.conv.modulation.weight"] = tensors[f"{layer}.affine.weight"]
        made[f"{theirs}.conv.modulation.bias"] = tensors[f"{layer}.affine.bias"]
        made[f"{theirs}.noise.weight"] = tensors[f"{layer}.noise_strength"][None]
        made[f"{theirs}.activate.bias"] = tensors[f"{layer}.bias"]
        made[f"noises.noise_{number}"] = tensors[f"{layer}.noise_const"][None, None]
        if ours.endswith("conv0"):
            made[f"{theirs}.conv.blur.kernel"] = 4 * blur
    for theirs, ours in (("to_rgb1", "b4"), ("to_rgbs.0", "b8"), ("to_rgbs.1", "b16")):
        layer = f"synthesis.{ours}.torgb"
        made[f"{theirs}.conv.weight"] = tensors[f"{layer}.weight"][None]
        made[f"{theirs}.conv.modulation.weight"] = tensors[f"{layer}.affine.weight"]
        made[f"{theirs}.conv.modulation.bias"] = tensors[f"{layer}.affine.bias"]
        made[f"{theirs}.bias"] = tensors[f"{layer}.bias"][None, :, None, None]
        if theirs != "to_rgb1":
            made[f"{theirs}.upsample.kernel"] = 4 * blur
    return made


def critic_as_rosinality(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same for a discriminator of 16 pixels."""
    places = {
        "convs.0.0.weight": "b16.fromrgb.weight", "convs.0.1.bias": "b16.fromrgb.bias",
        "final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias",
        "final_linear.0.weight": "b4.fc.weight", "final_linear.0.bias": "b4.fc.bias",
        "final_linear.1.weight": "b4.out.weight", "final_linear.1.bias": "b4.out.bias",
    }  # fmt: skip
    for theirs, ours in (("convs.1", "b16"), ("convs.2", "b8")):
        places |= {
            f"{theirs}.conv1.0.weight": f"{ours}.conv0.weight", f"{theirs}.conv1.1.bias": f"{ours}.conv0.bias",
            f"{theirs}.conv2.1.weight": f"{ours}.conv1.weight", f"{theirs}.conv2.2.bias": f"{ours}.conv1.bias",
            f"{theirs}.skip.1.weight": f"{ours}.skip.weight",
        }  # fmt: skip
    blurs = {f"convs.{k}.{at}.0.kernel": tensors["b8.resample_filter"] for k in (1, 2) for at in ("conv2", "skip")}
    return {**{theirs: tensors[ours] for theirs, ours in places.items()}, **blurs}


@pytest.mark.parametrize("newer", [True, False])
def test_a_file_of_rosinality_gives_the_same_networks(tmp_path, newer):
    from argparse import Namespace

    config = CONFIGS["skip"].model_copy(update={"conv_clamp": None, "z_dim": 6})
    averaged, trained = (tensors_of(generator_of(config), seed) for seed in (1, 2))
    trained["mapping.w_avg"] = averaged["mapping.w_avg"]
    critic = tensors_of(Critic(config, 16), 3)
    whole = {
        "g": as_rosinality(trained), "d": critic_as_rosinality(critic), "g_ema": as_rosinality(averaged),
        "g_optim": torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict(),
        "args": Namespace(size=16, iter=800_000), "ada_aug_p": 0.0, "latent_avg": averaged["mapping.w_avg"],
    }  # fmt: skip
    torch.save(whole, tmp_path / "x.pt", _use_new_zipfile_serialization=newer)
    found = read_networks(tmp_path / "x.pt")
    assert found.config == config
    assert same(found.generator, averaged)
    assert same(found.trained, trained)
    assert same(found.discriminator, critic)
    assert found.notes == []
    assert same(
        read_networks(tmp_path / "x.pt", network="G").generator, {**trained, "mapping.w_avg": averaged["mapping.w_avg"]}
    )


def test_a_discriminator_of_rosinality_that_is_not_whole_is_told(tmp_path):
    config = CONFIGS["skip"].model_copy(update={"z_dim": 6})
    whole = critic_as_rosinality(tensors_of(Critic(config, 16)))
    generator = as_rosinality(tensors_of(generator_of(config)))
    for name, message in (
        ("final_conv.0.weight", "no whole discriminator: 'b4.conv.weight' is missing"),
        (
            "convs.1.conv1.1.bias",
            "FILE: the discriminator (--only leaves it out) does not fit its config: b16.conv0.bias is",
        ),
    ):
        left = {key: one for key, one in whole.items() if key != name}
        torch.save({"g_ema": generator, "d": left}, tmp_path / "x.pt")
        assert message in refusal(tmp_path / "x.pt", CheckpointError)
    torch.save({"g_ema": generator, "d": {**whole, "stddev.x": torch.ones(1)}}, tmp_path / "x.pt")
    assert "stddev.x is no part of rosinality's discriminator" in refusal(tmp_path / "x.pt", CheckpointError)


def test_an_average_that_is_missing_is_computed_as_the_mapping_network_would(tmp_path):
    from genreg.random import Stream, normal

    config = CONFIGS["skip"].model_copy(update={"z_dim": 6})
    generator = generator_of(config)
    with torch.no_grad():
        torch.save({"g_ema": as_rosinality(generator.state_dict())}, tmp_path / "x.pt")
        z = normal(np.arange(4096, dtype=np.uint64), (6,), stream=Stream.PRIOR)
        wanted = generator.mapping.double()(torch.from_numpy(z), None).mean(0).numpy()
    found = read_networks(tmp_path / "x.pt")
    assert np.abs(found.generator["mapping.w_avg"] - wanted).max() < 1e-6 * np.abs(wanted).max() + 1e-7
    assert found.notes == ["it has no latent_avg: w_avg is the mean of 4,096 draws"]


ROSINALITY = {
    "another blur": (
        {"convs.0.conv.blur.kernel": torch.ones(4, 4) / 4},
        "convs.0.conv.blur.kernel: a blur kernel other than [1, 3, 3, 1]",
    ),
    "a stranger": ({"extra.weight": torch.ones(1)}, "extra.weight is no part of rosinality's generator"),
    "a wrong number": ({"convs.x.bias": torch.ones(1)}, "convs.x.bias is no part of rosinality's generator"),
    "noise of two planes": (
        {"noises.noise_0": torch.ones(1, 2, 4, 4)},
        "noise_const is F32 [1, 2, 4, 4], expected F32 [4, 4]",
    ),
    "a mapping of millions": (
        {"style.1.weight": torch.ones(1, 65_537)},
        "style.1 takes 65,537 numbers, and 65,536 are",
    ),
    "a mapping that breaks": (
        {"style.2.weight": torch.ones(6, 5)},
        "style.2 is missing, or does not take what style.1 gives",
    ),
    "a mapping with a gap": ({"style.4.weight": torch.ones(6, 6)}, "style.3 is missing"),
}


@pytest.mark.parametrize("what", ROSINALITY)
def test_a_file_of_rosinality_that_is_wrong_is_told(tmp_path, what):
    change, message = ROSINALITY[what]
    config = CONFIGS["skip"].model_copy(update={"z_dim": 6})
    torch.save({"g_ema": {**as_rosinality(tensors_of(generator_of(config))), **change}}, tmp_path / "x.pt")
    assert message in refusal(tmp_path / "x.pt", CheckpointError)
