"""From conditions to requests, from answers to files, on the command line and in Python."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genreg import load
from genreg.errors import UsageError
from genreg.images import encode
from genreg.testing import CHECKS, run_check
from genreg_openai.testing.images import png
from genreg_openai_image.asked import about, known, most_tokens
from genreg_openai_image.shown import escapes, protocol

CAT = "一只骑着滑板的猫,背景是城市风景。"
SMALL = {"size": "64x64"}
CLEAR = png(64, 64, (9, 9, 9, 0))


def cli(*arguments: object, code: int = 0, cwd: Path | None = None) -> tuple[str, str]:
    """The command line as a process."""
    command = [sys.executable, "-m", "genreg", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def sent(server) -> dict:
    """The body that was sent last."""
    return server.log[-1]["body"]


def came(server, prompt: str, **asked: object) -> list[bytes]:
    """The pictures that the server makes of a prompt."""
    import base64

    from genreg_openai.testing.images import generation

    made = generation({"prompt": prompt, **SMALL, **asked}, None)
    return [base64.b64decode(item["b64_json"]) for item in made.whole["data"]]


# ---- what is sent ----


def test_the_seeds_example_is_a_line_and_is_python(server, tmp_path):
    out, err = cli("run", "openai-image", CAT, "--given", "size=1024x1024", "--seed", 7, cwd=tmp_path)
    assert out == "openai-image-7.png\n"
    assert "1 request" in err
    assert sent(server) == {"model": "gpt-image-2", "prompt": CAT, "size": "1024x1024"}
    data = (tmp_path / "openai-image-7.png").read_bytes()
    assert data == came(server, CAT, size="1024x1024")[0]
    recipe = json.loads((tmp_path / "openai-image-7.png.recipe.json").read_text("utf-8"))
    assert recipe["given"] == {"values": {"prompt": CAT, "size": "1024x1024"}}
    assert (recipe["used"]["requests"], recipe["used"]["output_tokens"]) == (1, 4160)
    samples = load("openai-image").sample(prompt=CAT, size="1024x1024", seed=7)
    assert samples.table.column("image")[0].as_py() == data
    assert samples.images()[0].size == (1024, 1024)


def test_only_what_was_set_is_sent_under_the_apis_names(server):
    given = {
        "size": "64x64", "quality": "low", "background": "transparent", "format": "png", "moderation": "low",
    }  # fmt: skip
    load("openai-image").sample(prompt="a hat", **given)
    assert sent(server) == {
        "model": "gpt-image-2", "prompt": "a hat", "size": "64x64", "quality": "low", "background": "transparent",
        "output_format": "png", "moderation": "low",
    }  # fmt: skip


def test_copies_of_a_prompt_share_requests_and_each_row_has_its_own_picture(server):
    samples = load("openai-image", options={"price": "[0,10]"}).sample(6, prompt="a hat", seed=3, **SMALL)
    assert sorted(entry["body"].get("n") for entry in server.log) == [2, 4]
    pictures = samples.table.column("image").to_pylist()
    first = came(server, "a hat", n=4)
    assert pictures[:4] == first
    assert len(set(first)) == 4
    assert samples.table.column("output_tokens").to_pylist() == [4160] * 6
    assert samples.table.column("cost").to_pylist() == pytest.approx([0.0416] * 6)
    assert samples.table.column("prompt").to_pylist() == ["a hat"] * 6


def test_prompts_of_a_file_are_requests_of_their_own(server, tmp_path):
    table = pa.table({"thing": ["hat", "cat", "cat"]})
    samples = load("openai-image", options={"concurrency": "1"}).sample(given=table, prompt="a {thing}", **SMALL)
    assert [(entry["body"]["prompt"], entry["body"].get("n")) for entry in server.log] == [
        ("a hat", None),
        ("a cat", 2),
    ]
    assert samples.table.column("prompt").to_pylist() == ["a hat", "a cat", "a cat"]


def test_an_edit_uploads_its_pictures_and_its_mask(server, tmp_path, main):
    hat, coat = encode(np.zeros((64, 64, 3), np.uint8)), encode(np.full((64, 64, 3), 9, np.uint8))
    for name, data in {"hat.png": hat, "coat.png": coat, "mask.png": CLEAR}.items():
        (tmp_path / name).write_bytes(data)
    given = ["--given", "image=hat.png", "--given", "images=[coat.png]", "--given", "mask=mask.png"]
    main("run", "openai-image", "make it red", *given, "--given", "size=64x64", "-o", "red.png", cwd=tmp_path)
    entry = server.log[-1]
    assert entry["path"] == "/v1/images/edits"
    assert [file["sha256"] for file in entry["body"]["image"]] == [sha256(data).hexdigest() for data in (hat, coat)]
    assert entry["body"]["mask"] == [{"file": "mask.png", "type": "image/png", "sha256": sha256(CLEAR).hexdigest()}]
    assert entry["body"]["prompt"] == "make it red"
    recipe = json.loads((tmp_path / "red.png.recipe.json").read_text("utf-8"))
    assert recipe["given"]["images"]
    assert recipe["used"]["input_tokens"] == 203


def test_another_picture_is_another_request(server, tmp_path):
    model = load("openai-image")
    for color in (1, 2):
        model.sample(prompt="x", image=np.full((8, 8, 3), color, np.uint8), **SMALL)
    model.sample(2, prompt="x", image=np.full((8, 8, 3), 2, np.uint8), **SMALL)
    assert [len(entry["body"]["image"]) for entry in server.log] == [1, 1, 1]
    assert server.log[-1]["body"]["n"] == 2


# ---- what is refused before anything is paid ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "1000x1000"}, "size=1000x1000: gpt-image-2 has any WIDTHxHEIGHT in steps of 16, up to 3840x2160"),
        ({"size": "64x1024"}, "at most 3 to 1"),
        ({"size": "4096x4096"}, "up to 3840x2160"),
        ({"size": "big"}, "size=big: gpt-image-2 has any WIDTHxHEIGHT"),
        ({"quality": "hd"}, "quality=hd went away with the models that had it: use high"),
        ({"quality": "max"}, "quality=max: gpt-image-2 has low, medium, high, and auto"),
        ({"background": "blue"}, "background=blue: there are auto, transparent, opaque"),
        ({"format": "gif"}, "format=gif: there are png, jpeg, webp"),
        ({"format": "jpeg", "background": "transparent"}, "JPEG has no transparency"),
        ({"compression": 50}, "compression is for format=jpeg and format=webp"),
        ({"compression": 101, "format": "jpeg"}, "compression=101: it goes from 0 to 100"),
        ({"fidelity": "high"}, "fidelity belongs to an edit: give the picture too, image=FILE"),
        ({"mask": CLEAR}, "mask belongs to an edit: give the picture too"),
        ({"mask": CLEAR, "image": png(32, 64, (1, 1, 1))}, "mask: it has 64 x 64 pixels, and the picture 32 x 64"),
        ({"mask": png(64, 64, (1, 1, 1)), "image": CLEAR}, "mask: it must be a PNG that is transparent where"),
        ({"extra": "{"}, "extra: this is no JSON"),
        ({"extra": "[]"}, "extra: this is no JSON object"),
        ({"prompt": " "}, "there is nothing to draw: give a prompt"),
        ({"prompt": "x" * 32_001}, "a prompt has at most 32,000 characters, and this one has 32,001"),
    ],
)
def test_what_the_model_does_not_offer_is_refused_with_what_it_does(given, message, server):
    with pytest.raises(UsageError) as caught:
        load("openai-image").sample(**{"prompt": "a hat", **given})
    assert message in str(caught.value)
    assert not server.log


def test_a_size_that_went_away_is_refused_with_its_replacement(server):
    model = load("openai-image", options={"model": "gpt-image-1.5"})
    for old, new in {"256x256": "1024x1024", "512x512": "1024x1024", "1792x1024": "1536x1024"}.items():
        with pytest.raises(UsageError, match=f"size={old} went away with the models that had it: use {new}"):
            model.sample(prompt="a hat", size=old)
    with pytest.raises(
        UsageError, match=r"size=2048x2048: gpt-image-1\.5 has 1024x1024, 1536x1024, 1024x1536, and auto"
    ):
        model.sample(prompt="a hat", size="2048x2048")


def test_a_model_that_was_shut_down_is_refused_with_its_replacement(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    message = "--option model=dall-e-3: dall-e-3 was shut down on 2026-05-12: use gpt-image-2"
    with pytest.raises(UsageError, match=message):
        load("openai-image", options={"model": "dall-e-3"}).sample(prompt="a hat", size="1024x1024")


def test_a_model_of_a_servers_own_is_asked_for_anything(server):
    load("openai-image", options={"model": "fake-image"}).sample(prompt="a hat", size="256x256", quality="hd")
    assert (sent(server)["size"], sent(server)["quality"]) == ("256x256", "hd")


def test_without_a_key_a_run_says_how_to_set_one(tmp_path, main):
    _, err = main("run", "openai-image", "a hat", code=2, cwd=tmp_path)
    assert "needs a key, and there is none: genreg keys set openai, or set OPENAI_API_KEY" in err
    assert not list(tmp_path.iterdir())
    assert "key: api.openai.com needs a key" in main("show", "openai-image")[0]


def test_what_is_known_of_models_is_found_by_the_longest_name():
    assert about("gpt-image-2.5-flare")["qualities"][-1] == "max"
    assert about("gpt-image-2-2026-04-21")["qualities"][-1] == "high"
    assert about("gpt-image-1.5")["sizes"] == about("gpt-image-1-mini")["sizes"]
    assert not about("gpt-image-3")
    assert all(set(entry.get("tokens", {})) <= set(entry["qualities"]) for entry in known()["models"].values())


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({"quality": "low", "size": "1024x1024"}, 272),
        ({"quality": "medium", "size": "1536x1024"}, 1584),
        ({"quality": "high", "size": "1024x1536"}, 6240),
        ({}, 6240),
    ],
)
def test_the_most_tokens_are_as_published(asked, tokens):
    assert most_tokens(asked, "gpt-image-1") == tokens
    assert most_tokens(asked, "gpt-image-2") is None


# ---- files ----


def test_several_pictures_go_to_a_folder_as_they_came_each_with_its_recipe(server, tmp_path, main):
    out, _ = main("run", "openai-image", "a hat", "--given", "size=64x64", "-n", 3, "--seed", 5, cwd=tmp_path)
    assert out == "openai-image-5/\n"
    folder = tmp_path / "openai-image-5"
    assert [(folder / f"{seed}.png").read_bytes() for seed in (5, 6, 7)] == came(server, "a hat", n=3)
    assert json.loads((folder / "6.png.recipe.json").read_text())["seeds"] == "6"
    rows = list(csv.DictReader(io.StringIO((folder / "labels.csv").read_text("utf-8"))))
    assert [(row["file"], row["prompt"], row["outcome"]) for row in rows] == [
        (f"{seed}.png", "a hat", "ok") for seed in (5, 6, 7)
    ]
    main("run", "openai-image", "--recipe", folder / "6.png", "-o", "again.png", cwd=tmp_path, code=2)
    main("run", "--recipe", folder / "6.png", "-o", "again.png", cwd=tmp_path)
    assert server.log[-1]["body"] == {"model": "gpt-image-2", "prompt": "a hat", "size": "64x64"}


def test_a_page_shows_each_picture_with_its_prompt(server, tmp_path, main):
    (tmp_path / "p.csv").write_text(f'prompt\n"{CAT}"\n<b>\n', "utf-8")
    main("run", "openai-image", "--given", "p.csv", "--given", "size=64x64", "-o", "sheet.html", cwd=tmp_path)
    page = (tmp_path / "sheet.html").read_text("utf-8")
    assert page.count("<figure>") == page.count("data:image/png;base64,") == 2
    assert f"<b>prompt</b> {CAT}" in page
    assert "<b>prompt</b> &lt;b&gt;" in page


def test_a_notebook_shows_the_bytes_that_came(server):
    import base64

    samples = load("openai-image").sample(prompt="a hat", seed=1, **SMALL)
    data = samples.table.column("image")[0].as_py()
    assert base64.b64encode(data).decode() in samples._repr_html_()
    assert samples._repr_png_().startswith(b"\x89PNG")


def test_a_picture_in_another_format_is_named_by_its_bytes(server, tmp_path, main):
    jpeg = encode(np.zeros((8, 8, 3), np.uint8), kind="JPEG")
    server.state.pictures["/pictures/0.png"] = (200, "image/jpeg", jpeg)
    server.fault("url", times=-1)
    out, _ = main("run", "openai-image", "a hat", "--seed", 1, cwd=tmp_path)
    assert out == "openai-image-1.jpg\n"
    assert (tmp_path / "openai-image-1.jpg").read_bytes() == jpeg
    samples = load("openai-image").sample(prompt="a hat", format="png")
    assert samples.table.column("note")[0].as_py() == "format=png was asked for, and image/jpeg came"
    assert samples.table.column("outcome")[0].as_py() == "ok"


# ---- on the way ----


def test_pictures_on_the_way_are_kept_as_files(server, tmp_path, main):
    options = ["--option", "partials=2", "--option", "partials_folder=on/the/way"]
    out, _ = main("run", "openai-image", "a hat", "--given", "size=64x64", "--seed", 4, *options, cwd=tmp_path)
    assert sent(server)["partial_images"] == 2
    kept = sorted((tmp_path / "on/the/way").iterdir())
    assert [path.name for path in kept] == ["4-1.png", "4-2.png"]
    assert len({path.read_bytes() for path in kept} | {(tmp_path / out.strip()).read_bytes()}) == 3


def test_terminals_that_can_are_told_by_their_protocol():
    assert protocol({"TERM": "xterm-256color"}) is protocol({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"})
    assert protocol({"TERM": "xterm-ghostty"}) == "kitty"
    picture = encode(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8))
    text = escapes(picture, "kitty")
    parts = text.removesuffix("\n").split("\x1b\\")[:-1]
    assert parts[0].startswith("\x1b_Ga=T,f=100,q=2,m=1;")
    assert all(part.startswith("\x1b_Gm=1;") for part in parts[1:-1])
    assert parts[-1].startswith("\x1b_Gm=0;")
    assert max(len(part.partition(";")[2]) for part in parts) == 4096
    assert escapes(picture, "iterm").startswith("\x1b]1337;File=inline=1;size=")
    assert escapes(b"no picture", "kitty") == ""


# ---- plan and price ----


def test_a_dry_run_says_how_many_requests_and_sends_none(server, tmp_path, main):
    arguments = ["a hat", "-n", 6, "--given", "quality=low", "--dry-run", "--option", "price=[5,30]"]
    out, _ = main("run", "openai-image", *arguments, "--option", "most_tokens=1000", cwd=tmp_path)
    plan = json.loads(out)
    assert plan["requests"] == "2 for 6 pictures"
    assert plan["price"] == "at most $0.1802"  # 6 x (1,000 x $30 + 5 x $5) per million
    assert plan["host"] == server.url.split("/")[2]
    assert not server.log


def test_a_budget_holds(server, tmp_path):
    options = {"budget": "0.1", "price": "[0,10]", "most_tokens": "4160", "per_request": "1", "concurrency": "2"}
    with pytest.raises(UsageError, match=r"the budget of \$0\.1 does not reach: \$0\.083200 is spent"):
        load("openai-image", options=options).sample(5, prompt="a hat", **SMALL)
    assert server.billed == 2


def test_a_budget_needs_a_price(server):
    with pytest.raises(UsageError, match=r"how many tokens a picture of gpt-image-2 takes.*--option image_price="):
        load("openai-image", options={"budget": "1"}).sample(prompt="a hat")
    samples = load("openai-image", options={"budget": "1", "image_price": "0.2"}).sample(2, prompt="a hat", **SMALL)
    assert samples.table.column("outcome").to_pylist() == ["ok", "ok"]
    model = load("openai-image", options={"budget": "1", "model": "gpt-image-1.5"})
    with pytest.raises(UsageError, match="how many tokens the pictures of an edit take"):
        model.sample(prompt="a hat", image=CLEAR)


def test_prices_of_pictures_are_the_librarys():
    from genreg_openai.prices import Prices

    used = {"input_tokens": 300, "input_image_tokens": 200, "output_tokens": 1000, "output_image_tokens": 1000}
    cost = Prices("gpt-image-2", "https://api.openai.com/v1").cost(used)
    assert float(cost) == pytest.approx((100 * 5 + 200 * 8 + 1000 * 30) / 1e6)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_contract(check, server):
    result = run_check(check, load("openai-image"))
    assert result.status in ("passed", "skipped"), result


def test_a_terminal_that_can_shows_pictures_on_the_way_and_the_last_one(server, tmp_path):
    terminal, inside = pty.openpty()
    arguments = ["run", "openai-image", "a hat", "--given", "size=64x64", "--option", "partials=2", "-o", "hat.png"]
    with subprocess.Popen(
        [sys.executable, "-m", "genreg", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=inside,
        env=os.environ | {"TERM": "xterm-kitty"},
    ) as process:  # fmt: skip
        os.close(inside)
        seen = b""
        with suppress(OSError):  # its end
            while part := os.read(terminal, 1 << 16):
                seen += part
    os.close(terminal)
    assert process.returncode == 0, seen
    assert seen.count(b"\x1b_Ga=T,f=100,") == 3
