"""The command line as people type it: right, wrong, into pipes, on a terminal, interrupted."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import csv
import io
import json
import os
import pty
import random
import select
import signal
import time
from pathlib import Path

import pytest

IRIS = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),species"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ---- right ----


def test_a_new_user_lists_shows_and_runs(process):
    assert process("--version").out == "genreg 0.1.0\n"
    done = process("list")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == ["NAME", "FAMILY", "MAKES", "SUMMARY"]
    assert "nb-iris" in done.out
    done = process("run", "nb-iris", "-n", "3")
    assert done.code == 0
    assert done.out.splitlines()[0] == IRIS
    seed = done.err.removeprefix("genreg: seed ").strip()
    again = process("run", "nb-iris", "-n", "3", "--seed", seed)
    assert (again.out, again.err) == (done.out, "")  # the seed that was told makes the same again


def test_without_a_verb_the_help_is_shown(process):
    done = process()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: genreg ")
    assert "  run " in done.err


def test_every_verb_and_option_has_a_line_of_help(genreg):
    for verb in ("list", "show", "run", "concat", "train", "plugins", "offers"):
        done = genreg(verb, "--help")
        assert (done.code, done.err) == (0, "")
        text = done.out.partition("Options:\n")[2]
        for line in text.splitlines():
            assert not line.strip().startswith("--") or "  " in line.strip(), line  # an option, two spaces, its help


def test_show_says_what_can_be_said_to_a_model(genreg):
    done = genreg("show", "nb-iris", "--json")
    facts = json.loads(done.out)
    assert (done.code, facts["family"], facts["samplers"], facts["license"]) == (0, "nb", ["clamp"], "BSD-3-Clause")
    assert facts["conditions"][0]["values"] == ["setosa", "versicolor", "virginica"]
    assert facts["bytes"] > 1000
    assert len(facts["sha256"]) == 64
    assert "petal width (cm): double  an observed number\n" in genreg("show", "nb-iris").out
    assert "alpha: float = 1.0  added to the count" in genreg("show", "nb").out
    assert "psi: float | list[float] = 0.7\n" in genreg("show", "truncate").out
    assert json.loads(genreg("show", "csv", "--json").out)["loader"] == "csv"
    assert json.loads(genreg("show", "fillna", "--json").out)["plugin"] == "genreg-core"


def test_list_shows_components_and_names_alone(genreg):
    assert genreg("list", "-q", "--family", "nb").out == "nb-iris\nnb-penguins\n"
    own = ["categories", "clip", "dedupe", "dropna", "fillna", "minmax", "standardize"]
    assert [name for name in genreg("list", "preprocessors", "-q").out.split() if name in own] == own
    assert genreg("list", "samplers", "-q").out == "clamp\ninterpolate\nmix\ntruncate\n"
    row, *_ = json.loads(genreg("list", "--family", "nb", "--makes", "table", "--json").out)
    assert (row["name"], row["installed"], row["plugin"]) == ("nb-iris", True, "genreg-nb")


def test_a_bare_condition_is_the_first_one(genreg):
    done = genreg("run", "nb-iris", "setosa", "-n", "4", "--seed", "7")
    assert {row["species"] for row in rows(done.out)} == {"setosa"}
    assert genreg("run", "nb-iris", "--given", "species=setosa", "-n", "4", "--seed", "7").out == done.out


def test_seeds_are_those_named_in_their_order(genreg):
    one = rows(genreg("run", "nb-iris", "-n", "10", "--seed", "3").out)
    assert rows(genreg("run", "nb-iris", "--seeds", "9,3-4, 12").out) == [one[6], one[0], one[1], one[9]]
    assert rows(genreg("run", "nb-iris", "--seeds", f"{2**64 - 1}").out)
    assert rows(genreg("run", "nb-iris", "-n", "0").out) == []
    assert genreg("run", "nb-iris", "-n", "0").out == IRIS + "\n"


def test_rows_times_copies_have_seeds_of_their_own(genreg, tmp_path):
    given = tmp_path / "given.csv"
    given.write_text("species,name\nsetosa,a\nvirginica,b\n,c\n")
    done = genreg("run", "nb-iris", "--given", given, "--key", "name", "-n", "3", "--seed", "100")
    made = rows(done.out)
    assert [row["name"] for row in made] == list("aaabbbccc")
    assert [row["species"] for row in made[:6]] == ["setosa"] * 3 + ["virginica"] * 3
    for at, species in ((1, "setosa"), (5, "virginica")):  # copy k of row r has seed + r n + k
        (alone,) = rows(genreg("run", "nb-iris", species, "--seed", 100 + at).out)
        assert {"name": made[at]["name"], **alone} == made[at]
    assert done.out.splitlines()[0] == "name," + IRIS
    again = genreg("run", "nb-iris", "--given", given, "--key", "name", "-n", "3", "--seeds", "100-108")
    assert again.out == done.out


def test_a_value_may_be_the_text_of_a_file_and_the_recipe_keeps_the_text(genreg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kind.txt").write_text("virginica", "utf-8-sig")
    for arguments in (("@kind.txt",), ("--given", "species=@kind.txt")):
        done = genreg("run", "nb-iris", *arguments, "--seed", "1", "-o", "x.csv", "--force")
        assert done.code == 0
        recipe = json.loads(Path("x.csv.recipe.json").read_text())
        assert recipe["given"] == {"values": {"species": "virginica"}}
    assert "species=@kind.txt was not seen" in genreg("run", "nb-iris", "@@kind.txt").line
    recipe["given"]["values"]["species"] = "@kind.txt"  # a recipe, which may be a stranger's, opens no file
    Path("x.csv.recipe.json").write_text(json.dumps(recipe))
    assert "species=@kind.txt was not seen" in genreg("run", "--recipe", "x.csv").line


def test_lines_of_stdin_are_conditions(process):
    done = process("run", "nb-iris", "-", "--seed", "1", "--json", stdin="setosa\nvirginica\n")
    assert [json.loads(line)["species"] for line in done.out.splitlines()] == ["setosa", "virginica"]
    done = process("run", "nb-iris", "-", "--seed", "1", stdin="setosa\ntulip\n")
    assert (done.code, done.out) == (2, "")
    assert "species=tulip was not seen in training" in done.err


def test_brackets_and_quotes_protect_commas(genreg, tmp_path):
    data = tmp_path / "odd.csv"
    lines = [f"{random.Random(i).gauss(0, 1):.3f},{'x' if i % 3 else 'y'},1" for i in range(60)]
    data.write_text('"a,b",kind,c\n' + "\n".join(lines) + "\n")
    call = "standardize:columns=[\"a,b\",'c']"
    done = genreg(
        "train", "nb", "--data", data, "--label", "kind", "--preprocess", call, "-o", tmp_path / "m", "--dry-run"
    )
    assert (done.code, json.loads(done.out)["preprocess"]) == (0, [call, "categories"])
    priors = genreg("train", "nb", "--data", data, "--label", "kind", "--set", "priors=[0.5,0.5]", "-o", tmp_path / "m")
    assert priors.code == 0
    done = genreg("run", tmp_path / "m", "--given", "a,b=0.5", "--seed", "1")
    assert rows(done.out)[0]["a,b"] == "0.5"


def test_dry_run_says_what_would_be_done_and_writes_nothing(genreg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = genreg(
        "run",
        "nb-iris",
        "setosa",
        "-n",
        "3",
        "--seed",
        "5",
        "--sampler",
        "clamp:at=0,value=1",
        "-o",
        "x.csv",
        "--dry-run",
    )
    plan = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert {name: plan[name] for name in ("model", "family", "samples", "seeds", "output")} == {
        "model": "nb-iris", "family": "nb", "samples": 3, "seeds": "5-7", "output": "x.csv",
    }  # fmt: skip
    assert plan["given"] == {"values": {"species": "setosa"}}
    assert plan["samplers"] == [{"name": "clamp", "at": 0, "value": 1.0}]
    assert list(plan["columns"]) == IRIS.split(",")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "d.csv").write_text("x,kind\n1,a\n2,b\n3,a\n4,b\n5,a\n6,b\n")
    done = genreg("train", "nb", "--data", "d.csv", "--label", "kind", "-o", "m", "--dry-run")
    assert json.loads(done.out)["family"] == "nb"
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_json_tells_what_was_written(genreg, tmp_path):
    out = tmp_path / "x.csv"
    done = genreg("run", "nb-iris", "-n", "3", "--seed", "5", "-o", out, "--json")
    assert json.loads(done.out) == {"output": str(out), "recipe": f"{out}.recipe.json", "rows": 3, "seeds": "5-7"}
    done = genreg("run", "nb-iris", "-n", "3", "--seed", "5", "-o", out, "--force")
    assert done.line == f"wrote {out} (3 rows) and x.csv.recipe.json"


def test_a_fault_of_ours_is_one_line_all_the_same(genreg, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a fault\nof ours")

    monkeypatch.setattr("genreg.running.load", broken)
    done = genreg("run", "nb-iris")
    assert (done.code, done.line) == (1, "unexpected RuntimeError: a fault of ours (--debug shows where)")
    assert "in broken" in genreg("run", "nb-iris", "--debug").err


# ---- wrong ----

X = "x.csv"
RUN = ("run", "nb-iris")
TRAIN = ("train", "nb", "--data", "d.csv", "--label", "kind", "-o", "new")
SUFFIXES = (
    "there are: .apng, .arrow, .bmp, .csv, .feather, .gif, .html, .jpeg, .jpg, .json, .jsonl, .ndjson, .npz, .parquet, "
    ".png, .tsv, .txt, .webp, /"
)
COLUMNS = "label, petal length (cm), petal width (cm), sepal length (cm), sepal width (cm), species"
MISTAKES = [
    # names
    (("lst",), "there is no verb lst; did you mean list?"),
    (("--nope",), "No such option '--nope'."),
    (("list", "modles"), "'modles' is not one of 'models', 'families', 'samplers', 'loaders', 'preprocessors'."),
    (("list", "--family", "bn"), "--family bn: there is none; did you mean nb?"),
    (("list", "--makes", "tabel"), "--makes tabel: there is none; did you mean table?"),
    (("show",), "Missing argument 'NAME|FAMILY|FILE'."),
    (("show", "nb-irs"), "there is nothing called nb-irs; did you mean nb-iris?"),
    (("show", ""), "there is nothing called ; there are: "),
    (("show", "."), ". is no checkpoint: it has no config.json"),
    (("show", "a" * 5000), "there is nothing called aaa"),
    (("show", "d.csv"), "d.csv has no recipe beside it: genreg did not make it, or the recipe was moved away"),
    (("run",), "name a model: genreg run NAME (genreg list shows them)"),
    (("run", "nb-irs"), "there is no model nb-irs; did you mean nb-iris?"),
    (("run", ""), "there is no model ; there are: "),
    (("run", "a" * 5000), "there is no model aaa"),
    (("run", "./none"), "none: there is no such checkpoint folder"),
    (("run", "folder"), "folder is no checkpoint: it has no config.json"),
    (("run", "nb-iris", "setosa", "more"), "Got unexpected extra argument (more)"),
    (("train", "nbb", *TRAIN[2:]), "there is no family nbb; did you mean nb?"),
    (("train", "nb", "--label", "x"), "Missing option '--data'."),
    (("train", "nb", "--data", "d.csv"), "Missing option '-o' / '--output'."),
    # samplers
    ((*RUN, "--sampler", "clmp:at=0,value=1"), "there is no sampler clmp; did you mean clamp?"),
    ((*RUN, "--sampler", ""), "there is no sampler ; there are: clamp, interpolate, mix, truncate"),
    ((*RUN, "--sampler", "clamp:att=0,value=1"), "--sampler clamp: att=0: there is no att; did you mean at?"),
    ((*RUN, "--sampler", "clamp:at=0"), "--sampler clamp: value=… is needed (float)"),
    ((*RUN, "--sampler", "clamp:at=0,at=1,value=1"), "--sampler clamp:at=0,at=1,value=1: at is given twice"),
    ((*RUN, "--sampler", "clamp:at"), "--sampler clamp: at: write NAME=VALUE"),
    ((*RUN, "--sampler", "truncate:psi=lots"), "--sampler truncate: psi=lots: "),
    ((*RUN, "--sampler", "interpolate:steps=2.5"), "--sampler interpolate: steps=2.5: "),
    ((*RUN, "--sampler", "clamp:at='0,value=1"), "the quote ' is not closed"),
    # seeds and numbers
    ((*RUN, "-n", "-1"), "-n -1: ask for 0 samples or more, and for at most 100,000,000 in one run"),
    ((*RUN, "-n", "1000000000000"), "-n 1000000000000: ask for 0 samples or more"),
    ((*RUN, "-n", "1.5"), "Invalid value for '-n': '1.5' is not a valid integer."),
    ((*RUN, "--seed", "x"), "Invalid value for '--seed': 'x' is not a valid integer."),
    ((*RUN, "--seed", "-1"), f"--seed -1: seeds lie between 0 and {2**64 - 1}"),
    ((*RUN, "--seed", 2**64), f"--seed {2**64}: seeds lie between 0 and {2**64 - 1}"),
    ((*RUN, "--seed", 2**64 - 1, "-n", "2"), f"--seed {2**64 - 1}: seeds lie between 0 and {2**64 - 1}"),
    ((*RUN, "--seed", "1", "--seeds", "1-3"), "--seed and --seeds cannot go together: --seed is the first of a row, --seeds names each"),
    ((*RUN, "--seeds", "1-3", "-n", "3"), "-n and --seeds cannot go together: there are as many samples as seeds"),
    ((*RUN, "--seeds", ""), "--seeds : write whole numbers and ranges, such as 1,5-9"),
    ((*RUN, "--seeds", "1,,2"), "--seeds 1,,2: write whole numbers and ranges, such as 1,5-9"),
    ((*RUN, "--seeds", "9-5"), "--seeds 9-5: write whole numbers and ranges, such as 1,5-9"),
    ((*RUN, "--seeds", "1-2-3"), "--seeds 1-2-3: write whole numbers and ranges, such as 1,5-9"),
    ((*RUN, "--seeds", "9" * 5000), "write whole numbers and ranges, such as 1,5-9"),
    ((*RUN, "--seeds", 2**64), f"--seeds {2**64}: seeds lie between 0 and {2**64 - 1}"),
    ((*RUN, "--seeds", "0-9999999999"), "--seeds 0-9999999999: that is more than 100,000,000 samples"),
    # conditions
    ((*RUN, "tulip"), "species=tulip was not seen in training; there are: setosa, versicolor, virginica"),
    ((*RUN, "versicolour"), "species=versicolour was not seen in training; did you mean versicolor?"),
    ((*RUN, "--given", "lable=setosa"), "--given lable=setosa: there is no condition lable; did you mean label?"),
    ((*RUN, "--given", "zzz=1"), f"--given zzz=1: there is no condition zzz; there are: {COLUMNS}"),
    ((*RUN, "--given", "petal width (cm)=wide"), "--given petal width (cm)=wide: petal width (cm) takes double"),
    ((*RUN, "--given", "petal width (cm)=nan"), "--given petal width (cm): NaN and infinity cannot be given: leave out what is not known"),
    ((*RUN, "--given", "petal width (cm)=-inf"), "--given petal width (cm): NaN and infinity cannot be given: leave out what is not known"),
    ((*RUN, "--given", "species=setosa", "--given", "species=virginica"), "--given species=virginica: species is given twice"),
    ((*RUN, "--given", "species=setosa", "--given", "label=virginica"), "--given label=virginica: species is given twice"),
    ((*RUN, "setosa", "--given", "species=setosa"), "setosa: species is given twice"),
    ((*RUN, "--given", "=3"), "--given =3: write NAME=VALUE"),
    ((*RUN, "--given", "species"), "--given species: write NAME=VALUE, or a file such as species.csv"),
    ((*RUN, "--given", ""), "--given .: write NAME=VALUE, or a file such as rows.csv"),
    ((*RUN, "--given", "none.csv"), "none.csv: there is no such file"),
    ((*RUN, "--given", "g.csv", "--given", "g.csv"), "--given g.csv: one file of conditions is enough, and g.csv is given already"),
    ((*RUN, "--given", "g.csv"), "--given: the column name: there is no condition name; there are: "),
    ((*RUN, "--given", "g.csv", "--key", "nam"), "there is no condition name; "),
    ((*RUN, "--given", "s.csv", "--key", "id"), "--key id: the given table has no column id; there are: species"),
    ((*RUN, "--key", "name"), "--key name names a column of a --given FILE, and none is given"),
    ((*RUN, "--given", "both.csv"), "--given: the column label: species is given twice"),
    ((*RUN, "--given", "s.csv", "--given", "species=setosa"), "--given species=setosa: species is given twice"),
    ((*RUN, "--given", "words.csv"), "--given: the column petal width (cm) is string, and petal width (cm) takes double: "),
    ((*RUN, "--given", "s.csv", "--seeds", "1-3"), "--seeds: 2 rows of conditions, 1 samples each, take 2 seeds, not 3"),
    ((*RUN, "@none.txt"), "--given species=@none.txt: the file cannot be read"),
    # options and settings
    ((*RUN, "--option", "dtype=float16"), "--option dtype=float16: there is no dtype; there are none"),
    ((*RUN, "--device", "cuda"), "--option device=cuda: there is no device; there are none"),
    ((*RUN, "--option", "x"), "--option x: write NAME=VALUE"),
    ((*RUN, "--option", "x=1", "--option", "x=2"), "--option x=2: x is given twice"),
    ((*TRAIN, "--set", "alpah=1"), "--set alpah=1: there is no alpah; did you mean alpha?"),
    ((*TRAIN, "--set", "alpha=much"), "--set alpha=much: "),
    ((*TRAIN, "--set", "alpha=-1"), "--set alpha=-1: input should be greater than 0"),
    ((*TRAIN, "--set", "alpha=1", "--set", "alpha=2"), "--set alpha=2: alpha is given twice"),
    ((*TRAIN, "--split", "70,30"), "--split 70,30: write the shares of train, validation and test, such as 70/15/15"),
    ((*TRAIN, "--preprocess", "standardise"), "there is no preprocessor standardise; did you mean standardize?"),
    ((*TRAIN, "--preprocess", "clip:column=x"), "--preprocess clip: column=x: there is no column; did you mean columns?"),
    ((*TRAIN, "--loader", "csb"), "--loader csb: there is no loader csb; did you mean csv?"),
    ((*TRAIN, "--loader", "csv:enc=gbk"), "--loader csv: enc=gbk: there is no enc; did you mean encoding?"),
    ((*TRAIN, "--loader", "csv:encoding=klingon"), "encoding=klingon: no such encoding"),
    ((*TRAIN, "--drop", "yy"), "--drop yy: the data has no column yy; there are: kind, x"),
    ((*TRAIN, "--drop", "kind"), "--label kind is left out by another option: a label must stay"),
    # a control in the wrong place
    ((*RUN, "--given", "psi=0.5"), "--given psi=0.5: psi is a knob of a sampler: --sampler truncate:psi=…"),
    ((*RUN, "--given", "alpha=1"), "--given alpha=1: alpha is a setting of training: genreg train nb --set alpha=…"),
    ((*RUN, "--option", "label=setosa"), "--option label=setosa: label is a condition: --given label=…"),
    ((*RUN, "--option", "steps=3"), "--option steps=3: steps is a knob of a sampler: --sampler interpolate:steps=…"),
    ((*RUN, "--option", "priors=uniform"), "--option priors=uniform: priors is a setting of training: genreg train nb --set priors=…"),
    ((*RUN, "--sampler", "species=setosa"), "--sampler species=setosa: species is a condition: --given species=…"),
    ((*RUN, "--sampler", "alpha=3"), "--sampler alpha=3: alpha is a setting of training: genreg train nb --set alpha=…"),
    ((*RUN, "--sampler", "clamp:at=0,value=1,psi=1"), "psi is a knob of a sampler: --sampler truncate:psi=…"),
    ((*TRAIN, "--set", "psi=0.5"), "--set psi=0.5: psi is a knob of a sampler: --sampler truncate:psi=…"),
    ((*TRAIN, "--option", "alpha=2"), "--option alpha=2: alpha is a setting of training: genreg train nb --set alpha=…"),
    # outputs
    ((*RUN, "-o", "x.xyz"), f"x.xyz: the suffix .xyz has no writer; {SUFFIXES}"),
    ((*RUN, "-o", "x"), f"x: a name without suffix has no writer; {SUFFIXES}"),
    ((*RUN, "-o", "folder"), "folder is a folder: name a file in it, such as folder/samples.csv"),
    ((*RUN, "-o", ""), ". is a folder: name a file in it, such as samples.csv"),
    ((*RUN, "-o", "none/x.csv"), "none/x.csv: there is no folder none: make it first"),
    ((*RUN, "-o", "d.csv/x.csv"), "d.csv/x.csv: there is no folder d.csv: make it first"),  # unwritable, for root too
    ((*RUN, "-o", "d.csv"), "d.csv is there already: choose another name, or --force to replace it"),
    ((*RUN, "-o", "x.txt"), "a .txt file holds one column of text, and here are "),
    ((*RUN, "-o", "n" * 250 + ".csv"), "the name is longer than 230 bytes: choose a shorter one"),
    ((*TRAIN[:-1], "folder"), "folder is there already: choose another name, or --force to replace it"),
    ((*TRAIN[:-1], "folder", "--force"), "folder is no checkpoint, so --force does not replace it: choose another name"),
    ((*TRAIN[:-1], "d.csv/m"), "d.csv/m cannot be written: Not a directory"),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with a few files to get wrong."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "folder").mkdir()
    files = {
        "d.csv": "x,kind\n1,a\n2,b\n3,a\n4,b\n5,a\n6,b\n7,a\n8,b\n", "g.csv": "species,name\nsetosa,a\n",
        "s.csv": "species\nsetosa\nsetosa\n", "both.csv": "species,label\nsetosa,setosa\n", "words.csv": "petal width (cm)\nwide\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    MISTAKES,
    ids=lambda part: " ".join(map(str, part))[:60] if isinstance(part, tuple) else "",
)
def test_a_mistake_is_one_line_with_what_would_work(genreg, desk, monkeypatch, arguments, message):
    monkeypatch.chdir(desk)
    before = sorted(desk.rglob("*"))
    done = genreg(*arguments)
    assert message in done.line
    assert done.code == 2
    assert sorted(desk.rglob("*")) == before


def test_a_sampler_that_the_draft_does_not_fit_says_why(genreg):
    for call, reason in {
        "truncate:psi=0.5": "truncate pulls samples towards the prior mean, and this draft has none",
        "mix:layers=0": "mix exchanges layers, and this draft has no axes",
    }.items():
        done = genreg(*RUN, "-n", "2", "--sampler", call)
        assert (done.code, done.line) == (2, reason)


def test_errors_are_json_under_json(process):
    done = process("run", "nb-irs", "--json")
    assert (done.code, done.out) == (2, "")
    assert json.loads(done.err) == {
        "error": {"kind": "NotFound", "message": "there is no model nb-irs; did you mean nb-iris?"}
    }
    assert json.loads(process("list", "--nope", "--json").err)["error"]["kind"] == "NoSuchOption"


def test_debug_adds_the_traceback(genreg):
    done = genreg("--debug", "run", "nb-irs")
    assert done.code == 2
    assert done.err.startswith("Traceback")
    assert done.err.endswith("\ngenreg: there is no model nb-irs; did you mean nb-iris?\n")
    assert genreg("run", "nb-irs", "--debug").err == done.err


# ---- pipes, terminals, signals ----


def test_stdout_is_csv_for_a_pipe(process):
    done = process("run", "nb-iris", "-n", "2", "--seed", "0", "-o", "-")
    assert (done.code, done.err, len(rows(done.out))) == (0, "", 2)
    assert "\x1b" not in done.out


def test_a_reader_that_leaves_is_no_error(start):
    child = start("run", "nb-iris", "-n", "300000", "--seed", "0")
    assert child.stdout.readline().decode() == IRIS + "\n"
    child.stdout.close()
    assert child.communicate(timeout=30)[1] == b""
    assert child.returncode in (0, 1)


def on_terminal(start, *arguments: object, cwd: Path, both: bool) -> tuple[int, str, str]:
    """Exit code, what a terminal shows (stderr, or stdout too), and what went into stdout's pipe."""
    ours, theirs = pty.openpty()
    env = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30", "NO_COLOR": "1"}
    child = start(*arguments, env=env, cwd=cwd, stderr=theirs, **({"stdout": theirs} if both else {}))
    os.close(theirs)
    shown, piped, open_ends = b"", b"", {ours: 0} | ({} if both else {child.stdout.fileno(): 1})
    while open_ends:
        for end in select.select(list(open_ends), [], [], 30)[0]:
            try:
                data = os.read(end, 1 << 16)
            except OSError:  # the other side of a terminal has gone
                data = b""
            if not data:
                del open_ends[end]
            elif end == ours:
                shown += data
            else:
                piped += data
    os.close(ours)
    if child.stdout:
        child.stdout.close()
    return child.wait(timeout=30), shown.decode(), piped.decode()


