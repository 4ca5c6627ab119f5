"""Clean steps: noise out of text in any script, filters, filling by group, and near-duplicates."""

import datetime
import io
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genreg.data import Source
from genreg.errors import DataError, UsageError
from genreg.images import encode, image_field, images
from genreg.preprocess import cleaned
from genreg_data.clean import fillgroup, imagesize, length, match, replace, scrub, within
from genreg_data.cleaners import CLEANERS
from genreg_data.near import minhash, nearimage, neartext, perceptual_hash, rows_of_a_band, shingles


def train(columns: dict[str, Any] | pa.Table) -> Source:
    return Source.of(columns if isinstance(columns, pa.Table) else pa.table(columns), "train")


def after(fit: Any, data: dict[str, Any] | pa.Table, **knobs: Any) -> dict[str, list[Any]]:
    source = train(data)
    (batch,) = cleaned(source, fit(source, **knobs)).batches(size=10**6)
    return batch.to_pydict()


# ---- cleaners ----


@pytest.mark.parametrize(
    ("cleaner", "text", "expected"),
    [
        ("html", "<p class='a'>Hi &amp; <b>you</b><br/>雪&nbsp;!</p>", "\nHi & you\n雪\xa0!\n"),
        ("html", "<script>if (a<b) x()</script>a<!-- b\n -->c<STYLE>p{}</STYLE >", "ac"),
        ("html", "3 < 5 > 2 &c", "3 < 5 > 2 &c"),
        ("url", "看https://a.cn/b?c=1&d=雪，好 (www.b.org/x).", "看，好 ()."),
        ("url", "http stays: not://", "http stays: not://"),
        ("email", "写信给a.b+c@d-e.co.uk。", "写信给。"),
        ("email", "a@b is none", "a@b is none"),
        ("control", "a\x00b\x1b[1m\u200b\ufeff\xadc\td\n", "ab[1mc\td\n"),
        ("punctuation", "今天，天气——不错！“好” a-b_c? ¿qué? ١٢٣، 3+4", "今天天气不错好 abc qué ١٢٣ 3+4"),
        ("symbols", "3+4=7 €5 😀好", "347 5 好"),
        ("space", " \u3000a \t\r\n\u00a0 b\u2003\x85", "a b"),
        ("halfwidth", "ＡＢＣ１２３！～　ｘ 雪", "ABC123!~ x 雪"),
        ("fullwidth", "ABC 1~雪", "ＡＢＣ　１～雪"),
        ("nfc", "e\u0301", "é"),
        ("nfd", "é", "e\u0301"),
        ("nfkc", "ﬁ①Ａ", "fi1A"),
        ("nfkd", "ﬁé", "fie\u0301"),
        ("lower", "ÄB雪", "äb雪"),
    ],
)
def test_a_cleaner_takes_its_noise_and_nothing_else(cleaner, text, expected):
    for kind in (pa.string(), pa.large_string()):
        column = CLEANERS[cleaner](pa.array(["", text, None, "雪"], kind))
        assert column.to_pylist() == ["", expected, None, "雪"]
        assert column.type == kind


@given(st.lists(st.none() | st.text(), max_size=6), st.sampled_from(sorted(CLEANERS)))
@settings(max_examples=200, deadline=None)
def test_cleaning_twice_changes_no_more(texts, name):
    once = CLEANERS[name](pa.array(texts, pa.string()))
    assert len(once) == len(texts)
    if name not in ("html", "url", "email"):  # what is left of those may be joined to a new one
        assert CLEANERS[name](once).equals(once)


@given(st.text())
@settings(deadline=None)
def test_full_width_is_undone_by_half_width(text):
    ascii_only = "".join(char for char in text if char.isascii())
    there = CLEANERS["fullwidth"](pa.array([ascii_only]))
    assert CLEANERS["halfwidth"](there).to_pylist() == [ascii_only]


def test_scrub_takes_cleaners_in_their_order_and_leaves_the_label():
    table = pa.table({"text": ["<b>好！</b>", "！", "", None], "label": ["a!", "b", "c", "d"], "n": [1, 2, 3, 4]})
    fields = [f.with_metadata({"genreg": '{"role": "label"}'}) if f.name == "label" else f for f in table.schema]
    table = table.cast(pa.schema(fields))
    found = after(scrub, table, cleaners=["html", "punctuation"])
    assert found == {"text": ["好", None, "", None], "label": ["a!", "b", "c", "d"], "n": [1, 2, 3, 4]}
    assert after(scrub, table, cleaners=["punctuation"], empty="keep")["text"] == ["<b>好<b>", "", "", None]


