"""Shards and workers: many make the rows of one run, and the file is the one that a single process writes."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from genreg.errors import UsageError
from genreg.recipe import read_recipe
from genreg.shards import bounds, parse_shard
from genreg.workers import fill_with

N = 20_001
RUN = ("run", "nb-iris", "-n", N, "--seed", "5")
ECHO = """
import pyarrow as pa
from genreg import Draft, ModelFamily, Settings, hookimpl

class Echo:
    def propose(self, seeds, given, /):
        return Draft(seeds, seeds)
    def render(self, draft, /):
        return pa.RecordBatch.from_arrays([pa.array([f"line {s}\\n" for s in draft.seeds.tolist()])], names=["text"])

@hookimpl
def genreg_models():
    columns = lambda config: pa.schema([("text", pa.string())])
    return [ModelFamily("echo", "Echo", "text", "a seed", Settings, Settings, columns, lambda c, o, w: Echo())]
"""
LINES = "version: 1\nmodels: {lines: {family: echo, makes: text, summary: Lines}}\n"
SUFFIXES = [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather"]


def in_shards(genreg, count: int, folder: Path, suffix: str, *arguments: object) -> list[Path]:
    """The shards of a run, made one by one."""
    paths = [folder / f"{number}{suffix}" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        assert genreg(*arguments, "--shard", f"{number}/{count}", "-o", path).code == 0
    return paths


def same(genreg, count: int, folder: Path, suffix: str, *arguments: object) -> None:
    """One process and ``count`` write the same file, with the same recipe."""
    whole, out = folder / f"whole{suffix}", folder / f"out{suffix}"
    assert genreg(*arguments, "-o", whole).code == 0
    done = genreg("concat", *in_shards(genreg, count, folder, suffix, *arguments), "-o", out)
    assert (done.code, done.line) == (0, f"wrote {out} ({count} shards) and {out.name}.recipe.json")
    assert out.read_bytes() == whole.read_bytes()
    assert read_recipe(out) == read_recipe(whole)


# ---- shards ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_eight_shards_are_the_file_of_one_run(genreg, tmp_path, suffix):
    same(genreg, 8, tmp_path, suffix, *RUN)


def test_shards_of_lines_of_text(genreg, tmp_path, distribution):
    distribution("genreg-echo", ECHO, registry=LINES)
    same(genreg, 3, tmp_path, ".txt", "run", "lines", "-n", "7", "--seed", "8")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("sampler", ["truncate:psi=0.5", "interpolate:steps=9", "mix:layers=1-2"])
def test_shards_of_images_also_where_a_sampler_sees_all(genreg, tmp_path, flowers_and_answers, suffix, sampler):
    same(genreg, 5, tmp_path, suffix, "run", "flowers", "--given", "label=1", "-n", "12", "--seed", "1", "--sampler", sampler)  # fmt: skip


def test_shards_of_conditions_from_a_file(genreg, tmp_path):
    given = tmp_path / "given.csv"
    given.write_text("species,name\n" + "setosa,a\nvirginica,b\n,c\n" * 3)
    same(genreg, 4, tmp_path, ".csv", "run", "nb-iris", "--given", given, "--key", "name", "-n", "3", "--seed", "7")


def test_shards_of_a_stream(genreg, tmp_path, flowers_and_answers):
    same(genreg, 3, tmp_path, ".jsonl", "run", "answers", "sun?", "-n", "300", "--seed", "7")


def test_rows_that_are_not_ok_are_counted_over_the_shards(genreg, tmp_path, flowers_and_answers):
    (tmp_path / "given.csv").write_text("prompt\nboom\nfine\nsecret\nboom\n")
    asked = ("run", "answers", "--given", tmp_path / "given.csv", "--seed", "5")
    shards = [tmp_path / f"{number}.csv" for number in (1, 2)]
    for number, path in enumerate(shards, 1):
        assert genreg(*asked, "--shard", f"{number}/2", "-o", path).code == 3
    assert genreg("concat", *shards, "-o", tmp_path / "x.csv").code == 0
    assert json.loads(genreg("show", tmp_path / "x.csv", "--json").out)["not_ok"] == 3


def test_more_shards_than_rows_leave_some_empty(genreg, tmp_path):
    for suffix in (".csv", ".parquet", ".arrow", ".jsonl"):
        same(genreg, 4, tmp_path, suffix, "run", "nb-iris", "-n", "2", "--seed", "7")


def test_a_shard_is_made_again_from_its_recipe_and_shown(genreg, tmp_path):
    one, two = in_shards(genreg, 2, tmp_path, ".csv", "run", "nb-iris", "-n", "9", "--seed", "7")
    done = genreg("run", "--recipe", two)
    assert (done.code, done.out) == (0, two.read_text())
    assert genreg("run", "nb-iris", "-n", "9", "--seed", "7", "--shard", "1/2").out == one.read_text()
    plan = json.loads(genreg("run", "nb-iris", "-n", "9", "--seed", "7", "--shard", "2/2", "--dry-run").out)
    assert (plan["samples"], plan["shard"], plan["rows"]) == (9, "2/2", 5)
    assert json.loads(genreg("show", two, "--json").out)["shard"] == "2/2"


def test_bounds_cover_all_rows_once_at_whole_units():
    for rows in (0, 1, 7, 100):
        for unit in (1, 3, 64):
            for count in (1, 2, 5):
                found = [bounds(f"{number}/{count}", rows, unit) for number in range(1, count + 1)]
                assert [row for start, stop in found for row in range(start, stop)] == list(range(rows))
                assert all(start % unit == 0 or start == rows for start, _ in found)
    assert bounds(None, 7, 3) == (0, 7)


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "a/b", "1/0", "-1/8", "1/2/3", "1/" + "9" * 30])
def test_a_shard_is_one_of_so_many(genreg, text):
    with pytest.raises(UsageError, match=r"write which part of how many, such as 3/8, from 1/8 to 8/8$"):
        parse_shard(text)
    if text:
        assert genreg(*RUN, "--shard", text).line.startswith(f"--shard {text}: write which part")


# ---- what cannot be put together ----


def test_what_is_no_run_in_shards_is_refused(genreg, tmp_path):
    small = ("run", "nb-iris", "-n", "9", "--seed", "7")
    one, two, three = in_shards(genreg, 3, tmp_path, ".csv", *small)
    (tmp_path / "other").mkdir()
    other, *_ = in_shards(genreg, 3, tmp_path / "other", ".csv", "run", "nb-iris", "-n", "9", "--seed", "8")
    whole, picture, plain = tmp_path / "whole.csv", tmp_path / "1.png", tmp_path / "x.jsonl"
    genreg(*small, "-o", whole)
    picture.write_bytes(b"")
    plain.write_text("")
    out = tmp_path / "out.csv"
    kinds = ".csv, .tsv, .jsonl, .ndjson, .txt, .parquet, .arrow, .feather"
    for shards, target, message in [
        ((one, two), out, "these are the shards 1/3, 2/3 of 3: 3/3 is missing"),
        ((two,), out, "these are the shards 2/3 of 3: 1/3, 3/3 are missing"),
        ((one, three, two), out, "these are the shards 1/3, 3/3, 2/3 of 3: name each once, in order"),
        ((one, two, two, three), out, "these are the shards 1/3, 2/3, 2/3, 3/3 of 3: name each once, in order"),
        ((other, two, three), out, f"{two} is no shard of the run that made {other}"),
        ((whole,), out, f"{whole} is no shard, but all of a run"),
        ((plain,), out.with_suffix(".jsonl"), f"{plain} has no recipe beside it (x.jsonl.recipe.json)"),
        ((one, plain), out, f"{plain}: a .jsonl file cannot go into a .csv file: name OUT as its parts are named"),
        ((picture,), tmp_path / "x.png", f"{tmp_path / 'x.png'}: files of this kind cannot be put together; {kinds} can"),
        ((one, two, three), whole, f"{whole} is there already: choose another name, or --force to replace it"),
    ]:  # fmt: skip
        done = genreg("concat", *shards, "-o", target)
        assert (done.code, done.line) == (2, message)
        assert not out.exists()
    one.write_text("a,b\n1,2\n")
    assert genreg("concat", one, two, three, "-o", out).line == f"{two} has other columns than {one}"
    assert not out.exists()


def test_concat_tells_json_and_replaces_when_it_is_told_to(genreg, tmp_path):
    shards = in_shards(genreg, 2, tmp_path, ".parquet", "run", "nb-iris", "-n", "9", "--seed", "7")
    out = tmp_path / "out.parquet"
    out.write_text("old")
    done = genreg("concat", *shards, "-o", out, "--force", "--json")
    assert json.loads(done.out) == {"output": str(out), "recipe": f"{out}.recipe.json", "shards": 2}
    foreign = tmp_path / "1.parquet"
    foreign.write_bytes(out.read_bytes()[:50])
    assert genreg("concat", *shards, "-o", out, "--force").line.startswith("1.parquet is damaged, or not Parquet: ")


def test_a_head_with_a_newline_in_a_name_is_one_head(genreg, tmp_path, distribution):
    code = ECHO.replace('"text"', '"a \\"b\\"\\nc"')
    distribution("genreg-echo", code, registry=LINES)
    same(genreg, 2, tmp_path, ".csv", "run", "lines", "-n", "5", "--seed", "8")


# ---- workers ----


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_three_workers_write_the_file_of_one(genreg, tmp_path, suffix):
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert genreg(*RUN, "-o", whole).code == 0
    done = genreg(*RUN, "--workers", "3", "-o", out)
    assert (done.code, done.line) == (0, f"wrote {out} (20,001 rows) and {out.name}.recipe.json")
    assert out.read_bytes() == whole.read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_workers_that_would_be_no_help_are_refused(genreg, tmp_path, flowers_and_answers):
    assert genreg(*RUN, "--workers", "2").line == "--workers 2: the workers fill a file: name one with -o"
    done = genreg("run", "answers", "sun?", "--workers", "2", "-o", tmp_path / "x.csv")
    assert done.line == (
        "--workers 2: this family waits for answers, and one process waits for many at once: leave it out, or see its "
        "options for how many requests are in flight"
    )
    assert genreg(*RUN, "--workers", "0").line == "Invalid value for '--workers': 0 is not in the range x>=1."


FAULTY = ECHO.replace(
    "    def render(self, draft, /):\n",
    "    def render(self, draft, /):\n        import os, signal\n        if draft.seeds[0] == 8192: FAULT\n",
)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", " was killed by SIGKILL; the windows that were finished are kept: --resume continues"),
        ("os._exit(7)", " ended with code 7; the windows that were finished are kept: --resume continues"),
        ("raise ValueError('a fault')", ": ValueError: a fault (--debug shows where)"),
        ("from genreg import Unsupported; raise Unsupported('no such thing')", "no such thing"),
        ("raise OSError(28, 'full')", "cannot be written: No space left on device; "),
    ],
    ids=["killed", "ended", "failed", "refused", "full"],
)  # fmt: skip
def test_a_worker_that_fails_says_which_and_what_is_finished_stays(genreg, tmp_path, distribution, fault, message):
    made = distribution("genreg-echo", FAULTY.replace("FAULT", fault), registry=LINES)
    out, asked = tmp_path / "x.txt", ("run", "lines", "-n", "16384", "--seed", "0")
    done = genreg(*asked, "--workers", "2", "-o", out)
    assert done.code in (1, 2)
    assert message in done.line
    if "killed" in message or "code" in message or "fault" in message:
        assert "worker " in done.line
    assert multiprocessing.active_children() == []
    (made.folder / "__init__.py").write_text(ECHO + "# mended, and of another size\n")
    sys.modules.pop(made.package)
    assert genreg(*asked, "-o", out, "--resume").code == 0
    assert out.read_text() == "".join(f"line {seed}\\n\n" for seed in range(16384))


def test_ctrl_c_stops_all_workers(start, tmp_path):
    out = tmp_path / "x.csv"
    asked = ("run", "nb-iris", "-n", "20000000", "--seed", "0", "--workers", "2", "-o", out)
    child = start(*asked, start_new_session=True)
    folder = tmp_path / "x.csv.part"
    while not (folder.exists() and len(list(folder.glob("[0-9]*.arrow"))) > 3):
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: every process hears it
    told, err = child.communicate(timeout=30)  # stderr closes when the last process is gone
    assert (child.returncode, told) == (130, b"")
    assert err.decode().lstrip().startswith("genreg: interrupted; ")
    assert err.decode().count("\n") == 1
    assert "of 20,000,000 rows are kept in" in err.decode()


def test_no_worker_starts_where_nothing_is_missing(monkeypatch):
    class Nothing:
        def missing(self):
            return []

    class Work:
        windows = Nothing()

    fill_with(4, Work(), print)
    assert multiprocessing.active_children() == []
