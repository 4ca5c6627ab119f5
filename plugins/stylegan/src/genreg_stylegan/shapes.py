"""From the shapes of tensors to configs, for state dicts that come without their arguments.

Shapes tell all but the clamp of the convolutions and the learning-rate multiplier of the mapping network: these are
taken as they usually are, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from genreg.errors import CheckpointError
from genreg_stylegan.arguments import Config, checked, told
from genreg_stylegan.config import Discriminator, Stylegan2Config, Stylegan3Config
from genreg_stylegan.layout import layers, signals

Shapes = Mapping[str, tuple[int, ...]]

UNTOLD = ("conv_clamp", "lr_multiplier")


def is_stylegan3(shapes: Shapes) -> bool:
    """Whether the tensors are a StyleGAN3 generator's."""
    return "synthesis.input.freqs" in shapes


def is_generator(shapes: Shapes) -> bool:
    """Whether the tensors are a generator's, in the layout of published files."""
    return "mapping.fc0.weight" in shapes and ("synthesis.b4.const" in shapes or is_stylegan3(shapes))


def config_of_shapes(shapes: Shapes, settings: Mapping[str, Any]) -> Config:
    """The config of a generator; ``settings`` override. Raises CheckpointError where the shapes fit none."""
    try:
        if is_stylegan3(shapes):
            return _stylegan3(shapes, told(Stylegan3Config, settings))
        return _stylegan2(shapes, told(Stylegan2Config, settings))
    except (KeyError, ValueError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"its tensors are no whole generator: {error} is missing or has another shape") from None


def mapping_layers(names: Iterable[str]) -> int:
    """How many layers the mapping network has whose tensors bear these names."""
    return sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in names)


def _mapping(shapes: Shapes) -> dict[str, Any]:
    """What shapes tell of the mapping network."""
    count = mapping_layers(shapes)
    (w_dim,) = shapes["mapping.w_avg"]
    width, inputs = shapes["mapping.fc0.weight"]
    embed, classes = shapes.get("mapping.embed.weight", (0, 0))
    return {
        "z_dim": inputs - embed, "c_dim": classes, "w_dim": w_dim, "mapping_layers": count,
        "mapping_width": width if count > 1 and width != w_dim else None,
        "embed_width": embed if classes and embed != w_dim else None,
    }  # fmt: skip


def _stylegan2(shapes: Shapes, settings: Mapping[str, Any]) -> Stylegan2Config:
    """The config of a StyleGAN2 generator of these shapes."""
    sizes = sorted({int(found[1]) for name in shapes if (found := re.match(r"synthesis\.b(\d{1,5})\.", name))})
    last = sizes[-1]
    residual = len(sizes) > 1 and f"synthesis.b{last}.skip.weight" in shapes
    return checked(
        Stylegan2Config,
        {
            **_mapping(shapes), "resolution": last, "image_channels": shapes[f"synthesis.b{last}.torgb.weight"][0],
            "architecture": "skip" if "synthesis.b4.torgb.weight" in shapes else "resnet" if residual else "orig",
            "use_noise": "synthesis.b4.conv1.noise_strength" in shapes,
            **channels({size: shapes[f"synthesis.b{size}.conv1.weight"][0] for size in sizes}), **settings,
        },
    )  # fmt: skip


def channels(found: Mapping[int, int]) -> dict[str, int]:
    """channel_base and channel_max with min(base // r, max) channels at each resolution r.

    >>> channels({4: 512, 64: 512, 128: 256})
    {'channel_base': 32768, 'channel_max': 512}
    """
    most = max(found.values())
    below = [size * count for size, count in found.items() if count < most]
    base = max(below, default=most * max(found))
    if any(min(base // size, most) != count for size, count in found.items()):
        raise CheckpointError(f"the channels of the resolutions ({dict(found)}) follow no StyleGAN's rule")
    return {"channel_base": base, "channel_max": most}


def discriminator_of_shapes(shapes: Shapes) -> Discriminator:
    """The same for a discriminator; the group of its minibatch deviation is taken as 4."""
    try:
        return _discriminator(shapes)
    except (KeyError, ValueError, IndexError, ArithmeticError) as error:
        raise CheckpointError(
            f"its tensors are no whole discriminator: {error} is missing or has another shape"
        ) from None


def _discriminator(shapes: Shapes) -> Discriminator:
    sizes = sorted(int(found[1]) for name in shapes if (found := re.fullmatch(r"b(\d{1,5})\.conv0\.weight", name)))
    widths = {size: shapes[f"b{size}.conv0.weight"][0] for size in sizes} | {4: shapes["b4.conv.weight"][0]}
    residual = any(name.endswith(".skip.weight") for name in shapes)
    architecture = "resnet" if residual else "skip" if "b4.fromrgb.weight" in shapes else "orig"
    features = shapes["b4.conv.weight"][1] - widths[4]
    return checked(Discriminator, {"architecture": architecture, "mbstd_channels": features, **channels(widths)})


def _stylegan3(shapes: Shapes, settings: Mapping[str, Any]) -> Stylegan3Config:
    """The config whose layers are called as these tensors are; raises CheckpointError where none of the usual is."""
    found = {
        int(m[1]): m for name in shapes if (m := re.match(r"synthesis\.(?:L(\d{1,3})_(\d{1,5})_(\d{1,6}))\.", name))
    }
    names = [found[number][0] for number in range(len(found))]
    widths = [int(found[number][3]) for number in range(len(found))]
    fixed = {
        **_mapping(shapes), "resolution": int(found[len(found) - 1][2]), "image_channels": widths[-1],
        "num_layers": len(found) - 1, "channel_max": max(widths),
        "conv_kernel": shapes[f"{names[0]}weight"][2],
        "use_radial_filters": len(shapes.get(f"{names[0]}down_filter", ())) == 2,
    }  # fmt: skip
    for guess in _guesses(fixed, int(found[0][2]), settings):
        if [f"synthesis.{layer.name}." for layer in layers(guess)] == names:
            return guess
    raise CheckpointError(
        "the layers' sizes follow from no usual arguments: give those of training, such as --set channel_base=32768 "
        "--set num_critical=2 --set margin_size=10"
    )


def _guesses(fixed: Mapping[str, Any], first: int, settings: Mapping[str, Any]) -> Iterator[Stylegan3Config]:
    """Configs with usual numbers of critical layers and channels, and the margin that the first layer's size tells."""
    for critical in [number for number in (2, 1, 0, 3, 4) if number < fixed["num_layers"]]:
        for base in [1 << power for power in range(16, 4, -1)]:
            free = {**fixed, "num_critical": critical, "channel_base": base, "margin_size": 0, **settings}
            rate = signals(checked(Stylegan3Config, free))[0].rate
            margin = {"margin_size": max(first - rate, 0) // 2} if "margin_size" not in settings else {}
            yield checked(Stylegan3Config, {**free, **margin})
