"""Files of networks become checkpoints: every kind of file, bit for bit, and what is wrong with one in a line.

The files are written by PyTorch and Python themselves, with stand-ins that carry the names of the published code's
classes and fail when they are called. The published reference files are compared where they are there.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import save_file

from genreg.checkpoint import read
from genreg.errors import CheckpointError, DataError, GenregError, UsageError
from genreg_stylegan.arguments import SYNTHESIS3
from genreg_stylegan.config import DISCRIMINATOR, TRAINED, Discriminator, Stylegan2Config, Stylegan3Config
from genreg_stylegan.convert import convert, read_networks
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.shapes import channels
from genreg_stylegan.stylegan2 import Generator2
from genreg_stylegan.stylegan3 import Generator3

FIXTURES = Path(os.environ.get("GENREG_STYLEGAN_FIXTURES", "nowhere"))
published = pytest.mark.skipif(not FIXTURES.is_dir(), reason="GENREG_STYLEGAN_FIXTURES names no folder")

SMALL = {"z_dim": 8, "w_dim": 6, "resolution": 16, "channel_base": 64, "channel_max": 8, "mapping_layers": 2}
CRITIC = Discriminator(channel_base=64, channel_max=8)
CONFIGS = {
    "skip": Stylegan2Config(**SMALL, conv_clamp=256, discriminator=CRITIC),
    "resnet": Stylegan2Config(**SMALL, architecture="resnet", w_avg_beta=0.998),
    "orig": Stylegan2Config(**SMALL, architecture="orig", use_noise=False, c_dim=3, embed_width=5),
    "wide mapping": Stylegan2Config(**{**SMALL, "mapping_layers": 3}, mapping_width=7, image_channels=1),
    "4 pixels": Stylegan2Config(**{**SMALL, "resolution": 4}),
    "t": Stylegan3Config(**SMALL, num_layers=4, margin_size=3),
    "r": Stylegan3Config(**SMALL, num_layers=5, conv_kernel=1, use_radial_filters=True, c_dim=2),
}
BUFFERS = ("w_avg", "noise_const", "resample_filter", "magnitude_ema", "transform", "freqs", "phases", "_filter")


def generator_of(config: Stylegan2Config | Stylegan3Config) -> Generator2 | Generator3:
    return Generator2(config) if isinstance(config, Stylegan2Config) else Generator3(config)


def tensors_of(module: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random numbers in every tensor of a network, but for the filters."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor.clone() if "filter" in name else torch.randn(tensor.shape, generator=draw)
        for name, tensor in module.state_dict().items()
    }


class StandIn:
    """What pickles as an object of a published class: a record, by a function that must not run."""

    def __init__(self, class_name: str, state: dict[str, object]) -> None:
        self.record = {
            "type": "class", "version": 6, "module_src": "raise SystemExit('the source was run')",
            "class_name": class_name, "state": state,
        }  # fmt: skip

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.record,)


@pytest.fixture(autouse=True)
def _published_names(monkeypatch):
    def _reconstruct_persistent_obj(record):
        raise AssertionError("a function that the file names was called")

    class EasyDict(dict):
        def __setstate__(self, state):
            raise AssertionError("a class that the file names was used")

    for name, one in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        package, _, _ = name.partition(".")
        one.__module__, one.__qualname__ = name, one.__name__
        module = ModuleType(name)
        setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, name, module)


def network(
    tensors: dict[str, torch.Tensor], arguments: dict[str, object], attributes=None, name="Generator"
) -> StandIn:
    """A tree of stand-ins that holds tensors under their dotted names; ``attributes`` by the path of a module."""
    modules: dict[str, dict[str, object]] = {}

    def at(path: str) -> dict[str, object]:
        if path not in modules:
            modules[path] = {
                "training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(),
                "_non_persistent_buffers_set": set(), "_forward_hooks": OrderedDict(), "_init_args": (),
                "_init_kwargs": {}, "in_size": np.array([4, 4]), "gain": np.float64(1.5),
                **(attributes or {}).get(path, {}),
            }  # fmt: skip
            if path:
                above, _, own = path.rpartition(".")
                at(above)["_modules"][own] = StandIn("Part", modules[path])
        return modules[path]

    at("")["_init_kwargs"] = arguments
    for dotted, tensor in tensors.items():
        path, _, own = dotted.rpartition(".")
        if own.endswith(BUFFERS):
            at(path)["_buffers"][own] = tensor
        else:
            at(path)["_parameters"][own] = torch.nn.Parameter(tensor)
    return StandIn(name, modules[""])


def arguments_of(config: Stylegan2Config | Stylegan3Config, *, nested: bool) -> dict[str, object]:
    """The keywords that the published constructors would have been given."""
    mapping = {
        "num_layers": config.mapping_layers,
        "layer_features": config.mapping_width,
        "embed_features": config.embed_width,
    }
    given = {"z_dim": config.z_dim, "c_dim": config.c_dim, "w_dim": config.w_dim, "img_channels": config.image_channels}
    synthesis = {
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "conv_clamp": config.conv_clamp,
    }
    if isinstance(config, Stylegan2Config):
        synthesis |= {"architecture": config.architecture, "use_noise": config.use_noise, "num_fp16_res": 4}
    else:
        names = ("num_layers", "num_critical", "margin_size", "conv_kernel", "use_radial_filters")
        synthesis |= {name: getattr(config, name) for name in names}
    easy = sys.modules["dnnlib.util"].EasyDict
    parts = {"mapping_kwargs": easy(mapping), **({"synthesis_kwargs": easy(synthesis)} if nested else synthesis)}
    return easy(given, img_resolution=config.resolution, **parts)


def pickled(path: Path, protocol: int = 4, **networks: object) -> Path:
    path.write_bytes(
        pickle.dumps({"training_set_kwargs": {"path": "x.zip"}, **networks, "augment_pipe": None}, protocol)
    )
    return path


def generator_pickle(path: Path, config, tensors=None, protocol: int = 4, **changes: object) -> Path:
    tensors = tensors_of(generator_of(config)) if tensors is None else tensors
    arguments = {**arguments_of(config, nested=isinstance(config, Stylegan2Config)), **changes}
    attributes = {"mapping": {"w_avg_beta": config.w_avg_beta}}
    return pickled(path, protocol, G_ema=network(tensors, arguments, attributes))


def same(found: dict[str, np.ndarray], wanted: dict[str, torch.Tensor]) -> bool:
    """Whether names, shapes and bits are equal."""
    return found.keys() == wanted.keys() and all(
        found[name].dtype == np.float32
        and found[name].shape == tuple(one.shape)
        and found[name].tobytes() == one.numpy().tobytes()
        for name, one in wanted.items()
    )


def refusal(path: Path, kind: type[GenregError] = DataError, **how: object) -> str:
    with pytest.raises(kind) as refused:
        read_networks(path, **how)
    message = str(refused.value)
    assert message.count(str(path)) == 1
    return message.replace(str(path), "FILE")


# ---- network pickles ----


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


def test_bfloat16_becomes_the_float32_of_the_same_value(tmp_path):
    config = CONFIGS["skip"]
    stored = {name: one.bfloat16() for name, one in tensors_of(generator_of(config)).items()}
    torch.save(stored, tmp_path / "x.pt")
    assert same(read_networks(tmp_path / "x.pt").generator, {name: one.float() for name, one in stored.items()})


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


@given(st.dictionaries(st.sampled_from([
    "mapping.w_avg", "mapping.fc0.weight", "mapping.fc1.weight", "mapping.embed.weight", "synthesis.b4.const",
    "synthesis.b4.conv1.weight", "synthesis.b8.conv1.weight", "synthesis.b8.torgb.weight", "synthesis.input.freqs",
    "synthesis.L0_9_8.weight", "synthesis.L1_16_3.weight", "synthesis.L0_9_8.down_filter",
]), st.lists(st.integers(1, 9), max_size=4)))  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shapes_are_a_network_or_refused(tmp_path, shapes):
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "x.safetensors")
    refusal(tmp_path / "x.safetensors", GenregError)


def test_a_discriminator_of_another_size_is_told(tmp_path):
    config = CONFIGS["skip"]
    generator = network(tensors_of(generator_of(config)), arguments_of(config, nested=True))
    path = pickled(tmp_path / "x.pkl", G_ema=generator, D=network({}, {"img_resolution": 32}))
    told = "FILE: the discriminator takes 32 pixels, the generator has 16 (--only leaves the discriminator out)"
    assert refusal(path, CheckpointError) == told
    assert read_networks(path, only=True).discriminator is None


def test_names_that_no_module_gives_are_told_without_their_control_characters(tmp_path):
    save_file({"\x1b[2Jw": torch.ones(1)}, tmp_path / "x.safetensors")
    torch.save({"\x1b[2Jw": torch.ones(1)}, tmp_path / "x.pt")
    torch.save({7: torch.ones(1)}, tmp_path / "y.pt")
    for name in ("x.safetensors", "x.pt"):
        message = refusal(tmp_path / name, CheckpointError)
        assert message == r"FILE: it has a tensor named '\x1b[2Jw', and no module gives such a name"
    assert "it has a tensor named 7, and" in refusal(tmp_path / "y.pt", CheckpointError)


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


# ---- hostile networks ----


class Evil:
    """What pickles as a call of ``exec``."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def trees() -> dict[str, object]:
    """Networks that are trees in name alone, by what is wrong with them."""
    shared = StandIn("Part", {"_parameters": {}, "_modules": {}})
    wide = shared
    for _ in range(8):
        wide = StandIn("Part", {"_modules": {f"m{k}": wide for k in range(9)}})
    deep = StandIn("Part", {})
    for _ in range(18):
        deep = StandIn("Part", {"_modules": {"m": deep}})
    crowd = {f"p{k}": None for k in range(1000)}
    herd = StandIn("Part", {"_modules": {f"m{k}": StandIn("Part", {"_parameters": crowd}) for k in range(200)}})
    return {
        "it takes more steps to build": herd,
        "is no module, or one that is in several places": wide,
        "its modules nest more than 16 levels deep": deep,
        "synthesis is no module": StandIn("Part", {"_modules": {"synthesis": 3}}),
        "bias is no tensor": StandIn("Part", {"_parameters": {"bias": "x"}}),
        "are not named as a module's are": StandIn("Part", {"_parameters": {"../../x": torch.ones(1)}}),
    }


