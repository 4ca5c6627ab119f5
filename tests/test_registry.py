"""Registry files merged, checked, and in step with the hooks; references to weights."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from genreg import entrypoints
from genreg.entrypoints import GROUP, install_line, package_folder, scan
from genreg.errors import CheckpointError, NotFound, RegistryError, UsageError
from genreg.offers import offers, with_offers
from genreg.plugins import load_plugins
from genreg.registry import core_file, read_registries
from genreg.registryfile import read_file
from genreg.weights import resolve

NB = Path(package_folder("genreg_nb") or "")
ENTRY = "version: 1\nmodels:\n  {name}: {{family: {family}, makes: table, summary: {summary}{more}}}\n"


def entry(name: str, summary: str = "x", family: str = "nb", more: str = "") -> str:
    return ENTRY.format(name=name, summary=summary, family=family, more=more)


# ---- order ----


def test_the_later_file_wins_and_says_whose_entry_it_overrides(distribution, registry_file, tmp_path, monkeypatch):
    plugin = distribution(
        "genreg-site", registry=entry("mine", "of the plugin") + "  other: {family: nb, makes: table, summary: x}\n"
    )
    user = tmp_path / "config" / "genreg" / "registry.yaml"
    user.parent.mkdir(parents=True)
    user.write_text(entry("mine", "of the user"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    extra, last = registry_file(entry("mine", "of the flag")), registry_file(entry("fresh", "of the last"))

    registry = read_registries([str(extra), str(last)])
    assert {"nb-iris", "mine", "other", "fresh"} <= registry.entries.keys()
    assert registry.entries["mine"].summary == "of the flag"
    assert registry.entries["mine"].overrides == str(user)
    assert registry.entries["other"].origin == str(plugin.folder / "registry.yaml")
    assert registry.entries["other"].overrides is None
    assert (registry.entries["other"].plugin, registry.entries["fresh"].plugin) == ("genreg-site", "genreg-nb")
    assert registry.entries["nb-iris"].origin == str(NB / "registry.yaml")

    registry = read_registries()
    assert registry.entries["mine"].summary == "of the user"
    assert registry.entries["mine"].overrides == str(plugin.folder / "registry.yaml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config").rename(tmp_path / ".config")
    assert read_registries().entries["mine"].summary == "of the user"


def test_list_tells_of_an_override(genreg, registry_file):
    mine = registry_file(entry("nb-iris", "better irises"))
    done = genreg("list", "--registry", mine)
    assert "better irises\n" in done.out
    assert f"         overrides the entry of {NB / 'registry.yaml'}\n" in done.out
    rows = {row["name"]: row for row in json.loads(genreg("list", "--registry", mine, "--json").out)}
    assert rows["nb-iris"]["overrides"] == str(NB / "registry.yaml")


def test_the_working_folder_is_never_searched(tmp_path, monkeypatch, genreg):
    (tmp_path / "registry.yaml").write_text(entry("stranger"))
    (tmp_path / "genreg").mkdir()
    (tmp_path / "genreg" / "registry.yaml").write_text(entry("stranger"))
    monkeypatch.chdir(tmp_path)
    assert "stranger" not in genreg("list").out
    assert "stranger" in genreg("list", "--registry", "registry.yaml", "-q").out.split()


def test_a_model_that_two_plugins_claim_stays_with_the_first(distribution, genreg):
    distribution("genreg-ape", registry=entry("nb-iris", "a copy") + "  ape: {family: nb, makes: table, summary: x}\n")
    distribution("genreg-bee", registry=entry("ape", "another"))
    done = genreg("list")
    assert done.code == 0
    assert "a copy" not in done.out
    assert done.err.splitlines() == [
        "genreg: the model nb-iris is claimed by genreg-nb and by genreg-ape: genreg-nb keeps it",
        "genreg: the model ape is claimed by genreg-ape and by genreg-bee: genreg-ape keeps it",
    ]
    assert genreg("plugins").code == 1


# ---- mistakes ----

MISTAKES = {  # the file -> line, key: what is wrong
    "": "line 1, version: this genreg reads version: 1, and none is written",
    "- a\n": "line 1, top: a registry is a mapping with version: 1 and models:",
    "version: 2\n": "line 1, version: this genreg reads version: 1, not 2",
    "# mine\n\nversion: 1\nmodles: {}\n": "line 4, modles: there is no key modles; did you mean models?",
    "version: 1\nmodels:\n": "line 2, models: must be a mapping",
    "version: 1\nmodels: [a]\n": "line 2, models: must be a mapping",
    "version: 1\nmodels:\n  a: 3\n": "line 3, models.a: must be a mapping",
    "version: 1\nmodels:\n  a/b: {}\n": "line 3, models.a/b: a name is letters, digits, and . _ + - after the first",
    "version: 1\nmodels:\n  -a: {}\n": "line 3, models.-a: a name is letters, digits, and . _ + - after the first",
    "version: 1\nmodels:\n  7: {}\n": "line 3, models.7: a name is letters, digits, and . _ + - after the first",
    "version: 1\nmodels:\n  ../a: {}\n": "line 3, models.../a: a name is letters, digits, and . _ + - after the first",
    "version: 1\nmodels:\n  a:\n    family: x\n    makes: y\n": "line 3, models.a: summary is missing",
    "version: 1\nmodels:\n  a:\n    family: x\n    famly: y\n": "line 5, models.a.famly: there is no key famly; did you mean family?",
    "version: 1\nmodels:\n  a:\n    family: x\n    summary: [a]\n": "line 5, models.a.summary: must be text",
    "version: 1\nmodels:\n  a:\n    family: 1\n": "line 4, models.a.family: must be text",
    entry("a", more=", weights: 3"): "line 3, models.a.weights: must be text",
    entry("a", more=", files: [a]"): "line 3, models.a.files: must be a mapping",
    entry("a", more=", files: {config.json: 3}"): "line 3, models.a.files.config.json: must be a mapping",
    entry("a", more=", files: {config.json: {sha: x}}"): "line 3, models.a.files.config.json.sha: there is no key sha; did you mean sha256?",
    entry("a", more=", files: {config.json: {size: big}}"): "line 3, models.a.files.config.json.size: must be a whole number",
    entry("a", more=", defaults: {sampler: []}"): "line 3, models.a.defaults.sampler: there is no key sampler; did you mean samplers?",
    entry("a", more=", files: {config.json: {sha: x}}"): "line 3, models.a.files.config.json.sha: there is no key sha; did you mean sha256?",
    entry("a", more=", files: {config.json: {size: big}}"): "line 3, models.a.files.config.json.size: must be a whole number",
    entry("a", more=", defaults: {samplers: x}"): "line 3, models.a.defaults.samplers: must be a list",
    entry("a", more=", defaults: {given: []}"): "line 3, models.a.defaults.given: must be a mapping",
    entry("a") + "  b: {}\n  a: {}\n": "line 5, models.a: a is there twice",
    "version: 1\nversion: 1\n": "line 2, version: version is there twice",
    "version: 1\nfamilies: {nb: 3}\n": "line 2, families.nb: must be a mapping",
    "version: 1\nplugins: {a: 3}\n": "line 2, plugins.a: must be a mapping",
    "version: 1\nplugins: {a: {}}\n": "line 2, plugins.a: summary is missing",
    "version: 1\nplugins: {a: {summary: x, models: {b: {}}}}\n": "line 2, plugins.a.models.b: family is missing",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_key(registry_file, text):
    path = registry_file(text)
    with pytest.raises(RegistryError) as raised:
        read_file(str(path))
    assert str(raised.value) == f"{path}, {MISTAKES[text]}"


@pytest.mark.parametrize("text", ["a: [", "a: !!python/object:os.system x", "a: 2024-99-99", "a: \x07", "? [a]\n: b"])
def test_what_is_not_plain_yaml_is_one_line(registry_file, text):
    path = registry_file(text)
    with pytest.raises(RegistryError) as raised:
        read_file(str(path))
    assert str(raised.value).startswith(f"{path} is not YAML: ")
    assert "\n" not in str(raised.value)


def test_a_wrong_file_of_the_users_own_stops_list_but_not_help(genreg, registry_file, tmp_path, monkeypatch):
    path = registry_file("version: 1\nmodles: {}\n")
    done = genreg("list", "--registry", path)
    assert (done.code, done.line) == (2, f"{path}, line 2, modles: there is no key modles; did you mean models?")
    assert (
        genreg("list", "--registry", tmp_path / "none").line
        == f"{tmp_path / 'none'} cannot be read: No such file or directory"
    )
    user = tmp_path / "config" / "genreg" / "registry.yaml"
    user.parent.mkdir(parents=True)
    user.write_text("version: 1\nmodles: {}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert genreg("list").code == 2
    assert genreg("--help").code == 0


def test_a_plugins_broken_file_is_noted_and_stops_nothing(distribution, genreg):
    made = distribution("genreg-sorry", registry="version: 1\nmodels: {x: {}}\n")
    problem = f"genreg: {made.folder / 'registry.yaml'}, line 2, models.x: family is missing\n"
    for arguments in (["list"], ["plugins"]):
        done = genreg(*arguments)
        assert "nb" in done.out
        assert done.err == problem
    assert genreg("run", "nb-iris", "--seed", "1").code == 0


# ---- names ----


def test_an_unknown_name_gets_a_suggestion():
    registry = read_registries()
    with pytest.raises(NotFound, match=r"^there is no model nb-irs; did you mean nb-iris\?$"):
        registry.entry("nb-irs")
    with pytest.raises(NotFound, match=r"^there is no model zebra; there are: .*nb-iris, nb-penguins"):
        registry.entry("zebra")


def test_a_family_that_no_plugin_has_is_told_when_it_is_run(genreg, registry_file):
    path = registry_file(entry("a", family="nbb", more=f", weights: {NB / 'nb-iris'}"))
    done = genreg("run", "a", "--registry", path)
    assert (done.code, done.line) == (2, "a is registered as nbb, and its checkpoint is a nb")
    path = registry_file(entry("a", family="nbb"))
    assert genreg("run", "a", "--registry", path).line == "there is no family nbb; did you mean nb?"


CATALOGUE = """version: 1
plugins:
  genreg-dream:
    summary: Dreams
    models: {dream-sheep: {family: dream, makes: image, summary: Sheep}}
  genreg-nb:
    summary: Known and installed
