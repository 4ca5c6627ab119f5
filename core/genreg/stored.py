"""The weights that registries name, all at once: fetched before they are needed, or compared with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from genreg.api import locate
from genreg.checkpoint import files_of
from genreg.errors import CheckpointError, NotCached, UsageError
from genreg.registry import Entry, read_registries


def pull(names: Sequence[str], registries: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Fetch the models of these names or hf:// references, or of every entry on the Hub, whether it can run or not.

    Yields name, weights (with its commit), folder and bytes of each; raises NotFound, and what fetching raises.
    """
    registry = read_registries(registries)
    for name in names or [entry.name for entry in registry.entries.values() if _on_hub(entry)]:
        if not name.startswith("hf://") and not registry.entry(name).weights:
            raise UsageError(f"{name} has no weights: there is nothing to fetch")
        pinned, entry, folder = locate(name, registry)
        assert folder is not None
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        weights = entry.weights if entry else pinned
        yield {"name": name, "weights": weights, "folder": str(folder), "bytes": size}


def verify(names: Sequence[str], registries: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Compare the files of these entries, or of all that have some, with the registry; nothing is fetched.

    Yields name, status (ok, damaged, not fetched, not pinned) and a message for each; raises NotFound.
    """
    registry = read_registries(registries)
    for name in names or [entry.name for entry in registry.entries.values() if entry.installed and entry.weights]:
        entry, row = registry.entry(name), {"name": name, "status": "ok", "message": ""}
        if not entry.weights or not entry.files:
            what = "names no files" if entry.weights else "has no weights"
            yield row | {"status": "not pinned", "message": f"its entry {what}: there is nothing to compare"}
            continue
        try:
            _, _, folder = locate(name, registry, offline=True)
            assert folder is not None
            loose = [file for file, _ in files_of(folder) if file not in entry.files and file != "README.md"]
            yield row | ({"message": f"but {', '.join(loose)} is not registered"} if loose else {})
        except NotCached as error:
            yield row | {"status": "not fetched", "message": str(error)}
        except CheckpointError as error:
            yield row | {"status": "damaged", "message": str(error)}


def _on_hub(entry: Entry) -> bool:
    return (entry.weights or "").startswith("hf://")
