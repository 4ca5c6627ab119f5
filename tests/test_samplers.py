"""Each sampler keeps its promise over drafts of every geometry, or refuses with a reason."""

from dataclasses import fields, replace

import numpy as np
import pytest

from genreg.draft import Draft
from genreg.errors import Unsupported, UsageError
from genreg.random import normal
from genreg.samplers import SAMPLERS, clamp, interpolate, mix, truncate

SEEDS = np.array([7, 8, 9, 2**64 - 1], np.uint64)


def latent(dtype=np.float64, n=4) -> Draft:
    """A VAE's or GAN's: [n, d] and one mean for all."""
    return Draft(normal(SEEDS[:n], (5,), stream=0, dtype=dtype), SEEDS[:n], ("latent",), center=np.full(5, 0.5, dtype))


def layered(dtype=np.float32) -> Draft:
    """StyleGAN's W+: [n, L, C], the mean broadcast over the rows."""
    center = np.broadcast_to(np.arange(3, dtype=dtype), (4, 6, 3))
    return Draft(normal(SEEDS, (6, 3), stream=0, dtype=dtype), SEEDS, ("layer", "channel"), center=center)


def by_class() -> Draft:
    """A class-conditional mean: [n, d] with a mean of its own for each row."""
    return replace(latent(), center=np.arange(20.0).reshape(4, 5))


def klass() -> Draft:
    """Naive Bayes': one class per row."""
    return Draft(np.array([2, 0, 1, 2]), SEEDS, levels=3)


def path() -> Draft:
    """An HMM's: [n, T], padded."""
    values = np.array([[1, 2, 0, 0], [0, 1, 2, 1], [2, 0, 0, 0], [1, 1, 1, 0]])
    return Draft(values, SEEDS, ("time",), levels=3, lengths=np.array([2, 4, 1, 3]))


def prompts() -> Draft:
    """A remote API's."""
    return Draft(np.array(["a", "b", None, ""], object), SEEDS)


DRAFTS = {f.__name__: f for f in (latent, layered, by_class, klass, path, prompts)}
CALLS = {
    "truncate": lambda draft: truncate(draft, psi=0.5),
    "interpolate": lambda draft: interpolate(draft, steps=3),
    "interpolate arc": lambda draft: interpolate(draft, steps=3, arc=True),
    "interpolate smooth": lambda draft: interpolate(draft, steps=3, smooth=True),
    "interpolate loop": lambda draft: interpolate(draft, steps=3, loop=True),
    "mix": lambda draft: mix(draft, layers="0,4-5"),
    "mix table": lambda draft: mix(draft, layers="0,4-5", table=True),
    "clamp": lambda draft: clamp(draft, at=0, value=1),
}
FITS = {
    "truncate": {"latent", "layered", "by_class"},
    "interpolate": {"latent", "layered", "by_class"},
    "interpolate arc": {"latent", "layered", "by_class"},
    "interpolate smooth": {"latent", "layered", "by_class"},
    "interpolate loop": {"latent", "layered", "by_class"},
    "mix": {"layered"},
    "mix table": {"layered"},
    "clamp": {"latent", "layered", "by_class", "klass", "path"},
}
REASONS = {
    "truncate": "truncate pulls samples towards the prior mean, and this draft has none",
    "interpolate": "interpolate averages samples, and those of this draft cannot be averaged",
    "clamp": "clamp sets numbers, and this draft holds text",
}
AXES = {"latent": "the axes ('latent',)", "by_class": "the axes ('latent',)", "path": "the axes ('time',)"}


def in_company(draft: Draft) -> Draft:
    """The draft with rows of given and a context that is alike in all rows."""
    context = {"label": np.full(4, 3), "prefix": np.array([["x", None]] * 4, object), "seen": np.full((4, 2), np.nan)}
    return replace(draft, context=context, rows=np.arange(4))


