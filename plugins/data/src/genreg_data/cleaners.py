"""What takes noise out of text: one pure function per kind, over Arrow columns, for text in any script."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TAG = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL | re.IGNORECASE)
BREAK = re.compile(r"<(?:br|/?p|/?div|/?li|/?tr|/?h[1-6])\b[^<>]*>", re.IGNORECASE)
URL = r"(?i)\b(?:[a-z][a-z0-9+.-]*://|www\.)[^\s<>\"'，。！？；：、（）《》「」【】]*[^\s<>\"'，。！？；：、（）《》「」【】.,;:!?)]"
EMAIL = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
CONTROL = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{ad}\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2064}\x{feff}]"
)
WIDE, IDEOGRAPHIC_SPACE = range(0xFF01, 0xFF5F), "\u3000"  # U+FF01..U+FF5E are ASCII's ! to ~, and wide


def html(column: Any) -> Any:
    """Without tags, comments, scripts and styles; entities as the characters that they stand for."""
    return _each(column, lambda text: entities.unescape(TAG.sub("", BREAK.sub("\n", text))), only="[<&]")


def url(column: Any) -> Any:
    """Without addresses such as https://… and www.…."""
    return pc.replace_substring_regex(column, URL, "")


def email(column: Any) -> Any:
    """Without e-mail addresses."""
    return pc.replace_substring_regex(column, EMAIL, "")


def control(column: Any) -> Any:
    """Without control characters (but tab and line ends), soft hyphens, and invisible marks of width 0."""
    return pc.replace_substring_regex(column, CONTROL, "")


def punctuation(column: Any) -> Any:
    """Without what Unicode calls punctuation (P*), in any script."""
    return pc.replace_substring_regex(column, r"\p{P}+", "")


def symbols(column: Any) -> Any:
    """Without what Unicode calls symbols (S*): currency, mathematics, emoji."""
    return pc.replace_substring_regex(column, r"\p{S}+", "")


def space(column: Any) -> Any:
    """Each run of white space as one blank, and none at the ends."""
    return pc.utf8_trim(pc.replace_substring_regex(column, r"[\s\v\x{85}\p{Z}]+", " "), " ")


def halfwidth(column: Any) -> Any:
    """Full-width letters, digits and signs (ＡＢＣ１２３！) and the ideographic space as ASCII's."""
    return _each(column, lambda text: text.translate(_narrow()), only=r"[\x{ff01}-\x{ff5e}\x{3000}]")


def fullwidth(column: Any) -> Any:
    """ASCII's letters, digits and signs as full-width ones."""
    return _each(column, lambda text: text.translate({narrow: wide for wide, narrow in _narrow().items()}))


def nfc(column: Any) -> Any:
    """Unicode's composed form: an e and its accent are one character."""
    return pc.utf8_normalize(column, "NFC")


def nfd(column: Any) -> Any:
    """Unicode's decomposed form."""
    return pc.utf8_normalize(column, "NFD")


def nfkc(column: Any) -> Any:
    """Unicode's composed form with compatible characters unified: ﬁ is fi, ① is 1, ＡＢＣ is ABC."""
    return pc.utf8_normalize(column, "NFKC")


def nfkd(column: Any) -> Any:
    """Unicode's decomposed form with compatible characters unified."""
    return pc.utf8_normalize(column, "NFKD")


def lower(column: Any) -> Any:
    """In lower case."""
    return pc.utf8_lower(column)


CLEANERS: Mapping[str, Callable[[Any], Any]] = {
    cleaner.__name__: cleaner
    for cleaner in (
        html, url, email, control, punctuation, symbols, space, halfwidth, fullwidth, nfc, nfd, nfkc, nfkd, lower,
    )
}  # fmt: skip


@cache
def _narrow() -> dict[int, int]:
    return {**{wide: wide - 0xFEE0 for wide in WIDE}, ord(IDEOGRAPHIC_SPACE): ord(" ")}


def _each(column: Any, change: Callable[[str], str], only: str = "") -> Any:
    """The texts through a function of Python's; those that ``only`` does not match stay as they are."""
    at = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(column, only), False)) if only else None
    if at is None:
        return pa.array([None if text is None else change(text) for text in column.to_pylist()], column.type)
    if not len(at):
        return column
    changed = pa.array([change(text) for text in column.take(at).to_pylist()], column.type)
    mask = pc.is_in(pa.array(range(len(column)), pa.uint64()), at)
    return pc.replace_with_mask(column, mask, changed)
