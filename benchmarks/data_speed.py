"""How fast, and in how little memory, does `genreg data prepare` work?

    python benchmarks/data_speed.py

Equal rows are sought among 1,000,000 rows of 20 columns at hand, against polars' ``unique`` in the faster of its two
ways, which does not keep the order: CPU time, the least of several repeats of both sides in turn, one thread each. The
rest are whole commands on a CSV of 6,000,000 rows and 20 columns, in a process that may not have more private memory
than the cap (RLIMIT_DATA): what it took is the most of RssAnon, which leaves out files that are mapped.
Prints a Markdown table; the exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import os

os.environ["POLARS_MAX_THREADS"] = "1"

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
from pyarrow import csv

from genreg.data import Source
from genreg.preprocess import cleaned, dedupe

ROWS, LARGE, BATCH, REPEATS = 1_000_000, 6_000_000, 250_000, 5
MB = 1 << 20
CODES = np.array([f"编号{at:06d}" for at in range(50_000)])
FILL = ["--steps", "fillna:columns=[f0,f1]", "--steps", "within:column=f2,low=-3,high=3"]
SCALE = ["--steps", "split:key=id", "--steps", "standardize:columns=[f0,f1,f2,f3]"]


def table(rows: int, draw: np.random.Generator, *, first: int = 0) -> pa.Table:
    """Rows of 10 floats, 5 whole numbers and 5 texts, about 5 % of which are copies of others among them."""
    columns: dict[str, object] = {"id": np.arange(first, first + rows)}
    columns |= {f"f{at}": draw.normal(size=rows).round(4) for at in range(10)}
    columns |= {f"n{at}": draw.integers(0, 10**6, rows) for at in range(4)}
    columns |= {f"t{at}": CODES[draw.integers(0, len(CODES), rows)] for at in range(5)}
    pick = np.where(draw.random(rows) < 0.05, draw.integers(0, rows, rows), np.arange(rows))
    made = pa.table(columns).take(pick).combine_chunks()
    holes = pa.array(made["f0"].to_numpy(), mask=draw.random(rows) < 0.03)
    return made.set_column(made.schema.get_field_index("f0"), "f0", holes)


def seconds(theirs: Callable[[], int], ours: Callable[[], int]) -> tuple[float, float]:
    """CPU seconds of each, the least of ``REPEATS`` taken in turn; both must find as many rows."""
    found: list[list[float]] = [[], []]
    for _ in range(REPEATS):
        counts = []
        for at, function in enumerate((theirs, ours)):
            start = time.process_time()
            counts.append(function())
            found[at].append(time.process_time() - start)
        assert counts[0] == counts[1], counts
    return min(found[0]), min(found[1])


def in_memory(draw: np.random.Generator) -> bool:
    """Exact duplicates against polars."""
    source = Source.of(table(ROWS, draw), "train")
    frame = polars.from_arrow(source.table)
    assert isinstance(frame, polars.DataFrame)

    def ours() -> int:
        return cleaned(source, dedupe(source)).rows or 0

    theirs, own = seconds(lambda: frame.unique(maintain_order=False).height, ours)
    met = own / theirs <= 2
    told("equal rows among 1M x 20", f"{theirs:.2f} s (polars)", f"{own:.2f} s", f"{own / theirs:.2f}", "2", met)
    return met


def written(path: Path, draw: np.random.Generator) -> None:
    """A CSV of LARGE rows."""
    writer = None
    for first in range(0, LARGE, BATCH):
        rows = table(BATCH, draw, first=first)
        writer = writer or csv.CSVWriter(str(path), rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def capped(words: list[str], cap: int) -> tuple[int, float, int]:
    """The exit code, CPU seconds and most private memory (bytes) of a command that may not have more than the cap."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "genreg", *words], stdout=subprocess.DEVNULL, preexec_fn=limit
    )  # fmt: skip
    most = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max(
                most, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
            )
        except (OSError, TypeError):  # it has just ended
            break
        time.sleep(0.05)
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return process.returncode, cpu, most


def told(what: str, peer: str, own: str, ratio: str, goal: str, met: bool) -> None:
    sys.stdout.write(f"| {what} | {peer} | {own} | {ratio} | {goal} | {'met' if met else '**missed**'} |\n")
    sys.stdout.flush()


def on_disk(draw: np.random.Generator) -> bool:
    """Whole commands on a large CSV within their caps."""
    all_met = True
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "large.csv"
        written(path, draw)
        size = path.stat().st_size / 1e9
        for what, steps, form, cap in (
            ("fill, filter, split, normalize, store as Parquet", [*FILL, *SCALE], "parquet", 512),
            ("the same, stored as CSV", [*FILL, *SCALE], "csv", 512),
            ("leave out equal rows, by runs on disk", ["--steps", "dedupe"], "parquet", 1024),
        ):
            out = Path(folder) / "out"
            words = ["data", "prepare", str(path), *steps, "--format", form, "-o", str(out), "--force"]
            code, cpu, most = capped(words, cap * MB)
            met = code == 0
            all_met &= met
            told(
                f"{what}, a CSV of {size:.2f} GB", f"{cap} MB", f"{most / MB:.0f} MB, {cpu:.0f} CPU s", "", "ends", met
            )
    return all_met


def main() -> int:
    """Print the table; 1 when a goal is missed."""
    draw = np.random.default_rng(0)
    sys.stdout.write("| what | peer or cap | own | ratio | at most | |\n|---|---:|---:|---:|---:|---|\n")
    met = [in_memory(draw), on_disk(draw)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
