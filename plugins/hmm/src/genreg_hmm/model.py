"""The hidden Markov model: the state path is proposed, the emissions are rendered.

p(z, x) = p(z_1) prod p(z_t | z_{t-1}) prod p(x_t | z_t), and where ends are learned each step ends the sequence with a
probability that its state has. What is given (a prefix, a sequence with gaps) enters the path through its exact
posterior and is passed through to the sample, never drawn again. A length that is given is conditioned on: with a
learned end, the path is one that ends there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch

from genreg.draft import Array, Batch, Draft, Seeds
from genreg.errors import CheckpointError, UsageError, did_you_mean
from genreg.random import Stream, normal, uniform
from genreg_hmm.asked import Asked
from genreg_hmm.batches import buckets
from genreg_hmm.categorical import Categorical, Knobs
from genreg_hmm.config import LONGEST, Config, Part, columns
from genreg_hmm.decoding import inferred
from genreg_hmm.emissions import Diagonal, Emission, Poisson
from genreg_hmm.gaussian import Full
from genreg_hmm.graph import described
from genreg_hmm.learning import Parameters, log_likelihoods
from genreg_hmm.sampling import Observed, draw_paths, first_end, padded
from genreg_hmm.sequences import as_lists, as_texts, sequences

if TYPE_CHECKING:
    from genreg.checkpoint import Weights

HORIZON = 256  # steps drawn at first where the end is open
END = Stream.USER  # the stream of what decides whether a sequence ends at a step


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """A chain of states and what they emit."""

    config: Config
    parameters: Parameters
    device: str = "cpu"

    # ---- the prior, conditioned ----

    def propose(self, seeds: Seeds, given: Batch, /) -> Draft:
        """The state path of each row, from its exact posterior given a prefix, a sequence with gaps, or a length."""
        asked = Asked.of(self.config, given)
        paths, lengths = self._paths(seeds, asked)
        context: dict[str, Array] = {name: asked.knobs[name] for name in Knobs._fields}
        if asked.seen.lengths.any():
            offsets, width = asked.seen.offsets, paths.shape[1]
            for at, (cells, emission) in enumerate(zip(asked.seen.parts, self.parameters.emissions, strict=True)):
                rows = [cells[a:b] for a, b in pairwise(offsets)]
                fill = emission.empty if isinstance(emission, Categorical) else np.nan
                context[f"given.{at}"] = padded(rows, width, fill)
            if self.config.columns[0].kind == "text":
                context["prefix"] = asked.prefix
        return Draft(paths, seeds, axes=("time",), levels=self.parameters.states, lengths=lengths, context=context)

    def _paths(self, seeds: Seeds, asked: Asked) -> tuple[Array, Array]:
        """State paths int64 [n, T] and their lengths [n]; where the end is open, they are drawn on until one comes."""
        p, lengths = self.parameters, asked.lengths
        if (lengths > 0).all():
            width = int(lengths.max(initial=0))
            uniforms = uniform(seeds, (width,), stream=Stream.PATH)
            return draw_paths(p.start, p.transition, uniforms, seeds, self._observed(asked, lengths)), lengths
        lengths, width = lengths.copy(), max(HORIZON, int(lengths.max()), 2 * int(asked.seen.lengths.max()))
        paths = np.zeros((len(seeds), width), np.int64)
        undecided, observed = np.arange(len(seeds)), self._observed(asked, lengths)
        while len(undecided):
            uniforms = uniform(seeds[undecided], (width,), stream=Stream.PATH)
            own = observed and Observed(observed.log_evidence[undecided], observed.lengths[undecided])
            drawn = draw_paths(p.start, p.transition, uniforms, seeds[undecided], own)
            paths = np.pad(paths, ((0, 0), (0, width - paths.shape[1])))
            paths[undecided] = drawn
            assert p.end is not None
            stops = uniform(seeds[undecided], (width,), stream=END) < p.end[drawn]
            found = first_end(stops, asked.seen.lengths[undecided])
            longest = LONGEST + asked.seen.lengths[undecided]
            found = np.where((found > longest) | ((found == 0) & (width >= longest)), longest, found)
            lengths[undecided] = np.where(lengths[undecided] > 0, lengths[undecided], found)
            undecided, width = undecided[lengths[undecided] == 0], 2 * width
        return paths[:, : int(lengths.max(initial=0))], lengths

    def _observed(self, asked: Asked, lengths: Array) -> Observed | None:
        """Evidence row by row, so that a row's numbers do not depend on the others."""
        end, seen = self.parameters.end, asked.seen
        until = seen.lengths if end is None else np.maximum(seen.lengths, lengths)
        if not until.any():
            return None
        rows, offsets = [], seen.offsets
        cells = [one.prepare(part) for one, part in zip(self.parameters.emissions, seen.parts, strict=True)]
        for a, b, steps, length in zip(offsets, offsets[1:], until, lengths, strict=False):
            log_p = np.zeros((steps, self.parameters.states))
            for emission, part in zip(self.parameters.emissions, cells, strict=True):
                log_p[: b - a] += emission.log_density(torch.from_numpy(part[a:b])).numpy()
            if end is not None:
                with np.errstate(divide="ignore"):
                    log_p[: steps - 1] += np.log(1 - end)
                    log_p[steps - 1 :] += np.log(end) if length > 0 else 0.0
            rows.append(log_p)
        return Observed(padded(rows, int(until.max()), 0.0), until)

    # ---- the transform ----

    def render(self, draft: Draft, /) -> Batch:
        """The emissions of each path, cut to its length; cells given are kept."""
        assert draft.lengths is not None
        steps = draft.values.shape[1]
        there = np.arange(steps) < draft.lengths[:, None]
        states, row = np.asarray(draft.values, np.int64)[there], np.nonzero(there)[0]
        made = []
        for at, (part, emission) in enumerate(zip(self.config.parts, self.parameters.emissions, strict=True)):
            chance = self._chance(part, draft.seeds, steps, at)[there]
            if f"given.{at}" in draft.context:
                cells = draft.context[f"given.{at}"][:, :steps][there]
            else:
                cells = np.full(chance.shape, emission.empty if isinstance(emission, Categorical) else np.nan)
            cells = cells.astype(np.int64) if isinstance(emission, Categorical) else cells
            out = cells.copy()
            for chosen, knobs in _alike(draft, row):
                out[chosen] = emission.draw(states[chosen], chance[chosen], cells[chosen], knobs)
            made.append(out)
        return self._batch(made, draft)

    def _chance(self, part: Part, seeds: Seeds, steps: int, at: int) -> Array:
        """What a part's emissions are drawn from: normals or uniforms [n, T, D], or uniforms [n, T]."""
        size = len(part.columns)
        if part.kind == "gaussian":
            return normal(seeds, (steps, size), stream=Stream.RENDER, step=at)
        return uniform(seeds, (steps, size) if part.kind == "poisson" else (steps,), stream=Stream.RENDER, step=at)

    def _batch(self, made: list[Array], draft: Draft) -> Batch:
        """Cells of all steps, end to end, as lists and texts of the draft's lengths."""
        arrays: dict[str, Any] = {}
        schema, lengths = columns(self.config), np.asarray(draft.lengths)
        for part, cells in zip(self.config.parts, made, strict=True):
            for d, column in enumerate(part.columns):
                field: Any = schema.field(column.name)
                if part.kind == "text":
                    first = column.name == schema.names[0] and "prefix" in draft.context
                    prefixes = draft.context["prefix"].tolist() if first else [None] * len(lengths)
                    arrays[column.name] = as_texts(cells, lengths, column, self.config.unit, prefixes)
                elif part.kind == "categorical":
                    flat = pa.array(column.values, field.type.value_type).take(pa.array(cells))
                    arrays[column.name] = as_lists(flat, lengths)
                else:
                    flat = pa.array(np.ascontiguousarray(cells[:, d]))
                    arrays[column.name] = as_lists(flat.cast(field.type.value_type), lengths)
        return pa.RecordBatch.from_arrays([pa.array(arrays[f.name], f.type) for f in schema], schema=schema)

    # ---- what else is known ----

    def describe(self) -> str:
        """The state graph: starts, transitions and likeliest emissions."""
        return described(self.config, self.parameters)

    def draw(self, kind: Literal["svg", "png"], /) -> bytes:
        """The state graph as a picture."""
        from genreg_hmm.drawing import drawn

        return drawn(self.config, self.parameters, kind)

    def log_prob(self, batch: Batch, seeds: Seeds, /) -> Array:  # noqa: ARG002 - nothing is left to chance
        """log p of each sequence, what is null in it summed out: float64 [n]; a null or empty sequence has 0."""
        data = sequences(self.config, batch)
        held = buckets(data, self.parameters.emissions, self.parameters.states, device=self.device)
        return log_likelihoods(self.parameters, held, len(data))

    def infer(self, batch: Batch, seeds: Seeds, /) -> Batch:  # noqa: ARG002
        """The likeliest path, the likeliest state of each step, all state probabilities, and what comes next."""
        return inferred(self.config, self.parameters, sequences(self.config, batch), self.device)