def test_replace_and_match_are_regular_expressions():
    columns = {"text": ["a1b22", None, "雪"], "other": ["1", "2", "3"]}
    assert after(replace, columns, pattern=r"\d+", columns=["text"])["text"] == ["ab", None, "雪"]
    assert after(replace, columns, pattern=r"([a-z])\d", by=r"<\1>")["text"] == ["<a><b>2", None, "雪"]
    assert after(match, columns, column="text", pattern=r"\d")["other"] == ["1"]
    assert after(match, columns, column="text", pattern=r"\d", drop=True)["other"] == ["2", "3"]


def test_filters_by_range_and_length():
    day = datetime.date(2020, 1, 1)
    columns = {"x": [1.0, 2.0, None, 3.0], "d": [day, None, day.replace(month=2), day.replace(month=3)]}
    assert after(within, columns, column="x", low="2")["x"] == [2.0, None, 3.0]
    assert after(within, columns, column="x", low="1.5", high="2")["x"] == [2.0, None]
    assert after(within, columns, column="d", high="2020-02-01")["x"] == [1.0, 2.0, None]
    texts = {"t": ["", "雪雪", None, "abcd"], "l": [[1], [], None, [1, 2, 3]]}
    assert after(length, texts, column="t", least=2, most=3)["t"] == ["雪雪", None]
    assert after(length, texts, column="l", least=1)["l"] == [[1], None, [1, 2, 3]]


def test_images_are_kept_by_their_size_and_broken_ones_dropped_where_that_is_asked():
    cells = [encode(np.zeros((h, w, 3), np.uint8)) for h, w in ((8, 8), (4, 9), (20, 8))]
    table = pa.table(
        [pa.array([*cells, cells[0][:40], None]), pa.array(range(5))],
        pa.schema([image_field("image"), ("n", pa.int64())]),
    )
    assert after(imagesize, table, least=5, most=16, broken="drop")["n"] == [0, 4]
    with pytest.raises(
        DataError, match=r"^image 0: a damaged image .*: leave it out with --preprocess imagesize:broken=d"
    ):
        after(imagesize, table)


@pytest.mark.parametrize("strategy", ["mean", "median", "mode"])
def test_filling_from_the_group_is_what_pandas_does(strategy):
    frame = pandas.DataFrame(
        {"city": ["a", "a", "b", "b", "b", "a"], "x": [1.0, None, 4.0, 5.0, None, 1.0], "y": [None, 2, 2, 7, 2, None]}
    )
    own = after(fillgroup, pa.Table.from_pandas(frame), group="city", strategy=strategy)
    how = {"mode": lambda column: column.mode()[0]}.get(strategy, strategy)
    expected = frame[["x", "y"]].fillna(frame.groupby("city")[["x", "y"]].transform(how))
    assert (own["x"], own["y"]) == (expected["x"].tolist(), expected["y"].tolist())


def test_a_group_without_a_cell_of_its_own_takes_that_of_all_rows():
    columns = {"g": ["a", "a", "b", None], "x": [1, 3, None, None], "t": ["u", None, None, "v"]}
    assert after(fillgroup, columns, group="g") == {
        "g": ["a", "a", "b", None],
        "x": [1, 3, 2, 2],
        "t": ["u", "u", "u", "v"],
    }
    step = fillgroup(train(columns), group="g")
    later = pa.record_batch([pa.array(["a", "zz"]), pa.array([None, None], pa.int64())], ["g", "x"])
    assert fillgroup(train({"g": ["a", "a"], "x": [5, None]}), group="g").apply(later).column("x").to_pylist() == [5, 5]
    assert step is not None


# ---- near-duplicates ----

WORDS = [f"词{n}" for n in range(3000)]


