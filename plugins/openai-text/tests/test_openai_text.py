"""From conditions to requests, from answers to rows, on the command line and in Python."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genreg import load
from genreg.errors import UsageError
from genreg.testing import CHECKS, run_check

POEM = "给我写一首关于秋天的诗。"


def cli(*arguments: object, code: int = 0, stdin: str = "", cwd: Path | None = None) -> tuple[str, str]:
    """The command line as a process."""
    command = [sys.executable, "-m", "genreg", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def sent(server) -> dict:
    """The body that was sent last."""
    return server.log[-1]["body"]


# ---- what is sent ----


def test_the_seeds_example_is_a_line_and_is_python(server):
    out, err = cli("run", "openai-text", POEM)
    (row,) = table(out)
    assert row["outcome"] == "ok"
    assert row["text"]
    assert sent(server)["messages"] == [{"role": "user", "content": POEM}]
    assert "1 request" in err
    samples = load("openai-text").sample(prompt=POEM, seed=1)
    assert samples.table.column("text")[0].as_py()
    assert sent(server)["seed"] == 1


def test_only_what_was_set_is_sent(server):
    load("openai-text", options={"api": "chat"}).sample(prompt="Hi", seed=3)
    assert sent(server) == {
        "model": "gpt-5.4-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 3,
    }
    load("openai-text", options={"api": "responses"}).sample(prompt="Hi", seed=3)
    assert sent(server) == {
        "model": "gpt-5.4-mini",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
    }


@pytest.mark.parametrize(
    ("api", "given", "expected"),
    [
        ("chat", {"max_tokens": 5}, {"max_tokens": 5}),
        ("chat", {"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ("chat", {"effort": "low", "temperature": 0.5, "top_p": 0.9}, {"reasoning_effort": "low", "temperature": 0.5}),
        ("chat", {"extra": '{"frequency_penalty": 1}'}, {"frequency_penalty": 1}),
        ("responses", {"max_tokens": 5}, {"max_output_tokens": 5}),
        ("responses", {"system": "Be brief."}, {"instructions": "Be brief."}),
        ("responses", {"effort": "low"}, {"reasoning": {"effort": "low"}}),
    ],
)
def test_each_condition_has_its_place(api, given, expected, server):
    load("openai-text", options={"api": api}).sample(prompt="Hi", seed=3, **given)
    assert sent(server).items() >= expected.items()


def test_shots_system_and_messages_come_before_the_prompt(server):
    shots = '{"prompt": "1+1", "text": "2"}\n\n{"prompt": "2+2", "text": "4"}'
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    load("openai-text").sample(prompt="3+3", system="Count.", shots=shots, messages=messages, seed=0)
    said = [(message["role"], message["content"]) for message in sent(server)["messages"]]
    assert said == [
        ("system", "Count."), ("user", "1+1"), ("assistant", "2"), ("user", "2+2"), ("assistant", "4"),
        ("user", "Hello"), ("assistant", "Hi"), ("user", "3+3"),
    ]  # fmt: skip


def test_a_schema_is_sent_and_the_answer_is_checked(server):
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    for api in ("chat", "responses"):
        model = load("openai-text", options={"api": api})
        samples = model.sample(prompt="Hi", schema=json.dumps(schema), seed=0)
        assert json.loads(samples.table.column("text")[0].as_py()).keys() == {"word"}
    wrong = model.model.finished
    from genreg_openai.calls import Request
    from genreg_openai_text.answered import Said

    asked = Request(0, "", {"text": {"format": {"schema": schema}}})
    assert wrong(Said("no JSON", end="ok"), asked).outcome == "failed"
    assert wrong(Said('{"word": 1}', end="ok"), asked).columns["note"].startswith("the answer does not fit the JSON")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shots": '{"prompt": "a"}'}, r"shots, line 1: an example is"),
        ({"schema": "{"}, r"schema: this is no JSON"),
        ({"extra": "[]"}, r"extra: this is no JSON object"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages: each is a role"),
        ({"prompt": None}, r"there is nothing to ask: give a prompt"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(given, message, server):
    with pytest.raises(UsageError, match=message):
        load("openai-text").sample(**{"prompt": "Hi", **given})
    with pytest.raises(UsageError, match="stop is not known to the Responses API"):
        load("openai-text", options={"api": "responses"}).sample(prompt="Hi", stop=["x"])
    assert server.log == []


# ---- prompts from files and stdin ----


def test_a_template_is_filled_in_and_its_columns_pass_through(server, tmp_path, main):
    (tmp_path / "p.csv").write_text("name,language,unused\n李白,中文,1\nAda,English,2\n", "utf-8")
    prompt = 'Describe {name} in {language} as {"a": 1} and {{b}}'
    code_2 = main("run", "openai-text", "--given", tmp_path / "p.csv", "--given", f"prompt={prompt}", code=2)[1]
    assert "the column unused: there is no condition unused" in code_2
    (tmp_path / "p.csv").write_text("name,language\n李白,中文\nAda,English\n", "utf-8")
    out, _ = main("run", "openai-text", "--given", tmp_path / "p.csv", "--given", f"prompt={prompt}", "--seed", 5)
    assert [(row["name"], row["language"], row["outcome"]) for row in table(out)] == [
        ("李白", "中文", "ok"), ("Ada", "English", "ok"),
    ]  # fmt: skip
    asked = {entry["body"]["messages"][0]["content"] for entry in server.log}
    assert asked == {
        'Describe 李白 in 中文 as {"a": 1} and {b}', 'Describe Ada in English as {"a": 1} and {b}',
    }  # fmt: skip
    err = main("run", "openai-text", "--given", tmp_path / "p.csv", "--given", "prompt={nmae}", code=2)[1]
    assert "the file has no column nmae; did you mean name? (for braces in the text, write {{nmae}})" in err


def test_without_a_file_braces_are_text(server):
    load("openai-text").sample(prompt="{name} {{x}}", seed=0)
    assert sent(server)["messages"][0]["content"] == "{name} {{x}}"


def test_prompts_come_from_stdin_and_shots_from_a_file(server, tmp_path):
    (tmp_path / "examples.jsonl").write_text('{"prompt": "一", "text": "1"}\n', "utf-8")
    out, _ = cli("run", "openai-text", "-", "--given", f"shots=@{tmp_path / 'examples.jsonl'}", stdin="a\nb\n")
    assert len(table(out)) == 2
    assert all(len(entry["body"]["messages"]) == 3 for entry in server.log)


def test_text_appears_on_a_terminal_as_it_comes(server):
    server.fault("slow", seconds=0.02)
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "genreg", "run", "openai-text", POEM, "--seed", "1"]
    child = subprocess.Popen(command, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    reads = []
    while True:
        try:
            data = os.read(reader, 65536)
        except OSError:
            break
        if not data:
            break
        reads.append(data)
    assert child.wait() == 0
    assert len(reads) > 5
    text = b"".join(reads).decode().replace("\r\n", "\n")
    assert text == load("openai-text").sample(prompt=POEM, seed=1).table.column("text")[0].as_py() + "\n"


# ---- outputs, recipes, codes ----


def test_a_row_that_is_not_ok_ends_the_run_with_3(server, tmp_path, main):
    server.fault("refusal")
    err = main("run", "openai-text", "Hi", "-n", 3, "-o", "out.csv", code=3, cwd=tmp_path)[1]
    assert "refused: I'm sorry, I can't help with that." in err
    outcomes = [row["outcome"] for row in table((tmp_path / "out.csv").read_text("utf-8"))]
    assert sorted(outcomes) == ["ok", "ok", "refused"]
    used = json.loads((tmp_path / "out.csv.recipe.json").read_text("utf-8"))["used"]
    assert used["requests"] == 3
    assert used["outcomes"] == {"ok": 2, "refused": 1}
    assert used["input_tokens"] == 3
    assert used["host"] == server.url.split("/")[2]


def test_a_run_that_was_refused_at_once_leaves_nothing_behind(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    err = cli("run", "openai-text", "Hi", "-n", 3, "-o", "out.csv", code=2, cwd=tmp_path)[1]
    assert "answered 401" in err
    assert list(tmp_path.iterdir()) == []


def test_the_cost_is_reported_and_kept(server, tmp_path, main):
    option = ("--option", "price=[1000,2000]")
    err = main("run", "openai-text", "one two three", "-o", "out.csv", *option, cwd=tmp_path)[1]
    (row,) = table((tmp_path / "out.csv").read_text("utf-8"))
    cost = (3 * 1000 + int(row["output_tokens"]) * 2000) / 1e6
    assert float(row["cost"]) == pytest.approx(cost)
    assert f"${cost:.6f}".rstrip("0") in err
    assert json.loads((tmp_path / "out.csv.recipe.json").read_text("utf-8"))["used"]["cost"] == pytest.approx(cost)


def test_shards_are_put_together_with_what_they_used(server, tmp_path, main):
    for number in (1, 2):
        run = ("run", "openai-text", "Hi", "-n", 5, "--seed", 1, "--shard", f"{number}/2", "-o", f"{number}.csv")
        main(*run, cwd=tmp_path)
    main("concat", "1.csv", "2.csv", "-o", "all.csv", cwd=tmp_path)
    assert len(table((tmp_path / "all.csv").read_text("utf-8"))) == 5
    used = json.loads((tmp_path / "all.csv.recipe.json").read_text("utf-8"))["used"]
    assert (used["requests"], used["outcomes"], used["api"]) == (5, {"ok": 5}, "chat")


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(server, tmp_path, main):
    prompts = "".join(f"prompt {number}\n" for number in range(40))
    common = ("run", "openai-text", "-", "-o", "out.csv", "--seed", 1, "--option", "price=[1000,1000]")
    budget = ("--given", "max_tokens=20", "--option", "concurrency=8", "--option", "budget=0.5")
    err = main(*common, *budget, code=2, stdin=prompts, cwd=tmp_path)[1]
    assert "the budget of $0.5 does not reach" in err
    spent = server.stats()["billed_tokens"] / 1000
    assert 0.3 < spent <= 0.5
    before = server.billed
    main(*common, *budget[:4], "--option", "budget=9", "--resume", stdin=prompts, cwd=tmp_path)
    assert server.billed == 40
    assert before < 40
    used = json.loads((tmp_path / "out.csv.recipe.json").read_text("utf-8"))["used"]
    assert used["cost"] == pytest.approx(server.stats()["billed_tokens"] / 1000)


def test_a_budget_needs_a_limit_and_a_price(server):
    model = load("openai-text", options={"budget": "1", "price": "[1,2]"})
    with pytest.raises(UsageError, match="under a budget each answer needs a limit: --given max_tokens=1000"):
        model.sample(prompt="Hi")
    far = load("openai-text", options={"budget": "1", "base_url": "https://example.org/v1", "model": "no-such"})
    with pytest.raises(UsageError, match=r"nobody knows what no-such costs at example\.org"):
        far.sample(prompt="Hi", max_tokens=5)


def test_a_dry_run_says_what_it_would_take_and_sends_nothing(server, main):
    out, _ = main("run", "openai-text", "-", "--given", "max_tokens=100", "--option", "price=[1,2]", "--dry-run",
                 stdin="x" * 984 + "\n" + "y" * 984)  # fmt: skip
    plan = json.loads(out)
    assert plan["requests"] == "2"
    assert plan["tokens"] == "about 508 and at most 2,032 in, at most 200 out"
    assert plan["price"] == "$0.0005 to $0.0024"
    assert plan["host"].endswith("(chat API)")
    assert server.log == []


def test_without_a_key_everything_works_but_the_run(monkeypatch, tmp_path, main):
    assert "openai-text" in main("list")[0]
    assert "genreg keys set openai" in main("show", "openai-text")[0]
    assert json.loads(main("run", "openai-text", "Hi", "--dry-run")[0])["host"] == "api.openai.com (responses API)"
    err = main("run", "openai-text", "Hi", "-o", "out.csv", code=2, cwd=tmp_path)[1]
    assert err.count("\n") == 1
    assert "api.openai.com needs a key, and there is none: genreg keys set openai, or set OPENAI_API_KEY" in err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_shuts_down_is_told_of(server, capsys):
    server.state.models = ("gpt-5",)
    load("openai-text", options={"model": "gpt-5"}).sample(prompt="Hi")
    from datetime import date

    from genreg_openai.models import shutdown

    assert shutdown("gpt-5", date(2026, 11, 26)) == "gpt-5 shuts down on 2026-12-11: use gpt-5.5"
    assert shutdown("gpt-5", date(2026, 12, 12)) == "gpt-5 was shut down on 2026-12-11: use gpt-5.5"
    assert shutdown("gpt-5", date(2026, 8, 1)) is None
    assert shutdown("gpt-5.5", date(2026, 8, 1)) is None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_model_keeps_the_contract(check, server):
    result = run_check(check, load("openai-text"))
    assert result.status != "failed", result.message


# ---- nothing is lost, nothing is bought twice ----


def test_kill_9_at_random_points_and_each_answer_is_paid_for_once(server, tmp_path):
    server.state.delay = 0.01
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(200)), "utf-8")
    command = [sys.executable, "-m", "genreg", "run", "openai-text", "-", "--seed", "1", "-o", "out.jsonl", "--resume",
               "--option", "concurrency=8"]  # fmt: skip
    chance, kills = random.Random(4), 0
    while not (tmp_path / "out.jsonl").exists():
        with (tmp_path / "prompts.txt").open("rb") as prompts:
            child = subprocess.Popen(command, cwd=tmp_path, stdin=prompts, stderr=subprocess.PIPE)
        target = len(server.log) + chance.randint(5, 60)
        while child.poll() is None and len(server.log) < target:
            time.sleep(0.002)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.communicate()
    assert kills >= 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    unknown = [row for row in rows if row["outcome"] == "unknown"]
    assert len(rows) == 200
    assert {row["outcome"] for row in rows} <= {"ok", "unknown"}
    assert 0 < len(unknown) <= 8 * kills
    prompts = [entry["body"]["messages"][0]["content"] for entry in server.log]
    assert len(prompts) == len(set(prompts)) <= 200  # none was sent twice
    assert all("an earlier run sent it and was cut off" in row["note"] for row in unknown)
    used = json.loads((tmp_path / "out.jsonl.recipe.json").read_text("utf-8"))["used"]
    assert used["outcomes"] == {"ok": 200 - len(unknown), "unknown": len(unknown)}


def test_ctrl_c_waits_for_what_is_paid_for(server, tmp_path, main):
    server.state.delay = 0.5
    command = [sys.executable, "-m", "genreg", "run", "openai-text", "Hi", "-n", "50", "--seed", "1", "-o", "out.csv"]
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    while len(server.log) < 4:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    err = child.communicate()[1].decode()
    assert child.returncode == 130, err
    assert "--resume continues from there" in err
    assert server.billed == len(server.log) < 50
    server.state.delay = 0
    main(*command[3:], "--resume", cwd=tmp_path)
    assert server.billed == 50
    assert {row["outcome"] for row in table((tmp_path / "out.csv").read_text("utf-8"))} == {"ok"}


def test_two_runs_do_not_share_a_folder(server, tmp_path):
    from genreg_openai.journal import Journal

    journal = Journal(tmp_path)
    from test_faults import rows_of

    with pytest.raises(UsageError, match="is in use by another genreg: wait for it, or stop it"):
        rows_of(load("openai-text"), tmp_path)
    journal.close()
    assert len(rows_of(load("openai-text"), tmp_path)) == 1


# ---- keys ----


def test_a_key_is_nowhere_to_be_seen(server, tmp_path, monkeypatch):
    secret = "sk-SECRET-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    server.fault("echo_key")
    out, err = cli("run", "openai-text", "Hi", "-o", "out.csv", code=2, cwd=tmp_path)
    assert secret not in out + err
    assert "Incorrect API key: Bearer …" in err
    server.fault("echo_key")
    assert secret not in "".join(cli("--debug", "run", "openai-text", "Hi", code=2))
    server.state.key = secret
    command = ("run", "openai-text", "Hi", "-o", "out.csv", "--resume")
    monkeypatch.setenv("OPENAI_LOG", "debug")
    server.fault("malformed_json")
    out, err = cli("--debug", *command, code=3, cwd=tmp_path)
    assert secret not in out + err
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    model = load("openai-text")
    assert secret not in repr(model) + repr(model.model)


def test_a_key_goes_to_its_own_host_alone(server, monkeypatch):
    from genreg_openai.testing import FakeOpenAI

    with FakeOpenAI(key=None) as other:
        load("openai-text", options={"base_url": other.url}).sample(prompt="Hi")
        assert [entry["authorization"] for entry in other.log] == ["Bearer none"]
    load("openai-text").sample(prompt="Hi")
    assert server.log[-1]["authorization"] == "Bearer test-key"


def test_importing_the_plugin_imports_nothing_of_openai():
    code = "import sys, genreg_openai, genreg_openai_text, genreg_openai_text.model; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("'openai'", "'httpx2'", "'genai_prices'", "'keyring'") if name in loaded]
