"""Pickles read as data: a machine that builds what a file describes, and imports and calls nothing that it names.

A pickle is a program for a stack machine (the opcodes are documented in Python's ``pickletools``). Python's own machine
imports every name in the program and calls what it imported, so that opening a file is running it. This one knows the
opcodes that build data, and looks names up in a table: what is not in the table is refused by name, and what is, stands
for a small function of this package that makes an inert record.

It is bounded. A program of at most ``Budget.steps`` opcodes is followed, each of which adds at most one object, and
text takes at most ``Budget.text`` bytes in the file: what is built takes at most 250 MB and two seconds, whatever the
file. Bytes are not copied but remain views of it; numbers have at most 16 bytes; nothing nests deeper than ``DEEPEST``.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from genreg.errors import DataError

DEEPEST = 100  # levels of lists, tuples, dictionaries and records
LONGEST_NUMBER = 16  # bytes of an integer; PyTorch's magic number has ten
LONGEST_NAME = 256  # bytes of a line that names a module or a class
LAST_PROTOCOL = 5


class PickleError(DataError):
    """The bytes are no pickle, are damaged, or hold what no file of a network needs."""


@dataclass
class Budget:
    """What a file may still ask for; streams within a stream spend from the same one."""

    steps: int = 500_000  # opcodes: the largest network files have some tens of thousands
    text: int = 16 << 20  # bytes: they hold their source text, some hundred thousand

    def step(self, count: int = 1) -> None:
        """Pay for one opcode, or for as many objects as are gone through at once."""
        self.steps -= count
        if self.steps < 0:
            raise PickleError("it takes more steps to build than the file of any network")

    def letters(self, size: int) -> None:
        """Pay for text of that many bytes."""
        self.text -= size
        if self.text < 0:
            raise PickleError("it holds more text than the file of any network")


@dataclass(frozen=True)
class Constructor:
    """What stands for a name that the file calls: makes an inert value of the arguments (a tuple).

    ``make`` raises PickleError for arguments that it does not take.
    """

    make: Callable[[tuple[Any, ...]], Any]


@runtime_checkable
class Buildable(Protocol):
    """A record that takes a state after it was made."""

    def build(self, state: Any) -> None:
        """Take the state; raises PickleError for one that does not fit."""
        ...


class Attributed(dict[Any, Any]):
    """A dictionary of a class of its own, such as OrderedDict: its items count, its attributes are noted and unused."""

    def build(self, state: Any) -> None:
        """Attributes beside the items: an OrderedDict of tensors carries versions of modules."""
        if not isinstance(state, dict):
            raise PickleError("a dictionary is given attributes that are none")


Names: TypeAlias = Mapping[str, Any]  # "module.name" -> what stands for it: a Constructor, or a value


def read(
    data: memoryview,
    names: Names,
    *,
    start: int = 0,
    persistent: Callable[[Any], Any] | None = None,
    budget: Budget | None = None,
) -> tuple[Any, int]:
    """The value that the pickle at ``start`` describes, and the position behind it.

    ``persistent`` answers persistent ids (None: they are refused). Raises PickleError, with what is wrong and where.
    """
    machine = _Machine(data, start, names, persistent, budget or Budget())
    try:
        value = machine.run()
    except PickleError as error:
        raise PickleError(f"{error} (byte {machine.began:,})") from None
    refuse_deep(value)
    return value, machine.at


def refuse_deep(value: Any) -> None:
    """Raise PickleError where something lies more than DEEPEST levels within ``value``; shared parts are seen once."""
    level, seen = [value], {id(value)}
    for _ in range(DEEPEST):
        below = {id(part): part for whole in level for part in _parts(whole) if id(part) not in seen}
        if not below:
            return
        seen.update(below)
        level = list(below.values())
    raise PickleError(f"it nests more than {DEEPEST} levels deep")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return vars(value).values() if hasattr(value, "__dict__") else ()


class _Machine:
    """Stack, marks and memo. ``began`` is where the opcode at work begins."""

    def __init__(
        self, data: memoryview, at: int, names: Names, persistent: Callable[[Any], Any] | None, budget: Budget
    ) -> None:
        self.data, self.at, self.began = data, at, at
        self.names, self.persistent, self.budget = names, persistent, budget
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow the program to its STOP, and return what is then on top of the stack."""
        while True:
            self.budget.step()
            self.began = self.at
            code = bytes(self.take(1))
            if code == b".":
                value = self.pop()
                if self.stack or self.marked:
                    raise PickleError("it ends with more than one value")
                return value
            step = STEPS.get(code)
            if step is None:
                known = next((f"the opcode {op.name}" for op in pickletools.opcodes if op.code == chr(code[0])), None)
                raise PickleError(f"it has {known or f'the byte {code.hex()}'}, and no network file needs it")
            step(self)

    # ---- reading ----

    def take(self, size: int) -> memoryview:
        """The next bytes, as a view of the file."""
        if size > len(self.data) - self.at:
            raise PickleError(f"it ends where {size:,} more bytes should follow: the file is cut off or damaged")
        found = self.data[self.at : self.at + size]
        self.at += size
        return found

    def number(self, form: str) -> Any:
        """The next number, of a struct format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def integer(self, size: int) -> int:
        """A two's complement integer of that many bytes."""
        if size > LONGEST_NUMBER:
            raise PickleError(f"it has a number of {size:,} bytes, and none needs more than {LONGEST_NUMBER}")
        return int.from_bytes(self.take(size), "little", signed=True)

    def text(self, size: int) -> str:
        """UTF-8 of that many bytes."""
        self.budget.letters(size)
        try:
            return str(self.take(size), "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PickleError("it has text that is not UTF-8") from None

    def line(self) -> str:
        """Text up to the end of a line."""
        near = bytes(self.data[self.at : self.at + LONGEST_NAME])
        length = near.find(b"\n")
        if length < 0:
            raise PickleError(f"it names something in more than {LONGEST_NAME} letters, or is cut off")
        found = self.text(length)
        self.at += 1
        return found

    # ---- the stack ----

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top of the stack."""
        if not self.stack:
            raise PickleError("it takes a value where there is none")
        return self.stack.pop()

    def pops(self, count: int) -> tuple[Any, ...]:
        """Take several values, in the order in which they were pushed."""
        return tuple(self.pop() for _ in range(count))[::-1]

    def mark(self) -> None:
        """Begin a group of values."""
        self.marked.append(self.stack)
        self.stack = []

    def group(self) -> list[Any]:
        """Take all values since the last mark."""
        if not self.marked:
            raise PickleError("it closes a group that it did not open")
        found, self.stack = self.stack, self.marked.pop()
        return found

    def top(self, kind: type | tuple[type, ...], what: str) -> Any:
        """The top of the stack, which must be of that kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise PickleError(f"it {what} something else")
        return self.stack[-1]

    # ---- opcodes of more than a line ----

    def append(self, values: Iterable[Any]) -> None:
        """Add to the list on top."""
        self.top(list, "appends to").extend(values)

    def add(self, values: Iterable[Any]) -> None:
        """Add to the set on top."""
        self.top(set, "adds members to").update(map(key, values))

    def items(self, values: list[Any]) -> None:
        """Set items of the dictionary on top."""
        if len(values) % 2:
            raise PickleError("it has a key without a value")
        self.top(dict, "sets items of").update(zip(map(key, values[::2]), values[1::2], strict=True))

    def remember(self, index: int) -> None:
        """Note the top of the stack under a number."""
        self.memo[index] = self.top((object,), "notes")

    def recall(self, index: int) -> None:
        """Push what was noted."""
        if index not in self.memo:
            raise PickleError(f"it asks for value {index}, which it never noted")
        self.push(self.memo[index])

    def name(self, module: Any, name: Any) -> None:
        """Push what stands for a name; nothing is imported."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("it names something by what is no text")
        asked = f"{module}.{name}"
        if asked not in self.names:
            raise PickleError(f"it asks for {asked[:LONGEST_NAME]!r}, which no network needs: it may be there to run")
        self.push(self.names[asked])

    def call(self) -> None:
        """Make a record of what the file calls with arguments."""
        callee, arguments = self.pops(2)
        if not isinstance(callee, Constructor) or not isinstance(arguments, tuple):
            raise PickleError("it calls what is no constructor of this format")
        self.budget.step(sum(len(one) for one in arguments if isinstance(one, list | tuple | dict)))  # it may copy them
        self.push(callee.make(arguments))

    def build(self) -> None:
        """Give a record its state."""
        state = self.pop()
        record = self.top((object,), "gives a state to")
        if not isinstance(record, Buildable):
            raise PickleError("it gives a state to what has none")
        record.build(state)

    def persist(self) -> None:
        """Push what a persistent id stands for."""
        if self.persistent is None:
            raise PickleError("it has a persistent id, which points out of the file")
        self.push(self.persistent(self.pop()))


def key(value: Any) -> Any:
    """A key or member: text or a short number, whose hash costs nothing, however it was chosen."""
    if isinstance(value, str) or (isinstance(value, int) and -(2**31) <= value < 2**31):
        return value
    raise PickleError("it has a key that is neither text nor a small number")


Step: TypeAlias = Callable[[_Machine], None]
STEPS: dict[bytes, Step] = {
    b"\x80": lambda m: _refuse_newer(m.number("B")),  # PROTO
    b"\x95": lambda m: _refuse_longer(m.number("<Q"), len(m.data) - m.at),  # FRAME
    b"(": lambda m: m.mark(),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(m.integer(m.number("B"))),  # LONG1
    b"G": lambda m: m.push(m.number(">d")),
    b"\x8c": lambda m: m.push(m.text(m.number("B"))),  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"\x8d": lambda m: m.push(m.text(m.number("<Q"))),
    b"C": lambda m: m.push(m.take(m.number("B"))),  # SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.push(set()),
    b"a": lambda m: m.append(m.pops(1)),
    b"e": lambda m: m.append(m.group()),
    b"s": lambda m: m.items(list(m.pops(2))),
    b"u": lambda m: m.items(m.group()),
    b"\x90": lambda m: m.add(m.group()),
    b"\x91": lambda m: m.push(frozenset(map(key, m.group()))),
    b"t": lambda m: m.push(tuple(m.group())),
    b"\x85": lambda m: m.push(m.pops(1)),
    b"\x86": lambda m: m.push(m.pops(2)),
    b"\x87": lambda m: m.push(m.pops(3)),
    b"q": lambda m: m.remember(m.number("B")),  # BINPUT, LONG_BINPUT, MEMOIZE
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.recall(m.number("B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": lambda m: m.name(m.line(), m.line()),  # GLOBAL, STACK_GLOBAL
    b"\x93": lambda m: m.name(*m.pops(2)),
    b"R": lambda m: m.call(),  # REDUCE, NEWOBJ
    b"\x81": lambda m: m.call(),
    b"b": lambda m: m.build(),
    b"Q": lambda m: m.persist(),
}


def _refuse_newer(protocol: int) -> None:
    if protocol > LAST_PROTOCOL:
        raise PickleError(f"it is a pickle of protocol {protocol}, and {LAST_PROTOCOL} is the last that is known")


def _refuse_longer(frame: int, left: int) -> None:
    if frame > left:
        raise PickleError(f"it has a frame of {frame:,} bytes where {left:,} are left: the file is cut off or damaged")
