"""What the documents show is executed, each in a folder of its own, and what they print is compared.

How a document is written, so that it can be checked:

- A block marked ``sh`` is run by bash, and one marked ``python`` by Python, as it stands. A block of any language whose
  first line is ``# path/to/file`` is that file, and is written instead.
- A block marked ``text`` is what the block before it prints on a terminal; a line ``…`` stands for any lines. The mark
  ``text exit 2`` says with which code it ends: with 0 otherwise, and where no output is shown.
- The Hugging Face Hub is one on this machine, which has the model ``genreg/iris``; alice is logged in.
- The set-up (``python3 -m venv``, ``pip install``, ``pytest``, ``make``, ``source``) is not repeated: the files and
  targets that it names must be there, and tests/test_wheels.py installs. A package that the document itself wrote is
  installed.

``python tests/test_readme.py FILE`` writes what the blocks print now into the document.
"""

import functools
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genreg.entrypoints import package_folder
from genreg.testing.hub import OWNER_TOKEN as ALICE
from genreg.testing.hub import FakeHub
from genreg_openai.testing import FakeOpenAI

ROOT = Path(__file__).parents[1]
PROSE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
FENCE = re.compile(r"^```(\w*)[ \t]*(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEXT = "\x1e"  # printed before each command of a block, to keep the order of its output and its messages


@dataclass(frozen=True)
class Block:
    """A fenced block, where it lies, and the output shown after it."""

    language: str
    text: str
    line: int
    shown: str | None = None
    exit: int = 0
    at: tuple[int, int] | None = None  # of the output's text in the document

    @property
    def file(self) -> str | None:
        """The file that this block is, if it is one."""
        first = re.match(r"# ([\w./-]+/?[\w.-]+\.\w+)\n", self.text)
        return first[1] if first else None


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, each with its output."""
    found: list[Block] = []
    for match in FENCE.finditer(document):
        language, rest, text = match.groups()
        line = document.count("\n", 0, match.start()) + 1
        if language == "text":
            before = found.pop()
            assert before.shown is None, f"line {line}: there is nothing that prints this"
            code = int(rest.removeprefix("exit ") or 0)
            found.append(Block(before.language, before.text, before.line, text, code, match.span(3)))
        else:
            found.append(Block(language, text, line))
    return found


def written(block: Block, folder: Path) -> None:
    """Write the file that a block is."""
    assert block.file
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text.partition("\n")[2], "utf-8")


def without_set_up(line: str, folder: Path) -> str:
    """A line of shell without the parts that set up a machine, whose files must be there."""
    if not re.search(r"\bpip install\b|^python3? -m venv\b|^source\b|^make\b", line):
        return line.replace(".venv/bin/", "")
    kept = []
    for part in line.split(" && "):
        words = shlex.split(part, comments=True)
        if "install" in words:
            installed(words[words.index("install") + 1 :], folder)
        elif words[0] == "make":
            targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
            assert set(words[1:]) <= targets, f"{part}: the Makefile has no such target"
        elif not (words[0] == "source" or "venv" in words or words[0].endswith("pytest")):
            kept.append(part.replace(".venv/bin/", ""))
    return " && ".join(kept)


def installed(words: list[str], folder: Path) -> None:
    """Check what ``pip install`` names; a package that lies in the document's folder is installed beside it."""
    for word in (word for word in words if not word.startswith("-")):
        if (folder / word / "pyproject.toml").is_file() and word != ".":
            command = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site", word]
            subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
        else:
            assert (ROOT / word).exists(), f"pip install {word}: there is no such file"


@contextmanager
def a_hub(home: Path) -> Iterator[None]:
    """A Hugging Face Hub for the commands of a document, with one model; alice is logged in."""
    iris = Path(package_folder("genreg_nb") or "", "nb-iris")
    with FakeHub() as hub, hub.serving(home, ALICE):
        hub.add_repo("genreg/iris", {path.name: path for path in iris.iterdir()})
        yield


def environment(folder: Path) -> dict[str, str]:
    """This environment's commands, no registry of the user's, and the packages that the document wrote."""
    sources = [str(path) for path in folder.glob("*/src")]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GENREG_", "PYTHON", "PYTEST"))},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "PYTHONPATH": os.pathsep.join([*sources, str(folder / "site")]),
        "PYTHONUTF8": "1",
        "OPENAI_BASE_URL": fake_service().url,  # no document asks the real one
        "OPENAI_API_KEY": "test-key",
    }


@functools.cache
def fake_service() -> FakeOpenAI:
    """The service that documents ask, as long as the tests run."""
    return FakeOpenAI().__enter__()


