"""Against values that the published implementations computed; the files are theirs, and not part of the project."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stylegan_files import FIXTURES, published

import genreg
from genreg.checkpoint import Checkpoint, save
from genreg_stylegan.config import Stylegan2Config, Stylegan3Config, columns
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.layout import layers, signals
from genreg_stylegan.model import generator_of
from genreg_stylegan.stylegan2 import no_noise

pytestmark = published
NAMES = ["sg2_32_uncond", "sg2_16_clamp", "sg2_16_orig_nonoise", "sg3_t_32"]


def config_of(about: dict) -> Stylegan2Config | Stylegan3Config:
    """The constructors' arguments as a config."""
    flat = {**about["generator_kwargs"]}
    mapping, synthesis = flat.pop("mapping_kwargs"), flat.pop("synthesis_kwargs", {})
    flat.pop("num_fp16_res", None)
    made = {
        "resolution": flat.pop("img_resolution"), "image_channels": flat.pop("img_channels"), **flat, **synthesis,
        "mapping_layers": mapping["num_layers"], "embed_width": mapping.get("embed_features"),
    }  # fmt: skip
    if about["kind"] == "stylegan3":
        made["discriminator"] = {"channel_base": 512, "channel_max": 32, "conv_clamp": 256}
        return Stylegan3Config.model_validate(made)
    critic = about["discriminator_kwargs"]
    last = critic.get("epilogue_kwargs", {"mbstd_group_size": 4, "mbstd_num_channels": 1})
    kept = {key: critic[key] for key in ("architecture", "channel_base", "channel_max", "conv_clamp") if key in critic}
    made["discriminator"] = kept | {
        "mbstd_group": last["mbstd_group_size"], "mbstd_channels": last["mbstd_num_channels"],
    }  # fmt: skip
    return Stylegan2Config.model_validate(made)


@cache
def published(name: str):
    """The config, generator and discriminator of a set, what went in and what came out."""
    about = json.loads((FIXTURES / f"{name}.json").read_text())
    config = config_of(about)
    generator, critic = generator_of(config), Critic(config, config.resolution)
    generator.load_state_dict(load_file(FIXTURES / f"{name}.g.safetensors"), strict=True)
    critic.load_state_dict(load_file(FIXTURES / f"{name}.d.safetensors"), strict=True)
    return about, config, generator, critic, load_file(FIXTURES / f"{name}.io.safetensors")


def far(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.detach() - wanted).abs().max() / wanted.abs().max())


every_set = pytest.mark.parametrize("name", NAMES)
GOAL = dict.fromkeys(NAMES[:3], 1e-5) | {"sg3_t_32": 1e-4}


@every_set
def test_styles_and_pictures_are_the_published_ones(name):
    about, config, generator, _, io = published(name)
    c = io.get("c")
    assert config.num_ws == about["num_ws"]
    assert far(generator.styles(io["z"], c), io["ws"]) < 1e-6
    assert far(generator.styles(io["z2"], c), io["ws2"]) < 1e-6
    for kind in ("", "_mix", "_plus", "_psi0.7", f"_psi0.5_cut{about['cut']}"):
        assert far(generator.synthesis(io[f"ws{kind}"]), io[f"img{kind}"]) < GOAL[name] / 5
    if "img_nonoise" in io:
        assert far(generator.synthesis(io["ws"], no_noise), io["img_nonoise"]) < GOAL[name] / 5
    if "img_transform" in io:
        assert far(generator.synthesis(io["ws"], io["transform"]), io["img_transform"]) < GOAL[name] / 5


@every_set
def test_features_are_the_published_ones_all_the_way(name):
    _, config, generator, _, io = published(name)
    made = generator.synthesis.features(io["ws_plus"][:1])
    if isinstance(config, Stylegan3Config):
        for key, x in zip(("input", *generator.synthesis.names), made, strict=True):
            assert far(x, io[f"feat.{key}"]) < 1e-5
        return
    for side, (x, image) in zip(config.resolutions, made, strict=True):
        assert far(x, io[f"feat.b{side}.x"]) < 5e-6
        if f"feat.b{side}.img" in io:
            assert far(image, io[f"feat.b{side}.img"]) < 5e-6


