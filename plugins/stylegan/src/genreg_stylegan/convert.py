"""From a file that somebody trained to a checkpoint: read as data, understood, compared with the network, written.

The averaged generator goes into model.safetensors; the discriminator, and the generator as training left it, go beside
it where the file has them. Tensors keep their bits; half precision becomes the float32 of the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genreg import checkpoint as checkpoints
from genreg.checkpoint import Checkpoint, Weights
from genreg.draft import Array
from genreg.errors import CheckpointError, DataError
from genreg.files import sha256
from genreg_stylegan import rosinality, shapes
from genreg_stylegan.arguments import Config, discriminator_config, generator_config
from genreg_stylegan.config import DISCRIMINATOR, TRAINED, Stylegan2Config, Stylegan3Config, columns
from genreg_stylegan.layout import layers
from genreg_stylegan.licensing import card
from genreg_stylegan.officialfiles import Module, read_official
from genreg_stylegan.pickles import PickleError
from genreg_stylegan.torchfiles import MAGIC_BYTES, Tensor, mapped, read_older, read_zip

Tensors = dict[str, Array]
Which = Literal["G_ema", "G"]
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
MOST_TAPS = 128  # of a filter of StyleGAN3: published networks have 24
FLOATS = ("F32", "F16")
WHOLE = ("state_dict", "params_ema", "model")  # keys under which people put a state dict


@dataclass(frozen=True)
class Asked:
    """What of a file is wanted, and what the user knows of it."""

    network: Which
    settings: Mapping[str, Any]
    only: bool


@dataclass(frozen=True)
class Networks:
    """What a file holds, in the published layout."""

    kind: str  # of file, for the card
    config: Config
    generator: Tensors
    trained: Tensors | None = None
    discriminator: Tensors | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def family(self) -> str:
        """The family that reads it."""
        return "stylegan3" if isinstance(self.config, Stylegan3Config) else "stylegan2"

    @property
    def numbers(self) -> int:
        """How many the generator has, buffers among them."""
        return sum(tensor.size for tensor in self.generator.values())


def convert(
    path: Path,
    folder: Path,
    *,
    network: Which = "G_ema",
    settings: Mapping[str, Any] | None = None,
    license_name: str | None = None,
    only: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Write ``folder``, a checkpoint of the networks in ``path``, and say what was found (as JSON could hold it).

    ``network`` is the generator that becomes the model; ``settings`` are arguments of the architecture that the file
    does not tell, or tells wrongly; with ``only`` nothing is written beside the generator. Raises DataError for a file
    that is damaged or hostile, CheckpointError where the networks are not StyleGAN's, or ``folder`` is there.
    """
    checkpoints.refuse_existing_folder(folder, force=force)
    found = read_networks(path, network=network, settings=settings, only=only)
    config = found.config
    beside = {DISCRIMINATOR: found.discriminator, TRAINED: found.trained}
    written = {name: tensors for name, tensors in beside.items() if tensors is not None}
    source = {"file": path.name, "sha256": sha256(path), "kind": found.kind, "network": network}
    saved = Checkpoint(
        folder, found.family, config.model_dump(mode="json"), _columns(found.config), training={"converted": source}
    )
    text = card(folder.name, found.family, saved.config, source, sorted(written), license_name)
    checkpoints.save(folder, saved, found.generator, text, beside=written, force=force)
    return {
        "folder": str(folder), "family": found.family, "resolution": config.resolution,
        "numbers": found.numbers, "beside": sorted(written),
        "license": license_name, "source": source, "notes": found.notes,
    }  # fmt: skip


def read_networks(
    path: Path, *, network: Which = "G_ema", settings: Mapping[str, Any] | None = None, only: bool = False
) -> Networks:
    """The networks of a file of any known kind, compared with the architecture; raises as ``convert`` does."""
    asked = Asked(network, settings or {}, only)
    try:
        if path.suffix.lower() == ".safetensors":
            found = _bare(_of_safetensors(path), "a state dict in safetensors", asked)
        else:
            found = _unpickled(path, asked)
        _refuse_unfit(path, found)
    except PickleError as error:
        raise DataError(f"{path} is refused, and nothing in it was run: {error}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {str(error).removeprefix(f'{path} ')}") from None
    return found


