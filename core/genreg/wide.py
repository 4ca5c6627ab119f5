"""How wide text is on a terminal, told without Arrow: `genreg list` needs it."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """How many columns of a terminal the text takes: CJK characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def padded(text: str, to: int) -> str:
    """The text with spaces after it, ``to`` columns wide.

    >>> padded("花", 4) + "|"
    '花  |'
    """
    return text + " " * (to - width(text))
