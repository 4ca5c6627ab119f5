"""The Python surface: load, sample, samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import genreg
from genreg import Draft, GenregError, Model, UsageError
from genreg.entrypoints import package_folder

WIDTH = "petal width (cm)"


@pytest.fixture(scope="module")
def iris() -> genreg.LoadedModel:
    return genreg.load("nb-iris")


def refusal(function, *arguments, **keywords) -> str:
    with pytest.raises(GenregError) as raised:
        function(*arguments, **keywords)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_models_are_listed_by_name():
    assert {"nb-iris", "nb-penguins"} <= set(genreg.list_models())


def test_a_name_is_imported_when_it_is_asked_for():
    assert set(genreg.__all__) >= {"load", "list_models", "train", "hookimpl", "ModelFamily", "Draft", "UsageError"}
    for name in genreg.__all__:
        assert getattr(genreg, name).__module__.startswith(("genreg.", "numpy", "types", "pluggy", "pyarrow"))
    with pytest.raises(AttributeError, match="module genreg has no attribute laod"):
        genreg.laod  # noqa: B018


def test_what_is_loaded_knows_what_it_is(iris):
    assert (iris.name, iris.family.name, iris.entry.license) == ("nb-iris", "nb", "BSD-3-Clause")
    model: Model = iris.model
    prepared = iris.prepare(iris.given(None, {}), 3, seed=0).window(0, 3)
    draft = model.propose(prepared.seeds, iris.form.into_model(prepared.batch))
    assert isinstance(draft, Draft)
    assert model.render(draft).num_rows == 3


def test_a_model_is_loaded_by_name_and_by_folder(iris):
    folder = Path(package_folder("genreg_nb") or "", "nb-iris")
    expected = iris.sample(4, seed=1).table
    for name in (folder, str(folder)):
        assert genreg.load(name).sample(4, seed=1).table.equals(expected)
    assert refusal(genreg.load, "nb-irs") == "there is no model nb-irs; did you mean nb-iris?"
    assert refusal(genreg.load, "nb-iris", options={"device": "cpu"}) == (
        "--option device=cpu: there is no device; there are none"
    )


def test_a_condition_is_a_keyword(iris):
    for word in ("label", "species"):
        samples = iris.sample(16, seed=0, **{word: "setosa"})
        assert set(samples.table["species"].to_pylist()) == {"setosa"}
        assert samples.table.equals(iris.sample(16, seed=0, given={"species": "setosa"}).table)


def test_samples_are_those_of_the_command_line(iris, process):
    samples = iris.sample(5, seed=3, given={WIDTH: 1.4})
    done = process("run", "nb-iris", "-n", "5", "--seed", "3", "--given", f"{WIDTH}=1.4", "--json")
    assert done.out == "".join(
        "{" + ", ".join(f'"{k}": ' + (f'"{v}"' if isinstance(v, str) else repr(v)) for k, v in row.items()) + "}\n"
        for row in samples.table.to_pylist()
    )
    assert set(samples.table[WIDTH].to_pylist()) == {1.4}


def test_one_seed_is_one_sample_whatever_the_batch(iris):
    whole = iris.sample(50, seed=100)
    assert whole.seeds.tolist() == list(range(100, 150))
    for batch in (1, 7, 1000):
        assert iris.sample(50, seed=100, batch=batch).table.equals(whole.table)
    assert iris.sample(seed=107).table.equals(whole.table.slice(7, 1))
    assert len(iris.sample()) == 1  # of a seed that was drawn, and is kept
    drawn = iris.sample(3)
    assert iris.sample(3, seed=int(drawn.seeds[0])).table.equals(drawn.table)
    assert len(iris.sample(0)) == 0


def test_text_is_taken_as_it_is(iris):
    for text in ("@species.txt", "@@setosa"):  # files are named on the command line alone
        with pytest.raises(UsageError, match=f"species={text} was not seen in training"):
            iris.sample(1, species=text)


def test_more_samples_than_are_laid_out_at_a_time_are_the_same(iris, monkeypatch):
    table = pa.table({"species": ["setosa", None, "virginica"]})
    plain, rows = iris.sample(50, seed=9).table, iris.sample(20, seed=9, given=table).table
    monkeypatch.setattr("genreg.windows.CHUNK", 7)
    assert iris.sample(50, seed=9).table.equals(plain)
    assert iris.sample(20, seed=9, given=table).table.equals(rows)
    assert rows["species"].to_pylist()[:20] == ["setosa"] * 20


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"species": ["setosa", "virginica"], WIDTH: [None, 0.5]}),
        pa.RecordBatch.from_pydict({"species": ["setosa", "virginica"], WIDTH: [None, 0.5]}),
        pd.DataFrame({"species": ["setosa", "virginica"], WIDTH: [None, 0.5]}, index=["a", "b"]),
        pd.DataFrame({"species": pd.Categorical(["setosa", "virginica"]), WIDTH: [None, 0.5]}),
    ],
    ids=["table", "batch", "pandas", "categorical"],
)
def test_a_table_has_one_row_of_conditions_per_sample(iris, table):
    made = iris.sample(2, seed=5, given=table).table
    assert made["species"].to_pylist() == ["setosa", "setosa", "virginica", "virginica"]
    assert made[WIDTH].to_pylist()[2:] == [0.5, 0.5]
    again = iris.sample(2, seed=5, given=pa.table({"species": ["setosa", "virginica"], WIDTH: [None, 0.5]})).table
    assert made.equals(again)
    assert iris.sample(seed=5, given=table, **{"sepal width (cm)": 3}).table["sepal width (cm)"].to_pylist() == [
        3.0,
        3.0,
    ]


def test_a_file_of_conditions_is_a_table_too(iris, tmp_path):
    path = tmp_path / "given.csv"
    path.write_text("species\nsetosa\n\n".replace("\n\n", "\nvirginica\n"))
    assert iris.sample(seed=1, given=path).table["species"].to_pylist() == ["setosa", "virginica"]


def test_wrong_conditions_are_refused_in_the_users_words(iris):
    assert refusal(iris.sample, colour="red").startswith(
        "--given colour=red: there is no condition colour; there are: "
    )
    assert refusal(iris.sample, given={"label": "setosa"}, species="setosa").endswith("species is given twice")
    assert refusal(iris.sample, given={"label": "setosa"}, label="setosa").endswith("label is given twice")
    assert refusal(iris.sample, given={WIDTH: [1.0, 2.0]}).startswith(
        f"--given {WIDTH}=[1.0, 2.0]: {WIDTH} takes double"
    )
    assert refusal(iris.sample, given={WIDTH: float("nan")}).startswith(
        f"--given {WIDTH}: NaN and infinity cannot be given"
    )
    assert (
        refusal(iris.sample, given=pa.table({"species": [3]}))
        == "species=3 was not seen in training; there are: setosa, versicolor, virginica"
    )
    assert refusal(iris.sample, given=3) == "given takes a mapping, a table or a file, not int"
    assert refusal(iris.sample, psi=0.5) == "--given psi=0.5: psi is a knob of a sampler: --sampler truncate:psi=…"
    assert refusal(iris.sample, -1).startswith("-n -1: ask for 0 samples or more")
    assert refusal(iris.sample, seed=-1).startswith("--seed -1: seeds lie between 0 and ")
    assert "takes double" in refusal(iris.sample, given=pd.DataFrame({WIDTH: ["wide"]}))


def test_samplers_are_calls(iris):
    assert iris.sample(5, seed=1, samplers=["clamp:at=0,value=2"]).table["species"].to_pylist() == ["virginica"] * 5
    assert refusal(iris.sample, samplers=["truncate:psi=0.5"]).startswith(
        "truncate pulls samples towards the prior mean"
    )


def test_samples_save_themselves_as_their_suffix_says(iris, tmp_path):
    samples = iris.sample(3, seed=1)
    for suffix in (".csv", ".parquet", ".arrow", ".jsonl"):
        samples.save(tmp_path / f"x{suffix}")
    assert pa.parquet.read_table(tmp_path / "x.parquet").equals(samples.table)
    assert refusal(samples.save, tmp_path / "x.csv").endswith(
        "is there already: choose another name, or --force to replace it"
    )
    samples.save(str(tmp_path / "x.csv"), force=True)
    assert "has no writer" in refusal(samples.save, tmp_path / "x.docx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.arrow", "x.csv", "x.jsonl", "x.parquet"]


def test_samples_go_to_pandas_where_it_is_there(iris):
    samples = iris.sample(3, seed=1)
    frame = samples.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["species"].tolist() == samples.table["species"].to_pylist()
    script = """
