"""One process or several: what they tell each other.

Fabric finds out how the processes were started (torchrun, SLURM …), gives each its device and carries the messages. It
does not wrap the networks: gradients, penalties of second order among them, are averaged by one flat all-reduce after
the backward pass, and missing ones enter as zeros. DDP's hooks would silently leave ranks with different gradients
where a loss does not reach every parameter, or where a network's method is called past the wrapper.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genreg.errors import UsageError
from genreg_torch.devices import device_of


@dataclass(frozen=True, eq=False)
class Processes:
    """This process among all that train together; alone, nothing is sent."""

    device: torch.device
    rank: int = 0
    count: int = 1
    fabric: Any = None  # lightning_fabric.Fabric, where there are several

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.count > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            _spread(tensors, self.fabric.all_reduce(flat, reduce_op="mean"))

    def same_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        for dtype in {tensor.dtype for tensor in tensors} if self.count > 1 else ():
            own = [tensor for tensor in tensors if tensor.dtype == dtype]
            _spread(own, self.fabric.broadcast(torch.cat([tensor.reshape(-1) for tensor in own])))

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes: how they agree."""
        if self.count == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        agreed: list[float] = self.fabric.all_reduce(told.to(self.device), reduce_op="max").tolist()
        return agreed

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            self.fabric.barrier()


def join(device: str) -> Processes:
    """This process alone on the device, or one of those that torchrun started.

    Raises UsageError where several are asked for and lightning-fabric is not installed, or batches cannot be shared.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(device_of(device))
    try:
        from lightning_fabric import Fabric
    except ModuleNotFoundError:
        raise UsageError(
            f"{count} processes train together through lightning-fabric: pip install 'genreg-torch[distributed]'"
        ) from None
    kind = device_of(device).type
    if kind == "mps":
        raise UsageError("device=mps trains in one process; --device cpu can train in several")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    fabric = Fabric(accelerator=kind, devices=here, num_nodes=count // here, strategy="ddp", precision="32-true")
    fabric.launch()
    atexit.register(_leave)
    return Processes(fabric.device, fabric.global_rank, fabric.world_size, fabric)


def _spread(tensors: Sequence[Tensor], flat: Tensor) -> None:
    begin = 0
    for tensor in tensors:
        tensor.copy_(flat[begin : begin + tensor.numel()].view(tensor.shape))
        begin += tensor.numel()


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
