"""What tokens cost: from the genai-prices library, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

MILLION = 1_000_000
NAMES = {  # of what is counted, here and in genai-prices
    "input_tokens": "input_tokens", "cached_tokens": "cache_read_tokens", "input_image_tokens": "input_image_tokens",
    "output_tokens": "output_tokens", "output_image_tokens": "output_image_tokens",
}  # fmt: skip


@dataclass(frozen=True)
class Prices:
    """The prices of one model at one base URL.

    ``own`` is USD per million tokens, in and out; a ``local`` server is free unless that is said; ``share`` is the
    part of the price that is asked (0.5 for a batch).
    """

    model: str
    base_url: str
    own: tuple[Decimal, Decimal] | None = None
    local: bool = False
    share: Decimal = Decimal(1)

    def cost(self, usage: Mapping[str, int]) -> Decimal | None:
        """The cost in USD of input_tokens (of which cached_tokens) and output_tokens; None where nobody knows."""
        if self.own is not None:
            price_in, price_out = self.own
            total = price_in * usage.get("input_tokens", 0) + price_out * usage.get("output_tokens", 0)
            return total * self.share / MILLION
        if self.local:
            return Decimal(0)
        from genai_prices import Usage, calc_price

        counts = {theirs: usage[ours] for ours, theirs in NAMES.items() if ours in usage}
        try:
            found = calc_price(Usage(**counts), self.model, provider_api_url=self.base_url)
        except (LookupError, ValueError):
            return None
        return Decimal(found.total_price) * self.share
