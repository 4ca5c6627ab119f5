"""What is known of the states of observed sequences: paths, probabilities, and what comes next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from genreg.data import noted
from genreg.draft import Array, Batch
from genreg_hmm.batches import Bucket, buckets
from genreg_hmm.categorical import Categorical
from genreg_hmm.config import Config
from genreg_hmm.inference import viterbi
from genreg_hmm.learning import Parameters, log_evidence_of, posterior
from genreg_hmm.sequences import Sequences, as_lists


class Decoded(NamedTuple):
    """Of n sequences that lie end to end, N steps in all."""

    path: Array  # int64 [N], the likeliest as a whole
    log_p: Array  # float64 [n], of that path
    probability: Array  # float64 [N, K], of each state
    ahead: Array  # float64 [n, K], of the state after the last step


def decoded(parameters: Parameters, data: Sequences, device: str = "cpu") -> Decoded:
    """Paths and probabilities of all sequences."""
    steps, states = int(data.lengths.sum()), parameters.states
    found = Decoded(
        np.zeros(steps, np.int64), np.zeros(len(data)), np.zeros((steps, states)),
        np.tile(parameters.start, (len(data), 1)),
    )  # fmt: skip
    for bucket in buckets(data, parameters.emissions, states, device=device, cut=False):
        chain, lengths = parameters.chain(torch.float64, device), torch.from_numpy(bucket.lengths).to(device)
        best, log_p = viterbi(chain, log_evidence_of(parameters, bucket), lengths)
        probabilities = posterior(parameters, bucket)
        at = np.arange(bucket.steps)[:, None]
        real = at < bucket.lengths
        where = (data.offsets[bucket.row] + at)[real]
        found.path[where], found.log_p[bucket.row] = best.cpu().numpy()[real], log_p.cpu().numpy()
        found.probability[where] = probabilities.cpu().numpy()[real]
        found.ahead[bucket.row] = _next_state(parameters, bucket, probabilities)
    return found


def inferred(config: Config, parameters: Parameters, data: Sequences, device: str = "cpu") -> Batch:
    """One row per sequence: ``path``, ``marginal_path``, ``state_probabilities`` and ``next(column)``."""
    steps, states = int(data.lengths.sum()), parameters.states
    path, _, gamma, ahead = decoded(parameters, data, device)
    probability = as_lists(as_lists(pa.array(gamma.reshape(-1)), np.full(steps, states)), data.lengths)
    found: dict[str, Any] = {
        "path": as_lists(pa.array(path, pa.int32()), data.lengths),
        "marginal_path": as_lists(pa.array(gamma.argmax(1) if steps else path, pa.int32()), data.lengths),
        "state_probabilities": probability,
    }
    fields: list[Any] = [pa.field(name, array.type) for name, array in found.items()]
    arrays = list(found.values())
    for part, emission in zip(config.parts, parameters.emissions, strict=True):
        expected = ahead @ emission.expected
        for d, column in enumerate(part.columns):
            if isinstance(emission, Categorical):
                one = as_lists(pa.array(expected.reshape(-1)), np.full(len(data), expected.shape[1]))
                fields.append(noted(pa.field(f"next({column.name})", one.type), values=column.values))
            else:
                one = pa.array(np.ascontiguousarray(expected[:, d]))
                fields.append(pa.field(f"next({column.name})", one.type))
            arrays.append(one)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _next_state(parameters: Parameters, bucket: Bucket, probabilities: Tensor) -> Array:
    """p(the state after the last step | all steps): [B, K]; with a learned end, given that there is a next step."""
    last = torch.from_numpy(bucket.lengths - 1).to(probabilities.device)
    if parameters.end is not None:
        probabilities = posterior(parameters, replace(bucket, open=True))
    now = probabilities[last, torch.arange(len(last), device=last.device)].cpu().numpy()
    if parameters.end is not None:
        now = now * (1 - parameters.end)
        now = now / np.maximum(now.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    ahead: Array = now @ parameters.transition
    return ahead
