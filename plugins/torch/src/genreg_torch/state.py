"""The state of a run on disk: safetensors, parameters by name, JSON in the header, no pickle.

A state is written beside its name, synced and renamed, so that a kill, a full disk or a power cut leaves the one
before it; two are kept. Tensors are written one at a time, so that saving holds nothing twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from genreg.errors import CheckpointError, UsageError
from genreg.files import reason
from genreg_torch.schedules import decay_of

Optimizers: TypeAlias = Mapping[str, torch.optim.Optimizer]

KEPT = 2
DTYPE_NAMES = {  # as safetensors has them
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class State:
    """All that training changes: networks, their averages, and what the optimizers remember."""

    networks: Mapping[str, nn.Module]
    optimizers: Optimizers
    averages: Mapping[str, nn.Module] = field(default_factory=dict)

    @classmethod
    def of(cls, networks: Mapping[str, nn.Module], optimizers: Optimizers, averaged: tuple[str, ...]) -> State:
        """The state of a run that begins; the averages start as copies."""
        averages = {name: deepcopy(networks[name]).requires_grad_(False).eval() for name in averaged}
        return cls(networks, optimizers, averages)

    def average_(self, ema: float, step: int) -> None:
        """Move the averages towards the networks; buffers are copied."""
        means, now, buffers = self._pairs
        if means:
            torch._foreach_lerp_(means, now, 1 - decay_of(ema, step))
        for kept, buffer in buffers:
            kept.copy_(buffer)

    @cached_property
    def _pairs(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """The averages' parameters, the networks' in the same order, and the buffers of both."""
        both = [(average, self.networks[name]) for name, average in self.averages.items()]
        means = [parameter.detach() for average, _ in both for parameter in average.parameters()]
        now = [parameter.detach() for _, own in both for parameter in own.parameters()]
        buffers = [pair for average, own in both for pair in zip(average.buffers(), own.buffers(), strict=True)]
        return means, now, buffers

    def moving_buffers(self) -> list[Tensor]:
        """Buffers that follow the rows seen (batch statistics), and so differ between processes."""
        modules = [*self.networks.values(), *self.averages.values()]
        return [buffer for module in modules for buffer in module.buffers() if buffer.is_floating_point()]

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name: ``network.NAME.…`` and ``average.NAME.…``."""
        groups = {"network": self.networks, "average": self.averages}
        return {
            f"{kind}.{name}.{key}": tensor
            for kind, modules in groups.items()
            for name, module in modules.items()
            for key, tensor in persistent(module).items()
        }

    def memories(self) -> dict[str, Tensor]:
        """What the optimizers remember of each parameter: ``optimizer.NAME.PARAMETER.exp_avg``."""
        return {
            f"optimizer.{name}.{parameter}.{key}": value
            for name, optimizer in self.optimizers.items()
            for parameter, tensor in self.parameters_of(optimizer).items()
            for key, value in optimizer.state.get(tensor, {}).items()
        }

    def parameters_of(self, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
        """An optimizer's parameters by name, such as vae.decoder.0.weight for one of the network ``vae``."""
        every = ((name, *named) for name, network in self.networks.items() for named in network.named_parameters())
        names = {id(parameter): f"{name}.{key}" for name, key, parameter in every}
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert all(id(parameter) in names for parameter in own), "an optimizer has a parameter that no network has"
        return {names[id(parameter)]: parameter for parameter in own}


def persistent(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each under its first name."""
    kept = module.state_dict().keys()
    both = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach() for name, tensor in both.items() if name in kept}


# ---- writing ----


def save(folder: Path, state: State, step: int, record: Mapping[str, Any]) -> Path:
    """Write the state after ``step`` steps, then remove all but the newest two.

    Raises UsageError, naming the last good one, where the disk is full or cannot be written.
    """
    groups = {
        name: [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        for name, optimizer in state.optimizers.items()
    }
    path = folder / f"state-{step:08d}.safetensors"
    with writing(folder, f"the state at step {step:,}"):
        write(path, {**state.weights(), **state.memories()}, {"step": step, "groups": groups, **record})
        for old in states(folder)[:-KEPT]:
            old.unlink()
    return path


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """A safetensors file with a JSON record in its header, whole or not at all."""
    header: dict[str, Any] = {"__metadata__": {"genreg": json.dumps(record)}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in tensors.values():
                file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Turn a full disk or a folder without permission into one line that names the last good state."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{what} cannot be written to {folder}: {reason(error)}; {last_good(folder)}") from error


def last_good(folder: Path) -> str:
    """Where a run can go on, as the end of a message."""
    kept = states(folder)
    if not kept:
        return "no state of the run was saved before"
    return f"the last good one is {kept[-1].name}, from which --resume continues"


# ---- reading ----


def states(folder: Path) -> list[Path]:
    """The states that are there, the oldest first."""
    return sorted(folder.glob("state-*.safetensors"))


def sweep(folder: Path) -> None:
    """Remove what a kill in the middle of a save left."""
    for path in folder.glob("state-*.tmp"):
        path.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """The JSON of a state; raises CheckpointError where the file is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(json.loads(file.metadata()["genreg"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        older = [other.name for other in states(path.parent) if other < path]
        way = f"remove it to continue from {older[-1]}" if older else "start over with --force"
        raise CheckpointError(f"{path} is damaged ({error}): {way}") from None


def restore(path: Path, state: State, record: Mapping[str, Any]) -> None:
    """Read a state into networks, averages and optimizers; raises CheckpointError naming what does not fit."""
    weights = state.weights()
    with safe_open(str(path), framework="pt") as file:
        there = set(file.keys())
        remembered = {name for name in there if name.startswith("optimizer.")}
        odd = sorted((there - remembered) ^ weights.keys())
        wrong = [n for n in weights.keys() & there if tuple(file.get_slice(n).get_shape()) != tuple(weights[n].shape)]
        if odd or wrong or set(record["groups"]) != set(state.optimizers):
            what = ", ".join((odd + sorted(wrong))[:4]) or "its optimizers"
            raise CheckpointError(f"{path} does not fit the networks of this run: {what}")
        for name, tensor in weights.items():
            tensor.copy_(file.get_tensor(name))
        for name, optimizer in state.optimizers.items():
            _remember(file, f"optimizer.{name}.", optimizer, state.parameters_of(optimizer), record["groups"][name])


def _remember(
    file: Any, prefix: str, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], groups: Any
) -> None:
    """Give an optimizer its memory: in the layout of each parameter, which fused kernels rely on."""
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        group.update({key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()})
    on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    for name, parameter in parameters.items():
        begin = f"{prefix}{name}."
        for key in [key for key in file.keys() if key.startswith(begin) and "." not in key[len(begin) :]]:  # noqa: SIM118
            value = file.get_tensor(key)
            if value.shape == parameter.shape and value.ndim:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
            elif on_device:
                value = value.to(parameter.device)
            optimizer.state[parameter][key[len(begin) :]] = value


def _sync(folder: Path) -> None:
    """Have the folder remember the new name through a power cut; Windows does so by itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