def _unpickled(path: Path, asked: Asked) -> Networks:
    """The networks of a pickle or a file of PyTorch's, told apart by its first bytes."""
    data = mapped(path)
    head = bytes(data[: len(MAGIC_BYTES)])
    if head.startswith(b"PK\x03\x04"):
        return _of_torch(read_zip(path, data), len(data), asked)
    if head == MAGIC_BYTES:
        return _of_torch(read_older(data), len(data), asked)
    if not head.startswith(b"\x80"):
        raise PickleError("it is neither a network pickle nor a file of PyTorch's, nor safetensors")
    return _of_official(read_official(data), len(data), asked)


# ---- each kind of file ----


def _of_official(networks: Mapping[str, Module], size: int, asked: Asked) -> Networks:
    """Networks that carry their arguments."""
    network = asked.network
    if network not in networks:
        raise CheckpointError(f"it has no {network}; there are: {', '.join(networks)}")
    main = arrays(networks[network].tensors(), size)
    if not shapes.is_generator(_shapes(main)):
        raise CheckpointError(
            f"{network} ({networks[network].class_name!r:.80}) is neither a StyleGAN2 nor a StyleGAN3"
        )
    config = generator_config(networks[network], alias_free=shapes.is_stylegan3(_shapes(main)), settings=asked.settings)
    critic = None if asked.only else networks.get("D")
    if critic is not None:
        config = config.model_copy(update={"discriminator": discriminator_config(critic, config.resolution)})
    return Networks(
        "network pickle of StyleGAN2-ADA or StyleGAN3", config, main,
        arrays(networks["G"].tensors(), size) if network == "G_ema" and "G" in networks and not asked.only else None,
        arrays(critic.tensors(), size) if critic is not None else None,
    )  # fmt: skip


def _of_torch(value: Any, size: int, asked: Asked) -> Networks:
    """A state dict, rosinality's or in the published layout, under whatever key it lies."""
    if not isinstance(value, dict):
        raise CheckpointError("it holds no state dict")
    name = {"G_ema": "g_ema", "G": "g"}[asked.network]
    part = value.get(name)
    if isinstance(part, dict) and rosinality.is_rosinality(part):
        return _of_rosinality(value, name, size, asked)
    bare = next((value[key] for key in (asked.network, *WHOLE) if isinstance(value.get(key), dict)), value)
    return _bare(arrays(_tensors(bare), size), "a state dict in a file of PyTorch's", asked)


def _of_rosinality(value: Mapping[str, Any], name: str, size: int, asked: Asked) -> Networks:
    """Networks under other names, without arguments."""
    average = value.get("latent_avg")
    averages = arrays({"latent_avg": average}, size) if isinstance(average, Tensor) else {}
    main = rosinality.generator(arrays(_tensors(value[name]), size), averages.get("latent_avg"))
    notes = [] if averages else [f"it has no latent_avg: w_avg is the mean of {rosinality.AVERAGED:,} draws"]
    config = shapes.config_of_shapes(_shapes(main), asked.settings)
    trained = critic = None
    if isinstance(value.get("d"), dict) and not asked.only:
        critic = rosinality.discriminator(arrays(_tensors(value["d"]), size))
        config = config.model_copy(update={"discriminator": shapes.discriminator_of_shapes(_shapes(critic))})
    if name == "g_ema" and isinstance(value.get("g"), dict) and not asked.only:
        trained = rosinality.generator(arrays(_tensors(value["g"]), size), main["mapping.w_avg"])
    return Networks("checkpoint of rosinality's StyleGAN2", config, main, trained, critic, notes)


def _bare(tensors: Tensors, kind: str, asked: Asked) -> Networks:
    """One state dict alone; what shapes do not tell is noted."""
    if rosinality.is_rosinality(tensors):
        tensors = rosinality.generator(tensors, None)
    elif not shapes.is_generator(_shapes(tensors)):
        first = next(iter(tensors), "none")
        raise CheckpointError(
            "its tensors are no generator of StyleGAN2 or StyleGAN3 in the layout of published files or rosinality's "
            f"({len(tensors)} tensors, such as {first[:80]})"
        )
    config = shapes.config_of_shapes(_shapes(tensors), asked.settings)
    notes = [
        f"shapes do not tell {name}: taken as {getattr(config, name) or 'none'}; --set {name}=… if it is another"
        for name in shapes.UNTOLD
        if name not in asked.settings
    ]
    return Networks(kind, config, tensors, notes=notes)


