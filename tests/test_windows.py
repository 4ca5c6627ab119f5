"""Nothing finished is lost: a run that was killed, torn or left without room goes on, and its file is the same."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from tests import toys

from genreg import columnar
from genreg.data import guessed_rows, noted
from genreg.errors import GenregError
from genreg.files import new_file
from genreg.form import Form
from genreg.given import Given
from genreg.recipe import recipe_path
from genreg.samplers import interpolate
from genreg.specs import Sampler
from genreg.windows import Run, Windows, stretches, window_rows

N = 10_000  # rows of nb-iris: three windows
RUN = ("run", "nb-iris", "-n", N, "--seed", "5")


def part(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


def windows(out: Path) -> list[Path]:
    return sorted(part(out).glob("[0-9]*.arrow"))


def stop_after(monkeypatch, count: int, error: BaseException) -> None:
    """The run ends with the error when so many windows are kept."""
    kept = 0

    def keep(self, number, batch, *, sync):
        nonlocal kept
        if kept == count:
            raise error
        kept += 1
        own(self, number, batch, sync=sync)

    own = Windows.keep
    monkeypatch.setattr(Windows, "keep", keep)


@pytest.fixture
def whole(genreg, tmp_path):
    """The bytes of an unbroken run, by suffix."""

    def make(suffix: str, *arguments: object) -> bytes:
        out = tmp_path / f"whole{suffix}"
        assert genreg(*(arguments or RUN), "-o", out).code == 0
        assert not part(out).exists()
        return out.read_bytes()

    return make


# ---- a window is made of the recipe and its number ----

SCHEMA = toys.petals_columns(toys.Nothing())
PETALS = Form(SCHEMA, SCHEMA, toys.petals_conditions(toys.Nothing()))
WALK = [(Sampler(interpolate, scope="all"), {"steps": 7})]


@pytest.mark.parametrize("edits", [[], WALK], ids=["row by row", "a sampler that sees all"])
def test_any_stretch_of_rows_is_the_same_alone(edits):
    given = Given(pa.record_batch({"label": pa.array([1], pa.int32())}), seeds=np.arange(50, dtype=np.uint64))
    run = Run(toys.load_petals(toys.Nothing(), toys.Nothing(), None), PETALS, given, edits, 8)
    assert len(run) == (344 if edits else 50)
    made = pa.Table.from_batches(run.rows())
    assert made.schema == run.schema
    for start, stop in [(0, 1), (3, 30), (17, 18), (20, len(run)), (9, 9)]:
        alone = pa.Table.from_batches(run.rows(start, stop, batch=5))
        assert alone.to_pylist() == made.slice(start, stop - start).to_pylist()


def test_where_samples_are_not_exact_stretches_are_rendered_as_the_whole_is():
    calls: list[tuple[int, int]] = []

    class Watched:
        def propose(self, seeds, given, /):
            calls.append((int(seeds[0]), len(seeds)))
            return toys.Draft(np.zeros((len(seeds), 1)), seeds, ("latent",))

        def render(self, draft, /):
            calls.append((int(draft.seeds[0]), len(draft)))
            return pa.record_batch({"x": draft.values[:, 0]})

    form = Form(schema := pa.schema([("x", pa.float64())]), schema)
    given = Given(pa.RecordBatch.from_pylist([{}]), seeds=np.arange(70_000, dtype=np.uint64))
    run = Run(Watched(), form, replace(given, batch=given.batch), [], 300, aligned=True)
    whole = pa.Table.from_batches(run.rows())
    asked = set(calls)
    calls.clear()
    size = window_rows(run)
    assert size % 300 == 0
    pieces = [pa.Table.from_batches(run.rows(at, min(at + size, 70_000))) for at in range(0, 70_000, size)]
    assert set(calls) == asked
    assert pa.concat_tables(pieces).num_rows == whole.num_rows


def test_how_many_rows_a_window_has_follows_from_the_schema():
    def rows(kind: pa.DataType) -> int:
        return guessed_rows(pa.schema([("x", kind)]), 1 << 24, 4096)

    assert [rows(kind) for kind in (pa.float64(), pa.string(), pa.list_(pa.int8()), pa.null())] == [4096] * 4
    assert rows(pa.fixed_shape_tensor(pa.uint8(), [1024, 1024, 3])) == 5
    assert rows(pa.struct([("a", pa.list_(pa.float32(), 1 << 20)), ("b", pa.int8())])) == 3
    assert rows(pa.binary()) == 63  # an encoded image
    assert rows(pa.fixed_shape_tensor(pa.uint8(), [1 << 14, 1 << 14])) == 1


def test_stretches_have_no_gap():
    assert list(stretches([])) == []
    assert list(stretches([2, 3, 4, 7, 9, 10])) == [(2, 4), (7, 7), (9, 10)]


@pytest.mark.parametrize("write", [columnar.write_parquet, columnar.write_arrow])
def test_the_bytes_of_a_file_do_not_depend_on_how_its_rows_come(tmp_path, monkeypatch, write):
    monkeypatch.setattr(columnar, "ROWS", 37)
    rng, n = random.Random(0), 100

    def some(cell) -> list:
        return [None if rng.random() < 0.2 else cell() for _ in range(n)]

    fields = {
        pa.field("yes", pa.bool_()): some(lambda: rng.random() < 0.5),
        pa.field("x", pa.float64()): some(rng.random),
        pa.field("late", pa.float64()): [1.5] * 60 + [None] * 5 + [2.5] * 35,  # most groups have no null
        pa.field("text", pa.string()): some(lambda: "x" * rng.randrange(9)),
        noted(pa.field("kind", pa.string()), values=["a", "b"], dictionary="int8"): some(lambda: rng.choice("ab")),
        pa.field("list", pa.list_(pa.int32())): some(lambda: [rng.randrange(9)] * rng.randrange(4)),
        pa.field("three", pa.list_(pa.int32(), 3)): some(lambda: [1, 2, 3]),
        pa.field("time", pa.timestamp("us")): some(lambda: rng.randrange(10**9)),
    }
    arrays = [pa.array(cells, field.type) for field, cells in fields.items()]
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4 * n, dtype=np.uint8).reshape(n, 2, 2))
    schema = pa.schema([*fields, pa.field("image", pixels.type)])
    batch = pa.RecordBatch.from_arrays([*arrays, pixels], schema=schema)
    found = set()
    for _ in range(20):
        cuts = sorted(rng.sample(range(1, n), rng.randrange(8)))
        write([batch.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, n], strict=True)], schema, tmp_path / "x")
        found.add((tmp_path / "x").read_bytes())
    assert len(found) == 1


# ---- killed ----


KILLED = ("run", "nb-iris", "-n", "120000", "--seed", "5")  # 30 windows
STABLE = """
import os, sys
import genreg.running, genreg_nb.model
from genreg.cli import main

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            main(line.split())
        finally:
            os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""  # a process that has imported everything forks one for each line, so that ten of them do not take a minute


