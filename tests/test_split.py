"""A row's part follows from its content, whatever the order, batch size or file format; equal rows stay together."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg import data
from genreg.data import PARTS, Source, assign_parts, parse_split, row_hashes
from genreg.delimited import csv
from genreg.errors import UsageError

SHARES = parse_split("70/15/15")


def table(rows: int = 200, seed: int = 0) -> pa.Table:
    """Distinct rows with a label of three unequal classes, a key and a group."""
    draw = np.random.default_rng(seed)
    columns = {
        "key": [f"k{seed}-{i}" for i in range(rows)],
        "x": draw.normal(size=rows).tolist(),
        "count": draw.integers(0, 9, rows).tolist(),
        "label": draw.choice(["a", "b", None], rows, p=[0.6, 0.3, 0.1]).tolist(),
        "group": draw.integers(0, 40, rows).tolist(),
    }
    return pa.table(columns)


def parts(rows: pa.Table, seed: int = 1, shares=SHARES, **roles) -> np.ndarray:
    return assign_parts(Source.of(rows), shares, seed=seed, **roles)


def by_key(rows: pa.Table, found: np.ndarray) -> dict[str, int]:
    return dict(zip(rows["key"].to_pylist(), found.tolist(), strict=True))


RULES = [{}, {"label": "label"}, {"key": "key"}, {"key": "key", "label": "label"}, {"group": "group", "label": "label"}]
every_rule = pytest.mark.parametrize("roles", RULES, ids=lambda roles: "-".join(roles) or "rows")


@pytest.fixture
def exact_below(monkeypatch, request):
    monkeypatch.setattr(data, "EXACT_SHARES_BELOW", request.param)


sides = pytest.mark.parametrize("exact_below", [100_000, 0], ids=["ranked", "threshold"], indirect=True)


@sides
@every_rule
def test_order_and_batches_move_no_row(roles, exact_below):
    rows = table()
    expected = by_key(rows, parts(rows, **roles))
    shuffled = rows.take(np.random.default_rng(5).permutation(len(rows)))
    assert by_key(shuffled, parts(shuffled, **roles)) == expected
    assert by_key(rows, parts(rows.select(["x", "label", "group", "key", "count"]), **roles)) == expected
    small = Source(rows.schema, lambda size: iter(rows.to_batches(max_chunksize=7)), None)
    assert by_key(rows, assign_parts(small, SHARES, seed=1, **roles)) == expected


@sides
@every_rule
def test_duplicates_share_a_part(roles, exact_below):
    rows = table(60)
    twice = pa.concat_tables([rows, rows.slice(0, 30), rows.slice(0, 10)])
    found = parts(twice, **roles)
    assert found[60:90].tolist() == found[:30].tolist()
    assert found[90:].tolist() == found[:10].tolist()


@sides
def test_a_group_or_key_never_straddles_whatever_its_labels(exact_below):
    rows = table(500)
    for role in ("group", "key"):
        named = rows.set_column(0, "key", rows["group"].cast(pa.string())) if role == "key" else rows
        found = parts(named, **{role: role}, label="label")
        of_group: dict = {}
        for unit, part in zip(rows["group"].to_pylist(), found, strict=True):
            of_group.setdefault(unit, set()).add(int(part))
        assert all(len(one) == 1 for one in of_group.values())
        assert set(found.tolist()) == {0, 1, 2}


@sides
def test_another_seed_is_another_split(exact_below):
    rows = table(300)
    found = np.array([parts(rows, seed=seed) for seed in range(20)])
    assert len({row.tobytes() for row in found}) == 20
    assert abs((found[0] == found[1]).mean() - (0.7**2 + 2 * 0.15**2)) < 0.1  # as independent splits would agree


# ---- one spelling per value ----


def hashes(values, kind: pa.DataType | None = None) -> list[int]:
    column = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return row_hashes(pa.RecordBatch.from_arrays([column], names=["x"]), ["x"], 0).tolist()


MOMENT = datetime.datetime(2020, 5, 17, 12, 30, 10, 500_000)
MIDNIGHT = datetime.datetime(2020, 5, 17)
SAME = {
    "whole numbers": [
        hashes([5, 0, -3, None], kind)
        for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(9, 2))
    ],
    "numbers beyond 2^63": [hashes([2**63], pa.uint64()), hashes([2.0**63]), hashes([Decimal(2**63)])],
    "minus zero": [hashes([0.0]), hashes([-0.0]), hashes([0])],
    "fractions": [hashes([0.1, 1.5, 1e-5, 1.1e10], kind) for kind in (pa.float32(), pa.float64())],
    "decimals": [hashes([Decimal("1.50"), None]), hashes([1.5, None]), hashes([Decimal("1.5"), None])],
    "text": [hashes(["a", "é", None], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())],
    "categories": [hashes(["a", "b", None]), hashes(pa.array(["a", "b", None]).dictionary_encode())],
    "numbers as categories": [hashes([0.1, 2.0]), hashes(pa.array([0.1, 2.0], pa.float32()).dictionary_encode())],
    "bytes": [hashes([b"\xff", None], kind) for kind in (pa.binary(), pa.large_binary())],
    "moments": [hashes([MOMENT, None], pa.timestamp(unit)) for unit in ("ms", "us", "ns")],
    "whole moments": [hashes([MOMENT.replace(microsecond=0)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")],
    "zones": [
        hashes(pa.array([MOMENT], pa.timestamp("us")).cast(pa.timestamp("us", zone)))
        for zone in ("UTC", "Asia/Tokyo", "+02:00")
    ],
    "dates": [hashes([MIDNIGHT], kind) for kind in (pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns"))],
    "times": [hashes([datetime.time(12, 0, 10)], kind) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("ns"))],
    "lists": [
        hashes([[0.1, None], [], None], kind)
        for kind in (pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float64()))
    ],
    "lists of whole numbers": [hashes([[1, 2]]), hashes([[1.0, 2.0]]), hashes([[1, 2]], pa.list_(pa.int8(), 2))],
    "records": [hashes([{"a": 1, "b": None}]), hashes([{"b": None, "a": 1.0}])],
}


@pytest.mark.parametrize("spellings", SAME.values(), ids=SAME)
def test_a_value_is_the_same_in_whatever_type_it_is_held(spellings):
    assert all(found == spellings[0] for found in spellings)


def test_different_values_are_told_apart():
    values = [
        "",
        "None",
        "null",
        "a",
        "A",
        "a ",
        "05",
        "5",
        b"5",
        [],
        [None],
        ["None"],
        [["a"]],
        ["a", "b"],
        ["a,b"],
        None,
    ]
    found = [hashes([value])[0] for value in values]
    assert len(set(found)) == len(values)
    ns = hashes(pa.array([0, 1, 10, 1000, 86_400 * 10**9], pa.timestamp("ns")))
    assert len(set(ns)) == 5
    numbers = hashes([0.1, 0.1 + 2**-55, 1e-300, 1e300, float("nan"), float("inf"), None, 2.0**70, 0.0])
    assert len(set(numbers)) == 9
    assert hashes([2**53 + 1]) != hashes([2**53])


def test_cells_do_not_run_into_each_other():
    batch = pa.RecordBatch.from_pydict({"a": ["x", "xy", "x', 'y", ""], "b": ["yz", "z", "", "xyz"]})
    assert len(set(row_hashes(batch, ["a", "b"], 0).tolist())) == 4
    assert row_hashes(batch, ["a", "b"], 0).tolist() == row_hashes(batch, ["b", "a"], 0).tolist()
    assert row_hashes(batch, ["a"], 0).tolist() != row_hashes(batch, ["a"], 1).tolist()


def test_known_hashes_do_not_change():
    """A checkpoint records its split's seed alone: if a hash moves, its test rows become training rows."""
    batch = pa.RecordBatch.from_pydict({"b": ["é", None], "a": [5.0, 0.5]})
    assert [f"{found:016x}" for found in row_hashes(batch, ["b", "a"], 42)] == ["6ca732d81e3600dc", "aa3883502a7f4a86"]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.none(), min_size=1, max_size=5))
