"""Toy families: real little algorithms, one for each shape that a generative model takes.

- ``petals`` is layered and continuous, as StyleGAN: z -> w -> one style per layer -> a picture and numbers.
- ``melody`` is ragged, as an HMM: lengths, a prefix, nulls to fill in, drawn from the exact posterior.
- ``oracle`` is remote: rows finish in any order, are refused, fail, and are kept in a journal. Its time is simulated.
- ``slope`` is trained: stochastic gradient descent on a shuffled source, continued from its folder.
- ``weather`` has data columns named like a control (``temperature``) and like our own (``outcome``); ``forecast`` is
  the same as a stream.

This module is a plugin: its hook returns them all.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from genreg.checkpoint import Weights
from genreg.data import Source, floats, noted, refuse_not_finite
from genreg.draft import Array, Batch, Done, Draft, Model, Piece, Seeds
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.hooks import hookimpl
from genreg.random import Stream, bits, categorical, normal
from genreg.specs import Condition, ModelFamily, Report, Settings, Trained


class Nothing(Settings, frozen=True):
    """Nothing to choose."""


def codes(batch: Batch, name: str) -> Array:
    """A column of codes: int64 [n], -1 for null."""
    return np.array([-1 if code is None else code for code in batch.column(name).to_pylist()], np.int64)


def known_codes(batch: Batch, name: str, values: list[str]) -> Array:
    """The same, of a category; raises UsageError for a code of none of its values."""
    found = codes(batch, name)
    if (found >= len(values)).any():
        raise UsageError(f"{name}={found.max()}: the codes are 0 to {len(values) - 1}, for {', '.join(values)}")
    return found


# ---- petals: z -> w -> styles -> a picture ----

LAYERS, CHANNELS, LATENT, SIDE = 4, 3, 6, 5
FLOWERS = ["tulip", "rose", "菊"]  # not in sorted order: the order is the data's


def petals_columns(config: Nothing) -> pa.Schema:
    return pa.schema(
        [
            noted(pa.field("label", pa.int32()), role="label", values=FLOWERS),
            pa.field("image", pa.fixed_shape_tensor(pa.uint8(), [SIDE, SIDE])),
            pa.field("weight (g)", pa.float64()),
            pa.field("petals", pa.int64()),
        ]
    )


def petals_conditions(config: Nothing) -> list[Condition]:
    return [Condition("label", pa.int32(), "the flower", column="label")]


@dataclass(frozen=True, eq=False)
class Petals:
    """w = tanh(M (z + label)); each layer is a wave, whose height, phase and tilt are its style."""

    matrix: Array  # [LATENT, CHANNELS]
    w_avg: Array  # [flowers, CHANNELS]

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        label = known_codes(given, "label", FLOWERS)
        label = np.where(label < 0, categorical(seeds, np.zeros(len(FLOWERS)), stream=Stream.PATH), label)
        w = mapping(self.matrix, normal(seeds, (LATENT,), stream=Stream.PRIOR), label)
        shape = (len(seeds), LAYERS, CHANNELS)
        styles, center = (np.broadcast_to(one[:, None], shape) for one in (w, self.w_avg[label]))
        return Draft(styles, seeds, ("layer", "channel"), center=center, context={"label": label})

    def render(self, draft: Draft, /) -> Batch:
        styles, place = draft.values, np.arange(SIDE) / SIDE
        picture = 0.1 * normal(draft.seeds, (SIDE, SIDE), stream=Stream.RENDER)
        for layer in range(LAYERS):
            height, phase, tilt = styles[:, layer].T[:, :, None, None]
            picture = picture + height * np.cos((layer + 1) * (place[:, None] + tilt * place + phase))
        pixels = np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(draft.context["label"], pa.int32()),
                pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
                pa.array(20 + 5 * styles[:, 0, 2]),
                pa.array(8 + 4 * styles[:, -1, 0]),  # the core rounds what is declared whole
            ],
            names=["label", "image", "weight (g)", "petals"],
        )


def mapping(matrix: Array, z: Array, label: Array) -> Array:
    """w [n, CHANNELS] of z [n, LATENT]; summed by hand, for a matrix product depends on the batch in its last bit."""
    w: Array = np.tanh(((z + label[:, None])[:, :, None] * matrix).sum(1))
    return w


def load_petals(config: Nothing, options: Nothing, weights: Weights | None) -> Petals:
    matrix = normal(np.arange(LATENT, dtype=np.uint64), (CHANNELS,), stream=Stream.INIT)
    z = normal(np.arange(1000, dtype=np.uint64), (LATENT,), stream=Stream.INIT)
    means = [mapping(matrix, z, np.full(1000, label)).mean(0) for label in range(len(FLOWERS))]
    return Petals(matrix, np.stack(means))


# ---- melody: a hidden Markov model of two states ----

TOKENS = ["la", "li", "音"]


def melody_columns(config: Nothing) -> pa.Schema:
    return pa.schema([pa.field("tokens", pa.list_(pa.string()))])


def melody_conditions(config: Nothing) -> list[Condition]:
    return [
        Condition("prefix", pa.list_(pa.string()), "how it begins"),
        Condition("tokens", pa.list_(pa.string()), "all of it, with nulls to fill in", column="tokens"),
    ]


@dataclass(frozen=True, eq=False)
class Melody:
    """p(length) p(z_1) prod p(z_t | z_t-1) p(x_t | z_t), with S states, V tokens, and up to T steps."""

    start: Array  # [S]
    step: Array  # [S, S]
    emit: Array  # [S, V]
    length: Array  # [T]: p(length = 1 ... T)

    @cached_property
    def longest(self) -> int:
        return len(self.length)

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The length, then the state path by forward filtering and backward sampling: exact."""
        tokens, log_length = self._observed(given)
        lengths = 1 + categorical(seeds, log_length, stream=Stream.PRIOR)
        forward, path = self._forward(tokens), np.zeros((len(seeds), self.longest), np.int64)
        for t in reversed(range(self.longest)):
            log_p = forward[t]
            if t + 1 < self.longest:
                log_p = log_p + np.where((t + 1 < lengths)[:, None], np.log(self.step).T[path[:, t + 1]], 0.0)
            path[:, t] = np.where(t < lengths, categorical(seeds, log_p, stream=Stream.PATH, step=t), 0)
        return Draft(path, seeds, ("time",), levels=len(self.start), lengths=lengths, context={"tokens": tokens})

    def render(self, draft: Draft, /) -> Batch:
        """Tokens of the states; what is observed bypasses the states."""
        assert draft.lengths is not None
        tokens = draft.context["tokens"].copy()
        for t in range(self.longest):
            drawn = categorical(draft.seeds, np.log(self.emit)[draft.values[:, t]], stream=Stream.RENDER, step=t)
            tokens[:, t] = np.where(tokens[:, t] < 0, drawn, tokens[:, t])
        rows = [[TOKENS[token] for token in row[:n]] for row, n in zip(tokens, draft.lengths, strict=True)]
        return pa.RecordBatch.from_arrays([pa.array(rows, pa.list_(pa.string()))], names=["tokens"])

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        """Nulls within are summed out, and so is a row that is null."""
        tokens, _ = self._observed(batch)
        forward = np.logaddexp.reduce(self._forward(tokens), 2)  # [T, n]
        lengths = np.array([len(row or []) for row in batch.column("tokens").to_pylist()], np.int64)
        scored = forward[lengths - 1, np.arange(len(lengths))] + np.log(self.length)[lengths - 1]
        return np.where(lengths > 0, scored, 0.0)

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        """p(z_t = 1 | all tokens), by the forward-backward algorithm."""
        tokens, _ = self._observed(batch)
        forward, smoothed = self._forward(tokens), []
        for row, cells in enumerate(batch.column("tokens").to_pylist()):
            backward, p = np.zeros(len(self.start)), []
            for t in reversed(range(len(cells or []))):
                joint = forward[t, row] + backward
                p.append(float(np.exp(joint - np.logaddexp.reduce(joint))[1]))
                backward = np.logaddexp.reduce(np.log(self.step) + self._seen(tokens[row : row + 1, t]) + backward, 1)
            smoothed.append(p[::-1])
        return pa.RecordBatch.from_arrays([pa.array(smoothed, pa.list_(pa.float64()))], names=["p(1)"])

    def _observed(self, given: Batch) -> tuple[Array, Array]:
        """Token codes, int64 [n, T], -1 where not known; the log law of the length that they leave, [n, T]."""
        tokens = np.full((given.num_rows, self.longest), -1)
        log_length = np.broadcast_to(np.log(self.length), tokens.shape).copy()
        for name in ("prefix", "tokens"):
            rows = given.column(name).to_pylist() if name in given.schema.names else []
            for at, row in enumerate(rows):
                if row is None or (name == "prefix" and not row):
                    continue
                if not 1 <= len(row) <= self.longest:
                    raise UsageError(f"{name}={row}: a melody has 1 to {self.longest} tokens")
                for t, token in enumerate(row):
                    if token is not None and token not in TOKENS:
                        raise UsageError(f"{name}: there is no token {token}; there are: {', '.join(TOKENS)}")
                    tokens[at, t] = tokens[at, t] if token is None else TOKENS.index(token)
                log_length[at, : len(row) - 1] = -np.inf
                log_length[at, len(row) if name == "tokens" else self.longest :] = -np.inf
        return tokens, log_length

    def _seen(self, tokens: Array) -> Array:
        """log p(x_t | z_t), 0 where x_t is not known: [n, S]."""
        return np.where((tokens < 0)[:, None], 0.0, np.log(self.emit).T[tokens])

    def _forward(self, tokens: Array) -> Array:
        """log p(x_1 ... x_t, z_t): [T, n, S]."""
        alpha = [np.log(self.start) + self._seen(tokens[:, 0])]
        for t in range(1, self.longest):
            moved = np.logaddexp.reduce(alpha[-1][:, :, None] + np.log(self.step), 1)
            alpha.append(moved + self._seen(tokens[:, t]))
        return np.stack(alpha)


