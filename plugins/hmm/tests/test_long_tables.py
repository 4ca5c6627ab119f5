"""Long tables: trained from with --sequence-by, written back, filled in, and scored."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import genreg
from genreg.cli import main
from genreg.data import notes


@pytest.fixture
def call(capfd):
    """What genreg prints: stdout, or where it fails, stderr."""

    def call(*words, code=0):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, err
        return err if code else out

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of steps in no order, and a model of it."""
    folder, draw = tmp_path_factory.mktemp("long"), np.random.default_rng(0)
    steps = [(f"p{who}", at) for who in range(12) for at in range(int(draw.integers(3, 9)))]
    draw.shuffle(steps)
    lines = [f"{20 + draw.normal():.1f},{who},{draw.poisson(5)},{'ab'[int(at) % 2]}" for who, at in steps]
    (folder / "steps.csv").write_text("temp,patient,beats,mood\n" + "\n".join(lines) + "\n")
    genreg.train("hmm", folder / "steps.csv", out=folder / "m", sequence_by="patient", settings={"states": 2})
    return folder


def test_a_model_of_a_long_table_writes_long_tables(call, trained, tmp_path):
    steps = pyarrow.csv.read_csv(trained / "steps.csv")
    for suffix, read in ((".csv", pyarrow.csv.read_csv), (".parquet", pyarrow.parquet.read_table)):
        call("run", trained / "m", "-n", 3, "--seed", 5, "--given", "length=4", "-o", tmp_path / f"o{suffix}")
        made = read(tmp_path / f"o{suffix}")
        assert made.schema.names == steps.schema.names
        if suffix == ".parquet":
            assert made.schema.types == steps.schema.types
        assert [str(name) for name in made["patient"].to_pylist()] == ["5"] * 4 + ["6"] * 4 + ["7"] * 4
        assert made["temp"].to_pylist() == [round(x, 1) for x in made["temp"].to_pylist()]


def test_sequences_never_straddle_the_split_and_their_name_is_not_learned(trained):
    model = genreg.load(trained / "m")
    assert model.form.schema.names == ["temp", "beats", "mood"]
    assert model.checkpoint.split["by"] == "patient"
    assert model.checkpoint.training["rows"]["train"] == 8
    assert notes(model.form.schema.field("temp"))["sequence_by"] == {
        "column": "patient", "type": "string", "behind": False
    }  # fmt: skip


def test_a_long_table_is_the_same_whatever_the_windows_shards_and_resumption(call, trained, tmp_path, monkeypatch):
    how = ("--seed", 5, "-n", 9, "--given", "length=4", "-o")
    call("run", trained / "m", *how, tmp_path / "whole.csv")
    monkeypatch.setattr("genreg.windows.WINDOW_BYTES", 3000)
    call("run", trained / "m", *how, tmp_path / "windows.csv")
    for shard in ("1/2", "2/2"):
        call("run", trained / "m", "--shard", shard, *how, tmp_path / f"{shard[0]}.csv")
    call("concat", tmp_path / "1.csv", tmp_path / "2.csv", "-o", tmp_path / "joined.csv")
    whole = (tmp_path / "whole.csv").read_bytes()
    assert whole == (tmp_path / "windows.csv").read_bytes() == (tmp_path / "joined.csv").read_bytes()


def test_python_keeps_a_row_per_sample_and_saves_steps(trained, tmp_path):
    samples = genreg.load(trained / "m").sample(2, seed=3, length=2)
    assert len(samples) == 2
    samples.save(tmp_path / "o.jsonl")
    made = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["patient"] for row in made] == ["3", "3", "4", "4"]
    assert next(iter(made[0])) == "temp"


def test_a_given_long_table_is_gathered_its_gaps_filled_and_its_names_kept(call, trained, tmp_path):
    path = tmp_path / "given.csv"
    path.write_text("patient,temp,beats,mood\nzoe,,3,a\neve,19.5,2,b\nzoe,20.5,4,b\n")
    rows = [json.loads(line) for line in call("run", trained / "m", "--given", path, "--json").splitlines()]
    assert [(row["patient"], row["beats"], row["mood"]) for row in rows] == [
        ("zoe", 3, "a"), ("zoe", 4, "b"), ("eve", 2, "b")
    ]  # fmt: skip
    assert rows[0]["temp"] is not None
    assert [row["temp"] for row in rows[1:]] == [20.5, 19.5]
    lines = call("run", trained / "m", "--given", path, "-n", 2, "--seed", 1, "-o", "-").splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == list("112234")


def test_scores_of_a_long_table_are_one_per_sequence(call, trained):
    lines = call("score", trained / "m", "--data", trained / "steps.csv", "--json").splitlines()
    assert len(lines) == 12
    assert {json.loads(line)["patient"] for line in lines} == {f"p{who}" for who in range(12)}


def test_a_label_that_varies_within_a_sequence_is_refused_on_the_command_line(call, trained, tmp_path):
    how = ("train", "hmm", "--data", trained / "steps.csv", "-o", tmp_path / "x", "--sequence-by", "patient")
    assert "column mood varies within the sequence" in call(*how, "--label", "mood", code=2)


def test_show_tells_the_state_graph(call):
    told = call("show", "hmm-casino")
    assert "inside:\n  start -> state 0 " in told
    assert "  state 1\n    -> itself 0.9, state 0 0.1\n" in told
    assert "0.5" in next(line for line in told.partition("  state 1\n")[2].splitlines() if "6" in line)
    assert json.loads(call("show", "hmm-casino", "--json"))["inside"][1] == "state 0"