@settings(deadline=None)
def test_float32_falls_where_its_text_read_as_float64_does(values):
    narrow = pa.array(values, pa.float32())
    assert hashes(narrow) == hashes(narrow.cast(pa.string()).cast(pa.float64()))


def test_a_file_falls_in_the_same_parts_in_every_format(tmp_path):
    rows = table(120).append_column("day", pa.array([MIDNIGHT + datetime.timedelta(days=i) for i in range(120)]))
    rows = rows.append_column("wide", rows["x"].cast(pa.float32())).append_column("flag", pa.array([True, False] * 60))
    narrow = rows.set_column(2, "count", rows["count"].cast(pa.int8()))
    narrow = narrow.set_column(3, "label", narrow["label"].dictionary_encode())
    text = tmp_path / "rows.csv"
    lines = [",".join(rows.column_names)]
    for row in rows.to_pylist():
        row["wide"] = str(np.float32(row["wide"]))
        row["day"] = row["day"].date()
        lines.append(",".join("" if value is None else str(value) for value in row.values()))
    text.write_text("\n".join(lines) + "\n")
    read = csv(text)
    for roles in RULES:
        expected = parts(rows, **roles).tolist()
        assert parts(narrow, **roles).tolist() == expected
        assert assign_parts(read, SHARES, seed=1, **roles).tolist() == expected


# ---- shares ----


@pytest.mark.parametrize("rows", [3, 20, 150, 1000])
@pytest.mark.parametrize("split", ["70/15/15", "80/20", "1/1/1", "100", "90/0/10"])
def test_shares_of_distinct_rows_are_exact_to_one_row(rows, split):
    shares = parse_split(split)
    for seed in range(5):
        counts = np.bincount(parts(table(rows), seed, shares), minlength=3)
        for count, part in zip(counts, PARTS, strict=True):
            assert abs(count - shares.get(part, 0) * rows) <= 1
            assert shares.get(part, 0) or not count


