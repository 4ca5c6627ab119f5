"""Files of networks, as others write them, made on the spot: small ones, whole, wrong and hostile.

They are written by PyTorch and Python themselves, with stand-ins that carry the names of the published code's classes
and fail when they are called. What pickles them wants the fixture ``published_names``.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from genreg.errors import DataError, GenregError
from genreg_stylegan.config import Discriminator, Stylegan2Config, Stylegan3Config
from genreg_stylegan.convert import read_networks
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


class Evil:
    """What pickles as a call of ``exec``."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)
