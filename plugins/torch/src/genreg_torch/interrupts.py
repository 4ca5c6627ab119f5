"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved is never half of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within the block, the first signal only sets what the function tells; a second one interrupts at once.

    Outside the main thread, where no signal arrives, and for signals that are ignored or have a handler of somebody
    else's, nothing changes.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:  # noqa: ARG001
        if came:
            raise KeyboardInterrupt
        came.append(number)

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
