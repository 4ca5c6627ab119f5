"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved is never half of one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SAME = 2.0  # seconds within which signals are one


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within the block, a signal only sets what the function tells; one that comes later again interrupts at once.

    Later, because torchrun passes on a Ctrl-C that the terminal has already sent to every process. Outside the main
    thread, where no signal arrives, and for signals that are ignored or have somebody else's handler, nothing changes.
    """
    came: list[float] = []

    def note(number: int, frame: Any) -> None:  # noqa: ARG001
        if came and time.monotonic() - came[0] > _SAME:
            raise KeyboardInterrupt
        came.append(time.monotonic())

    plain = (signal.SIG_DFL, signal.default_int_handler)
    main = threading.current_thread() is threading.main_thread()
    old = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} if main else {}
    old = {number: handler for number, handler in old.items() if handler in plain}
    for number in old:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