def same(a: Draft, b: Draft) -> bool:
    def equal(x, y) -> bool:
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            return x.dtype == y.dtype and x.shape == y.shape and x.tolist().__repr__() == y.tolist().__repr__()
        return x == y

    left, right = (
        {f.name: getattr(d, f.name) for f in fields(Draft) if f.name != "context"} | d.context for d in (a, b)
    )
    return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)


every_call = pytest.mark.parametrize("call", CALLS)
every_draft = pytest.mark.parametrize("kind", DRAFTS)


@every_call
@every_draft
def test_a_sampler_fits_or_refuses_with_the_reason(call, kind):
    draft = DRAFTS[kind]()
    if kind in FITS[call]:
        assert CALLS[call](draft).values.dtype == draft.values.dtype
        return
    with pytest.raises(Unsupported) as raised:
        CALLS[call](draft)
    mixing = f"mix exchanges layers, and this draft has {AXES.get(kind, 'no axes')}"
    assert str(raised.value) == REASONS.get(call.partition(" ")[0], mixing)


@pytest.mark.parametrize(("call", "kind"), [(call, kind) for call in CALLS for kind in DRAFTS if kind in FITS[call]])
def test_a_sampler_edits_values_alone_and_never_its_input(call, kind):
    draft, untouched = in_company(DRAFTS[kind]()), in_company(DRAFTS[kind]())
    found = CALLS[call](draft)
    assert same(draft, untouched)
    assert not np.shares_memory(found.values, draft.values)
    assert (found.axes, found.levels) == (draft.axes, draft.levels)
    assert len(found.values) == len(found.seeds) == len(found.rows) == len(found)
    for name, value in draft.context.items():  # rides along
        assert repr(found.context[name].tolist()) == repr(value[:1].repeat(len(found), 0).tolist())
    if call in ("truncate", "clamp"):
        assert same(replace(found, values=draft.values), draft)
    else:
        assert (found.rows == -1).all()
        assert found.seeds.tolist() == draft.seeds[found.context["parent"][:, 0]].tolist()
        assert found.context.keys() == draft.context.keys() | {"parent", "weight"}
        assert found.context["parent"].shape == (len(found), 2)
        assert found.context["weight"].shape == (len(found),)


def test_the_samplers_are_four_and_say_what_they_see():
    assert {sampler.name: sampler.scope for sampler in SAMPLERS} == {
        "truncate": "row",
        "interpolate": "all",
        "mix": "all",
        "clamp": "row",
    }


@pytest.mark.parametrize("call", ["truncate", "clamp"])
@every_draft
def test_a_row_sampler_does_the_same_in_windows(call, kind):
    draft = DRAFTS[kind]()
    if kind in FITS[call]:
        whole = CALLS[call](draft)
        windows = [CALLS[call](draft.take(slice(at, at + 3))).values for at in (0, 3)]
        assert np.array_equal(np.concatenate(windows), whole.values)
        assert len(CALLS[call](draft.take(slice(0, 0)))) == 0


# ---- truncate ----

centered = pytest.mark.parametrize("kind", ["latent", "layered", "by_class"])


@centered
def test_psi_0_is_the_mean_and_psi_1_changes_nothing(kind):
    draft = DRAFTS[kind]()
    assert np.array_equal(truncate(draft, psi=0).values, np.broadcast_to(draft.center, draft.values.shape))
    assert truncate(draft, psi=1).values.tobytes() == draft.values.tobytes()
    assert truncate(draft, psi=1.0).values.tobytes() == draft.values.tobytes()


@centered
def test_truncate_scales_the_distance_to_the_mean(kind):
    draft = DRAFTS[kind]()
    for psi in (0.5, 0.7, -1.0, 1.3):
        found = truncate(draft, psi=psi).values - draft.center
        assert found == pytest.approx(psi * (draft.values - draft.center), abs=1e-5)


