"""Text files: within gzip or zstd or not, in any encoding, and why they cannot be read."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from genreg.errors import DataError

PACKED = {".gz": "gzip", ".zst": "zstd"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
UNPACKED_FREELY = 1 << 28  # bytes; what unpacks to more must not be
BOMB = 200  # times its size: text takes a fiftieth of its size at the least, and a bomb a thousandth


# ---- packed files ----


def unpacked_name(path: Path) -> str:
    """The file's name without the suffix of what it is packed in."""
    return path.name.removesuffix(path.suffix) if path.suffix.lower() in PACKED else path.name


def opened(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked where it is gzip or zstd; raises OSError, and DataError while it is read."""
    file = path.open("rb")
    start = file.read(4)
    file.seek(0)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    return io.BufferedReader(_Unpacked(path, file, kind), 1 << 16) if kind else file


class _Unpacked(io.RawIOBase):
    """What a packed file holds; raises DataError where it is damaged, cut off, or a bomb."""

    def __init__(self, path: Path, file: Any, kind: Any) -> None:
        self._path, self._file, self._given, self._size = path, file, 0, path.stat().st_size
        self._stream: Any = pa.CompressedInputStream(file, kind)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self._path.name} is damaged, or cut off: it does not unpack ({error})") from None
        self._given += len(data)
        refuse_bomb(self._path.name, self._given, self._size)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def refuse_bomb(name: str, unpacked: int, packed: int) -> None:
    """Raise DataError where so many bytes come out of so few as no data does."""
    if unpacked > UNPACKED_FREELY and unpacked > BOMB * packed:
        raise DataError(f"{name} unpacks to more than {BOMB} times its size, as a bomb does: unpack it yourself")


# ---- bytes and encodings ----


def head(path: Path, *, empty: bool = False) -> bytes:
    """The first bytes of a file, unpacked; raises DataError where it cannot be read, or is empty and must not be."""
    try:
        with opened(path) as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not head and not empty:
        raise DataError(f"{path.name} is empty")
    return head


def codec_of(path: Path, loader: str, encoding: str, *, empty: bool = False) -> str:
    """The encoding as Python's codec for it, without a byte order mark; raises DataError."""
    try:
        "x".encode(encoding)
    except LookupError:
        raise DataError(f"encoding={encoding}: no such encoding; try utf-8, gb18030, utf-16 or cp1252") from None
    name = codecs.lookup(encoding).name
    if _guess(head(path, empty=empty)).startswith("utf-16") and not name.startswith(("utf-16", "utf-32")):
        raise wrong_encoding(path, loader, name)
    return "utf-8-sig" if name == "utf-8" else name


def wrong_encoding(path: Path, loader: str, encoding: str) -> DataError:
    """What to say of a file that is not valid in the encoding: where, what it looks like, and the way out."""
    with opened(path) as file:
        sample, where = file.read(4096) + file.readline(), ""
    with opened(path) as file:
        for number, line in enumerate(() if _guess(sample).startswith("utf-16") else file, 1):
            try:
                line.decode(encoding)
            except UnicodeError:
                sample, where = line + file.read(1 << 16) + file.readline(), f" (line {number})"
                break
    guess = _guess(sample)
    name = encoding.removesuffix("-sig").upper()
    found = f"it looks like {guess.upper()}: --loader {loader}:encoding={guess}"
    return DataError(f"{path.name} is not {name}{where}; {found}")


def _guess(sample: bytes) -> str:
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = (sample[::2].count(0), sample[1::2].count(0))
    if max(zeros) > len(sample) / 8 and not min(zeros):
        return "utf-16-be" if zeros[0] else "utf-16-le"
    for encoding in ("utf-8", "gb18030"):
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Western text can pass as GB18030, but then few of its second bytes are above 0x7f
        if encoding == "utf-8" or sum(byte > 127 for byte in sample) >= 1.5 * sum(char > "\x7f" for char in text):
            return encoding
    return "cp1252"


def require_distinct(path: Path, names: list[str]) -> None:
    """Raise DataError where two columns have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path.name} has more than one column named {', '.join(twice)}: rename them")


@contextmanager
def sound(path: Path, kind: str) -> Iterator[None]:
    """What reading raises within is a DataError: the file is damaged, or not of the kind."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        raise DataError(f"{path.name} is damaged, or not {kind}: {str(error).partition(chr(10))[0]}") from None


class Utf8:
    """A text file as a stream of UTF-8 that is never cut after a return.

    Arrow loses the newline of a return and newline within quotes that lie in two blocks (apache/arrow#51368).
    """

    closed = False

    def __init__(self, path: Path, encoding: str) -> None:
        self._file = opened(path)
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left = ""

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        while True:
            data = self._file.read(max(1, size // 4))  # no encoding takes fewer bytes for what takes four in UTF-8
            text = self._left + self._decoder.decode(data, not data)
            ready = text.rstrip("\r") if data else text
            self._left = text[len(ready) :]
            if ready or not data:
                return ready.encode()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self.closed = True
