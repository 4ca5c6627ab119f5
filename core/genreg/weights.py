"""References to weights, resolved to verified local folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genreg.checkpoint import INDEX, shards_of
from genreg.entrypoints import GROUP, install_line, package_folder, scan
from genreg.errors import CheckpointError, UsageError
from genreg.files import sha256


def resolve(
    reference: str,
    *,
    base: Path | None = None,
    files: Mapping[str, Mapping[str, Any]] | None = None,
    mend: str = "install the package again",
    offline: bool = False,
) -> Path:
    """The local folder of ``pkg://dist/folder``, ``hf://org/repo@commit`` or a path (relative to ``base``).

    ``files`` (name -> sha256, size) is checked where given; ``mend`` says what to do where they differ. Raises
    UsageError for a reference that cannot be resolved, CheckpointError for a file that is not the one registered.
    """
    for name in files or {}:
        plain_name(name, f"{reference}: the file ")
    if reference.startswith("hf://"):
        from genreg.fetch import fetch

        _, folder = fetch(reference, files, offline=offline, mend=mend)
    else:
        folder = _in_package(reference) if reference.startswith("pkg://") else (base or Path()) / reference
    for name, facts in (files or {}).items():
        verify(folder / name, facts, mend)
        if name.endswith(INDEX) and (loose := set(shards_of(folder / name).values()) - (files or {}).keys()):
            raise CheckpointError(f"{folder / name} names {min(loose)}, which is not registered: {mend}")
    return folder


def verify(path: Path, facts: Mapping[str, Any], mend: str) -> None:
    """Compare a file with its registered size and sha256; raises CheckpointError where they differ."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, though it is registered: {mend}")
    if "size" in facts and path.stat().st_size != facts["size"]:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, and {facts['size']:,} are registered, so it was changed: {mend}"
        )
    if "sha256" in facts and sha256(path) != facts["sha256"]:
        raise CheckpointError(f"{path} is not the file that is registered (sha256 differs): {mend}")


def plain_name(name: str, where: str = "") -> str:
    """The name, if it names a file in its folder and nothing outside; raises UsageError otherwise."""
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UsageError(f"{where}{name!r} is no plain file name")
    return name


def _in_package(reference: str) -> Path:
    dist, _, inside = reference.removeprefix("pkg://").partition("/")
    parts = [plain_name(part, f"{reference}: ") for part in inside.split("/")] if inside else []
    point = next((point for point in scan() if point.group == GROUP and point.dist == dist), None)
    folder = package_folder(point.package) if point else None
    if folder is None or not parts:
        raise UsageError(
            f"{reference}: {f'{dist} is not installed: {install_line(dist)}' if not folder else 'name a folder'}"
        )
    return Path(folder, *parts)