def test_psi_per_layer_and_cutoff_touch_their_layers_alone():
    draft = layered()
    found = truncate(draft, psi=[0, 1, 0.5, 1, 1, 0]).values
    assert np.array_equal(found[:, [0, 5]], draft.center[:, [0, 5]])
    assert found[:, [1, 3, 4]].tobytes() == draft.values[:, [1, 3, 4]].tobytes()
    assert found[:, 2] == pytest.approx((draft.center + draft.values)[:, 2] / 2, abs=1e-6)
    for cutoff in range(7):
        found = truncate(draft, psi=0, cutoff=cutoff).values
        assert np.array_equal(found[:, :cutoff], draft.center[:, :cutoff])
        assert found[:, cutoff:].tobytes() == draft.values[:, cutoff:].tobytes()
    both = truncate(draft, psi=[0] * 6, cutoff=2).values
    assert np.array_equal(both, truncate(draft, psi=0, cutoff=2).values)


@pytest.mark.parametrize(
    ("kind", "knobs", "message"),
    [
        ("latent", {"psi": [0.5, 0.7]}, "truncate by layer needs layers, and this draft has the axes ('latent',)"),
        ("latent", {"cutoff": 2}, "truncate by layer needs layers, and this draft has the axes ('latent',)"),
        ("layered", {"psi": [0.5, 0.7]}, "truncate: psi has 2 values, and this draft has 6 layers"),
        ("layered", {"psi": []}, "truncate: psi has 0 values, and this draft has 6 layers"),
        ("layered", {"cutoff": -1}, "truncate: cutoff=-1 is not there; this draft has the layers 0-5"),
        ("layered", {"cutoff": 7}, "truncate: cutoff=7 is not there; this draft has the layers 0-5"),
        ("latent", {"psi": float("nan")}, "truncate: psi=nan must be finite"),
        ("layered", {"psi": [1, float("inf")]}, "truncate: psi=[1, inf] must be finite"),
    ],
)
def test_truncate_says_what_is_wrong(kind, knobs, message):
    with pytest.raises(UsageError) as raised:
        truncate(DRAFTS[kind](), **knobs)
    assert str(raised.value) == message


def test_a_mean_without_axes_stands_for_all():
    scalar = Draft(np.array([1.0, 3.0]), SEEDS[:2], center=np.array(2.0))
    assert truncate(scalar, psi=0.5).values.tolist() == [1.5, 2.5]
    assert interpolate(scalar, steps=2).values.tolist() == [1, 2, 3]


# ---- interpolate ----


@centered
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("arc", [False, True])
def test_a_walk_keeps_its_keyframes_and_their_seeds(kind, steps, arc):
    draft = DRAFTS[kind]()
    walk = interpolate(draft, steps=steps, arc=arc)
    assert len(walk) == 3 * steps + 1
    assert walk.values[::steps].tobytes() == draft.values.tobytes()
    assert walk.seeds.tolist() == [*SEEDS[:3].repeat(steps).tolist(), int(SEEDS[2])]
    parent, weight = walk.context["parent"], walk.context["weight"]
    assert parent.tolist() == [*([i, i + 1] for i in range(3) for _ in range(steps)), [2, 3]]
    assert weight == pytest.approx([*[t / steps for _ in range(3) for t in range(steps)], 1])


def test_a_straight_walk_is_the_weighted_mean():
    draft = latent()
    walk = interpolate(draft, steps=4)
    (a, b), w = walk.context["parent"].T, walk.context["weight"][:, None]
    assert walk.values == pytest.approx((1 - w) * draft.values[a] + w * draft.values[b])
    assert walk.center is draft.center