"""


def test_an_entry_whose_plugin_is_missing_gets_its_install_line(genreg, registry_file):
    path = registry_file(CATALOGUE + "models:\n  goats: {family: dream, makes: image, summary: Goats}\n")
    line = 'pip install "genreg-dream>=0.1,<0.2"'
    done = genreg("list", "--registry", path)
    assert re.search(rf"dream-sheep +dream +image +Sheep\n +not installed: {re.escape(line)}\n", done.out)
    rows = {row["name"]: row for row in json.loads(genreg("list", "--registry", path, "--json").out)}
    for name in ("dream-sheep", "goats"):
        assert (rows[name]["installed"], rows[name]["plugin"], rows[name]["install"]) == (False, "genreg-dream", line)
        done = genreg("run", name, "--registry", path)
        assert (done.code, done.line) == (2, f"{name} needs genreg-dream, which is not installed: {line}")
    assert not {"dream-sheep", "goats"} & set(genreg("list", "--registry", path, "-q", "--installed").out.split())
    assert {"dream-sheep", "goats"} <= set(genreg("list", "--registry", path, "-q", "--makes", "image").out.split())
    assert genreg("list", "--registry", path, "-q", "--family", "dream").out == "dream-sheep\ngoats\n"


def test_the_listing_says_why_an_entry_needs_a_network_or_does_not_run(genreg, registry_file):
    nb = "family: nb, makes: table, summary: x"
    path = registry_file(
        f"""{CATALOGUE}models:
  here: {{{nb}, weights: 模型}}
  whole: {{{nb}, weights: 模型, files: {{config.json: {{size: 2}}}}}}
  changed: {{{nb}, weights: 模型, files: {{config.json: {{size: 3}}}}}}
  gone: {{{nb}, weights: nowhere}}
  stray: {{{nb}, weights: pkg://genreg-none/x}}
  remote: {{{nb}, defaults: {{options: {{base_url: 'https://example.org/v1'}}}}}}
  local: {{{nb}, defaults: {{options: {{base_url: 'http://localhost:11434/v1'}}}}}}
"""
    )
    (path.parent / "模型").mkdir()
    (path.parent / "模型" / "config.json").write_text("{}")
    rows = {row["name"]: row for row in json.loads(genreg("list", "--offline", "--registry", path, "--json").out)}
    assert all(row["offline"] == ("obstacle" not in row) for row in rows.values())
    assert all(rows[name]["offline"] for name in ("here", "whole", "local"))
    expected = {
        "changed": "files are missing or changed: genreg verify changed",
        "gone": "no checkpoint in nowhere",
        "stray": "no checkpoint in pkg://genreg-none/x",
        "remote": "asks a server",
        "dream-sheep": "not installed",
    }
    assert {name: rows[name].get("obstacle") for name in expected} == expected
    shown = genreg("list", "--offline", "--registry", path, "--family", "dream").out
    assert re.search(r"^dream-sheep +dream +image +no +Sheep\n +not installed: pip install .*\n$", shown, re.M)


def test_what_needs_no_network_is_not_marked(genreg):
    line = "--offline marks models, and samplers need no network: genreg list --offline"
    assert genreg("list", "samplers", "--offline").line == line


def test_the_install_line_is_the_path_in_a_checkout(tmp_path, monkeypatch):
    checkout = tmp_path / "生成 models"
    (checkout / "plugins" / "nb").mkdir(parents=True)
    info = tmp_path / "site" / "genreg_core-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text("[genreg]\ncore = genreg.builtin\n")
    (info / "direct_url.json").write_text(json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}}))
    points = scan([str(info.parent)])
    monkeypatch.setattr(entrypoints, "scan", lambda: points)
    assert install_line("genreg-nb") == f"pip install '{checkout}/plugins/nb'"
    assert install_line("genreg-dream") == 'pip install "genreg-dream>=0.1,<0.2"'
    for name, needed in {"torch": "", "vae": '\n    "genreg-torch>=0.1,<0.2",\n    "torch>=2.6",'}.items():
        (checkout / "plugins" / name).mkdir()
        needs = f'dependencies = [\n    "genreg-core>=0.1,<0.2",{needed}\n]\n'
        (checkout / "plugins" / name / "pyproject.toml").write_text(f'[project]\nname = "genreg-{name}"\n{needs}')
    both = f"'{checkout}/plugins/torch' '{checkout}/plugins/vae'"  # the index has no genreg-torch
    assert install_line("genreg-vae") == f"pip install {both}"
    (info / "direct_url.json").unlink()
    assert install_line("genreg-nb") == 'pip install "genreg-nb>=0.1,<0.2"'


# ---- in step with the hooks ----


@pytest.mark.parametrize("dist", sorted({point.dist for point in scan() if point.group == GROUP}))
def test_the_registry_file_says_what_the_hooks_offer(dist):
    point = next(point for point in scan() if point.dist == dist and point.group == GROUP)
    path = Path(core_file()) if dist == "genreg-core" else Path(package_folder(point.package) or "", "registry.yaml")
    text = path.read_text("utf-8")
    assert text == with_offers(text, offers(load_plugins(), dist)), f"genreg offers {dist} --write"
    assert read_file(str(path))


def test_offers_brings_a_file_in_step(distribution, genreg):
    code = "from genreg import Sampler, hookimpl\ndef nudge(draft, *, by: float = 1.0):\n    '''Nudge.'''\n"
    hook = "@hookimpl\ndef genreg_samplers():\n    return [Sampler(nudge)]\n"
    own = "# mine\nversion: 1\nmodels: {}\n"
    made = distribution("genreg-new", code + hook, registry=own)
    path = made.folder / "registry.yaml"
    done = genreg("offers", "genreg-new")
    assert (done.code, json.loads(done.out)) == (1, {"samplers": {"nudge": {"summary": "Nudge", "knobs": ["by"]}}})
    assert done.err == f"genreg: {path} is out of step with the hooks: genreg offers genreg-new --write\n"
    assert genreg("offers", "genreg-new", "--write").err == f"genreg: {path} written\n"
    assert path.read_text().startswith(own)
    assert yaml.safe_load(path.read_text())["samplers"] == {"nudge": {"summary": "Nudge", "knobs": ["by"]}}
    assert genreg("offers", "genreg-new", "--write").err == f"genreg: {path} is in step already\n"
    assert genreg("offers", "genreg-new").code == 0
    assert "nudge        genreg-new   Nudge\n" in genreg("list", "samplers").out
    path.unlink()
    assert "begin it with the line version: 1" in genreg("offers", "genreg-new").line
    assert genreg("offers", "genreg-nowhere").line == "genreg-nowhere is not installed; see genreg plugins"
    distribution("genreg-ill", "1 / 0")
    assert genreg("offers", "genreg-ill").line.startswith("genreg-ill is broken: ZeroDivisionError")


# ---- references to weights ----


def test_a_reference_into_a_package_is_its_folder():
    assert resolve("pkg://genreg-nb/nb-iris") == NB / "nb-iris"


REFUSED = {
    "pkg://genreg-nb/../secrets": "pkg://genreg-nb/../secrets: '..' is no plain file name",
    "pkg://genreg-nb/nb-iris/../..": "pkg://genreg-nb/nb-iris/../..: '..' is no plain file name",
    "pkg://genreg-nb//etc": "pkg://genreg-nb//etc: '' is no plain file name",
    "pkg://genreg-nb/a\\b": "pkg://genreg-nb/a\\b: 'a\\\\b' is no plain file name",
    "pkg://genreg-nb": "pkg://genreg-nb: name a folder",
    "pkg://genreg-dream/sheep": 'pkg://genreg-dream/sheep: genreg-dream is not installed: pip install "genreg-dream>=0.1,<0.2"',
}


@pytest.mark.parametrize("reference", REFUSED)
def test_a_reference_that_cannot_be_resolved_says_why(reference, genreg):
    with pytest.raises(UsageError) as raised:
        resolve(reference)
    assert str(raised.value) == REFUSED[reference]
    done = genreg("run", reference)
    assert (done.code, done.line) == (2, REFUSED[reference])


def test_registered_files_are_verified(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    right = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    assert resolve("x", base=tmp_path.parent, files={}) == tmp_path.parent / "x"
    assert resolve(str(tmp_path), files={"config.json": right}) == tmp_path

    def refusal(files):
        with pytest.raises((CheckpointError, UsageError)) as raised:
            resolve(str(tmp_path), files=files)
        return str(raised.value)

    path = tmp_path / "config.json"
    assert refusal({"config.json": {"size": 3_000}}) == (
        f"{path} has 2 bytes, and 3,000 are registered, so it was changed: install the package again"
    )
    assert refusal({"config.json": {"sha256": "0" * 64}}) == (
        f"{path} is not the file that is registered (sha256 differs): install the package again"
    )
    assert refusal({"model.safetensors": right}) == (
        f"{tmp_path / 'model.safetensors'} is missing, though it is registered: install the package again"
    )
    for name in ("../config.json", "..", "", "a/b", "/etc/passwd"):
        assert refusal({name: right}) == f"{tmp_path}: the file {name!r} is no plain file name"
    (tmp_path / "model.safetensors").mkdir()
    assert "is missing" in refusal({"model.safetensors": right})


def test_a_changed_checkpoint_of_an_entry_is_refused_by_run(tmp_path, genreg):
    folder = tmp_path / "weights"
    folder.mkdir()
    facts = yaml.safe_load((NB / "registry.yaml").read_text())["models"]["nb-iris"]["files"]
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((NB / "nb-iris" / name).read_bytes())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "models": {"own": {
        "family": "nb", "makes": "table", "summary": "x", "weights": "weights", "files": facts}}}))  # fmt: skip
    assert (
        genreg("run", "own", "--registry", path, "--seed", "1").code == 0
    )  # weights lie beside the file that names them
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    done = genreg("run", "own", "--registry", path)
    assert done.code == 2
    assert "is not the file that is registered (sha256 differs)" in done.line
