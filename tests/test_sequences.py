"""Long tables whose rows are steps: gathered into sequences, spread again, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from genreg import sequences
from genreg.data import noted, notes
from genreg.errors import DataError, PluginError, UsageError
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg.sequences import gathered, named_by, spread, spread_schema
from genreg.training import Roles, prepare


def long(**changes) -> pa.Table:
    """Two interleaved patients, the second one first."""
    columns = {"x": [1.5, 2.5, None, 4.5, 5.5], "who": ["b", "a", "b", "a", "b"], "n": [1, 2, 3, 4, 5]}
    return pa.table({**columns, **changes})


def rows(table, by="who", constant=()):
    """The gathered rows."""
    source = gathered(table, by, constant)
    return [row for batch in source.scan() for row in batch.to_pylist()]


def test_rows_of_one_sequence_are_gathered_wherever_they_stand_and_in_file_order():
    assert rows(long()) == [
        {"x": [1.5, None, 5.5], "who": "b", "n": [1, 3, 5]},
        {"x": [2.5, 4.5], "who": "a", "n": [2, 4]},
    ]


def test_a_large_table_is_gathered_a_few_sequences_at_a_time(monkeypatch):
    whole = rows(long())
    monkeypatch.setattr(sequences, "STEPS", 1)
    assert [batch.num_rows for batch in gathered(long(), "who").scan()] == [1, 1]
    assert rows(long()) == whole
    random = np.random.default_rng(0).integers(0, 50, 2000)
    table = pa.table({"who": random, "at": np.arange(2000)})
    monkeypatch.setattr(sequences, "STEPS", 100)
    for row in rows(table):
        assert row["at"] == np.flatnonzero(random == row["who"]).tolist()


def test_a_label_that_is_constant_within_a_sequence_stays_a_scalar():
    table = long(kind=["x", None, "x", None, "x"])
    assert [row["kind"] for row in rows(table, constant=["kind"])] == ["x", None]


def test_gathering_refuses_what_makes_no_sequences():
    with pytest.raises(DataError, match="--sequence-by wo: the data has no column wo; did you mean who"):
        gathered(long(), "wo")
    with pytest.raises(DataError, match="--sequence-by who: a row has no value, so nobody knows which sequence"):
        gathered(long(who=["a", None, "a", "a", "a"]), "who")
    with pytest.raises(DataError, match="--sequence-by who: 2 rows have no value"):
        gathered(long(who=[1.0, None, float("nan"), 1.0, 1.0]), "who")
    with pytest.raises(DataError, match="--sequence-by who: the data has no rows, so there are no sequences"):
        gathered(long().slice(0, 0), "who")
    with pytest.raises(DataError, match="--sequence-by who: the data has no other column"):
        gathered(long().select(["who"]), "who")
    with pytest.raises(DataError, match=r"the column holds list<.*>, which names no sequence"):
        gathered(long(who=[[1]] * 5), "who")
    with pytest.raises(DataError, match="column n varies within the sequence b of --sequence-by who"):
        gathered(long(), "who", ["n"])


def test_what_was_gathered_is_spread_in_the_order_and_types_of_the_data():
    table = long(kind=["x", "y", "x", "y", "x"], who=pa.array([1, 2, 1, 2, 1], pa.int32()))
    table = table.cast(pa.schema([noted(f, decimals=1) if f.name == "x" else f for f in table.schema]))
    source = gathered(table, "who", ["kind"])
    sampled = pa.Table.from_batches(list(source.scan())).drop_columns(["who"])
    assert named_by(sampled.schema) == "who"
    assert notes(sampled.schema.field("x")) == {
        "decimals": 1, "sequence_by": {"column": "who", "type": "int32", "behind": False}
    }  # fmt: skip
    made = pa.Table.from_batches(list(spread(sampled.to_batches(), sampled.schema, np.array([7, 8], np.uint64))))
    assert made.schema.equals(table.schema, check_metadata=True)
    assert made.to_pydict() == {
        "x": [1.5, None, 5.5, 2.5, 4.5], "who": [7, 7, 7, 8, 8], "n": [1, 3, 5, 2, 4], "kind": ["x"] * 3 + ["y"] * 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "most", "wanted"),
    [("string", 9, "string"), ("int8", 9, "int8"), ("int8", 300, "int64"), ("int64", 2**63, "uint64")],
)
def test_the_name_of_a_sample_has_the_type_of_the_data_where_it_fits(kind, most, wanted):
    field = noted(pa.field("x", pa.list_(pa.int64())), sequence_by={"column": "who", "type": kind, "behind": False})
    assert str(spread_schema(pa.schema([field]), np.array([most], np.uint64)).field("who").type) == wanted


def test_a_sample_without_steps_has_no_row_and_lists_of_unequal_length_are_refused():
    schema = pa.Table.from_batches(list(gathered(long(), "who").scan())).drop_columns(["who"]).schema
    batch = pa.RecordBatch.from_pylist([{"x": [], "n": []}, {"x": None, "n": None}, {"x": [1.0], "n": [1]}], schema)
    (made,) = spread([batch], schema, np.arange(3))
    assert made.to_pylist() == [{"x": 1.0, "who": "2", "n": 1}]
    batch = pa.RecordBatch.from_pylist([{"x": [], "n": [1]}], schema)
    with pytest.raises(PluginError, match="lists of unequal length in one row, which a long table cannot hold"):
        list(spread([batch], schema, np.arange(1)))


def test_roles_that_contradict_sequences_are_refused(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("who,x\na,1\na,2\n")
    with pytest.raises(UsageError, match="--key x: --sequence-by who names the sequences already: leave out --key"):
        prepare("nb", path, tmp_path, roles=Roles(key="x", sequence_by="who"))
    with pytest.raises(UsageError, match=r"--label who names the sequences \(--sequence-by\): name another column"):
        prepare("nb", path, tmp_path, roles=Roles(label="who", sequence_by="who"))
    with pytest.raises(DataError, match="--group y: the data has no column y"):
        prepare("nb", path, tmp_path, roles=Roles(group="y", sequence_by="who"))


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        ("line", ["one", "two", "", " ", "three"]),
        ("paragraph", ["one\ntwo", "three"]),
        ("file", ["one\ntwo\n\n \nthree"]),
    ],
)
def test_text_is_read_by_line_paragraph_or_file(tmp_path, by, wanted):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \nthree\n")
    source = open_source(tmp_path / "a.txt", load_plugins().loaders, f"txt:by={by}")
    assert [row["text"] for batch in source.scan() for row in batch.to_pylist()] == wanted
    assert source.rows == len(wanted)


def test_text_by_what_is_not_known_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(UsageError, match="by"):
        open_source(tmp_path / "a.txt", load_plugins().loaders, "txt:by=page")