def test_a_walk_between_classes_carries_its_parents_mean():
    draft = by_class()
    walk = interpolate(draft, steps=2)
    assert np.array_equal(walk.center, draft.center[[0, 0, 1, 1, 2, 2, 2]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_arc_keeps_equal_norms_and_turns_evenly(dtype):
    rows = normal(SEEDS, (64,), stream=0)
    rows *= 8 / np.linalg.norm(rows, axis=1, keepdims=True)
    center = np.linspace(-1, 1, 64).astype(dtype)
    walk = interpolate(Draft((rows + center).astype(dtype), SEEDS, ("latent",), center=center), steps=5, arc=True)
    from_mean = walk.values.astype(np.float64) - center
    assert np.linalg.norm(from_mean, axis=1) == pytest.approx(8, rel=1e-5)
    turns = np.arccos((from_mean[1:] * from_mean[:-1]).sum(1) / 64)
    assert turns.reshape(3, 5) == pytest.approx(turns.reshape(3, 5).mean(1, keepdims=True) + np.zeros(5), rel=1e-3)
    straight = interpolate(Draft(rows, SEEDS, ("latent",), center=np.zeros(64)), steps=2).values
    assert (np.linalg.norm(straight[1::2], axis=1) < 7).all()  # what the arc is for


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("end", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]])
def test_an_arc_between_parallel_rows_is_straight(end, dtype):
    draft = Draft(np.array([[1, 2], end], dtype), SEEDS[:2], ("latent",), center=np.zeros(2, dtype))
    assert interpolate(draft, steps=4, arc=True).values == pytest.approx(interpolate(draft, steps=4).values, abs=1e-6)
    nothing = replace(draft, values=np.zeros((2, 2), dtype))
    assert not interpolate(nothing, steps=4, arc=True).values.any()


def test_walks_can_be_chained():
    walk = interpolate(interpolate(latent(), steps=2), steps=2)
    assert walk.values == pytest.approx(interpolate(latent(), steps=4).values)
    assert walk.context["parent"].max() == 6  # of the draft just before
    assert len(interpolate(mix(layered(), layers="0-2"), steps=2)) == 3


@pytest.mark.parametrize(
    ("draft", "steps", "message"),
    [
        (latent(n=1), 8, "interpolate walks between samples, and there is only one: ask for -n 2 or more"),
        (latent(n=0), 8, "interpolate walks between samples, and there is none: ask for -n 2 or more"),
        (latent(), 0, "interpolate: steps=0 must be 1 or more"),
        (latent(), -3, "interpolate: steps=-3 must be 1 or more"),
    ],
)
def test_interpolate_says_what_is_wrong(draft, steps, message):
    with pytest.raises(UsageError) as raised:
        interpolate(draft, steps=steps)
    assert str(raised.value) == message


@pytest.mark.parametrize("way", [{}, {"arc": True}, {"smooth": True}])
@pytest.mark.parametrize("draft", [latent(), layered(), by_class()])
def test_a_loop_walks_back_to_where_it_began_without_showing_it_twice(draft, way):
    loop = interpolate(draft, steps=5, loop=True, **way)
    assert loop.values[::5].tobytes() == draft.values.tobytes()
    assert loop.context["parent"][-1].tolist() == [3, 0]
    around = draft.take(np.array([3, 0, 1, 2]))  # the same circle, entered elsewhere
    again = interpolate(around, steps=5, loop=True, **way)
    assert np.roll(again.values, -5, 0) == pytest.approx(loop.values, abs=1e-6)


def test_a_smooth_walk_turns_no_corners_and_follows_a_parabola():
    t = np.arange(6.0)
    cubic = (0.3 * t**3 - t**2 + 2 * t)[:, None]
    draft = Draft(cubic, np.arange(6, dtype=np.uint64), ("latent",), center=np.full(1, 7.0))
    walk = interpolate(draft, steps=10, smooth=True).values[:, 0]
    at = np.arange(51) / 10
    assert walk[::10] == pytest.approx(cubic[:, 0])
    square = replace(draft, values=t[:, None] ** 2)  # the slopes of a parabola are those of its chords
    assert interpolate(square, steps=10, smooth=True).values[10:41, 0] == pytest.approx(at[10:41] ** 2)
    fine = interpolate(draft, steps=1000, smooth=True).values[:, 0]
    slopes = np.diff(fine) * 1000
    assert np.abs(np.diff(slopes)).max() < 0.1 < np.abs(np.diff(np.diff(cubic[:, 0]))).max()