def _alike(draft: Draft, row: Array) -> Iterator[tuple[Array, Knobs]]:
    """The steps whose emissions are drawn in the same way."""
    table = np.stack([np.asarray(draft.context[name], np.float64) for name in Knobs._fields], 1)
    if not len(row):
        return
    kinds, which = np.unique(table, axis=0, return_inverse=True)
    for at, (temperature, top_k, top_p) in enumerate(kinds.tolist()):
        yield np.flatnonzero(which.reshape(-1)[row] == at), Knobs(temperature, int(top_k), top_p)


# ---- load ----


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The tensors of a checkpoint."""
    k = config.size
    wanted: dict[str, tuple[int, ...]] = {"start": (k,), "transition": (k, k)}
    if config.end:
        wanted["end"] = (k,)
    for at, (kind, held) in enumerate(config.parts):
        d = len(held)
        if kind == "gaussian":
            full = config.covariance in ("full", "tied")
            wanted |= {f"emission.{at}.mean": (k, d)}
            wanted |= {f"emission.{at}.covariance": (k, d, d)} if full else {f"emission.{at}.variance": (k, d)}
        elif kind == "poisson":
            wanted[f"emission.{at}.rate"] = (k, d)
        else:
            wanted[f"emission.{at}.probability"] = (k, len(held[0].values))
    return wanted


def emission_of(config: Config, part: Part, tensors: dict[str, Array]) -> Emission:
    """An emission from its tensors."""
    if part.kind == "gaussian":
        mean = tensors["mean"]
        least = np.full(mean.shape[1], np.finfo(np.float64).tiny)
        if config.covariance in ("full", "tied"):
            return Full(mean, tensors["covariance"], np.median(mean, 0), least, config.covariance == "tied")
        return Diagonal(mean, tensors["variance"], np.median(mean, 0), least, config.covariance == "spherical")
    if part.kind == "poisson":
        return Poisson(tensors["rate"])
    return Categorical(tensors["probability"], unknown_probability(config, part))


def unknown_probability(config: Config, part: Part) -> float:
    """What a symbol that training did not see is scored with: that of one more step among all of training's."""
    return 1.0 / (config.steps + len(part.columns[0].values) + 1)


