"""From a stream of events to an answer: what was said, how it ended, what it used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genreg_openai.calls import Failure

ENDS = {"stop": "ok", "length": "length", "content_filter": "filtered", "max_output_tokens": "length"}


@dataclass
class Said:
    """What has come of an answer so far."""

    text: str = ""
    refusal: str = ""
    end: str | None = None  # an outcome, once the service has said how it ended
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    id: str | None = None

    @property
    def outcome(self) -> str:
        """How it ended: a stream that just stopped is truncated."""
        if self.refusal and self.end in ("ok", None):
            return "refused"
        return self.end or "truncated"


def take(said: Said, event: dict[str, Any], host: str) -> str:
    """Take in one event of either API, or a whole answer; what it adds to the text. Raises Failure for an error."""
    kind = event.get("type")
    if kind == "error" or event.get("object") == "error" or (isinstance(event.get("error"), dict) and not kind):
        found = event.get("error") if isinstance(event.get("error"), dict) else event
        raise Failure(f"{host} broke off: {(found or {}).get('message') or found}")
    if isinstance(kind, str) and kind.startswith("response."):
        return _response_event(said, kind, event, host)
    if event.get("object") == "response":
        return _response(said, event, host)
    if "choices" in event:
        return _chat(said, event)
    if kind is None:
        raise Failure(f"{host} answered with JSON that is no answer of the API")
    return ""


def _response_event(said: Said, kind: str, event: dict[str, Any], host: str) -> str:
    """An event of the Responses API."""
    if kind == "response.output_text.delta":
        piece = str(event.get("delta") or "")
        said.text += piece
        return piece
    if kind == "response.refusal.delta":
        said.refusal += str(event.get("delta") or "")
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        _response(said, event.get("response") or {}, host)
    return ""


def _response(said: Said, response: dict[str, Any], host: str) -> str:
    """The whole response, which comes last in a stream."""
    parts = [part for item in response.get("output") or [] for part in item.get("content") or []]
    before, whole = said.text, "".join(part.get("text") or "" for part in parts if part.get("type") == "output_text")
    said.text = whole or before
    said.refusal = "".join(part.get("refusal") or "" for part in parts) or said.refusal
    said.model, said.id = response.get("model") or said.model, response.get("id") or said.id
    _used(said, response.get("usage"))
    if response.get("status") == "failed":
        error = response.get("error") or {}
        raise Failure(f"{host} failed: {error.get('message') or error or 'it does not say why'}")
    reason = (response.get("incomplete_details") or {}).get("reason")
    if response.get("status") in ("completed", "incomplete"):
        said.end = "ok" if response["status"] == "completed" else ENDS.get(str(reason), "length")
    return said.text.removeprefix(before) if said.text.startswith(before) else ""


def _chat(said: Said, event: dict[str, Any]) -> str:
    """A chunk of a chat completion, or a whole one."""
    said.model, said.id = event.get("model") or said.model, event.get("id") or said.id
    _used(said, event.get("usage"))
    piece = ""
    for choice in (event.get("choices") or [])[:1]:  # empty in the event that brings the usage
        part = choice.get("delta") or choice.get("message") or {}
        piece = part.get("content") or ""
        said.text += piece
        said.refusal += part.get("refusal") or ""
        if reason := choice.get("finish_reason"):
            said.end = ENDS.get(reason, "ok")
    return str(piece)


def _used(said: Said, usage: dict[str, Any] | None) -> None:
    """Note the tokens, by the names that prices know."""
    if not usage:
        return
    asked = usage.get("input_tokens", usage.get("prompt_tokens"))  # the Responses API's name, and chat's
    made = usage.get("output_tokens", usage.get("completion_tokens"))
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
    counts = {"input_tokens": asked, "output_tokens": made, "cached_tokens": details.get("cached_tokens")}
    said.usage = {name: count for name, count in counts.items() if isinstance(count, int)}
