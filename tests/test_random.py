"""Philox against its published vectors and a plain reference; one seed is one draw; the distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genreg import random
from genreg.errors import Unsupported
from genreg.random import Stream, bits, categorical, gumbel, normal, philox, uniform

WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, 2**64 - 1)
LARGEST = 1 - 2.0**-53  # the largest uniform


def seeds(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def reference(counter: list[int], key: list[int]) -> list[int]:
    """Philox-4x32-10 one number at a time, as the paper writes it."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def vectorized(counter: list[int], key: list[int]) -> list[int]:
    return [int(word[0]) for word in philox(tuple(seeds(c) for c in counter), tuple(seeds(k) for k in key))]


VECTORS = [  # kat_vectors of the Random123 distribution, philox 4x32 10
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    assert vectorized(words(counter), words(key)) == words(expected)
    assert reference(words(counter), words(key)) == words(expected)


@given(st.lists(WORD, min_size=4, max_size=4), st.lists(WORD, min_size=2, max_size=2))
@settings(max_examples=200, deadline=None)
def test_philox_agrees_with_the_plain_reference(counter, key):
    assert vectorized(counter, key) == reference(counter, key)


def test_philox_leaves_its_arguments_alone():
    counter, key = tuple(seeds(i, i + 1) for i in range(4)), tuple(seeds(i, i + 1) for i in range(2))
    philox(counter, key)
    assert [word.tolist() for word in (*counter, *key)] == [[0, 1], [1, 2], [2, 3], [3, 4], [0, 1], [1, 2]]


@given(SEED, st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.integers(0, 11))
@settings(max_examples=100, deadline=None)
def test_the_key_is_the_seed_and_the_counter_is_block_step_and_stream(seed, step, stream, count):
    expected = []
    for block in range(3):
        expected += reference([block, step % 2**32, stream, step >> 32], [seed % 2**32, seed >> 32])
    assert bits(seeds(seed), count, stream=stream, step=step).tolist() == [expected[:count]]


def test_known_draws_do_not_change():
    """Recipes and checkpoints rest on these figures: if one moves, every published seed means another sample."""
    at = seeds(0, 107, 2**64 - 1)
    assert bits(at, 2, stream=Stream.PRIOR).tolist() == [
        [0x6627E8D5, 0xE169C58D],
        reference([0, 0, 0, 0], [107, 0])[:2],
        reference([0, 0, 0, 0], [2**32 - 1] * 2)[:2],
    ]
    first, second = 0x6627E8D5, 0xE169C58D
    assert uniform(at, stream=Stream.PRIOR)[0] == ((first << 21) ^ (second >> 11)) / 2**53
    radius, angle = np.sqrt(-2 * np.log((first + 0.5) / 2**32)), second * 2 * np.pi / 2**32
    assert normal(at, (2,), stream=0)[0] == pytest.approx([radius * np.cos(angle), radius * np.sin(angle)], rel=1e-14)


DRAWS = {
    "bits": lambda at, n, **where: bits(at, n, **where),
    "uniform": lambda at, n, **where: uniform(at, (n,), **where),
    "normal": lambda at, n, **where: normal(at, (n,), **where),
    "float32 normal": lambda at, n, **where: normal(at, (n,), dtype=np.float32, **where),
    "gumbel": lambda at, n, **where: gumbel(at, (n,), **where),
    "categorical": lambda at, n, **where: categorical(at, np.log(np.arange(1.0, n + 1)), **where)[:, None],
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@every_draw
def test_one_seed_is_one_draw_whatever_the_batch_and_order(draw):
    at = seeds(5, 2**64 - 1, 0, 107, 2**32, 5)
    whole = draw(at, 7, stream=3, step=2)
    assert np.array_equal(whole[0], whole[5])
    assert np.array_equal(draw(at[::-1], 7, stream=3, step=2), whole[::-1])
    assert np.array_equal(np.concatenate([draw(at[i : i + 1], 7, stream=3, step=2) for i in range(6)]), whole)


@every_draw
def test_chunks_leave_no_trace(draw, monkeypatch):
    at = np.arange(40, dtype=np.uint64)
    whole = draw(at, 9, stream=1)
    for chunk in (1, 3, 16):
        monkeypatch.setattr(random, "_CHUNK", chunk)
        assert np.array_equal(draw(at, 9, stream=1), whole)


def test_draws_agree_across_the_real_chunk_boundary():
    at = np.arange(random._CHUNK // 2 + 3, dtype=np.uint64)  # three blocks per seed cross it
    assert np.array_equal(bits(at, 12, stream=0)[-5:], bits(at[-5:], 12, stream=0))


@pytest.mark.parametrize("draw", [DRAWS[name] for name in ("bits", "uniform", "normal", "float32 normal", "gumbel")])
def test_the_first_k_of_n_draws_are_the_k_draws(draw):
    at = seeds(1, 2, 3)
    for k in range(12):
        assert np.array_equal(draw(at, 12, stream=0)[:, :k], draw(at, k, stream=0))


def test_a_shape_only_folds_the_row():
    at = seeds(1, 2)
    for draw in (uniform, normal, gumbel):
        flat = draw(at, (30,), stream=0)
        assert np.array_equal(draw(at, (2, 3, 5), stream=0), flat.reshape(2, 2, 3, 5))
        assert np.array_equal(draw(at, stream=0), flat[:, 0])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)])
