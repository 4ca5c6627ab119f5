"""Forward, backward, posteriors and Viterbi: functions of a chain and of evidence, which know nothing of emissions.

Everything is time-major and batched: T steps of B blocks over K states. A block is a whole sequence, padded on the
right with evidence 1, or a piece of a long one; pieces are swept side by side, and their boundary messages iterated to
the fixed point, which is the sequential recursion. Probabilities are scaled (Rabiner, "A tutorial on hidden Markov
models", 1989): alpha_t = (alpha_{t-1} A) e_t / s_t, beta_{t-1} = A (e_t / s_t beta_t). Any s_t will do, so long as the
last one makes alpha sum to 1: then alpha_t beta_t sums to 1 at every step, and log p(x) = sum log s_t. Where a scale
comes too near to 0, the caller takes the exact recursions in log space at the end of this file.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WARM_UP = 32  # steps into the neighbouring block from which a boundary message is first guessed
SWEEPS = 8  # after which a chain that does not forget is run step by step
EVERY = 4  # steps between two scalings


class Chain(NamedTuple):
    """p(first state) [K] and p(next state | state) [K, K]."""

    start: Tensor
    transition: Tensor


class Scaled(NamedTuple):
    """alpha [T, B, K] and the scales [T, B]."""

    alpha: Tensor
    scale: Tensor


class Expected(NamedTuple):
    """What learning needs of the posterior."""

    state: Tensor  # [T, B, K]: p(z_t | x)
    transition: Tensor  # [K, K]: the expected number of each transition
    start: Tensor  # [K]


def floor_of(dtype: torch.dtype, every: int) -> float:
    """The scale below which a product of ``every`` factors may have lost what matters."""
    if dtype == torch.float32:
        return 1e-20 if every > 1 else 1e-30
    return 1e-100 if every > 1 else 1e-250


# ---- sweeps ----


def forward(
    first: Tensor, transition: Tensor, evidence: Tensor, *, every: int = EVERY, out: Scaled | None = None
) -> Scaled:
    """alpha and scales from the messages ``first`` [B, K] (p of the first state, before its evidence)."""
    steps, blocks, states = evidence.shape
    alpha, scale = out or Scaled(torch.empty_like(evidence), evidence.new_empty(steps, blocks))
    ones = evidence.new_ones(states)
    rows, seen, scales = alpha.unbind(0), evidence.unbind(0), scale.fill_(1).unbind(0)
    for t in range(steps):
        if t:
            torch.mm(rows[t - 1], transition, out=rows[t]).mul_(seen[t])
        else:
            torch.mul(first, seen[0], out=rows[0])
        if t % every == every - 1 or t == steps - 1:
            rows[t].div_(torch.mv(rows[t], ones, out=scales[t]).unsqueeze(1))
    return Scaled(alpha, scale)


def backward(last: Tensor, transition: Tensor, weighted: Tensor, beta: Tensor, product: Tensor) -> None:
    """beta from the messages ``last`` [B, K] into ``beta``, and weighted * beta into ``product`` (it may be weighted).

    ``weighted`` is the evidence divided by the scales.
    """
    turned = transition.T.contiguous()
    betas, seen, products = beta.unbind(0), weighted.unbind(0), product.unbind(0)
    betas[-1].copy_(last)
    for t in range(len(betas) - 1, 0, -1):
        torch.mul(seen[t], betas[t], out=products[t])
        torch.mm(products[t], turned, out=betas[t - 1])
    torch.mul(seen[0], betas[0], out=products[0])


# ---- blocks: boundaries by iteration ----


def tolerance_of(dtype: torch.dtype) -> float:
    """The change of a boundary message that counts as none."""
    return 1e-5 if dtype == torch.float32 else 1e-10


def block_forward(
    chain: Chain, evidence: Tensor, first: Tensor, *, every: int = EVERY, out: Scaled | None = None
) -> Scaled | None:
    """alpha and scales of pieces in order; ``first`` [B] marks those that begin a sequence. None: it never forgets."""
    blocks, states = evidence.shape[1:]
    start = chain.start.expand(blocks, states)
    if bool(first.all()):
        return forward(start, chain.transition, evidence, every=every, out=out)
    guess = forward(torch.full_like(start, 1 / states), chain.transition, evidence[-WARM_UP:], every=every)
    message = guess.alpha[-1] @ chain.transition
    for _ in range(SWEEPS):
        entering = torch.where(first[:, None], start, message.roll(1, 0))
        found = forward(entering, chain.transition, evidence, every=every, out=out)
        previous, message = message, found.alpha[-1] @ chain.transition
        change = torch.where(first.roll(-1, 0)[:, None], 0, message - previous).abs().max()
        if not bool(change > tolerance_of(evidence.dtype)):  # NaN: a scale of 0, which the caller sees
            return found
    return None


def block_backward(
    chain: Chain, weighted: Tensor, alpha_last: Tensor, first: Tensor, beta: Tensor, product: Tensor
) -> bool:
    """beta and the product of pieces in order; False where the chain never forgets."""
    final = first.roll(-1, 0)[:, None]
    ones = torch.ones_like(alpha_last)
    if bool(final.all()):
        backward(ones, chain.transition, weighted, beta, product)
        return True

    def leaving(into: Tensor) -> Tensor:
        message = torch.where(final, ones, (into @ chain.transition.T).roll(-1, 0))
        return message / (alpha_last * message).sum(1, keepdim=True)

    size = min(WARM_UP, len(weighted))
    guess, scratch = torch.empty_like(weighted[:size]), torch.empty_like(weighted[:size])
    backward(ones, chain.transition, weighted[:size], guess, scratch)
    message = leaving(scratch[0])
    for _ in range(SWEEPS):
        backward(message, chain.transition, weighted, beta, product)
        previous, message = message, leaving(product[0])
        if not bool(((message - previous).abs() * alpha_last).max() > tolerance_of(weighted.dtype)):
            return True
    return False


# ---- posteriors ----


def expectations(
    chain: Chain, evidence: Tensor, found: Scaled, first: Tensor, real: Tensor | None, beta: Tensor, spare: Tensor
) -> Expected | None:
    """Expected states and transitions; evidence is overwritten, ``real`` [T, B] marks steps that are no padding."""
    joined = not bool(first.all())
    for t in torch.nonzero((found.scale != 1).any(1)).squeeze(1).tolist():  # a quarter of the steps, as a rule
        evidence[t].div_(found.scale[t].unsqueeze(1))
    weighted = evidence
    product = spare if joined else weighted
    if not block_backward(chain, weighted, found.alpha[-1], first, beta, product):
        return None
    states = evidence.shape[2]
    if real is not None:
        product *= real.unsqueeze(2)
    pairs = found.alpha[:-1].reshape(-1, states).T @ product[1:].reshape(-1, states)
    if joined:
        pairs = pairs + _between(chain, found.alpha[-1], product[0], first)
    gamma = torch.mul(found.alpha, beta, out=beta)
    if real is not None:
        gamma *= real.unsqueeze(2)
    return Expected(gamma, pairs.double() * chain.transition.double(), gamma[0][first].double().sum(0))


def _between(chain: Chain, last: Tensor, entering: Tensor, first: Tensor) -> Tensor:
    """The expected transitions from the last step of each piece to the first of the next: [K, K], as ``pairs``."""
    into = entering.roll(-1, 0)
    total = ((last @ chain.transition) * into).sum(1, keepdim=True)
    return torch.where(first.roll(-1, 0)[:, None], 0, last / total).T @ into


# ---- exact, in log space ----


def log_forward(log_start: Tensor, log_transition: Tensor, log_evidence: Tensor) -> Tensor:
    """log p(x up to t, z_t): [T, B, K]."""
    out = torch.empty_like(log_evidence)
    out[0] = log_start + log_evidence[0]
    for t in range(1, len(out)):
        out[t] = torch.logsumexp(out[t - 1].unsqueeze(2) + log_transition, 1) + log_evidence[t]
    return out


def log_backward(log_transition: Tensor, log_evidence: Tensor) -> Tensor:
    """log p(x after t | z_t): [T, B, K]."""
    out = torch.zeros_like(log_evidence)
    for t in range(len(out) - 1, 0, -1):
        out[t - 1] = torch.logsumexp(log_transition + (log_evidence[t] + out[t]).unsqueeze(1), 2)
    return out


class LogExpected(NamedTuple):
    """The posterior from log space; impossible sequences have log p -inf and no mass."""

    log_p: Tensor  # [B]
    state: Tensor  # [T, B, K]
    transition: Tensor  # [K, K]


def log_expectations(chain: Chain, log_evidence: Tensor, real: Tensor) -> LogExpected:
    """The posterior of sequences padded with log evidence 0, in float64."""
    log_a = chain.transition.double().log()
    top = log_evidence.amax(2, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    log_evidence = log_evidence - top  # what all states share would only cost digits
    alpha = log_forward(chain.start.double().log(), log_a, log_evidence)
    beta = log_backward(log_a, log_evidence)
    log_p = torch.logsumexp(alpha[-1], 1)
    possible = torch.isfinite(log_p)
    base = torch.where(possible, log_p, 0.0)[:, None]
    keep = (real & possible).unsqueeze(2)
    gamma = torch.where(keep, (alpha + beta - base).exp(), 0.0)
    pairs = torch.zeros_like(log_a)
    for t in range(1, len(alpha)):
        step = alpha[t - 1].unsqueeze(2) + log_a + (log_evidence[t] + beta[t] - base).unsqueeze(1)
        pairs += torch.where(keep[t].unsqueeze(2), step.exp(), 0.0).sum(0)
    return LogExpected(log_p + top.sum((0, 2)), gamma, pairs)


# ---- Viterbi ----


def viterbi(chain: Chain, log_evidence: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest path [T, B] of sequences of the lengths [B], and its log probability [B].

    Only the best scores are kept; the choices are made again while tracing back. Ties go to the lower state; in
    padding the path stays where it is, at no cost.
    """
    log_a, start = chain.transition.double().log(), chain.start.double().log()
    best = torch.empty_like(log_evidence)
    best[0] = start + log_evidence[0]
    for t in range(1, len(best)):
        score = (best[t - 1].unsqueeze(2) + log_a).amax(1) + log_evidence[t]
        best[t] = torch.where((lengths > t).unsqueeze(1), score, best[t - 1])
    log_p, z = best[-1].max(1)
    path = torch.empty(best.shape[:2], dtype=torch.int64, device=best.device)
    path[-1] = z
    for t in range(len(best) - 1, 0, -1):
        z = torch.where(lengths > t, (best[t - 1] + log_a.T[z]).argmax(1), z)
        path[t - 1] = z
    return path, log_p