def killed_or_finished(stable, out: Path, target: int | None) -> bool:
    """Kill a run when so many windows are there (more than there are: while they are put together); None lets it
    finish. Whether it was under way."""
    print(*KILLED, "-o", out, "--resume", file=stable.stdin, flush=True)
    child = int(stable.stdout.readline())
    while target is not None and not out.exists():
        there = len(windows(out)) if part(out).exists() else 0
        joining = any(path.name.startswith(".") and path.name.endswith(out.name) for path in out.parent.iterdir())
        if there >= target or (target > 30 and joining):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.001)
    return int(stable.stdout.readline()) == signal.SIGKILL


def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_bytes(whole, tmp_path):
    """SIGKILL at ten random points, for every kind of writer: while windows fill, and while they are put together."""
    rng, under_way = random.Random(7), 0
    with subprocess.Popen([sys.executable, "-c", STABLE], stdin=-1, stdout=-1, stderr=-3, text=True) as stable:
        for suffix, kills in {".csv": 3, ".jsonl": 2, ".parquet": 3, ".arrow": 2}.items():
            for target in [*sorted(rng.randrange(1, 40) for _ in range(kills)), None]:
                under_way += killed_or_finished(stable, tmp_path / f"x{suffix}", target)
        stable.stdin.close()
    assert under_way == 10
    for suffix in (".csv", ".jsonl", ".parquet", ".arrow"):
        out = tmp_path / f"x{suffix}"
        assert out.read_bytes() == whole(suffix, *KILLED)
        assert recipe_path(out).read_text() == recipe_path(tmp_path / f"whole{suffix}").read_text()
        assert not part(out).exists()


