"""From the arguments that published networks were made with to configs; an argument that is not known is refused.

A constructor takes the mapping network's arguments in ``mapping_kwargs``, and the synthesis network's either in
``synthesis_kwargs`` (the edition of 2020) or beside the others (that of 2021). What a layer does in the end (its clamp)
is read from the layer, since the two editions differ in what they do without being told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from genreg.errors import CheckpointError
from genreg.options import bind, of_model
from genreg_stylegan.config import Discriminator, Stylegan2Config, Stylegan3Config
from genreg_stylegan.officialfiles import Module

Config = Stylegan2Config | Stylegan3Config
C = TypeVar("C", bound=BaseModel)

GENERATOR = {
    "z_dim": "z_dim", "c_dim": "c_dim", "w_dim": "w_dim",
    "img_resolution": "resolution", "img_channels": "image_channels",
}  # fmt: skip
MAPPING = {
    "num_layers": "mapping_layers", "layer_features": "mapping_width", "embed_features": "embed_width",
    "lr_multiplier": "lr_multiplier", "activation": "activation", "w_avg_beta": "w_avg_beta",
}  # fmt: skip
CHANNELS = ("channel_base", "channel_max", "conv_clamp")
SYNTHESIS2 = {name: name for name in (*CHANNELS, "architecture", "use_noise", "activation")}
SYNTHESIS3 = {
    name: name
    for name in (
        *CHANNELS, "num_layers", "num_critical", "first_cutoff", "first_stopband", "last_stopband_rel", "margin_size",
        "output_scale", "conv_kernel", "filter_size", "lrelu_upsampling", "use_radial_filters", "magnitude_ema_beta",
    )
}  # fmt: skip
EPILOGUE = {"mbstd_group_size": "mbstd_group", "mbstd_num_channels": "mbstd_channels", "activation": "activation"}
CRITIC = {name: name for name in (*CHANNELS, "architecture", "cmap_dim")}
# How a GPU computes, which layers are frozen, and filters, which are in the file
UNUSED = ("num_fp16_res", "fp16_channels_last", "use_fp16", "freeze_layers", "resample_filter", "fused_modconv_default")


def generator_config(network: Module, *, alias_free: bool, settings: Mapping[str, Any]) -> Config:
    """The config of a generator; ``settings`` override. Raises CheckpointError for an argument that is not known."""
    given = network.arguments()
    mapping, nested = given.pop("mapping_kwargs", {}), given.pop("synthesis_kwargs", {})
    known = SYNTHESIS3 if alias_free else SYNTHESIS2
    found = {
        **renamed({**given, **_mapping(nested)}, {**GENERATOR, **known}, "generator"),
        **renamed(_mapping(mapping), MAPPING, "mapping network"),
    }
    first = next((name for name in network.tensors() if name.startswith("synthesis.L0_")), "..").split(".")[1]
    found |= _clamp(network.part("synthesis", *([first] if alias_free else ["b4", "conv1"])))
    beta = network.part("mapping").attribute("w_avg_beta")
    found |= {} if beta is None else {"w_avg_beta": beta}
    kind: type[Config] = Stylegan3Config if alias_free else Stylegan2Config
    return checked(kind, {**found, **told(kind, settings)})


def discriminator_config(network: Module, resolution: int) -> Discriminator:
    """The config of a discriminator, which shares the generator's resolution, classes and image channels.

    Raises CheckpointError for an argument that is not known.
    """
    try:
        return _discriminator(network, resolution)
    except CheckpointError as error:
        raise CheckpointError(f"{error} (--only leaves the discriminator out)") from None


def _discriminator(network: Module, resolution: int) -> Discriminator:
    given = network.arguments()
    mapping, epilogue = given.pop("mapping_kwargs", {}), given.pop("epilogue_kwargs", {})
    block = given.pop("block_kwargs", {})
    shared = {name: given.pop(name) for name in GENERATOR if name in given}
    if shared.get("img_resolution", resolution) != resolution:
        raise CheckpointError(
            f"the discriminator takes {shared['img_resolution']} pixels, the generator has {resolution}"
        )
    found = {
        **renamed({**given, **_mapping(block)}, {**CRITIC, "activation": "activation"}, "discriminator"),
        **renamed(_mapping(epilogue), EPILOGUE, "discriminator's last block"),
        **renamed(_mapping(mapping), MAPPING, "discriminator's mapping network"),
    }
    found.pop("w_avg_beta", None)
    return checked(Discriminator, found | _clamp(network.part(f"b{resolution}", "conv0")))


def _clamp(layer: Module) -> dict[str, Any]:
    """The clamp of a layer as an argument, where the layer has any, none among them."""
    return {"conv_clamp": layer.attribute("conv_clamp")} if "conv_clamp" in layer.state else {}


def told(config: type[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--set`` says, typed as the config's fields; raises UsageError for a name or value that is wrong."""
    return bind(of_model(config), settings, "--set ")


def renamed(given: Mapping[str, Any], known: Mapping[str, str], whose: str) -> dict[str, Any]:
    """Arguments by the config's names; raises CheckpointError for one that has none."""
    strange = [name for name in given if name not in known and name not in UNUSED]
    if strange:
        raise CheckpointError(
            f"the {whose} was made with {strange[0]!r:.80}={given[strange[0]]!r:.40}, which no StyleGAN2 or StyleGAN3 "
            "takes: it is another network"
        )
    return {known[name]: value for name, value in given.items() if name in known}


def checked(config: type[C], found: Mapping[str, Any]) -> C:
    """The config; raises CheckpointError with the first value that it does not take."""
    try:
        return config.model_validate(dict(found))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        value = f"{name}={found.get(name)!r:.40}: " if name else ""
        raise CheckpointError(f"{value}{first['msg'].removeprefix('Value error, ')}") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError("arguments of a part of the network are not written as names and values")
    return value