def test_a_terminal_shows_a_table(start, tmp_path):
    code, shown, _ = on_terminal(start, "run", "nb-iris", "setosa", "-n", "3", "--seed", "0", cwd=tmp_path, both=True)
    lines = shown.replace("\r\n", "\n").splitlines()
    assert (code, len(lines)) == (0, 4)  # no bar was drawn into it
    assert lines[0].split("  ")[0] == "sepal length (cm)"
    assert all(line.startswith(" ") for line in lines[1:])
    assert "\x1b" not in shown


def test_a_terminal_shows_the_bar_on_stderr_and_the_pipe_gets_all_rows(start, tmp_path):
    code, shown, piped = on_terminal(start, "run", "nb-iris", "-n", "5000", "--seed", "0", cwd=tmp_path, both=False)
    assert (code, len(rows(piped))) == (0, 5000)
    assert "sampling" in shown
    code, shown, piped = on_terminal(start, "run", "nb-iris", "-n", "5000", "-o", "x.csv", cwd=tmp_path, both=False)
    assert (code, piped) == (0, "")
    assert "sampling" in shown
    assert "wrote x.csv (5,000 rows)" in shown


def test_text_goes_into_the_pipe_also_where_stderr_is_a_terminal(start, tmp_path, distribution):
    code = """
import pyarrow as pa
from genreg import Draft, ModelFamily, Settings, hookimpl

class Echo:
    def propose(self, seeds, given, /):
        return Draft(seeds, seeds)
    def render(self, draft, /):
        return pa.RecordBatch.from_arrays([pa.array([f"line {s}" for s in draft.seeds.tolist()])], names=["text"])

@hookimpl
def genreg_models():
    columns = lambda config: pa.schema([("text", pa.string())])
    return [ModelFamily("echo", "Echo", "text", "a seed", Settings, Settings, columns, lambda c, o, w: Echo())]
"""
    registry = "version: 1\nmodels: {lines: {family: echo, makes: text, summary: Lines}}\n"
    made = distribution("genreg-echo", code, registry=registry)
    env = {"PYTHONPATH": str(made.site)}
    code, shown, piped = on_terminal(
        lambda *a, **k: start(*a, **{**k, "env": {**k["env"], **env}}),
        "run",
        "lines",
        "-n",
        "2",
        "--seed",
        "5",
        cwd=tmp_path,
        both=False,
    )
    assert (code, piped) == (0, "line 5\nline 6\n")
    assert "line 5" not in shown


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_half_written(start, tmp_path, signalled):
    old, part = tmp_path / "big.csv", tmp_path / "big.csv.part"
    old.write_text("kept\n")
    child = start("run", "nb-iris", "-n", "20000000", "--seed", "0", "-o", "big.csv", "--force", cwd=tmp_path)
    while not list(part.glob("[0-9]*.arrow")):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signalled)
    out, err = child.communicate(timeout=30)
    rows = 4096 * len(list(part.glob("[0-9]*.arrow")))
    kept = f"{rows:,} of 20,000,000 rows are kept in big.csv.part: --resume continues from there"
    assert (child.returncode, out, err.decode().lstrip()) == (130, b"", f"genreg: interrupted; {kept}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.csv", "big.csv.part"]
    assert not [path for path in part.iterdir() if path.name.startswith(".")]
    assert old.read_text() == "kept\n"


