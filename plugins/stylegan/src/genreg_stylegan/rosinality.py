"""The .pt files of rosinality's StyleGAN2 in PyTorch: another spelling of the same network.

Its parameters are the published layout's under other names, some with axes of length 1 in front. Blur kernels are kept
once for each layer that resamples, times 4 where it enlarges; all are the same binomial, which is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from genreg.draft import Array
from genreg.errors import CheckpointError
from genreg.random import Stream, normal
from genreg_stylegan.shapes import mapping_layers

BINOMIAL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
LAYER = {
    "conv.weight": "weight", "conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias",
    "activate.bias": "bias", "noise.weight": "noise_strength",
}  # fmt: skip
TO_RGB = {name: ours for name, ours in LAYER.items() if name.startswith("conv.")} | {"bias": "bias"}
WIDEST = 1 << 16  # numbers of z
AVERAGED = 4096  # draws of z whose mean is w_avg where the file has none, as its own scripts do


def is_rosinality(names: Mapping[str, Any]) -> bool:
    """Whether the names are those of rosinality's generator."""
    return {"input.input", "style.1.weight", "conv1.conv.weight"} <= set(names)


def generator(found: Mapping[str, Array], latent_avg: Array | None) -> dict[str, Array]:
    """Its generator in the published layout; raises CheckpointError for a name that is no part of it."""
    made: dict[str, Array] = {}
    for name, tensor in found.items():
        if name.endswith(".kernel"):
            _check_kernel(name, tensor)
            continue
        ours = _generator_name(name)
        if ours is None:
            raise CheckpointError(f"{name} is no part of rosinality's generator")
        made[ours] = _without_ones(ours, tensor)
    _add_filters(made)
    _check_mapping(made)
    average = mean_style(made) if latent_avg is None else np.asarray(latent_avg, np.float32).reshape(-1)
    return {**made, "mapping.w_avg": average}


def _generator_name(name: str) -> str | None:
    """The published name of a tensor of rosinality's generator; None for one that is no part of it."""
    if name == "input.input":
        return "synthesis.b4.const"
    if match := re.fullmatch(r"style\.(\d{1,2})\.(weight|bias)", name):
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        return f"{_layer(int(match[1]) - 1)}.noise_const"
    head, _, rest = name.partition(".")
    if head == "conv1":
        return f"{_layer(-1)}.{LAYER[rest]}" if rest in LAYER else None
    if head == "to_rgb1":
        return f"synthesis.b4.torgb.{TO_RGB[rest]}" if rest in TO_RGB else None
    number, _, rest = rest.partition(".")
    if not re.fullmatch(r"\d{1,2}", number):
        return None
    if head == "convs" and rest in LAYER:
        return f"{_layer(int(number))}.{LAYER[rest]}"
    if head == "to_rgbs" and rest in TO_RGB:
        return f"synthesis.b{8 << int(number)}.torgb.{TO_RGB[rest]}"
    return None


def _layer(number: int) -> str:
    """Where the layer ``convs.number`` lies; -1 is conv1, which alone works at 4 x 4."""
    return "synthesis.b4.conv1" if number < 0 else f"synthesis.b{8 << number // 2}.conv{number % 2}"


def _without_ones(ours: str, tensor: Array) -> Array:
    """A tensor in its published shape: the axes of length 1 are those that convolution and broadcasting wanted."""
    if ours.endswith("noise_strength"):
        return tensor.reshape(()) if tensor.size == 1 else tensor
    if ours.endswith("noise_const"):
        return tensor.reshape(tensor.shape[-2:]) if tensor.shape[:-2] == (1, 1) else tensor
    if ours.endswith(("torgb.bias", "conv0.bias", "conv1.bias")):
        return tensor.reshape(-1)
    leading = ours.endswith(("const", "torgb.weight", "conv0.weight", "conv1.weight"))
    return tensor[0] if leading and tensor.shape[:1] == (1,) else tensor


def _check_kernel(name: str, kernel: Array) -> None:
    if kernel.shape != (4, 4) or not any(np.allclose(kernel, gain * BINOMIAL, atol=1e-5) for gain in (1, 4)):
        raise CheckpointError(f"{name}: a blur kernel other than [1, 3, 3, 1] is not supported")


