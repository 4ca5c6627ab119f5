"""Batches and background responses of pictures."""

from __future__ import annotations

import base64
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genreg import load
from genreg.errors import GenregError, UsageError
from genreg.generate import generate
from genreg.images import encode
from genreg.windows import JOURNAL
from genreg_openai.journal import totals

BATCH = {"batch": "true", "poll": "0.02", "price": "[0,10]"}
BACK = {"background": "true", "through": "gpt-5.5"}


def rows_of(options, folder, prompts=("a hat",), n=1, **given) -> list[dict]:
    """Rows of a run that keeps its journal in ``folder``, without windows."""
    model = load("openai-image", options=options)
    table = pa.table({"prompt": list(prompts)})
    prepared = model.prepare(model.given(table, {"size": "64x64", **given}), n, seed=1)
    own = prepared.window(0, n * len(prompts))
    made = generate(model.model, model.form, own.seeds, own.batch, folder=folder / JOURNAL)
    return [row for batch in made for row in batch.to_pylist()]


def test_a_batch_of_pictures_is_what_one_by_one_is_at_half_the_price(server, tmp_path):
    rows = rows_of(BATCH, tmp_path, ["a hat", "a cat"], n=6)
    lines = [entry["body"] for entry in server.log if entry["path"] == "/line"]
    assert Counter((body["prompt"], body["n"]) for body in lines) == Counter(
        [("a hat", 4), ("a hat", 2), ("a cat", 4), ("a cat", 2)]
    )
    alone = rows_of({"price": "[0,10]"}, tmp_path / "alone", ["a hat", "a cat"], n=6)
    assert [row["image"] for row in rows] == [row["image"] for row in alone]
    assert [row["cost"] for row in rows] == pytest.approx([row["cost"] / 2 for row in alone])
    before = len(server.log)
    assert rows_of(BATCH, tmp_path, ["a hat", "a cat"], n=6) == rows
    assert len(server.log) == before


def test_pictures_of_a_batch_fail_each_in_its_own_row(server, tmp_path):
    server.fault("refusal", path="/line", match="bad")
    server.fault("one_missing", path="/line", match="hat")
    server.fault("half_image", path="/line", match="cat")
    rows = rows_of(BATCH, tmp_path, ["bad", "a hat", "a cat"], n=2)
    assert [row["outcome"] for row in rows] == ["filtered", "filtered", "ok", "failed", "ok", "failed"]
    assert [row["image"] is not None for row in rows] == [row["outcome"] == "ok" for row in rows]
    assert rows[0]["note"].startswith("refused in its batch (400): Your request was rejected by the safety system")


def test_a_batch_that_expired_keeps_its_pictures_and_sends_the_rest(server, tmp_path, capsys):
    server.fault("batch_expired", path="/v1/batches", after=1)
    rows = rows_of(BATCH, tmp_path, ["a", "b", "c"])
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert server.stats()["billed_images"] == 3
    assert "batch batch_fake0001 has expired: 1 of 3 answered" in capsys.readouterr().err


def test_a_batch_takes_no_edits_and_shows_nothing_on_the_way(server, tmp_path):
    with pytest.raises(UsageError, match="a batch takes no edits"):
        rows_of(BATCH, tmp_path, image=encode(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(UsageError, match="a batch shows nothing on the way"):
        load("openai-image", options=BATCH | {"partials": "1"})
    assert not server.log


def test_a_batch_of_pictures_is_picked_up_after_any_kill(server, tmp_path):
    server.state.jobs.seconds = 1.0
    command = [sys.executable, "-m", "genreg", "run", "openai-image", "a hat", "-n", "20", "--seed", "1", "--resume"]
    command += ["--given", "size=64x64", "--option", "batch=true", "--option", "poll=0.1", "-o", "hats.parquet"]
    chance = random.Random(7)
    for _ in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.7, 1.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "hats.parquet")
    assert table.column("outcome").to_pylist() == ["ok"] * 20
    assert server.stats()["billed_images"] == 20


# ---- background ----


def test_a_background_picture_is_drawn_by_the_tool_of_a_text_model(server, tmp_path):
    picture, mask = encode(np.zeros((8, 8, 3), np.uint8)), encode(np.zeros((8, 8, 4), np.uint8))
    (row,) = rows_of(BACK, tmp_path, image=picture, mask=mask, quality="low")
    assert (row["outcome"], row["size"], row["cost"]) == ("ok", "64x64", 0)
    (begun,) = [entry["body"] for entry in server.log if entry["method"] == "POST"]
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    assert begun["model"] == "gpt-5.5"
    assert begun["input"][0]["content"] == [
        {"type": "input_text", "text": "a hat"}, {"type": "input_image", "image_url": url}
    ]  # fmt: skip
    (tool,) = begun["tools"]
    assert tool.pop("input_image_mask")["image_url"].startswith("data:image/png;base64,")
    assert tool == {"type": "image_generation", "model": "gpt-image-2", "size": "64x64", "quality": "low"}
    assert begun["tool_choice"] == {"type": "image_generation"}


def test_a_background_picture_is_picked_up_by_the_next_run(server, tmp_path):
    server.fault("html", times=6, path="/v1/responses/")
    with pytest.raises(GenregError, match=r"it goes on with resp_fake[0-9]+, and --resume looks for it again"):
        rows_of(BACK, tmp_path)
    assert rows_of(BACK, tmp_path)[0]["outcome"] == "ok"
    assert server.billed == 1
    assert totals(tmp_path / JOURNAL).open == {}


def test_a_text_model_that_refuses_is_told_as_that(server, tmp_path):
    server.fault("refusal")
    (row,) = rows_of(BACK, tmp_path)
    assert (row["outcome"], row["image"], row["note"]) == ("refused", None, "I'm sorry, I can't help with that.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": "true"}, "pictures are drawn through a text model: --option through=… names it"),
        (BACK | {"partials": "1"}, "leave out batch and partials"),
        (BACK | {"batch": "true"}, "leave out batch and partials"),
    ],
)
def test_what_cannot_go_on_without_us_is_refused(options, message, server):
    with pytest.raises(UsageError, match=message):
        load("openai-image", options=options)


def test_a_budget_for_background_pictures_needs_their_price(server, tmp_path):
    with pytest.raises(UsageError, match=r"nobody knows how many tokens gpt-5\.5 adds to a picture"):
        rows_of(BACK | {"budget": "1"}, tmp_path)
    (row,) = rows_of(BACK | {"budget": "1", "image_price": "0.25"}, tmp_path)
    assert row["cost"] == 0.25
