"""From a path or a reference to a Source: which loader reads it, which writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from genreg.data import Source
from genreg.entrypoints import install_line
from genreg.errors import DataError, UsageError, did_you_mean
from genreg.images import WRITERS
from genreg.options import bind, of_function, parse_call
from genreg.registry import read_registries
from genreg.specs import DataLoader, Write

T = TypeVar("T")


def open_source(where: str | Path, loaders: Mapping[str, DataLoader], call: str | None = None) -> Source:
    """The source at a path or ``scheme://`` reference; ``call`` names the loader and its knobs.

    Without ``call`` the suffix or scheme decides. Raises UsageError for what no loader reads, DataError for bad data.
    """
    name, knobs = parse_call(call, "--loader") if call else (None, {})
    scheme, found, _ = str(where).partition("://")
    if name is None:
        loader = by_scheme(scheme, loaders) if found else by_suffix(Path(where), loaders)
    elif name in loaders:
        loader = loaders[name]
    else:
        raise UsageError(f"--loader {call}: there is no loader {name}{did_you_mean(name, loaders)}")
    values = bind(of_function(loader.read), knobs, f"--loader {loader.name}: ")
    if not found and not Path(where).exists():
        raise DataError(f"{where}: there is no such file")
    return loader.read(str(where) if found else Path(where), **values)


def by_suffix(path: Path, loaders: Mapping[str, DataLoader]) -> DataLoader:
    """The loader whose suffixes fit the path (``/`` a folder); raises UsageError with the suffixes that would."""
    return _of_suffix(path, {suffix: loader for loader in loaders.values() for suffix in loader.suffixes}, "loader")


def writer_of(path: str | Path, loaders: Mapping[str, DataLoader]) -> Write:
    """What writes the suffix, or the ``/`` at the end of text; raises UsageError with the suffixes that would."""
    able = {suffix: one.write for one in loaders.values() if one.write for suffix in one.suffixes}
    return _of_suffix(path, {**WRITERS, **able}, "writer")


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder, or text that ends as one that is yet to be made."""
    return str(path).endswith("/") or os.path.isdir(path)  # noqa: PTH112 - pathlib raises where a name is too long


def _of_suffix(path: str | Path, able: Mapping[str, T], what: str) -> T:
    name = "/" if is_folder(path) else Path(path).name.lower()
    for known in sorted(able, key=len, reverse=True):
        if name.endswith(known):
            return able[known]
    suffix = "/" if name == "/" else Path(path).suffix.lower()
    asked = "a folder" if suffix == "/" else f"the suffix {suffix}" if suffix else "a name without suffix"
    plugins = read_registries().plugins if what == "loader" else {}
    reader = next((plugin for plugin, known in plugins.items() if suffix in known.get("suffixes", [])), None)
    way = f"{reader} reads it: {install_line(reader)}" if reader else f"there are: {', '.join(sorted(able))}"
    raise UsageError(f"{path}: {asked} has no {what}; {way}")


def by_scheme(scheme: str, loaders: Mapping[str, DataLoader]) -> DataLoader:
    """The loader of ``scheme://``; raises UsageError with the schemes that there are."""
    for loader in loaders.values():
        if scheme in loader.schemes:
            return loader
    known = [scheme for loader in loaders.values() for scheme in loader.schemes]
    raise UsageError(f"{scheme}://: there is no loader for {scheme}{did_you_mean(scheme, known)}")
