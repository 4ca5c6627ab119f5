"""Which plugins are installed, from their metadata files alone: nothing of theirs is imported."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

GROUP = "genreg"
COMMANDS = "genreg.commands"


class EntryPoint(NamedTuple):
    """One line of a distribution's entry_points.txt."""

    group: str
    name: str
    value: str
    dist: str
    version: str
    metadata: str  # the .dist-info folder

    @property
    def id(self) -> str:
        """``dist:name``, which is unique also where two distributions use one entry-point name."""
        return f"{self.dist}:{self.name}"

    @property
    def package(self) -> str:
        """The top-level name that the value lies in."""
        return self.value.partition(":")[0].partition(".")[0].strip()


def scan(path: list[str] | None = None) -> list[EntryPoint]:
    """All entry points of genreg's groups on ``path`` (sys.path), sorted by id; the first of a distribution wins."""
    found: dict[tuple[str, str], EntryPoint] = {}
    seen: set[str] = set()
    for folder in sys.path if path is None else path:
        try:
            with os.scandir(folder or ".") as entries:
                infos = [entry.path for entry in entries if entry.name.endswith(".dist-info")]
        except OSError:
            continue
        here = set()
        for info in infos:
            dist, _, version = os.path.basename(info)[: -len(".dist-info")].partition("-")
            dist = dist.lower().replace("_", "-").replace(".", "-")
            here.add(dist)
            if dist not in seen:
                for point in _read(info, dist, version):
                    found.setdefault((point.group, point.id), point)
        seen |= here
    return sorted(found.values(), key=lambda point: (point.dist != "genreg-core", point.id))


def _read(info: str, dist: str, version: str) -> list[EntryPoint]:
    text = _text_of(os.path.join(info, "entry_points.txt"))
    if GROUP not in text:
        return []
    group, points = "", []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group in (GROUP, COMMANDS) and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            points.append(EntryPoint(group, name.strip(), value.strip(), dist, version, info))
    return points


def _text_of(path: str) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def package_folder(package: str) -> str | None:
    """The folder of an importable package, found without importing it; None for a bare module or a missing one."""
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    locations = list(spec.submodule_search_locations or []) if spec else []
    return locations[0] if locations else None


def install_line(dist: str) -> str:
    """The command that installs a plugin: from the checkout that the core came from, else by its bounded name."""
    import re
    import shlex
    from urllib.parse import unquote

    core = next((point for point in scan() if point.dist == "genreg-core"), None)
    if core is not None:
        url = re.search(r'"url":\s*"file://([^"]+)"', _text_of(os.path.join(core.metadata, "direct_url.json")))
        folders = _with_siblings(os.path.join(unquote(url[1]), "plugins"), dist) if url else []
        if folders:
            return f"pip install {' '.join(map(shlex.quote, folders))}"
    return f'pip install "{dist}>=0.1,<0.2"'


def _with_siblings(plugins: str, dist: str) -> list[str]:
    """The folder of a distribution in a checkout, after those of the siblings that it needs: no index has them."""
    import re

    folder = os.path.join(plugins, dist.removeprefix("genreg-"))
    if not os.path.isdir(folder):
        return []
    project = _text_of(os.path.join(folder, "pyproject.toml"))
    listed = re.search(r"^dependencies = \[(.*?)\]", project, re.DOTALL | re.MULTILINE)
    needed = re.findall(r'"genreg-([a-z-]+)', listed[1]) if listed else []
    siblings = [os.path.join(plugins, name) for name in needed]  # there is none for the core
    return [*(path for path in siblings if os.path.isdir(path) and path != folder), folder]
