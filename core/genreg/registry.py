"""Registry files merged: the core's, each plugin's, the user's, --registry FILE; the later wins. No hook runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from genreg.entrypoints import GROUP, EntryPoint, install_line, package_folder, scan
from genreg.errors import NotFound, RegistryError, did_you_mean
from genreg.registryfile import OFFERS, read_file


@dataclass(frozen=True)
class Entry:
    """A named model: family, weights and defaults."""

    name: str
    family: str
    summary: str
    makes: str
    origin: str  # the file that names it
    plugin: str | None = None  # the distribution that its family needs; None: any
    installed: bool = True
    weights: str | None = None
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    check: Mapping[str, Any] = field(default_factory=dict)  # what the conformance kit gives, and expects to fail
    overrides: str | None = None  # the file whose entry of this name it replaces


@dataclass(frozen=True)
class Registry:
    """All entries, the plugins that exist (installed or not), and what the installed ones offer."""

    entries: dict[str, Entry] = field(default_factory=dict)
    plugins: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    offers: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in OFFERS})
    installed: dict[str, EntryPoint] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def entry(self, name: str) -> Entry:
        """The entry of that name; raises NotFound with a close name, or the line that installs its plugin."""
        if name not in self.entries:
            raise NotFound(f"there is no model {name}{did_you_mean(name, self.entries)}")
        entry = self.entries[name]
        if not entry.installed and entry.plugin:
            raise NotFound(f"{name} needs {entry.plugin}, which is not installed: {install_line(entry.plugin)}")
        return entry


def read_registries(extra: Iterable[str] = ()) -> Registry:
    """Merge the files; one plugin's broken file is a problem noted, the user's own a RegistryError."""
    registry = Registry()
    points = [point for point in scan() if point.group == GROUP]
    registry.installed.update({point.dist: point for point in points})
    _merge(registry, core_file(), None)
    for point in points:
        folder = package_folder(point.package) if point.dist != "genreg-core" else None
        if folder and os.path.isfile(os.path.join(folder, "registry.yaml")):
            try:
                _merge(registry, os.path.join(folder, "registry.yaml"), point.dist)
            except RegistryError as error:
                registry.problems.append(str(error))
    user = user_file()
    for path in [*([user] if os.path.isfile(user) else []), *extra]:
        _merge(registry, path, None)
    return registry


def user_file() -> str:
    """The user's own registry.yaml, there or not."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(config, "genreg", "registry.yaml")


def core_file() -> str:
    """The core's registry.yaml: inside the package (wheel), or at the root of a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    inside, root = os.path.join(here, "registry.yaml"), os.path.join(here, "..", "..", "registry.yaml")
    return inside if os.path.isfile(inside) else os.path.normpath(root)


def _merge(registry: Registry, path: str, dist: str | None) -> None:
    document = read_file(path)
    for plugin, known in document.get("plugins", {}).items():
        registry.plugins[plugin] = known
        for name, entry in known.get("models", {}).items():
            registry.entries[name] = Entry(
                name, entry["family"], entry["summary"], entry["makes"], path, plugin, plugin in registry.installed
            )
    for kind in OFFERS:
        for name, offer in document.get(kind, {}).items():
            registry.offers[kind].setdefault(name, {**offer, "plugin": dist or "genreg-core"})
    for name, entry in document.get("models", {}).items():
        before = registry.entries.get(name)
        if dist and before and before.plugin not in (None, dist):
            registry.problems.append(
                f"the model {name} is claimed by {before.plugin} and by {dist}: {before.plugin} keeps it"
            )
            continue
        replaced = before.origin if before and dist is None and before.origin != core_file() else None
        offered = registry.offers["families"].get(entry["family"], {}).get("plugin")
        provider = dist or offered or _knows(registry, entry["family"])
        there = provider is None or provider in registry.installed
        about: dict[str, Any] = {"origin": path, "plugin": provider, "installed": there, "overrides": replaced}
        registry.entries[name] = Entry(name, **about, **entry)


def _knows(registry: Registry, family: str) -> str | None:
    for plugin, known in registry.plugins.items():
        if family in {*known.get("families", []), *(model["family"] for model in known.get("models", {}).values())}:
            return plugin
    return None
