"""Conditions that are JSON, as people write them."""

from __future__ import annotations

import json
from typing import Any

from genreg.errors import UsageError


def json_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object that the condition ``name`` holds; raises UsageError where it is none.

    >>> json_object('{"top_k": 40}', "extra")
    {'top_k': 40}
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name}: this is no JSON ({error}); {name}=@FILE reads it from a file") from None
    if not isinstance(found, dict):
        raise UsageError(f"{name}: this is no JSON object")
    return found