def test_finished_windows_are_kept_and_a_torn_one_is_made_again(genreg, whole, tmp_path, monkeypatch):
    out = tmp_path / "x.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        done = genreg(*RUN, "-o", out)
    assert done.line == f"interrupted; 8,192 of 10,000 rows are kept in {part(out)}: --resume continues from there"
    assert done.code == 130
    assert not out.exists()
    assert pa.feather.read_table(windows(out)[0]).num_rows == 4096  # an Arrow file like any other
    windows(out)[1].write_bytes(windows(out)[1].read_bytes()[:-100])
    (part(out) / ".99.2.arrow").write_bytes(b"half")
    asked = []
    own = Run.rows

    def rows(self, start, stop, **how):
        asked.append((start, stop))
        return own(self, start, stop, **how)

    monkeypatch.setattr(Run, "rows", rows)
    done = genreg(*RUN, "-o", out, "--resume")
    assert (done.code, done.line) == (0, f"wrote {out} (10,000 rows) and x.csv.recipe.json")
    assert asked == [(4096, 10_000)]
    monkeypatch.setattr(Run, "rows", own)
    assert out.read_bytes() == whole(".csv")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("x")) == [
        "x.csv",
        "x.csv.recipe.json",
    ]


@pytest.fixture
def broken_off(genreg, tmp_path, monkeypatch) -> Path:
    """The name of an output whose run was interrupted, with a seed that was drawn."""
    out = tmp_path / "x.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        done = genreg("run", "nb-iris", "-n", N, "-o", out)
    assert done.code == 130
    assert re.fullmatch(r"genreg: seed [0-9]+\ngenreg: interrupted; 4,096 of 10,000 rows are kept in .*\n", done.err)
    return out


def test_a_seed_that_was_drawn_is_gone_on_with(genreg, broken_off):
    done = genreg("run", "nb-iris", "-n", N, "-o", broken_off, "--resume")
    assert (done.code, done.line) == (0, f"wrote {broken_off} (10,000 rows) and x.csv.recipe.json")
    again = broken_off.with_name("again.csv")
    assert genreg("run", "--recipe", broken_off, "-o", again).code == 0
    assert again.read_bytes() == broken_off.read_bytes()


def test_resume_needs_no_more_than_the_name(genreg, broken_off):
    assert genreg("run", "-o", broken_off, "--resume").code == 0
    assert broken_off.read_text().count("\n") == N + 1
    done = genreg("run", "-o", broken_off, "--resume")
    assert (done.code, done.line) == (0, f"{broken_off} is finished already")
    assert '"rows": 10000' in genreg("run", "-o", broken_off, "--resume", "--json").out


def test_resume_begins_where_nothing_is_there(genreg, whole, tmp_path):
    out = tmp_path / "x.csv"
    assert genreg(*RUN, "-o", out, "--resume").code == 0
    assert out.read_bytes() == whole(".csv")


def test_an_unfinished_run_is_neither_mixed_up_nor_overwritten_unasked(genreg, whole, broken_off):
    out, folder = broken_off, part(broken_off)
    told = f"{folder} holds an unfinished run: --resume continues it, --force starts over"
    assert genreg(*RUN, "-o", out).line == told
    assert genreg("run", "nb-iris", "-n", "1", "-o", out).line == told
    for arguments, what in {
        ("run", "nb-iris", "-n", "9999"): "n is 10000, and here it is 9999",
        ("run", "nb-iris", "setosa", "-n", N): 'given is {}, and here it is {"values": {"species": "setosa"}}',
        ("run", "nb-iris", "-n", N, "--shard", "1/2"): 'shard is null, and here it is "1/2"',
        RUN: 'here it is "5-10004"',
    }.items():
        done = genreg(*arguments, "-o", out, "--resume")
        assert done.code == 2
        assert done.line.startswith(f"--resume: {folder} holds another run: its ")
        assert done.line.endswith(f"{what}; ask for the same, or --force starts over")
    assert genreg(*RUN, "-o", out, "--force").code == 0
    assert out.read_bytes() == whole(".csv")
    assert not folder.exists()