def test_no_seeds_and_no_numbers_have_their_shape(shape):
    for draw in (uniform, normal, gumbel):
        assert draw(seeds(), shape, stream=0).shape == (0, *shape)
        assert draw(seeds(1, 2), shape, stream=0).shape == (2, *shape)
    assert bits(seeds(), 5, stream=0).shape == (0, 5)
    assert bits(seeds(1), 0, stream=0).shape == (1, 0)
    for log_p in (np.zeros(3), np.zeros((0, 3))):
        assert categorical(seeds(), log_p, stream=0).shape == (0,)


def test_streams_steps_and_seeds_are_independent():
    at = np.arange(2000, dtype=np.uint64)
    rows = [normal(at, stream=stream, step=step) for stream in (0, 1, 1000) for step in (0, 1, 2**32)]
    rows.append(normal(at + np.uint64(2**32), stream=0))  # a seed is more than its low word
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert abs(correlation).max() < 5 / np.sqrt(len(at))
    assert abs(np.corrcoef(rows[0][:-1], rows[0][1:])[0, 1]) < 5 / np.sqrt(len(at))  # neighbouring seeds
    assert len({float(row[0]) for row in rows}) == len(rows)


def test_streams_have_distinct_numbers():
    assert len({int(stream) for stream in Stream}) == len(list(Stream.__members__))
    assert max(Stream) == Stream.USER


def test_every_bit_is_fair():
    found = bits(np.arange(20_000, dtype=np.uint64), 4, stream=0)
    ones = np.array([((found >> np.uint32(bit)) & 1).mean(0) for bit in range(32)])  # [32, 4]
    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize(
    ("draw", "law"), [(uniform, stats.uniform), (normal, stats.norm), (gumbel, stats.gumbel_r)], ids=["u", "z", "g"]
)
def test_draws_follow_their_law_within_a_seed_and_over_seeds(draw, law):
    for found in (draw(np.arange(20_000, dtype=np.uint64), stream=0), draw(seeds(9), (20_000,), stream=0)[0]):
        assert stats.kstest(found, law.cdf).pvalue > 1e-3
        assert abs(found.mean() - law.mean()) < 5 * law.std() / np.sqrt(20_000)
        assert abs(found.var() / law.var() - 1) < 0.1


