"""Pictures by the Responses API, whose tool ``image_generation`` draws them while nobody waits.

The Images API has neither an id to come back to nor an end that outlives a connection; a background response has both.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from genreg_openai.calls import Failure

TOOL = "image_generation"


def as_response(body: Mapping[str, Any], through: str) -> dict[str, Any]:
    """The body of an image request as one of the Responses API, drawn by its tool at the wish of a text model."""
    rest = {name: value for name, value in body.items() if name not in ("seeds", "prompt", "image", "mask", "n")}
    tool: dict[str, Any] = {"type": TOOL, **rest}
    if "mask" in body:
        tool["input_image_mask"] = {"image_url": _data_url(body["mask"])}
    parts = [{"type": "input_image", "image_url": _data_url(file)} for file in body.get("image", ())]
    content = [{"type": "input_text", "text": body["prompt"]}, *parts]
    asked = [{"role": "user", "content": content}]
    return {"model": through, "input": asked, "tools": [tool], "tool_choice": {"type": TOOL}}


def as_images(response: Mapping[str, Any], host: str) -> dict[str, Any]:
    """A response as an answer of the Images API. Raises Failure where it failed, or the model drew nothing.

    Its usage is left out: it counts the text model's tokens, and nobody says what part of the price they are.
    """
    if response.get("status") == "failed":
        error = response.get("error") or {}
        raise Failure(f"{host} failed: {error.get('message') or 'it does not say why'}")
    items = [item for item in response.get("output") or [] if isinstance(item, dict)]
    drawn = [item for item in items if item.get("type") == f"{TOOL}_call" and item.get("result")]
    if not drawn:
        parts = [part for item in items for part in item.get("content") or []]
        refusal = " ".join(filter(None, (part.get("refusal") for part in parts)))
        said = refusal or " ".join(filter(None, (part.get("text") for part in parts))) or "the answer has no picture"
        raise Failure(said, outcome="refused" if refusal else "failed")
    return {"data": [{"b64_json": item["result"], "revised_prompt": item.get("revised_prompt")} for item in drawn]}


def _data_url(file: tuple[str, bytes, str]) -> str:
    _, data, media = file
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
