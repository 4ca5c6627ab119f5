"""Samplers: pure edits of a draft, which look at its geometry and never at the model's type.

The first docstring line and the keyword-only parameters are the command line's help and knobs. A sampler that a
draft's geometry does not carry refuses with the reason.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genreg.draft import Array, Draft
from genreg.errors import Unsupported, UsageError
from genreg.options import parse_ranges
from genreg.specs import Sampler


def truncate(draft: Draft, *, psi: float | list[float] = 0.7, cutoff: int | None = None) -> Draft:
    """Pull each sample towards the prior mean: psi 0 is the mean, 1 changes nothing.

    ``psi`` is one number or one per layer; ``cutoff`` leaves the layers from that one on alone (Karras et al., "A
    Style-Based Generator Architecture for GANs", 2019, appendix B). Raises Unsupported where the draft has no mean.
    """
    if draft.center is None:
        raise Unsupported("truncate pulls samples towards the prior mean, and this draft has none")
    scale = np.asarray(psi, np.float64)
    if not np.isfinite(scale).all():
        raise UsageError(f"truncate: psi={psi} must be finite")
    if draft.axes[:1] != ("layer",):
        if scale.ndim or cutoff is not None:
            raise Unsupported(f"truncate by layer needs layers, and this draft has {_axes(draft)}")
    else:
        layers = draft.values.shape[1]
        if cutoff is not None and not 0 <= cutoff <= layers:
            raise UsageError(f"truncate: cutoff={cutoff} is not there; this draft has the layers 0-{layers - 1}")
        if scale.ndim and len(scale) != layers:
            raise UsageError(f"truncate: psi has {len(scale)} values, and this draft has {layers} layers")
        scale = np.where(np.arange(layers) < (layers if cutoff is None else cutoff), scale, 1.0)
        scale = scale.reshape(layers, *[1] * (draft.values.ndim - 2))
    pulled = draft.center + scale * (draft.values - draft.center)
    values = np.where(scale == 1, draft.values, pulled)  # bit-equal where nothing changes
    return replace(draft, values=values.astype(draft.values.dtype, copy=False))


def interpolate(draft: Draft, *, steps: int = 8, arc: bool = False, loop: bool = False, smooth: bool = False) -> Draft:
    """Walk from each sample to the next in ``steps`` steps; the samples themselves are kept.

    n samples make (n - 1) * steps + 1. ``arc`` follows the great arc about the mean, where high-dimensional normals
    live (Shoemake, "Animating rotation with quaternion curves", 1985), instead of the straight line; ``smooth`` turns
    no corners (Catmull and Rom, "A class of local interpolating splines", 1974). ``loop`` walks back to the first
    sample too, for n * steps frames that can be played for ever. Raises Unsupported where rows cannot be averaged, or
    where their context differs.
    """
    if draft.center is None:
        raise Unsupported("interpolate averages samples, and those of this draft cannot be averaged")
    if len(draft) < 2:
        there = "only one" if len(draft) else "none"
        raise UsageError(f"interpolate walks between samples, and there is {there}: ask for -n 2 or more")
    if steps < 1:
        raise UsageError(f"interpolate: steps={steps} must be 1 or more")
    if arc and smooth:
        raise UsageError("interpolate: arc=true and smooth=true are two ways to walk: take one of them")
    _alike(draft, "interpolate")
    n = len(draft)
    t = np.arange(n * steps if loop else (n - 1) * steps + 1) / steps
    low = np.minimum(t.astype(np.int64), n - 1 if loop else n - 2)
    start, high = draft.take(low), (low + 1) % n
    weight = (t - low).reshape(-1, *[1] * (draft.values.ndim - 1))
    a, b = draft.values[low] - start.center, draft.values[high] - start.center
    if smooth:
        before, after = ((low - 1) % n, (low + 2) % n) if loop else (np.maximum(low - 1, 0), np.minimum(low + 2, n - 1))
        blend = _spline(draft.values[before] - start.center, a, b, draft.values[after] - start.center, weight)
    else:
        blend = _arc(a, b, weight) if arc else (1 - weight) * a + weight * b
    values = (start.center + blend).astype(draft.values.dtype, copy=False)
    for kept, rows in ((weight.ravel() == 0, low), (weight.ravel() == 1, high)):
        values[kept] = draft.values[rows[kept]]
    return _children(replace(start, values=values), np.stack([low, high], 1), t - low)


def mix(draft: Draft, *, layers: str, table: bool = False) -> Draft:
    """Give sample i the layers named (``8-17`` or ``0,4-7``) of sample i + n/2: coarse from one, fine from the other.

    The draft's n rows make n/2 (Karras et al. 2019, "style mixing"). ``table`` mixes each of the first half with each
    of the second: (n/2 + 1)^2 rows, row by row, the second half on the upper margin, the first on the left one, the
    prior mean in the corner. Raises Unsupported where the draft has no layers, or a table's has no mean.
    """
    if draft.axes[:1] != ("layer",):
        raise Unsupported(f"mix exchanges layers, and this draft has {_axes(draft)}")
    n, there = draft.values.shape[:2]
    if n % 2 or not n:
        raise UsageError(f"mix pairs sample i with sample i + n/2, and {n} cannot be halved: ask for an even -n")
    _alike(draft, "mix")
    half, chosen = n // 2, parse_ranges(layers, "mix: layers")
    if chosen[-1] >= there:
        raise UsageError(f"mix: layer {chosen[-1]} is not there; this draft has the layers 0-{there - 1}")
    coarse, fine = np.arange(half), np.arange(half, 2 * half)
    if table:
        if draft.center is None:
            raise Unsupported("mix: table=true shows the prior mean in its corner, and this draft has none")
        row, column = (axis.ravel() - 1 for axis in np.indices((half + 1, half + 1)))  # -1: the margin
        coarse, fine = np.where(row < 0, half + column, row), np.where(column < 0, row, half + column)
        fine[0] = coarse[0] = 0
    mixed = draft.take(coarse)
    values = mixed.values.copy()
    values[:, chosen] = draft.values[fine][:, chosen]
    if table and mixed.center is not None:
        values[0] = np.broadcast_to(mixed.center, values.shape)[0]
    share = np.where(coarse == fine, 0.0, len(chosen) / there)
    return _children(replace(mixed, values=values), np.stack([coarse, fine], 1), share)


def clamp(draft: Draft, *, at: int, value: float) -> Draft:
    """Set position ``at`` of the first axis (or the whole of a draft without axes) to ``value``.

    A step beyond a sample's length is left alone. Raises UsageError where the value is not one of the draft's levels.
    """
    if draft.values.dtype.kind not in "biuf":
        raise Unsupported("clamp sets numbers, and this draft holds text")
    if not np.isfinite(value):
        raise UsageError(f"clamp: value={value:g} must be finite")
    if draft.levels is not None and not (value == int(value) and 0 <= value < draft.levels):
        raise UsageError(f"clamp: value={value:g} is not one of this draft's levels 0-{draft.levels - 1}")
    values = draft.values.copy()
    if not draft.axes:
        if at != 0:
            raise UsageError(f"clamp: at={at} is not there; this draft has one value per sample, at=0")
        values[:] = value
        return replace(draft, values=values)
    if not 0 <= at < values.shape[1]:
        raise UsageError(f"clamp: at={at} is not there; this draft's {draft.axes[0]} axis has 0-{values.shape[1] - 1}")
    values[np.ones(len(draft), bool) if draft.lengths is None else draft.lengths > at, at] = value
    return replace(draft, values=values)


def _axes(draft: Draft) -> str:
    return f"the axes {draft.axes}" if draft.axes else "no axes"


def _alike(draft: Draft, sampler: str) -> None:
    lengths = {} if draft.lengths is None else {"length": draft.lengths}
    for name, value in {**lengths, **draft.context}.items():
        if name in ("parent", "weight"):  # what an earlier sampler noted is no condition
            continue
        same = (value == value[:1]) | ((value != value) & (value[:1] != value[:1]))  # NaN, not set, is alike too
        if not same.all():
            raise Unsupported(
                f"{sampler} blends samples that are alike in {name}, and these differ: give all the same {name}"
            )


def _children(draft: Draft, parents: Array, weight: Array) -> Draft:
    context = {**draft.context, "parent": parents, "weight": weight}
    return replace(draft, rows=np.full(len(draft), -1), context=context)


def _spline(before: Array, a: Array, b: Array, after: Array, weight: Array) -> Array:
    """From a to b, leaving along a chord of before and b, arriving along one of a and after."""
    leave, arrive, rest = (b - before) / 2, (after - a) / 2, 1 - weight
    near, far = rest**2 * (1 + 2 * weight), weight**2 * (1 + 2 * rest)
    blend: Array = near * a + far * b + weight * rest * (rest * leave - weight * arrive)
    return blend


def _arc(a: Array, b: Array, weight: Array) -> Array:
    a, b, axes = a.astype(np.float64), b.astype(np.float64), tuple(range(1, a.ndim))
    norm_a, norm_b = (np.sqrt((x * x).sum(axes, keepdims=True)) for x in (a, b))
    cosine = (a * b).sum(axes, keepdims=True) / np.maximum(norm_a * norm_b, 1e-300)
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    straight = (sine < 1e-6) | (norm_a * norm_b == 0)  # parallel rows and the mean have no arc
    safe = np.where(straight, 1.0, sine)
    wa = np.where(straight, 1 - weight, np.sin((1 - weight) * angle) / safe)
    wb = np.where(straight, weight, np.sin(weight * angle) / safe)
    blend: Array = wa * a + wb * b
    return blend


SAMPLERS = [Sampler(truncate), Sampler(interpolate, scope="all"), Sampler(mix, scope="all"), Sampler(clamp)]
