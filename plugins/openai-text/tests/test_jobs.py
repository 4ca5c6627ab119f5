"""Batches and background responses: half the price, and answers that outlive the process that asked."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from aimock import serving

from genreg import load
from genreg.errors import GenregError, UsageError
from genreg.generate import generate
from genreg.windows import JOURNAL
from genreg_openai.journal import totals

BATCH = {"batch": "true", "poll": "0.02", "price": "[1,3]"}


def rows_of(options: dict[str, str], folder: Path, prompts: list[str], **given: object) -> list[dict]:
    """Rows of a run that keeps its journal in ``folder``, without windows."""
    import pyarrow as pa

    model = load("openai-text", options=options)
    prepared = model.prepare(model.given(pa.table({"prompt": prompts}), given), 1, seed=1)
    own = prepared.window(0, len(prompts))
    made = generate(model.model, model.form, own.seeds, own.batch, folder=folder / JOURNAL)
    return [row for batch in made for row in batch.to_pylist()]


def lines(server) -> Counter[str]:
    """How often each prompt was answered in a batch."""
    asked = [entry["body"] for entry in server.log if entry["path"] == "/line"]
    return Counter(body.get("messages", body.get("input"))[0]["content"] for body in asked)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_batch_answers_each_request_once_at_half_the_price(api, server, tmp_path):
    options = BATCH | {"api": api}
    rows = rows_of(options, tmp_path, ["a", "b", "c", "b"])
    whole = {name: value for name, value in options.items() if name != "batch"}
    alone = rows_of(whole, tmp_path / "alone", ["a", "b", "c", "b"])
    assert [row["text"] for row in rows] == [row["text"] for row in alone]
    assert [row["cost"] * 2 for row in rows] == pytest.approx([row["cost"] for row in alone])
    assert {row["outcome"] for row in rows} == {"ok"}
    batches = [entry for entry in server.log if entry["path"] == "/v1/batches"]
    assert [entry["body"]["endpoint"] for entry in batches if entry["method"] == "POST"] == [
        "/v1/chat/completions" if api == "chat" else "/v1/responses"
    ]
    sent = [entry["body"] for entry in server.log if entry["path"] == "/line"]
    assert not any("stream" in body or "stream_options" in body for body in sent)
    before = len(server.log)
    assert rows_of(options, tmp_path, ["a", "b", "c", "b"]) == rows
    assert len(server.log) == before


def test_answers_of_a_batch_end_as_they_end(server, tmp_path):
    server.fault("refusal", path="/line", match="bad")
    server.fault("content_filter", path="/line", match="worse")
    server.fault("empty", path="/line", match="none")
    rows = rows_of(BATCH, tmp_path, ["good", "bad", "worse", "none"], temperature=1.0)
    assert [row["outcome"] for row in rows] == ["ok", "refused", "filtered", "failed"]
    (row,) = rows_of(BATCH, tmp_path / "hot", ["good"], temperature=3.0)
    assert row["outcome"] == "failed"
    assert row["note"].startswith("refused in its batch (400): Invalid 'temperature': 3.0")
    assert totals(tmp_path / "hot" / JOURNAL).cost == 0


def test_what_a_batch_did_not_reach_is_sent_again_and_what_it_answered_is_kept(server, tmp_path, capsys):
    server.fault("batch_expired", path="/v1/batches", after=2)
    rows = rows_of(BATCH, tmp_path, list("abcde"))
    assert [row["outcome"] for row in rows] == ["ok"] * 5
    assert lines(server) == Counter("abcde")  # each was answered, and billed, once
    told = capsys.readouterr().err
    assert "batch batch_fake0001 has expired: 2 of 5 answered" in told
    assert "batch batch_fake0002 has begun with 3 requests" in told
    account = totals(tmp_path / JOURNAL)
    assert (account.sent, account.rejected, account.open) == (8, 3, {})


def test_a_batch_that_always_expires_is_told_as_that(server, tmp_path):
    server.fault("batch_expired", times=-1, path="/v1/batches", after=0)
    rows = rows_of(BATCH | {"attempts": "2"}, tmp_path, list("ab"))
    assert [row["outcome"] for row in rows] == ["failed"] * 2
    assert rows[0]["note"] == "batch batch_fake0002 has expired before this request's turn: not billed"
    assert server.billed == 0
    assert totals(tmp_path / JOURNAL).cost == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "batch_failed",
            r"batch batch_fake0001 failed: This file is not valid\.; --resume sends what it did not answer",
        ),
        ("batch_cancelled", "batch batch_fake0001 cancelled; --resume sends what it did not answer"),
    ],
)
def test_a_batch_that_people_must_look_after_ends_the_run_and_loses_nothing(fault, message, server, tmp_path):
    server.fault(fault, path="/v1/batches", after=1)
    with pytest.raises(GenregError, match=message):
        rows_of(BATCH, tmp_path, list("abc"))
    rows = rows_of(BATCH, tmp_path, list("abc"))
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert lines(server) == Counter("abc")


def test_a_batch_whose_id_was_never_told_is_found_again_by_its_name(server, tmp_path):
    server.fault("lost", path="/v1/batches")
    with pytest.raises(GenregError, match="--resume finds out whether the batch was begun"):
        rows_of(BATCH, tmp_path, list("abc"))
    assert [row["outcome"] for row in rows_of(BATCH, tmp_path, list("abc"))] == ["ok"] * 3
    assert len(server.state.jobs.batches) == 1


def test_what_an_earlier_run_reserved_is_settled_by_the_run_that_picks_it_up(server, tmp_path):
    options = BATCH | {"budget": "0.0001"}  # two requests may take 0.000093, and take less
    server.fault("lost", path="/v1/batches")
    with pytest.raises(GenregError, match="--resume finds out"):
        rows_of(options, tmp_path, list("ab"), max_tokens=20)
    assert totals(tmp_path / JOURNAL).bound == Decimal("0.000093")
    rows = rows_of(options, tmp_path, list("abc"), max_tokens=20)  # the third fits when the first two are settled
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert len(server.state.jobs.batches) == 2
    assert totals(tmp_path / JOURNAL).cost <= Decimal("0.0001")


def test_a_batch_that_was_never_begun_is_sent(server, tmp_path):
    server.fault("drop", path="/v1/files")
    with pytest.raises(GenregError, match="--resume finds out whether the batch was begun"):
        rows_of(BATCH, tmp_path, list("abc"))
    assert totals(tmp_path / JOURNAL).open
    server.fault("html", path="/v1/batches")
    with pytest.raises(GenregError, match="finds out whether a batch of an earlier run was begun"):
        rows_of(BATCH, tmp_path, list("abc"))
    assert [row["outcome"] for row in rows_of(BATCH, tmp_path, list("abc"))] == ["ok"] * 3
    assert len(server.state.jobs.batches) == 1


def test_looks_that_fail_are_repeated_and_then_left_to_resume(server, tmp_path, monkeypatch):
    server.state.jobs.seconds = 0.0
    server.fault("server_error", times=2, path="/v1/batches/")
    assert rows_of(BATCH, tmp_path, ["a"])[0]["outcome"] == "ok"
    server.fault("server_error", times=6, path="/v1/batches/")
    with pytest.raises(GenregError, match=r"--resume looks for the batch batch_fake0002 again"):
        rows_of(BATCH, tmp_path / "more", ["b"])
    server.fault("drop_midstream", path="/content")
    with pytest.raises(GenregError, match=r"--resume fetches the answers of batch batch_fake0002 again"):
        rows_of(BATCH, tmp_path / "more", ["b"])
    assert rows_of(BATCH, tmp_path / "more", ["b"])[0]["outcome"] == "ok"
    assert lines(server) == Counter("ab")


def test_a_budget_divides_a_run_into_batches_and_holds(server, tmp_path):
    server.state.jobs.seconds = 0.0
    options = BATCH | {"budget": "0.00012"}  # each may take 33 tokens in and 20 out, (33 x $1 + 20 x $3) / 2 a million
    rows = rows_of(options, tmp_path, list("abcd"), max_tokens=20)
    assert [row["outcome"] for row in rows] == ["ok"] * 4
    assert len(server.state.jobs.batches) > 1
    assert totals(tmp_path / JOURNAL).cost <= Decimal("0.00012")
    with pytest.raises(UsageError, match="the budget of"):
        rows_of(options | {"budget": "0.00001"}, tmp_path / "less", ["e"], max_tokens=20)


def test_a_batch_needs_a_file(server):
    with pytest.raises(UsageError, match="batch=true may take a day: name a file with -o"):
        load("openai-text", options=BATCH).sample(prompt="Hi")
    assert not server.log


def test_a_batch_is_picked_up_after_any_kill(server, tmp_path):
    server.state.jobs.seconds = 1.0
    (tmp_path / "p.csv").write_text("prompt\n" + "".join(f"p{number}\n" for number in range(40)))
    command = [sys.executable, "-m", "genreg", "run", "openai-text", "--given", "p.csv", "--seed", "1", "--resume"]
    command += ["--option", "batch=true", "--option", "poll=0.1", "-o", "out.csv"]
    chance = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.7, 1.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert [row["outcome"] for row in rows] == ["ok"] * 40
    assert set(lines(server).values()) == {1}
    recipe = json.loads((tmp_path / "out.csv.recipe.json").read_text())
    assert recipe["used"]["outcomes"] == {"ok": 40}


def test_a_batch_that_is_waited_for_can_be_interrupted(server, tmp_path):
    server.state.jobs.seconds = 60.0
    command = [sys.executable, "-m", "genreg", "run", "openai-text", "hello", "--seed", "1", "-o", "out.csv"]
    command += ["--option", "batch=true", "--option", "poll=0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "has begun with 1 request:" in process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "0 of 1 rows are kept in out.csv.part: --resume continues from there" in rest
    server.state.jobs.ready["batch_fake0001"] = 0.0
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert server.billed == 1


# ---- background responses ----

BACK = {"background": "true", "api": "responses"}


def test_a_background_response_is_begun_once_and_looked_for(server, tmp_path):
    rows = rows_of(BACK, tmp_path, ["a", "b"])
    assert [row["outcome"] for row in rows] == ["ok", "ok"]
    begun = [entry["body"] for entry in server.log if entry["method"] == "POST"]
    assert [(body["background"], body["store"], body["stream"]) for body in begun] == [(True, True, False)] * 2
    assert {entry["path"].rpartition("/")[0] for entry in server.log if entry["method"] == "GET"} == {"/v1/responses"}
    assert server.billed == 2


def test_looks_at_a_response_that_fail_are_repeated_and_then_left_to_resume(server, tmp_path):
    server.fault("server_error", times=3, path="/v1/responses/")
    assert rows_of(BACK, tmp_path, ["a"])[0]["outcome"] == "ok"
    server.fault("html", times=6, path="/v1/responses/")
    with pytest.raises(GenregError, match=r"it goes on with resp_fake[0-9]+, and --resume looks for it again"):
        rows_of(BACK, tmp_path / "more", ["b"])
    assert rows_of(BACK, tmp_path / "more", ["b"])[0]["outcome"] == "ok"
    assert server.billed == 2


def test_a_response_that_is_not_kept_any_longer_is_unknown(server, tmp_path):
    server.fault("html", times=6, path="/v1/responses/")
    with pytest.raises(GenregError, match="--resume"):
        rows_of(BACK, tmp_path, ["b"])
    server.state.stored.clear()
    (row,) = rows_of(BACK, tmp_path, ["b"])
    assert row["outcome"] == "unknown"
    assert "does not keep the response resp_fake" in row["note"]
    assert server.billed == 1


def test_a_background_run_is_picked_up_after_a_kill(server, tmp_path):
    server.state.background_seconds = 1.5
    command = [sys.executable, "-m", "genreg", "run", "openai-text", "hello", "--seed", "1", "--resume", "-n", "3"]
    command += ["--option", "background=true", "--option", "api=responses", "-o", "out.jsonl"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out.jsonl.part" / "journal" / "requests.jsonl"
    while not journal.is_file() or journal.read_bytes().count(b"submitted") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    assert server.billed == len({entry["request_id"] for entry in server.log if entry["billed"]})
    begun = [entry for entry in server.log if entry["path"] == "/v1/responses"]
    assert len(begun) == 1 or len(begun) == 3  # rows that ask the same share a response where no seed is sent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": "true", "api": "chat"}, "only the Responses API goes on without us.*--option api=responses"),
        (BACK | {"batch": "true"}, "call by call: leave out batch"),
    ],
)
def test_what_cannot_go_on_without_us_is_refused(options, message, server):
    with pytest.raises(UsageError, match=message):
        load("openai-text", options=options)


# ---- against a server that no one here wrote ----


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_batch_at_aimock(api, tmp_path, monkeypatch):
    fixtures = [{"match": {"userMessage": "never"}, "response": {"content": "asked"}}]
    with serving(tmp_path, fixtures, "test-key") as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        rows = rows_of(BATCH | {"api": api}, tmp_path, list("abc"))
        assert [(row["text"], row["outcome"]) for row in rows] == [("Mock batch completion", "ok")] * 3
