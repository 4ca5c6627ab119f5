"""The user's own registry.yaml, edited: names are added and forgotten, comments and order stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from genreg import checkpoint as checkpoints
from genreg.errors import NotFound, UsageError, did_you_mean
from genreg.files import new_file, sha256
from genreg.plugins import load_plugins
from genreg.registry import read_registries, user_file
from genreg.registryfile import NAME, parse

HEAD = "# Your own models: genreg add and genreg remove edit this file, and so may you.\nversion: 1\n"


def add(name: str, folder: Path, *, summary: str | None = None, force: bool = False) -> dict[str, Any]:
    """Name a checkpoint folder in the user's file; returns the entry, its file, and what it overrides.

    Raises UsageError for a name that cannot be one or is there already, CheckpointError for what is no checkpoint.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name}: a name is letters, digits, and . _ + - after the first")
    before = read_registries().entries.get(name)
    if before and not force:
        raise UsageError(f"{name} is there already, in {before.origin}: choose another name, or --force to replace it")
    folder = folder.resolve()
    entry = entry_of(folder, str(folder), summary)
    path, kept = _edit(lambda document: {**document, "models": {**document.get("models", {}), name: entry}}, name)
    overrides = before.origin if before and before.origin != path else before.overrides if before else None
    return {"name": name, **entry, "registry": path, "overrides": overrides, "comments_kept": kept}


def entry_of(folder: Path, weights: str, summary: str | None = None) -> dict[str, Any]:
    """What a registry says of a checkpoint folder that is found at ``weights``, with the sha256 and size of each file.

    Raises CheckpointError for what is no checkpoint.
    """
    saved = checkpoints.read(folder)
    family = load_plugins().find("families", saved.family)
    trained_on = saved.training.get("data")
    files = {
        file: {"sha256": sha256(path), "size": path.stat().st_size}
        for file, path in checkpoints.files_of(folder)
        if file != checkpoints.CARD  # people may improve a model card: it is not pinned
    }
    return {
        "family": saved.family,
        "summary": summary or (f"{saved.family}, trained on {trained_on}" if trained_on else family.summary),
        "makes": family.makes,
        "weights": weights,
        "files": files,
    }


def remove(name: str) -> dict[str, Any]:
    """Forget a name of the user's file; its folder stays. Returns the file, and whose entry the name is now.

    Raises NotFound for a name that nobody has, UsageError for one that is another file's.
    """
    path, entries = user_file(), read_registries().entries
    own = _read(Path(path))[1].get("models", {})
    if name not in own:
        if name in entries:
            raise UsageError(f"{name} is from {entries[name].origin}: only a name of {path} can be removed")
        raise NotFound(f"there is no model {name} in {path}{did_you_mean(name, own)}")

    def without(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "models": {key: entry for key, entry in document["models"].items() if key != name}}

    _, kept = _edit(without, name)
    after = read_registries().entries.get(name)
    return {
        "name": name,
        "weights": own[name].get("weights"),
        "registry": path,
        "now_from": after.origin if after else None,
        "comments_kept": kept,
    }


def _edit(change: Callable[[dict[str, Any]], dict[str, Any]], name: str) -> tuple[str, bool]:
    """Change one entry, atomically and against other processes; says whether comments and order were kept."""
    path = Path(user_file())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    with _locked(path.parent):
        target = path.resolve()  # a link into a folder of dotfiles stays a link
        text, document = _read(target)
        wanted = change(document)
        edited = spliced(text, name, wanted["models"].get(name))
        kept = edited is not None and _says(edited, wanted)
        if not kept or edited is None:
            edited = yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True, width=110)
        parse(edited, str(target))
        with new_file(target, force=True) as temporary:
            temporary.write_text(edited, "utf-8")
            if target.exists():
                shutil.copymode(target, temporary)
    return str(path), kept


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    text = path.read_text("utf-8-sig") if path.is_file() else HEAD
    return text, parse(text, str(path))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def spliced(text: str, name: str, entry: Mapping[str, Any] | None) -> str | None:
    """The text with one entry of ``models`` put in, replaced or (None) taken out; None where it is not in plain blocks.

    The caller compares what the result says with what was wanted.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    top = yaml.compose(text, yaml.SafeLoader)
    found = next(((key, value) for key, value in top.value if key.value == "models"), None) if top else None
    if found is None:
        return "".join([*lines, "models:\n", *_block(name, entry, 2)])
    key, models = found
    if models.id != "mapping" or (models.value and models.flow_style):
        return None
    if not models.value:  # models: {}
        at = models.start_mark.line
        lines[at] = lines[at].replace("{}", "", 1).rstrip() + "\n"
        return "".join([*lines[: at + 1], *_block(name, entry, 2), *lines[at + 1 :]])
    first = after = _last_line(models) + 1  # a new entry comes last
    for own, value in models.value:
        if own.value == name:
            first, after = own.start_mark.line, _last_line(value) + 1
    if entry is None and len(models.value) == 1:
        at = key.start_mark.line
        lines[at] = lines[at].replace("models:", "models: {}", 1)
    return "".join([*lines[:first], *_block(name, entry, models.value[0][0].start_mark.column), *lines[after:]])


def _block(name: str, entry: Mapping[str, Any] | None, indent: int) -> list[str]:
    if entry is None:
        return []
    text = yaml.safe_dump({name: dict(entry)}, sort_keys=False, allow_unicode=True, width=110 - indent)
    return [" " * indent + line for line in text.splitlines(keepends=True)]


def _last_line(node: Any) -> int:
    """The last line of a node's own text: a block's end mark lies beyond the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line - (node.end_mark.column == 0))
