"""Signals wait for the end of a step."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import genreg_torch.interrupts
from genreg_torch.interrupts import deferred


def test_a_signal_is_noted_and_one_that_comes_later_interrupts_at_once(monkeypatch):
    monkeypatch.setattr(genreg_torch.interrupts, "_SAME", 0.05)
    with pytest.raises(KeyboardInterrupt), deferred() as stopped:  # noqa: PT012
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_and_other_threads_are_left_alone():
    mine = lambda *_: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with deferred():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    seen = []

    def elsewhere():
        with deferred() as stopped:
            seen.append(stopped())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
