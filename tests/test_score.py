"""Scores: log p in the data's units, what is inferred, and what is told of data that does not fit."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import toys

import genreg
from genreg.api import LoadedModel
from genreg.errors import GenregError
from genreg.form import Form
from genreg.plugins import load_plugins
from genreg.preprocess import Categories, Chain, Standardize, Step

WIDTH = "petal width (cm)"


@pytest.fixture(scope="module")
def iris() -> genreg.LoadedModel:
    return genreg.load("nb-iris")


@pytest.fixture(scope="module")
def rows(iris) -> pa.Table:
    return iris.sample(200, seed=3).table


def toy(name: str, *maps: object, columns: pa.Schema | None = None) -> LoadedModel:
    family = toys.FAMILIES[name]
    own = family.columns(toys.Nothing())
    form = Form(
        columns or own, own, family.conditions(toys.Nothing()), Chain(tuple(Step("map", "toys", one) for one in maps))
    )
    return LoadedModel(name, family, None, family.load(toys.Nothing(), toys.Remote(), None), form, load_plugins())


WEATHER = pa.schema([("temperature", pa.float64()), ("outcome", pa.string()), ("station", pa.int64())])
DATA = pa.table({"day": [1, 2, 3], "temperature": [9.0, 21.0, None], "outcome": ["rain", None, "dry"]})


def skies(*maps: object) -> LoadedModel:
    return toy("weather", Categories({"outcome": toys.SKIES}), *maps, columns=WEATHER)


# ---- what is scored ----


def test_log_p_is_that_of_the_data_and_the_labels_are_inferred(iris, rows):
    scores = iris.score(rows)
    assert scores.table.schema.names == ["log_prob", "species", "p(setosa)", "p(versicolor)", "p(virginica)"]
    codes = [["setosa", "versicolor", "virginica"].index(name) for name in rows["species"].to_pylist()]
    mapped = rows.set_column(4, "species", pa.array(codes, pa.int32())).combine_chunks().to_batches()[0]
    density = iris.model.log_prob(mapped, np.zeros(200, np.uint64))
    assert np.array_equal(scores.table["log_prob"].to_numpy(), density)
    assert scores.summary["mean_log_prob"] == pytest.approx(density.mean(), rel=1e-12)
    right = sum(a == b for a, b in zip(rows["species"].to_pylist(), scores.table["species"].to_pylist(), strict=True))
    assert scores.summary == {
        "rows": 200,
        "mean_log_prob": scores.summary["mean_log_prob"],
        "impossible": 0,
        "accuracy": right / 200,
    }
    assert scores.summary["accuracy"] > 0.9
    p = np.stack([scores.table[f"p({name})"].to_numpy() for name in ("setosa", "versicolor", "virginica")])
    assert np.allclose(p.sum(0), 1)


def test_units_are_the_datas_whatever_the_maps():
    plain = skies().score(DATA)
    mapped = skies(Standardize(("temperature",), np.array([0.0]), np.array([1.0]))).score(DATA)
    assert mapped.table.equals(plain.table)
    log_p = plain.table["log_prob"].to_pylist()
    expected = [np.log(0.3) - 0.5 / 9 - np.log(3 * np.sqrt(2 * np.pi)), None, np.log(0.7)]
    assert log_p[0] == pytest.approx(expected[0], rel=1e-12)
    assert log_p[2] == pytest.approx(expected[2], rel=1e-12)  # a missing cell is integrated out
    half = skies(Standardize(("temperature",), np.array([0.0]), np.array([2.0])))
    # the same model of half degrees is another density of degrees: log p differs by the map's log |Jacobian|
    assert half.score(pa.table({"temperature": [18.0]})).table["log_prob"][0].as_py() == pytest.approx(
        plain_density(9.0) - np.log(2), rel=1e-12
    )


def plain_density(temperature: float) -> float:
    return skies().score(pa.table({"temperature": [temperature]})).table["log_prob"][0].as_py()


def test_a_family_without_labels_scores_or_infers_what_it_can():
    melody = toy("melody")
    scores = melody.score(pa.table({"tokens": [["la", "li"], ["la"], None]}))
    assert scores.table.schema.names == ["log_prob", "p(1)"]
    assert [len(p) for p in scores.table["p(1)"].to_pylist()] == [2, 1, 0]
    assert set(scores.summary) == {"rows", "mean_log_prob", "impossible"}
    for name in ("oracle", "petals"):
        with pytest.raises(GenregError, match=r"^this family can neither score rows nor infer what they came from$"):
            toy(name).score(DATA)


def test_scores_do_not_depend_on_the_batches(iris, rows, tmp_path):
    many = pa.concat_tables([rows] * 60)  # 12,000 rows: three batches
    scores = iris.score(many)
    assert scores.table.slice(8000, 200).combine_chunks().equals(iris.score(rows).table.combine_chunks())
    assert scores.summary["rows"] == 12_000
    assert scores.summary["accuracy"] == pytest.approx(iris.score(rows).summary["accuracy"])


def test_python_takes_what_sample_makes_a_file_and_pandas(iris, rows, tmp_path):
    expected = iris.score(rows).table
    samples = iris.sample(200, seed=3)
    samples.save(tmp_path / "x.parquet")
    for data in (samples.table, tmp_path / "x.parquet", str(tmp_path / "x.parquet"), samples.to_pandas()):
        assert iris.score(data).table.equals(expected)
    scores = iris.score(rows)
    assert (len(scores), scores.seeds[-1]) == (200, 199)
    scores.save(tmp_path / "scores.csv")
    assert repr(scores).startswith("           log_prob  species")
    with pytest.raises(GenregError, match=r"^data takes a table or a file, not int$"):
        iris.score(3)


def test_the_key_lies_beside_the_scores_and_keeps_its_name(iris, rows):
    keyed = rows.append_column("id", pa.array([f"r{i}" for i in range(200)]))
    assert iris.score(keyed, key="id").table["id"].to_pylist() == keyed["id"].to_pylist()
    table = iris.score(rows, key="species").table
    assert table.schema.names[:3] == ["species", "log_prob", "@species"]
    assert table["species"].to_pylist() == rows["species"].to_pylist()
    renamed = rows.append_column("log_prob", pa.array(range(200)))
    assert iris.score(renamed, key="log_prob").table.schema.names[:2] == ["log_prob", "@log_prob"]


def test_a_value_that_training_did_not_see_is_counted_and_told(iris, rows):
    data = rows.slice(0, 3).set_column(4, "species", pa.array(["tulip", "setosa", None]))
    scorer = iris.scorer(data)
    table = pa.Table.from_batches(list(scorer.batches()))
    assert table["log_prob"].to_pylist()[0] == -np.inf  # a class of which there was no row is impossible
    assert scorer.surprises() == ["species=tulip was not seen in training (rows: 1)"]
    summary = scorer.summary()
    assert (summary["rows"], summary["impossible"]) == (3, 1)
    assert summary["accuracy"] in (0.0, 0.5)  # of the two labels known, tulip is wrong
    assert np.isfinite(summary["mean_log_prob"])
    many = iris.scorer(pa.table({"species": [f"s{i % 7}" for i in range(70)]}))
    list(many.batches())
    assert many.surprises()[-1] == "and 4 more such values"
    assert many.summary()["mean_log_prob"] is None


# ---- on the command line ----


@pytest.fixture
def desk(tmp_path, rows, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    genreg.Samples(rows.append_column("id", pa.array(range(200))), np.arange(200)).save("i.csv")
    files = {
        "typo.csv": "species,petal widht (cm)\nsetosa,0.2\n", "none.csv": "a,b\n1,2\n", "empty.csv": "species\n",
        "words.csv": f"{WIDTH}\n0.2\nwide\n", "nan.csv": f"{WIDTH}\n0.2\n\n0.3\nnan\n", "tulip.csv": f"species,{WIDTH}\ntulip,1\nsetosa,0.2\n",
    }  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text)
    return tmp_path


def test_scores_go_into_a_file_and_the_summary_to_stderr(genreg, desk):
    done = genreg("score", "nb-iris", "--data", "i.csv", "--key", "id", "-o", "s.csv")
    assert (done.code, done.out) == (0, "")
    with Path("s.csv").open(newline="") as file:
        made = list(csv.DictReader(file))
    assert list(made[0]) == ["id", "log_prob", "species", "p(setosa)", "p(versicolor)", "p(virginica)"]
    assert [int(row["id"]) for row in made] == list(range(200))
    mean = sum(float(row["log_prob"]) for row in made) / 200
    assert done.line.startswith(f"wrote s.csv: 200 rows, mean log p {mean:.6g}, accuracy 0.9")
    told = json.loads(genreg("score", "nb-iris", "--data", "i.csv", "-o", "s.csv", "--force", "--json").out)
    assert told == {
        "output": "s.csv",
        "rows": 200,
        "mean_log_prob": pytest.approx(mean),
        "impossible": 0,
        "accuracy": told["accuracy"],
    }
    assert "is there already" in genreg("score", "nb-iris", "--data", "i.csv", "-o", "s.csv").line


def test_without_a_file_scores_are_printed(genreg, desk):
    done = genreg("score", "nb-iris", "--data", "i.csv", "--loader", "csv:null=NA")
    assert done.out.startswith("log_prob,species,p(setosa),p(versicolor),p(virginica)\n")
    assert done.out.count("\n") == 201
    assert done.err.splitlines()[0] == "genreg: not used: id"
    assert done.err.splitlines()[1].startswith("genreg: 200 rows, mean log p ")
    done = genreg("score", "nb-iris", "--data", "tulip.csv", "--json")
    first, second = map(json.loads, done.out.splitlines())
    assert (first["log_prob"], second["species"]) == (None, "setosa")  # JSON has no infinity
    assert "genreg: missing, and summed out: sepal length (cm), sepal width (cm), petal length (cm)\n" in done.err
    assert "genreg: species=tulip was not seen in training (rows: 1)\n" in done.err
    assert "2 rows, mean log p 0.145473" in done.err
    assert ", impossible 1, accuracy 0.5" in done.err
    genreg("score", "nb-iris", "--data", "tulip.csv", "-o", "t.jsonl")
    assert json.loads(Path("t.jsonl").read_text().splitlines()[0])["log_prob"] is None
    genreg("score", "nb-iris", "--data", "tulip.csv", "-o", "t.parquet")
    assert pq.read_table("t.parquet")["log_prob"][0].as_py() == -np.inf


def test_a_column_that_is_nearly_named_is_told(genreg, desk):
    done = genreg("score", "nb-iris", "--data", "typo.csv")
    assert done.code == 0
    assert f"genreg: not used: petal widht (cm); did you mean {WIDTH}?\n" in done.err


MISTAKES = {
    ("nb-irs", "i.csv"): "there is no model nb-irs; did you mean nb-iris?",
    ("nb-iris", "no.csv"): "no.csv: there is no such file",
    ("nb-iris", "none.csv"): "the data has none of the model's columns sepal length (cm), sepal width (cm), petal length (cm), petal width (cm), species: a, b",
    ("nb-iris", "empty.csv"): "the data has no rows to score",
    ("nb-iris", "words.csv"): f"column {WIDTH} holds string, and the model's holds double: Failed to parse string: 'wide'",
    ("nb-iris", "nan.csv"): f"column {WIDTH}, row 4: nan has no probability; leave a cell empty where nothing is known",
    ("nb-iris", "i.csv", "--key", "idd"): "--key idd: the data has no column idd; did you mean id?",
    ("nb-iris", "i.csv", "--seed", "-1"): f"--seed -1: the first seed lies between 0 and {2**63 - 1}",
    ("nb-iris", "i.csv", "--option", "dtype=float16"): "--option dtype=float16: there is no dtype; there are none",
    ("nb-iris", "i.csv", "--loader", "csb"): "--loader csb: there is no loader csb; did you mean csv?",
    ("nb-iris", "i.csv", "-o", "x.xyz"): "x.xyz: the suffix .xyz has no writer; there are: ",
    ("nb-iris", "i.csv", "-o", "no/x.csv"): "no/x.csv: there is no folder no: make it first",
}  # fmt: skip


@pytest.mark.parametrize("asked", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line(genreg, desk, asked):
    before = sorted(desk.iterdir())
    done = genreg("score", asked[0], "--data", *asked[1:])
    assert done.code == 2
    assert done.line.startswith(MISTAKES[asked])
    assert sorted(desk.iterdir()) == before


def test_whole_numbers_are_not_rounded_to_fit():
    model = toy("weather", Categories({"outcome": toys.SKIES}), columns=WEATHER)
    with pytest.raises(GenregError, match=r"^column station holds double, and the model's holds int64: .*1\.5"):
        model.score(pa.table({"station": [1.0, 1.5]}))


def test_a_million_rows_take_no_more_memory_than_a_thousand(tmp_path, iris):
    peaks = []
    for name, copies in (("few", 10), ("many", 3000)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(
            pa.concat_tables([iris.sample(100, seed=0).table] * copies).combine_chunks(), path, row_group_size=4096
        )
        code = (
            "import resource, sys; from genreg.cli import main\ntry: main(sys.argv[1:])\n"
            "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        asked = ["score", "nb-iris", "--data", str(path), "-o", str(tmp_path / f"{name}.csv")]
        done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, timeout=300)
        peaks.append(int(done.stdout.split()[-1]) // 1024)
    assert peaks[1] - peaks[0] < 60, peaks  # MiB; 300,000 rows of scores are 12 MB a column
