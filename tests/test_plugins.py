"""A broken plugin is named, and never stops another one, --help or list."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json

import pytest

from genreg.entrypoints import scan
from genreg.errors import NotFound
from genreg.plugins import load_plugins

SAMPLER = '''
from genreg import ModelFamily, Sampler, hookimpl

def {name}(draft, *, by: float = 0.1):
    """Move each sample by ``by``."""
    return draft

@hookimpl
def genreg_samplers():
    return [Sampler({name})]
'''
GOOD = SAMPLER.format(name="nudge")
HOOK = "from genreg import Sampler, hookimpl\n@hookimpl\ndef {}:\n    {}\n"

BROKEN = {  # code of the plugin -> what `genreg plugins` says of it
    "raises": ('raise ImportError("no wheel for this machine")', "ImportError: no wheel for this machine"),
    "lacks": ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    "exits": ("import sys; sys.exit(7)", "SystemExit: 7"),
    "quits": ('raise SystemExit("no licence key")', "SystemExit: no licence key"),
    "unwritten": ("def (", "SyntaxError: invalid syntax"),
    "lines": ('raise ValueError("first\\nsecond")', "ValueError: first second"),
    "hook": (HOOK.format("genreg_models()", '1 / 0'), "ZeroDivisionError: division by zero"),
    "hookexits": (HOOK.format("genreg_models()", "raise SystemExit(3)"), "SystemExit: 3"),
    "unknown": (HOOK.format("genreg_modles()", "return []"), "unknown hook 'genreg_modles' in plugin"),
    "signature": (HOOK.format("genreg_models(registry)", "return []"), "Argument(s) {'registry'} are declared"),
    "nothing": (HOOK.format("genreg_models()", "pass"), "TypeError: genreg_models returned a NoneType, not a list"),
    "bare": (HOOK.format("genreg_samplers()", "return Sampler(print)"), "genreg_samplers returned a Sampler, not a list"),
    "yields": (HOOK.format("genreg_samplers()", "yield Sampler(print)"), "genreg_samplers returned a generator, not a list"),
    "other": (HOOK.format("genreg_models()", "return [Sampler(print)]"), "genreg_models returned a Sampler, not a ModelFamily"),
    "unmarked": ("def genreg_models():\n    return []\n", "genreg_models is not marked: write @hookimpl above it"),
    "twice": (GOOD.replace("[Sampler(nudge)]", "[Sampler(nudge)] * 2"), "the name nudge is claimed by genreg-twice and by genreg-twice"),
}  # fmt: skip


def statuses(site) -> dict[str, str]:
    """The cause of each plugin made on the spot, empty where it is healthy, with the core loaded before them."""
    core = [point for point in scan() if point.dist == "genreg-core"]
    return {status.point.dist: status.cause for status in load_plugins([*core, *scan([str(site)])]).statuses}


def test_a_plugin_gives_its_components_beside_the_cores(distribution):
    made = distribution("genreg-good", GOOD)
    components = load_plugins()
    assert components.samplers.keys() >= {"nudge", "truncate"}
    assert components.owners["samplers", "nudge"] == "genreg-good"
    status = next(status for status in components.statuses if status.point.dist == "genreg-good")
    assert (status.point.id, status.point.version, status.cause, status.trace) == ("genreg-good:good", "1.5", "", "")
    assert status.provides == {"samplers": ["nudge"]}
    assert statuses(made.site) == {"genreg-core": "", "genreg-good": ""}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_stops_itself_alone(distribution, name):
    code, cause = BROKEN[name]
    distribution("genreg-aaa", SAMPLER.format(name="earlier"))
    made = distribution(f"genreg-{name}", code)
    distribution("genreg-zzz", SAMPLER.format(name="later"))
    found = statuses(made.site)
    assert cause in found[f"genreg-{name}"]
    assert "\n" not in found[f"genreg-{name}"]
    assert {dist for dist, why in found.items() if why} == {f"genreg-{name}"}
    components = load_plugins()
    assert components.samplers.keys() >= {"earlier", "later"}
    with pytest.raises(NotFound) as raised:
        components.find("samplers", "laterr")
    assert str(raised.value) == (
        f"there is no sampler laterr; did you mean later? (broken: genreg-{name}; see genreg plugins)"
    )


def test_nothing_of_a_broken_plugin_is_kept(distribution):
    broken = GOOD + "@hookimpl\ndef genreg_preprocessors():\n    return 3\n"
    made = distribution("genreg-half", broken)
    assert statuses(made.site)["genreg-half"] == "TypeError: genreg_preprocessors returned a int, not a list"
    assert "nudge" not in load_plugins().samplers


def test_what_a_plugin_prints_goes_to_stderr(distribution, capsys):
    made = distribution("genreg-loud", "print('hello from the plugin')\n" + GOOD)
    assert statuses(made.site)["genreg-loud"] == ""
    assert capsys.readouterr() == ("", "hello from the plugin\n")


def test_a_name_claimed_twice_is_an_error_that_names_both_distributions(distribution):
    distribution("genreg-first", GOOD)
    made = distribution("genreg-second", GOOD)
    assert statuses(made.site) == {
        "genreg-core": "",
        "genreg-first": "",
        "genreg-second": "ValueError: samplers: the name nudge is claimed by genreg-first and by genreg-second",
    }
    own = distribution("genreg-third", SAMPLER.format(name="truncate"))
    assert statuses(own.site)["genreg-third"].endswith(
        "the name truncate is claimed by genreg-core and by genreg-third"
    )


def test_two_distributions_may_use_one_entry_point_name(distribution):
    distribution("genreg-one", GOOD, points="[genreg]\nmine = genreg_one\n")
    distribution("genreg-two", SAMPLER.format(name="shove"), points="[genreg]\nmine = genreg_two\n")
    components = load_plugins()
    assert components.samplers.keys() >= {"nudge", "shove"}
    assert {s.point.id for s in components.statuses} >= {"genreg-one:mine", "genreg-two:mine"}


def test_a_bare_module_is_refused_with_the_line_that_mends_it(distribution):
    made = distribution("genreg-flat", GOOD, bare=True)
    assert statuses(made.site)["genreg-flat"] == (
        "ImportError: genreg_flat is missing or a bare module; a plugin is a package: move it to genreg_flat/__init__.py"
    )
    gone = distribution("genreg-gone", GOOD, points="[genreg]\ngone = genreg_elsewhere\n")
    assert "genreg_elsewhere is missing" in statuses(gone.site)["genreg-gone"]


def test_control_c_at_import_is_not_swallowed(distribution):
    made = distribution("genreg-patient", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        statuses(made.site)


def test_entry_points_are_read_as_the_packaging_standard_writes_them(tmp_path):
    for at, folder in enumerate(("one", "two")):
        info = tmp_path / folder / f"Genreg_Odd.name-{at}.0.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(
            "# genreg\n[console_scripts]\nx = y:z\n\n[ genreg ]\n; no = comment\n  odd=pkg.sub \n[genreg.commands]\ndo = pkg.cli:do\n"
        )
    points = scan([str(tmp_path / "nowhere"), str(tmp_path / "one"), str(tmp_path / "two")])
    assert [(p.group, p.id, p.value, p.version, p.package) for p in points] == [
        ("genreg.commands", "genreg-odd-name:do", "pkg.cli:do", "0.0", "pkg"),
        ("genreg", "genreg-odd-name:odd", "pkg.sub", "0.0", "pkg"),
    ]  # fmt: skip - the first on the path hides the second, as for Python itself


@pytest.fixture
def ward(distribution):
    """An environment with one healthy plugin and all the broken ones."""
    for name, (code, _) in BROKEN.items():
        made = distribution(f"genreg-{name}", "print('noise')\n" + code if name != "unwritten" else code)
    distribution("genreg-good", "print('noise')\n" + SAMPLER.format(name="healthy"))
    return {"PYTHONPATH": str(made.site)}


def test_whatever_is_broken_the_command_line_goes_on(ward, process):
    for arguments in (["--help"], ["--version"], ["list"], ["list", "samplers"]):
        done = process(*arguments, env=ward)
        assert (done.code, done.err) == (0, "")
        assert "noise" not in done.out
    done = process("run", "nb-iris", "-n", "2", "--seed", "0", "--json", env=ward)
    assert done.code == 0
    assert [json.loads(line).keys() >= {"species"} for line in done.out.splitlines()] == [True, True]
    assert set(done.err.splitlines()) == {"noise"}


def test_plugins_shows_the_broken_ones_with_cause_and_traceback(ward, process):
    done = process("plugins", "--json", env=ward)
    assert done.code == 1  # something is to be mended
    rows = {row["plugin"]: row for row in json.loads(done.out)}
    assert rows["genreg-nb"]["status"] == rows["genreg-good"]["status"] == "ok"
    assert rows["genreg-good"]["provides"] == {"samplers": ["healthy"]}
    for name, (_, cause) in BROKEN.items():
        row = rows[f"genreg-{name}"]
        assert (row["status"], row["version"], row["entry_point"]) == ("broken", "1.5", name)
        assert cause in row["cause"]
        assert row["traceback"].startswith("Traceback")
    done = process("plugins", "--verbose", env=ward)
    assert done.code == 1
    assert "genreg-lacks 1.5: broken\n  cause: ModuleNotFoundError: No module named" in done.out
    assert "    Traceback (most recent call last):\n" in done.out
    assert "/genreg_lacks/__init__.py" in done.out


def test_healthy_plugins_are_shown_with_what_they_provide(genreg):
    done = genreg("plugins")
    assert (done.code, done.err) == (0, "")
    assert "genreg-nb 0.1.0: ok\n  families: nb\n" in done.out
    assert "preprocessors: categories, " in done.out
    assert "Exits with 1 where a plugin or its registry file is broken." in genreg("plugins", "--help").out


def test_a_plugins_verb_is_imported_when_it_is_called(distribution, genreg):
    verb = "import click\n@click.command()\ndef command():\n    click.echo('greetings')\n"
    points = "[genreg.commands]\ngreet = genreg_verb.verb\nsad = genreg_verb.sad:command\n"
    registry = "version: 1\ncommands:\n  greet: {summary: Say hello}\n"
    made = distribution("genreg-verb", "raise ImportError('not to be imported')", points=points, registry=registry)
    assert "  greet" in genreg("--help").out
    (made.folder / "__init__.py").write_text("")
    (made.folder / "verb.py").write_text(verb)
    (made.folder / "sad.py").write_text("import nowhere_to_be_found\n")
    assert genreg("greet").out == "greetings\n"
    assert genreg("great").line == "there is no verb great; did you mean greet?"
    done = genreg("sad")
    assert done.code == 2
    assert done.line == "sad of genreg-verb is broken: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    distribution("genreg-both", points="[genreg.commands]\ngreet = genreg_verb.verb\n")
    assert genreg("greet").out == "greetings\n"  # two distributions may share a verb of a third
    assert genreg("--help").out.count("  greet") == 1
    distribution("genreg-verbs", points="[genreg.commands]\ngreet = genreg_verbs\n")
    assert genreg("greet").line == "the verb greet is claimed by genreg-both and by genreg-verb and by genreg-verbs"
