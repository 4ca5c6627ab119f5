"""An output can be made again from what is written beside it, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import feather

from genreg.entrypoints import package_folder
from genreg.errors import UsageError
from genreg.recipe import LARGEST_GIVEN, parse_seeds, read_recipe, recipe_path, spell_seeds

IRIS = Path(package_folder("genreg_nb") or "", "nb-iris")
HEAD = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),species\n"
TEXT = """
import pyarrow as pa
from genreg import Draft, ModelFamily, Settings, hookimpl

class Echo:
    def propose(self, seeds, given, /):
        return Draft(seeds, seeds)
    def render(self, draft, /):
        return pa.RecordBatch.from_arrays([pa.array([f"line {s}\\n" for s in draft.seeds.tolist()])], names=["text"])

class Options(Settings, frozen=True):
    tone: str = "plain"

@hookimpl
def genreg_models():
    columns = lambda config: pa.schema([("text", pa.string())])
    return [ModelFamily("echo", "Echo", "text", "a seed", Settings, Options, columns, lambda c, o, w: Echo())]
"""
LINES = "version: 1\nmodels: {lines: {family: echo, makes: text, summary: Lines}}\n"


def again(genreg, out: Path) -> tuple[bytes, bytes]:
    """What a run wrote, and what its recipe makes."""
    new = out.with_name(f"again-{out.name}")
    done = genreg("run", "--recipe", out, "-o", new)
    assert (done.code, done.line) == (
        0,
        f"wrote {new} ({done.line.partition('(')[2].partition(' ')[0]} rows) and {new.name}.recipe.json",
    )
    assert recipe_path(new).read_text() == recipe_path(out).read_text()
    return out.read_bytes(), new.read_bytes()


# ---- every writer ----


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather"])
def test_every_output_is_made_again_bit_for_bit(genreg, tmp_path, suffix):
    out = tmp_path / f"x{suffix}"
    done = genreg("run", "nb-iris", "virginica", "-n", "5000", "-o", out)
    assert (done.code, done.err.splitlines()[-1]) == (0, f"genreg: wrote {out} (5,000 rows) and {out.name}.recipe.json")
    first, second = again(genreg, out)
    assert first == second
    assert len(first) > 5000
    shown = json.loads(genreg("show", out, "--json").out)
    assert (shown["model"], shown["n"], shown["given"]) == ("nb-iris", 5000, {"values": {"species": "virginica"}})
    assert f"genreg: seed {shown['seeds'].partition('-')[0]}" == done.err.splitlines()[0]
    assert shown["versions"].keys() == {"genreg-core", "genreg-nb", "numpy", "pyarrow"}
    assert "model: nb-iris\n" in genreg("show", out).out
    assert (
        genreg("show", recipe_path(out), "--json").out.replace(".recipe.json", "", 1)
        == genreg("show", out, "--json").out
    )


def test_plain_text_and_options_are_made_again(genreg, tmp_path, distribution):
    distribution("genreg-echo", TEXT, registry=LINES)
    out = tmp_path / "x.txt"
    assert genreg("run", "lines", "-n", "3", "--seed", "8", "--option", "tone=grave", "-o", out).code == 0
    assert out.read_text() == "line 8\\n\nline 9\\n\nline 10\\n\n"
    first, second = again(genreg, out)
    assert first == second
    assert read_recipe(out).options == {"tone": "grave"}
    assert (read_recipe(out).checkpoint, read_recipe(out).versions["genreg-echo"]) == (None, "1.5")


def test_samplers_seeds_and_copies_are_kept(genreg, tmp_path):
    out = tmp_path / "x.csv"
    assert genreg("run", "nb-iris", "--seeds", "9,1-3", "--sampler", "clamp:at=0,value=2", "-o", out).code == 0
    first, second = again(genreg, out)
    assert first == second
    assert first.count(b"virginica") == 4
    assert (read_recipe(out).seeds, read_recipe(out).samplers) == ("9,1-3", ["clamp:at=0,value=2"])
    none = tmp_path / "none.csv"
    assert genreg("run", "nb-iris", "-n", "0", "-o", none).code == 0
    assert again(genreg, none) == (HEAD.encode(), HEAD.encode())


def test_it_is_made_again_on_stdout_too(genreg, tmp_path):
    out = tmp_path / "x.csv"
    genreg("run", "nb-iris", "-n", "3", "-o", out)
    done = genreg("run", "--recipe", out)
    assert (done.code, done.out, done.err) == (0, out.read_text(), "")


# ---- given ----


def test_a_small_table_of_conditions_is_kept_word_for_word(genreg, tmp_path):
    table, out = tmp_path / "given.csv", tmp_path / "x.csv"
    table.write_text("species,petal width (cm)\n,1.4\nsetosa,\nvirginica,0.1\n")
    done = genreg(
        "run", "nb-iris", "--given", table, "--given", "sepal width (cm)=3", "-n", "2", "--seed", "4", "-o", out
    )
    assert done.code == 0
    table.unlink()  # the recipe does without it
    first, second = again(genreg, out)
    assert first == second
    assert read_recipe(out).given["rows"][0] == {"petal width (cm)": 1.4, "sepal width (cm)": 3.0}


def test_lines_of_stdin_are_kept(process, genreg, tmp_path):
    out = tmp_path / "x.csv"
    done = process(
        "run", "nb-iris", "-", "--given", "petal width (cm)=0.2", "--seed", "4", "-o", out, stdin="setosa\nvirginica\n"
    )
    assert done.code == 0
    first, second = again(genreg, out)
    assert first == second
    assert read_recipe(out).given == {
        "values": {"petal width (cm)": "0.2"}, "rows": [{"species": "setosa"}, {"species": "virginica"}],
    }  # fmt: skip


@pytest.mark.parametrize("key", [(), ("--key", "name")])
def test_a_large_table_is_kept_by_name_and_hash(genreg, tmp_path, key):
    table, out = tmp_path / "given.csv", tmp_path / "x.csv"
    names = "name," if key else ""
    lines = [f"{f'r{i},' if key else ''}{'setosa' if i % 2 else 'virginica'}" for i in range(5000)]
    table.write_text(f"{names}species\n" + "\n".join(lines) + "\n")
    assert table.stat().st_size > LARGEST_GIVEN / 2
    assert genreg("run", "nb-iris", "--given", table, *key, "--seed", "4", "-o", out).code == 0
    first, second = again(genreg, out)
    assert first == second
    assert first.count(b"\n") == 5001
    kept = read_recipe(out).given
    assert (kept["file"], len(kept["sha256"])) == (str(table), 64)
    table.write_text(table.read_text().replace("virginica", "setosa"))
    done = genreg("run", "--recipe", out)
    assert (done.code, done.line) == (2, f"{table} has changed since the recipe was written")
    table.unlink()
    assert genreg("run", "--recipe", out).line == f"{table} cannot be read: No such file or directory"


# ---- what is refused ----


@pytest.fixture
def made(genreg, tmp_path) -> Path:
    """An output of a checkpoint folder of our own, with its recipe."""
    shutil.copytree(IRIS, tmp_path / "model")
    out = tmp_path / "x.csv"
    assert genreg("run", tmp_path / "model", "-n", "2", "--seed", "1", "-o", out).code == 0
    return out


def test_another_checkpoint_than_the_one_that_made_it_is_refused(genreg, made):
    model = made.parent / "model"
    config = json.loads((model / "config.json").read_text())
    config["genreg"]["training"]["seed"] = 1
    (model / "config.json").write_text(json.dumps(config))
    done = genreg("run", "--recipe", made)
    assert (done.code, done.line) == (2, f"{made}: {model} is another checkpoint now than the one that made it")
    shutil.rmtree(model)
    assert genreg("run", "--recipe", made).line == f"{model}: there is no such checkpoint folder"


@pytest.mark.parametrize(
    "flag",
    [["-n", "0"], ["--seed", "0"], ["--seeds", ""], ["--given", "a=1"], ["--key", "x"], ["--sampler", "mix:layers=0"],
     ["--option", "a=1"], ["--device", "cpu"]],
)  # fmt: skip
def test_a_recipe_says_everything(genreg, made, flag):
    assert genreg("run", "--recipe", made, *flag).line == f"--recipe {made} says everything: leave out {flag[0]}"


def test_a_recipe_names_its_model(genreg, made):
    for extra in (["nb-iris"], ["nb-iris", "setosa"]):
        assert genreg("run", *extra, "--recipe", made).line == f"--recipe {made} says everything: leave out the model"


def test_an_output_without_a_recipe_says_so(genreg, made):
    recipe_path(made).unlink()
    assert genreg("run", "--recipe", made).line == f"{made} has no recipe beside it (x.csv.recipe.json)"
    assert genreg("show", made).line.startswith(f"{made} has no recipe beside it")


DAMAGED = {
    "": "is no recipe: Expecting value",
    "{": "is no recipe: ",
    "[]": "is no recipe: ",
    "3": "is no recipe: ",
    "{}": "is no recipe: 'recipe'",
    '{"recipe": 2}': "recipe format 2 is not known to this genreg",
    '{"recipe": 1}': "is no recipe: ",
    '{"recipe": 1, "model": "m", "seeds": "1", "cheese": 1}': "unexpected keyword argument 'cheese'",
    '{"recipe": 1, "model": 3, "seeds": "1"}': "is no recipe: model must be a str",
    '{"recipe": 1, "model": "nb-iris", "seeds": 5}': "is no recipe: seeds must be a str",
    '{"recipe": 1, "model": "nb-iris", "seeds": "1", "n": "x"}': "is no recipe: n must be a int",
    '{"recipe": 1, "model": "nb-iris", "seeds": "1", "given": [1]}': "is no recipe: given must be a dict",
    '{"recipe": 1, "model": "nb-iris", "seeds": "1", "samplers": "x"}': "is no recipe: samplers must be a list",
    '{"recipe": 1, "model": "nb-iris", "seeds": "1"}': "nb-iris is another checkpoint now than the one that made it",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_recipe_is_one_line(genreg, made, text):
    recipe_path(made).write_text(text)
    done = genreg("run", "--recipe", made)
    assert done.code == 2
    assert DAMAGED[text] in done.line


def test_another_version_is_told(genreg, made):
    recipe = json.loads(recipe_path(made).read_text())
    recipe["versions"]["genreg-core"] = "0.0.1"
    recipe_path(made).write_text(json.dumps(recipe))
    done = genreg("run", "--recipe", made)
    assert (done.code, done.out) == (0, made.read_text())
    assert done.err == "genreg: the recipe was made with genreg-core 0.0.1, and this is 0.1.0\n"


# ---- seeds as ranges ----

SEEDS = st.integers(0, 2**64 - 1)
RUNS = st.tuples(SEEDS, st.integers(1, 50)).map(lambda run: [(run[0] + i) % 2**64 for i in range(run[1])])


@given(
    st.lists(SEEDS, min_size=1, max_size=30)
    | st.lists(RUNS, min_size=1, max_size=5).map(lambda runs: [seed for run in runs for seed in run])
)
@example([2**64 - 1, 0, 1])
@example([0, 0])
@example([5, 4, 3])
@settings(deadline=None, max_examples=200)
def test_seeds_are_spelled_as_ranges_and_read_back(seeds):
    array = np.array(seeds, np.uint64)
    text = spell_seeds(array)
    found = parse_seeds(text)
    assert found.dtype == np.uint64
    assert found.tolist() == seeds
    assert len(text) <= 21 * len(seeds)


def test_a_long_run_of_seeds_is_one_range():
    seeds = np.arange(7, 30_000_007, dtype=np.uint64)
    assert spell_seeds(seeds) == "7-30000006"
    assert np.array_equal(parse_seeds("7-30000006"), seeds)  # as many as -n may have asked for
    assert spell_seeds(seeds[:0]) == ""
    with pytest.raises(UsageError, match="such as 1,5-9"):
        parse_seeds("")


def test_feather_files_are_what_pandas_reads(genreg, tmp_path):
    out = tmp_path / "x.feather"
    genreg("run", "nb-iris", "-n", "3", "-o", out)
    assert feather.read_table(out).num_rows == 3
    assert pa.ipc.open_file(out).schema.names == HEAD.strip().split(",")
