"""The budget holds and the throttle adapts, whatever the order of events."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.errors import UsageError
from genreg_openai.budget import Budget
from genreg_openai.limits import Throttle
from genreg_openai.prices import Prices

CENT = st.integers(0, 100).map(lambda cents: Decimal(cents) / 100)


@given(st.lists(st.tuples(CENT, CENT), max_size=30), CENT, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_no_order_of_answers_exceeds_the_cap(requests, cap, seed):
    chance, budget, billed = random.Random(seed), Budget(cap), [Decimal(0)]

    async def one(worst: Decimal, cost: Decimal) -> None:
        await budget.reserve(worst)
        assert budget.spent + budget.reserved <= cap
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        billed[0] += min(worst, cost)
        budget.settle(worst, min(worst, cost))

    async def all_of_them() -> list:
        return await asyncio.gather(*(one(*request) for request in requests), return_exceptions=True)

    ends = asyncio.run(all_of_them())
    assert billed[0] == budget.spent <= cap
    assert budget.reserved == 0
    assert all(end is None or isinstance(end, UsageError) for end in ends)
    if sum(worst for worst, _ in requests) <= cap:
        assert ends == [None] * len(requests)


def test_what_does_not_fit_waits_for_what_is_given_back():
    budget = Budget(Decimal(1))

    async def run() -> None:
        await budget.reserve(Decimal("0.9"))
        second = asyncio.create_task(budget.reserve(Decimal("0.5")))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle(Decimal("0.9"), Decimal("0.1"))
        await second

    asyncio.run(run())
    assert (budget.spent, budget.reserved) == (Decimal("0.1"), Decimal("0.5"))


def test_a_budget_tells_what_is_spent_and_needs_a_price():
    with pytest.raises(UsageError, match=r"\$0\.9.* is spent, and the next request may cost up to \$0\.2"):
        asyncio.run(Budget(Decimal(1), Decimal("0.9")).reserve(Decimal("0.2")))
    with pytest.raises(UsageError, match="nobody knows what this request may cost"):
        asyncio.run(Budget(Decimal(1)).reserve(None))


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.now += seconds
            await real(0)

        monkeypatch.setattr("genreg_openai.limits.asyncio.sleep", sleep)

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("limits", "tokens", "seconds"), [({"rpm": 10}, 0, 180), ({"tpm": 100}, 20, 420)])
def test_no_minute_has_more_than_was_allowed(limits, tokens, seconds, monkeypatch):
    clock, times = Clock(monkeypatch), []
    throttle = Throttle(100, clock=clock, **limits)

    async def run() -> None:
        for _ in range(40):
            await throttle.enter(tokens)
            times.append(clock.now)
            throttle.leave(answered=True)

    asyncio.run(run())
    most = limits.get("rpm") or limits["tpm"] // tokens
    assert all(sum(start <= other < start + 60 for other in times) <= most for start in times)
    assert seconds <= times[-1] <= seconds + 5


def test_the_concurrency_halves_on_429_and_grows_with_answers(monkeypatch):
    clock = Clock(monkeypatch)
    throttle = Throttle(16, clock=clock)
    for _ in range(5):  # of one burst: halved once
        throttle.back_off(2.0)
    assert throttle.limit == 8
    clock.now = 3.0
    throttle.back_off(1.0)
    assert throttle.limit == 4

    async def answers(count: int) -> float:
        start = clock.now
        for _ in range(count):
            await throttle.enter()
            throttle.leave(answered=True)
        return clock.now - start

    assert asyncio.run(answers(1)) >= 1.0  # as long as the service asked for
    asyncio.run(answers(500))
    assert throttle.limit == 16


def test_never_more_than_the_limit_are_on_their_way():
    throttle, most, running = Throttle(7), [0], [0]

    async def one() -> None:
        await throttle.enter()
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        running[0] -= 1
        throttle.leave(answered=True)

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(100)))

    asyncio.run(run())
    assert most[0] == 7


def test_prices_are_known_said_or_not_known():
    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    official = "https://api.openai.com/v1"
    assert Prices("gpt-5.4-mini", official).cost(usage) == Decimal("5.25")
    half = Prices("gpt-5.4-mini", official, share=Decimal("0.5"))
    assert half.cost(usage) == Decimal("2.625")
    assert Prices("gpt-5.4-mini", official).cost({**usage, "cached_tokens": 1_000_000}) < Decimal("5.25")
    assert Prices("no-such-model", official).cost(usage) is None
    assert Prices("x", "https://nobody.example/v1").cost(usage) is None
    assert Prices("x", "http://localhost/v1", local=True).cost(usage) == 0
    assert Prices("x", "http://localhost/v1", (Decimal(1), Decimal(2)), local=True).cost(usage) == 3