def test_what_cannot_be_gone_on_with_is_said(genreg, tmp_path):
    assert genreg(*RUN, "--resume").line == "--resume goes on with a file: name it with -o"
    assert genreg("run", "--resume", "-o", tmp_path / "x.csv").line == (
        "name a model: genreg run NAME (genreg list shows them)"
    )
    (tmp_path / "x.csv.part").mkdir()
    assert genreg(*RUN, "-o", tmp_path / "x.csv", "--force").line == (
        f"{tmp_path / 'x.csv.part'} is in the way, and is no unfinished run: move it, or choose another name"
    )
    (tmp_path / "y.csv").write_text("mine\n")
    done = genreg(*RUN, "-o", tmp_path / "y.csv", "--resume")
    assert done.line == f"{tmp_path / 'y.csv'} is there already: choose another name, or --force to replace it"


def test_a_file_that_came_in_between_is_not_replaced(genreg, broken_off):
    broken_off.write_text("mine\n")
    done = genreg("run", "-o", broken_off, "--resume")
    assert (done.code, broken_off.read_text()) == (2, "mine\n")
    assert done.line == (
        f"{broken_off} is there already, with other rows: choose another name, or --force to replace it"
    )
    assert genreg("run", "-o", broken_off, "--resume", "--force").code == 0
    assert broken_off.read_text().count("\n") == N + 1


def test_a_kill_between_the_last_two_steps_is_mended(genreg, whole, tmp_path, monkeypatch):
    out, expected = tmp_path / "x.parquet", whole(".parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        genreg(*RUN, "-o", out)
    out.write_bytes(expected)  # renamed, and killed before the recipe was written
    assert genreg(*RUN, "-o", out, "--resume").code == 0
    assert recipe_path(out).is_file()
    assert not part(out).exists()


def test_a_short_run_has_no_windows(genreg, tmp_path, monkeypatch):
    monkeypatch.setattr("genreg.running.begin", None)
    assert genreg("run", "nb-iris", "-n", "4096", "-o", tmp_path / "x.csv").code == 0
    assert genreg("run", "nb-iris", "-n", "0", "-o", tmp_path / "none.csv").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "none.csv", "none.csv.recipe.json", "x.csv", "x.csv.recipe.json",
    ]  # fmt: skip


def test_what_a_writer_cannot_hold_is_told_before_the_first_row(genreg, tmp_path, monkeypatch):
    stop_after(monkeypatch, 0, AssertionError("too late"))
    done = genreg(*RUN, "-o", tmp_path / "x.txt")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert done.line.startswith("a .txt file holds one column of text, and here are ")


# ---- no room ----