def test_a_walk_is_smooth_or_an_arc():
    with pytest.raises(UsageError) as raised:
        interpolate(latent(), arc=True, smooth=True)
    assert str(raised.value) == "interpolate: arc=true and smooth=true are two ways to walk: take one of them"


DIFFERENT = [
    np.array([3, 3, 3, 4]),
    np.array(["cat", "cat", "cat", None], object),
    np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.5], [1.0, 2.0]]),
    np.array([1.0, np.nan, 1.0, 1.0]),
]


@pytest.mark.parametrize("call", ["interpolate", "mix"])
@pytest.mark.parametrize("value", DIFFERENT)
def test_rows_whose_context_differs_are_not_blended(call, value):
    draft = in_company(layered())
    draft = replace(draft, context={**draft.context, "shade": value})
    with pytest.raises(Unsupported) as raised:
        CALLS[call](draft)
    reason = "blends samples that are alike in shade, and these differ: give all the same shade"
    assert str(raised.value) == f"{call} {reason}"


def test_rows_of_different_lengths_are_not_blended():
    draft = replace(latent(), axes=("time",), lengths=np.array([5, 5, 4, 5]))
    with pytest.raises(Unsupported) as raised:
        interpolate(draft)
    reason = "blends samples that are alike in length, and these differ: give all the same length"
    assert str(raised.value) == f"interpolate {reason}"
    assert interpolate(replace(draft, lengths=np.full(4, 4)), steps=1).lengths.tolist() == [4] * 4


# ---- mix ----


@pytest.mark.parametrize(("layers", "chosen"), [("0", [0]), ("2-3", [2, 3]), ("0,4-5", [0, 4, 5]), ("0-5", range(6))])
def test_mix_halves_the_rows_and_swaps_exactly_the_layers(layers, chosen):
    draft = layered()
    found = mix(draft, layers=layers)
    assert len(found) == 2
    for layer in range(6):
        source = draft.values[2:] if layer in chosen else draft.values[:2]
        assert found.values[:, layer].tobytes() == source[:, layer].tobytes()
    assert found.context["parent"].tolist() == [[0, 2], [1, 3]]
    assert found.context["weight"] == pytest.approx([len(chosen) / 6] * 2)
    assert found.seeds.tolist() == SEEDS[:2].tolist()


def test_a_table_mixes_each_with_each_between_its_parents():
    draft = layered()
    found = mix(draft, layers="2-3", table=True)
    cells = found.values.reshape(3, 3, 6, 3)
    assert cells[0, 0].tobytes() == draft.center[0].tobytes()
    assert cells[0, 1:].tobytes() == draft.values[2:].tobytes()
    assert cells[1:, 0].tobytes() == draft.values[:2].tobytes()
    for row in range(2):
        for column in range(2):
            pair = draft.take(np.array([row, 2 + column]))
            assert cells[1 + row, 1 + column].tobytes() == mix(pair, layers="2-3").values.tobytes()
    parents = found.context["parent"].reshape(3, 3, 2).tolist()
    assert parents[0][1:] == [[2, 2], [3, 3]]
    assert [row[0] for row in parents[1:]] == [[0, 0], [1, 1]]
    assert parents[1][1:] == [[0, 2], [0, 3]]
    assert parents[2][1:] == [[1, 2], [1, 3]]
    assert found.context["weight"] == pytest.approx([0, 0, 0, 0, 1 / 3, 1 / 3, 0, 1 / 3, 1 / 3])


def test_a_table_needs_a_mean_for_its_corner():
    with pytest.raises(Unsupported) as raised:
        mix(replace(layered(), center=None), layers="1", table=True)
    assert str(raised.value) == "mix: table=true shows the prior mean in its corner, and this draft has none"