def load_melody(config: Nothing, options: Nothing, weights: Weights | None) -> Melody:
    return Melody(
        start=np.array([0.7, 0.3]),
        step=np.array([[0.8, 0.2], [0.3, 0.7]]),
        emit=np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]),
        length=np.array([0.1, 0.2, 0.3, 0.25, 0.15]),
    )


# ---- oracle: a remote API, whose time is simulated ----

JOURNAL = "journal.jsonl"
WORDS = ["sun", "rain", "wind", "snow", "雪"]


class Remote(Settings, frozen=True):
    """How to reach it."""

    concurrency: int = Field(default=8, ge=1, description="requests in flight at once")


def oracle_columns(config: Nothing) -> pa.Schema:
    return pa.schema([pa.field("prompt", pa.string()), pa.field("text", pa.string())])


def oracle_conditions(config: Nothing) -> list[Condition]:
    return [
        Condition("prompt", pa.string(), "what to ask", column="prompt"),
        Condition("temperature", pa.float64(), "0 says the same word again", default=1.0),
    ]


class Request(NamedTuple):
    """One row on its way."""

    row: int  # over all drafts
    seed: int
    prompt: str
    heat: float

    @property
    def key(self) -> str:
        return f"{self.seed} {self.heat} {self.prompt}"


@dataclass(frozen=True, eq=False)
class Oracle:
    """Answers a prompt with words; "boom" fails, "secret" is refused."""

    concurrency: int
    sent: Counter[str] = field(default_factory=Counter)  # requests by prompt
    in_flight: Counter[int] = field(default_factory=Counter)  # how often so many were, when one of them landed

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        prompts, heat = given.column("prompt").to_pylist(), given.column("temperature").fill_null(1.0)
        if None in prompts:
            raise UsageError("prompt is needed: --given prompt=…")
        return Draft(np.array(prompts, object), seeds, context={"temperature": heat.to_numpy()})

    def render(self, draft: Draft, /) -> Batch:
        cells = [{"prompt": one.prompt, **answer(one).columns} for one in requests(iter([draft]))]
        return pa.RecordBatch.from_pylist(cells, schema=oracle_columns(Nothing()))

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Piece | Done]:
        """A sliding pool: when a request lands, the next takes off, whichever draft it is in. A row that the journal
        has is not asked for again."""
        journal = folder / JOURNAL
        lines = journal.read_text("utf-8").splitlines() if journal.is_file() else []
        known = {line["key"]: Done(-1, line["columns"], line["outcome"]) for line in map(json.loads, lines)}
        waiting, flying, now = requests(drafts), list[tuple[int, Request]](), 0
        with journal.open("a", encoding="utf-8") as file:
            while True:
                while len(flying) < self.concurrency and (request := next(waiting, None)):
                    if request.key in known:
                        yield replace(known[request.key], row=request.row)
                        continue
                    self.sent[request.prompt] += 1
                    heapq.heappush(flying, (now + latency(request.seed), request))
                if not flying:
                    return
                self.in_flight[len(flying)] += 1
                now, request = heapq.heappop(flying)
                done = answer(request)
                yield from (Piece(request.row, word) for word in done.columns.get("text", "").split())
                file.write(json.dumps({"key": request.key, "columns": done.columns, "outcome": done.outcome}) + "\n")
                file.flush()
                yield done


