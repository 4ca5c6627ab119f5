"""Steps from a file and from the command line are the same calls."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genreg.errors import UsageError
from genreg.options import of_function, parse_call, typed
from genreg.steps import read_calls, spelled


def step(*, text: str = "", names: list[str] | None = None, low: float = 0.0) -> None: ...


OPTIONS = {option.name: option for option in of_function(step)}


def test_a_file_of_steps_stands_in_its_place(tmp_path):
    path = tmp_path / "steps.yaml"
    path.write_text(
        "- dedupe\n- fillna:strategy=median\n- standardize:\n- within: {column: age, low: 0, high: 120}\n"
        "- replace: {columns: [标题, text], pattern: '\\d{2,}', by: '、'}\n",
        "utf-8",
    )
    assert read_calls(["clip", str(path), "minmax"]) == [
        "clip", "dedupe", "fillna:strategy=median", "standardize", "within:column=age,low=0,high=120",
        'replace:columns=["标题", "text"],pattern=\'\\d{2,}\',by=、', "minmax",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write a list of steps, such as - dedupe$"),
        ("dedupe: {}", "write a list of steps, such as - dedupe$"),
        ("- 3", "step 1: write a name, name:knob=value, or name: {knob: value}$"),
        ("- a: {}\n  b: {}", "step 1: write a name"),
        ("- [", "is no YAML: "),
        ("- replace: {pattern: 'a\"''b'}", "has quotes of both kinds, or a bracket that is not closed$"),
    ],
)
def test_what_is_no_list_of_steps_is_refused(tmp_path, text, message):
    path = tmp_path / "steps.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        read_calls([str(path)])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"^--steps .*none.yaml cannot be read: no such file or directory$"):
        read_calls([f"{tmp_path}/none.yaml"], "--steps")


@given(st.text(), st.lists(st.text()), st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_what_is_spelled_is_read_as_it_was_or_refused(text, names, low):
    values = {"text": text, "names": names, "low": low}
    try:
        call = spelled("step", values)
    except UsageError:
        return
    name, knobs = parse_call(call, "")
    found = {knob: typed(OPTIONS[knob], value, "") for knob, value in knobs.items()}
    assert (name, found["text"], found["names"], found["low"]) == ("step", text, names, low)