def _add_filters(made: dict[str, Array]) -> None:
    """Add the buffers that the published layout has in every block and convolution."""
    for place in {match[0] for name in made if (match := re.match(r"synthesis\.b\d+(\.conv\d)?(?=\.)", name))}:
        made[f"{place}.resample_filter"] = BINOMIAL
        made[f"{place.rpartition('.conv')[0] or place}.resample_filter"] = BINOMIAL


def _check_mapping(made: Mapping[str, Array]) -> None:
    """Raise CheckpointError where the mapping network cannot be followed from z to w."""
    width = made["mapping.fc0.weight"].shape[-1:]
    if width > (WIDEST,):
        raise CheckpointError(f"style.1 takes {width[0]:,} numbers, and {WIDEST:,} are the most")
    for layer in range(mapping_layers(made)):
        weight, bias = (made.get(f"mapping.fc{layer}.{kind}", np.empty(0)) for kind in ("weight", "bias"))
        if weight.ndim != 2 or weight.shape[1:] != width or bias.shape != weight.shape[:1]:
            raise CheckpointError(f"style.{layer + 1} is missing, or does not take what style.{layer} gives")
        width = weight.shape[:1]


def mean_style(made: Mapping[str, Array]) -> Array:
    """The mean of w over AVERAGED draws of z, for a file that has none: float32 [w_dim]."""
    seeds = np.arange(AVERAGED, dtype=np.uint64).reshape(-1, 64)
    return np.asarray(np.mean([_styles(made, some).mean(0) for some in seeds], axis=0), np.float32)


def _styles(made: Mapping[str, Array], seeds: Array) -> Array:
    """w of seeds: float64 [n, w_dim]."""
    w = normal(seeds, (made["mapping.fc0.weight"].shape[1],), stream=Stream.PRIOR)
    w = w / np.sqrt(np.square(w).mean(1, keepdims=True) + 1e-8)
    for layer in range(mapping_layers(made)):
        weight, bias = (made[f"mapping.fc{layer}.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
        w = w @ weight.T * (0.01 / math.sqrt(weight.shape[1])) + 0.01 * bias
        w = np.where(w < 0, 0.2 * w, w) * math.sqrt(2)
    return np.asarray(w)


def discriminator(found: Mapping[str, Array]) -> dict[str, Array]:
    """Its discriminator in the published layout; raises CheckpointError for a name that is no part of it."""
    blocks = [int(match[1]) for name in found if (match := re.fullmatch(r"convs\.(\d{1,2})\.conv1\.0\.weight", name))]
    largest = 4 << len(blocks)
    made: dict[str, Array] = {}
    for name, tensor in found.items():
        if name.endswith(".kernel"):
            _check_kernel(name, tensor)
            continue
        ours = _discriminator_name(name, largest)
        if ours is None:
            raise CheckpointError(f"{name} is no part of rosinality's discriminator")
        made[ours] = tensor
    for place in {name.rpartition(".")[0] for name in made}:
        if not place.startswith(("b4.fc", "b4.out")):
            made[f"{place}.resample_filter"] = BINOMIAL
        if not place.startswith("b4."):
            made[f"{place.partition('.')[0]}.resample_filter"] = BINOMIAL
    return made


FIRST = {"0.weight": "fromrgb.weight", "1.bias": "fromrgb.bias"}
BLOCK = {
    "conv1.0.weight": "conv0.weight", "conv1.1.bias": "conv0.bias", "conv2.1.weight": "conv1.weight",
    "conv2.2.bias": "conv1.bias", "skip.1.weight": "skip.weight",
}  # fmt: skip
LAST = {
    "final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias",
    "final_linear.0.weight": "b4.fc.weight", "final_linear.0.bias": "b4.fc.bias",
    "final_linear.1.weight": "b4.out.weight", "final_linear.1.bias": "b4.out.bias",
}  # fmt: skip


def _discriminator_name(name: str, largest: int) -> str | None:
    """The same for its discriminator, whose first block works at ``largest`` pixels."""
    match = re.fullmatch(r"convs\.(\d{1,2})\.(.+)", name)
    if match is None:
        return LAST.get(name)
    number, rest = int(match[1]), match[2]
    if number == 0:
        return f"b{largest}.{FIRST[rest]}" if rest in FIRST else None
    return f"b{largest >> number - 1}.{BLOCK[rest]}" if rest in BLOCK else None
