"""`--json` on every verb has the shape that docs/json.md tells, and pipes get neither color nor progress."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from genreg.cli import VERBS
from genreg.entrypoints import package_folder

DOCS = Path(__file__).parents[1] / "docs" / "json.md"
NB = Path(package_folder("genreg_nb") or "")
TYPES = {"text": str, "number": (int, float), "yes/no": bool, "list": list, "object": dict, "null": type(None)}


def shapes() -> dict[str, dict[str, str]]:
    """Heading -> key -> type, as docs/json.md has them."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^## ", DOCS.read_text("utf-8"), flags=re.M)[1:]:
        rows = re.findall(r"^\| `(.+?)` \| (.+?) \| .*\|$", section, re.M)
        found[section.partition("\n")[0].strip("`")] = dict(rows)
    return found


SHAPES = shapes()


def compare(value: Any, shape: dict[str, str]) -> None:
    """Every key is told, every key that is always there is there, and each is of its type."""
    assert value.keys() <= shape.keys()
    assert {key for key, kind in shape.items() if "sometimes" not in kind} <= value.keys()
    for key, held in value.items():
        kinds = [TYPES[kind] for kind in shape[key].removesuffix(", sometimes").split(" or ")]
        assert any(isinstance(held, kind) and (kind is bool or not isinstance(held, bool)) for kind in kinds), (
            key,
            held,
        )


@pytest.fixture
def desk(tmp_path, monkeypatch, genreg) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shutil.copytree(NB / "nb-iris", "folder")
    user = tmp_path / "config" / "genreg" / "registry.yaml"
    user.parent.mkdir(parents=True)
    user.write_text("version: 1\nmodels: {mine: {family: nb, makes: table, summary: x}}\n")
    assert genreg("run", "nb-iris", "-n", "40", "--seed", "1", "-o", "x.csv").code == 0
    return tmp_path


TRAIN = "train nb --data x.csv --label species"
ASKED = {  # heading -> commands that have that shape
    "genreg list --json": ["list --json", "list --registry extra.yaml --json", "list --offline --registry extra.yaml --json"],
    "genreg list samplers --json": [f"list {kind} --json" for kind in ("samplers", "families", "loaders", "preprocessors")],
    "genreg show MODEL --json": ["show nb-iris --json", "show ./folder --json"],
    "genreg show FAMILY --json": ["show nb --json"],
    "genreg show SAMPLER --json": ["show truncate --json"],
    "genreg show OUTPUT --json": ["show x.csv --json"],
    "genreg run MODEL -o OUT --json": ["run nb-iris -o y.csv --json"],
    "genreg run MODEL --dry-run": ["run nb-iris --dry-run", "run nb-iris setosa -n 3 --sampler clamp:at=0,value=1 -o z.csv --dry-run --json"],
    "genreg score MODEL --data FILE -o OUT --json": ["score nb-iris --data x.csv -o s.csv --json"],
    "genreg data convert SOURCE… -o OUT --json": ["data convert x.csv -o c.json --json"],
    "genreg train FAMILY --data FILE -o FOLDER --json": [f"{TRAIN} -o m --json"],
    "genreg train FAMILY --data FILE -o FOLDER --dry-run": [f"{TRAIN} -o n --dry-run", f"{TRAIN} -o n --dry-run --json"],
    "genreg pull NAME… --json": ["pull hf://genreg/iris --json", "pull nb-iris nb-penguins --json"],
    "genreg verify NAME… --json": ["verify nb-iris mine --json"],
    "genreg push FOLDER ORG/REPO --json": ["push folder genreg/new --license mit --json", "push folder genreg/new --license mit --dry-run --json"],
    "genreg data inspect SOURCE --json": ["data inspect x.csv --json", "data inspect x.csv --label species --json"],
    "genreg data prepare SOURCE -o FOLDER --json": [
        "data prepare x.csv --steps dedupe --steps split --steps minmax --force -o parts --json",
        "data prepare --manifest parts --json",
    ],
    "genreg add NAME FOLDER --json": ["add new folder --json", "add nb-iris folder --force --json"],
    "genreg remove NAME --json": ["remove mine --json"],
    "genreg plugins --json": ["plugins --json"],
    "genreg check MODEL --json": ["check nb-iris --json"],
    "genreg offers DIST --json": ["offers genreg-nb --json", "offers genreg-nb", "offers genreg-core --json", "offers genreg-dream --json"],
    "genreg offers DIST --write --json": ["offers genreg-dream --write --json"],
}  # fmt: skip
if "concat" in VERBS:
    ASKED["genreg concat SHARD… -o OUT --json"] = ["concat s1.csv s2.csv -o both.csv --json"]
DREAM = """
import click
dream = click.Group("dream", help="Dream on.\\n\\nAt length.")
@dream.command("keys")
@click.option("-l", "--list", is_flag=True)
def keys(list): "Show keys."
"""


@pytest.mark.parametrize("heading", ASKED)
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # of huggingface_hub's uploads
def test_what_is_printed_has_the_shape_that_is_told(genreg, desk, distribution, heading, request):
    if "hf://" in str(ASKED[heading]) or "push" in heading:
        hub = request.getfixturevalue("genreg_hub")
        hub.add_repo("genreg/iris", {path.name: path for path in Path("folder").iterdir()})
    points = "[genreg]\ndream = genreg_dream\n[genreg.commands]\ndream = genreg_dream:dream\n"
    distribution("genreg-dream", DREAM, registry="version: 1\n", points=points)
    distribution("genreg-ill", "1 / 0\n", registry="version: 1\n")
    Path("extra.yaml").write_text(
        "version: 1\nplugins: {genreg-far: {summary: Far away, models: {far: {family: far, makes: text, summary: x}}}}\n"
        "models: {nb-iris: {family: nb, makes: table, summary: x}}\n"
    )
    if "concat" in heading:
        for at in (1, 2):
            assert (
                genreg("run", "nb-iris", "-n", "4", "--seed", "1", "--shard", f"{at}/2", "-o", f"s{at}.csv").code == 0
            )
    for asked in ASKED[heading]:
        done = genreg(*asked.split())
        value = json.loads(done.out)
        assert not done.err.startswith('{"error"')
        for one in value if isinstance(value, list) else [value]:
            compare(one, SHAPES[heading])


