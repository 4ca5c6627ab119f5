"""What a plugin's hooks offer: the part of its registry.yaml that `list` and completion read without importing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from genreg.checkpoint import CONFIG, WEIGHTS
from genreg.cli import load_verb
from genreg.entrypoints import COMMANDS, scan
from genreg.errors import PluginError
from genreg.files import sha256
from genreg.options import of_function, of_model
from genreg.plugins import Components
from genreg.specs import summary

MARK = "# What the hooks offer, written by `genreg offers --write`: edit the hooks, not these lines.\n"


def offers(components: Components, dist: str) -> dict[str, dict[str, Any]]:
    """Families, samplers, loaders, preprocessors and commands of one distribution, with summaries and knobs.

    Raises PluginError where the plugin is broken or not installed.
    """
    statuses = [status for status in components.statuses if status.point.dist == dist]
    if not statuses or any(status.cause for status in statuses):
        why = f"broken: {statuses[0].cause}" if statuses else "not installed"
        raise PluginError(f"{dist} is {why}; see genreg plugins")
    mine = {key for key, owner in components.owners.items() if owner == dist}
    found: dict[str, dict[str, Any]] = {"families": {}, "samplers": {}, "loaders": {}, "preprocessors": {}}
    for name, family in components.families.items():
        if ("families", name) in mine:
            settings = [option.name for option in of_model(family.config)]
            options = [option.name for option in of_model(family.options)]
            found["families"][name] = {
                "summary": family.summary, "makes": family.makes, "settings": settings, "options": options,
            }  # fmt: skip
    for kind, function in (("samplers", "edit"), ("loaders", "read"), ("preprocessors", "fit")):
        for name, component in getattr(components, kind).items():
            if (kind, name) in mine:
                call = getattr(component, function)
                found[kind][name] = {"summary": summary(call), "knobs": [option.name for option in of_function(call)]}
                if kind == "loaders":
                    found[kind][name] |= {"suffixes": list(component.suffixes), "schemes": list(component.schemes)}
    verbs = [point for point in scan() if point.group == COMMANDS and point.dist == dist]
    found["commands"] = {point.name: _command(load_verb(point)) for point in verbs}
    return {kind: dict(sorted(named.items())) for kind, named in found.items() if named}


def _command(command: click.Command) -> dict[str, Any]:
    """A verb's summary, its options, and the verbs of a group."""
    first = (command.short_help or command.help or "").strip().partition("\n")[0].rstrip(".")
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    options = [name for one in shown for name in one.opts]
    within = _verbs(command) if isinstance(command, click.Group) else {}
    nested = {"commands": {name: _command(one) for name, one in sorted(within.items())}} if within else {}
    return {"summary": first, "options": options, **nested}


def _verbs(group: click.Group) -> dict[str, click.Command]:
    """The verbs of a group, also of one that imports them when they are called."""
    context = click.Context(group)
    return {name: one for name in group.list_commands(context) if (one := group.get_command(context, name))}


def with_offers(text: str, offered: dict[str, dict[str, Any]]) -> str:
    """A registry file's text with its last part replaced by what the hooks offer now."""

    own = text.partition(MARK)[0].rstrip("\n") + "\n"
    dumped = yaml.safe_dump(offered, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return own + ("\n" + MARK + dumped if offered else "")


def write_offers(path: Path, offered: dict[str, dict[str, Any]]) -> bool:
    """Bring a registry file in step with the hooks; says whether anything changed."""
    before = path.read_text("utf-8")
    after = with_offers(before, offered)
    if after != before:
        path.write_text(after, "utf-8")
    return after != before


def pin_files(registry: Path, name: str, folder: Path) -> None:
    """Note size and sha256 of a bundled model's config and weights in its plugin's registry.yaml.

    The part above the offers is rewritten, without its comments.
    """
    head, mark, rest = registry.read_text("utf-8").partition(MARK)
    content = yaml.safe_load(head)
    content["models"][name]["files"] = {
        path.name: {"sha256": sha256(path), "size": path.stat().st_size} for path in (folder / CONFIG, folder / WEIGHTS)
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    registry.write_text(text + (f"\n{mark}{rest}" if mark else ""), "utf-8")
