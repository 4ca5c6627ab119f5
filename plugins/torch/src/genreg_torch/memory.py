"""How much memory training takes, before it is taken; and what to try when it was too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from genreg.errors import UsageError
from genreg_torch.settings import TrainSettings


def parameters(networks: Iterable[nn.Module]) -> int:
    """The number of parameters of all networks, tied ones once."""
    return sum({id(p): p.numel() for network in networks for p in network.parameters()}.values())


def weight_bytes(networks: Mapping[str, nn.Module], averaged: Iterable[str] = ()) -> int:
    """Weights, gradients and Adam's two moments, 16 bytes a parameter in float32, and 4 more where it is averaged."""
    return 16 * parameters(networks.values()) + 4 * parameters(networks[name] for name in averaged)


@contextmanager
def counting_saved(networks: Iterable[nn.Module]) -> Iterator[list[int]]:
    """Count the bytes that the backward pass needs from the block, each storage once, weights not.

    The one item of the list is the sum when the block ends.
    """
    own = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}
    seen: dict[int, int] = {}
    held: list[Tensor] = []  # alive until the end: a storage that is freed gives its address to the next

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    total = [0]
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
    total[0] = sum(seen.values())


def spelled(size: float) -> str:
    """Bytes as people write them.

    >>> spelled(8_800_000), spelled(512), spelled(3.2e9)
    ('8.8 MB', '512 bytes', '3.2 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in the machine's own memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def out_of_memory(batch: int, accumulate: int, processes: int, where: str) -> UsageError:
    """What to try: half the batch, or the same batch in twice as many pieces."""
    piece = batch // (accumulate * processes)
    cut = f", or --set accumulate={2 * accumulate} (the same result from smaller pieces)" if piece % 2 == 0 else ""
    smaller = max(batch // 2, accumulate * processes)
    tip = f"try --set batch={smaller}{cut}" if piece > 1 else "a batch is one row already: make the network smaller"
    return UsageError(f"out of memory at {where} with batch={batch}, accumulate={accumulate}: {tip}")


def estimate(
    networks: Mapping[str, nn.Module],
    loss: Callable[[int], Tensor],
    settings: TrainSettings,
    averaged: Iterable[str] = (),
) -> dict[str, str]:
    """What ``--dry-run`` shows: parameters, and memory as measured on ``loss`` of a few rows, scaled to a batch."""
    few = min(8, settings.batch)
    with counting_saved(networks.values()) as saved:
        loss(few)
    activations = saved[0] * settings.batch / (few * settings.accumulate)
    weights = weight_bytes(networks, averaged if settings.ema else ())
    each = ", ".join(f"{name} {parameters([network]):,}" for name, network in networks.items())
    return {
        "parameters": f"{parameters(networks.values()):,}" + (f" ({each})" if len(networks) > 1 else ""),
        "memory": f"{spelled(weights)} for weights, gradients, Adam and averages; {spelled(activations)} for a batch",
    }
