"""The conformance kit: a right toy passes every check, and one that is wrong in one way fails that check alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.toys import FAMILIES
from tests.wrong_toys import WRONG

from genreg import load
from genreg.errors import UsageError
from genreg.testing import CHECKS, expected_failures, run_checks

pytestmark = pytest.mark.usefixtures("toy_plugin")
NAMES = [check.name for check in CHECKS]
PACKAGE = {  # by the check that fails: a plugin of which the package is wrong
    "import-budget": "import openai\n",
    "registry-file": "",
}


def failed(results):
    return {result.check.name: result.message for result in results if result.status == "failed"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_right_toy_passes_every_check_that_applies_to_it(name):
    results = run_checks(load(name))
    assert failed(results) == {}
    assert all(result.message for result in results if result.status == "skipped")


def test_every_check_applies_to_some_right_toy():
    passed = {r.check.name for name in FAMILIES for r in run_checks(load(name)) if r.status == "passed"}
    assert passed == set(NAMES)


@pytest.mark.parametrize("case", WRONG)
def test_a_toy_that_is_wrong_in_one_way_fails_that_check_alone(case):
    check = case.partition(":")[0]
    found = failed(run_checks(load(WRONG[case].name)))
    assert list(found) == [check], found
    assert found[check]


def test_every_check_has_a_toy_that_fails_it():
    assert {case.partition(":")[0] for case in WRONG} | set(PACKAGE) == set(NAMES)


@pytest.mark.parametrize("check", PACKAGE)
def test_a_package_that_is_wrong_in_one_way_fails_that_check_alone(check, distribution):
    (folder := distribution("genreg-other").folder)
    (folder.parent / "openai.py").write_text("")
    (folder / "__init__.py").write_text(
        f"{PACKAGE[check]}from dataclasses import replace\nfrom genreg import hookimpl\n"
        "from genreg_toys.toys import FAMILIES\n\n\n@hookimpl\ndef genreg_models():\n"
        "    return [replace(FAMILIES['weather'], name='weather-other')]\n"
    )
    offered = "families:\n  weather-other: {summary: 'A toy: weather', makes: table, settings: [], options: []}\n"
    text = f"version: 1\nmodels:\n  other: {{family: weather-other, summary: A toy, makes: table}}\n{offered}"
    (folder / "registry.yaml").write_text(text)
    if check != "registry-file":
        from genreg.offers import offers, write_offers
        from genreg.plugins import load_plugins

        (folder / "registry.yaml").write_text(text.partition("families:")[0])
        write_offers(folder / "registry.yaml", offers(load_plugins(), "genreg-other"))
    assert list(failed(run_checks(load("other")))) == [check]


def test_a_model_that_is_not_repeatable_says_why_checks_are_skipped():
    results = {result.check.name: result for result in run_checks(load("oracle-forgetful"))}
    assert results["same-seed"].status == "skipped"
    assert results["same-seed"].message == "the family says that the same seed may not give the same sample"


def test_no_check_stops_another_one_whatever_a_model_raises():
    class Broken:
        def propose(self, seeds, given, /):
            raise ZeroDivisionError("by zero")

    found = failed(run_checks(replace(load("weather"), model=Broken())))
    assert found["honest-draft"] == "ZeroDivisionError: by zero"
    assert {"same-seed", "seeds-matter", "declared-schema"} <= set(found)
    assert not {"import-budget", "registry-file", "knobs"} & set(found)


# ---- expected failures ----


def declaring(**reasons):
    model = load("weather-not-normalized")
    assert model.entry
    check = {"expected_failures": {name.replace("_", "-"): reason for name, reason in reasons.items()}}
    return replace(model, entry=replace(model.entry, check=check))


def test_an_expected_failure_is_told_with_its_reason_and_one_that_passes_is_a_failure():
    model = declaring(log_prob_sum="up to a constant", infer="it will be mended")
    results = {result.check.name: result for result in run_checks(model)}
    assert results["log-prob-sum"].status == "expected"
    assert results["log-prob-sum"].message.startswith(
        "up to a constant (the probabilities of all 2 combinations sum to"
    )
    assert failed(results.values()) == {
        "infer": "it passes, though a failure is expected: it will be mended",
    }


def test_an_expected_failure_of_no_check_is_refused():
    with pytest.raises(UsageError, match=r"^expected failures name no check: log-probs$"):
        run_checks(load("weather"), expected={"log-probs": "a slip of the pen"})
    with pytest.raises(UsageError, match=r"^expected failures name no check: sum$"):
        expected_failures(declaring(sum="a slip of the pen"))


# ---- its two fronts ----


@pytest.fixture
def registry(registry_file):
    """A registry of the user's, whose entry declares a failure."""
    return registry_file(
        "version: 1\nmodels:\n  lopsided:\n    family: weather-not-normalized\n    summary: A toy\n    makes: table\n"
        "    check: {expected_failures: {log-prob-sum: up to a constant}}\n"
    )


def test_genreg_check_says_what_fails_and_how_to_mend_it(process):
    done = process("check", "weather-not-normalized")
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")].count("failed") == 1
    assert "failed  log-prob-sum: the probabilities of all combinations of categories sum to 1\n" in done.out
    assert "        to mend it: normalize; sum or integrate over what is null\n" in done.out


def test_genreg_check_honours_what_a_registry_declares(genreg, registry):
    done = genreg("check", "lopsided", "--registry", registry, "--json")
    assert done.code == 0, done.out
    results = json.loads(done.out)
    assert [result["check"] for result in results] == NAMES
    assert {result["check"] for result in results if result["status"] == "expected"} == {"log-prob-sum"}


def test_a_registry_may_not_say_anything_else_under_check(genreg, registry_file):
    path = registry_file(
        "version: 1\nmodels:\n  x:\n    family: weather\n    summary: A toy\n    makes: table\n"
        "    check: {expected: {}}\n"
    )
    line = genreg("check", "x", "--registry", path).line
    assert line == f"{path}, line 7, models.x.check.expected: there is no key expected; did you mean expected_failures?"


def pytest_run(folder, *arguments):
    other = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]  # the latter takes longer than all checks
    command = [sys.executable, "-m", "pytest", "-q", "-rA", *other, *arguments]
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_pytest_checks_a_model_that_is_named(tmp_path):
    code, out = pytest_run(tmp_path, "--genreg", "weather")
    assert code == 0, out
    assert "[weather-same-seed]" in out
    assert "1 skipped" in out or "2 skipped" in out
    code, out = pytest_run(tmp_path, "--genreg", "weather-not-normalized", "--genreg", "melody")
    assert code == 1
    assert out.count("\nFAILED ") == 1
    assert "[weather-not-normalized-log-prob-sum]" in out
    assert "To mend it: normalize" in out


def test_pytest_takes_expected_failures_from_its_ini_file(tmp_path):
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ngenreg_expected_failures =\n  weather-not-normalized log-prob-sum: up to a constant\n"
    )
    code, out = pytest_run(tmp_path, "--genreg", "weather-not-normalized")
    assert code == 0, out
    assert "1 xfailed" in out
    (tmp_path / "pytest.ini").write_text("[pytest]\ngenreg_expected_failures =\n  weather infer: it was wrong once\n")
    code, out = pytest_run(tmp_path, "--genreg", "weather")
    assert code == 1
    assert "it passes, though a failure is expected: it was wrong once" in out
