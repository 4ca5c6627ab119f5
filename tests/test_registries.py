"""Registries people own: names added and removed in a file that may be edited by hand, and its JSON Schema."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.test_registry import MISTAKES

from genreg.entrypoints import package_folder, scan
from genreg.errors import RegistryError
from genreg.registry import core_file
from genreg.registryfile import parse
from genreg.registryschema import schema
from genreg.userregistry import spliced

ROOT = Path(__file__).parents[1]
NB = Path(package_folder("genreg_nb") or "")


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "genreg" / "registry.yaml"


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "my irises"
    shutil.copytree(NB / "nb-iris", made)
    return made


# ---- add and remove ----


def test_a_folder_gets_a_name_and_loses_it_again(genreg, user, folder):
    done = genreg("add", "花", folder, "--summary", "花: it's mine")
    assert (done.code, done.line) == (0, f"花 is {folder} now, by {user}")
    entry = yaml.safe_load(user.read_text())["models"]["花"]
    pinned = yaml.safe_load((NB / "registry.yaml").read_text())["models"]["nb-iris"]["files"]
    assert entry == {
        "family": "nb",
        "summary": "花: it's mine",
        "makes": "table",
        "weights": str(folder),
        "files": pinned,
    }
    assert genreg("run", "花", "-n", "2", "--seed", "1").out == genreg("run", "nb-iris", "-n", "2", "--seed", "1").out
    assert json.loads(genreg("show", "花", "--json").out)["registry"] == str(user)
    lines = genreg("list").out.splitlines()
    at = lines[0].index("FAMILY")  # 花 is one character and takes two columns
    assert "花".ljust(at - 1) + "nb" in next(line for line in lines if "花" in line)
    assert genreg("remove", "花").line == f"花 is forgotten; {folder} is kept"
    assert (folder / "config.json").is_file()
    assert yaml.safe_load(user.read_text()) == {"version": 1, "models": {}}
    assert genreg("run", "花").line.startswith("there is no model 花; there are: ")
    assert genreg("add", "again", folder).code == 0
    assert yaml.safe_load(user.read_text())["models"]["again"]["summary"] == "nb, trained on iris.csv"


def test_a_folder_is_found_again_from_anywhere(genreg, user, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert genreg("add", "mine", folder.name).code == 0
    monkeypatch.chdir("/")
    assert genreg("run", "mine", "--seed", "1").code == 0


def test_a_name_that_is_there_is_replaced_only_by_force(genreg, user, folder):
    origin = NB / "registry.yaml"
    assert (
        genreg("add", "nb-iris", folder).line
        == f"nb-iris is there already, in {origin}: choose another name, or --force to replace it"
    )
    assert not user.exists()
    done = genreg("add", "nb-iris", folder, "--force")
    assert done.err.splitlines()[1] == f"genreg: it overrides the entry of {origin}"
    assert f"overrides the entry of {origin}\n" in genreg("list").out
    assert "there already" in genreg("add", "nb-iris", folder).line
    told = json.loads(genreg("add", "nb-iris", folder, "--force", "--json").out)
    assert (told["overrides"], told["registry"], told["comments_kept"]) == (str(origin), str(user), True)
    done = genreg("remove", "nb-iris")
    assert done.err.splitlines() == [
        f"genreg: nb-iris is forgotten; {folder} is kept",
        f"genreg: the name is that of {origin} again",
    ]
    assert genreg("remove", "nb-iris").line == f"nb-iris is from {origin}: only a name of {user} can be removed"


def test_what_cannot_be_named_is_told(genreg, user, folder, tmp_path):
    assert genreg("add", "a/b", folder).line == "a/b: a name is letters, digits, and . _ + - after the first"
    assert genreg("add", "x", tmp_path / "none").line == f"{tmp_path / 'none'}: there is no such checkpoint folder"
    assert genreg("add", "x", tmp_path).line == f"{tmp_path} is no checkpoint: it has no config.json"
    assert genreg("remove", "x").line == f"there is no model x in {user}; there are none"
    config = json.loads((folder / "config.json").read_text())
    config["genreg"]["family"] = "nbb"
    (folder / "config.json").write_text(json.dumps(config))
    assert genreg("add", "x", folder).line == "there is no family nbb; did you mean nb?"
    assert not user.exists()
    (tmp_path / "config").write_text("a file, not a folder")
    shutil.copy(NB / "nb-iris" / "config.json", folder)
    assert genreg("add", "x", folder).line == f"{user} cannot be written: Not a directory"


def test_a_checkpoint_that_changed_says_how_to_name_it_anew(genreg, user, folder):
    genreg("add", "mine", folder)
    (folder / "README.md").write_text("a better model card is no other model")
    assert genreg("run", "mine", "--seed", "1").code == 0
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text + "\n")
    line = genreg("run", "mine").line
    mend = f"genreg add mine '{folder}' --force"
    assert (
        line
        == f"{folder / 'config.json'} has {len(text) + 1:,} bytes, and {len(text):,} are registered, so it was changed: {mend} names it as it is now"
    )
    assert genreg("add", "mine", folder, "--force").code == 0
    assert genreg("run", "mine", "--seed", "1").code == 0


def test_a_file_with_a_mistake_is_left_alone(genreg, user, folder):
    user.parent.mkdir(parents=True)
    user.write_text("version: 1\nmodles: {}\n")
    for arguments in (("add", "x", folder), ("remove", "x")):
        assert genreg(*arguments).line == f"{user}, line 2, modles: there is no key modles; did you mean models?"
    assert user.read_text() == "version: 1\nmodles: {}\n"


def test_a_link_to_the_file_stays_a_link_and_its_mode_stays(genreg, user, folder, tmp_path):
    real = tmp_path / "dotfiles" / "registry.yaml"
    real.parent.mkdir()
    real.write_text("version: 1\n")
    real.chmod(0o600)
    user.parent.mkdir(parents=True)
    user.symlink_to(real)
    assert genreg("add", "mine", folder).code == 0
    assert user.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "mine" in yaml.safe_load(real.read_text())["models"]
    assert [path.name for path in real.parent.iterdir()] == ["registry.yaml"]  # nothing temporary is left


def test_names_added_at_once_are_all_there(user, folder):
    code = (
        "import sys\nfrom pathlib import Path\nfrom genreg.userregistry import add\nadd(sys.argv[1], Path(sys.argv[2]))"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, f"m{at}", str(folder)]) for at in range(6)]
    assert [child.wait(timeout=120) for child in children] == [0] * 6
    assert set(yaml.safe_load(user.read_text())["models"]) == {f"m{at}" for at in range(6)}


# ---- the text is edited, not rewritten ----

E = "{family: nb, makes: table, summary: x}"
NEW = {"family": "nb", "summary": "new", "makes": "table"}
BLOCK = "    family: nb\n    summary: new\n    makes: table\n"
EDITS = {  # before, name, entry -> after
    ("version: 1", "a", True): f"version: 1\nmodels:\n  a:\n{BLOCK}",
    ("version: 1\nmodels: {}  # none yet\n", "a", True): f"version: 1\nmodels:   # none yet\n  a:\n{BLOCK}",
    (f"# top\nversion: 1\nmodels:\n  # first\n  a: {E}  # after\n\n# end\n", "b", True): f"# top\nversion: 1\nmodels:\n  # first\n  a: {E}  # after\n  b:\n{BLOCK}\n# end\n",
    (f"version: 1\nmodels:\n    a:\n      family: nb\n      # why\n      makes: table\n      summary: x\n    # of b\n    b: {E}\n", "a", False): f"version: 1\nmodels:\n    # of b\n    b: {E}\n",
    (f"models:\n  a: {E}\n  b: {E}\nversion: 1\n", "a", True): f"models:\n  a:\n{BLOCK}  b: {E}\nversion: 1\n",
    (f"models:\n  a: {E}\n# a note\nversion: 1\n", "a", False): "models: {}\n# a note\nversion: 1\n",
    ("models:\n  a:\n    family: nb\n    makes: table\n    summary: |\n      two\n      lines\n\n  # of b\n  b: " + E + "\nversion: 1\n", "b", False): "models:\n  a:\n    family: nb\n    makes: table\n    summary: |\n      two\n      lines\n\n  # of b\nversion: 1\n",
}  # fmt: skip


@pytest.mark.parametrize("case", EDITS, ids=lambda case: f"{case[1]}-{case[2]}-{len(case[0])}")
def test_comments_and_order_stay(case):
    before, name, there = case
    after = spliced(before, name, NEW if there else None)
    assert after == EDITS[case]
    wanted = parse(before, "x").get("models", {})
    assert parse(after, "x")["models"] == {
        **{k: v for k, v in wanted.items() if k != name},
        **({name: NEW} if there else {}),
    }


def test_where_they_cannot_stay_it_is_told_and_nothing_else_is_lost(genreg, user, folder):
    user.parent.mkdir(parents=True)
    for text in (f"version: 1  # mine\nmodels: {{a: {E}}}\n", f"version: 1  # mine\nmodels:\n  a: {E}\n...\n"):
        user.write_text(text)
        done = genreg("add", "b", folder)
        assert done.code == 0
        models = yaml.safe_load(user.read_text())["models"]
        assert models["a"] == yaml.safe_load(E)
        assert list(models) == ["a", "b"]
        if "#" not in user.read_text():
            assert done.err.endswith("genreg: the file had to be written anew: its comments are gone\n")
        else:
            assert "anew" not in done.err


# ---- the schema ----


def conflicts(value: Any, rule: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """What of a value a JSON Schema refuses: as much of the standard as ours uses."""
    known = {"$schema", "$defs", "$ref", "title", "description", "type", "const", "required", "properties", "additionalProperties", "propertyNames"}  # fmt: skip
    assert rule.keys() <= known, rule.keys() - known
    if "$ref" in rule:
        return conflicts(value, whole["$defs"][rule["$ref"].rpartition("/")[2]], whole)
    kinds = {"object": dict, "string": str, "array": list, "integer": int}
    if "const" in rule and value != rule["const"]:
        return [f"{value} is not {rule['const']}"]
    if "type" in rule and not isinstance(value, kinds[rule["type"]]):
        return [f"{value} is no {rule['type']}"]
    if not isinstance(value, dict):
        return []
    found = [f"{name} is missing" for name in rule.get("required", []) if name not in value]
    properties, more = rule.get("properties", {}), rule.get("additionalProperties", True)
    for name, inner in value.items():
        if "propertyNames" in rule and not re.search(rule["propertyNames"]["pattern"].replace("$", r"\Z"), str(name)):
            found.append(f"{name} is no name")
        if name not in properties and more is False:
            found.append(f"{name} is not expected")
        elif name in properties or isinstance(more, dict):
            found += conflicts(inner, properties.get(name, more), whole)
    return found


def test_the_written_schema_is_in_step():
    text = (ROOT / "docs" / "registry.schema.json").read_text("utf-8")
    assert text == json.dumps(schema(), ensure_ascii=False, indent=2) + "\n", "make schema"
    printed = subprocess.run(
        [sys.executable, "-m", "genreg.registryschema"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == text


def registry_files() -> list[Path]:
    folders = {package_folder(point.package) for point in scan()} - {None}
    own = [Path(str(folder), "registry.yaml") for folder in folders]
    return [Path(core_file()), *(path for path in own if path.is_file() and path.parent.name != "genreg")]


def test_the_schema_takes_every_registry_file():
    assert len(registry_files()) >= 2
    for path in registry_files():
        assert conflicts(yaml.safe_load(path.read_text("utf-8")), schema(), schema()) == [], path


NAMES = {
    "花": True,
    "a.b_c+d-1": True,
    "_x": True,
    "é2": True,
    "": False,
    "-a": False,
    ".a": False,
    "a b": False,
    "a/b": False,
    "a,b": False,
    "a\tb": False,
    "a:b": False,
    "a`": False,
    "a~b": False,
    "a\n": False,
}


def documents() -> list[Any]:
    """What registryfile refuses and takes, as values."""
    texts = [text for text in MISTAKES if " is there twice" not in MISTAKES[text]]
    loaded = [yaml.safe_load(text) or {} for text in texts]
    named = [{"version": 1, "models": {name: yaml.safe_load(E)}} for name in NAMES]
    return [*loaded, *named, {"version": 1}, {"version": 1, "families": {"nb": {"summary": "x"}}, "commands": {}}]


@pytest.mark.parametrize("document", documents(), ids=lambda document: str(document)[:70])
def test_the_schema_refuses_what_the_core_refuses_and_takes_what_it_takes(document):
    def refused() -> bool:
        try:
            parse(yaml.safe_dump(document, allow_unicode=True), "x")
        except RegistryError:
            return True
        return False

    assert bool(conflicts(document, schema(), schema())) == refused()