def requests(drafts: Iterator[Draft]) -> Iterator[Request]:
    """The rows of all drafts, each draft pulled when its first row is."""
    row = itertools.count()
    for draft in drafts:
        for cells in zip(draft.seeds.tolist(), draft.values, draft.context["temperature"].tolist(), strict=True):
            yield Request(next(row), *cells)


def answer(request: Request) -> Done:
    """What the far side says."""
    if request.prompt in ("boom", "secret"):
        return Done(request.row, {}, "failed" if request.prompt == "boom" else "refused")
    words = random.Random(request.seed).choices(WORDS, k=3) if request.heat else WORDS[:1] * 3  # its own generator
    return Done(request.row, {"text": " ".join(words)})


def latency(seed: int) -> int:
    """Ticks until an answer lands, 1 to 50: neighbours overtake each other."""
    return 1 + seed * 2654435761 % 2**32 % 50


def load_oracle(config: Nothing, options: Remote, weights: Weights | None) -> Oracle:
    return Oracle(options.concurrency)


# ---- slope: each column is linear in those before it, plus Gaussian noise ----

STATE = "state.safetensors"


class SlopeConfig(Settings, frozen=True):
    """How it is trained, and the columns that it found."""

    rate: float = Field(default=0.05, gt=0, le=1, description="learning rate")
    epochs: int = Field(default=3, ge=1, description="passes over the rows")
    size: int = Field(default=16, ge=1, description="rows per step")
    columns: list[str] = Field(default=[], json_schema_extra={"internal": True})


