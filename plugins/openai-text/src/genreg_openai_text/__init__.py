"""Text from GPT models and every compatible server: one prompt, or thousands that are each paid for once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from genreg.hooks import hookimpl
from genreg.specs import Condition, ModelFamily, Settings
from genreg_openai.options import RemoteOptions

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg_openai_text.model import RemoteText

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
FIELDS: list[pa.Field[Any]] = [
    pa.field("text", pa.string()),
    pa.field("note", pa.string()),  # why a row is not ok
    pa.field("model", pa.string()),  # that answered
    pa.field("id", pa.string()),  # of the answer, as the service names it
    pa.field("input_tokens", pa.int64()),
    pa.field("output_tokens", pa.int64()),
    pa.field("cost", pa.float64()),  # in USD
]
COLUMNS = pa.schema(FIELDS)
CONDITIONS = [
    Condition("prompt", pa.string(), "what is asked; over a file, {column} stands for its cell"),
    Condition("messages", MESSAGES, "a whole conversation: a list of {role, content}, which the prompt continues"),
    Condition("system", pa.string(), "instructions that stand above the conversation"),
    Condition("shots", pa.string(), 'examples as JSON Lines of {"prompt": …, "text": …}: shots=@examples.jsonl'),
    Condition("schema", pa.string(), "a JSON Schema that the answer must satisfy: schema=@schema.json"),
    Condition("max_tokens", pa.int64(), "the most tokens of an answer, reasoning included"),
    Condition("temperature", pa.float64(), "0 to 2, where the model takes one"),
    Condition("top_p", pa.float64(), "the share of probability to draw from, where the model takes one"),
    Condition("stop", pa.list_(pa.string()), "texts that end an answer (chat completions alone)"),
    Condition("effort", pa.string(), "how much a reasoning model thinks: none, low, medium, high"),
    Condition("extra", pa.string(), 'what else the server takes, as a JSON object: {"top_k": 40}'),
]


class TextOptions(RemoteOptions, frozen=True):
    """How a remote text model is reached."""

    api: Literal["auto", "responses", "chat"] = Field(
        "auto", description="which of its APIs: auto is responses for OpenAI's own, chat completions elsewhere"
    )
    lenient: bool = Field(False, description="take a stream without a finish reason as whole (some local servers)")


def load(config: Settings, options: TextOptions, weights: Weights | None) -> RemoteText:  # noqa: ARG001
    """The model at its endpoint; nothing is sent."""
    from genreg_openai_text import model

    return model.load(options)


def conditions(config: Any) -> list[Condition]:  # noqa: ARG001 - the same for every model
    """What can be given."""
    return CONDITIONS


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The family openai-text."""
    return [
        ModelFamily(
            name="openai-text",
            summary="Text from GPT models and compatible servers (Ollama, vLLM, llama.cpp, LM Studio)",
            makes="text",
            draft="the finished prompt",
            config=Settings,
            options=TextOptions,
            columns=lambda _: COLUMNS,
            conditions=conditions,
            load=load,
            repeatable=False,
            batch=1,  # a row is shown as soon as it is there
        )
    ]