import sys, genreg
class Without:
    def find_spec(name, *_):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)
sys.meta_path.insert(0, Without)
samples = genreg.load("nb-iris").sample(2, seed=1)
try:
    samples.to_pandas()
except genreg.UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "to_pandas needs pandas: pip install pandas\n"


def test_samples_show_themselves(iris):
    samples = iris.sample(3, seed=1, species="setosa")
    lines = repr(samples).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("sepal length (cm)")
    assert all(line.endswith("setosa") for line in lines[1:])
    assert repr(iris.sample(25, seed=1)).endswith("\n… 25 rows")
    assert len(samples) == 3


def test_a_notebook_shows_a_table_with_everything_escaped():
    hostile = "<script>alert('x')</script>"
    table = pa.table({hostile: [f"{hostile} & more", None], "花": ["山鸢尾 🌸", "a\x1b[31mb"], "b": [b"123", None]})
    shown = genreg.Samples(table, np.arange(2, dtype=np.uint64))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<td>山鸢尾 🌸</td>" in shown
    assert "\x1b" not in shown
    assert "<td>&lt;3 bytes&gt;</td>" in shown
    many = genreg.Samples(pa.table({"x": list(range(1234))}), np.arange(1234, dtype=np.uint64))
    assert many._repr_html_().count("<tr>") == 21
    assert "<p>… 1,234 rows</p>" in many._repr_html_()
    assert genreg.Samples(pa.table({"字": ["一二三", None], "n": [1, 22]}), np.arange(2)).__repr__().splitlines() == [
        "字       n",
        "一二三   1",
        "-       22",
    ]  # fmt: skip - wide characters take two columns


def test_training_from_python_is_that_of_the_command_line(tmp_path, process):
    data = tmp_path / "d.csv"
    data.write_text("x,kind\n" + "\n".join(f"{i / 7:.3f},{'ab'[i % 2]}" for i in range(60)) + "\n")
    record = genreg.train("nb", data, out=tmp_path / "one", label="kind", settings={"alpha": 2.0}, seed=3)
    assert (record["rows"]["train"], sum(record["rows"].values())) == (42, 60)
    done = process(
        "train", "nb", "--data", data, "--label", "kind", "--set", "alpha=2", "--seed", "3", "-o", tmp_path / "two"
    )
    assert done.code == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    with pytest.raises(UsageError, match="is there already"):
        genreg.train("nb", data, out=tmp_path / "one", label="kind")
