"""The folder of a run: begun, continued or refused."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from genreg.data import Source
from genreg.errors import UsageError
from genreg.resume import RUN, agree, digest, is_first, left_in, refuse_difference, run_folder


def broken(out, *, left=(), run=None, **flags):
    """A run that fails after leaving files."""
    with pytest.raises(ZeroDivisionError), run_folder(out, **{"resume": False, "force": False, **flags}) as (work, _):  # noqa: PT012
        agree(work, run or {"seed": 0})
        for name in left:
            (work / name).write_text("x")
        raise ZeroDivisionError


def test_a_run_that_ends_well_or_leaves_nothing_vanishes(tmp_path):
    with run_folder(tmp_path / "out", resume=False, force=False) as (work, rows):
        assert work == rows == tmp_path / "out.part"
        (work / "state").write_text("x")
    assert not work.exists()
    broken(tmp_path / "out", left=["rows.arrow"])
    assert not work.exists()


def test_what_a_family_left_is_continued_or_started_over_as_told(tmp_path):
    broken(tmp_path / "out", left=["state"])
    with pytest.raises(UsageError, match="holds an unfinished run: --resume continues it, --force starts over"):
        broken(tmp_path / "out")
    with run_folder(tmp_path / "out", resume=True, force=True) as (work, _):
        assert left_in(work) == ["state"]
        agree(work, {"seed": 0})
        with pytest.raises(UsageError, match=re.escape("out.part holds a run with seed=0 (now 1): give the same")):
            agree(work, {"seed": 1})
    broken(tmp_path / "out", left=["state"])
    with run_folder(tmp_path / "out", resume=False, force=True) as (work, _):
        assert left_in(work) == []


def test_a_folder_or_file_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "out.part").write_text("mine")
    with pytest.raises(UsageError, match="is in the way, and is no unfinished run"):
        broken(tmp_path / "out", force=True)
    assert (tmp_path / "out.part").read_text() == "mine"


def test_settings_are_compared_one_by_one(tmp_path):
    with pytest.raises(UsageError, match=re.escape("a run with states=8 (now 9): give")):
        refuse_difference(tmp_path, {"settings": {"states": 8, "a": 1}}, {"settings": {"states": 9, "a": 1}})
    refuse_difference(tmp_path, {"settings": {"a": [1]}, "seed": 0}, {"settings": {"a": [1]}, "seed": 0})


def test_the_digest_follows_from_schema_and_rows():
    table = pa.table({"a": [1, 2, 3]})
    assert digest(Source.of(table)) == digest(Source.of(pa.table({"a": [1, 2, 3]})))
    others = [pa.table({"b": [1, 2, 3]}), pa.table({"a": [1.0, 2.0, 3.0]}), pa.table({"a": [1, 2, 4]}), table.slice(1)]
    assert len({digest(Source.of(other)) for other in [table, *others]}) == 5


def test_other_processes_than_the_first_neither_check_nor_keep(tmp_path, monkeypatch):
    broken(tmp_path / "out", left=["state"])
    before = (tmp_path / "out.part" / RUN).read_text()
    monkeypatch.setenv("RANK", "2")
    assert not is_first()
    with run_folder(tmp_path / "out", resume=False, force=True) as (work, rows):
        agree(work, {"seed": 9})
        assert rows.is_dir()
    assert (work / RUN).read_text() == before
    assert not rows.exists()
