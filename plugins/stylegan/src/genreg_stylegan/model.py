"""StyleGAN as a model: W+ is proposed, samplers edit it, the synthesis network paints it.

The mapping network is part of ``propose``, so that drafts are W+ [num_ws, w_dim] and their center is w_avg: truncation,
mixing and interpolation are edits of the space in which they are good. z and the noise of ``noise_mode=random`` follow
from a row's seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.checkpoint import Weights, read
from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, UsageError
from genreg.images import images
from genreg.random import Stream, normal, uniform
from genreg_stylegan import painting, painting3
from genreg_stylegan.config import (
    DISCRIMINATOR,
    Stylegan2Config,
    Stylegan2Options,
    Stylegan3Config,
    StyleganOptions,
    columns,
)
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.layers import Mapping as MappingNetwork
from genreg_stylegan.painting import Painter
from genreg_stylegan.stylegan2 import Generator2, Noise, no_noise
from genreg_stylegan.stylegan3 import Generator3
from genreg_torch.devices import device_of, exact, free_bytes
from genreg_torch.memory import parameters, spelled
from genreg_torch.weights import load_into

Config: TypeAlias = Stylegan2Config | Stylegan3Config
G = TypeVar("G", Generator2, Generator3)
FAMILIES = {Stylegan2Config: "stylegan2", Stylegan3Config: "stylegan3"}
PROPOSED = 1024  # rows that pass through the mapping network together
MOST_SEED = 2**32  # of numpy's RandomState


@dataclass(frozen=True, eq=False)
class StyledImages:
    """W+ [num_ws, w_dim] from the mapping network, painted by the synthesis network."""

    config: Config
    options: StyleganOptions
    mapping: MappingNetwork  # float64, on the CPU: a seed's w does not depend on the rows beside it
    paint: Painter
    device: torch.device
    parameters: int

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """W+ of each seed, of the given class or of one that is drawn; StyleGAN3's place rides along."""
        config = self.config
        z = self._latents(seeds)
        c = self._classes(seeds, given) if config.c_dim else None
        w = np.empty((len(seeds), config.w_dim), np.float32)
        with torch.no_grad():
            for start in range(0, len(seeds), PROPOSED):
                at = slice(start, start + PROPOSED)
                one_hot = None if c is None else F.one_hot(torch.from_numpy(c[at]), config.c_dim).double()
                w[at] = self.mapping(torch.from_numpy(z[at]).double(), one_hot).numpy()
        shape = (len(seeds), config.num_ws, config.w_dim)
        center = np.broadcast_to(self.mapping.w_avg.float().numpy(), shape[1:])
        context = placed(given) if isinstance(config, Stylegan3Config) else {}
        return Draft(np.broadcast_to(w[:, None], shape), seeds, ("layer", "channel"), center, context=context)

    def render(self, draft: Draft, /) -> Batch:
        """Pictures uint8 [R, R, c], one after another."""
        config = self.config
        wanted = (config.num_ws, config.w_dim)
        if draft.values.shape[1:] != wanted:
            raise UsageError(f"w+ is {list(wanted)} in this model, and these are {list(draft.values.shape[1:])}")
        out = np.empty((len(draft), config.resolution, config.resolution, config.image_channels), np.uint8)
        ws = torch.from_numpy(np.array(draft.values, np.float32)).to(self.device)
        with exact():
            made = self.paint(ws, self._noise(draft.seeds), self._transforms(draft.context, len(draft)))
            for row, picture in enumerate(made):
                levels = (picture * 127.5 + 128).clamp_(0, 255).to(torch.uint8)  # truncated, as published pictures are
                out[row] = levels.permute(1, 2, 0).cpu().numpy()
        return pa.RecordBatch.from_arrays([images(out)], schema=columns(config))

    def plan(self, drafts: Iterator[Draft], /) -> Mapping[str, str]:  # noqa: ARG002 - every picture takes the same
        """Parameters, and the memory that weights and one picture take."""
        needed = bytes_needed(self.config, self.options.dtype, self.parameters)
        return {"parameters": f"{self.parameters:,}", "memory": f"{spelled(needed)} for weights and one picture"}

    def describe(self) -> str:
        """Which layers of W+ paint at which size: what ``mix`` and ``truncate`` are told."""
        lines = [f"W+: {self.config.num_ws} layers of {self.config.w_dim}"]
        return "\n".join([*lines, *(f"  layers {span}: {what}" for span, what in spans(self.config))])

    # ---- the parts ----

    def _latents(self, seeds: Seeds) -> Array:
        """z of each seed: float32 [n, z_dim]."""
        width = self.config.z_dim
        if self.options.seeding == "philox":
            return normal(seeds, (width,), stream=Stream.PRIOR, dtype=np.float32)
        if len(seeds) and int(seeds.max()) >= MOST_SEED:
            raise UsageError(f"seed {seeds.max()}: seeding=randomstate takes seeds below {MOST_SEED:,}")
        rows: list[Array] = [np.random.RandomState(int(seed)).randn(1, width) for seed in seeds]
        z: Array = np.concatenate([np.empty((0, width)), *rows]).astype(np.float32)
        return z

    def _classes(self, seeds: Seeds, given: Batch) -> Array:
        """The class of each row, drawn alike where it is not given: int64 [n]."""
        count, names = self.config.c_dim, self.config.classes
        found: Array = np.floor(uniform(seeds, stream=Stream.PATH) * count).astype(np.int64)
        if "label" not in given.schema.names:
            return found
        for row, label in enumerate(given.column("label").to_pylist()):
            if label is None:
                continue
            at = names.index(label) if label in names else label
            if not isinstance(at, int) or not 0 <= at < count:
                there = ", ".join(names) if names else f"0-{count - 1}"
                raise UsageError(f"label={label}: there is no such class; there are: {there}")
            found[row] = at
        return found

    def _noise(self, seeds: Seeds) -> Noise | None:
        """What the layers add: None for the file's own."""
        mode = self.options.noise_mode if isinstance(self.options, Stylegan2Options) else "const"
        if mode != "random":
            return no_noise if mode == "none" else None

        def drawn(layer: int, resolution: int) -> Tensor:
            shape = (1, resolution, resolution)
            plane = normal(seeds, shape, stream=Stream.RENDER, step=layer, dtype=np.float32)
            return torch.from_numpy(plane).to(self.device)

        return drawn

    def _transforms(self, context: Mapping[str, Array], n: int) -> Tensor | None:
        """Where each picture lies: float32 [n, 3, 3]; None where all lie as they are."""
        if not isinstance(self.config, Stylegan3Config) or not any(context[name].any() for name in PLACE):
            return None
        moved = [inverse_place(context["translation"][row], context["rotation"][row]) for row in range(n)]
        return torch.from_numpy(np.stack(moved)).to(self.device, torch.float32)