def test_verbs_of_plugins_are_offered_with_their_options(genreg, distribution):
    points = "[genreg]\ndream = genreg_dream\n[genreg.commands]\ndream = genreg_dream:dream\n"
    made = distribution("genreg-dream", DREAM, registry="version: 1\n", points=points)
    keys = {"summary": "Show keys", "options": ["-l", "--list"]}
    expected = {"commands": {"dream": {"summary": "Dream on", "options": [], "commands": {"keys": keys}}}}
    assert json.loads(genreg("offers", "genreg-dream").out) == expected
    assert genreg("offers", "genreg-dream", "--write").code == 0
    assert "commands:\n  dream:\n    summary: Dream on\n" in (made.folder / "registry.yaml").read_text()
    assert "  dream       Dream on\n" in genreg("--help").out
    (made.folder / "__init__.py").write_text("raise SystemExit(3)")
    sys.modules.pop("genreg_dream")
    assert genreg("offers", "genreg-dream").line.startswith("genreg-dream is broken: SystemExit")


def test_rows_are_json_lines(genreg, desk):
    done = genreg("run", "nb-iris", "-n", "3", "--json")
    assert [set(json.loads(line)) for line in done.out.splitlines()] == [set(json.loads(done.out.splitlines()[0]))] * 3
    done = genreg("score", "nb-iris", "--data", "x.csv", "--key", "species", "--json")
    assert list(json.loads(done.out.splitlines()[0]))[:3] == ["species", "log_prob", "@species"]


def test_every_shape_that_is_told_is_tested():
    told = {heading for heading, shape in SHAPES.items() if shape} - {"an error"}
    assert told - {"genreg concat SHARD… -o OUT --json"} == ASKED.keys() - {"genreg concat SHARD… -o OUT --json"}
    verbs = {heading.split()[1] for heading in SHAPES if heading.startswith("genreg ")}
    assert VERBS.keys() - {"completion"} <= verbs


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"completion"}))
def test_every_verb_takes_json_and_tells_errors_in_it(genreg, verb):
    command = import_module(f"genreg.cli.{verb}").command
    assert any("--json" in option.opts for option in command.params if isinstance(option, click.Option))
    done = genreg(verb, "--json", "--no-such-option")
    assert (done.code, done.out) == (2, "")
    error = json.loads(done.err)
    compare(error, SHAPES["an error"])
    assert error["error"].keys() == {"kind", "message"}


WRONG = [
    "show zebra",
    "run zebra",
    "train zebra --data x -o y",
    "score zebra --data x",
    "check zebra",
    "add a/b c",
    "pull zebra",
    "verify zebra",
    "push zebra genreg/zebra",
    "remove zebra",
    "offers zebra",
    "list --family zebra",
    "plugins zebra",
]


@pytest.mark.parametrize("asked", WRONG)
def test_a_mistake_is_json_on_stderr(genreg, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = genreg(*asked.split(), "--json")
    assert (done.code, done.out) == (2, "")
    assert json.loads(done.err)["error"]["message"] == genreg(*asked.split()).line


# ---- pipes and NO_COLOR ----

COLOR = re.compile(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;\d+)*m")
COLORFUL = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}
PLAIN = [
    "list",
    "list samplers",
    "show nb-iris",
    "run nb-iris -n 3",
    "plugins",
    "score nb-iris --data x.csv",
    f"{TRAIN} -o m",
    "check nb-iris",
    "offers genreg-nb",
    "completion bash",
    "--help",
    "run zebra",
]


@pytest.mark.parametrize("asked", PLAIN)
def test_files_get_neither_color_nor_progress(genreg, desk, monkeypatch, asked):
    for name, value in COLORFUL.items():
        monkeypatch.setenv(name, value)
    done = genreg(*asked.split())
    assert done.out + done.err
    assert not {"\x1b", "\r"} & {*done.out, *done.err}


@pytest.mark.parametrize("asked", ["list", "run nb-iris -n 3", f"{TRAIN} -o m", "run zebra"])
def test_pipes_get_neither_color_nor_progress(process, desk, asked):
    done = process(*asked.split(), env=COLORFUL, cwd=desk)
    assert done.out + done.err
    assert not {"\x1b", "\r"} & {*done.out, *done.err}


def shown(asked: str, env: dict[str, str]) -> str:
    """What a terminal shows."""
    ours, theirs = pty.openpty()
    held = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "genreg", *asked.split()], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**held, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            text += os.read(ours, 1 << 16)
        except OSError:
            break
    os.close(ours)
    assert child.wait(timeout=60) == 0
    return text.decode()


@pytest.mark.parametrize(
    "asked", ["list", "show nb-iris", "plugins", f"{TRAIN} -o m", "score nb-iris --data x.csv -o s.csv"]
)
def test_no_color_is_heard_on_a_terminal(desk, asked):
    text = shown(asked, {"NO_COLOR": "1"})
    assert text
    assert not COLOR.search(text)


def test_a_terminal_that_can_do_nothing_is_asked_for_nothing(desk):
    assert "\x1b" not in shown("score nb-iris --data x.csv -o s.csv", {"TERM": "dumb"})


def test_a_terminal_shows_progress(desk):
    assert "scoring" in shown("score nb-iris --data x.csv -o s.csv", {})
