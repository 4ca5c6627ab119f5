"""From conditions to the body of a request, for the Responses API and for chat completions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from genreg.errors import UsageError
from genreg_openai.given import json_object

ROLES = ("system", "developer", "user", "assistant")
SIMPLE = ("max_tokens", "temperature", "top_p", "stop", "effort")
OVERHEAD = 16  # tokens around each message, at most


def asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of conditions, without the prompt, read and checked: what is not set is left out.

    Raises UsageError for shots, a schema, messages or extras that are not what they should be.
    """
    found: dict[str, Any] = {name: row[name] for name in SIMPLE if row.get(name) is not None}
    if row.get("system") is not None:
        found["system"] = row["system"]
    messages = shots(row["shots"]) if row.get("shots") else []
    for message in row.get("messages") or []:
        if not message or message.get("role") not in ROLES or message.get("content") is None:
            raise UsageError(f"messages: each is a role ({', '.join(ROLES)}) and a content, and this is {message}")
        messages.append({"role": message["role"], "content": message["content"]})
    if messages:
        found["messages"] = messages
    for name in ("schema", "extra"):
        if row.get(name):
            found[name] = json_object(row[name], name)
    return found


def shots(text: str) -> list[dict[str, str]]:
    """Examples as turns of a conversation; raises UsageError naming the line.

    >>> shots('{"prompt": "1+1", "text": "2"}')
    [{'role': 'user', 'content': '1+1'}, {'role': 'assistant', 'content': '2'}]
    """
    turns = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except ValueError:
            example = None
        if not isinstance(example, dict) or not all(isinstance(example.get(key), str) for key in ("prompt", "text")):
            raise UsageError(
                f'shots, line {number}: an example is {{"prompt": …, "text": …}} on a line of its own; '
                "shots=@FILE reads them from a file"
            )
        turns += [{"role": "user", "content": example["prompt"]}, {"role": "assistant", "content": example["text"]}]
    return turns


def body(api: str, model: str, prompt: str, asked: Mapping[str, Any], *, seed: int, official: bool) -> dict[str, Any]:
    """The request as it is sent: a stream, with what the user set and nothing else.

    Raises UsageError where there is nothing to ask, or the API has no such parameter.
    """
    messages = [*asked.get("messages", ()), *([{"role": "user", "content": prompt}] if prompt else [])]
    if not messages:
        raise UsageError('there is nothing to ask: give a prompt, as in genreg run openai-text "Write a haiku"')
    made = _responses(messages, asked) if api == "responses" else _chat(messages, asked, seed, official)
    made |= {name: asked[name] for name in ("temperature", "top_p") if name in asked}
    return {"model": model, "stream": True, **made, **asked.get("extra", {})}


def _responses(messages: list[dict[str, str]], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the Responses API, which keeps nothing; raises UsageError for ``stop``."""
    if "stop" in asked:
        raise UsageError("stop is not known to the Responses API: leave it out, or --option api=chat")
    made: dict[str, Any] = {"input": messages, "store": False}
    if "system" in asked:
        made["instructions"] = asked["system"]
    if "max_tokens" in asked:
        made["max_output_tokens"] = asked["max_tokens"]
    if "effort" in asked:
        made["reasoning"] = {"effort": asked["effort"]}
    if "schema" in asked:
        made["text"] = {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": asked["schema"]}}
    return made


def _chat(messages: list[dict[str, str]], asked: Mapping[str, Any], seed: int, official: bool) -> dict[str, Any]:
    """The body for chat completions, with a seed that servers may heed."""
    system = [{"role": "system", "content": asked["system"]}] if "system" in asked else []
    made: dict[str, Any] = {"messages": [*system, *messages], "stream_options": {"include_usage": True}}
    made["seed"] = seed % 2**63
    if "max_tokens" in asked:
        made["max_completion_tokens" if official else "max_tokens"] = asked["max_tokens"]
    if "effort" in asked:
        made["reasoning_effort"] = asked["effort"]
    if "stop" in asked:
        made["stop"] = asked["stop"]
    if "schema" in asked:
        schema = {"name": "answer", "strict": True, "schema": asked["schema"]}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    return made


def most_tokens(prompt: str, asked: Mapping[str, Any]) -> int:
    """At most how many tokens a request has: a token is a byte of UTF-8 at least, and each message has a frame."""
    texts = [prompt, asked.get("system", ""), *(message["content"] for message in asked.get("messages", ()))]
    rest = [json.dumps(asked[name]) for name in ("schema", "extra") if name in asked]
    return sum(len(text.encode("utf-8", "surrogatepass")) + OVERHEAD for text in (*texts, *rest))


def schema_of(sent: Mapping[str, Any]) -> Any:
    """The JSON Schema of a request, in either API's place."""
    form = (sent.get("text") or {}).get("format") or (sent.get("response_format") or {}).get("json_schema") or {}
    return form.get("schema")