def documents(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return ["".join(WORDS[at] for at in draw.integers(0, len(WORDS), 60)) for _ in range(count)]


def test_planted_copies_of_texts_are_found_and_nothing_else():
    texts = documents(400)
    changed = [text.replace(text[40:43], "改", 1) for text in texts[:100]]
    found = after(neartext, {"text": [*texts, None, *changed, None]}, threshold=0.8)["text"]
    assert found == [*texts, None, None]


@given(st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_minhash_estimates_the_overlap(shared):
    one, two = np.arange(100, dtype=np.uint64), np.arange(shared, shared + 100, dtype=np.uint64)
    jaccard = len(np.intersect1d(one, two)) / len(np.union1d(one, two))
    mixed = [np.unique(shingles("".join(chr(0x4E00 + int(n)) for n in half), 1)) for half in (one, two)]
    assert abs(np.mean(minhash(mixed[0]) == minhash(mixed[1])) - jaccard) < 4.5 * 0.5 / np.sqrt(128)


def test_a_text_s_runs_do_not_depend_on_where_they_stand():
    assert set(shingles("abc", 2)) <= set(shingles("雪abc雪", 2))
    assert not set(shingles("abc", 2)) & set(shingles("cba", 2))
    assert len(shingles("abab", 2)) == 2
    assert len(shingles("", 4)) == len(shingles("a", 4)) == 1
    assert shingles("a", 4) != shingles("b", 4)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_found_with_95_percent(threshold):
    rows = rows_of_a_band(threshold)
    assert (1 - threshold**rows) ** (128 // rows) <= 0.05
    assert threshold == 0.3 or rows > 1


def photo(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC))


def test_copies_of_images_are_found_in_other_sizes_and_as_jpeg():
    originals = [photo(seed) for seed in range(30)]
    cells = [encode(image) for image in originals]
    for image in originals[:10]:
        out = io.BytesIO()
        Image.fromarray(image).resize((60, 45)).save(out, "JPEG", quality=70)
        cells.append(out.getvalue())
    table = pa.table([pa.array([*cells, None])], pa.schema([image_field("image")]))
    assert after(nearimage, table, distance=6)["image"] == [*cells[:30], None]


def test_a_perceptual_hash_is_64_bits_of_low_frequencies():
    large = photo(0).repeat(3, 0).repeat(3, 1)
    assert (perceptual_hash(photo(0)) ^ perceptual_hash(large)).bit_count() <= 2
    assert perceptual_hash(large) < 2**64
    others = [perceptual_hash(photo(seed)) for seed in range(40)]
    distances = [(a ^ b).bit_count() for at, a in enumerate(others) for b in others[:at]]
    assert 28 < np.mean(distances) < 36


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12), st.integers(0, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_images_within_the_distance_are_found_as_by_comparing_all(hashes, distance, data):
    hashes = [h ^ (1 << data.draw(st.integers(0, 63))) if data.draw(st.booleans()) else h for h in hashes + hashes]
    expected: list[int] = []
    for own in hashes:
        if not any((own ^ other).bit_count() <= distance for other in expected):
            expected.append(own)
    table = pa.table({"image": images(np.zeros((len(hashes), 2, 2), np.uint8)), "n": pa.array(hashes, pa.uint64())})
    with pytest.MonkeyPatch.context() as patch:
        turn = iter(hashes)
        patch.setattr("genreg_data.near.perceptual_hash", lambda image: next(turn))
        assert after(nearimage, table, distance=distance)["n"] == expected


# ---- what is refused ----


@pytest.mark.parametrize(
    ("fit", "knobs", "message"),
    [
        (scrub, {"cleaners": ["htm"]}, r"scrub: cleaners=htm: there is no such cleaner; did you mean html\?$"),
        (scrub, {"cleaners": [], "empty": "x"}, "scrub: empty=x: write null or keep$"),
        (scrub, {"cleaners": [], "columns": ["n"]}, "scrub: column n holds int64, not text$"),
        (scrub, {"cleaners": [], "columns": ["m"]}, "scrub: columns m: the data has no column m"),
        (replace, {"pattern": "("}, r"replace: pattern=\( is no regular expression: missing \)"),
        (match, {"column": "t", "pattern": "("}, r"match: pattern=\( is no regular expression: "),
        (match, {"column": "n", "pattern": "a"}, "match: column n holds int64, not text$"),
        (within, {"column": "n"}, "within: give low=…, high=… or both$"),
        (within, {"column": "n", "low": "a"}, "within: a is not a int64, which column n holds$"),
        (
            within,
            {"column": "t", "low": "a"},
            "within: column t holds string, and a range is of numbers, dates or times$",
        ),
        (length, {"column": "n"}, "length: column n holds int64, and text and lists have a length$"),
        (imagesize, {}, "imagesize: the data has no images$"),
        (imagesize, {"column": "t"}, "imagesize: column t holds string, not images$"),
        (fillgroup, {"group": "t", "columns": ["empty"]}, "column empty has no value to fill from: "),
        (neartext, {"threshold": 1.5}, "neartext: threshold=1.5,size=4: above 0, at most 1; 1 or more$"),
        (neartext, {}, "neartext: name one of t, u: column=t$"),
        (nearimage, {"distance": 40}, "nearimage: distance=40: write 0 to 31 of 64 bits$"),
        (nearimage, {}, "nearimage: the data has no images$"),
    ],
)
def test_what_is_asked_wrong_is_refused(fit, knobs, message):
    columns = {"t": ["a"], "u": ["b"], "n": [1], "empty": pa.nulls(1, pa.float64())}
    with pytest.raises((UsageError, DataError), match=message) as error:
        fit(train(columns), **knobs)
    assert isinstance(error.value, (UsageError, DataError))
