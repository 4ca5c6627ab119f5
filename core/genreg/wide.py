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


def padded(text: str, to: int, right: bool = False) -> str:
    """The text with spaces after it (before it, where it goes to the ``right``), ``to`` columns wide.

    >>> padded("花", 4) + "|"
    '花  |'
    """
    spaces = " " * (to - width(text))
    return spaces + text if right else text + spaces