# ---- StyleGAN3's place ----

PLACE = ("translation", "rotation")


def placed(given: Batch) -> dict[str, Array]:
    """How far each picture is moved, float64 [n, 2], and turned, float64 [n]; raises UsageError for no pair."""
    moves, turns = np.zeros((given.num_rows, 2)), np.zeros(given.num_rows)
    for row, pair in enumerate(given.column("translation").to_pylist() if "translation" in given.schema.names else []):
        if pair is not None:
            if len(pair) != 2 or None in pair:
                raise UsageError(f"translation={pair}: two numbers are needed, right and down, such as [0.1, 0]")
            moves[row] = pair
    for row, turn in enumerate(given.column("rotation").to_pylist() if "rotation" in given.schema.names else []):
        turns[row] = turn or 0.0
    return {"translation": moves, "rotation": turns}


def inverse_place(translation: Array, rotation: float) -> Array:
    """The matrix [3, 3] that takes a place in the moved picture back to where its paint lies.

    The picture is turned about its center, then moved; y points down, and an angle is counterclockwise to the eye.
    """
    angle = np.deg2rad(rotation)
    turned = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = np.array([[1, 0, translation[0]], [0, 1, translation[1]], [0, 0, 1]])
    return np.asarray(np.linalg.inv(moved @ turned))


# ---- loading ----


def spans(config: Config) -> list[tuple[str, str]]:
    """Ranges of W+'s layers, and what they paint."""
    if isinstance(config, Stylegan3Config):
        from genreg_stylegan.layout import layers

        return [("0", "where the picture lies"), *((str(one.number + 1), one.name) for one in layers(config))]
    made = [("0", "4 x 4")]
    for k, side in enumerate(config.resolutions[1:]):
        made.append((f"{2 * k + 1}-{2 * k + 2}", f"{side} x {side}"))
    return [*made, (str(config.num_ws - 1), "colors at the end")]