@pytest.mark.parametrize("roles", [{"label": "label"}, {"label": "label", "key": "key"}], ids=str)
def test_each_class_has_its_shares(roles):
    rows = table(300)
    found = parts(rows, **roles)
    labels = np.array([str(label) for label in rows["label"].to_pylist()])
    for label in ("a", "b", "None"):
        of_class = found[labels == label]
        for at, part in enumerate(PARTS):
            assert abs((of_class == at).sum() - SHARES[part] * len(of_class)) <= 1


def test_shares_are_exact_to_one_group_of_duplicates():
    sizes = np.random.default_rng(3).integers(1, 9, 80)
    rows = pa.table({"x": np.repeat(np.arange(80), sizes)})
    for seed in range(10):
        counts = np.bincount(parts(rows, seed), minlength=3)
        for count, part in zip(counts, PARTS, strict=True):
            assert abs(count - SHARES[part] * len(rows)) <= sizes.max()


def test_shares_by_group_are_exact_to_one_group_whatever_the_labels():
    rows = table(400)
    largest = np.bincount(rows["group"].to_numpy()).max()
    for seed in range(20):
        counts = np.bincount(parts(rows, seed, group="group", label="label"), minlength=3)
        for count, part in zip(counts, PARTS, strict=True):
            assert abs(count - SHARES[part] * len(rows)) <= largest
    assert parts(rows, group="group", label="label").tolist() == parts(rows, group="group").tolist()


def test_nothing_and_one_row_have_parts():
    assert parts(table(0)).tolist() == []
    assert parts(table(0), label="label").dtype == np.int8
    assert parts(table(1)).tolist() == [0]


# ---- the threshold ----


def test_above_the_threshold_more_rows_move_no_row(monkeypatch):
    monkeypatch.setattr(data, "EXACT_SHARES_BELOW", 100)
    rows = table(400)
    few, many = rows.slice(0, 100), pa.concat_tables([table(50, seed=9), rows])
    expected = by_key(rows, parts(rows))
    assert by_key(few, parts(few)).items() <= expected.items()
    assert expected.items() <= by_key(many, parts(many)).items()
    below = rows.slice(0, 99)  # by rank: more rows may move some
    assert not by_key(below, parts(below)).items() <= expected.items()


def test_above_the_threshold_shares_are_those_of_chance(monkeypatch):
    monkeypatch.setattr(data, "EXACT_SHARES_BELOW", 0)
    rows = pa.table({"x": np.arange(20_000)})
    counts = np.bincount(parts(rows), minlength=3) / 20_000
    assert counts == pytest.approx([0.7, 0.15, 0.15], abs=0.015)


def test_a_hundred_thousand_rows_are_many(monkeypatch):
    assert data.EXACT_SHARES_BELOW == 100_000
    monkeypatch.setattr(data, "row_hashes", lambda batch, *_: np.zeros(batch.num_rows, np.uint64))
    same = pa.table({"x": np.zeros(100_000, np.int8)})
    assert not parts(same).any()  # by threshold the lowest hash is train; by rank the middle of one unit
    assert not parts(same, shares=parse_split("40/60")).any()
    assert parts(same.slice(1), shares=parse_split("40/60")).all()


@pytest.mark.parametrize("split", ["100", "80/20", "1/2", "0.1/0.7", "70/15/15"])
def test_the_highest_hash_falls_in_the_last_part_that_has_a_share(split, monkeypatch):
    monkeypatch.setattr(data, "EXACT_SHARES_BELOW", 0)
    monkeypatch.setattr(data, "row_hashes", lambda batch, *_: np.full(batch.num_rows, 2**64 - 1, np.uint64))
    assert parts(pa.table({"x": [1]}), shares=parse_split(split)).tolist() == [split.count("/")]


# ---- what the user writes ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("70/15/15", {"train": 0.7, "validation": 0.15, "test": 0.15}),
        ("80/20", {"train": 0.8, "validation": 0.2}),
        ("1", {"train": 1}),
        (" 3 / 1 ", {"train": 0.75, "validation": 0.25}),
        ("0.5/0/0.5", {"train": 0.5, "validation": 0, "test": 0.5}),
    ],
)
def test_a_split_is_read_as_shares(text, expected):
    assert parse_split(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "a/b", "70/15/10/5", "0/100", "-1/2", "70/-1", "nan/1", "inf/1", "1//1", "70 15"])
def test_a_wrong_split_says_what_to_write(text):
    with pytest.raises(UsageError) as raised:
        parse_split(text)
    assert str(raised.value) == f"--split {text}: write the shares of train, validation and test, such as 70/15/15"


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=3).filter(lambda shares: shares[0] > 0))
@settings(deadline=None)
def test_shares_are_proportions_of_one(shares):
    found = parse_split("/".join(map(str, shares)))
    assert list(found) == list(PARTS[: len(shares)])
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == pytest.approx([share / sum(shares) for share in shares])
