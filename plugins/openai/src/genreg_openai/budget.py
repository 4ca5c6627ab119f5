"""A budget that holds: the most that a request may cost is reserved before it is sent, and settled by its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from decimal import Decimal

from genreg.errors import UsageError


class Budget:
    """At most ``cap`` USD (None: no cap), of which ``spent`` is gone already.

    At any moment spent + reserved <= cap, so no order of answers can exceed it.
    """

    def __init__(self, cap: Decimal | None = None, spent: Decimal = Decimal(0)) -> None:
        self.cap, self.spent, self.reserved = cap, spent, Decimal(0)
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def reserve(self, worst: Decimal | None) -> None:
        """Reserve the most that a request may cost; wait for others to settle where that does not fit now.

        Raises UsageError where it does not fit and nothing is left to wait for, or nobody knows what it may cost.
        """
        if self.cap is None:
            return
        if worst is None:
            raise UsageError("nobody knows what this request may cost, so a budget cannot hold: leave out budget=…")
        while self.spent + self.reserved + worst > self.cap:
            if not self._held:
                raise UsageError(
                    f"the budget of ${self.cap} does not reach: ${self.spent:.6f} is spent, and the next request may "
                    f"cost up to ${worst:.6f}; a larger --option budget=… goes on"
                )
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self.reserved += worst
        self._held += 1

    def settle(self, worst: Decimal | None, cost: Decimal | None) -> None:
        """Give back what was reserved and book the cost; None: nobody knows it, so all that was reserved."""
        if self.cap is None:
            return
        worst = worst or Decimal(0)
        self.reserved -= worst
        self._held -= 1
        self.spent += worst if cost is None else cost
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