def slope_columns(config: SlopeConfig) -> pa.Schema:
    return pa.schema([pa.field(name, pa.float64()) for name in config.columns])


def slope_conditions(config: SlopeConfig) -> list[Condition]:
    return [Condition(name, pa.float64(), "an observed number", column=name) for name in config.columns]


@dataclass(frozen=True, eq=False)
class Slope:
    """x = mean + factor e, e ~ N(0, I), of D columns: any of them can be given."""

    names: tuple[str, ...]
    mean: Array  # [D]
    factor: Array  # [D, D], lower triangular

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """e given the cells observed, by Matheron's rule: a draw of the prior, corrected to meet them."""
        e, seen = normal(seeds, (len(self.names),), stream=Stream.PRIOR), self._cells(given)
        center = np.zeros_like(e)
        for row in np.flatnonzero(~np.isnan(seen).all(1)):
            center[row] = self._correction(seen[row], np.zeros(len(self.names)))
            e[row] += self._correction(seen[row], e[row])
        return Draft(e, seeds, ("latent",), center=center, context={"seen": seen})

    def render(self, draft: Draft, /) -> Batch:
        x = self.mean + (draft.values[:, None, :] * self.factor).sum(-1)
        return pa.RecordBatch.from_arrays([pa.array(column) for column in x.T], names=list(self.names))

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        """The density of the cells that are there."""
        return np.array([self._log_density(row) for row in self._cells(batch)])

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        """The posterior mean of e."""
        e = [self._correction(row, np.zeros(len(self.names))).tolist() for row in self._cells(batch)]
        return pa.RecordBatch.from_arrays([pa.array(e, pa.list_(pa.float64()))], names=["latent"])

    def _cells(self, batch: Batch) -> Array:
        return np.stack([floats(batch, name) for name in self.names], 1)

    def _correction(self, seen: Array, e: Array) -> Array:
        there = ~np.isnan(seen)
        part = self.factor[there]
        found: Array = part.T @ np.linalg.solve(part @ part.T, seen[there] - self.mean[there] - part @ e)
        return found

    def _log_density(self, seen: Array) -> float:
        there = ~np.isnan(seen)
        covariance, away = self.factor[there] @ self.factor[there].T, seen[there] - self.mean[there]
        squared = float(away @ np.linalg.solve(covariance, away))
        return float(-0.5 * (squared + np.linalg.slogdet(covariance)[1] + there.sum() * np.log(2 * np.pi)))