def test_mix_needs_no_mean():
    assert mix(replace(layered(), center=None), layers="1").center is None


@pytest.mark.parametrize(
    ("rows", "layers", "message"),
    [
        (3, "0", "mix pairs sample i with sample i + n/2, and 3 cannot be halved: ask for an even -n"),
        (0, "0", "mix pairs sample i with sample i + n/2, and 0 cannot be halved: ask for an even -n"),
        (4, "4-6", "mix: layer 6 is not there; this draft has the layers 0-5"),
        (4, "coarse", "mix: layers=coarse: write whole numbers and ranges, such as 0,4-7"),
        (4, "", "mix: layers=: write whole numbers and ranges, such as 0,4-7"),
    ],
)
def test_mix_says_what_is_wrong(rows, layers, message):
    with pytest.raises(UsageError) as raised:
        mix(layered().take(slice(rows)), layers=layers)
    assert str(raised.value) == message


# ---- clamp ----


def test_clamp_sets_one_position_and_nothing_else():
    for draft in (latent(), layered()):
        found = clamp(draft, at=1, value=2.5).values
        assert (found[:, 1] == 2.5).all()
        assert np.array_equal(np.delete(found, 1, 1), np.delete(draft.values, 1, 1))
    assert clamp(klass(), at=0, value=2).values.tolist() == [2] * 4


def test_clamp_leaves_steps_beyond_a_samples_length_alone():
    draft = path()
    for at in range(4):
        found = clamp(draft, at=at, value=2).values
        inside = draft.lengths > at
        assert (found[inside, at] == 2).all()
        assert np.array_equal(found[~inside], draft.values[~inside])


LAST = "clamp: value={} is not one of this draft's levels 0-2"


@pytest.mark.parametrize(
    ("kind", "at", "value", "message"),
    [
        ("klass", 0, 3, LAST.format(3)),
        ("klass", 0, -1, LAST.format(-1)),
        ("path", 1, 1.5, LAST.format(1.5)),
        ("path", 1, float("nan"), "clamp: value=nan must be finite"),
        ("latent", 1, float("inf"), "clamp: value=inf must be finite"),
        ("klass", 1, 0, "clamp: at=1 is not there; this draft has one value per sample, at=0"),
        ("path", 4, 0, "clamp: at=4 is not there; this draft's time axis has 0-3"),
        ("latent", -1, 0, "clamp: at=-1 is not there; this draft's latent axis has 0-4"),
        ("layered", 6, 0, "clamp: at=6 is not there; this draft's layer axis has 0-5"),
    ],
)
def test_clamp_says_what_is_wrong(kind, at, value, message):
    with pytest.raises(UsageError) as raised:
        clamp(DRAFTS[kind](), at=at, value=value)
    assert str(raised.value) == message


def test_clamp_refuses_text_of_any_dtype():
    with pytest.raises(Unsupported, match="clamp sets numbers, and this draft holds text"):
        clamp(Draft(np.array(["a", "b"]), SEEDS[:2]), at=0, value=1)


# ---- the draft itself ----


@pytest.mark.parametrize("at", [slice(1, 3), np.array([3, 0, 3]), slice(0, 0)])
@every_draft
def test_take_takes_every_field_alike(at, kind):
    draft = in_company(DRAFTS[kind]())
    found = draft.take(at)
    for name in ("values", "seeds", "lengths", "rows"):
        whole, part = getattr(draft, name), getattr(found, name)
        assert (part is None) == (whole is None)
        if whole is not None:
            assert part.tolist() == whole[at].tolist()
    assert found.context["label"].tolist() == [3] * len(found)
    if draft.center is not None:
        assert np.array_equal(np.broadcast_to(found.center, found.values.shape), _rows(draft.center, draft.values)[at])


def _rows(center, values):
    return np.broadcast_to(center, values.shape)
