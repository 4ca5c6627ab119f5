"""Text files: what their bytes are, in which encoding, and why they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from genreg.errors import DataError


def head(path: Path) -> bytes:
    """The first bytes of a file; raises DataError where it cannot be read or is empty."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not head:
        raise DataError(f"{path.name} is empty")
    return head


def codec_of(path: Path, loader: str, encoding: str) -> str:
    """The encoding as Python's codec for it, without a byte order mark; raises DataError."""
    import codecs

    try:
        "x".encode(encoding)
    except LookupError:
        raise DataError(f"encoding={encoding}: no such encoding; try utf-8, gb18030, utf-16 or cp1252") from None
    name = codecs.lookup(encoding).name
    if _guess(head(path)).startswith("utf-16") and not name.startswith(("utf-16", "utf-32")):
        raise wrong_encoding(path, loader, name)
    return "utf-8-sig" if name == "utf-8" else name


def wrong_encoding(path: Path, loader: str, encoding: str) -> DataError:
    """What to say of a file that is not valid in the encoding: where, what it looks like, and the way out."""
    with path.open("rb") as file:
        sample, where = file.read(4096) + file.readline(), ""
        file.seek(0)
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
        import codecs

        self._file = path.open("rb")
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
