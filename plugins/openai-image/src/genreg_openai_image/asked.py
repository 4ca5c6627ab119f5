"""From conditions to the body of a request, checked before anything is paid.

What each model offers is data, in images.json. A model that is not there (a server's own) is asked for anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from genreg.errors import UsageError
from genreg.images import decode, media_of
from genreg_openai.given import json_object

SENT = {  # our names, and the API's
    "size": "size", "quality": "quality", "background": "background", "format": "output_format",
    "compression": "output_compression", "moderation": "moderation", "fidelity": "input_fidelity",
}  # fmt: skip
CHOICES = {
    "background": ("auto", "transparent", "opaque"),
    "format": ("png", "jpeg", "webp"),
    "moderation": ("auto", "low"),
    "fidelity": ("low", "high"),
}
STEP, LONGEST, MOST_AREA, WIDEST = 16, 3840, 3840 * 2160, 3  # of any size: pixels, pixels, pixels, width to height
LONGEST_PROMPT = 32_000  # characters
SQUARE = 1024 * 1024  # the area for which images.json has tokens
LARGEST = "1536x1024"  # that a model chooses by itself


@cache
def known() -> dict[str, Any]:
    """What is known of image models, and of sizes and qualities that went away."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("images.json").read_text("utf-8"))
    return found


def about(model: str) -> Mapping[str, Any]:
    """What is known of a model: the entry that its name begins with; empty where there is none.

    >>> about("gpt-image-2-2026-04-21")["qualities"]
    ['low', 'medium', 'high']
    """
    names = [name for name in known()["models"] if model == name or model.startswith((f"{name}-", f"{name}."))]
    found: Mapping[str, Any] = known()["models"][max(names, key=len)] if names else {}
    return found


def asked(row: Mapping[str, Any], model: str) -> dict[str, Any]:
    """One row of conditions as it is sent, without prompt and pictures: what is not set is left out.

    Raises UsageError for what the model does not offer, naming what it does.
    """
    found = {sent: row[name] for name, sent in SENT.items() if row.get(name) is not None}
    if model and about(model):
        _check_size(row.get("size"), model)
        _check_quality(row.get("quality"), model)
    for name, choices in CHOICES.items():
        if row.get(name) not in (None, *choices) and about(model):
            raise UsageError(f"{name}={row[name]}: there are {', '.join(choices)}")
    if row.get("compression") is not None:
        if not 0 <= row["compression"] <= 100:
            raise UsageError(f"compression={row['compression']}: it goes from 0 to 100")
        if row.get("format") not in ("jpeg", "webp"):
            raise UsageError("compression is for format=jpeg and format=webp")
    if row.get("background") == "transparent" and row.get("format") == "jpeg":
        raise UsageError("background=transparent: JPEG has no transparency; format=png and format=webp have")
    for name in ("mask", "fidelity"):
        if row.get(name) is not None and not pictures(row):
            raise UsageError(f"{name} belongs to an edit: give the picture too, image=FILE")
    return found | (json_object(row["extra"], "extra") if row.get("extra") else {})


def pictures(row: Mapping[str, Any]) -> list[bytes]:
    """The pictures that are edited, first the one that a mask belongs to."""
    return [data for data in (row.get("image"), *(row.get("images") or ())) if data is not None]


def check_masks(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise UsageError for a mask that is no PNG as large as its picture, with transparency."""
    for image, mask in {(row["image"], row["mask"]) for row in rows if row["mask"] is not None and row["image"]}:
        own, seen = decode(image).shape, decode(mask).shape
        if own[:2] != seen[:2]:
            raise UsageError(
                f"mask: it has {seen[1]} x {seen[0]} pixels, and the picture {own[1]} x {own[0]}: they must be the same"
            )
        if seen[2] != 4 or media_of(mask) != "image/png":
            raise UsageError("mask: it must be a PNG that is transparent where the picture may change")


def checked_prompt(prompt: str | None) -> str:
    """The prompt; raises UsageError where there is none, or it is longer than any model takes."""
    if not prompt or not prompt.strip():
        raise UsageError('there is nothing to draw: give a prompt, as in genreg run openai-image "A cat in a hat"')
    if len(prompt) > LONGEST_PROMPT:
        raise UsageError(f"a prompt has at most {LONGEST_PROMPT:,} characters, and this one has {len(prompt):,}")
    return prompt


def sides(size: str) -> tuple[int, int] | None:
    """Width and height; None where it names none.

    >>> sides("1536x1024"), sides("auto")
    ((1536, 1024), None)
    """
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size)
    return (int(found[1]), int(found[2])) if found else None


def most_tokens(sent: Mapping[str, Any], model: str) -> int | None:
    """At most how many output tokens one image takes; None where nobody has published that.

    The tokens grow with the area: 272, 1056, 4160 for a square of 1024, half as many more for 1536 x 1024.
    """
    table = about(model).get("tokens")
    if table is None:
        return None
    tokens: int = table.get(sent.get("quality"), max(table.values()))
    width, height = sides(sent.get("size", "auto")) or sides(LARGEST) or (0, 0)
    return math.ceil(tokens * width * height / SQUARE)


def _check_size(size: str | None, model: str) -> None:
    """Raise UsageError for a size that the model does not have."""
    if size in (None, "auto"):
        return
    own = about(model).get("sizes")
    wrong = sides(size) is None or (size not in own if own else _misfit(*(sides(size) or (0, 0))))
    if not wrong:
        return
    offers = ", ".join(own) if own else f"any WIDTHxHEIGHT in steps of {STEP}, up to 3840x2160, at most 3 to 1"
    if instead := known()["old_sizes"].get(size):
        raise UsageError(f"size={size} went away with the models that had it: use {instead} ({model} has {offers})")
    raise UsageError(f"size={size}: {model} has {offers}, and auto")


def _misfit(width: int, height: int) -> bool:
    """Whether a model that takes any size does not take this one."""
    return bool(
        width % STEP
        or height % STEP
        or max(width, height) > LONGEST
        or width * height > MOST_AREA
        or max(width, height) > WIDEST * min(width, height)
    )


def _check_quality(quality: str | None, model: str) -> None:
    """Raise UsageError for a quality that the model does not have."""
    offers = about(model)["qualities"]
    if quality in (None, "auto", *offers):
        return
    if instead := known()["old_qualities"].get(quality):
        raise UsageError(f"quality={quality} went away with the models that had it: use {instead}")
    raise UsageError(f"quality={quality}: {model} has {', '.join(offers)}, and auto")
