"""What is known of model ids: the dates on which they shut down, as data in models.json."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

SOON = timedelta(days=90)


@cache
def known() -> dict[str, dict[str, Any]]:
    """Model ids with the day they shut down (``until``) and what to use then (``instead``)."""
    found: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath("models.json").read_text("utf-8"))
    return found


def shutdown(model: str, today: date) -> str | None:
    """What people should be told of a model that shuts down within 90 days, or has."""
    about = known().get(model)
    if about is None or (until := date.fromisoformat(about["until"])) - today > SOON:
        return None
    what = f"{model} shuts down on {until}" if until > today else f"{model} was shut down on {until}"
    return f"{what}: use {about['instead']}"


def is_gone(model: str, today: date) -> bool:
    """Whether a model has been shut down."""
    return model in known() and date.fromisoformat(known()[model]["until"]) <= today