def test_pairs_of_normals_are_independent():
    z = normal(np.arange(20_000, dtype=np.uint64), (2,), stream=0)
    assert stats.kstest((z**2).sum(1), stats.chi2(2).cdf).pvalue > 1e-3
    assert stats.kstest(z[:, 0] / z[:, 1], stats.cauchy.cdf).pvalue > 1e-3


def test_float32_normals_are_the_float64_ones_rounded_once():
    at = np.arange(100, dtype=np.uint64)
    for dtype in (np.float32, np.float16):
        found = normal(at, (5,), stream=0, dtype=dtype)
        assert found.dtype == dtype
        assert np.array_equal(found, normal(at, (5,), stream=0).astype(dtype))


@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_the_extreme_words_stay_within_bounds(word, monkeypatch):
    monkeypatch.setattr(random, "bits", lambda at, count, **_: np.full((len(at), count), word, np.uint32))
    assert uniform(seeds(1), stream=0) == (LARGEST if word else 0)
    assert np.isfinite(gumbel(seeds(1), stream=0)).all()
    assert abs(normal(seeds(1), (2,), stream=0)).max() < 6.77


def test_categorical_has_the_frequencies_of_its_probabilities():
    p = np.array([0.1, 0.2, 0.3, 0.05, 0.35])
    at = np.arange(50_000, dtype=np.uint64)
    for log_p in (np.log(p), np.log(p) - 1000, np.log(p) + 700):
        counts = np.bincount(categorical(at, log_p, stream=0), minlength=5)
        assert stats.chisquare(counts, p * len(at)).pvalue > 1e-3


def test_categorical_takes_one_row_or_a_row_per_seed():
    at = np.arange(500, dtype=np.uint64)
    log_p = np.log([0.5, 0.25, 0.25])
    shared = categorical(at, log_p, stream=0)
    assert shared.dtype == np.int64
    assert np.array_equal(categorical(at, np.tile(log_p, (500, 1)), stream=0), shared)
    certain = np.where(np.eye(3)[np.arange(500) % 3] == 1, 0.0, -np.inf)
    assert np.array_equal(categorical(at, certain, stream=0), np.arange(500) % 3)
    assert not categorical(at, np.array([-1234.5]), stream=0).any()


@pytest.mark.parametrize("u", [0.0, 0.5, LARGEST])
def test_the_impossible_is_never_drawn_even_at_the_extremes(u, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda at, *_, **__: np.full(len(at), u))
    never = -np.inf
    for log_p in ([never, 0, never], [never, 0, never, 0, never], [never, never, -800, 0, -800, never], [0, 0, never]):
        for held in (np.array(log_p), np.array([log_p] * 2)):
            for drawn in categorical(seeds(1, 2), held, stream=0):
                assert log_p[drawn] > never


@given(
    st.lists(st.one_of(st.just(-np.inf), st.floats(-50, 50)), min_size=1, max_size=30), st.sampled_from([0, LARGEST])
)
@settings(max_examples=200, deadline=None)
def test_rounding_never_reaches_the_impossible(log_p, u):
    if max(log_p) == -np.inf:
        log_p.append(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "uniform", lambda at, *_, **__: np.full(len(at), u))
        assert log_p[categorical(seeds(1), np.array(log_p), stream=0)[0]] > -np.inf


@pytest.mark.parametrize("bad", [[-np.inf, -np.inf], [0, np.nan], [0, np.inf]])
def test_a_row_that_has_nothing_to_draw_is_refused_by_its_seed(bad):
    reason = (
        "nothing can be drawn, for every log probability is -inf or one is not finite: "
        "what is given may be impossible under this model"
    )
    with pytest.raises(Unsupported) as raised:
        categorical(seeds(100, 107), np.array([[0.0, 0.0], bad]), stream=0)
    assert str(raised.value) == f"seed 107: {reason}"
    with pytest.raises(Unsupported) as raised:
        categorical(seeds(100), np.array(bad), stream=0)
    assert str(raised.value) == reason
