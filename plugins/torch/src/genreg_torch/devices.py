"""Where to compute: the device that was asked for, and kernels that give the same sample on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from genreg.errors import UsageError

CPU = torch.device("cpu")


def device_of(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is cuda, else mps, else cpu.

    Raises UsageError, naming what there is, for one that this machine or this build of torch does not have.
    """
    there = available()
    if name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if device.type not in there or beyond:
        count = f" ({torch.cuda.device_count()} of them)" if "cuda" in there else ""
        raise UsageError(f"device={name}: torch {torch.__version__} finds here: {', '.join(there)}{count}")
    return device


def available() -> list[str]:
    """The kinds of device that are there, the fastest first."""
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, here in kinds.items() if here]


@contextmanager
def exact() -> Iterator[None]:
    """Full float32 and fixed kernels on CUDA within the block: for ``render``, where a seed is a sample."""
    fixed = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with fixed, torch.no_grad():
        yield


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device; for cpu and mps that of the machine (4 GiB where it does not tell)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import os

    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 << 30
