"""Network pickles become checkpoints, bit for bit, and what is wrong with one is told in a line."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from stylegan_files import (
    CONFIGS,
    arguments_of,
    generator_of,
    generator_pickle,
    network,
    pickled,
    refusal,
    same,
    tensors_of,
)

from genreg.checkpoint import read
from genreg.errors import CheckpointError, GenregError, UsageError
from genreg_stylegan.arguments import SYNTHESIS3
from genreg_stylegan.config import DISCRIMINATOR, TRAINED, Stylegan2Config
from genreg_stylegan.convert import convert, read_networks
from genreg_stylegan.discriminator import Critic

pytestmark = pytest.mark.usefixtures("published_names")


@pytest.mark.parametrize(("name", "protocol"), [*((name, 4) for name in CONFIGS), ("skip", 3), ("t", 3), ("t", 5)])
def test_a_network_pickle_gives_its_tensors_and_its_config(tmp_path, name, protocol):
    config = CONFIGS[name].model_copy(update={"discriminator": None})
    tensors = tensors_of(generator_of(config))
    found = read_networks(generator_pickle(tmp_path / "x.pkl", config, tensors, protocol))
    assert found.config == config
    assert same(found.generator, tensors)
    assert found.trained is None


def test_a_checkpoint_holds_all_three_networks_and_its_family_reads_them(tmp_path):
    from genreg_stylegan.model import load_discriminator

    config = CONFIGS["skip"]
    averaged, trained = (tensors_of(generator_of(config), seed) for seed in (1, 2))
    critic = tensors_of(Critic(config, 16), 3)
    arguments = arguments_of(config, nested=True)
    critic_arguments = {
        "c_dim": 0, "img_resolution": 16, "img_channels": 3, "channel_base": 64, "channel_max": 8,
        "epilogue_kwargs": {"mbstd_group_size": 4}, "block_kwargs": {"freeze_layers": 2}, "mapping_kwargs": {},
    }  # fmt: skip
    path = pickled(
        tmp_path / "x.pkl", G=network(trained, arguments), G_ema=network(averaged, arguments),
        D=network(critic, critic_arguments, {"b16.conv0": {"conv_clamp": None}}, "Discriminator"),
    )  # fmt: skip
    done = convert(path, tmp_path / "made")
    assert done["beside"] == [DISCRIMINATOR, TRAINED]
    made = read(tmp_path / "made")
    assert (made.family, Stylegan2Config(**made.config)) == ("stylegan2", config)
    assert same(load_file(tmp_path / "made" / "model.safetensors"), averaged)
    assert same(load_file(tmp_path / "made" / TRAINED), trained)
    assert same(load_file(tmp_path / "made" / DISCRIMINATOR), critic)
    assert {
        name: one.numpy().tobytes() for name, one in load_discriminator(tmp_path / "made").state_dict().items()
    } == {name: one.numpy().tobytes() for name, one in critic.items()}
    assert convert(path, tmp_path / "made", network="G", only=True, force=True)["beside"] == []
    assert same(load_file(tmp_path / "made" / "model.safetensors"), trained)
    assert Stylegan2Config(**read(tmp_path / "made").config).discriminator is None


def test_what_layers_hold_is_believed_before_what_an_edition_would_take(tmp_path):
    """The editions of 2020 and 2021 clamp at nothing and at 256 where they are told nothing: the layers know."""
    config = CONFIGS["resnet"].model_copy(update={"conv_clamp": 256.0})
    arguments = arguments_of(config, nested=True)
    del arguments["synthesis_kwargs"]["conv_clamp"]
    attributes = {"synthesis.b4.conv1": {"conv_clamp": 256}, "mapping": {"w_avg_beta": 0.998}}
    path = pickled(tmp_path / "x.pkl", G_ema=network(tensors_of(generator_of(config)), arguments, attributes))
    assert read_networks(path).config == config
    assert read_networks(path, settings={"conv_clamp": "none"}).config.conv_clamp is None


def test_weights_in_another_order_in_memory_and_in_half_precision_keep_their_values(tmp_path):
    config = CONFIGS["skip"]
    tensors = tensors_of(generator_of(config))
    stored = {
        name: one.to(memory_format=torch.channels_last) if one.ndim == 4 else one.half() if one.ndim == 1 else one
        for name, one in tensors.items()
    }
    found = read_networks(generator_pickle(tmp_path / "x.pkl", config, stored))
    assert same(found.generator, {name: one.float().contiguous() for name, one in stored.items()})


def test_buffers_that_do_not_persist_are_left_out(tmp_path):
    config = CONFIGS["skip"]
    tensors = tensors_of(generator_of(config))
    fleeting = {"synthesis.b4": {"_non_persistent_buffers_set": {"magnitude_ema"}}}
    extra = {**tensors, "synthesis.b4.magnitude_ema": torch.ones(3)}
    path = pickled(tmp_path / "x.pkl", G_ema=network(extra, arguments_of(config, nested=True), fleeting))
    assert same(read_networks(path).generator, tensors)


# ---- what is wrong with a network ----


def without(name: str):
    return lambda tensors: {key: one for key, one in tensors.items() if key != name}


def replaced(name: str, tensor: torch.Tensor):
    return lambda tensors: {**tensors, name: tensor}


WRONG = {
    "a tensor is missing": (
        without("synthesis.b8.conv0.bias"),
        {},
        "FILE: the generator does not fit its config: synthesis.b8.conv0.bias is missing",
    ),
    "a tensor too many": (
        replaced("synthesis.b8.extra", torch.ones(2)),
        {},
        "FILE: the generator does not fit its config: synthesis.b8.extra is not expected",
    ),
    "w_avg of another width": (
        replaced("mapping.w_avg", torch.ones(5)),
        {},
        "mapping.w_avg is F32 [5], expected F32 [6]",
    ),
    "double precision": (
        replaced("mapping.w_avg", torch.ones(6).double()),
        {},
        "FILE: mapping.w_avg holds float64, and networks hold float32 or less",
    ),
    "whole numbers": (replaced("mapping.w_avg", torch.ones(6).long()), {}, "FILE: mapping.w_avg holds int64"),
    "no power of two": (None, {"img_resolution": 24}, "FILE: resolution=24: 24 is no power of two, such as 16 or 32"),
    "another resolution": (None, {"img_resolution": 32}, "synthesis.b32.conv0.weight is missing"),
    "an argument of another network": (
        None,
        {"sigma": 3},
        "the generator was made with 'sigma'=3, which no StyleGAN2 or StyleGAN3 takes: it is another network",
    ),
    "arguments that are none": (
        None,
        {"mapping_kwargs": 3},
        "FILE: arguments of a part of the network are not written as names and values",
    ),
    "an activation of its own": (
        None,
        {"synthesis_kwargs": {"activation": "swish"}},
        "FILE: activation='swish': Input should be 'lrelu'",
    ),
    "neither of the two": (
        without("synthesis.b4.const"),
        {},
        "FILE: G_ema ('Generator') is neither a StyleGAN2 nor a StyleGAN3",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_network_that_does_not_fit_is_told_by_name(tmp_path, what):
    change, arguments, message = WRONG[what]
    tensors = tensors_of(generator_of(CONFIGS["skip"]))
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"], change(tensors) if change else tensors, **arguments)
    assert message in refusal(path, CheckpointError)


IMPOSSIBLE = {
    "a filter of many taps": (
        {"filter_size": 64, "lrelu_upsampling": 16},
        "its filters would have 1,024 taps, and 128 are",
    ),
    "a stopband of nothing": ({"first_stopband": 1e-300}, "its arguments describe layers that cannot be: "),
    "no layers": ({"num_layers": 0}, "num_layers=0: Input should be greater than or equal to 1"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_network_that_cannot_be_is_told(tmp_path, what):
    arguments, message = IMPOSSIBLE[what]
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["r"], **arguments)
    assert message in refusal(path, CheckpointError)


NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 16, 64, 65, 4096, 2**31, 2**100, -1, 0.5, 1e-300, 1e300, float("inf")])
VALUES = NUMBERS | st.sampled_from([None, True, "", "skip", "lrelu", (), [1, 3, 3, 1], {}, {"num_layers": 2}])
ARGUMENTS = st.sampled_from(["img_resolution", "channel_base", "conv_clamp", "mapping_kwargs", "z_dim", *SYNTHESIS3])


@given(st.dictionaries(ARGUMENTS, VALUES, min_size=1, max_size=3), st.sampled_from(["t", "r"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_arguments_are_a_network_or_refused(tmp_path, arguments, name):
    tensors = {"mapping.fc0.weight": torch.ones(6, 8), "synthesis.input.freqs": torch.ones(8, 2)}
    refusal(generator_pickle(tmp_path / "x.pkl", CONFIGS[name], tensors, **arguments), GenregError)


def test_a_discriminator_of_another_size_is_told(tmp_path):
    config = CONFIGS["skip"]
    generator = network(tensors_of(generator_of(config)), arguments_of(config, nested=True))
    path = pickled(tmp_path / "x.pkl", G_ema=generator, D=network({}, {"img_resolution": 32}))
    told = "FILE: the discriminator takes 32 pixels, the generator has 16 (--only leaves the discriminator out)"
    assert refusal(path, CheckpointError) == told
    assert read_networks(path, only=True).discriminator is None


def test_a_network_that_is_not_in_the_file_is_told(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    assert refusal(path, CheckpointError, network="G") == "FILE: it has no G; there are: G_ema"
    assert "FILE is refused, and nothing in it was run: it holds none of the networks" in refusal(
        pickled(tmp_path / "y.pkl")
    )


def test_settings_are_checked(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    for wrong, message in (
        ({"conv_clam": "3"}, "--set conv_clam=3: there is no conv_clam; did you mean conv_clamp?"),
        ({"conv_clamp": "much"}, "--set conv_clamp=much: "),
    ):
        with pytest.raises(UsageError, match=message.replace("?", r"\?")):
            read_networks(path, settings=wrong)
