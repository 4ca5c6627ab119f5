"""One seed, one sample: draws from a counter, never from global state.

Philox-4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), vectorized
over seeds. The key is the seed; the counter is (block, step, stream, step >> 32). So every number is a function of
(seed, stream, step, position) alone, whatever the batch, the order or the machine: the first k of n draws are the k
draws. Integer bits are exact everywhere.
Uniforms have 53 bits; normals take one 32-bit word each (Box-Muller in float64, rounded once), so |z| < 6.77.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from genreg.draft import Array, Seeds
from genreg.errors import Unsupported

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_CHUNK = 16_384  # blocks at a time: the working set stays in the second-level cache


class Stream(IntEnum):
    """What a draw is for; two draws of one seed are independent where their streams differ."""

    PRIOR = 0  # what propose draws first: a class, a latent, the first state
    PATH = 1  # further draws of propose: a state path
    RENDER = 2  # what render leaves to chance: noise, emissions
    SCORE = 3  # Monte Carlo in log_prob and infer
    SHUFFLE = 4  # the order of training rows
    SPLIT = 5
    INIT = 6  # initial weights, restarts
    STEP = 7  # noise of one training step: dropout, dequantization, fakes
    USER = 1000  # families that need more streams count up from here


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Ten rounds over counter words and key words, uint64 arrays [n] that hold 32-bit values; new arrays come back."""
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in counter)
    k0, k1 = (word.astype(np.uint64) for word in key)
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    for _ in range(10):
        np.multiply(c0, _MULTIPLIERS[0], out=p0)
        np.multiply(c2, _MULTIPLIERS[1], out=p1)
        np.right_shift(p1, _HALF, out=c0)
        c0 ^= c1
        c0 ^= k0
        np.right_shift(p0, _HALF, out=c2)
        c2 ^= c3
        c2 ^= k1
        np.bitwise_and(p1, _LOW, out=c1)
        np.bitwise_and(p0, _LOW, out=c3)
        k0 += _WEYL[0]
        k0 &= _LOW
        k1 += _WEYL[1]
        k1 &= _LOW
    return c0, c1, c2, c3


def bits(seeds: Seeds, count: int, *, stream: int, step: int = 0) -> npt.NDArray[np.uint32]:
    """``count`` random 32-bit words for each seed: uint32 [n, count]."""
    seeds = np.asarray(seeds, np.uint64)
    blocks = -(-count // 4)
    out = np.empty((len(seeds), blocks, 4), np.uint32)
    flat = out.reshape(-1, 4)
    for start in range(0, len(flat), _CHUNK):
        at = np.arange(start, min(start + _CHUNK, len(flat)))
        row, block = np.divmod(at, blocks)
        seed, zero = seeds[row], np.zeros(len(at), np.uint64)
        steps, high = zero + np.uint64(step & 0xFFFFFFFF), zero + np.uint64(step >> 32)
        words = philox((block, steps, zero + np.uint64(stream), high), (seed & _LOW, seed >> _HALF))
        for i, word in enumerate(words):
            flat[start : start + len(at), i] = word
    return out.reshape(len(seeds), 4 * blocks)[:, :count]


def uniform(seeds: Seeds, shape: tuple[int, ...] = (), *, stream: int, step: int = 0) -> Array:
    """Uniform on [0, 1) with 53 bits: float64 [n, *shape]."""
    words = bits(seeds, 2 * math.prod(shape), stream=stream, step=step).astype(np.uint64)
    whole = (words[:, ::2] << np.uint64(21)) ^ (words[:, 1::2] >> np.uint64(11))
    return (whole * 2.0**-53).reshape(len(words), *shape)


def normal(
    seeds: Seeds, shape: tuple[int, ...] = (), *, stream: int, step: int = 0, dtype: npt.DTypeLike = np.float64
) -> Array:
    """Standard normals by Box and Muller, computed in float64 and rounded once: [n, *shape] of ``dtype``."""
    count = math.prod(shape)
    words = bits(seeds, count + count % 2, stream=stream, step=step).reshape(-1, 2)
    out = np.empty(words.shape, dtype)
    for start in range(0, len(words), _CHUNK):
        pair = words[start : start + _CHUNK].astype(np.float64)
        radius = np.sqrt(-2.0 * np.log((pair[:, 0] + 0.5) * 2.0**-32))
        angle = pair[:, 1] * (2.0 * np.pi * 2.0**-32)
        np.multiply(radius, np.cos(angle), out=out[start : start + _CHUNK, 0], casting="same_kind")
        np.multiply(radius, np.sin(angle), out=out[start : start + _CHUNK, 1], casting="same_kind")
    return out.reshape(len(seeds), count + count % 2)[:, :count].reshape(len(seeds), *shape)


def gumbel(seeds: Seeds, shape: tuple[int, ...] = (), *, stream: int, step: int = 0) -> Array:
    """Standard Gumbel draws, finite always: float64 [n, *shape]."""
    u = uniform(seeds, shape, stream=stream, step=step)
    middle = np.minimum(u + 2.0**-54, 1 - 2.0**-53)  # of the uniform's bin: never 0, never 1
    return -np.log(-np.log(middle))


def categorical(seeds: Seeds, log_p: Array, *, stream: int, step: int = 0) -> npt.NDArray[np.int64]:
    """One draw per seed from unnormalized log probabilities [k] or [n, k]: int64 [n]; -inf is never drawn.

    Raises Unsupported, which names the seed, where all of a row are -inf or one is not a number.
    """
    log_p = np.asarray(log_p, np.float64)
    top = log_p.max(-1, keepdims=True)
    if not np.isfinite(top).all():
        seed = f"seed {seeds[np.argmin(np.isfinite(top))]}: " if log_p.ndim > 1 else ""
        raise Unsupported(
            f"{seed}nothing can be drawn, for every log probability is -inf or one is not finite: "
            "what is given may be impossible under this model"
        )
    p = np.exp(log_p - top)
    cdf = np.cumsum(p, -1)
    u = uniform(seeds, stream=stream, step=step) * cdf[..., -1]  # below the total after rounding too
    drawn: npt.NDArray[np.int64]
    drawn = np.searchsorted(cdf, u, side="right") if cdf.ndim == 1 else (cdf <= u[:, None]).sum(-1)
    return drawn