def load_slope(config: SlopeConfig, options: Nothing, weights: Weights | None) -> Slope:
    if weights is None:
        raise CheckpointError("slope has no model without weights: train one with genreg train slope")
    d = len(config.columns)
    weights.expect({"bias": ((d,), "F64"), "weight": ((d, d), "F64"), "variance": ((d,), "F64")})
    inverse = np.linalg.inv(np.eye(d) - weights.numpy("weight"))
    factor = inverse * np.sqrt(weights.numpy("variance"))
    return Slope(tuple(config.columns), inverse @ weights.numpy("bias"), factor)


def fit_slope(
    config: SlopeConfig,
    options: Nothing,
    train: Source,
    validation: Source | None,
    *,
    seed: int,
    folder: Path,
    report: Report,
) -> Trained:
    """Least squares of each column on those before it, a step per batch; the state is saved before each report."""
    from safetensors.numpy import load_file

    if train.part != "train" or train.rows is None:
        raise UsageError(f"slope is fitted on the part train, and this is the part {train.part}")
    names, d = train.schema.names, len(train.schema)
    state = {"bias": np.zeros(d), "weight": np.zeros((d, d)), "variance": np.ones(d), "done": np.zeros(1)}
    if (folder / STATE).is_file():
        state = load_file(folder / STATE)
    steps, done = -(-train.rows // config.size), int(state["done"][0])
    while done < steps * config.epochs:
        epoch, at = divmod(done, steps)
        for batch in train.batches(size=config.size, shuffle=seed + epoch, start=at * config.size):
            x = np.stack([_whole(batch, name) for name in names], 1)
            done, state = done + 1, _descend(state, x, config.rate)
            _save_state(folder, {**state, "done": np.array([float(done)])})
            report(done, steps * config.epochs, loss=float(state["variance"].mean()))
    tensors = {name: state[name] for name in ("bias", "weight", "variance")}
    found = SlopeConfig(**{**dict(config), "columns": names})
    return Trained(tensors, found, {"mean variance": float(state["variance"].mean())})


def _descend(state: dict[str, Array], x: Array, rate: float) -> dict[str, Array]:
    """One step down the gradient of half the mean square of x - bias - weight x."""
    away = x - state["bias"] - x @ state["weight"].T
    return {
        "bias": state["bias"] + rate * away.mean(0),
        "weight": state["weight"] + rate * np.tril(away.T @ x / len(x), -1),
        "variance": state["variance"] + rate * ((away**2).mean(0) - state["variance"]),
    }


def _whole(batch: Batch, name: str) -> Array:
    if batch.column(name).null_count:
        raise DataError(f"column {name} has missing cells, which slope cannot take: --preprocess dropna")
    refuse_not_finite(batch.select([name]))
    return floats(batch, name)


def _save_state(folder: Path, state: dict[str, Array]) -> None:
    from safetensors.numpy import save_file

    save_file(state, folder / "state.unfinished")
    (folder / "state.unfinished").replace(folder / STATE)


# ---- weather: columns named like a control and like our own ----

SKIES = ["rain", "dry"]


def weather_columns(config: Nothing) -> pa.Schema:
    return pa.schema(
        [
            pa.field("temperature", pa.float64()),
            noted(pa.field("outcome", pa.int32()), values=SKIES),
            pa.field("station", pa.int64()),
        ]
    )


def weather_conditions(config: Nothing) -> list[Condition]:
    return [
        Condition("outcome", pa.int32(), "the sky", column="outcome"),
        Condition("temperature", pa.float64(), "in degrees", column="temperature"),
        Condition("station", pa.int64(), "where; it says nothing of the weather", column="station"),
        Condition("temperature", pa.float64(), "scales the spread", default=1.0),
    ]


@dataclass(frozen=True, eq=False)
class Weather:
    """p(outcome) N(temperature | mean, deviation * the control)."""

    prior: Array  # [K]
    mean: Array  # [K]
    deviation: Array  # [K]

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        heat = given.column("@temperature").fill_null(1.0).to_numpy()
        if (heat <= 0).any():
            raise UsageError(f"@temperature={heat.min():g}: it scales the spread, which lies above 0")
        log_p = np.log(self.prior) + self._log_normal(floats(given, "temperature"), heat)
        sky = known_codes(given, "outcome", SKIES)
        sky = np.where(sky < 0, categorical(seeds, log_p, stream=Stream.PRIOR), sky)
        return Draft(sky, seeds, levels=len(self.prior), context={"heat": heat})

    def render(self, draft: Draft, /) -> Batch:
        noise = normal(draft.seeds, stream=Stream.RENDER) * draft.context["heat"]
        warm = self.mean[draft.values] + self.deviation[draft.values] * noise
        station = bits(draft.seeds, 1, stream=Stream.USER)[:, 0].astype(np.int64)
        columns = [pa.array(warm), pa.array(draft.values, pa.int32()), pa.array(station)]
        return pa.RecordBatch.from_arrays(columns, schema=weather_columns(Nothing()))

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:
        """log p(outcome, temperature), what is null being summed or integrated out."""
        joint = np.log(self.prior) + self._log_normal(floats(batch, "temperature"), np.ones(batch.num_rows))
        sky = codes(batch, "outcome")
        return np.where(sky < 0, np.logaddexp.reduce(joint, 1), joint[np.arange(len(sky)), sky])

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:
        """p(outcome | temperature)."""
        joint = np.log(self.prior) + self._log_normal(floats(batch, "temperature"), np.ones(batch.num_rows))
        p = np.exp(joint - np.logaddexp.reduce(joint, 1)[:, None])
        return pa.RecordBatch.from_arrays([pa.array(one) for one in p.T], names=[f"p({sky})" for sky in SKIES])

    def _log_normal(self, x: Array, heat: Array) -> Array:
        spread = heat[:, None] * self.deviation
        log_p = -0.5 * ((x[:, None] - self.mean) / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
        return np.where(np.isnan(x)[:, None], 0.0, log_p)


@dataclass(frozen=True, eq=False)
class Forecast:
    """The same, each window's rows backwards."""

    weather: Weather

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        return self.weather.propose(seeds, given)

    def render(self, draft: Draft, /) -> Batch:
        return self.weather.render(draft)

    def stream(self, drafts: Iterator[Draft], /, *, folder: Path) -> Iterator[Piece | Done]:
        start = 0
        for draft in drafts:
            cells = self.render(draft).to_pylist()
            yield from (Done(start + at, cells[at]) for at in reversed(range(len(cells))))
            start += len(draft)


def load_weather(config: Nothing, options: Nothing, weights: Weights | None) -> Weather:
    return Weather(np.array([0.3, 0.7]), np.array([10.0, 20.0]), np.array([3.0, 5.0]))


def load_forecast(config: Nothing, options: Nothing, weights: Weights | None) -> Forecast:
    return Forecast(load_weather(config, options, weights))


# ---- the plugin ----


def _family(name: str, makes: str, draft: str, load: Any, columns: Any, conditions: Any, **more: Any) -> ModelFamily:
    summary = f"A toy: {name}"
    settings = {"config": Nothing, "options": Nothing, **more}
    return ModelFamily(name, summary, makes, draft, columns=columns, load=load, conditions=conditions, **settings)


FAMILIES = {
    family.name: family
    for family in [
        _family("petals", "image", "styles [4, 3], W+", load_petals, petals_columns, petals_conditions),
        _family("melody", "sequence", "state path", load_melody, melody_columns, melody_conditions),
        _family("oracle", "text", "a prompt", load_oracle, oracle_columns, oracle_conditions, options=Remote, batch=16),
        _family(
            "slope",
            "table",
            "e [D], normal",
            load_slope,
            slope_columns,
            slope_conditions,
            config=SlopeConfig,
            fit=fit_slope,
            preprocess=("standardize",),
        ),
        _family("weather", "table", "the outcome", load_weather, weather_columns, weather_conditions),
        _family("forecast", "table", "the outcome", load_forecast, weather_columns, weather_conditions),
    ]
}


@hookimpl
def genreg_models() -> list[ModelFamily]:
    """All toys."""
    return list(FAMILIES.values())


def _fulfil_the_contract() -> list[Model]:
    """mypy compares each model with the contract."""
    none, nothing = None, Nothing()
    return [
        load_petals(nothing, nothing, none),
        load_melody(nothing, nothing, none),
        load_oracle(nothing, Remote(), none),
        Slope(("x",), np.zeros(1), np.eye(1)),
        load_weather(nothing, nothing, none),
        load_forecast(nothing, nothing, none),
    ]
