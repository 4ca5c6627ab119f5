"""Pickles as data: what Python writes is read back, and nothing that anybody writes is run.

A hook on Python's audit events listens whenever the reader works: an import, a compilation, an execution, an opened
file or a lookup by Python's own unpickler is noted, and fails the test.
"""

from __future__ import annotations

import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genreg_stylegan.officialfiles import read_official
from genreg_stylegan.pickles import DEEPEST, STEPS, Budget, Constructor, PickleError, read
from genreg_stylegan.torchfiles import COMMON, TORCH, Tensor, read_older

heard: list[str] | None = None
FORBIDDEN = ("import", "exec", "compile", "open", "os.", "subprocess.", "pickle.", "socket.", "ctypes.", "marshal.")


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if heard is not None and event.startswith(FORBIDDEN):
        heard.append(f"{event} {arguments[0] if arguments else ''}")


sys.addaudithook(_hear)


@contextmanager
def nothing_runs():
    global heard
    heard = []
    try:
        yield
        assert heard == []
    finally:
        heard = None


def value_of(program: bytes, names=COMMON, **how):
    with nothing_runs():
        return read(memoryview(program), names, **how)[0]


def refusal(program: bytes, names=COMMON, **how) -> str:
    with nothing_runs(), pytest.raises(PickleError) as refused:
        read(memoryview(program), names, **how)
    return str(refused.value)


