"""What the fake answers to image generations and edits: plain PNGs in the color of the prompt."""

from __future__ import annotations

import base64
import email
import email.policy
import struct
import time
import zlib
from hashlib import sha256
from typing import Any

from genreg_openai.testing.text import Event, Made, count, dice, flat

PER_IMAGE = {"low": 272, "medium": 1056, "high": 4160}  # output tokens, as once published for gpt-image-1


def png(width: int, height: int, color: tuple[int, ...]) -> bytes:
    """A PNG of one color (RGB or RGBA) with a dark square at its top left."""
    row, mark = bytes(color) * width, (b"\0\0\0" + b"\xff" * (len(color) - 3)) * min(8, width)
    rows = [b"\0" + (mark + row[len(mark) :] if at < 8 else row) for at in range(height)]

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if len(color) == 3 else 6, 0, 0, 0)
    body = zlib.compress(b"".join(rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def mistake(body: dict[str, Any]) -> tuple[str, str] | None:
    """What is wrong with a request, and the parameter; None where nothing is."""
    amount = body.get("n") or 1
    if not (isinstance(amount, int) and 1 <= amount <= 10):
        return f"Invalid 'n': {amount!r}. Expected a value from 1 to 10.", "n"
    if (body.get("output_format") or "png") != "png":
        return "this fake only makes png.", "output_format"
    return None if size_of(body) else (f"Invalid value: '{body.get('size')}'.", "size")


def size_of(body: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height that are asked for; None where a GPT image model does not take them."""
    text = str(body.get("size") or "auto")
    width, _, height = ("1024x1024" if text == "auto" else text).partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return None
    w, h = int(width), int(height)
    whole = w >= 16 and h >= 16 and w % 16 == 0 and h % 16 == 0
    return (w, h) if whole and max(w, h) <= 3840 and 1 / 3 <= w / h <= 3 else None


def form_of(data: bytes, kind: str) -> dict[str, Any]:
    """A multipart form as a body: fields as text (numbers as such), files by name with the sha256 of their bytes."""
    message = email.message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + data, policy=email.policy.HTTP)
    found: dict[str, Any] = {}
    for part in message.iter_parts():
        name, payload = str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        if part.get_filename():
            file: dict[str, Any] = {
                "file": part.get_filename(),
                "type": part.get_content_type(),
                "sha256": sha256(payload).hexdigest(),
            }
            file |= {"data": payload} if name == "file" else {}
            found.setdefault(name.removesuffix("[]"), []).append(file)
        else:
            text = payload.decode()
            found[name] = int(text) if text.isdecimal() else {"true": True, "false": False}.get(text, text)
    return found


def spoiled(data: list[dict[str, Any]], fault: str | None, url: str | None) -> list[dict[str, Any]]:
    """The pictures of an answer, with a fault: of the last one, or of all."""
    if fault == "empty":
        return []
    if fault == "one_missing":
        return data[:-1]
    raw = base64.b64decode(data[-1]["b64_json"])
    changed = {"half_image": raw[: len(raw) // 2], "no_bytes": b"", "not_image": b"<html>"}
    if fault in changed:
        return [*data[:-1], {"b64_json": base64.b64encode(changed[fault]).decode()}]
    if fault == "bad_base64":
        return [*data[:-1], {"b64_json": "!" + data[-1]["b64_json"]}]
    return [{"url": url.format(at)} for at in range(len(data))] if fault == "url" and url else data


def by_tool(body: dict[str, Any], refused: bool) -> list[dict[str, Any]]:
    """What the tool image_generation of a response puts out: nothing where it is not there, or the model refuses."""
    tool = next((tool for tool in body.get("tools") or [] if tool["type"] == "image_generation"), None)
    if tool is None or refused:
        return []
    made = generation({**tool, "prompt": flat(body["input"])}, None)
    result = made.whole["data"][0]["b64_json"]
    return [{"id": "ig_fake", "type": "image_generation_call", "status": "completed", "result": result}]


def generation(body: dict[str, Any], fault: str | None, url: str | None = None) -> Made:
    """Images for a prompt; ``url`` is where they lie, by number, if they are not to come along."""
    width, height = size_of(body) or (1024, 1024)
    clear = body.get("background") == "transparent"
    quality = str(body.get("quality")) if body.get("quality") in PER_IMAGE else "high"
    amount, used = int(body.get("n") or 1), count(body["prompt"])

    def shot(index: int, light: float = 1.0) -> str:
        chance = dice(body["prompt"], index)
        color = tuple(int(chance.randint(40, 255) * light) for _ in range(3)) + ((128,) if clear else ())
        return base64.b64encode(png(width, height, color)).decode()

    made = PER_IMAGE[quality] * amount
    usage = {
        "input_tokens": used, "input_tokens_details": {"text_tokens": used, "image_tokens": 0},
        "output_tokens": made, "total_tokens": used + made,
    }  # fmt: skip
    about = {
        "created": int(time.time()), "size": f"{width}x{height}", "quality": quality, "output_format": "png",
        "background": "transparent" if clear else "opaque",
    }  # fmt: skip
    data = spoiled([{"b64_json": shot(index)} for index in range(amount)], fault, url)
    events: list[Event] = []
    about_event = {**about, "created_at": about["created"]}
    for index in range(int(body.get("partial_images") or 0)):
        kind = f"image_{'edit' if 'image' in body else 'generation'}.partial_image"
        partial = {"type": kind, "b64_json": shot(0, (index + 1) / 5), "partial_image_index": index, **about_event}
        events.append((kind, partial))
    kind = f"image_{'edit' if 'image' in body else 'generation'}.completed"
    events.append((kind, {"type": kind, **(data[0] if data else {}), "usage": usage, **about_event}))
    if "image" in body:
        usage["input_tokens_details"] = {"text_tokens": used, "image_tokens": 100 * len(body["image"])}
        usage["input_tokens"] = used + 100 * len(body["image"])
    return Made({"data": data, "usage": usage, **about}, events, used + made, amount)
