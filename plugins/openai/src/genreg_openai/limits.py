"""How many requests may be on their way: additive increase, multiplicative decrease, and limits per minute.

The concurrency halves when the service says "too many" (429) and grows by one for each full round of answers, as TCP
does it (Jacobson, "Congestion avoidance and control", 1988).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

MINUTE = 60.0


class Throttle:
    """At most ``most`` requests at a time, ``rpm`` requests and ``tpm`` tokens in any minute."""

    def __init__(
        self, most: int, *, rpm: int | None = None, tpm: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most, self.rpm, self.tpm, self.clock = most, rpm, tpm, clock
        self.limit = float(most)  # 1 to most, as the service bears it
        self.running = 0
        self._quiet_until = 0.0  # the service asked to be left alone until then
        self._halved_at = -MINUTE
        self._recent: deque[tuple[float, int]] = deque()  # when each request of the last minute went out, its tokens
        self._tokens = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, tokens: int = 0) -> None:
        """Wait for a turn."""
        while True:
            pause = self._pause(tokens)
            if pause > 0:
                await asyncio.sleep(min(pause, 1.0))
            elif self.running >= int(self.limit):
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn
            else:
                break
        self.running += 1
        if self.rpm is not None or self.tpm is not None:
            self._recent.append((self.clock(), tokens))
            self._tokens += tokens

    def leave(self, *, answered: bool) -> None:
        """Give the turn back; an answer lets the limit grow."""
        self.running -= 1
        if answered:
            self.limit = min(self.most, self.limit + 1 / self.limit)
        self._wake()

    def back_off(self, seconds: float) -> None:
        """The service said "too many": halve the limit (once for all that were on their way) and be quiet."""
        now = self.clock()
        if now >= self._halved_at:
            self.limit = max(1.0, self.limit / 2)
        self._halved_at = self._quiet_until = max(self._quiet_until, now + seconds)

    def _pause(self, tokens: int) -> float:
        """Seconds until a limit per minute, or what the service asked for, lets a request out."""
        now = self.clock()
        pause = self._quiet_until - now
        while self._recent and now - self._recent[0][0] >= MINUTE:
            self._tokens -= self._recent.popleft()[1]
        if not self._recent:
            return pause
        over = (self.rpm is not None and len(self._recent) >= self.rpm) or (
            self.tpm is not None and self._tokens + tokens > self.tpm
        )
        return max(pause, MINUTE - (now - self._recent[0][0])) if over else pause

    def _wake(self) -> None:
        free = int(self.limit) - self.running
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
