"""What a shell completes: from files alone, in the shells that are there."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.test_startup import HEAVY, PLUGINS, PROBE, TOLD, imported

from genreg.cli import VERBS, group
from genreg.cli.complete import answers
from genreg.cli.completion import SCRIPTS
from genreg.entrypoints import package_folder

NB = Path(package_folder("genreg_nb") or "")
OWN = "version: 1\nmodels:\n  irises: {family: nb, makes: table, summary: Mine}\n  lost: {family: nbb, makes: table, summary: x}\n"
RUN = "run nb-iris --sampler "
TRAIN = "train nb --data d.csv "
CASES = {  # what is typed -> what is offered; a part ends where no space follows, <file> is the shell's own
    "": group.list_commands(click.Context(group)),
    "r": ["run", "remove"],
    "data conv": ["convert"],
    "data convert x --lo": ["--loader"],
    "--deb": ["--debug"],
    "--debug ru": ["run"],
    "zebra ": ["<file>"],
    # names
    "run iri": ["irises"],
    "run lo": ["lost"],
    "run nb-i": ["nb-iris"],
    "run ./": ["<dir>"],
    "score nb-i": ["nb-iris"],
    "check irises": ["irises"],
    "show irise": ["irises", "<file>"],
    "show interp": ["interpolate", "<file>"],
    "show csv": ["csv", "<file>"],
    "remove ": ["irises", "lost"],
    "add ": [],
    "pull nb-i": ["nb-iris"],
    "verify nb-iris nb-pe": ["nb-penguins"],
    "push ": ["<dir>"],
    "push x ": [],
    "add x ": ["<dir>"],
    "train nb": ["nb"],
    "offers genreg-nb": ["genreg-nb"],
    "list s": ["samplers"],
    "list --makes t": ["table", "text"],
    "list --family nb": ["nb"],
    "completion ": ["bash", "zsh", "fish"],
    # calls and their knobs
    RUN + "trunc": ["truncate…"],
    RUN + "truncate:": ["truncate:psi=…", "truncate:cutoff=…"],
    RUN + "truncate:p": ["truncate:psi=…"],
    RUN + "truncate:psi=0.5,": ["truncate:psi=0.5,cutoff=…"],
    RUN + "truncate:psi=[0.5,0.7],c": ["truncate:psi=[0.5,0.7],cutoff=…"],
    RUN + "zebra:": [],
    "run nb-iris --sampler=clamp:v": ["--sampler=clamp:value=…"],
    TRAIN + "--preprocess std": [],
    TRAIN + "--preprocess dropna:": ["dropna:columns=…"],
    TRAIN + "--loader csv:e": ["csv:encoding=…"],
    TRAIN + "--loader parq": ["parquet"],
    # settings, options, files
    TRAIN + "--set pri": ["priors=…"],
    TRAIN + "--set al": ["alpha=…"],
    "train --set al": [],
    "train zebra --set ": [],
    "run nb-iris --option ": [],
    TRAIN + "--sp": ["--split"],
    TRAIN + "--dry-run --fo": ["--force"],
    "train nb --data ": ["<file>"],
    "train nb --data=": ["<file>"],
    "train nb -o ": ["<dir>"],
    "score nb-iris -o ": ["<file>"],
    "score nb-iris --seed ": [],
    "run nb-iris --given ": ["<file>"],
    "list --registry ": ["<file>"],
    "plugins ": [],
}  # fmt: skip


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "config" / "genreg" / "registry.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(OWN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return path


def told(line: str) -> list[str]:
    kinds = {"word": "", "part": "…"}
    return [a.value + kinds[a.kind] if a.kind in kinds else f"<{a.kind}>" for a in answers(line.split(" "))]


@pytest.mark.parametrize("line", CASES, ids=lambda line: line or "nothing")
def test_what_is_typed_is_completed(user, line):
    assert told(line) == CASES[line]


def test_a_registry_that_is_named_is_read_too(user, registry_file):
    path = registry_file("version: 1\nmodels: {flagged: {family: nb, makes: table, summary: x}}\n")
    assert told(f"run --registry {path} fl") == ["flagged"]


def test_an_option_goes_by_the_family_of_the_entry_or_the_folder(distribution, tmp_path, user, monkeypatch):
    offers = "families:\n  far: {summary: x, makes: text, settings: [], options: [base_url, budget]}\n"
    distribution(
        "genreg-far", registry=f"version: 1\nmodels: {{far-one: {{family: far, makes: text, summary: x}}}}\n{offers}"
    )
    assert told("run far-one --option ") == ["base_url=…", "budget=…"]
    assert told("train far --option bu") == ["budget=…"]
    (tmp_path / "config.json").write_text('{"model_type": "far"}')
    assert told(f"score {tmp_path} --option ba") == ["base_url=…"]
    (tmp_path / "config.json").write_text("[]")
    assert told(f"score {tmp_path} --option ") == []


def test_a_plugins_verb_is_completed_from_its_registry_file_alone(distribution, user):
    commands = (
        "commands:\n  dream:\n    summary: Dream on\n    options: [--deep]\n"
        "    commands: {keys: {summary: Keys, options: [--list]}}\n"
    )
    points = "[genreg]\ndream = genreg_dream\n[genreg.commands]\ndream = genreg_dream.cli:dream\n"
    distribution(
        "genreg-dream", "raise SystemExit('never imported')", registry=f"version: 1\n{commands}", points=points
    )
    assert told("dr") == ["dream"]
    assert told("dream ") == ["keys"]
    assert told("dream --d") == ["--deep"]
    assert told("dream keys --") == ["--list"]
    assert told("dream keys ") == ["<file>"]
    assert "genreg_dream" not in sys.modules


def test_a_broken_file_of_the_users_own_completes_verbs_and_no_more(process, user):
    user.write_text("version: 1\nmodles: {}\n")
    env = {"_GENREG_COMPLETE": "zsh", "XDG_CONFIG_HOME": str(user.parents[1])}
    done = process("ru", env=env)
    assert (done.code, done.out, done.err) == (0, "word\trun\tDraw samples from a model\n", "")
    assert process("run", "", env=env) == type(done)(0, "", "")


# ---- as cheap as list ----


@pytest.mark.parametrize(
    "line",
    [
        "",
        "run n",
        RUN + "truncate:p",
        TRAIN + "--set al",
        "score nb-iris --",
        "show n",
        "add ",
        "check n",
        "plugins --",
        "offers g",
        "completion b",
    ],
)
def test_completing_imports_nothing_that_computes(line, monkeypatch):
    monkeypatch.setenv("_GENREG_COMPLETE", "zsh")
    modules = imported(PROBE, *line.split(" "))
    assert modules & (HEAVY | PLUGINS) == set()
    assert "genreg.cli.complete" in modules


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_declares_imports_nothing_that_computes(verb):
    modules = imported(f"import json, sys, genreg.cli.{verb}; {TOLD}")
    assert modules & (HEAVY | PLUGINS) == set()


def test_completing_is_no_part_of_anything_else():
    assert "genreg.cli.complete" not in imported(PROBE, "list")


# ---- in the shells that are there ----

ASKED = {
    "genreg r": ["run", "remove"],
    "genreg run nb-iris --sampler trunc": ["truncate"],
    "genreg score nb-iris --da": ["--data"],
}
BROKEN = {  # bash replaces what comes after its last word break
    "genreg run nb-iris --sampler truncate:p": ["psi="], "genreg run nb-iris --sampler truncate:psi=1,c": ["1,cutoff="],
    "genreg train nb --set al": ["alpha="], 'genreg train "n': ["nb"], "genreg train nb --loader=csv:e": ["encoding="],
    "genreg run 'nb-i": ["nb-iris"], "genreg run nb-iris --sampler nothing": [],
}  # fmt: skip
WHOLE = {"genreg run nb-iris --sampler truncate:p": ["truncate:psi="], "genreg train nb --set al": ["alpha="]}
ASK = {
    "bash": """
