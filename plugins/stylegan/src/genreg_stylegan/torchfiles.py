"""The tensors of PyTorch's files (.pt, zip or older), as views of the file: without torch, and nothing in them runs.

Storages are runs of numbers; a tensor is a storage, an offset, a shape and strides. What a file says of them is checked
before anything is read: a tensor lies within its storage, has no more elements than it, and no negative stride. Members
of a zip must be stored as they are, so that none unpacks to more than its place in the file; none is ever written to
disk, and names that point out of the archive are refused all the same.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genreg.draft import Array
from genreg.errors import DataError
from genreg.files import reason
from genreg_stylegan.pickles import Attributed, Budget, Constructor, Names, PickleError, key, read

MAGIC = 0x1950A86A20F9469CFC6C  # the number that the older format begins with, as a pickle
MAGIC_BYTES = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
FORMAT = 1001  # of the older files
MOST_MEMBERS = 100_000  # of a zip
MOST_AXES = 8


@dataclass(frozen=True)
class StorageType:
    """What a storage holds; bfloat16, which NumPy does not know, as its bits."""

    dtype: np.dtype[Any]
    is_bfloat16: bool = False


STORAGE_TYPES = {
    f"torch.{name}Storage": StorageType(np.dtype(code), name == "BFloat16")
    for name, code in {
        "Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": "<u2",
        "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "u1",
    }.items()
}  # fmt: skip


@dataclass(eq=False)
class Storage:
    """``count`` numbers of one type; in the older files their bytes come after all tensors."""

    type: StorageType
    count: int
    data: memoryview | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A window on a storage, checked by ``rebuild_tensor``."""

    storage: Storage
    offset: int  # in elements, as the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> Array:
        """The numbers, bit for bit; bfloat16 as the float32 of the same value. A view of the file where it can be."""
        if self.storage.data is None:
            raise PickleError("a tensor's numbers are not in the file")
        kind, size = self.storage.type, self.storage.type.dtype.itemsize
        found: Array = np.ndarray(
            self.shape, kind.dtype, self.storage.data, self.offset * size, tuple(step * size for step in self.strides)
        )
        return (found.astype("<u4") << 16).view("<f4") if kind.is_bfloat16 else found


# ---- what the names in files stand for, each a small function of the arguments ----


def rebuild_tensor(arguments: tuple[Any, ...]) -> Tensor:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)``."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if len(shape) == len(strides):
            if _lies_within(storage.count, offset, shape, strides):
                apart = tuple(step if length > 1 else 1 for length, step in zip(shape, strides, strict=True))
                return Tensor(storage, offset, shape, apart)
    raise PickleError("it has a tensor that does not lie within its storage")