@every_set
def test_scores_and_gradients_are_the_published_ones(name):
    _, _, generator, critic, io = published(name)
    x = io["d_in"].clone().requires_grad_()
    logits = critic(x, io.get("c"))
    (slope,) = torch.autograd.grad(logits.sum(), x)
    assert far(logits, io["d_logits"]) < 5e-6
    assert far(slope, io["d_r1_grads"]) < 5e-6
    assert far(slope.square().sum((1, 2, 3)), io["d_r1_penalty"]) < 5e-6
    ws = io["ws"].clone().requires_grad_()
    (path,) = torch.autograd.grad((generator.synthesis(ws) * io["pl_noise"]).sum(), ws)
    assert far(path, io["pl_grads"]) < 5e-6
    assert far(path.square().sum(2).mean(1).sqrt(), io["pl_lengths"]) < 5e-6


@every_set
def test_averages_move_as_the_published_ones(name):
    _, config, *_, io = published(name)
    generator = generator_of(config)
    generator.load_state_dict(load_file(FIXTURES / f"{name}.g.safetensors"))
    ws = generator.styles(io["z"], io.get("c"))
    generator.mapping.average_(ws[:, 0], config.w_avg_beta)
    assert far(generator.mapping.w_avg, io["w_avg_after"]) < 1e-6
    if isinstance(config, Stylegan3Config):
        with torch.no_grad():
            generator.synthesis(ws, track=True)
        magnitudes = torch.stack([conv.magnitude_ema for conv in generator.synthesis.convs])
        assert far(magnitudes, io["magnitude_ema_after"]) < 1e-6


def test_the_layout_is_the_published_one():
    about, config, *_ = published("sg3_t_32")
    first = signals(config)[0]
    assert (first.channels, [first.size] * 2, first.rate, first.cutoff) == tuple(about["input"].values())
    for own, wanted in zip(layers(config), about["layers"], strict=True):
        made = {
            "name": own.name, "up": own.up, "down": own.down, "up_taps": own.up_taps, "down_taps": own.down_taps,
            "padding": [*own.padding, *own.padding], "in_size": [own.before.size] * 2,
            "out_size": [own.after.size] * 2, "in_channels": own.before.channels, "out_channels": own.after.channels,
            "in_rate": own.before.rate, "out_rate": own.after.rate, "tmp_rate": own.rate, "critical": own.critical,
            "radial": own.radial,
        }  # fmt: skip
        assert made == {key: wanted[key] for key in made}
        for key in ("cutoff", "half_width"):
            assert getattr(own.before, key) == pytest.approx(wanted[f"in_{key}"], rel=1e-12)
            assert getattr(own.after, key) == pytest.approx(wanted[f"out_{key}"], rel=1e-12)


def test_filters_are_the_published_ones():
    _, config, generator, *_ = published("sg3_t_32")
    for own, conv in zip(layers(config), generator.synthesis.convs, strict=True):
        for wanted, made in ((conv.up_filter, own.up_filter()), (conv.down_filter, own.down_filter())):
            assert (wanted is None) == (made is None)
            assert made is None or np.abs(wanted.numpy() - made).max() < 1e-6


@every_set
def test_a_published_seed_gives_the_published_bytes(name, tmp_path):
    about, config, *_, io = published(name)
    tensors = {key: value.numpy() for key, value in load_file(FIXTURES / f"{name}.g.safetensors").items()}
    saved = Checkpoint(tmp_path, about["kind"], config.model_dump(mode="json"), columns(config))
    save(tmp_path / "it", saved, tensors, "# it\n")
    model = genreg.load(tmp_path / "it", options={"seeding": "randomstate", "device": "cpu"})
    given = {"label": int(io["c"][0].argmax())} if "c" in io else {}
    assert far(torch.from_numpy(model.model._latents(np.array([7], np.uint64))), io["z_seed7"]) == 0
    sampled = model.sample(1, seed=7, samplers=["truncate:psi=0.7"], given=given)
    pixels = np.asarray(sampled.images()[0]).reshape(io["img_seed7_uint8"].shape[1:]).astype(int)
    assert np.abs(pixels - io["img_seed7_uint8"][0].numpy()).max() <= 1
    assert (pixels == io["img_seed7_uint8"][0].numpy()).mean() > 0.999
