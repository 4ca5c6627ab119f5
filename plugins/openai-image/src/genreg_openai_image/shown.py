"""Pictures on terminals that can show them: kitty's graphics protocol and iTerm2's inline images."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from typing import Literal, TypeAlias

from genreg.errors import DataError
from genreg.images import WIDEST_SHOWN, decode, encode, thumbnail

Protocol: TypeAlias = Literal["kitty", "iterm"]

CHUNK = 4096  # bytes of base64 in one escape sequence, at most (kitty)


def show(picture: bytes) -> None:
    """Show an encoded picture on a terminal that can; past the progress bar, which would take the sequences apart."""
    how = protocol(os.environ)
    if how and sys.__stderr__ and sys.__stderr__.isatty():
        sys.__stderr__.write(escapes(picture, how))
        sys.__stderr__.flush()


def protocol(environ: Mapping[str, str]) -> Protocol | None:
    """How the terminal takes pictures; None where it is not known to take any.

    >>> protocol({"TERM": "xterm-kitty"}), protocol({"TERM_PROGRAM": "iTerm.app"}), protocol({"TERM": "xterm-256color"})
    ('kitty', 'iterm', None)
    """
    program, term = environ.get("TERM_PROGRAM", ""), environ.get("TERM", "")
    if environ.get("TMUX") or term.startswith(("screen", "tmux")):
        return None  # which passes neither on
    if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    return "iterm" if program in ("iTerm.app", "WezTerm") else None


def escapes(data: bytes, protocol: Protocol) -> str:
    """The escape sequences that show an encoded picture, made smaller; empty for what is none.

    Sources: sw.kovidgoyal.net/kitty/graphics-protocol (a=T: show at once, f=100: PNG, m: more follows), and
    iterm2.com/documentation-images.
    """
    try:
        small = thumbnail(decode(data), WIDEST_SHOWN)
    except DataError:
        return ""
    text = base64.b64encode(encode(small)).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(text) * 3 // 4}:{text}\a\n"
    parts = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
    heads = ["a=T,f=100,q=2,", *[""] * (len(parts) - 1)]
    more = [1] * (len(parts) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{part}\x1b\\" for head, m, part in zip(heads, more, parts, strict=True)) + "\n"