def load(config: Config, device: str, weights: Weights | None) -> HiddenMarkov:
    """The model of a checkpoint; raises CheckpointError where its tensors are no probabilities or no covariances."""
    if weights is None:
        raise CheckpointError("hmm has no model without weights: train one with genreg train hmm")
    wanted = shapes(config)
    weights.expect({name: (shape, "F64") for name, shape in wanted.items()})
    found = {name: weights.numpy(name) for name in wanted}
    for name, tensor in found.items():
        refuse_impossible(name, tensor)
    emissions = []
    for at, part in enumerate(config.parts):
        own = {
            name.removeprefix(f"emission.{at}."): t for name, t in found.items() if name.startswith(f"emission.{at}.")
        }
        emissions.append(emission_of(config, part, own))
    parameters = Parameters(found["start"], found["transition"], tuple(emissions), found.get("end"))
    return HiddenMarkov(config, parameters, checked_device(device))


def refuse_impossible(name: str, tensor: Array) -> None:
    """Raise CheckpointError where a tensor is not what its name says."""
    kind = name.rpartition(".")[2]
    if not np.isfinite(tensor).all():
        raise CheckpointError(f"the tensor {name} holds NaN or infinity")
    if kind in ("start", "transition", "probability") and (
        (tensor < 0).any() or not np.allclose(tensor.sum(-1), 1, rtol=0, atol=1e-6)
    ):
        raise CheckpointError(f"the tensor {name} holds rows that are no probabilities: each must sum to 1")
    if kind == "end" and ((tensor < 0) | (tensor > 1)).any():
        raise CheckpointError("the tensor end holds what is no probability")
    if kind in ("variance", "rate") and (tensor <= 0).any():
        raise CheckpointError(f"the tensor {name} must be above 0")
    if kind == "covariance" and (
        not np.allclose(tensor, tensor.swapaxes(1, 2)) or np.linalg.eigvalsh(tensor).min(initial=1) <= 0
    ):
        raise CheckpointError(f"the tensor {name} holds a covariance that is not positive definite")


def checked_device(device: str) -> str:
    """The device, if it is there; raises UsageError with those that are."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"--option device={device}: hmm runs on cpu and cuda{did_you_mean(device, ['cpu', 'cuda'])}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--option device={device}: there is no CUDA device here: leave it out")
    return device
