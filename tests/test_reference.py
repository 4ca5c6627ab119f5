"""The reference is what the code says: ``python docs/reference.py`` writes it."""

import importlib.util
import re
from pathlib import Path

import pytest

from genreg import hooks
from genreg.cli import VERBS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference):
    return reference.pages()


def test_the_reference_is_in_step_with_the_code(pages):
    stale = [name for name, text in pages.items() if (DOCS / name).read_text("utf-8") != text]
    assert not stale, "python docs/reference.py"


def test_every_hook_and_every_verb_has_a_section(pages):
    for name in vars(hooks):
        if name.startswith("genreg_"):
            assert f"## `{name}()" in pages["reference-hooks.md"]
    for verb in VERBS:
        assert re.search(rf"^## `genreg {verb}\b", pages["reference-verbs.md"], re.MULTILINE)


def test_every_page_is_in_the_index(pages):
    index = (DOCS / "index.md").read_text("utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page.name


def test_check_says_what_is_out_of_step_and_writes_nothing(reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "pages", lambda: {"reference-x.md": "new\n"})
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "reference-x.md out of step",
        "reference-x.md written",
        "nothing out of step",
    ]