def text(words: str) -> bytes:
    return b"\x8c" + bytes([len(words)]) + words.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def plain(value):
    """The value with views as bytes, so that it can be compared."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


# What Python writes

keys = st.text(max_size=5) | st.integers(-(2**31), 2**31 - 1)
atoms = st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text(max_size=300)
data = st.recursive(
    atoms | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=5)
        | st.tuples(inner)
        | st.lists(inner, max_size=5).map(tuple)
        | st.sets(keys, max_size=5)
        | st.frozensets(keys, max_size=5)
    ),
    max_leaves=30,
)


@given(data, st.integers(3, 5))
@example([[1] * 2000, ["a"] * 3, {f"k{i}": i for i in range(1500)}], 4)
@example({"long": "x" * 300, "bytes": b"y" * 300, "shared": [(0,)] * 3}, 3)
@settings(deadline=None)
def test_plain_data_is_read_as_python_reads_it(value, protocol):
    program = pickle.dumps(value, protocol)
    found, end = read(memoryview(program), COMMON)
    assert plain(found) == value
    assert end == len(program)


@given(st.recursive(atoms | st.sets(keys), lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20))
@settings(deadline=None)
def test_so_is_what_older_pythons_wrote(value):
    assert value_of(pickle.dumps(value, 2)) == value


def test_a_list_that_holds_itself_is_read():
    loop: list[object] = [1]
    loop.append(loop)
    found = value_of(pickle.dumps(loop))
    assert found[0] == 1
    assert found[1] is found


def test_bytes_are_views_of_the_file():
    program = memoryview(pickle.dumps(b"x" * 100_000))
    found, _ = read(program, {})
    assert found.obj is program.obj
    assert found.readonly


def test_an_ordered_dictionary_keeps_its_items_and_loses_its_attributes():
    made = OrderedDict(a=1, b=2)
    made._metadata = OrderedDict(version=1)  # as state dicts of PyTorch have
    assert value_of(pickle.dumps(made)) == {"a": 1, "b": 2}


def test_numpy_numbers_become_numbers_and_arrays_are_passed_over():
    found = value_of(
        pickle.dumps([np.float32(1.5), np.int64(-7), np.bool_(True), np.arange(3.0), np.ones((2, 2))[:, :1]])
    )
    assert found[:3] == [1.5, -7, True]
    found = value_of(pickle.dumps(np.arange(3), protocol=5))
    assert type(found).__name__ == "NumpyArray"


# What nobody should write

RUN = text("import os; os._exit(3)") + b"\x85R"
HOSTILE = {
    "a builtin": (named("builtins", "exec") + RUN, "it asks for 'builtins.exec', which no network needs"),
    "by the older opcode": (b"cos\nsystem\n" + RUN, "it asks for 'os.system'"),
    "a name within a name": (
        named("collections", "OrderedDict.fromkeys") + RUN, "asks for 'collections.OrderedDict.fromkeys'"),
    "an inner part of torch": (
        named("torch._utils", "_import_dotted_name") + RUN, "asks for 'torch._utils._import_dotted_name'"),
    "torch's own loader": (named("torch", "load") + RUN, "it asks for 'torch.load'"),
    "torch's loader of bytes, outside its place": (
        named("torch.storage", "_load_from_bytes") + RUN, "asks for 'torch.storage"),
    "numpy's loader": (named("numpy", "load") + RUN, "it asks for 'numpy.load'"),
    "a name that is none": (b"K\x01K\x02\x93", "it names something by what is no text"),
    "text that is called": (text("print") + RUN, "it calls what is no constructor"),
    "arguments that are no tuple": (named("torch", "Size") + b"]R", "it calls what is no constructor"),
    "a type that is called": (named("numpy", "ndarray") + b")R", "it calls what is no constructor"),
    "NEWOBJ": (text("print") + b")\x81", "it calls what is no constructor"),
    "NEWOBJ_EX": (named("torch", "Size") + b")}\x92", "it has the opcode NEWOBJ_EX, and no network file needs it"),
    "INST": (b"(ios\nsystem\n", "it has the opcode INST"),
    "OBJ": (b"(" + named("torch", "Size") + b"o", "it has the opcode OBJ"),
    "BUILD on a list": (b"]}b", "it gives a state to what has none"),
    "BUILD on text": (text("x") + b"}b", "it gives a state to what has none"),
    "BUILD on a constructor": (named("torch", "Size") + b"}b", "it gives a state to what has none"),
    "attributes that are none": (named("collections", "OrderedDict") + b")R]b", "is given attributes that are none"),
    "EXT1": (b"\x82\x01", "it has the opcode EXT1"),
    "EXT2": (b"\x83\x01\x00", "it has the opcode EXT2"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "it has the opcode EXT4"),
    "a persistent id": (
        text("x") + b"Q", "it has a persistent id, which points out of the file"),
    "a persistent id in text": (b"Px\n", "it has the opcode PERSID"),
    "a buffer from outside": (b"\x97", "it has the opcode NEXT_BUFFER"),
    "a number in text": (b"I12\n", "it has the opcode INT"),
    "a number of many digits": (b"L" + b"9" * 99 + b"L\n", "it has the opcode LONG"),
    "a huge number": (b"\x8b" + struct.pack("<i", 2**31 - 1), "it has the opcode LONG4"),
    "a large number": (b"\x8a\xff" + b"\xff" * 255, "it has a number of 255 bytes, and none needs more than 16"),
    "text in quotes": (b"S'x'\n", "it has the opcode STRING"),
    "an unknown byte": (b"\xfe", "it has the byte fe"),
    "bytes beyond the file": (b"B\xff\xff\xff\x7f", "it ends where 2,147,483,647 more bytes should follow"),
    "text beyond the file": (b"X\xff\xff\xff\x00abc", "it ends where 16,777,215 more bytes should follow"),
    "more text than a network has": (b"X\xff\xff\xff\xff", "it holds more text than the file of any network"),
    "more bytes than there are": (b"\x8e" + b"\xff" * 8, "it ends where 18,446,744,073,709,551,615 more bytes"),
    "a frame beyond the file": (b"\x95" + struct.pack("<Q", 99), "it has a frame of 99 bytes where"),
    "nothing on the stack": (b"R", "it takes a value where there is none"),
    "a group that nobody opened": (b"t", "it closes a group that it did not open"),
    "an append to text": (text("x") + b"Na", "it appends to something else"),
    "items of a list": (b"]NNs", "it sets items of something else"),
    "members of a list": (b"](N\x90", "it adds members to something else"),
    "a key without a value": (b"}(" + text("x") + b"u", "it has a key without a value"),
    "a tuple as a key": (b"})Ns", "it has a key that is neither text nor a small number"),
    "a large number as a key": (b"}\x8a\x08" + b"\x7f" * 8 + b"Ns", "it has a key that is neither"),
    "a number as a key that hashes like others": (b"}G" + b"\x00" * 8 + b"Ns", "it has a key that is neither"),
    "a memo that was never filled": (b"h\x07", "it asks for value 7, which it never noted"),
    "a memo of nothing": (b"\x94", "it notes something else"),
    "two values": (b"NN", "it ends with more than one value"),
    "an open group": (b"(N", "it ends with more than one value"),
    "a protocol to come": (b"\x80\x06N", "it is a pickle of protocol 6, and 5 is the last that is known"),
    "text that is none": (b"X\x01\x00\x00\x00\xff", "it has text that is not UTF-8"),
    "a long name": (b"c" + b"x" * 300 + b"\ny\n", "it names something in more than 256 letters"),
    "a size of no tuple": (named("torch", "Size") + b"]\x85R", "it has a size that is no tuple"),
    "a dictionary of arguments": (named("collections", "OrderedDict") + b"]\x85R", "makes a dictionary of arguments"),
    "numbers that are objects": (named("numpy", "dtype") + text("O8") + b"\x89\x88\x87R", "type that is no number"),
    "a number of no bytes": (
        named("numpy._core.multiarray", "scalar") + named("numpy", "dtype") + text("f8") + b"\x85RC\x00\x86R",
        "a NumPy number whose bytes do not fit its type",
    ),
    "a tensor without a storage": (named("torch._utils", "_rebuild_tensor_v2") + b"(NK\x00)))tR", "a tensor that"),
    "a set of a dictionary": (named("builtins", "set") + b"}\x85R", "it makes a set of what is no list"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_network_needs_is_refused_with_the_reason(what):
    program, reason = HOSTILE[what]
    assert reason in refusal(b"\x80\x04" + program + b".")


def test_a_refusal_says_where():
    assert refusal(b"\x80\x04NN\xfe.") == "it has the byte fe, and no network file needs it (byte 4)"


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_pickle_that_is_cut_off_anywhere_is_refused(protocol):
    program = pickle.dumps({"a": [1, 2.5, "text", b"bytes"], "b": OrderedDict(c=(1, 2))}, protocol)
    for length in range(len(program)):
        assert "cut off" in refusal(program[:length])


LISTS, TUPLES = b"]" * 101 + b"a" * 100, b")" + b"\x85" * 100
DICTIONARIES = (b"}" + text("x")) * 100 + b"}" + b"s" * 100


@pytest.mark.parametrize("inner", [LISTS, TUPLES, DICTIONARIES, b")" + b"\x85" * 100_000])
def test_what_nests_too_deep_is_refused(inner):
    assert f"it nests more than {DEEPEST} levels deep" in refusal(b"\x80\x04" + inner + b".")


def test_what_nests_as_deep_as_it_may_is_read():
    assert value_of(b"\x80\x04" + b"]" * 100 + b"a" * 99 + b".") != []


def test_what_doubles_at_every_level_takes_no_more_than_its_program():
    """A tuple of two times the tuple before, 90 times: 2 ** 90 leaves for whoever would count them."""
    program = b"\x80\x04)" + b"\x94h\x00\x86"  # memo 0
    for level in range(1, 90):
        program += b"\x94h" + bytes([level]) + b"\x86"
    found = value_of(program + b".")
    assert found[0] is found[1]


def test_a_billion_elements_end_with_the_steps_that_a_file_may_take():
    """Every element takes an opcode of the file, so that what a list costs is in proportion to the steps."""
    assert Budget().steps == 500_000
    assert "it takes more steps to build" in refusal(b"\x80\x04](" + b"N" * 500_000 + b"e.")
    assert len(value_of(b"\x80\x04](" + b"N" * 499_000 + b"e.")) == 499_000


@pytest.mark.parametrize("opcode", [b"\x8f", b"}", b"]", b"G" + b"\x01" * 8, b"(", b"\x8f\x94"])
def test_a_step_takes_at_most_250_bytes(opcode):
    steps = 30_000
    program = memoryview(b"\x80\x04" + opcode * (2 * steps))
    tracemalloc.start()
    try:
        with pytest.raises(PickleError, match="more steps"):
            read(program, {}, budget=Budget(steps=steps))
        assert tracemalloc.get_traced_memory()[1] <= 250 * steps
    finally:
        tracemalloc.stop()


def test_text_has_a_bound_of_its_own_and_streams_within_a_stream_share_it():
    program = b"\x80\x04](" + text("x" * 200) * 10 + b"e."
    assert "it holds more text" in refusal(program, budget=Budget(text=1999))
    assert len(value_of(program, budget=Budget(text=2000))) == 10
    shared = Budget(steps=20)
    value_of(program, budget=shared)
    assert "more steps" in refusal(program, budget=shared)


def test_what_constructors_may_copy_is_paid_for():
    """One long list, made a set a thousand times: four opcodes each, and a thousand members."""
    program = b"\x80\x04(" + named("builtins", "set") + b"q\x01](" + b"K\x05" * 1000 + b"e\x85q\x02"
    program += b"h\x01h\x02R" * 1000 + b"t."
    assert len(program) < 10_000
    assert "more steps" in refusal(program, budget=Budget(steps=100_000))


def test_a_constructor_gets_what_the_file_says_and_nothing_else():
    asked = []
    names = {"any.thing": Constructor(lambda arguments: asked.append(arguments) or len(asked))}
    assert value_of(b"\x80\x04" + named("any", "thing") + b"K\x01K\x02\x86R.", names) == 1
    assert asked == [(1, 2)]


# Anything at all

CODES = st.sampled_from(sorted(STEPS))
ARGUMENTS = st.sampled_from(
    [b"", b"\x00", b"\x01", b"\x02\x00", b"\x01\x00\x00\x00", bytes(8), text("state"), b")", b"N"]
)
CALLS = st.sampled_from(
    [named(*name.rsplit(".", 1)) for name in TORCH]
    + [named("torch.storage", "_load_from_bytes"), named("os", "system")]
)


def survives(program: bytes, reader) -> None:
    """Reads, or refuses in its own words; nothing runs, whatever the bytes."""
    with nothing_runs(), suppress(PickleError):
        reader(memoryview(program))


READERS = (read_official, read_older, lambda stream: read(stream, TORCH))


@given(st.binary(max_size=200), st.sampled_from(READERS))
@settings(deadline=None)
def test_any_bytes_are_data_or_refused(program, reader):
    survives(program, reader)


@given(st.lists(CODES | ARGUMENTS | CALLS, max_size=60).map(b"".join), st.sampled_from(READERS))
@settings(max_examples=300, deadline=None)
def test_any_program_is_data_or_refused(program, reader):
    survives(b"\x80\x04" + program + b".", reader)


def small_network() -> bytes:
    """A network of one tensor, written opcode by opcode as Python and PyTorch write it."""
    storage = (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + pickle.dumps({"little_endian": True}, 2)
        + b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x02NtQ."
        + pickle.dumps(["a"], 2) + struct.pack("<qff", 2, 1.5, -2.5)
    )  # fmt: skip
    load = named("torch.storage", "_load_from_bytes") + b"C" + bytes([len(storage)]) + storage + b"\x85R"
    tensor = named("torch._utils", "_rebuild_tensor_v2") + b"(" + load + b"K\x00K\x02\x85K\x01\x85\x89N" + b"tR"
    state = b"}" + text("_buffers") + b"}" + text("w_avg") + tensor + b"ss"
    record = b"}(" + text("type") + text("class") + text("class_name") + text("Generator")
    record += text("module_src") + text("raise SystemExit") + text("state") + state + b"u"
    module = named("torch_utils.persistence", "_reconstruct_persistent_obj") + record + b"\x85R"
    return b"\x80\x04}" + text("G_ema") + module + b"s."


def test_a_network_that_was_written_by_hand_is_read():
    with nothing_runs():
        found = read_official(memoryview(small_network()))["G_ema"]
    assert found.class_name == "Generator"
    tensors = found.tensors()
    assert tensors["w_avg"].array().tolist() == [1.5, -2.5]
    assert isinstance(tensors["w_avg"], Tensor)


edits = st.lists(
    st.tuples(st.integers(0, len(small_network()) - 1), st.sampled_from(["set", "cut", "add"]), st.integers(0, 255)),
    min_size=1, max_size=4,
)  # fmt: skip


@given(edits)
@settings(max_examples=500, deadline=None)
def test_a_damaged_network_is_data_or_refused(changes):
    program = bytearray(small_network())
    for at, how, byte in changes:
        at %= len(program)
        program[at : at + (how != "add")] = b"" if how == "cut" else bytes([byte])
    with nothing_runs(), suppress(PickleError):
        for module in read_official(memoryview(bytes(program))).values():
            module.arguments()
            {name: tensor.array() for name, tensor in module.tensors().items()}


@pytest.mark.parametrize("name", ["builtins.exec", "collections.OrderedDict"])
def test_the_inner_stream_of_a_storage_is_held_to_less_than_the_file(name):
    """Names that the file may use are none that its storages may use: an exec there is refused as anywhere."""
    inner = b"\x80\x02c" + name.replace(".", "\n").encode() + b"\n."
    hidden = small_network().replace(b"\x80\x02(X\x07\x00\x00\x00storage", inner + b"\x80\x02(X\x07\x00\x00\x00storage")
    start = hidden.index(b"_load_from_bytes") + len(b"_load_from_bytes") + 2
    assert hidden[start - 1 : start] == b"C"
    longer = hidden[:start] + bytes([hidden[start] + len(inner)]) + hidden[start + 1 :]
    with nothing_runs(), pytest.raises(PickleError, match=f"it asks for '{name}'"):
        read_official(memoryview(longer))