def _lies_within(count: int, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> bool:
    whole = all(type(number) is int and number >= 0 for number in (offset, *shape, *strides))
    if not whole or len(shape) > MOST_AXES or 0 in shape:
        return False
    last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    return bool(math.prod(shape) <= count and last < count)


def rebuild_parameter(arguments: tuple[Any, ...]) -> Tensor:
    """``torch._utils._rebuild_parameter(tensor, requires_grad, hooks)``: the tensor."""
    match arguments:
        case (Tensor() as tensor, bool(), _):
            return tensor
    raise PickleError("it has a parameter that is no tensor")


def ordered_dict(arguments: tuple[Any, ...]) -> Attributed:
    """``collections.OrderedDict()`` and the like: items are set afterwards."""
    if arguments:
        raise PickleError("it makes a dictionary of arguments that it should set as items")
    return Attributed()


def size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """``torch.Size((...))``: the tuple."""
    match arguments:
        case (tuple(lengths),):
            return lengths
    raise PickleError("it has a size that is no tuple")


def members(arguments: tuple[Any, ...]) -> frozenset[Any]:
    """``set([...])``, as Python wrote sets before protocol 4: those of 2020 and 2021 are such."""
    match arguments:
        case (list(values),):
            return frozenset(map(key, values))
    raise PickleError("it makes a set of what is no list")


@dataclass
class NumberType:
    """``numpy.dtype(code, align, copy)``, which takes its byte order as a state."""

    code: str

    def build(self, state: Any) -> None:
        """(version, byte order, ...): only little-endian numbers are read."""
        match state:
            case (int(), "<" | "|" | "=", *_):
                return
        raise PickleError("it has numbers of another byte order")


def number_type(arguments: tuple[Any, ...]) -> NumberType:
    """``numpy.dtype``: numbers only, never objects."""
    match arguments:
        case (str(code), *_) if re.fullmatch("b1|[iu][1248]|f[248]", code):
            return NumberType(code)
    raise PickleError("it has a NumPy type that is no number")


def scalar(arguments: tuple[Any, ...]) -> bool | int | float:
    """``numpy.core.multiarray.scalar(dtype, bytes)``: the number."""
    match arguments:
        case (NumberType(code), memoryview() as raw) if len(raw) == np.dtype(code).itemsize:
            value: bool | int | float = np.frombuffer(raw, np.dtype(code))[0].item()
            return value
    raise PickleError("it has a NumPy number whose bytes do not fit its type")


class NumpyArray:
    """A NumPy array, which modules keep beside their tensors: nothing of it is used."""

    def build(self, state: Any) -> None:
        """(version, shape, dtype, order, bytes), unread."""


NUMPY: Names = {
    "numpy.dtype": Constructor(number_type),
    "numpy.ndarray": None,  # the first argument of _reconstruct, and nothing else
    **{
        f"numpy.{core}.{name}": Constructor(make)
        for core in ("core", "_core")
        for name, make in (
            ("multiarray.scalar", scalar),
            ("multiarray._reconstruct", lambda _: NumpyArray()),
            ("numeric._frombuffer", lambda _: NumpyArray()),
        )
    },
}
COMMON: Names = {
    "builtins.set": Constructor(members),
    "builtins.frozenset": Constructor(members),
    "__builtin__.set": Constructor(members),  # the same in protocol 2
    "__builtin__.frozenset": Constructor(members),
    "collections.OrderedDict": Constructor(ordered_dict),
    "torch._utils._rebuild_tensor_v2": Constructor(rebuild_tensor),
    "torch._utils._rebuild_parameter": Constructor(rebuild_parameter),
    "torch.Size": Constructor(size),
    **NUMPY,
}
TORCH: Names = {
    **COMMON,
    **STORAGE_TYPES,
    "argparse.Namespace": Constructor(ordered_dict),  # rosinality's files keep the training's arguments: unused
}


# ---- the files ----


def mapped(path: Path) -> memoryview:
    """A file's bytes, mapped and not read; raises DataError where it is empty, a folder or cannot be read."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:
        raise DataError(f"{path} is empty") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from None


def read_older(data: memoryview, *, names: Names = TORCH, budget: Budget | None = None) -> Any:
    """What a stream of the older format holds: magic, version, system, value, storage keys, then each storage's bytes.

    Raises PickleError for another format, another byte order, storages that are views, and what does not add up.
    """
    budget, storages, at = budget or Budget(), dict[str, Storage](), 0
    head = []
    for _ in range(3):
        value, at = read(data, {}, start=at, budget=budget)
        head.append(value)
    match head:
        case [int(magic), int(version), {"little_endian": True}] if magic == MAGIC and version == FORMAT:
            pass
        case _:
            raise PickleError("it is no PyTorch file of a format that is known, or one of a big-endian machine")
    value, at = read(data, names, start=at, persistent=lambda asked: _storage(asked, storages), budget=budget)
    order, at = read(data, {}, start=at, budget=budget)
    if (
        not isinstance(order, list)
        or not all(isinstance(one, str) for one in order)
        or sorted(order) != sorted(storages)
    ):
        raise PickleError("the storages that follow are not those that its tensors name")
    for one in order:
        at = _fill(storages[one], data, at)
    if at != len(data):
        raise PickleError(f"it has {len(data) - at:,} bytes behind its end")
    return value


def _storage(asked: Any, storages: dict[str, Storage]) -> Storage:
    """The storage of a persistent id ('storage', type, key, location, count, view), made when it is first named."""
    match asked:
        case ("storage", StorageType() as kind, str(key), str(), int(count), *view) if count >= 0 and view in (
            [],
            [None],
        ):
            found = storages.setdefault(key, Storage(kind, count))
            if (found.type, found.count) == (kind, count):
                return found
    raise PickleError("it has a persistent id that is no storage of numbers")


def _fill(storage: Storage, data: memoryview, at: int) -> int:
    """Give a storage its bytes: an int64 count, then the numbers; returns the position behind them."""
    length = storage.count * storage.type.dtype.itemsize
    if len(data) - at < 8 + length or struct.unpack_from("<q", data, at) != (storage.count,):
        raise PickleError("a storage has another length than its tensors say: the file is cut off or damaged")
    storage.data = data[at + 8 : at + 8 + length]
    return at + 8 + length


def read_zip(path: Path, data: memoryview) -> Any:
    """What a zip of PyTorch's holds; raises PickleError for one that is damaged, compressed, or a program."""
    members = _members(path, data)
    heads = [name for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(heads) != 1:
        raise PickleError("it is a zip, but none of PyTorch's: it has no data.pkl, or several")
    folder = heads[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in members):
        raise PickleError("it is a TorchScript archive, which is a program: save its state_dict() instead")
    if f"{folder}byteorder" in members and bytes(members[f"{folder}byteorder"]()) != b"little":
        raise PickleError("it was written on a big-endian machine")
    storages: dict[str, Storage] = {}

    def persistent(asked: Any) -> Storage:
        storage = _storage(asked, storages)
        if storage.data is None:
            name = f"{folder}data/{asked[2]}"
            storage.data = members[name]() if name in members else memoryview(b"")
            if len(storage.data) != storage.count * storage.type.dtype.itemsize:
                raise PickleError(f"its member {name[:80]} is missing, or has another length than its tensors say")
        return storage

    head = members[heads[0]]()
    value, end = read(head, TORCH, persistent=persistent)
    if end != len(head):
        raise PickleError("its data.pkl has something behind its end")
    return value


def _members(path: Path, data: memoryview) -> dict[str, Callable[[], memoryview]]:
    """Name -> a function that gives the member's bytes as a view of the file."""
    if sum(1 for _ in zip(re.finditer(b"PK\x01\x02", data), range(MOST_MEMBERS + 1), strict=False)) > MOST_MEMBERS:
        raise PickleError(f"it is a zip of more than {MOST_MEMBERS:,} members")
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, OSError) as error:
        raise PickleError(f"it is a zip that is damaged: {error}") from None
    for info in found:
        if info.filename.startswith("/") or "\\" in info.filename or ".." in info.filename.split("/"):
            raise PickleError(f"its member {info.filename[:80]!r} points out of the archive")
    named: dict[str, Callable[[], memoryview]] = {info.filename: partial(_stored, info, data) for info in found}
    if len(named) != len(found):
        raise PickleError("it has two members of one name")
    return named


def _stored(info: zipfile.ZipInfo, data: memoryview) -> memoryview:
    """A member's bytes, where they lie in the file."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise PickleError(f"its member {info.filename[:80]} is compressed or encrypted, which PyTorch's never are")
    at = info.header_offset
    head = bytes(data[at : at + 30]) if at >= 0 else b""
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise PickleError(f"its member {info.filename[:80]} is not where the zip says: the file is damaged")
    begin = at + 30 + sum(struct.unpack_from("<HH", head, 26))
    if begin + info.file_size > len(data):
        raise PickleError(f"its member {info.filename[:80]} is cut off")
    return data[begin : begin + info.file_size]
