"""The options of every remote family: where to ask, how much at a time, and what it may cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from genreg.errors import UsageError
from genreg.specs import FREE, Settings
from genreg_openai.endpoint import Endpoint, endpoint
from genreg_openai.prices import Prices

SHARE = Decimal("0.5")  # of the price, that a batch costs
Money = Annotated[Decimal, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def free(default: Any, description: str) -> Any:
    """An option that may change when a run is resumed: it does not change what is asked."""
    return Field(default, description=description, json_schema_extra=FREE)


class RemoteOptions(Settings, frozen=True):
    """How a remote model is reached."""

    model: str = Field("", description="the model's id, as the server names it")
    base_url: str | None = Field(None, description="the server; OPENAI_BASE_URL or OpenAI's own unless told")
    key_file: Path | None = free(None, "a file with the key of that server, which its owner alone can read")
    concurrency: Count = free(4, "how many requests at a time, at most; fewer while the server says 429")
    rpm: Count | None = free(None, "requests per minute, at most")
    tpm: Count | None = free(None, "tokens per minute, at most, in and out")
    timeout: Seconds = free(120.0, "seconds of silence after which a request is given up")
    attempts: Count = free(6, "how often a request is sent that was surely not billed")
    patience: Seconds = free(120.0, "the longest wait in seconds that the server may ask for")
    resend: bool = free(False, "ask again what may have been billed already")
    budget: Money | None = free(None, "USD that the run may cost, at most")
    batch: bool = Field(False, description="ask by the Batch API: half the price, within a day")
    background: bool = Field(False, description="responses that the server makes without us (the Responses API alone)")
    poll: Seconds = free(30.0, "seconds between two looks at a batch")
    price: tuple[Money, Money] | None = free(None, "USD per million tokens, in and out, where nobody else knows them")

    def require_model(self) -> None:
        """Raise UsageError where no model is named."""
        if not self.model:
            raise UsageError("which model? --option model=… names one, as the server knows it")

    def endpoint(self) -> Endpoint:
        """Where to ask, with the key that belongs there; raises UsageError where that cannot be."""
        return endpoint(self.base_url, key_file=self.key_file)

    def prices(self, endpoint: Endpoint) -> Prices:
        """What tokens cost there."""
        return Prices(self.model, endpoint.base_url, self.price, endpoint.local, SHARE if self.batch else Decimal(1))
