"""Against aimock, a server that no one here wrote: pictures from text, and edits."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from aimock import control, serving

from genreg import load
from genreg.errors import UsageError
from genreg.images import encode

CAT = "一只骑着滑板的猫,背景是城市风景。"
KEY = "test-key"
PICTURES = [encode(np.full((16, 16, 3), shade, np.uint8)) for shade in (10, 20, 30)]
B64 = [base64.b64encode(picture).decode() for picture in PICTURES]
FIXTURES = [
    {
        "match": {"userMessage": "滑板", "endpoint": "image"},
        "response": {"image": {"b64Json": B64[0], "revisedPrompt": "a cat on a skateboard"}},
    },
    {
        "match": {"userMessage": "two", "endpoint": "image"},
        "response": {"images": [{"b64Json": one} for one in B64[:2]]},
    },
    {"match": {"userMessage": "link", "endpoint": "image"}, "response": {"image": {"url": "https://a.example/b.png"}}},
    {"match": {"userMessage": "night", "endpoint": "image"}, "response": {"image": {"b64Json": B64[2]}}},
    {
        "match": {"userMessage": "bad", "endpoint": "image"},
        "response": {"error": {"message": "rejected", "type": "x", "code": "moderation_blocked"}, "status": 400},
    },
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("aimock"), FIXTURES, KEY) as url:
        yield url


@pytest.fixture(autouse=True)
def _there(aimock, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{aimock}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def rows(prompt: str, n: int = 1, **given: object) -> list[dict]:
    return load("openai-image").sample(n, prompt=prompt, **given).table.to_pylist()


def test_the_seeds_example():
    (row,) = rows(CAT, size="1024x1024")
    assert (row["image"], row["outcome"], row["size"]) == (PICTURES[0], "ok", "16x16")
    assert row["revised_prompt"] == "a cat on a skateboard"


def test_pictures_that_are_missing_are_told():
    found = rows("two hats", 3)
    assert [row["image"] for row in found] == [*PICTURES[:2], None]
    assert [row["outcome"] for row in found] == ["ok", "ok", "failed"]


def test_an_edit(aimock):
    (row,) = rows("make it night", image=PICTURES[0], mask=encode(np.zeros((16, 16, 4), np.uint8)))
    assert row["image"] == PICTURES[2]
    assert control(aimock, "journal", KEY)[-1]["path"] == "/v1/images/edits"


@pytest.mark.parametrize(
    ("prompt", "outcome", "note"),
    [
        ("a link", "failed", "a picture lies at a.example, and only 127.0.0.1"),
        ("something bad", "filtered", "answered 400: rejected"),
        ("nothing matches", "failed", "answered 503"),
    ],
)
def test_what_is_no_picture_is_told_as_that(prompt, outcome, note):
    (row,) = rows(prompt)
    assert (row["image"], row["outcome"]) == (None, outcome)
    assert note in row["note"]


def test_a_wrong_key_is_told(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UsageError, match="answered 401"):
        rows("two")