def printed(block: Block, folder: Path) -> tuple[str, int]:
    """What a block prints on a terminal, messages before output for each command, and its exit code."""
    if block.language == "python":
        argv = [sys.executable, "-c", block.text]
    else:
        lines = "\n".join(without_set_up(line, folder) for line in block.text.splitlines())
        argv = ["bash", "-euc", f"trap 'printf {NEXT}; printf {NEXT} >&2' DEBUG\n{lines}\n"]
    terminal, end = pty.openpty()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=end, stderr=errors
        )
        os.close(end)
        output = b""
        while chunk := _read(terminal):
            output += chunk
        os.close(terminal)
        code = process.wait(timeout=300)
        errors.seek(0)
        messages = errors.read().decode()
    pairs = zip(messages.split(NEXT), output.decode().replace("\r\n", "\n").split(NEXT), strict=True)
    return "".join(said + made for said, made in pairs), code


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so where the other end is closed
        return b""


def same(shown: str, output: str) -> bool:
    """Whether the output is what is shown, where a line ``…`` stands for any lines."""
    pattern = "".join("(?:.*\n)*" if line == "…\n" else re.escape(line) for line in shown.splitlines(keepends=True))
    return re.fullmatch(pattern, output) is not None


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_shows_is_what_happens(path: Path, tmp_path: Path, tmp_path_factory: Any) -> None:
    with a_hub(tmp_path_factory.mktemp("hf")):
        follow(path, tmp_path)


def follow(path: Path, tmp_path: Path) -> None:
    """Run a document's blocks and compare what they print."""
    for block in blocks(path.read_text("utf-8")):
        where = f"{path.relative_to(ROOT)}, line {block.line}"
        if block.file:
            written(block, tmp_path)
        else:
            assert block.language in ("sh", "python"), f"{where}: a block is sh, python, text or a file"
            output, code = printed(block, tmp_path)
            assert code == block.exit, f"{where} ends with {code}:\n{output}"
            if block.shown is not None:
                assert same(block.shown, output), f"{where} prints:\n{output}"


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_shows_code_before_line_20() -> None:
    assert blocks((ROOT / "README.md").read_text("utf-8"))[0].line < 20


def test_the_readme_sets_up_by_two_lines_which_ci_runs_too() -> None:
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "pip install -c" in line]
    assert len(lines) == 2
    assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt . ./plugins/nb && ")
    assert lines[1].endswith(" && .venv/bin/pytest")
    ci = (ROOT / ".ci/run").read_text("utf-8")
    assert r"grep -m1 '^python3 -m venv \.venv && ' README.md" in ci
    assert r"grep -m1 '^\.venv/bin/pip install .* && \.venv/bin/pytest$' README.md" in ci


def test_no_document_installs_the_bare_name() -> None:
    for path in [
        *PROSE,
        *ROOT.glob("core/**/*.py"),
        *ROOT.glob("plugins/*/src/**/*.py"),
        *ROOT.glob("**/pyproject.toml"),
    ]:
        assert not re.search(r"pip install [\"'`]?genreg(?![-\w/])", path.read_text("utf-8")), path


def test_the_architecture_names_every_file_of_the_core() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    core = ROOT / "core" / "genreg"
    files = {str(path.relative_to(core)) for path in core.rglob("*.py")}
    kept = {name for name in files if not name.startswith(("__", "testing/"))}
    named = {name for name in re.findall(r"`([\w/]+\.py)`", text) if not name.startswith("tests/")}
    assert kept - named == set()
    assert named - files == set()


def test_a_line_of_dots_stands_for_any_lines() -> None:
    assert same("a\n…\nd\n", "a\nb\nc\nd\n")
    assert same("…\n", "")
    assert not same("a\n…\n", "b\n")
    assert not same("a.\n", "ab\n")


def test_a_block_that_fails_or_prints_something_else_is_seen(tmp_path: Path) -> None:
    shell = "echo one; echo two >&2\nfalse\necho never\n"
    assert printed(Block("sh", shell, 1), tmp_path) == ("one\ntwo\n", 1)
    assert printed(Block("python", "import sys\nsys.exit(3)\n", 1), tmp_path) == ("", 3)
    with pytest.raises(AssertionError, match=r"missing\.txt"):
        without_set_up(".venv/bin/pip install -c missing.txt .", tmp_path)
    with pytest.raises(AssertionError, match="nonsense"):
        without_set_up("make nonsense", tmp_path)


def rewrite(path: Path) -> None:
    """Write what the blocks of a document print now into it."""
    document = path.read_text("utf-8")
    pieces, start = [], 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home, a_hub(Path(home)):
        for block in blocks(document):
            if block.file:
                written(block, Path(folder))
                continue
            output, code = printed(block, Path(folder))
            if code != block.exit:
                sys.exit(f"{path}, line {block.line} ends with {code}:\n{output}")
            if block.at and not same(block.shown or "", output):
                pieces += [document[start : block.at[0]], output]
                start = block.at[1]
    path.write_text("".join([*pieces, document[start:]]), "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name))
