"""Fingerprints: equal rows share one, different rows do not; and what was there before is known."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg import distinct
from genreg.distinct import Seen, fingerprints
from genreg.images import images

DAY = datetime.datetime(2020, 1, 1)
COLUMNS = {
    "int8": pa.array([1, -1, None, 0], pa.int8()),
    "uint64": pa.array([2**64 - 1, 2**63, None, 0], pa.uint64()),
    "float": pa.array([0.1, float("inf"), None, 0.0]),
    "half": pa.array(np.array([0.5, 1.5, 2.5, 0.0], np.float16)),
    "yes": pa.array([True, False, None], pa.bool_()),
    "day": pa.array([DAY.date(), None], pa.date32()),
    "time": pa.array([DAY, None, DAY + datetime.timedelta(microseconds=1)], pa.timestamp("us", "UTC")),
    "text": pa.array(["", None, "a", "a\0", "雪" * 3, "雪" * 400, "雪" * 399 + "x", "12345678", "123456789"]),
    "large": pa.array(["", None, "a"], pa.large_string()),
    "bytes": pa.array([b"", None, b"\0", b"\0\0"], pa.binary()),
    "category": pa.array(["a", None, "b"]).dictionary_encode(),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("1.11")], pa.decimal128(5, 2)),
    "list": pa.array([[1], [], None, [1, 1], [None]], pa.list_(pa.int64())),
    "image": images(np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_different_cells_have_different_fingerprints_and_equal_cells_the_same(name):
    column = COLUMNS[name]
    twice = pa.concat_arrays([column, column]) if name != "image" else column
    prints = fingerprints(pa.record_batch([twice], [name]), [name])
    assert len(set(prints.tolist())) == len(column)
    rows = len(column)
    np.testing.assert_array_equal(prints[-rows:], prints[:rows])
    for row in range(rows):  # whatever lies beside it, and where in its buffers a batch begins
        alone = fingerprints(pa.record_batch([column], [name]).slice(row, 1), [name])
        np.testing.assert_array_equal(alone, prints[row : row + 1])


def test_zeros_of_both_signs_are_equal_and_so_are_all_nan():
    odd = np.frombuffer(np.array([0x7FF8000000000001], np.uint64).tobytes(), np.float64)[0]
    prints = fingerprints(pa.record_batch([pa.array([0.0, -0.0, np.nan, odd, None], from_pandas=False)], ["x"]), ["x"])
    assert prints[0] == prints[1] != prints[2] == prints[3] != prints[4]


def test_where_one_text_ends_and_the_next_begins_matters():
    rows = pa.record_batch([pa.array(["ab", "a", "", "ab"]), pa.array(["", "b", "ab", None])], ["x", "y"])
    assert len(set(fingerprints(rows, ["x", "y"]).tolist())) == 4


def test_the_bits_of_a_fingerprint_look_like_chance():
    column = pa.array(np.arange(1 << 16))
    prints = fingerprints(pa.record_batch([column], ["x"]), ["x"])
    for half in (prints.real, prints.imag):
        bits = (half.astype(np.uint64)[:, None] >> np.arange(52, dtype=np.uint64)) & np.uint64(1)
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / 2**8


@given(st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=12), st.sampled_from([2, 8, 1000]))
@settings(max_examples=80, deadline=None)
def test_the_first_of_equal_rows_is_found_whatever_the_batches_and_the_runs(batches, run):
    before, seen = set(), Seen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct, "RUN", run)  # short runs lie in files
        for batch in batches:
            expected = [not (value in before or before.add(value)) for value in batch]
            found = seen.first(fingerprints(pa.record_batch([pa.array(batch, pa.int64())], ["x"]), ["x"]))
            assert found.tolist() == expected