def load2(config: Stylegan2Config, options: Stylegan2Options, weights: Weights | None) -> StyledImages:
    """The model of a StyleGAN2 checkpoint; raises CheckpointError for weights that do not fit its config."""
    device = device_of(options.device)
    generator = _loaded(lambda: Generator2(config), config, options, weights, device)
    paint = painting.painter2(generator.synthesis, device, getattr(torch, options.dtype))
    return _model(config, options, generator, paint, device)


def load3(config: Stylegan3Config, options: StyleganOptions, weights: Weights | None) -> StyledImages:
    """The model of a StyleGAN3 checkpoint; raises CheckpointError for weights that do not fit its config."""
    device = device_of(options.device)
    generator = _loaded(lambda: Generator3(config), config, options, weights, device)
    paint = painting3.painter3(generator.synthesis, device, getattr(torch, options.dtype))
    return _model(config, options, generator, paint, device)


def _loaded(
    make: Callable[[], G], config: Config, options: StyleganOptions, weights: Weights | None, device: torch.device
) -> G:
    """The generator with its weights; raises CheckpointError and UsageError for what does not fit, here or at all."""
    family = FAMILIES[type(config)]
    if weights is None:
        raise CheckpointError(f"{family} needs its weights: model.safetensors")
    found = kind_of(weights)
    if found and found != family:
        raise CheckpointError(f"{weights.path} holds the tensors of {found}, and its config.json says {family}")
    if options.dtype == "float16":
        raise UsageError("dtype=float16 overflows in a StyleGAN: take float32 or bfloat16")
    count = sum(int(np.prod(shape)) for shape, _ in weights.header.values())
    refuse_too_large(config, options.dtype, count, device)
    generator = load_into(make, weights, device=device)
    return generator.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def _model(
    config: Config, options: StyleganOptions, generator: Generator2 | Generator3, paint: Painter, device: torch.device
) -> StyledImages:
    mapping = deepcopy(generator.mapping).cpu().double()
    return StyledImages(config, options, mapping, paint, device, parameters([generator]))


def generator_of(config: Config) -> Generator2 | Generator3:
    """A generator of the config, freshly initialized."""
    return Generator2(config) if isinstance(config, Stylegan2Config) else Generator3(config)


def kind_of(weights: Weights) -> str | None:
    """The family whose tensors these are; None where they are nobody's."""
    if "synthesis.input.freqs" in weights.header:
        return "stylegan3"
    return "stylegan2" if "synthesis.b4.const" in weights.header else None


def bytes_needed(config: Config, dtype: str, weights: int) -> int:
    """Memory of that many weights and of one picture, about."""
    kind: torch.dtype = getattr(torch, dtype)
    if isinstance(config, Stylegan2Config):
        return painting.bytes_needed(config, kind, weights)
    return painting3.bytes_needed(config, kind, weights)


def refuse_too_large(config: Config, dtype: str, weights: int, device: torch.device) -> None:
    """Raise UsageError where weights and one picture do not fit into the memory that there is, with what would."""
    needed, room = bytes_needed(config, dtype, weights), memory_of(device)
    if needed <= room:
        return
    smaller = bytes_needed(config, "bfloat16", weights)
    less = f"--option dtype=bfloat16 takes {spelled(smaller)}"
    way = less if smaller < min(needed, room) else "end other programs, or take a device that has more"
    raise UsageError(
        f"a picture of {config.resolution} x {config.resolution} takes {spelled(needed)} with the weights, and "
        f"{device} has {spelled(room)}: {way}"
    )


def memory_of(device: torch.device) -> int:
    """Bytes that can be had on the device; on Linux what files lie in counts too, for it is given back."""
    about = Path("/proc/meminfo")
    if device.type == "cpu" and about.is_file():
        lines = dict(line.split(":", 1) for line in about.read_text("utf-8").splitlines() if ":" in line)
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    return free_bytes(device)


def load_discriminator(folder: str | Path, *, device: str = "cpu") -> Critic:
    """The discriminator of a checkpoint that has one; raises CheckpointError where there is none, or does not fit."""
    saved = read(Path(folder))
    kinds: dict[str, Any] = {name: kind for kind, name in FAMILIES.items()}
    path = Path(folder) / DISCRIMINATOR
    if saved.family not in kinds or not path.is_file():
        raise CheckpointError(f"{folder} has no discriminator: only some StyleGAN checkpoints have {DISCRIMINATOR}")
    config: Config = kinds[saved.family].model_validate(dict(saved.config))
    return load_into(lambda: Critic(config, config.resolution), Weights.open(path), device=device_of(device))
