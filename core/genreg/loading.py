"""From a path or a reference to a Source: which loader reads it, which writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from genreg.data import Source
from genreg.errors import DataError, UsageError, did_you_mean
from genreg.options import bind, of_function, parse_call
from genreg.specs import DataLoader


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


def by_suffix(path: Path, loaders: Mapping[str, DataLoader], *, writes: bool = False) -> DataLoader:
    """The loader whose suffixes fit the path; raises UsageError with the suffixes that would."""
    able = [loader for loader in loaders.values() if not writes or loader.write]
    suffix = path.suffix.lower()
    for loader in able:
        if suffix in loader.suffixes:
            return loader
    known = ", ".join(sorted(suffix for loader in able for suffix in loader.suffixes))
    asked = f"the suffix {suffix}" if suffix else "a folder" if path.is_dir() else "a name without suffix"
    raise UsageError(f"{path}: {asked} has no {'writer' if writes else 'loader'}; there are: {known}")


def by_scheme(scheme: str, loaders: Mapping[str, DataLoader]) -> DataLoader:
    """The loader of ``scheme://``; raises UsageError with the schemes that there are."""
    for loader in loaders.values():
        if scheme in loader.schemes:
            return loader
    known = [scheme for loader in loaders.values() for scheme in loader.schemes]
    raise UsageError(f"{scheme}://: there is no loader for {scheme}{did_you_mean(scheme, known)}")
