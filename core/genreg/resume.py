"""The folder of a run, OUT.part: begun, continued with --resume, or refused; gone when the checkpoint is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genreg.data import Source
from genreg.errors import UsageError

RUN = "run.json"  # what is trained in the folder


def is_first() -> bool:
    """Whether this process trains alone or is the first of several (torchrun sets RANK): the first alone writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def run_folder(out: Path, *, resume: bool, force: bool) -> Iterator[tuple[Path, Path]]:
    """The run's folder, and one for this process's rows, while the block runs.

    Where the block fails, what a family left to continue from stays. Raises UsageError where an unfinished run is
    there and neither ``resume`` nor ``force`` (which starts over) says what to do with it, or a folder that is no run.
    """
    work, first = out.with_name(out.name + ".part"), is_first()
    rows = work if first else out.with_name(f".{out.name}.rows-{os.environ['RANK']}")
    if first and left_in(work):
        if not (work / RUN).is_file():
            raise UsageError(f"{work} is in the way, and is no unfinished run: move it, or choose another name")
        if not (resume or force):
            raise UsageError(f"{work} holds an unfinished run: --resume continues it, --force starts over")
        if not resume:
            shutil.rmtree(work)
    try:
        work.mkdir(parents=True, exist_ok=True)
        rows.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    try:
        yield work, rows
    except BaseException:
        if first and not left_in(work):
            shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        if not first:
            shutil.rmtree(rows, ignore_errors=True)
    if first:
        shutil.rmtree(work, ignore_errors=True)


def left_in(work: Path) -> list[str]:
    """What a family left in the folder of a run, apart from what the core keeps there."""
    if not work.is_dir():
        return [work.name] if work.exists() else []
    return sorted(file.name for file in work.iterdir() if file.name != RUN and ".arrow" not in file.suffixes)


def agree(work: Path, run: Mapping[str, Any]) -> None:
    """Note what is trained in the folder; raise UsageError where it holds a run of something else."""
    path = work / RUN
    if not is_first():
        return
    if path.is_file() and left_in(work):
        refuse_difference(work, json.loads(path.read_text("utf-8")), json.loads(json.dumps(run)))
    path.write_text(json.dumps(run, ensure_ascii=False, indent=2) + "\n", "utf-8")


def refuse_difference(work: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError naming what is not as it was when the run began; ``settings`` are compared one by one."""
    old, new = ({**run, **run.get("settings", {}), "settings": None} for run in (before, now))
    odd = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if odd:
        each = (f"{name}={old.get(name)} (now {new.get(name)})" if name != "data" else "other data" for name in odd)
        was = ", ".join(each)
        raise UsageError(f"{work} holds a run with {was}: give the same to continue it, or --force starts over")


def digest(source: Source) -> str:
    """A sha256 over all rows of a source."""
    found = hashlib.sha256(source.schema.serialize())
    for batch in source.batches(size=65_536):
        found.update(batch.serialize())
    return found.hexdigest()
