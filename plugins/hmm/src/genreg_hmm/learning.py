"""Baum-Welch: expected counts of all sequences, in float64 whatever the recursions ran in, and the M-step.

(Baum, Petrie, Soules and Weiss, 1970.) Zeros of the start and of the transitions stay exactly 0; a state or row without
expected mass keeps its parameters, so that nothing becomes NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genreg.draft import Array
from genreg_hmm.batches import ENDS, GOES_ON, Bucket
from genreg_hmm.categorical import simplex
from genreg_hmm.config import Config
from genreg_hmm.emissions import Emission, labelled
from genreg_hmm.inference import (
    EVERY,
    Chain,
    Scaled,
    block_forward,
    expectations,
    floor_of,
    log_expectations,
    log_forward,
)

LEAST_MASS = 1e-3  # expected steps below which a state counts as empty


@dataclass(frozen=True, eq=False)
class Parameters:
    """A hidden Markov model: float64."""

    start: Array  # [K]
    transition: Array  # [K, K], row = from
    emissions: tuple[Emission, ...]
    end: Array | None = None  # [K]: the probability that a sequence ends at a step, given its state

    @property
    def states(self) -> int:
        """K."""
        return len(self.start)

    def chain(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> Chain:
        """Start and transitions as tensors."""
        return Chain(
            torch.as_tensor(self.start, dtype=dtype, device=device),
            torch.as_tensor(self.transition, dtype=dtype, device=device),
        )

    def tensors(self) -> dict[str, Array]:
        """All parameters by name."""
        end = {} if self.end is None else {"end": self.end}
        return {"start": self.start, "transition": self.transition, **end, **labelled(self.emissions)}


@dataclass
class Statistics:
    """Expected counts, and the sum of log p(x) over the sequences that are possible."""

    log_likelihood: float = 0.0
    impossible: int = 0
    start: Array | float = 0.0  # [K]
    transition: Array | float = 0.0  # [K, K]
    mass: Array | float = 0.0  # [K]: steps
    ends: Array | float = 0.0  # [2, K]: steps at which a sequence went on, and ended
    sums: list[Tensor | float] = field(default_factory=list)


class Evidences(NamedTuple):
    """Evidence [T, B, K] of a bucket and the log of what it was scaled by [B]; ``risky`` blocks need log space."""

    scaled: Tensor
    log_scale: Tensor
    risky: Tensor


@dataclass
class Workspace:
    """Buffers that are used again and again: fresh pages cost more than the arithmetic on them."""

    held: dict[str, Tensor] = field(default_factory=dict)

    def like(self, name: str, shape: torch.Size, model: Tensor) -> Tensor:
        """An uninitialized tensor of the shape."""
        size = shape.numel()
        flat = self.held.get(name)
        if flat is None or flat.numel() < size or flat.dtype != model.dtype or flat.device != model.device:
            flat = self.held[name] = torch.empty(size, dtype=model.dtype, device=model.device)
        return flat[:size].view(shape)


# ---- evidence ----


def evidence_of(parameters: Parameters, bucket: Bucket, dtype: torch.dtype) -> Evidences:
    """The product over the emissions, and over the end where it is learned."""
    shape = (bucket.steps, len(bucket.row), parameters.states)
    total, log_scale, sharp = None, None, None
    for emission, cells in zip(parameters.emissions, bucket.cells, strict=True):
        found = emission.evidence(cells, dtype)
        total = found.scaled if total is None else total.mul_(found.scaled)
        if found.log_scale is not None:
            own = found.log_scale.view(shape[:2]).double().sum(0)
            log_scale = own if log_scale is None else log_scale + own
    assert total is not None
    if (parameters.transition == 0).any() and any(cells.is_floating_point() for cells in bucket.cells):
        # where the chain forbids states, one that underflows now may be the only one that is possible later
        sharp = total.view(shape).amin((0, 2)) < (1e-19 if dtype == torch.float32 else 1e-150)
    if parameters.end is not None:
        total *= torch.as_tensor(end_table(parameters.end), dtype=dtype, device=total.device)[bucket.ends]
    none = torch.zeros(shape[1], dtype=torch.float64, device=total.device)
    return Evidences(
        total.view(shape), none if log_scale is None else log_scale, none.bool() if sharp is None else sharp
    )


def log_evidence_of(parameters: Parameters, bucket: Bucket) -> Tensor:
    """log p(x_t | z_t) in float64: [T, B, K]."""
    shape = (bucket.steps, len(bucket.row), parameters.states)
    total = torch.zeros(shape, dtype=torch.float64, device=bucket.first.device).flatten(0, 1)
    for emission, cells in zip(parameters.emissions, bucket.cells, strict=True):
        total += emission.log_density(cells).double()
    if parameters.end is not None:
        total += torch.as_tensor(end_table(parameters.end), device=total.device).log()[bucket.ends]
    return total.view(shape)


def end_table(end: Array) -> Array:
    """p(what is known of a step's end | state): [3, K], in the rows GOES_ON, ENDS and UNKNOWN; ``end`` is [K]."""
    return np.stack([1 - end, end, np.ones_like(end)])


# ---- the E-step ----


def e_step(
    parameters: Parameters, batches: Iterable[Bucket], dtype: torch.dtype, work: Workspace | None = None
) -> Statistics:
    """Expected counts over all batches."""
    total = Statistics(sums=[0.0] * len(parameters.emissions))
    work = work or Workspace()
    for bucket in batches:
        _add_bucket(total, parameters, bucket, dtype, work)
    return total


def _forward(parameters: Parameters, bucket: Bucket, seen: Evidences, work: Workspace) -> tuple[Scaled | None, Tensor]:
    """alpha and scales, and the blocks for which they will not do, though every step be scaled."""
    evidence, chain = seen.scaled, parameters.chain(seen.scaled.dtype, seen.scaled.device)
    out = Scaled(work.like("alpha", evidence.shape, evidence), work.like("scale", evidence.shape[:2], evidence))
    bad = seen.risky
    for every in (EVERY, 1):
        found = block_forward(chain, evidence, bucket.first, every=every, out=out)
        if found is None:
            return None, bad
        lost = ~(found.scale.amin(0) > floor_of(evidence.dtype, every))  # NaN too
        bad = lost | ~torch.isfinite(found.scale).all(0) | seen.risky
        if not bool((bad & ~seen.risky).any()):
            break
    return found, bad


def _add_bucket(total: Statistics, parameters: Parameters, bucket: Bucket, dtype: torch.dtype, work: Workspace) -> None:
    """Add a bucket's expected counts: scaled where that will do, uncut or in log space where it will not."""
    seen = evidence_of(parameters, bucket, dtype)
    found, bad = _forward(parameters, bucket, seen, work)
    if bucket.joined and (found is None or bool(bad.any())):
        _add_bucket(total, parameters, bucket.whole(parameters.emissions), dtype, work)
        return
    assert found is not None
    if bool(bad.any()):
        wrong = bad.cpu().numpy()
        _add_in_log_space(total, parameters, bucket.take(np.flatnonzero(wrong)))
        if not wrong.all():
            _add_bucket(total, parameters, bucket.take(np.flatnonzero(~wrong)), dtype, work)
        return
    log_p = found.scale.double().log().sum(0) + seen.log_scale
    beta, spare = work.like("beta", seen.scaled.shape, seen.scaled), seen.scaled
    if bucket.joined:
        spare = work.like("spare", seen.scaled.shape, seen.scaled)
    chain = parameters.chain(dtype, seen.scaled.device)
    expected = expectations(chain, seen.scaled, found, bucket.first, bucket.real, beta, spare)
    if expected is None:
        _add_bucket(total, parameters, bucket.whole(parameters.emissions), dtype, work)
        return
    _add(total, parameters, bucket, log_p, expected.state, expected.start, expected.transition)


def _add_in_log_space(total: Statistics, parameters: Parameters, bucket: Bucket) -> None:
    """Add a bucket's expected counts by the exact recursions: slow, for the few blocks that need it."""
    chain = parameters.chain(torch.float64, bucket.first.device)
    exact = log_expectations(chain, log_evidence_of(parameters, bucket), _real(bucket))
    _add(total, parameters, bucket, exact.log_p, exact.state, exact.state[0].sum(0), exact.transition)


def _add(
    total: Statistics,
    parameters: Parameters,
    bucket: Bucket,
    log_p: Tensor,
    gamma: Tensor,
    start: Tensor,
    pairs: Tensor,
) -> None:
    """Add log_p [B], gamma [T, B, K], starts [K] and pairs [K, K]; impossible sequences are counted apart."""
    possible = torch.isfinite(log_p)
    total.log_likelihood += float(log_p[possible].sum())
    total.impossible += int((~possible).sum())
    flat = gamma.reshape(-1, parameters.states)
    total.start = total.start + start.cpu().numpy()
    total.transition = total.transition + pairs.cpu().numpy()
    for at, (emission, cells) in enumerate(zip(parameters.emissions, bucket.cells, strict=True)):
        total.sums[at] = total.sums[at] + emission.sums(cells, flat)
    if parameters.end is not None:
        at_end, going = (flat[bucket.ends == flag].double().sum(0).cpu().numpy() for flag in (ENDS, GOES_ON))
        total.ends = total.ends + np.stack([going, at_end])
    total.mass = total.mass + flat.double().sum(0).cpu().numpy()


def log_likelihoods(
    parameters: Parameters, batches: Iterable[Bucket], rows: int, dtype: torch.dtype = torch.float64
) -> Array:
    """log p(x) of each sequence, by the forward recursion alone: float64 [rows]; 0 for a sequence without steps."""
    out, work = np.zeros(rows), Workspace()

    def add(bucket: Bucket) -> None:
        seen = evidence_of(parameters, bucket, dtype)
        found, bad = _forward(parameters, bucket, seen, work)
        if bucket.joined and (found is None or bool(bad.any())):
            add(bucket.whole(parameters.emissions))
            return
        assert found is not None
        log_p = (found.scale.double().log().sum(0) + seen.log_scale).cpu().numpy()
        if bool(bad.any()):
            wrong = np.flatnonzero(bad.cpu().numpy())
            log_evidence = log_evidence_of(parameters, bucket.take(wrong))
            chain = parameters.chain(torch.float64, bucket.first.device)
            exact = log_forward(chain.start.log(), chain.transition.log(), log_evidence)[-1]
            log_p[wrong] = torch.logsumexp(exact, 1).cpu().numpy()
        np.add.at(out, bucket.row, log_p)

    for bucket in batches:
        add(bucket)
    return out


def posterior(parameters: Parameters, bucket: Bucket, dtype: torch.dtype = torch.float64) -> Tensor:
    """p(z_t | x) of whole sequences: [T, B, K], 0 in padding and for impossible ones; a new tensor."""
    seen = evidence_of(parameters, bucket, dtype)
    found, bad = _forward(parameters, bucket, seen, Workspace())
    assert found is not None
    chain = parameters.chain(dtype, seen.scaled.device)
    expected = expectations(
        chain, seen.scaled, found, bucket.first, bucket.real, torch.empty_like(seen.scaled), seen.scaled
    )
    assert expected is not None
    if bool(bad.any()):
        own = bucket.take(np.flatnonzero(bad.cpu().numpy()))
        exact = log_expectations(
            parameters.chain(torch.float64, bucket.first.device), log_evidence_of(parameters, own), _real(own)
        )
        expected.state[:, bad] = exact.state.to(dtype)
    return expected.state


def _real(bucket: Bucket) -> Tensor:
    if bucket.real is not None:
        return bucket.real
    return torch.ones(bucket.steps, len(bucket.row), dtype=torch.bool, device=bucket.first.device)


# ---- the M-step, and EM ----


def m_step(parameters: Parameters, found: Statistics, config: Config) -> Parameters:
    """The likeliest parameters given the expected counts and the priors."""
    end = parameters.end
    if end is not None:
        assert isinstance(found.ends, np.ndarray)
        both = np.stack([1 - end, end], 1)
        end = simplex(found.ends.T, both, config.transition_prior)[:, 1]
    emissions = tuple(
        emission.maximize(sums, config)
        for emission, sums in zip(parameters.emissions, found.sums, strict=True)
        if isinstance(sums, Tensor)
    )
    return replace(
        parameters,
        start=simplex(np.asarray(found.start), parameters.start, config.transition_prior),
        transition=simplex(np.asarray(found.transition), parameters.transition, config.transition_prior),
        emissions=emissions or parameters.emissions,
        end=end,
    )


def penalty(parameters: Parameters, config: Config) -> float:
    """log of the priors' density, up to a constant."""
    end = [] if parameters.end is None else [parameters.end, 1 - parameters.end]
    chain = sum(float(np.log(p[p > 0]).sum()) for p in (parameters.start, parameters.transition, *end))
    return (config.transition_prior - 1) * chain + sum(one.penalty(config) for one in parameters.emissions)


@dataclass(frozen=True, eq=False)
class Learned:
    """Where EM ended."""

    parameters: Parameters
    history: list[float]  # log-likelihood, with the log prior where there is one: before each step, and at the end
    first: float  # the log-likelihood that EM started from
    log_likelihood: float
    mass: Array  # [K]: expected steps in each state


def learn(
    parameters: Parameters, batches: Callable[[], Iterable[Bucket]], config: Config, *, steps: int, dtype: torch.dtype,
    report: Callable[[int, Mapping[str, float]], None],
) -> Learned:  # fmt: skip
    """EM until a step gains less than the tolerance per observation, or the iterations are used up."""
    history: list[float] = []
    first, work = 0.0, Workspace()
    for iteration in range(config.iterations + 1):
        found = e_step(parameters, batches(), dtype, work)
        history.append(found.log_likelihood + penalty(parameters, config))
        first = first if iteration else found.log_likelihood
        report(iteration, {"log_prob_per_step": found.log_likelihood / max(steps, 1)})
        done = len(history) > 1 and history[-1] - history[-2] < config.tolerance * steps
        if done or iteration == config.iterations:
            break
        parameters = m_step(parameters, found, config)
    return Learned(parameters, history, first, found.log_likelihood, np.asarray(found.mass))
