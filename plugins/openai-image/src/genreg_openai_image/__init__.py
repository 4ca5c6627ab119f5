"""Pictures from GPT image models and compatible servers: each paid for once, and kept as it came."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field

from genreg.hooks import hookimpl
from genreg.images import image_field
from genreg.specs import Condition, ModelFamily, Settings
from genreg_openai.options import RemoteOptions, Seconds, free

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg_openai_image.model import RemoteImages

FIELDS: list[pa.Field[Any]] = [
    image_field("image", media="image/*"),  # as it came
    pa.field("prompt", pa.string()),
    pa.field("revised_prompt", pa.string()),
    pa.field("note", pa.string()),  # why a row is not ok
    pa.field("size", pa.string()),  # 1024x1024
    pa.field("model", pa.string()),  # that was asked
    pa.field("input_tokens", pa.int64()),  # this picture's share of its request
    pa.field("output_tokens", pa.int64()),
    pa.field("cost", pa.float64()),  # in USD, likewise
]
COLUMNS = pa.schema(FIELDS)
CONDITIONS = [
    Condition("prompt", pa.string(), "what to draw, or what to change; over a file, {column} stands for its cell"),
    Condition("size", pa.string(), "WIDTHxHEIGHT, such as 1024x1024, or auto"),
    Condition("quality", pa.string(), "low, medium, high or auto, and what else the model has"),
    Condition("background", pa.string(), "transparent, opaque or auto"),
    Condition("format", pa.string(), "png, jpeg or webp"),
    Condition("compression", pa.int64(), "0 to 100, of jpeg and webp"),
    Condition("moderation", pa.string(), "auto, or low for a milder one"),
    Condition("image", pa.binary(), "a picture to edit: a file"),
    Condition("images", pa.list_(pa.binary()), "further pictures to work from: [a.png,b.png]"),
    Condition("mask", pa.binary(), "a PNG as large as the picture, transparent where that may change"),
    Condition("fidelity", pa.string(), "how closely an edit keeps to its pictures: low or high"),
    Condition("extra", pa.string(), 'what else the server takes, as a JSON object: {"seed": 7}'),
]
PerRequest = Annotated[int, Field(ge=1, le=10)]
Partials = Annotated[int, Field(ge=0, le=3)]


class ImageOptions(RemoteOptions, frozen=True):
    """How a remote image model is reached."""

    timeout: Seconds = free(600.0, "seconds of silence after which a request is given up: a picture takes its time")
    per_request: PerRequest = free(4, "how many pictures of one prompt go into one request, at most")
    partials: Partials = Field(0, description="pictures on the way, shown where the terminal can and kept as files")
    partials_folder: Path = free(Path("partials"), "where those are kept")
    through: str = Field("", description="the text model through which background=true draws")
    most_tokens: int | None = free(None, "output tokens of one picture, at most, where nobody has published them")
    image_price: Annotated[Decimal, Field(ge=0)] | None = free(None, "USD for one picture, where no tokens are counted")


def load(config: Settings, options: ImageOptions, weights: Weights | None) -> RemoteImages:  # noqa: ARG001
    """The model at its endpoint; nothing is sent."""
    from genreg_openai_image import model

    return model.load(options)


def conditions(config: Any) -> list[Condition]:  # noqa: ARG001 - the same for every model
    """What can be given."""
    return CONDITIONS


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """The family openai-image."""
    return [
        ModelFamily(
            name="openai-image",
            summary="Pictures from GPT image models and compatible servers, from text and as edits",
            makes="image",
            draft="the finished prompt",
            config=Settings,
            options=ImageOptions,
            columns=lambda _: COLUMNS,
            conditions=conditions,
            load=load,
            repeatable=False,
            batch=1,  # a row is kept as soon as it is there
        )
    ]
