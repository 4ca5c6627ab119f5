"""What can run without a network, by the names and sizes of files alone: what they hold is compared when they are read.

The layout of Hugging Face's cache is documented, so its client, which takes long to import, is not asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from genreg.entrypoints import package_folder
from genreg.registry import Entry, Registry

LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)")


def obstacle(entry: Entry, registry: Registry) -> str | None:
    """Why an entry cannot run without a network, and what would help; None where it can."""
    if not entry.installed:
        return "not installed"
    if not entry.weights:
        server = str(entry.defaults.get("options", {}).get("base_url"))
        return None if LOOPBACK.match(server) else "asks a server"
    if entry.weights.startswith("hf://"):
        cached = any(_whole(folder, entry.files) for folder in _snapshots(entry.weights))
        return None if cached else f"not in the cache: genreg pull {entry.name}"
    if _whole(_folder(entry.weights, entry, registry), entry.files):
        return None
    if entry.files:
        return f"files are missing or changed: genreg verify {entry.name}"
    return f"no checkpoint in {entry.weights}"


def hub_cache() -> str:
    """The folder where Hugging Face's client keeps what it fetched, by its own variables."""
    caches = os.environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.environ.get("HF_HOME", os.path.join(caches, "huggingface")))
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return _expanded(os.environ.get("HF_HUB_CACHE", older))


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _snapshots(reference: str) -> list[str]:
    """The folder of a pinned reference in each commit that is cached: files with the same digest serve any of them."""
    repo, _, pin = reference.removeprefix("hf://").partition("@")
    snapshots = os.path.join(hub_cache(), f"models--{repo.replace('/', '--')}", "snapshots")
    commits = os.listdir(snapshots) if os.path.isdir(snapshots) else []
    return [os.path.join(snapshots, commit, pin.partition("/")[2]) for commit in commits]


def _folder(weights: str, entry: Entry, registry: Registry) -> str:
    if not weights.startswith("pkg://"):
        return os.path.join(os.path.dirname(entry.origin), weights)
    dist, _, inside = weights.removeprefix("pkg://").partition("/")
    point = registry.installed.get(dist)
    return os.path.join(package_folder(point.package) or "" if point else "", inside)


def _whole(folder: str, files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all files are there, each of its size; without a list of them, whether a checkpoint is."""
    for name, facts in (files or {"config.json": {}}).items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or os.path.getsize(path) != facts.get("size", os.path.getsize(path)):
            return False
    return True