@pytest.mark.parametrize(
    ("limit", "rows"), [(300_000, 20_000), (50_000, 0)], ids=["while it is put together", "in the first window"]
)
def test_a_full_disk_is_one_line_and_what_was_finished_stays(genreg, whole, tmp_path, limit, rows):
    out, asked = tmp_path / "x.csv", ("run", "nb-iris", "-n", "20000", "--seed", "5")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        done = genreg(*asked, "-o", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = f"{rows:,} of 20,000 rows are kept in {part(out)}: --resume continues from there"
    left = left if rows else "nothing was finished, and nothing is left half written"
    assert (done.code, done.line) == (2, f"{out} cannot be written: File too large; {left}")
    assert [path.name for path in tmp_path.iterdir()] == (["x.csv.part"] if rows else [])
    assert genreg(*asked, "-o", out, "--resume").code == 0
    assert out.read_bytes() == whole(".csv", *asked)


def test_no_room_by_another_name(genreg, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1, OSError(28, "whatever"))
    done = genreg(*RUN, "-o", tmp_path / "x.csv")
    assert (done.code, done.line) == (
        2,
        f"{tmp_path / 'x.csv'} cannot be written: No space left on device; 4,096 of 10,000 rows are kept in "
        f"{tmp_path / 'x.csv.part'}: --resume continues from there",
    )
    told = "cannot be written: No space left on device; nothing was left half done"
    with pytest.raises(GenregError, match=told), new_file(tmp_path / "y"):
        raise OSError(28, "Error writing bytes. Detail: [errno 28] No space left on device")


def test_another_error_is_told_as_it_is_and_what_was_finished_stays(genreg, tmp_path, monkeypatch):
    out = tmp_path / "x.csv"
    for error in (ConnectionError("no network"), ValueError("a fault")):
        with monkeypatch.context() as patch:
            stop_after(patch, 1, error)
            done = genreg(*RUN, "-o", out, "--force")
        assert (done.code, done.line) == (1, f"unexpected {type(error).__name__}: {error} (--debug shows where)")
        assert len(windows(out)) == 1


# ---- rows that come in any order, each once ----


def test_an_answer_that_was_kept_is_never_asked_for_again(genreg, tmp_path, monkeypatch, flowers_and_answers):
    """Of 600 prompts, whose answers cannot be had twice: two windows are kept, and the journal has what came after."""
    out, given, answers = tmp_path / "x.jsonl", tmp_path / "given.csv", Counter[str]()
    given.write_text("prompt\n" + "".join(f"question {row}\n" for row in range(600)))

    def answer(request):
        if len(answers) == stops_at:
            raise KeyboardInterrupt
        answers[request.prompt] += 1
        return toys.Done(request.row, {"prompt": request.prompt, "text": f"answer {answers.total()}"})

    monkeypatch.setattr(toys, "answer", answer)
    asked = ("run", "answers", "--given", given, "--seed", "5", "-o", out)
    stops_at = 3
    done = genreg(*asked)  # the journal alone is worth going on with
    assert done.line == f"interrupted; 0 of 600 rows are kept in {part(out)}: --resume continues from there"
    stops_at = 580
    done = genreg(*asked, "--resume")
    assert done.line == f"interrupted; 512 of 600 rows are kept in {part(out)}: --resume continues from there"
    handed = []
    own = toys.Oracle.stream

    def stream(self, drafts, /, *, folder):
        drafts = list(drafts)
        handed.extend(seed for draft in drafts for seed in draft.seeds.tolist())
        yield from own(self, iter(drafts), folder=folder)

    monkeypatch.setattr(toys.Oracle, "stream", stream)
    stops_at = -1
    done = genreg(*asked, "--resume")
    assert (done.code, done.line) == (0, f"wrote {out} (600 rows) and x.jsonl.recipe.json")
    assert handed == list(range(5 + 512, 605))
    assert set(answers.values()) == {1}
    lines = out.read_text().splitlines()
    assert [line.split('"')[3] for line in lines] == [f"question {row}" for row in range(600)]
    assert len({line.split('"')[7] for line in lines}) == 600
    assert not part(out).exists()


def test_rows_that_are_not_ok_are_counted_over_all_windows(genreg, tmp_path, monkeypatch, flowers_and_answers):
    given, out = tmp_path / "given.csv", tmp_path / "x.csv"
    given.write_text("prompt\nboom\n" + "fine\n" * 299)
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        assert genreg("run", "answers", "--given", given, "--seed", "5", "-o", out).code == 130
    assert genreg("run", "-o", out, "--resume").code == 3  # the row that failed was kept before
    assert not part(out).exists()


def test_a_finished_run_is_told_with_its_own_exit_code(genreg, tmp_path, flowers_and_answers):
    given, out = tmp_path / "given.csv", tmp_path / "x.csv"
    given.write_text("prompt\nboom\nfine\nsecret\n")
    asked = ("run", "answers", "--given", given, "--seed", "5", "-o", out, "--resume")
    assert genreg(*asked).code == 3
    assert json.loads(genreg("show", out, "--json").out)["not_ok"] == 2
    for again in (asked, ("run", "-o", out, "--resume")):
        done = genreg(*again)
        assert (done.code, done.line) == (3, f"{out} is finished already; rows that are not ok: 2")
    assert genreg(*asked, "--json").code == 3
    given.write_text("prompt\nfine\n")
    assert genreg(*asked, "--force").code == 0
    done = genreg(*asked)
    assert (done.code, done.line) == (0, f"{out} is finished already")


# ---- bounded memory ----

PEAK = """
import re, sys
from pathlib import Path
from genreg.cli import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_bounded_whatever_the_number_of_rows(tmp_path):
    """The peak over a run of 1,000 rows, which itself takes about 130 MB: a window, a row group, 8 bytes a sample."""
    peak = {}
    for n in (1000, 200_000):
        command = [sys.executable, "-c", PEAK, "run", "nb-iris", "-n", str(n), "--seed", "0", "-o", f"{n}.parquet"]
        peak[n] = int(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout) / 1024
    assert peak[200_000] < peak[1000] + 100
