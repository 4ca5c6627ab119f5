"""The .pkl files of StyleGAN2-ADA and StyleGAN3: networks as trees of modules, with the arguments that made them.

Such a file is a dictionary of networks (G, D, G_ema). A network is a record {type, version, module_src, class_name,
state}: its official reader runs module_src, the source text of a whole Python module. Here the source is passed over,
and the record is kept as it is: a class's name and the module's state, from which tensors and arguments are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from genreg_stylegan.pickles import Budget, Constructor, Names, PickleError, read
from genreg_stylegan.torchfiles import COMMON, STORAGE_TYPES, Storage, Tensor, ordered_dict, read_older

NETWORKS = ("G_ema", "G", "D")
DEEPEST_MODULE = 16
ARGUMENT_LEVELS, MOST_ARGUMENTS = 3, 64  # mapping_kwargs and the like hold numbers and short lists
MOST_ENTRIES = 100_000  # parameters, buffers and modules, with those that are None
PART = re.compile(r"[A-Za-z0-9_]{1,64}")  # of a tensor's name, between dots


@dataclass(frozen=True, eq=False)
class Module:
    """A class that the file names, and the state of its instance; nothing of the class is looked up."""

    class_name: str
    state: Mapping[str, Any]

    def arguments(self) -> dict[str, Any]:
        """The keywords that its constructor was given, as text, numbers, lists and mappings of them."""
        given = self.state.get("_init_kwargs", {})
        unnamed = self.state.get("_init_args", ())
        if not isinstance(unnamed, tuple) or unnamed or not isinstance(given, dict):
            raise PickleError(f"{self.class_name!r:.80} was made with arguments that have no names")
        plain: dict[str, Any] = _plain(given, ARGUMENT_LEVELS)
        return plain

    def part(self, *path: str) -> Module:
        """The module at that path; one without a state where there is none."""
        module = self
        for name in path:
            modules = module.state.get("_modules")
            found = modules.get(name) if isinstance(modules, dict) else None
            module = found if isinstance(found, Module) else Module("", {})
        return module

    def attribute(self, name: str) -> Any:
        """A plain attribute of the module; raises PickleError for one that is none."""
        return _plain(self.state.get(name), 0)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers of the whole tree, named as a state dict names them."""
        return dict(self._walk("", {id(self)}, Budget(MOST_ENTRIES)))

    def _walk(self, prefix: str, seen: set[int], budget: Budget) -> Iterator[tuple[str, Tensor]]:
        """Tensors by their names, depth first; raises PickleError for a tree that is none, or is endless."""
        if prefix.count(".") > DEEPEST_MODULE:
            raise PickleError(f"its modules nest more than {DEEPEST_MODULE} levels deep")
        fleeting = self.state.get("_non_persistent_buffers_set", ())
        if not isinstance(fleeting, set | frozenset):
            fleeting = ()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in self._part(kind, budget):
                if tensor is None or (kind == "_buffers" and name in fleeting):
                    continue
                if not isinstance(tensor, Tensor):
                    raise PickleError(f"{prefix}{name} is no tensor")
                yield prefix + name, tensor
        for name, module in self._part("_modules", budget):
            if not isinstance(module, Module) or id(module) in seen:
                raise PickleError(f"{prefix}{name} is no module, or one that is in several places")
            seen.add(id(module))
            yield from module._walk(f"{prefix}{name}.", seen, budget)

    def _part(self, kind: str, budget: Budget) -> list[tuple[str, Any]]:
        found = self.state.get(kind, {})
        budget.step(len(found) if isinstance(found, dict) else 1)
        names = list(found) if isinstance(found, dict) else [None]
        if not all(isinstance(name, str) and PART.fullmatch(name) for name in names):
            raise PickleError(f"the {kind} of {self.class_name!r:.80} are not named as a module's are")
        return list(found.items())


def _plain(value: Any, depth: int) -> Any:
    """An argument as JSON could hold it; raises PickleError for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth and isinstance(value, dict | list | tuple) and len(value) <= MOST_ARGUMENTS:
        if isinstance(value, dict):
            return {str(key): _plain(one, depth - 1) for key, one in value.items()}
        return [_plain(one, depth - 1) for one in value]
    raise PickleError("it has a network whose arguments are no plain values")


def reconstruct(arguments: tuple[Any, ...]) -> Module:
    """``torch_utils.persistence._reconstruct_persistent_obj({...})``, of which class name and state are kept."""
    match arguments:
        case ({"type": "class", "class_name": str(name), "state": dict(state)},):
            return Module(name, state)
    raise PickleError("it has a record of a module that is not complete")


def read_official(data: memoryview) -> dict[str, Module]:
    """The networks of a file by name; raises PickleError for what is no such file, damaged or hostile."""
    budget = Budget()

    def load_from_bytes(arguments: tuple[Any, ...]) -> Storage:
        """``torch.storage._load_from_bytes(bytes)``: a stream of the older format that holds one storage."""
        match arguments:
            case (memoryview() as inner,):
                found = read_older(inner, names=STORAGE_TYPES, budget=budget)
                if isinstance(found, Storage):
                    return found
        raise PickleError("it has bytes that should be a storage, and are none")

    names: Names = {
        **COMMON,
        "torch.storage._load_from_bytes": Constructor(load_from_bytes),
        "torch_utils.persistence._reconstruct_persistent_obj": Constructor(reconstruct),
        "dnnlib.util.EasyDict": Constructor(ordered_dict),
        "dnnlib.EasyDict": Constructor(ordered_dict),
    }
    value, end = read(data, names, budget=budget)
    if end != len(data):
        raise PickleError(f"it has {len(data) - end:,} bytes behind its end")
    found = {name: value[name] for name in NETWORKS if isinstance(value, dict) and isinstance(value.get(name), Module)}
    if not found:
        raise PickleError("it holds none of the networks G_ema, G and D")
    return found