def _of_safetensors(path: Path) -> Tensors:
    weights = Weights.open(path)
    _refuse_strange_names(weights.header)
    strange = next((f"{name} is {kind}" for name, (_, kind) in weights.header.items() if kind not in FLOATS), None)
    if strange:
        raise CheckpointError(f"{strange}, and networks are {' or '.join(FLOATS)}")
    return {name: _single(name, weights.numpy(name)) for name in weights.header}


# ---- tensors ----


def _tensors(value: Mapping[Any, Any]) -> dict[str, Tensor]:
    """A state dict; raises CheckpointError for what is no tensor, or has a name that no module gives."""
    _refuse_strange_names(value)
    strange = next((name for name, one in value.items() if not isinstance(one, Tensor)), None)
    if strange is not None:
        raise CheckpointError(f"{strange} in its state dict is no tensor")
    return dict(value)


def _refuse_strange_names(names: Iterable[Any]) -> None:
    strange = next((name for name in names if not (isinstance(name, str) and NAME.fullmatch(name))), None)
    if strange is not None:
        raise CheckpointError(f"it has a tensor named {strange!r:.80}, and no module gives such a name")


def arrays(tensors: Mapping[str, Tensor], size: int) -> Tensors:
    """The numbers of tensors, by name; raises PickleError where a file of ``size`` bytes cannot hold as many."""
    count = sum(math.prod(tensor.shape) * tensor.storage.type.dtype.itemsize for tensor in tensors.values())
    if count > 2 * size:  # twice: some may share a storage
        raise PickleError(f"its tensors are {count:,} bytes, in a file of {size:,}")
    return {name: _single(name, tensor.array()) for name, tensor in tensors.items()}


def _single(name: str, found: Array) -> Array:
    """As float32; raises CheckpointError for numbers that it could not hold exactly."""
    if found.dtype.kind != "f" or found.dtype.itemsize > 4:
        raise CheckpointError(f"{name} holds {found.dtype}, and networks hold float32 or less")
    return found.astype(np.float32, copy=False)


def _shapes(tensors: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _columns(config: Config) -> Any:
    try:
        return columns(config)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


# ---- comparing ----


def _refuse_long_filters(config: Stylegan3Config) -> None:
    """Raise CheckpointError for filters that no network has, before they are computed."""
    try:
        longest = max(max(layer.up_taps, layer.down_taps) for layer in layers(config))
    except (ArithmeticError, ValueError) as error:
        raise CheckpointError(f"its arguments describe layers that cannot be: {error}") from None
    if longest > MOST_TAPS:
        raise CheckpointError(f"its filters would have {longest:,} taps, and {MOST_TAPS} are the most")


def _refuse_unfit(path: Path, found: Networks) -> None:
    """Compare all names and shapes with the networks that the config describes; raises CheckpointError."""
    import torch

    from genreg_stylegan.discriminator import Critic
    from genreg_stylegan.stylegan2 import Generator2
    from genreg_stylegan.stylegan3 import Generator3

    config = found.config
    if isinstance(config, Stylegan3Config):
        _refuse_long_filters(config)
    try:
        with torch.device("meta"), np.errstate(all="ignore"):  # of an absurd stopband
            generator = Generator2(config) if isinstance(config, Stylegan2Config) else Generator3(config)
            critic = Critic(config, config.resolution) if found.discriminator is not None else None
    except (ArithmeticError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"its arguments describe a network that cannot be: {error}") from None
    for whose, tensors, network in (
        ("the generator", found.generator, generator),
        ("the generator that was not averaged (--only leaves it out)", found.trained, generator),
        ("the discriminator (--only leaves it out)", found.discriminator, critic),
    ):
        if tensors is not None and network is not None:
            wanted = {name: (tuple(tensor.shape), "F32") for name, tensor in network.state_dict().items()}
            try:
                Weights(path, {name: (tensor.shape, "F32") for name, tensor in tensors.items()}).expect(wanted)
            except CheckpointError as error:
                raise CheckpointError(str(error).replace(str(path), whose, 1)) from None
