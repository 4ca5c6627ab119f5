"""What a registry.yaml may say, checked without pydantic: `genreg list` reads these files and must start at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeAlias

from genreg.errors import RegistryError, did_you_mean

OFFERS = ("families", "samplers", "loaders", "preprocessors", "commands")
Fields: TypeAlias = Mapping[Any, tuple[type, str]]  # what may be there, and what it is for
ENTRY: Fields = {
    "family": (str, "The model family, such as nb"),
    "summary": (str, "One line that `genreg list` shows"),
    "makes": (str, "What comes out: table, sequence, text or image"),
    "weights": (str, "A folder (relative to this file), pkg://dist/folder, hf://org/repo@commit; none: remote"),
    "files": (dict, "The checkpoint's files by name, verified before they are read"),
    "defaults": (dict, "What a run takes unless it is told otherwise"),
    "license": (str, "Of the weights, as SPDX spells it"),
    "check": (dict, "What `genreg check` gives and expects"),
}
FILE: Fields = {"sha256": (str, "Hex digest"), "size": (int, "In bytes")}
DEFAULTS: Fields = {
    "given": (dict, "Conditions by name"),
    "samplers": (list, "Calls, such as truncate:psi=0.7"),
    "options": (dict, "How the model is loaded, by name"),
}
CHECK: Fields = {
    "given": (dict, "Conditions without which nothing can be drawn, such as a prompt"),
    "expected_failures": (dict, "Names of checks that fail, each with the reason"),
}
PLUGIN: Fields = {
    "summary": (str, "One line that `genreg plugins` shows"),
    "families": (list, "The families that it brings"),
    "models": (dict, "The entries that it brings"),
    "suffixes": (list, "The suffixes of files that its loaders read"),
    "schemes": (list, "The schemes of references that its loaders read"),
    "converts": (dict, "Its verbs that make checkpoints of files, each with the suffixes that it takes"),
}
WORDS: Mapping[type, str] = {str: "text", dict: "a mapping", list: "a list", int: "a whole number"}
NEEDED = ("family", "summary", "makes")  # of an entry
HUB = re.compile(r"hf://[\w.-]+/[\w.-]+@[0-9a-f]{40}(/[^@]+)?")
NAME = re.compile(r"\w[\w.+-]*")
Mistakes: TypeAlias = Iterator[tuple[tuple[Any, ...], str]]  # the keys that lead there, and what is wrong


def read_file(path: str) -> dict[str, Any]:
    """One registry file, checked; raises RegistryError naming file, line and key."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RegistryError(f"{path} is not YAML: {error}") from None
    return parse(text, path)


def parse(text: str, path: str) -> dict[str, Any]:
    """The text of a registry file, checked; raises RegistryError naming file, line and key."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        node = loader.get_single_node()
        document = loader.construct_document(node) if node else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RegistryError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    for keys, message in chain(_twice(node), _mistakes(document)):  # lazily: the first ends it
        raise RegistryError(f"{path}, line {_line(node, keys)}, {'.'.join(map(str, keys)) or 'top'}: {message}")
    return dict(document)


def _mistakes(document: Any) -> Mistakes:
    if not isinstance(document, dict):
        yield (), "a registry is a mapping with version: 1 and models:"
        return
    if document.get("version") != 1:
        found = f"not {document['version']}" if "version" in document else "and none is written"
        yield ("version",), f"this genreg reads version: 1, {found}"
    for key, value in document.items():
        if key not in ("version", "plugins", "models", *OFFERS):
            yield (key,), f"there is no key {key}{did_you_mean(str(key), ['version', 'plugins', 'models', *OFFERS])}"
        elif key != "version" and not isinstance(value, dict):
            yield (key,), "must be a mapping"
        elif key == "models":
            yield from _entries(value, (key,))
        elif key != "version":
            yield from (((key, name), "must be a mapping") for name in value if not isinstance(value[name], dict))
            for name, known in value.items() if key == "plugins" else ():
                yield from _typed(known, PLUGIN, (key, name), ["summary"])
                yield from _entries(known.get("models", {}), (key, name, "models"))


def _entries(models: Mapping[Any, Any], above: tuple[Any, ...]) -> Mistakes:
    for name, entry in models.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield (*above, name), "a name is letters, digits, and . _ + - after the first"
        elif not isinstance(entry, dict):
            yield (*above, name), "must be a mapping"
        else:
            yield from _typed(entry, ENTRY, (*above, name), NEEDED)
            yield from _typed(entry.get("defaults", {}), DEFAULTS, (*above, name, "defaults"))
            yield from _typed(entry.get("check", {}), CHECK, (*above, name, "check"))
            files = entry.get("files", {})
            for file in files:
                yield from _typed({file: files[file]}, {file: (dict, "")}, (*above, name, "files"))
                yield from _typed(files[file], FILE, (*above, name, "files", file))
            if str(entry.get("weights")).startswith("hf://"):
                yield from _pinned(entry["weights"], files, (*above, name))


def _pinned(weights: str, files: Mapping[Any, Any], above: tuple[Any, ...]) -> Mistakes:
    """What is fetched is named to the bit: `main` moves, and a commit's files may be damaged on their way."""
    if not HUB.fullmatch(weights):
        yield (*above, "weights"), "write hf://org/repo@commit with all 40 digits, as `genreg push` prints it"
    if not files:
        yield above, "files is missing: sha256 and size of each file, as `genreg push` prints them"
    for file, facts in files.items():
        if not re.fullmatch("[0-9a-f]{64}", facts.get("sha256", "")) or "size" not in facts:
            yield (*above, "files", file), "needs size and sha256, 64 digits"


def _typed(found: Mapping[Any, Any], known: Fields, above: tuple[Any, ...], needed: Iterable[str] = ()) -> Mistakes:
    for key, value in found.items():
        if key not in known:
            yield (*above, key), f"there is no key {key}{did_you_mean(str(key), known)}"
        elif not isinstance(value, known[key][0]):
            yield (*above, key), f"must be {WORDS[known[key][0]]}"
    yield from ((above, f"{key} is missing") for key in needed if key not in found)


def _twice(node: Any, above: tuple[Any, ...] = ()) -> Mistakes:
    """Keys that are written twice, of which YAML would keep the last without a word."""
    pairs = node.value if node and node.id == "mapping" else []
    names = [key.value for key, _ in pairs if isinstance(key.value, str)]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        yield (*above, name), f"{name} is there twice"
    if len(above) < 2:  # down to the names of models
        for key, value in pairs:
            yield from _twice(value, (*above, key.value))


def _line(node: Any, keys: tuple[Any, ...]) -> int:
    line = 1
    for key in keys:
        pairs = node.value if node and node.id == "mapping" else []
        found = [pair for pair in pairs if str(pair[0].value) == str(key)]
        if not found:
            break
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line
