"""The JSON Schema of registry.yaml, for editors: `python -m genreg.registryschema` prints docs/registry.schema.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from genreg.registryfile import CHECK, DEFAULTS, ENTRY, FILE, NEEDED, OFFERS, PLUGIN, Fields

JSON_TYPES = {str: "string", dict: "object", list: "array", int: "integer"}
# letters, digits and . _ + - after the first, as registryfile.NAME: no other ASCII; written for every regex dialect
NAME = "^[^\\u0000-/:-@\\[-\\^`{-\\u007f][^\\u0000-*,/:-@\\[-\\^`{-\\u007f]*$"


def schema() -> dict[str, Any]:
    """The schema, from the tables that registryfile checks with."""
    entry = _object(ENTRY, NEEDED)
    entry["properties"]["files"]["additionalProperties"] = _object(FILE)
    entry["properties"]["defaults"] |= _object(DEFAULTS)
    entry["properties"]["check"] |= _object(CHECK)
    entries = {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": {"$ref": "#/$defs/entry"}}
    plugin = _object(PLUGIN, ["summary"])
    plugin["properties"]["models"] |= entries
    offered = {"type": "object", "additionalProperties": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "registry.yaml of genreg",
        "type": "object",
        "required": ["version"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": 1, "description": "Of this format"},
            "models": {"description": "Named models: family, weights and defaults", **entries},
            "plugins": {
                "description": "The core's file only: what exists, installed or not",
                "type": "object",
                "additionalProperties": plugin,
            },
            **{kind: {"description": "Written by `genreg offers --write`", **offered} for kind in OFFERS},
        },
        "$defs": {"entry": entry},
    }


def _object(fields: Fields, needed: Sequence[str] = ()) -> dict[str, Any]:
    properties = {name: {"type": JSON_TYPES[kind], "description": text} for name, (kind, text) in fields.items()}
    required = {"required": list(needed)} if needed else {}
    return {"type": "object", **required, "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    print(json.dumps(schema(), ensure_ascii=False, indent=2))
