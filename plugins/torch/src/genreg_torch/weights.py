"""Weights in and out: strict, and never allocated twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genreg.checkpoint import CHAIN_PREFIX, Weights
from genreg.draft import Array
from genreg.errors import CheckpointError
from genreg_torch.state import DTYPE_NAMES, persistent

M = TypeVar("M", bound=nn.Module)
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def load_into(
    build: Callable[[], M],
    weights: Weights,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    beside: Mapping[str, tuple[tuple[int, ...], str]] | None = None,
) -> M:
    """The module that ``build`` makes, with a checkpoint's weights, on the device, in evaluation mode.

    Built on the meta device and filled by assignment. Names and shapes are compared with the header first; weights
    stored in half precision are widened or narrowed to ``dtype``. ``beside`` are further tensors that the family reads
    itself; those of the chain are left alone. Raises CheckpointError with all differences.
    """
    kind: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    with torch.device("meta"), _Uninitialized():
        module = build()
    wanted = {_held(module, name, weights): tensor for name, tensor in persistent(module).items()}
    specs = {name: (tuple(tensor.shape), _stored(weights, name, tensor)) for name, tensor in wanted.items()}
    weights.expect({**specs, **(beside or {})})
    state: dict[str, Tensor] = {}
    try:
        for path, names in weights.by_file(wanted).items():
            with safe_open(str(path), framework="pt", device=str(device)) as file:
                for name in names:
                    found = file.get_tensor(name)
                    state[name] = found.to(kind) if wanted[name].is_floating_point() else found
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights.path} cannot be read: {error}") from None
    for name in module.state_dict().keys() - state.keys():  # a second name of a tied parameter
        state[name] = state[_first_name(module, name, wanted)]
    _assign(module, state)
    left = [name for name, tensor in module.named_buffers() if tensor.is_meta]
    assert not left, f"buffers that are not saved cannot be built on the meta device: {', '.join(left)}"
    return module.requires_grad_(False).eval()


def tensors_of(module: nn.Module, *, dtype: torch.dtype | None = None) -> dict[str, Array]:
    """A module's weights as NumPy arrays for a checkpoint; floating ones in ``dtype`` (float16 halves the file)."""
    return {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).cpu().contiguous().numpy()
        for name, tensor in persistent(module).items()
    }


def _stored(weights: Weights, name: str, tensor: Tensor) -> str:
    """The dtype to expect: the module's own, or for numbers any precision that it can be read from."""
    own = DTYPE_NAMES[tensor.dtype]
    assert not name.startswith(CHAIN_PREFIX), f"{name}: names that begin with {CHAIN_PREFIX} are the core's"
    found = weights.header[name][1] if name in weights.header else own
    return found if own in _FLOATS and found in _FLOATS else own


class _Uninitialized(TorchFunctionMode):
    """Within it initializers do nothing: on the meta device there are no numbers, and much time goes into them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def _assign(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """What load_state_dict(assign=True) does with names that were compared already, in time linear in their number."""
    for name, tensor in state.items():
        owner, _, own = name.rpartition(".")
        place = module.get_submodule(owner)
        parameter = own in dict(place.named_parameters(recurse=False, remove_duplicate=False))
        setattr(place, own, nn.Parameter(tensor, requires_grad=False) if parameter else tensor)


def _held(module: nn.Module, name: str, weights: Weights) -> str:
    """The name that the file has a parameter under: of a tied one others may have kept the second."""
    if name in weights.header:
        return name
    same = module.state_dict(keep_vars=True)
    return next((other for other in same if same[other] is same[name] and other in weights.header), name)


def _first_name(module: nn.Module, name: str, wanted: Mapping[str, Tensor]) -> str:
    same = module.state_dict(keep_vars=True)
    return next(other for other in wanted if same[other] is same[name])
