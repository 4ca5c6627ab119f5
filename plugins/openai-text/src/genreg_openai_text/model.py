"""openai-text: the draft is the finished prompt, and rendering is asking.

conditions ─► prompt, and what is asked with it ─► request ─► stream of events ─► text, outcome, usage, cost
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.draft import Account, Batch, Done, Draft, Piece, Seeds
from genreg.errors import UsageError
from genreg_openai.background import in_background
from genreg_openai.calls import Answer, Call, Request, key_of
from genreg_openai.endpoint import Endpoint, client
from genreg_openai.events import events, is_stream, read, read_whole
from genreg_openai.journal import Journal
from genreg_openai.policy import judged
from genreg_openai.prices import Prices
from genreg_openai.remote import Ways, account, answers, begun, description, own_folder
from genreg_openai_text import COLUMNS, TextOptions
from genreg_openai_text.answered import Said, outcome_of, take
from genreg_openai_text.asked import asked, body, most_tokens, schema_of

BYTES = 4  # of a token, about: ``most_tokens`` counts one


@dataclass(frozen=True)
class RemoteText:
    """A text model behind an API."""

    options: TextOptions
    endpoint: Endpoint

    @property
    def api(self) -> str:
        """``responses`` or ``chat``."""
        auto = "responses" if self.endpoint.official else "chat"
        return auto if self.options.api == "auto" else self.options.api

    @property
    def where(self) -> str:
        """The host and its API, for people."""
        return f"{self.endpoint.host} ({self.api} API)"

    @property
    def prices(self) -> Prices:
        """What tokens cost here."""
        return self.options.prices(self.endpoint)

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The finished prompts [n], and what is asked with each, as JSON."""
        rows = given.to_pylist()
        prompts = np.array([row["prompt"] or "" for row in rows], object)
        checked: dict[str, str] = {}  # what is the same in many rows is read and checked once
        texts = []
        for row in rows:
            cells = repr({**row, "prompt": None})
            if cells not in checked:
                checked[cells] = json.dumps(asked(row), ensure_ascii=False)
            texts.append(checked[cells])
        return Draft(prompts, seeds, context={"asked": np.array(texts, object)})

    def render(self, draft: Draft, /) -> Batch:
        """All rows, asked now; without a journal."""
        rows: dict[int, Mapping[str, Any]] = {}
        for event in self.stream(iter([draft]), folder=Path()):
            if isinstance(event, Done):
                rows[event.row] = event.columns
        cells = [{name: rows[row].get(name) for name in COLUMNS.names} for row in range(len(draft))]
        return pa.RecordBatch.from_pylist(cells, schema=COLUMNS)

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Piece | Done]:
        """Ask for every row; the journal lies in ``folder``, or nowhere where that is no folder of its own."""
        requests = begun(self.requests(drafts), self.options, self.endpoint)
        if requests is None:
            return
        path = "/v1/responses" if self.api == "responses" else "/v1/chat/completions"
        ways = Ways(self.connect, path, _unstreamed, self.answered)
        with closing(Journal(own_folder(folder))) as journal:
            yield from answers(requests, ways, self.options, self.endpoint, journal, folder)

    async def answered(self, request: Request, response: Mapping[str, Any]) -> Answer:
        """A response that came at once as a row."""
        said = Said()
        take(said, dict(response), self.endpoint.host)
        return self.finished(said, request)

    def requests(self, drafts: Iterator[Draft]) -> Iterator[Request]:
        """Each row as a request, with the most that it may cost."""
        self.options.require_model()
        row, limited = 0, self.options.budget is not None
        for draft in drafts:
            for prompt, text, seed in zip(draft.values, draft.context["asked"], draft.seeds.tolist(), strict=True):
                ask = json.loads(text)
                sent = body(self.api, self.options.model, prompt, ask, seed=seed, official=self.endpoint.official)
                most_in, most_out = most_tokens(prompt, ask), ask.get("max_tokens")
                worst = self.worst(most_in, most_out) if limited else None
                key = key_of(self.endpoint.host, self.api, sent, seed)
                yield Request(row, key, sent, most_in + (most_out or 0), worst)
                row += 1

    def worst(self, most_in: int, most_out: int | None) -> Decimal:
        """The most, in USD, that so many tokens cost; raises UsageError where nobody knows."""
        if most_out is None:
            raise UsageError("under a budget each answer needs a limit: --given max_tokens=1000")
        cost = self.prices.cost({"input_tokens": most_in, "output_tokens": most_out})
        if cost is None:
            raise UsageError(
                f"nobody knows what {self.options.model} costs at {self.endpoint.host}, so a budget cannot "
                "hold: --option price=[IN,OUT] says it, in USD per million tokens"
            )
        return cost

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """The official client, for as long as the pool asks."""
        options = self.options
        async with client(self.endpoint, timeout=options.timeout, connections=options.concurrency) as service:
            responses = service.responses.with_streaming_response
            chat = service.chat.completions.with_streaming_response

            async def ask(request: Request, call: Call) -> Answer:
                if options.background:
                    response = await in_background(service, request.body, call, self.endpoint.host)
                    return await self.answered(request, response)
                model, sent = request.body["model"], dict(request.body)  # as it is: the client has nothing to convert
                if self.api == "responses":
                    answer: Any = responses.create(model=model, input=[], extra_body=sent)
                else:
                    answer = chat.create(model=model, messages=[], extra_body=sent)
                return await self.listen(answer, request, call)

            yield ask

    async def listen(self, answer: Any, request: Request, call: Call) -> Answer:
        """Follow a stream to its end. Raises Failure with what came until then."""
        said, host = Said(), self.endpoint.host
        try:
            async with answer as response:
                if not is_stream(response, host):
                    call.piece(take(said, await read_whole(response, host), host))
                else:
                    chunks = response.iter_bytes()
                    async for data in events(chunks):
                        if data == "[DONE]":
                            await _rest(chunks)
                            break
                        if piece := take(said, read(data, host), host):
                            call.piece(piece)
        except Exception as error:
            failure = judged(error, host)
            if said.end is None:  # else the answer is whole, and what broke after it does not matter
                if said.text:
                    failure.columns, failure.billed = {"text": said.text}, True
                    failure.outcome = "truncated" if failure.outcome == "unknown" else failure.outcome
                raise failure from error
        return self.finished(said, request)

    def finished(self, said: Said, request: Request) -> Answer:
        """An answer as a row, checked for what servers pass over in silence."""
        outcome, why = outcome_of(said, schema_of(request.body), lenient=self.options.lenient)
        cost = self.prices.cost(said.usage) if said.usage or self.endpoint.local else None
        columns = {
            "text": said.text, "note": why, "model": said.model, "id": said.id,
            "input_tokens": said.usage.get("input_tokens"), "output_tokens": said.usage.get("output_tokens"),
            "cost": None if cost is None else float(cost),
        }  # fmt: skip
        return Answer(columns, outcome, said.usage, cost)

    def plan(self, drafts: Iterator[Draft], /) -> Mapping[str, str]:
        """How many requests, at most how many tokens, the price from and to, and where it all goes."""
        count = most_in = most_out = 0
        open_end = False
        for draft in drafts:
            for prompt, text in zip(draft.values, draft.context["asked"], strict=True):
                ask = json.loads(text)
                count, most_in = count + 1, most_in + most_tokens(prompt, ask)
                open_end, most_out = open_end or "max_tokens" not in ask, most_out + ask.get("max_tokens", 0)
        low = self.prices.cost({"input_tokens": most_in // BYTES, "output_tokens": 0})
        high = self.prices.cost({"input_tokens": most_in, "output_tokens": most_out})
        price = "unknown" if low is None or high is None else f"${low:.4f} to ${high:.4f}"
        if open_end and price != "unknown":
            price = f"${low:.4f} or more: max_tokens limits it"
        return {
            "requests": f"{count:,}",
            "tokens": f"about {most_in // BYTES:,} and at most {most_in:,} in, at most "
            + ("any number" if open_end else f"{most_out:,}") + " out",
            "price": price,
            "host": self.where,
        }  # fmt: skip

    def account(self, folder: Path, /) -> Account:
        """What the journal in ``folder`` adds up to."""
        return account(folder, {"host": self.endpoint.host, "api": self.api})

    def describe(self) -> str:
        """Where it is asked, and what is missing."""
        return description(self.options, self.endpoint, self.where)


def load(options: TextOptions) -> RemoteText:
    """The model at its endpoint; raises UsageError for a base URL or a key that cannot be."""
    found = RemoteText(options, options.endpoint())
    if options.background and (options.batch or found.api != "responses"):
        way = "leave out batch" if options.batch else "--option api=responses asks that"
        raise UsageError(f"--option background=true: only the Responses API goes on without us, call by call: {way}")
    return found


async def _rest(chunks: AsyncIterator[bytes]) -> None:
    """Read a stream to its end, which should be there already, so that its connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            async for _ in chunks:
                pass


def _unstreamed(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.body.items() if name not in ("stream", "stream_options")}
