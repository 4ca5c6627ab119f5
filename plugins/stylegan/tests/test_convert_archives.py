"""Files of PyTorch's that PyTorch did not write: tensors beyond their storages, and zips of every wrong kind."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stylegan_files import refusal

from genreg.errors import CheckpointError, GenregError

STORAGE = ("storage", torch.FloatStorage, "0", "cpu", 4)


class Call:
    """What pickles as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Pickler(pickle.Pickler):
    """Writes storages as PyTorch does: any tuple that begins with 'storage' becomes a persistent id."""

    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) and value is not STORAGE[:1] else None


def zipped(
    path: Path, value: object, members: dict[str, bytes] | None = None, *, folder="x", how=zipfile.ZIP_STORED
) -> Path:
    """A zip as PyTorch writes it, of a value and the bytes of its members."""
    head = io.BytesIO()
    Pickler(head, 2).dump(value)
    members = {"data/0": struct.pack("<4f", 1, 2, 3, 4)} if members is None else members
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in {"data.pkl": head.getvalue(), **members}.items():
            archive.writestr(name if name.startswith(("/", "..")) else f"{folder}/{name}", content)
    return path


def tensor(storage=STORAGE, offset=0, shape=(4,), strides=(1,)):
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())


TENSORS = {
    "beyond the end": tensor(offset=1),
    "before the beginning": tensor(offset=-1),
    "longer": tensor(shape=(5,)),
    "with a step beyond": tensor(shape=(2,), strides=(4,)),
    "with a step back": tensor(offset=3, strides=(-1,)),
    "of a billion from one": tensor(shape=(1_000_000_000,), strides=(0,)),
    "of more than all from a few": tensor(shape=(2, 2, 2), strides=(1, 1, 1)),
    "of two ideas": tensor(shape=(2, 2), strides=(1,)),
    "of many axes": tensor(shape=(1,) * 9, strides=(1,) * 9),
    "of text": tensor(shape=("4",)),
    "of nothing": tensor(shape=(0, 2**70), strides=(1, 1)),
    "of a truth": tensor(shape=(True,)),
    "of a huge number": tensor(shape=(2**62, 2**62, 2**62), strides=(0, 0, 0)),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, what):
    path = zipped(tmp_path / "x.pt", {"a": TENSORS[what]})
    assert "it has a tensor that does not lie within its storage" in refusal(path)