# ---- names, labels and cells in Chinese, end to end ----


def test_chinese_text_goes_all_the_way(process, tmp_path):
    random.seed(0)
    lines = ["种类,花瓣长,颜色"]
    for at in range(120):
        kind = ("山鸢尾", "变色鸢尾")[at % 2]
        lines.append(f"{kind},{random.gauss(2 + 3 * (at % 2), 0.3):.2f},{random.choice(['红', '蓝'])}")
    (tmp_path / "花.csv").write_bytes("\n".join(lines).encode("gb18030"))
    done = process("train", "nb", "--data", "花.csv", "--label", "种类", "-o", "模型", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == "genreg: 花.csv is not UTF-8 (line 1); it looks like GB18030: --loader csv:encoding=gb18030\n"
    done = process(
        "train",
        "nb",
        "--data",
        "花.csv",
        "--label",
        "种类",
        "--loader",
        "csv:encoding=gb18030",
        "-o",
        "模型",
        cwd=tmp_path,
    )
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("genreg: try: genreg run ./模型 -n 5\n")
    done = process(
        "run", "模型", "山鸢尾", "--given", "颜色=红", "-n", "3", "--seed", "0", "-o", "样本.csv", cwd=tmp_path
    )
    assert done.err == "genreg: wrote 样本.csv (3 rows) and 样本.csv.recipe.json\n"
    made = rows((tmp_path / "样本.csv").read_text("utf-8"))
    assert [(row["种类"], row["颜色"]) for row in made] == [("山鸢尾", "红")] * 3
    assert all(1 < float(row["花瓣长"]) < 3 for row in made)
    assert '"种类": "山鸢尾"' in (tmp_path / "样本.csv.recipe.json").read_text("utf-8")
    done = process("run", "模型", "玫瑰", cwd=tmp_path)
    assert done.err == "genreg: 种类=玫瑰 was not seen in training; there are: 变色鸢尾, 山鸢尾\n"
