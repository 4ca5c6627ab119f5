"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from genreg.errors import DataError, UsageError

LONGEST_NAME = 230  # bytes of a file's name: most systems take 255, and .recipe.json and a temporary prefix must fit


@contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends, and vanishes when it fails.

    Raises UsageError where ``path`` is there already (unless forced), is a folder, or cannot be written.
    """
    refuse_existing(path, force=force)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: writers go by it
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """The same for a folder; with ``replace`` the old one is put aside first and removed last."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        if replace and path.exists():
            path.replace(aside)
        temporary.replace(path)
    except OSError as error:
        if aside.exists() and not path.exists():
            aside.replace(path)
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(path: Path, *, force: bool = False) -> None:
    """Raise UsageError where writing to ``path`` would overwrite something unasked, or cannot succeed."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UsageError(f"{path}: the name is longer than {LONGEST_NAME} bytes: choose a shorter one")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it, such as {path / 'samples.csv'}")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: choose another name, or --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}: make it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: the folder {path.parent} cannot be written")


def sha256(path: Path) -> str:
    """The hex digest of a file's content, read again where the file has changed; raises DataError if it cannot be."""
    try:
        real = path.resolve()
        now = real.stat()
        return _sha256(real, (now.st_size, now.st_mtime_ns, now.st_ino))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=1024)
def _sha256(path: Path, state: tuple[int, ...]) -> str:  # noqa: ARG001 - what a change is seen by
    """Weights are verified when they are loaded and named in the recipe: they are read for it once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written: {reason(error)}; nothing was left half done")


def reason(error: OSError) -> str:
    """Why the system refused, in its own words."""
    return os.strerror(error.errno) if error.errno else str(error)