source <(genreg completion bash)
compopt() { :; }
for COMP_LINE in "$@"; do COMP_POINT=${#COMP_LINE}; _genreg genreg; printf '%s\\n' "${COMPREPLY[@]}" --; done
""",
    "zsh": """
compdef() { }
_describe() { print -l -- ${${(P)4}%:*} }
source <(genreg completion zsh)
for line in "$@"; do words=(${(z)line}); CURRENT=$#words; _genreg; print -- --; done
""",
    "fish": """
genreg completion fish | source
for line in $argv; complete -C $line | string split -f1 \\t; echo --; end
""",
}
PRESENT = [shell for shell in ASK if shutil.which(shell)]


def test_bash_is_there():
    assert "bash" in PRESENT  # what else is there is tested too


@pytest.mark.parametrize("shell", PRESENT)
def test_a_shell_completes(shell, tmp_path):
    lines = {**ASKED, **(BROKEN if shell == "bash" else WHOLE)}
    command = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}[
        shell
    ]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    name = [] if shell == "fish" else [shell]
    done = subprocess.run([*command, ASK[shell], *name, *lines], capture_output=True, text=True, timeout=120, env=env)
    assert done.stderr == ""
    found = [[line for line in part.split("\n") if line] for part in done.stdout.split("--\n")[:-1]]
    assert [sorted(part) for part in found] == [sorted(expected) for expected in lines.values()]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_has_a_script(genreg, shell):
    done = genreg("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_GENREG_COMPLETE={shell}" in done.out
    assert "bash, zsh or fish" in genreg("--help").out
    assert (
        genreg("completion", "tcsh").line
        == "Invalid value for '{bash|zsh|fish}': 'tcsh' is not one of 'bash', 'zsh', 'fish'."
    )
