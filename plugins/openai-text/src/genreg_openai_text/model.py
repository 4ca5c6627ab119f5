"""openai-text: the draft is the finished prompt, and rendering is asking.

conditions ─► prompt, and what is asked with it ─► request ─► stream of events ─► text, outcome, usage, cost
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.cli.common import note
from genreg.draft import Account, Batch, Done, Draft, Piece, Seeds
from genreg.errors import UsageError
from genreg_openai.background import in_background
from genreg_openai.batch import Batches, require_journal
from genreg_openai.budget import Budget
from genreg_openai.calls import Answer, Call, Failure, Request, key_of
from genreg_openai.endpoint import Endpoint, client, require_key
from genreg_openai.events import events, read
from genreg_openai.journal import Journal, totals
from genreg_openai.limits import Throttle
from genreg_openai.models import shutdown
from genreg_openai.policy import judged
from genreg_openai.pool import Pool
from genreg_openai.prices import Prices
from genreg_openai_text import COLUMNS, TextOptions
from genreg_openai_text.answered import Said, take
from genreg_openai_text.asked import asked, body, fits, most_tokens


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
    def prices(self) -> Prices:
        """What tokens cost here."""
        return self.options.prices(self.endpoint)

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The finished prompts [n], and what is asked with each, as JSON."""
        rows = given.to_pylist()
        prompts = np.array([row["prompt"] or "" for row in rows], object)
        read: dict[str, str] = {}  # what is the same in many rows is read once
        texts = []
        for row in rows:
            cells = repr({**row, "prompt": None})
            if cells not in read:
                read[cells] = json.dumps(asked(row), ensure_ascii=False)
            texts.append(read[cells])
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
        requests = self.requests(drafts)
        first = next(requests, None)  # what is refused is refused before anything is written
        if first is None:
            return
        require_key(self.endpoint)
        if warning := shutdown(self.options.model, date.today()):
            note(warning)
        options, journal = self.options, Journal(folder if folder != Path() else None)
        try:
            budget = Budget(options.budget, journal.totals.bound)
            if options.batch:
                yield from self.batches(journal, budget, folder).run(_with(first, requests))
                return
            throttle = Throttle(options.concurrency, rpm=options.rpm, tpm=options.tpm)
            how: dict[str, Any] = {name: getattr(options, name) for name in ("attempts", "patience", "resend")}
            how["scrub"] = self.endpoint.scrub
            pool = Pool(self.endpoint.host, self.connect, journal, budget, throttle, **how)
            yield from pool.run(_with(first, requests))
        finally:
            journal.close()

    def batches(self, journal: Journal, budget: Budget, folder: Path) -> Batches:
        """The same requests by the Batch API."""
        require_journal(folder)
        path = "/v1/responses" if self.api == "responses" else "/v1/chat/completions"
        how: dict[str, Any] = {name: getattr(self.options, name) for name in ("poll", "timeout", "attempts")}
        return Batches(self.endpoint, path, journal, budget, self.whole, _unstreamed, **how)

    async def whole(self, request: Request, response: Mapping[str, Any]) -> Answer:
        """A response that came at once as a row."""
        said = Said()
        take(said, dict(response), self.endpoint.host)
        return self.finished(said, request)

    def requests(self, drafts: Iterator[Draft]) -> Iterator[Request]:
        """Each row as a request, with the most that it may cost."""
        if not self.options.model:
            raise UsageError("which model? --option model=… names one, as the server knows it")
        row, prices, limited = 0, self.prices, self.options.budget is not None
        for draft in drafts:
            for prompt, text, seed in zip(draft.values, draft.context["asked"], draft.seeds.tolist(), strict=True):
                ask = json.loads(text)
                made = body(self.api, self.options.model, prompt, ask, seed=seed, official=self.endpoint.official)
                most_in, most_out = most_tokens(prompt, ask), ask.get("max_tokens")
                if limited and most_out is None:
                    raise UsageError("under a budget each answer needs a limit: --given max_tokens=1000")
                worst = None
                if limited:
                    worst = prices.cost({"input_tokens": most_in, "output_tokens": most_out})
                    if worst is None:
                        raise UsageError(
                            f"nobody knows what {self.options.model} costs at {self.endpoint.host}, so a budget cannot "
                            "hold: --option price=[IN,OUT] says it, in USD per million tokens"
                        )
                key = key_of(self.endpoint.host, self.api, made, seed)
                yield Request(row, key, made, most_in + (most_out or 0), worst)
                row += 1

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
                    return await self.whole(request, response)
                model, whole = request.body["model"], dict(request.body)  # as it is: the client has nothing to convert
                if self.api == "responses":
                    answer: Any = responses.create(model=model, input=[], extra_body=whole)
                else:
                    answer = chat.create(model=model, messages=[], extra_body=whole)
                return await self.listen(answer, request, call)

            yield ask

    async def listen(self, answer: Any, request: Request, call: Call) -> Answer:
        """Follow a stream to its end. Raises Failure with what came until then."""
        said, host = Said(), self.endpoint.host
        try:
            async with answer as response:
                kind = response.headers.get("content-type", "")
                if "json" in kind:  # a server that does not stream
                    call.piece(take(said, read((await response.read()).decode("utf-8", "replace"), host), host))
                elif "event-stream" not in kind:
                    raise Failure(f"{host} answered with {kind or 'something'}, not with an answer of the API")
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
            if said.end is None:
                if said.text:
                    failure.columns, failure.billed = {"text": said.text}, True
                    failure.outcome = "truncated" if failure.outcome == "unknown" else failure.outcome
                raise failure from error
        return self.finished(said, request)

    def finished(self, said: Said, request: Request) -> Answer:
        """An answer as a row, checked for what servers pass over in silence."""
        outcome, why = said.outcome, said.refusal or None
        if outcome == "truncated" and self.options.lenient and said.text:
            outcome = "ok"
        elif outcome == "truncated":
            why = "the stream ended before the answer did; where a server always ends so, --option lenient=true"
        elif outcome == "filtered":
            why = why or "a content filter stopped the answer"
        elif outcome == "length":
            why = "the answer reached the limit of its tokens"
        elif outcome == "ok" and not said.text:
            outcome, why = "failed", "the answer is empty"
        schema = _schema(request.body)
        if outcome == "ok" and schema is not None and not _is_of(said.text, schema):
            outcome, why = "failed", "the answer does not fit the JSON Schema: this server may not know schemas"
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
        low = self.prices.cost({"input_tokens": most_in // 4, "output_tokens": 0})
        high = self.prices.cost({"input_tokens": most_in, "output_tokens": most_out})
        price = "unknown" if low is None or high is None else f"${low:.4f} to ${high:.4f}"
        if open_end and price != "unknown":
            price = f"${low:.4f} or more: max_tokens limits it"
        return {
            "requests": f"{count:,}",
            "tokens": f"about {most_in // 4:,} and at most {most_in:,} in, at most "
            + ("any number" if open_end else f"{most_out:,}") + " out",
            "price": price,
            "host": f"{self.endpoint.host} ({self.api} API)",
        }  # fmt: skip

    def account(self, folder: Path, /) -> Account:
        """What the journal in ``folder`` adds up to."""
        found = totals(folder).account()
        where = {"host": self.endpoint.host, "api": self.api}
        return Account(where | dict(found.facts), found.lines) if found.facts else found

    def describe(self) -> str:
        """Where it is asked, and what is missing."""
        lines = [f"host: {self.endpoint.host} ({self.api} API)", f"model: {self.options.model or 'none is named'}"]
        try:
            require_key(self.endpoint)
            lines.append("key: there is one" if self.endpoint.key else "key: none, and this server may need none")
        except UsageError as error:
            lines.append(f"key: {error}")
        return "\n".join([*lines, *filter(None, [shutdown(self.options.model, date.today())])])


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


def _with(first: Request, rest: Iterator[Request]) -> Iterator[Request]:
    yield first
    yield from rest


def _unstreamed(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.body.items() if name not in ("stream", "stream_options")}


def _schema(sent: Mapping[str, Any]) -> Any:
    """The JSON Schema of a request, in either API's place."""
    form = (sent.get("text") or {}).get("format") or (sent.get("response_format") or {}).get("json_schema") or {}
    return form.get("schema")


def _is_of(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        return fits(json.loads(text), schema)
    except ValueError:
        return False
