"""openai-image: the draft is the finished prompt, and rendering is asking.

conditions ─► prompt, and what is asked with it ─► rows that ask the same, together ─► request ─► pictures as they came
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg.draft import Account, Batch, Done, Draft, Piece, Seeds
from genreg.errors import DataError, UsageError
from genreg.images import SUFFIXES, media_of
from genreg_openai.background import in_background
from genreg_openai.calls import Answer, Call, Failure, Request, key_of
from genreg_openai.endpoint import Endpoint, client
from genreg_openai.events import events, is_stream, read, read_whole
from genreg_openai.journal import Journal
from genreg_openai.models import is_gone, shutdown
from genreg_openai.policy import judged
from genreg_openai.prices import Prices
from genreg_openai.remote import Ways, account, answers, begun, description, own_folder
from genreg_openai_image import COLUMNS, ImageOptions
from genreg_openai_image.answered import answer_of, no_url, partial_of, row_of, share
from genreg_openai_image.asked import asked, check_masks, checked_prompt, most_tokens, pictures
from genreg_openai_image.fetched import fetcher
from genreg_openai_image.grouped import Group, Noted, Row, grouped
from genreg_openai_image.shown import show
from genreg_openai_image.tool import as_images, as_response

MOST_SHOWN = 16  # pictures of a run, on a terminal
PARTIAL_TOKENS = 100  # that the service bills for each picture on the way


@dataclass(frozen=True)
class Ask:
    """What is asked for some pictures, and the pictures that they come from."""

    prompt: str
    sent: Mapping[str, Any]
    pictures: tuple[bytes, ...] = ()
    mask: bytes | None = None


@dataclass(frozen=True)
class RemoteImages:
    """An image model behind an API."""

    options: ImageOptions
    endpoint: Endpoint

    @property
    def prices(self) -> Prices:
        """What tokens cost here."""
        return self.options.prices(self.endpoint)

    @property
    def together(self) -> int:
        """How many pictures go into one request; a stream brings one."""
        return 1 if self.options.partials or self.options.background else self.options.per_request

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The finished prompts [n], and what is asked with each: JSON, pictures, a mask.

        Raises UsageError for what the model does not offer.
        """
        rows = given.to_pylist()
        if self.endpoint.official and is_gone(self.options.model, date.today()):
            raise UsageError(f"--option model={self.options.model}: {shutdown(self.options.model, date.today())}")
        check_masks(rows)
        sent = [json.dumps(asked(row, self.options.model), ensure_ascii=False, sort_keys=True) for row in rows]
        context: dict[str, list[Any]] = {
            "sent": sent,
            "pictures": [tuple(pictures(row)) for row in rows],
            "mask": [row["mask"] for row in rows],
        }
        prompts = _objects([row["prompt"] for row in rows])
        return Draft(prompts, seeds, context={name: _objects(cells) for name, cells in context.items()})

    def render(self, draft: Draft, /) -> Batch:
        """All rows, asked now; without a journal."""
        done = [event for event in self.stream(iter([draft]), folder=Path()) if isinstance(event, Done)]
        cells = [dict(row.columns) for row in sorted(done, key=lambda row: row.row)]
        return pa.RecordBatch.from_pylist(cells, schema=COLUMNS)

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Piece | Done]:
        """Ask for every row; the journal lies in ``folder``, or nowhere where that is no folder of its own."""
        rows = begun(self.rows(drafts), self.options, self.endpoint)
        if rows is None:
            return
        open_groups: dict[int, Group[Ask]] = {}

        def requests(noted: Noted) -> Iterator[Request]:
            for number, group in enumerate(grouped(rows, self.together, noted)):
                open_groups[number] = group
                yield self.request(number, group)

        ways = Ways(self.connect, "/v1/images/generations", _without_seeds, self.answered)
        kept = own_folder(folder)
        journal, noted = Journal(kept), Noted(kept)
        try:
            for event in answers(requests(noted), ways, self.options, self.endpoint, journal, folder):
                if isinstance(event, Piece):
                    show(Path(event.text).read_bytes())
                else:
                    yield from self.shared_out(open_groups.pop(event.row), event)
        finally:
            journal.close()
            noted.close(keep=journal.matters)

    async def answered(self, request: Request, found: Mapping[str, Any]) -> Answer:
        """An answer whose pictures came along, fetched later than it was asked for."""
        amount, form = len(request.body["seeds"]), request.body.get("output_format")
        return self.priced(await answer_of(found, amount, form, no_url, self.prices), amount)

    def rows(self, drafts: Iterator[Draft]) -> Iterator[Row[Ask]]:
        """Each row with what is asked for it."""
        self.options.require_model()
        number = 0
        for draft in drafts:
            cells = (draft.context[name] for name in ("sent", "pictures", "mask"))
            for prompt, seed, sent, images, mask in zip(draft.values, draft.seeds.tolist(), *cells, strict=True):
                ask = Ask(checked_prompt(prompt), json.loads(sent), images, mask)
                seen = [hashlib.sha256(data).hexdigest() for data in (*images, *([mask] if mask else []))]
                about = (self.endpoint.host, self.options.model, self.options.partials, prompt, ask.sent, seen)
                yield Row(number, seed, key_of(*about, len(images)), ask)
                number += 1

    def request(self, number: int, group: Group[Ask]) -> Request:
        """One request for the pictures of a group, with the most that they may cost."""
        ask, options, amount = group.ask, self.options, len(group.seeds)
        if options.batch and ask.pictures:
            raise UsageError("--option batch=true: a batch takes no edits: leave out the picture, or batch")
        body: dict[str, Any] = {"model": options.model, "prompt": ask.prompt, **ask.sent}
        body |= {"n": amount} if amount > 1 else {}
        body |= {"stream": True, "partial_images": options.partials} if options.partials else {}
        if ask.pictures:
            body["image"] = [_file("image", at, data) for at, data in enumerate(ask.pictures)]
        if ask.mask:
            body["mask"] = _file("mask", 0, ask.mask)
        worst = self.worst(ask) if options.budget is not None else None
        body["seeds"] = group.seeds  # for the names of partial pictures; it is not sent
        tokens, cost = (0, None) if worst is None else (worst[0] * amount, worst[1] * amount)
        return Request(number, key_of(group.digest, group.seeds), body, tokens, cost)

    def worst(self, ask: Ask) -> tuple[int, Decimal]:
        """The most tokens, and USD, that one picture may take; raises UsageError where nobody knows."""
        options = self.options
        if options.image_price is not None:
            return 0, options.image_price
        if options.background:
            raise UsageError(
                f"nobody knows how many tokens {options.through} adds to a picture, so a budget cannot hold: "
                "--option image_price=… says what a picture costs"
            )
        made = options.most_tokens or most_tokens(ask.sent, options.model)
        if made is None:
            raise UsageError(
                f"nobody has published how many tokens a picture of {options.model} takes, so a budget cannot hold: "
                "--option most_tokens=… says the most, or --option image_price=… what one costs"
            )
        if ask.pictures and not options.most_tokens:
            raise UsageError(
                "nobody has published how many tokens the pictures of an edit take, so a budget cannot hold: "
                "--option most_tokens=… says the most, in and out, or --option image_price=… what a picture costs"
            )
        asked_for = len(ask.prompt.encode()) + made * (len(ask.pictures) + (ask.mask is not None))
        made += PARTIAL_TOKENS * options.partials
        usage = {"input_tokens": asked_for, "input_image_tokens": asked_for, "output_tokens": made}
        cost = self.prices.cost(usage)
        if cost is None:
            raise UsageError(
                f"nobody knows what {options.model} costs at {self.endpoint.host}, so a budget cannot hold: "
                "--option price=[IN,OUT] says it in USD per million tokens, --option image_price=… per picture"
            )
        return asked_for + made, cost

    def shared_out(self, group: Group[Ask], event: Done) -> Iterator[Done]:
        """The rows of a group, each with its own picture and its share of the price."""
        amount = len(group.seeds)
        for row, at in group.rows:
            cells, outcome = row_of(event.columns, event.outcome, at)
            used = {name: share(event.columns.get(name), amount, at) for name in ("input_tokens", "output_tokens")}
            cost = event.columns.get("cost")
            cells |= {"prompt": group.ask.prompt, "model": self.options.model, **used}
            cells |= {"cost": None if cost is None else cost / amount}
            if cells["image"] is not None and row < MOST_SHOWN:
                show(cells["image"])
            yield Done(row, cells, outcome)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """The official client, for as long as the pool asks."""
        options = self.options
        async with (
            client(self.endpoint, timeout=options.timeout, connections=options.concurrency) as service,
            fetcher(self.endpoint, timeout=options.timeout) as fetch,
        ):
            images = service.images.with_streaming_response

            async def ask(request: Request, call: Call) -> Answer:
                if options.background:
                    drawn = as_response(request.body, options.through)
                    found = as_images(await in_background(service, drawn, call, self.endpoint.host), self.endpoint.host)
                    return await self.answered(request, found)
                rest = dict(request.body)
                seeds, prompt = rest.pop("seeds"), rest.pop("prompt")
                named: dict[str, Any] = {"prompt": prompt}
                named |= {name: rest.pop(name) for name in ("image", "mask") if name in rest}
                made: Any = images.edit if "image" in named else images.generate
                listened = self.listen(made(**named, extra_body=rest), seeds, rest.get("output_format"), call, fetch)
                return self.priced(await listened, len(seeds))

            yield ask

    async def listen(self, asking: Any, seeds: tuple[int, ...], form: str | None, call: Call, fetch: Any) -> Answer:
        """Follow an answer to its end. Raises Failure, with the last partial picture where a stream was cut off."""
        host = self.endpoint.host
        partial: dict[str, Any] = {}
        try:
            async with asking as response:
                if not is_stream(response, host):
                    return await answer_of(await read_whole(response, host), len(seeds), form, fetch, self.prices)
                async for data in events(response.iter_bytes()):
                    event = read(data, host)
                    if str(event.get("type")).endswith(".partial_image"):
                        with suppress(Failure, DataError):
                            partial, picture = await partial_of(event)
                            call.piece(str(self.keep(picture, seeds[0], event)))
                    elif str(event.get("type")).endswith(".completed"):
                        return await answer_of({**event, "data": [event]}, 1, form, fetch, self.prices)
                    elif event.get("type") == "error" or event.get("error"):
                        raise Failure(f"{host} broke off: {(event.get('error') or event).get('message')}")
            raise Failure("the stream ended before the picture did", outcome="truncated")
        except Exception as error:
            failure = judged(error, host)
            if partial:
                failure.columns, failure.outcome, failure.billed = partial, "truncated", True
            raise failure from error

    def keep(self, picture: bytes, seed: int, event: Mapping[str, Any]) -> Path:
        """Write a partial picture down; its file."""
        folder = self.options.partials_folder
        folder.mkdir(parents=True, exist_ok=True)
        number = int(event.get("partial_image_index") or 0) + 1
        path = folder / f"{seed}-{number}{SUFFIXES[media_of(picture)]}"
        path.write_bytes(picture)
        return path

    def priced(self, answer: Answer, amount: int) -> Answer:
        """The answer with what it used and cost among its columns."""
        cost = answer.cost
        if not answer.usage and self.options.image_price is not None:
            cost = self.options.image_price * amount
        told = {name: answer.usage.get(name) for name in ("input_tokens", "output_tokens")}
        columns = {**answer.columns, **told, "cost": None if cost is None else float(cost)}
        return Answer(columns, answer.outcome, answer.usage, cost)

    def plan(self, drafts: Iterator[Draft], /) -> Mapping[str, str]:
        """How many requests and pictures, the most they cost, and where it all goes."""
        rows = requests = 0
        cost: Decimal | None = Decimal(0)
        for group in grouped(self.rows(drafts), self.together, Noted(None)):
            requests, rows = requests + 1, rows + len(group.seeds)
            try:
                cost = None if cost is None else cost + self.worst(group.ask)[1] * len(group.seeds)
            except UsageError:
                cost = None
        price = "unknown: --option image_price=… says what a picture costs" if cost is None else f"at most ${cost:.4f}"
        return {"requests": f"{requests:,} for {rows:,} pictures", "price": price, "host": self.endpoint.host}

    def account(self, folder: Path, /) -> Account:
        """What the journal in ``folder`` adds up to."""
        return account(folder, {"host": self.endpoint.host})

    def describe(self) -> str:
        """Where it is asked, and what is missing."""
        return description(self.options, self.endpoint, self.endpoint.host)


def load(options: ImageOptions) -> RemoteImages:
    """The model at its endpoint; raises UsageError for a base URL or a key that cannot be."""
    if options.background and (options.batch or options.partials):
        raise UsageError("--option background=true: a call alone goes on without us: leave out batch and partials")
    if options.batch and options.partials:
        raise UsageError("--option partials: a batch shows nothing on the way: leave out batch or partials")
    if options.background and not options.through:
        raise UsageError(
            "--option background=true: pictures are drawn through a text model: --option through=… names it"
        )
    return RemoteImages(options, options.endpoint())


def _without_seeds(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.body.items() if name != "seeds"}


def _objects(cells: list[Any]) -> Any:
    """Cells of any kind as an array [n]."""
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def _file(name: str, at: int, data: bytes) -> tuple[str, bytes, str]:
    """A picture as it is uploaded: file name, bytes, media type."""
    media = media_of(data)
    return f"{name}{at or ''}{SUFFIXES[media]}", data, media
