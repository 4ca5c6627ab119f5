"""From a path or a reference to a Source: which loader reads it, which writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from genreg.data import Source
from genreg.entrypoints import install_line
from genreg.errors import UsageError, did_you_mean
from genreg.images import WRITERS
from genreg.options import bind, of_function, parse_call
from genreg.registry import read_registries
from genreg.several import joined, matched
from genreg.specs import DataLoader, Write
from genreg.textfiles import PACKED

T = TypeVar("T")


def open_source(
    where: str | Path | Sequence[str | Path], loaders: Mapping[str, DataLoader], call: str | None = None
) -> Source:
    """The source at a path or ``scheme://`` reference, or of all files of a pattern or a list.

    ``call`` names the loader and its knobs; without it the suffix or scheme decides. Raises UsageError for what no
    loader reads, DataError for bad data.
    """
    name, knobs = parse_call(call, "--loader") if call else (None, {})
    if name is not None and name not in loaders:
        raise UsageError(f"--loader {call}: there is no loader {name}{did_you_mean(name, loaders)}")
    found: list[tuple[str | Path, DataLoader]] = []
    for one in [where] if isinstance(where, str | Path) else where:
        scheme, is_reference, _ = str(one).partition("://")
        for path in [str(one)] if is_reference else matched(one):
            fit = by_scheme(scheme, loaders) if is_reference and not name else None
            found.append((path, loaders[name] if name else fit or by_suffix(path, loaders)))
    loader = found[0][1]
    values = bind(of_function(loader.read), knobs, f"--loader {loader.name}: ")
    if len(found) > 1 and loader.several and all(other is loader for _, other in found):
        return loader.read([path for path, _ in found], **values)
    sources = [other.read(path, **values) for path, other in found]
    return sources[0] if len(sources) == 1 else joined(sources, [str(path) for path, _ in found])


def by_suffix(path: str | Path, loaders: Mapping[str, DataLoader]) -> DataLoader:
    """The loader whose suffixes fit the path (``/`` a folder); raises UsageError with the suffixes that would."""
    return _of_suffix(path, {suffix: loader for loader in loaders.values() for suffix in _suffixes(loader)}, "loader")


def writer_of(path: str | Path, loaders: Mapping[str, DataLoader]) -> Write:
    """What writes the suffix, or the ``/`` at the end of text; raises UsageError with the suffixes that would."""
    able = {suffix: one.write for one in loaders.values() if one.write for suffix in _suffixes(one)}
    return _of_suffix(path, {**WRITERS, **able}, "writer")


def _suffixes(loader: DataLoader) -> list[str]:
    packed = [suffix + end for suffix in loader.suffixes for end in PACKED] if loader.packed else []
    return [*loader.suffixes, *packed]


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
    reader = _installable("suffixes", suffix) if what == "loader" else None
    plain = sorted(known for known in able if not known.endswith((*PACKED,)))
    raise UsageError(f"{path}: {asked} has no {what}; {reader or 'there are: ' + ', '.join(plain)}")


def _installable(what: str, name: str) -> str | None:
    """Which plugin reads files of a suffix, or references of a scheme, and how it is installed."""
    plugins = read_registries().plugins
    reader = next((plugin for plugin, known in plugins.items() if name in known.get(what, [])), None)
    return f"{reader} reads it: {install_line(reader)}" if reader else None


def by_scheme(scheme: str, loaders: Mapping[str, DataLoader]) -> DataLoader:
    """The loader of ``scheme://``; raises UsageError with the schemes that there are."""
    for loader in loaders.values():
        if scheme in loader.schemes:
            return loader
    reader = _installable("schemes", scheme)
    known = [scheme for loader in loaders.values() for scheme in loader.schemes]
    way = f"; {reader}" if reader else did_you_mean(scheme, known)
    raise UsageError(f"{scheme}://: there is no loader for {scheme}{way}")
