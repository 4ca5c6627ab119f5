"""Every way in which a picture fails: its outcome, its message, and that nothing is paid twice or lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg import load
from genreg.errors import UsageError
from genreg.generate import generate
from genreg_openai.journal import totals
from genreg_openai_image.grouped import Noted, Row, grouped


@dataclass(frozen=True)
class Case:
    """A fault, how its one row ends, what it is told as, and how often it is sent and billed."""

    fault: dict[str, Any]
    outcome: str
    note: str = ""
    sent: int = 1
    billed: int = 1
    image: bool = False  # whether there is a picture


CASES = {
    "rate limit": Case({"kind": "rate_limit", "times": 2, "retry_after_ms": 20}, "ok", sent=3, image=True),
    "server error": Case({"kind": "server_error"}, "failed", "answered 500: The server had an error", billed=0),
    "web page": Case({"kind": "html", "status": 200}, "failed", "answered with text/html", billed=0),
    "hang": Case({"kind": "hang", "seconds": 1.0}, "unknown", "did not answer in time"),
    "drop before": Case({"kind": "drop"}, "unknown", "was lost: it may have been billed", billed=0),
    "half a body": Case({"kind": "drop_midstream"}, "unknown", "was lost: it may have been billed"),
    "broken JSON": Case({"kind": "malformed_json"}, "failed", "answered with broken JSON"),
    "a list": Case({"kind": "wrong_type"}, "failed", "JSON that is no answer of the API", billed=0),
    "moderation": Case({"kind": "refusal"}, "filtered", "rejected by the safety system", billed=0),
    "empty": Case({"kind": "empty"}, "failed", "0 of 1 pictures came"),
    "half an image": Case({"kind": "half_image"}, "failed", "a picture that came: a damaged image"),
    "no bytes": Case({"kind": "no_bytes"}, "failed", "a picture that came: no bytes"),
    "not an image": Case({"kind": "not_image"}, "failed", "a picture that came: no image that genreg reads"),
    "bad base64": Case({"kind": "bad_base64"}, "failed", "a picture came in broken base64"),
    "elsewhere": Case({"kind": "url", "url": "https://elsewhere.example/{}.png"}, "failed",
                      "a picture lies at elsewhere.example, and only 127.0.0.1:"),
    "another port": Case({"kind": "url", "url": "http://127.0.0.1:1/{}.png"}, "failed",
                         "a picture lies at 127.0.0.1:1"),
    "no file": Case({"kind": "url"}, "failed", "answered 404 for a picture", sent=2),
}  # fmt: skip
PARTIALS = {
    "stream": Case({"kind": "slow", "seconds": 0.0}, "ok", image=True),
    "drop within": Case({"kind": "drop_midstream", "after": 2}, "truncated", "was lost: it may have been", image=True),
    "drop at once": Case({"kind": "drop_midstream", "after": 0}, "unknown", "was lost: it may have been billed"),
    "stream ends": Case({"kind": "truncate_stream", "after": 1}, "truncated", "the stream ended before", image=True),
    "stream ends at once": Case({"kind": "truncate_stream", "after": 0}, "truncated", "the stream ended before"),
    "error event": Case({"kind": "stream_error", "after": 2}, "truncated", "broke off: The server had", image=True),
    "broken event": Case({"kind": "malformed_json", "after": 0}, "failed", "answered with broken JSON"),
    "half an image": Case({"kind": "half_image"}, "failed", "a picture that came: a damaged image"),
}


def rows_of(model: Any, folder: Path, n: int = 1, seed: int = 1, prompt: str = "a hat") -> list[dict[str, Any]]:
    """Rows of a run that keeps its journal in ``folder``, without windows."""
    prepared = model.prepare(model.given(None, {"prompt": prompt, "size": "64x64"}), n, seed=seed)
    own = prepared.window(0, n)
    made = generate(model.model, model.form, own.seeds, own.batch, folder=folder)
    return [row for batch in made for row in batch.to_pylist()]


def held(case: Case, model: Any, server: Any, folder: Path) -> None:
    """One row, asked with the fault, ends as the case says; asked again it is the same, and costs nothing."""
    server.fault(**case.fault)
    (row,) = rows_of(model, folder)
    assert (row["outcome"], row["image"] is not None) == (case.outcome, case.image)
    assert case.note in (row["note"] or "")
    assert bool(row["note"]) == bool(case.note)
    assert len(server.log) == case.sent
    while server.state.in_flight:
        time.sleep(0.01)
    assert server.billed == case.billed
    account = totals(folder)
    assert (dict(account.outcomes), account.open) == ({case.outcome: 1}, {})
    (again,) = rows_of(model, folder)
    assert again == row
    assert len(server.log) == case.sent


@pytest.mark.parametrize("name", CASES)
def test_a_fault_has_its_outcome_and_is_not_paid_twice(name, server, tmp_path):
    held(CASES[name], load("openai-image", options={"timeout": "0.4" if name == "hang" else "30"}), server, tmp_path)


@pytest.mark.parametrize("name", PARTIALS)
def test_a_fault_of_a_stream_keeps_the_last_picture_on_the_way(name, server, tmp_path):
    options = {"partials": "3", "partials_folder": str(tmp_path / "partials")}
    held(PARTIALS[name], load("openai-image", options=options), server, tmp_path)


def test_one_picture_of_four_that_is_missing_is_its_own_rows_outcome(server, tmp_path):
    server.fault("one_missing")
    rows = rows_of(load("openai-image"), tmp_path, n=4)
    assert [row["outcome"] for row in rows] == ["ok", "ok", "ok", "failed"]
    assert [row["image"] is None for row in rows] == [False, False, False, True]
    assert rows[3]["note"] == "3 of 4 pictures came"
    assert sum(row["output_tokens"] for row in rows) == 4160 * 4  # as the service counted them
    assert rows_of(load("openai-image", options={"resend": "true"}), tmp_path, n=4) == rows  # three would be paid again
    assert len(server.log) == 1


def test_a_picture_by_url_is_fetched_without_the_key(server, tmp_path):
    from genreg_openai.testing.images import png

    data = png(16, 16, (1, 2, 3))
    server.state.pictures["/pictures/0.png"] = (200, "image/png", data)
    server.fault("url")
    (row,) = rows_of(load("openai-image"), tmp_path)
    assert (row["image"], row["outcome"], row["size"]) == (data, "ok", "16x16")
    assert [entry["authorization"] for entry in server.log] == ["Bearer test-key", None]


@pytest.mark.parametrize(
    ("status", "kind", "data", "note"),
    [
        (200, "text/html", b"<html>", "sent text/html for a picture"),
        (200, "image/png", b"", "a picture that came: no bytes"),
        (200, "image/png", b"x" * 200, "sent a picture of more than 100 bytes"),
        (302, "image/png", b"", "answered 302 for a picture"),
    ],
)
def test_a_url_that_is_no_picture_is_told_as_that(status, kind, data, note, server, tmp_path, monkeypatch):
    monkeypatch.setattr("genreg_openai_image.fetched.LARGEST", 100)
    server.state.pictures["/pictures/0.png"] = (status, kind, data)
    server.fault("url")
    (row,) = rows_of(load("openai-image"), tmp_path)
    assert (row["outcome"], row["image"]) == ("failed", None)
    assert note in row["note"]


def test_a_run_without_any_picture_says_why_and_writes_nothing(server, tmp_path):
    server.fault("refusal")
    command = [sys.executable, "-m", "genreg", "run", "openai-image", "a hat", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 3, done.stderr
    assert "filtered: 127.0.0.1:" in done.stderr
    assert "answered 400: Your request was rejected by the safety system" in done.stderr
    assert done.stderr.endswith("genreg: no image came, and nothing is written\n")
    assert not list(tmp_path.iterdir())


def test_an_exhausted_quota_ends_the_run_at_once(server, tmp_path):
    server.fault("quota", times=-1)
    with pytest.raises(UsageError, match="retrying is useless"):
        rows_of(load("openai-image", options={"concurrency": "1"}), tmp_path, n=20)
    assert len(server.log) == 1


def test_a_run_that_was_refused_at_once_leaves_nothing_behind(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UsageError, match="answered 401"):
        rows_of(load("openai-image", options={"concurrency": "1"}), tmp_path, n=3)
    assert len(server.log) == 1
    assert list(tmp_path.iterdir()) == []


# ---- rows that go together ----


def test_a_run_that_goes_on_in_the_middle_of_a_request_does_not_pay_for_it_again(server, tmp_path):
    model = load("openai-image")
    whole = rows_of(model, tmp_path, n=6, seed=10)
    assert len(server.log) == 2
    rest = rows_of(model, tmp_path, n=4, seed=12)  # rows 10 and 11 are kept: two of the first request are not
    assert rest == whole[2:]
    assert len(server.log) == 2


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=40), st.integers(1, 4), st.integers(0, 40)
)
@settings(deadline=None)
def test_groups_hold_each_row_once_and_stay_as_they_were_noted(tmp_path_factory, asked, most, cut):
    asked = [*dict.fromkeys(asked)]
    rows = [Row(number, seed, digest, None) for number, (digest, seed) in enumerate(asked)]
    folder = tmp_path_factory.mktemp("groups")

    def groups(rows: list[Row[None]]) -> dict[int, tuple[str, tuple[int, ...], int]]:
        noted = Noted(folder)
        found = [*grouped(rows, most, noted)]
        noted.close()
        assert all(len(group.seeds) <= most for group in found)
        each = [(row, (group.digest, group.seeds, at)) for group in found for row, at in group.rows]
        assert [row for row, _ in each] == [row.row for row in rows]
        assert all(group[1][group[2]] == asked[row][1] and group[0] == asked[row][0] for row, group in each)
        return dict(each)

    first = groups(rows)
    assert groups(rows[cut:]) == {row: group for row, group in first.items() if row >= cut}


def test_a_torn_note_of_a_group_is_cut_off(tmp_path):
    noted = Noted(tmp_path)
    noted.note("a", (1, 2))
    noted.close()
    path = tmp_path / "groups.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"ask": "b", "se')
    noted = Noted(tmp_path)
    assert set(noted.groups) == {("a", 1), ("a", 2)}
    noted.note("c", (3, 4))
    noted.close()
    assert path.read_bytes().startswith(whole)
    again = Noted(tmp_path)
    again.close()
    assert set(again.groups) == {("a", 1), ("a", 2), ("c", 3), ("c", 4)}


def test_a_run_that_is_killed_at_any_time_pays_for_each_picture_once(server, tmp_path):
    server.state.delay = 0.02
    command = [sys.executable, "-m", "genreg", "run", "openai-image", "a hat", "-n", "60", "--seed", "1", "--resume"]
    command += ["--given", "size=64x64", "--option", "per_request=3", "-o", "hats.parquet"]
    chance = random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.6, 1.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "hats.parquet")
    outcomes = table.column("outcome").to_pylist()
    early = "is finished already" in done.stderr  # a run came to its end before it could be killed
    assert done.returncode == (0 if set(outcomes) == {"ok"} or early else 3), done.stderr
    assert len(outcomes) == 60
    pictures = [cell for cell in table.column("image").to_pylist() if cell is not None]
    unknown = outcomes.count("unknown")
    assert len(pictures) == 60 - unknown
    assert set(outcomes) <= {"ok", "unknown"}
    assert unknown % 3 == 0
    assert 20 - unknown // 3 <= server.billed <= 20  # 60 pictures, three in each request; an unknown one may be unpaid