def test_a_step_over_nothing_may_be_of_any_length(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a.b": tensor(shape=(1, 4, 1), strides=(2**70, 1, 0))})
    assert "(1 tensors, such as a.b)" in refusal(path, CheckpointError)


STORAGES = {
    "longer than its bytes": (
        ("storage", torch.FloatStorage, "0", "cpu", 5),
        "its member x/data/0 is missing, or has another length",
    ),
    "shorter than its bytes": (
        ("storage", torch.FloatStorage, "0", "cpu", 3),
        "its member x/data/0 is missing, or has another length",
    ),
    "not there": (
        ("storage", torch.FloatStorage, "1", "cpu", 4),
        "its member x/data/1 is missing, or has another length",
    ),
    "of negative length": (("storage", torch.FloatStorage, "0", "cpu", -4), "a persistent id that is no storage"),
    "of no type": (("storage", "float", "0", "cpu", 4), "a persistent id that is no storage"),
    "of objects": (("storage", torch.Tensor, "0", "cpu", 4), "it asks for 'torch.Tensor'"),
    "elsewhere": (("storage", torch.FloatStorage, "../../x", "cpu", 4), "its member x/data/../../x is missing"),
    "a view of another": (
        ("storage", torch.FloatStorage, "0", "cpu", 4, ("v", 0, 2)),
        "a persistent id that is no storage",
    ),
    "no tuple": (("storage",), "a persistent id that is no storage"),
}


@pytest.mark.parametrize("what", STORAGES)
def test_a_storage_that_is_none_is_refused(tmp_path, what):
    storage, message = STORAGES[what]
    assert message in refusal(zipped(tmp_path / "x.pt", {"a": tensor(storage, shape=(3,))}))


def test_a_storage_of_two_types_is_refused(tmp_path):
    other = ("storage", torch.DoubleStorage, "0", "cpu", 4)
    path = zipped(tmp_path / "x.pt", {"a": tensor(), "b": tensor(other)})
    assert "a persistent id that is no storage" in refusal(path)


def test_many_tensors_of_one_storage_are_refused_before_they_take_memory(tmp_path):
    big = ("storage", torch.FloatStorage, "0", "cpu", 100_000)
    many = {f"t{k}": tensor(big, shape=(100_000,)) for k in range(50)}
    path = zipped(tmp_path / "x.pt", many, {"data/0": bytes(400_000)})
    assert "its tensors are 20,000,000 bytes, in a file of 40" in refusal(path)


ZIPS = {
    "compressed": ({"how": zipfile.ZIP_DEFLATED}, "is compressed or encrypted, which PyTorch's never are"),
    "of a name that climbs": ({"members": {"../../evil": b"x"}}, "its member '../../evil' points out of the archive"),
    "of a name at the root": ({"members": {"/etc/evil": b"x"}}, "its member '/etc/evil' points out of the archive"),
    "of a name that climbs as Windows would": ({"members": {"a\\b": b"x"}}, "points out of the archive"),
    "a program": ({"members": {"code/a.py": b"x"}}, "it is a TorchScript archive, which is a program"),
    "of two heads": ({"members": {"../x": b""}, "folder": "y"}, "points out of the archive"),
    "of another byte order": ({"members": {"byteorder": b"big"}}, "it was written on a big-endian machine"),
    "of a folder in a folder": (
        {"folder": "x/y"},
        "it is a zip, but none of PyTorch's: it has no data.pkl, or several",
    ),
}


@pytest.mark.parametrize("what", ZIPS)
def test_a_zip_that_pytorch_did_not_write_is_refused(tmp_path, what):
    how, message = ZIPS[what]
    assert message in refusal(zipped(tmp_path / "x.pt", {"a": 1}, **how))


def test_a_zip_bomb_takes_nothing(tmp_path):
    """64 MB of zeros in 64 kB are refused unread, because they are compressed."""
    head = io.BytesIO()
    Pickler(head, 2).dump({"a": tensor(("storage", torch.FloatStorage, "0", "cpu", 16 << 20), shape=(16 << 20,))})
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", head.getvalue(), zipfile.ZIP_STORED)
        archive.writestr("x/data/0", bytes(64 << 20))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    try:
        assert "its member x/data/0 is compressed or encrypted" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_zip_of_too_many_members_is_refused_before_they_are_listed(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": 1})
    path.write_bytes(path.read_bytes() + b"PK\x01\x02" * 100_001)
    assert "it is a zip of more than 100,000 members" in refusal(path)


@pytest.fixture(scope="module")
def small_files() -> list[bytes]:
    """A state dict of little, in both of PyTorch's formats."""
    tensors = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(2).half()}
    files = []
    for newer in (True, False):
        torch.save(OrderedDict(tensors), buffer := io.BytesIO(), _use_new_zipfile_serialization=newer)
        files.append(buffer.getvalue())
    return files


edits = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["set", "cut", "add"]), st.integers(0, 255)), max_size=4
)


@given(edits, st.integers(0, 1))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_of_pytorch_is_data_or_refused(tmp_path, small_files, changes, which):
    damaged = bytearray(small_files[which])
    for at, how, byte in changes:
        at %= len(damaged)
        damaged[at : at + (how != "add")] = b"" if how == "cut" else bytes([byte])
    (tmp_path / "x.pt").write_bytes(damaged)
    refusal(tmp_path / "x.pt", GenregError)  # and no other error: it is no generator at best


def test_a_zip_whose_members_lie_elsewhere_is_refused(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": tensor()})
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02")
    whole[at + 42 : at + 46] = struct.pack("<I", 7)  # the offset of the first member
    path.write_bytes(whole)
    assert "is not where the zip says" in refusal(path)


def test_a_zip_with_two_members_of_one_name_is_refused(tmp_path):
    path = zipped(tmp_path / "x.pt", {"a": 1})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x/data.pkl", b"\x80\x02N.")
    assert "it has two members of one name" in refusal(path)
