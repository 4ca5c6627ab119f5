"""What a registry.yaml may say, checked without pydantic: `genreg list` reads these files and must start at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from genreg.errors import RegistryError, did_you_mean

OFFERS = ("families", "samplers", "loaders", "preprocessors", "commands")
ENTRY_KEYS: Mapping[str, type] = {
    "family": str, "summary": str, "makes": str, "weights": str, "files": dict, "defaults": dict, "license": str,
}  # fmt: skip
NAME = re.compile(r"\w[\w.+-]*")


def read_file(path: str) -> dict[str, Any]:
    """One registry file, checked; raises RegistryError naming file, line and key."""
    import yaml

    try:
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123: pathlib costs start-up
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(file.read())
        document = loader.get_single_data() or {}
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RegistryError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    for keys, message in _mistakes(document):
        raise RegistryError(f"{path}, line {_line(path, keys)}, {'.'.join(map(str, keys)) or 'top'}: {message}")
    return dict(document)


def _mistakes(document: Any) -> Iterable[tuple[tuple[Any, ...], str]]:
    if not isinstance(document, dict):
        yield (), "a registry is a mapping with version: 1 and models:"
        return
    if document.get("version") != 1:
        yield ("version",), f"this genreg reads version 1, not {document.get('version')}"
    for key, value in document.items():
        if key not in ("version", "plugins", "models", *OFFERS):
            yield (key,), f"there is no key {key}{did_you_mean(str(key), ['version', 'plugins', 'models', *OFFERS])}"
        elif key != "version" and not isinstance(value, dict):
            yield (key,), "must be a mapping"
    for name, entry in (document.get("models") or {}).items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield ("models", name), "a name is letters, digits, and . _ + - after the first"
        if not isinstance(entry, dict):
            yield ("models", name), "must be a mapping"
            continue
        for key, value in entry.items():
            if key not in ENTRY_KEYS:
                yield ("models", name, key), f"there is no key {key}{did_you_mean(str(key), ENTRY_KEYS)}"
            elif not isinstance(value, ENTRY_KEYS[key]):
                yield ("models", name, key), f"must be a {'mapping' if ENTRY_KEYS[key] is dict else 'text'}"
        for key in ("family", "summary", "makes"):
            if key not in entry:
                yield ("models", name), f"{key} is missing"


def _line(path: str, keys: tuple[Any, ...]) -> int:
    import yaml

    with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123: pathlib costs start-up
        node = yaml.compose(file.read(), yaml.SafeLoader)
    line = 1
    for key in keys:
        pairs = getattr(node, "value", None)
        found = next((pair for pair in pairs or [] if isinstance(pair, tuple) and str(pair[0].value) == str(key)), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
