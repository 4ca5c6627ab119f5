"""Entry points loaded one by one: a broken plugin is named, and never stops another one."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pluggy

from genreg import hooks
from genreg.entrypoints import GROUP, EntryPoint, package_folder, scan
from genreg.errors import NotFound, did_you_mean
from genreg.specs import DataLoader, ModelFamily, Preprocessor, Sampler

KINDS: Mapping[str, tuple[str, Any]] = {
    "families": ("genreg_models", ModelFamily),
    "samplers": ("genreg_samplers", Sampler),
    "loaders": ("genreg_data_loaders", DataLoader),
    "preprocessors": ("genreg_preprocessors", Preprocessor),
}


@dataclass(frozen=True)
class Status:
    """How one plugin fared: ``cause`` and ``trace`` are empty where it is healthy."""

    point: EntryPoint
    provides: Mapping[str, list[str]] = field(default_factory=dict)
    cause: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Components:
    """All components of the healthy plugins, by kind and name; ``owners`` says which distribution each is from."""

    families: dict[str, ModelFamily] = field(default_factory=dict)
    samplers: dict[str, Sampler] = field(default_factory=dict)
    loaders: dict[str, DataLoader] = field(default_factory=dict)
    preprocessors: dict[str, Preprocessor] = field(default_factory=dict)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)

    def find(self, kind: str, name: str) -> Any:
        """The component of that kind and name; raises NotFound with a close name and the plugins that are broken."""
        known = getattr(self, kind)
        if name in known:
            return known[name]
        broken = [status.point.dist for status in self.statuses if status.cause]
        hint = f" (broken: {', '.join(broken)}; see genreg plugins)" if broken else ""
        one = {"families": "family"}.get(kind, kind[:-1])
        raise NotFound(f"there is no {one} {name}{did_you_mean(name, known)}{hint}")


def load_plugins(points: Iterable[EntryPoint] | None = None) -> Components:
    """Load every plugin (those installed, unless told which) in the order of their ids, the core first."""
    components = Components()
    for point in scan() if points is None else points:
        if point.group != GROUP:
            continue
        try:
            with redirect_stdout(sys.stderr):  # what a plugin prints must not end up among the results
                offers = _offers(point, components)
        except (Exception, SystemExit) as error:  # a plugin may raise anything, and must stop nobody else
            told = isinstance(error, pluggy.PluginValidationError)  # by pluggy, in a sentence
            cause = str(error) if told else f"{type(error).__name__}: {error}"
            components.statuses.append(Status(point, cause=" ".join(cause.split()), trace=traceback.format_exc()))
            continue
        for kind, named in offers.items():
            getattr(components, kind).update(named)
            components.owners.update({(kind, name): point.dist for name in named})
        components.statuses.append(Status(point, {kind: sorted(named) for kind, named in offers.items() if named}))
    return components


def _offers(point: EntryPoint, components: Components) -> dict[str, dict[str, Any]]:
    """What one plugin's hooks return, checked, by kind and name; a manager of its own keeps plugins apart."""
    if point.dist != "genreg-core" and "." not in point.value and package_folder(point.package) is None:
        raise ImportError(
            f"{point.value} is missing or a bare module; a plugin is a package: move it to {point.value}/__init__.py"
        )
    manager = pluggy.PluginManager("genreg")
    manager.add_hookspecs(hooks)
    module = import_module(point.value)
    manager.register(module, name=point.id)
    manager.check_pending()
    offers: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for kind, (hook, record) in KINDS.items():
        named, called = offers[kind], getattr(manager.hook, hook).get_hookimpls()  # pluggy would drop a None
        if hasattr(module, hook) and not called:
            raise TypeError(f"{hook} is not marked: write @hookimpl above it (from genreg import hookimpl)")
        found: list[Any] = [item for implementation in called for item in _listed(implementation.function(), hook)]
        for component in found:
            if not isinstance(component, record):
                raise TypeError(f"{hook} returned a {type(component).__name__}, not a {record.__name__}")
            owner = components.owners.get((kind, component.name)) or (point.dist if component.name in named else None)
            if owner:
                raise ValueError(f"{kind}: the name {component.name} is claimed by {owner} and by {point.dist}")
            named[component.name] = component
    return offers


def _listed(items: Any, hook: str) -> list[Any]:
    if not isinstance(items, list):
        raise TypeError(f"{hook} returned a {type(items).__name__}, not a list")
    return items
