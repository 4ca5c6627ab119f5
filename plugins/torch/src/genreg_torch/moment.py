"""A moment of training: where it stands, what chance gives it, how networks are run.

Every draw follows from (seed, step, objective, number of the call), is made for the whole batch and cut to the rows at
hand: cutting a batch into pieces or over processes changes none. The key of a step comes from the core's Philox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from genreg.random import Stream, bits
from genreg_torch.devices import CPU

P = ParamSpec("P")
T = TypeVar("T")

_WEYL = 0x9E3779B97F4A7C15
_BLOCK = 256  # steps whose keys are drawn together


@dataclass(frozen=True, eq=False)
class Moment:
    """Where training stands, handed to every loss."""

    step: int
    steps: int
    device: torch.device = CPU
    key: int = 0  # of this objective's draws in this step
    batch: int = 1  # rows of the whole batch …
    rows: slice = field(default_factory=lambda: slice(None))  # … and which of them are at hand
    bf16: bool = False
    calls: Iterator[int] = field(default_factory=count)

    @property
    def progress(self) -> float:
        """From 0 at the first step towards 1 at the end."""
        return self.step / self.steps

    def normal(self, *shape: int) -> Tensor:
        """Standard normals for each row at hand: float32 [n, *shape]; each call draws anew."""
        return torch.randn(self.batch, *shape, generator=self._chance(), device=self.device)[self.rows]

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1) for each row at hand: float32 [n, *shape]; each call draws anew."""
        return torch.rand(self.batch, *shape, generator=self._chance(), device=self.device)[self.rows]

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform in range(high) for each row at hand: int64 [n, *shape]; each call draws anew."""
        return torch.randint(high, (self.batch, *shape), generator=self._chance(), device=self.device)[self.rows]

    def run(self, network: Callable[P, T], /, *inputs: P.args, **named: P.kwargs) -> T:
        """What a network, or a method of one, makes of its inputs: computed as ``precision`` says, float32 always."""
        if not self.bf16:
            return network(*inputs, **named)
        with torch.autocast(self.device.type, torch.bfloat16):
            made = network(*inputs, **named)
        widened: T = in_float32(made)
        return widened

    def _chance(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(mixed(self.key, next(self.calls)))


def in_float32(value: Any) -> Any:
    """The tensors of a value, within tuples, lists and dicts too, widened from half precision."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if isinstance(value, dict):
        return {name: in_float32(part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(in_float32, value))
    return type(value)(map(in_float32, value)) if isinstance(value, (tuple, list)) else value


def key_of(seed: int, step: int) -> int:
    """The key of a step's draws: 64 bits that follow from the run's seed and the step."""
    return int(_keys(seed, step // _BLOCK)[step % _BLOCK])


def mixed(key: int, number: int) -> int:
    """A further key, for the number-th use of one."""
    return (key + (number + 1) * _WEYL) & 0x7FFF_FFFF_FFFF_FFFF


def reseed(key: int, device: torch.device) -> None:
    """Set torch's own generators of the CPU and the device; ``torch.manual_seed`` takes 2 ms, for devices not there."""
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)
    elif device.type == "mps":
        torch.mps.manual_seed(key)


@lru_cache(maxsize=4)
def _keys(seed: int, block: int) -> Any:
    words = bits(np.array([seed], np.uint64), 2 * _BLOCK, stream=Stream.STEP, step=block)[0].astype(np.uint64)
    return words[::2] << np.uint64(32) | words[1::2]