@pytest.mark.parametrize("message", trees())
def test_a_tree_that_is_none_is_refused(tmp_path, message):
    assert message in refusal(pickled(tmp_path / "x.pkl", G_ema=trees()[message]))


def test_attributes_that_are_no_plain_values_are_refused_and_not_spelled(tmp_path):
    """What doubles 60 times would take for ever to be written into a message."""
    config, twice = CONFIGS["skip"], ()
    for _ in range(60):
        twice = (twice, twice)
    tensors, arguments = tensors_of(generator_of(config)), arguments_of(config, nested=True)
    for attributes in ({"mapping": {"w_avg_beta": twice}}, {"synthesis.b4.conv1": {"conv_clamp": twice}}):
        path = pickled(tmp_path / "x.pkl", G_ema=network(tensors, arguments, attributes))
        assert "it has a network whose arguments are no plain values" in refusal(path)
    crooked = pickled(tmp_path / "x.pkl", G_ema=network(tensors, arguments), D=StandIn("D", {"_modules": [1]}))
    assert "the _modules of 'D' are not named as a module's are" in refusal(crooked)


def test_arguments_that_are_no_plain_values_are_refused(tmp_path):
    for value in (object, [[[[1]]]], {f"k{k}": 1 for k in range(65)}):
        path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"], z_dim=value)
        assert "FILE is refused, and nothing in it was run: it " in refusal(path)
    tensors = tensors_of(generator_of(CONFIGS["skip"]))
    unnamed = network(tensors, {}, {"": {"_init_args": (512,)}})
    assert "was made with arguments that have no names" in refusal(pickled(tmp_path / "x.pkl", G_ema=unnamed))


def test_code_in_a_network_is_refused_wherever_it_is(tmp_path):
    config, message = CONFIGS["skip"], ".exec', which no network needs: it may be there to run"
    tensors = tensors_of(generator_of(config))
    arguments = arguments_of(config, nested=True)
    for place in (
        {"G_ema": Evil()},
        {"G_ema": network(tensors, arguments), "D": Evil()},
        {"G_ema": network(tensors, {**arguments, "z_dim": Evil()})},
        {"G_ema": network(tensors, arguments, {"synthesis.b8": {"hook": Evil()}})},
        {"G_ema": network(tensors, arguments), "training_set": [{"a": Evil()}]},
    ):
        assert message in refusal(pickled(tmp_path / "x.pkl", **place))
    for older in (True, False):
        torch.save({"g_ema": Evil()}, tmp_path / "x.pt", _use_new_zipfile_serialization=older)
        assert message in refusal(tmp_path / "x.pt")


def test_a_file_with_something_behind_its_end_is_refused(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    path.write_bytes(path.read_bytes() + b"\x80\x04N.")
    assert "it has 4 bytes behind its end" in refusal(path)
    torch.save({"a": torch.ones(3)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes() + b"more")
    assert "it has 4 bytes behind its end" in refusal(tmp_path / "x.pt")


def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path):
    whole = generator_pickle(tmp_path / "x.pkl", CONFIGS["4 pixels"]).read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        (tmp_path / "x.pkl").write_bytes(whole[:length])
        assert "FILE is refused" in refusal(tmp_path / "x.pkl")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_pytorch_that_is_cut_off_is_refused(tmp_path, zipped):
    tensors = tensors_of(generator_of(CONFIGS["4 pixels"]))
    torch.save(tensors, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "x.pt").read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        assert "FILE is refused" in refusal(tmp_path / "x.pt")


# ---- tensors that do not lie within their storages ----

STORAGE = ("storage", torch.FloatStorage, "0", "cpu", 4)


class Call:
    """What pickles as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Pickler(pickle.Pickler):
    """Writes storages as PyTorch does: any tuple that begins with 'storage' becomes a persistent id."""

    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) and value is not STORAGE[:1] else None


def zipped(
    path: Path, value: object, members: dict[str, bytes] | None = None, *, folder="x", how=zipfile.ZIP_STORED
) -> Path:
    """A zip as PyTorch writes it, of a value and the bytes of its members."""
    head = io.BytesIO()
    Pickler(head, 2).dump(value)
    members = {"data/0": struct.pack("<4f", 1, 2, 3, 4)} if members is None else members
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in {"data.pkl": head.getvalue(), **members}.items():
            archive.writestr(name if name.startswith(("/", "..")) else f"{folder}/{name}", content)
    return path


def tensor(storage=STORAGE, offset=0, shape=(4,), strides=(1,)):
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())


TENSORS = {
    "beyond the end": tensor(offset=1),
    "before the beginning": tensor(offset=-1),
    "longer": tensor(shape=(5,)),
    "with a step beyond": tensor(shape=(2,), strides=(4,)),
    "with a step back": tensor(offset=3, strides=(-1,)),
    "of a billion from one": tensor(shape=(1_000_000_000,), strides=(0,)),
    "of more than all from a few": tensor(shape=(2, 2, 2), strides=(1, 1, 1)),
    "of two ideas": tensor(shape=(2, 2), strides=(1,)),
    "of many axes": tensor(shape=(1,) * 9, strides=(1,) * 9),
    "of text": tensor(shape=("4",)),
    "of nothing": tensor(shape=(0, 2**70), strides=(1, 1)),
    "of a truth": tensor(shape=(True,)),
    "of a huge number": tensor(shape=(2**62, 2**62, 2**62), strides=(0, 0, 0)),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, what):
    path = zipped(tmp_path / "x.pt", {"a": TENSORS[what]})
    assert "it has a tensor that does not lie within its storage" in refusal(path)


def test_a_step_over_nothing_may_be_of_any_length(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a.b": tensor(shape=(1, 4, 1), strides=(2**70, 1, 0))})
    assert "(1 tensors, such as a.b)" in refusal(path, CheckpointError)


STORAGES = {
    "longer than its bytes": (
        ("storage", torch.FloatStorage, "0", "cpu", 5),
        "its member x/data/0 is missing, or has another length",
    ),
    "shorter than its bytes": (
        ("storage", torch.FloatStorage, "0", "cpu", 3),
        "its member x/data/0 is missing, or has another length",
    ),
    "not there": (
        ("storage", torch.FloatStorage, "1", "cpu", 4),
        "its member x/data/1 is missing, or has another length",
    ),
    "of negative length": (("storage", torch.FloatStorage, "0", "cpu", -4), "a persistent id that is no storage"),
    "of no type": (("storage", "float", "0", "cpu", 4), "a persistent id that is no storage"),
    "of objects": (("storage", torch.Tensor, "0", "cpu", 4), "it asks for 'torch.Tensor'"),
    "elsewhere": (("storage", torch.FloatStorage, "../../x", "cpu", 4), "its member x/data/../../x is missing"),
    "a view of another": (
        ("storage", torch.FloatStorage, "0", "cpu", 4, ("v", 0, 2)),
        "a persistent id that is no storage",
    ),
    "no tuple": (("storage",), "a persistent id that is no storage"),
}


@pytest.mark.parametrize("what", STORAGES)
def test_a_storage_that_is_none_is_refused(tmp_path, what):
    storage, message = STORAGES[what]
    assert message in refusal(zipped(tmp_path / "x.pt", {"a": tensor(storage, shape=(3,))}))


def test_a_storage_of_two_types_is_refused(tmp_path):
    other = ("storage", torch.DoubleStorage, "0", "cpu", 4)
    path = zipped(tmp_path / "x.pt", {"a": tensor(), "b": tensor(other)})
    assert "a persistent id that is no storage" in refusal(path)


def test_many_tensors_of_one_storage_are_refused_before_they_take_memory(tmp_path):
    big = ("storage", torch.FloatStorage, "0", "cpu", 100_000)
    many = {f"t{k}": tensor(big, shape=(100_000,)) for k in range(50)}
    path = zipped(tmp_path / "x.pt", many, {"data/0": bytes(400_000)})
    assert "its tensors are 20,000,000 bytes, in a file of 40" in refusal(path)


ZIPS = {
    "compressed": ({"how": zipfile.ZIP_DEFLATED}, "is compressed or encrypted, which PyTorch's never are"),
    "of a name that climbs": ({"members": {"../../evil": b"x"}}, "its member '../../evil' points out of the archive"),
    "of a name at the root": ({"members": {"/etc/evil": b"x"}}, "its member '/etc/evil' points out of the archive"),
    "of a name that climbs as Windows would": ({"members": {"a\\b": b"x"}}, "points out of the archive"),
    "a program": ({"members": {"code/a.py": b"x"}}, "it is a TorchScript archive, which is a program"),
    "of two heads": ({"members": {"../x": b""}, "folder": "y"}, "points out of the archive"),
    "of another byte order": ({"members": {"byteorder": b"big"}}, "it was written on a big-endian machine"),
    "of a folder in a folder": (
        {"folder": "x/y"},
        "it is a zip, but none of PyTorch's: it has no data.pkl, or several",
    ),
}


@pytest.mark.parametrize("what", ZIPS)
def test_a_zip_that_pytorch_did_not_write_is_refused(tmp_path, what):
    how, message = ZIPS[what]
    assert message in refusal(zipped(tmp_path / "x.pt", {"a": 1}, **how))


def test_a_zip_bomb_takes_nothing(tmp_path):
    """64 MB of zeros in 64 kB are refused unread, because they are compressed."""
    head = io.BytesIO()
    Pickler(head, 2).dump({"a": tensor(("storage", torch.FloatStorage, "0", "cpu", 16 << 20), shape=(16 << 20,))})
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", head.getvalue(), zipfile.ZIP_STORED)
        archive.writestr("x/data/0", bytes(64 << 20))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    try:
        assert "its member x/data/0 is compressed or encrypted" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_zip_of_too_many_members_is_refused_before_they_are_listed(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": 1})
    path.write_bytes(path.read_bytes() + b"PK\x01\x02" * 100_001)
    assert "it is a zip of more than 100,000 members" in refusal(path)


@pytest.fixture(scope="module")
def small_files() -> list[bytes]:
    """A state dict of little, in both of PyTorch's formats."""
    tensors = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(2).half()}
    files = []
    for newer in (True, False):
        torch.save(OrderedDict(tensors), buffer := io.BytesIO(), _use_new_zipfile_serialization=newer)
        files.append(buffer.getvalue())
    return files


edits = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["set", "cut", "add"]), st.integers(0, 255)), max_size=4
)


@given(edits, st.integers(0, 1))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_of_pytorch_is_data_or_refused(tmp_path, small_files, changes, which):
    damaged = bytearray(small_files[which])
    for at, how, byte in changes:
        at %= len(damaged)
        damaged[at : at + (how != "add")] = b"" if how == "cut" else bytes([byte])
    (tmp_path / "x.pt").write_bytes(damaged)
    refusal(tmp_path / "x.pt", GenregError)  # and no other error: it is no generator at best


def test_a_zip_whose_members_lie_elsewhere_is_refused(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": tensor()})
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02")
    whole[at + 42 : at + 46] = struct.pack("<I", 7)  # the offset of the first member
    path.write_bytes(whole)
    assert "is not where the zip says" in refusal(path)


def test_a_zip_with_two_members_of_one_name_is_refused(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": 1})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x/data.pkl", b"\x80\x02N.")
    assert "it has two members of one name" in refusal(path)


# ---- state dicts ----


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


# ---- rosinality's files ----


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


# ---- the verb, and what it writes ----


def call(*words: object, capsys) -> tuple[int, str, str]:
    from genreg.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_verb_converts_asks_for_the_license_and_the_model_runs(tmp_path, capsys):
    path, folder = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"]), tmp_path / "made"
    code, out, err = call("convert", path, "-o", folder, capsys=capsys)
    assert (code, out) == (0, f"{folder}: stylegan2, 16 pixels, {read_networks(path).numbers:,} numbers\n")
    assert err == f"genreg: whose weights are these? {folder / 'README.md'} asks; --license notes the answer\n"
    card = (folder / "README.md").read_text("utf-8")
    assert "license: other\n---" in card
    assert "**Not stated.** Whoever trained the network" in card
    code, out, err = call("convert", path, "-o", folder, "--license", "CC0-1.0", "--force", "--json", capsys=capsys)
    assert (code, err, json.loads(out)["license"]) == (0, "", "CC0-1.0")
    assert "license: cc0-1.0\n---" in (folder / "README.md").read_text("utf-8")
    code, out, err = call("run", folder, "-n", "2", "--seed", "1", "-o", f"{tmp_path / 'pictures'}/", capsys=capsys)
    assert code == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_a_license_that_the_hub_does_not_know_is_written_as_it_is_named(tmp_path):
    convert(generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"]), tmp_path / "made", license_name='Ours: "see us"')
    front = (tmp_path / "made" / "README.md").read_text("utf-8").split("---")[1]
    assert 'license: other\nlicense_name: "Ours: \\"see us\\""\n' in front


def test_a_file_that_is_no_model_is_told_and_so_is_the_verb(tmp_path, capsys):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    code, out, err = call("run", path, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == (
        f"genreg: {path} is a pickle, which can run code when it is opened: genreg convert {path} -o FOLDER makes a "
        "checkpoint of it\n"
    )


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    (tmp_path / "made").mkdir()
    with pytest.raises(CheckpointError, match="made is there already: choose another name"):
        convert(path, tmp_path / "made")
    with pytest.raises(CheckpointError, match="is no checkpoint, so --force does not replace it"):
        convert(path, tmp_path / "made", force=True)


def test_a_failed_conversion_leaves_nothing(tmp_path):
    path = pickled(tmp_path / "x.pkl", G_ema=Evil())
    with pytest.raises(DataError):
        convert(path, tmp_path / "made")
    assert [one.name for one in tmp_path.iterdir()] == ["x.pkl"]


def test_files_that_are_none_are_told(tmp_path):
    for content, message in (
        (b"", "FILE is empty"),
        (b"GIF89a", "it is neither a network pickle nor a file of PyTorch's, nor safetensors"),
        (b"PK\x03\x04", "it is a zip that is damaged: "),
    ):
        (tmp_path / "x").write_bytes(content)
        assert message in refusal(tmp_path / "x")
    assert refusal(tmp_path / "none.pkl") == "FILE cannot be read: No such file or directory"
    assert refusal(tmp_path) == "FILE cannot be read: Is a directory"
    (tmp_path / "x.safetensors").write_bytes(b"x" * 20)
    assert "FILE: is not a readable safetensors file" in refusal(tmp_path / "x.safetensors", CheckpointError)


# ---- the published files ----


@published
def test_the_published_pickle_gives_the_reference_bits_and_pictures():
    name_of = "sg2_16_orig_nonoise"
    found = read_networks(FIXTURES / f"{name_of}.pkl")
    for tensors, name in ((found.generator, "g"), (found.discriminator, "d")):
        wanted = {
            key: torch.from_numpy(one) for key, one in load_file(FIXTURES / f"{name_of}.{name}.safetensors").items()
        }
        assert same(tensors, wanted)
    generator = generator_of(found.config)
    generator.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in found.generator.items()})
    critic = Critic(found.config, 16)
    critic.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in found.discriminator.items()})
    known = {name: torch.from_numpy(one) for name, one in load_file(FIXTURES / f"{name_of}.io.safetensors").items()}
    with torch.no_grad():
        assert (generator.styles(known["z"], known["c"]) - known["ws"]).abs().max() < 1e-6 * known["ws"].abs().max()
        for kind in ("", "_psi0.7", "_psi0.5_cut3", "_mix", "_plus"):
            made, wanted = generator.synthesis(known[f"ws{kind}"], None), known[f"img{kind}"]
            assert (made - wanted).abs().max() < 1e-6 * wanted.abs().max()
        logits = critic(known["d_in"], known["c"])
        assert (logits - known["d_logits"]).abs().max() < 5e-6 * known["d_logits"].abs().max()


@published
def test_the_published_hostile_file_is_refused(monkeypatch):
    monkeypatch.delenv("GENREG_PWNED", raising=False)
    assert "it asks for 'builtins.exec'" in refusal(FIXTURES / "evil_direct.pkl")
    assert "GENREG_PWNED" not in os.environ


@published
@pytest.mark.parametrize("name", ["sg2_32_uncond", "sg2_16_clamp", "sg2_16_orig_nonoise", "sg3_t_32"])
def test_the_published_state_dicts_tell_their_configs(name):
    told = json.loads((FIXTURES / f"{name}.json").read_text())["generator_kwargs"]
    config = read_networks(FIXTURES / f"{name}.g.safetensors").config
    assert config.mapping_layers == told["mapping_kwargs"]["num_layers"]
    given = {**told, **told.get("synthesis_kwargs", {})}
    for argument in (
        "z_dim",
        "c_dim",
        "w_dim",
        "channel_base",
        "channel_max",
        "num_layers",
        "margin_size",
        "architecture",
    ):
        if argument in given:
            assert getattr(config, argument) == given[argument]
