"""From a signature to key=value to typed values; every message."""

import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from genreg.errors import UsageError
from genreg.options import (
    MISSING,
    Option,
    bind,
    build,
    jsonable,
    of_function,
    of_model,
    parse_call,
    parse_ranges,
    split_outside,
    split_pair,
    typed,
)


def refusal(function, *arguments, **knobs) -> str:
    with pytest.raises(UsageError) as raised:
        function(*arguments, **knobs)
    return str(raised.value)


# ---- signatures ----


def sample(
    draft: object, *, psi: float | list[float] = 0.7, steps: int, name: str = "x", cutoff: int | None = None
) -> None:
    """A function as plugins write them."""


def test_the_keyword_only_parameters_are_the_options():
    assert of_function(sample) == [
        Option("psi", float | list[float], 0.7),
        Option("steps", int, MISSING),
        Option("name", str, "x"),
        Option("cutoff", int | None, None),
    ]
    assert of_function(lambda draft, *, bare=1: draft) == [Option("bare", str, 1)]
    assert [option.described() for option in of_function(sample)[:2]] == [
        {"name": "psi", "type": "float | list[float]", "default": 0.7},
        {"name": "steps", "type": "int"},
    ]


class Config(BaseModel, extra="forbid"):
    """A family's settings."""

    states: int = Field(ge=1, description="how many")
    rate: float = Field(0.1, gt=0, lt=1)
    hidden: list[int] = Field(default_factory=lambda: [32])
    mode: Literal["fast", "exact"] = "fast"
    columns: int = Field(0, json_schema_extra={"internal": True})

    @model_validator(mode="after")
    def fits(self) -> "Config":
        """An example of a rule over two fields."""
        if self.mode == "exact" and self.states > 8:
            raise ValueError("Exact inference takes 8 states at most")
        return self


def test_the_fields_of_a_model_are_options_and_internal_ones_are_not():
    states, rate, hidden, mode = of_model(Config)
    assert states == Option("states", int, MISSING, "how many")
    assert states.described() == {"name": "states", "type": "int", "help": "how many"}
    assert (rate.default, hidden.default) == (0.1, [32])
    assert mode.type_name == "fast | exact"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (list[str], "list[str]"),
        (int | None, "int | none"),
        (Path, "Path"),
        (dict[str, int], "dict[str, int]"),
    ],
)
def test_a_type_is_named_as_people_write_it(kind, name):
    assert Option("x", kind).type_name == name


def test_defaults_are_written_as_json():
    for value in (1, 0.5, "a", True, None, [1], {"a": 1}):
        assert jsonable(value) == value
    assert jsonable(Path("a")) == "a"
    assert jsonable(Config(states=2))["states"] == 2


# ---- text with structure ----


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [""]),
        ("a,b", ["a", "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ("x=[1,[2,3]],y={a,b},z=(c,d),w", ["x=[1,[2,3]]", "y={a,b}", "z=(c,d)", "w"]),
        ("a='x,y',b=\"it's, so\"", ["a='x,y'", 'b="it\'s, so"']),
        ("a),b(c,d),e", ["a)", "b(c,d)", "e"]),
        ("a='[',b", ["a='['", "b"]),
        ("a=[1,2,b", ["a=[1,2,b"]),
    ],
)
def test_brackets_and_quotes_protect_the_separator(text, parts):
    assert split_outside(text, ",") == parts


def test_an_open_quote_is_told():
    assert refusal(split_outside, "a='x,b", ",") == "a='x,b: the quote ' is not closed"


@given(st.lists(st.text(alphabet="ab,=[](){}'\"", max_size=8), min_size=1, max_size=5))
@settings(deadline=None)
def test_quoted_parts_come_apart_as_they_were_put_together(parts):
    quoted = [f'"{part}"' if '"' not in part else f"'{part}'" for part in parts if not {'"', "'"} <= set(part)]
    assert split_outside(",".join(quoted), ",") == (quoted or [""])


@given(st.text(alphabet="ab,=[](){}", max_size=30))
@settings(deadline=None)
def test_splitting_loses_no_character(text):
    assert ",".join(split_outside(text, ",")) == text


@pytest.mark.parametrize(
    ("text", "pair"), [("a=b", ("a", "b")), (" a = b", ("a", " b")), ("a=", ("a", "")), ("a=b=c", ("a", "b=c"))]
)
def test_a_pair_is_split_at_its_first_equals_sign(text, pair):
    assert split_pair(text, "--set") == pair


@pytest.mark.parametrize("text", ["", "a", "=b", " =b"])
def test_what_is_no_pair_is_told(text):
    assert refusal(split_pair, text, "--set") == f"--set {text}: write NAME=VALUE"


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("clamp", ("clamp", {})),
        ("truncate:psi=0.7", ("truncate", {"psi": "0.7"})),
        ("truncate:psi=[0.7,0.5],cutoff=8", ("truncate", {"psi": "[0.7,0.5]", "cutoff": "8"})),
        ("fillna:value='a,b=c:d'", ("fillna", {"value": "'a,b=c:d'"})),
        (" mix :layers=8-17", ("mix", {"layers": "8-17"})),
        ("csv:delimiter=;,encoding=utf-8", ("csv", {"delimiter": ";", "encoding": "utf-8"})),
    ],
)
def test_a_call_is_a_name_and_its_knobs(text, call):
    assert parse_call(text, "--sampler") == call


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mix:", "--sampler mix: : write NAME=VALUE"),
        ("mix:layers", "--sampler mix: layers: write NAME=VALUE"),
        ("mix:layers=1,", "--sampler mix: : write NAME=VALUE"),
        ("mix:layers=1,layers=2", "--sampler mix:layers=1,layers=2: layers is given twice"),
        ("mix:layers='1", "layers='1: the quote ' is not closed"),
    ],
)
def test_what_is_no_call_is_told(text, message):
    assert refusal(parse_call, text, "--sampler") == message


# ---- typed values ----


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "007", "007"),
        (str, "true", "true"),
        (str, "null", "null"),
        (str, "[1,2]", "[1,2]"),
        (str, " a ", " a "),
        (str, "'a,b'", "a,b"),
        (str, '"true"', "true"),
        (str, "'", "'"),
        (str, "", ""),
        (str | None, "007", "007"),
        (str | None, "7", "7"),
        (str | None, "true", "true"),
        (str | None, "none", None),
        (str | None, "'none'", "none"),
        (int, "8", 8),
        (int, "-3", -3),
        (int, str(2**64 - 1), 2**64 - 1),
        (int | None, "null", None),
        (float, "0.7", 0.7),
        (float, "1e-3", 1e-3),
        (float, "3", 3.0),
        (bool, "true", True),
        (bool, "Yes", True),
        (bool, "NO", False),
        (bool, "false", False),
        (bool, "1", True),
        (bool, "off", False),
        (list[int], "[1,2]", [1, 2]),
        (list[int], "[]", []),
        (list[int], "3", [3]),
        (list[float], "[0.5, 1]", [0.5, 1.0]),
        (float | list[float], "0.7", 0.7),
        (float | list[float], "[0.7,1]", [0.7, 1.0]),
        (list[str], "[a, b]", ["a", "b"]),
        (list[str], "['a,b',\"c\"]", ["a,b", "c"]),
        (list[str], "[007,true,7]", ["007", "true", "7"]),
        (list[str], '["a"]', ["a"]),
        (list[str], "petal width (cm)", ["petal width (cm)"]),
        (str | list[str], "[a,b]", ["a", "b"]),
        (str | list[str], "[-999,NA]", ["-999", "NA"]),
        (str | list[str], "-999", "-999"),
        (str | list[str], "", ""),
        (str | None, "[1,2]", "[1,2]"),
        (list[bool], "[yes,no]", [True, False]),
        (list[list[int]], "[[1,2],[3]]", [[1, 2], [3]]),
        (tuple[int, int], "[1,2]", (1, 2)),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Literal["a", "1"], "1", "1"),
        (Path, "a/b", Path("a/b")),
    ],
)
def test_text_is_read_as_the_options_type(kind, text, value):
    found = typed(Option("x", kind), text, "--set ")
    assert found == value
    assert type(found) is type(value)


def test_values_that_are_not_text_are_checked_too():
    assert typed(Option("x", float), 1, "") == 1.0
    assert typed(Option("x", list[str]), ["a"], "") == ["a"]
    assert refusal(typed, Option("x", str), 7, "") == "x=7: input should be a valid string (it takes str)"
    assert refusal(typed, Option("x", int), True, "") == "x=True: true and false are not numbers (it takes int)"


NUMBER = "unable to parse string as"


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (int, "lots", f"input should be a valid integer, {NUMBER} an integer (it takes int)"),
        (int, "", f"input should be a valid integer, {NUMBER} an integer (it takes int)"),
        (int, "1.5", "input should be a valid integer, got a number with a fractional part (it takes int)"),
        (int, "true", "true and false are not numbers (it takes int)"),
        (float, "no", "true and false are not numbers (it takes float)"),
        (
            float | list[float],
            "lots",
            f"input should be a valid number, {NUMBER} a number (it takes float | list[float])",
        ),
        (list[float], "[1,x]", f"input should be a valid number, {NUMBER} a number (it takes list[float])"),
        (list[float], "[1,2", "input should be a valid list (it takes list[float])"),
        (bool, "2", "input should be a valid boolean, unable to interpret input (it takes bool)"),
        (Literal["a", "b"], "c", "input should be 'a' or 'b' (it takes a | b)"),
    ],
)
def test_a_value_of_the_wrong_type_says_what_it_takes(kind, text, reason):
    assert (
        refusal(typed, Option("psi", kind), text, "--sampler truncate:") == f"--sampler truncate:psi={text}: {reason}"
    )


@given(st.text())
@settings(deadline=None)
def test_text_is_verbatim_but_for_quotes_around_it(text):
    option = Option("x", str)
    assert typed(option, f"'{text}'", "") == text
    if not (len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"):
        assert typed(option, text, "") == text


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.lists(st.integers()), st.none()))
@settings(deadline=None)
def test_what_is_written_as_json_is_read_back(value):
    kind = {int: int, float: float, bool: bool, list: list[int], type(None): int | None}[type(value)]
    assert typed(Option("x", kind), json.dumps(value), "") == value


# ---- bind and build ----


def test_bind_types_what_is_given_and_leaves_defaults_to_the_function():
    assert bind(of_function(sample), {"steps": "3", "name": "007"}, "") == {"steps": 3, "name": "007"}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"steps": "3", "ps": "1"}, "--sampler sample:ps=1: there is no ps; did you mean psi?"),
        ({"steps": "3", "zzz": "1"}, "--sampler sample:zzz=1: there is no zzz; there are: cutoff, name, psi, steps"),
        ({}, "--sampler sample: steps=… is needed (int)"),
        (
            {"steps": "few"},
            f"--sampler sample:steps=few: input should be a valid integer, {NUMBER} an integer (it takes int)",
        ),
    ],
)
def test_bind_says_what_is_wrong(given_, message):
    assert refusal(bind, of_function(sample), given_, "--sampler sample:") == message


def test_bind_takes_nothing_where_there_are_no_options():
    assert bind([], {}, "") == {}
    assert refusal(bind, [], {"a": "1"}, "--option ") == "--option a=1: there is no a; there are none"


def test_a_control_in_the_wrong_place_is_redirected():
    def home(name: str) -> str | None:
        return f"{name} is a condition: --given {name}=0.7" if name == "temperature" else None

    given_ = {"steps": "1", "temperature": "0.7"}
    message = "--option temperature=0.7: temperature is a condition: --given temperature=0.7"
    assert refusal(bind, of_function(sample), given_, "--option ", home) == message
    assert refusal(build, Config, given_, "--option ", home).startswith("--option steps=1: there is no steps")


def test_build_makes_the_model_of_what_is_given():
    assert build(Config, {"states": "8"}, "--set ") == Config(states=8)
    made = build(Config, {"states": "2", "hidden": "[8,4]", "mode": "exact", "rate": "0.5"}, "--set ")
    assert made == Config(states=2, hidden=[8, 4], mode="exact", rate=0.5)
    assert build(Config, {"states": 3, "hidden": [1]}, "").hidden == [1]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"states": "0"}, "--set states=0: input should be greater than or equal to 1"),
        ({"states": "1", "rate": "1"}, "--set rate=1: input should be less than 1"),
        ({"states": "9", "mode": "exact"}, "--set: exact inference takes 8 states at most"),
        (
            {"states": "1", "mode": "slow"},
            "--set mode=slow: input should be 'fast' or 'exact' (it takes fast | exact)",
        ),
        ({"states": "1", "stats": "2"}, "--set stats=2: there is no stats; did you mean states?"),
        (
            {"states": "1", "columns": "2"},
            "--set columns=2: there is no columns; there are: hidden, mode, rate, states",
        ),
        ({}, "--set: states=… is needed (int)"),
    ],
)
def test_a_fields_own_constraint_gives_the_message(given_, message):
    assert refusal(build, Config, given_, "--set ") == message


# ---- ranges ----


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", [0]),
        ("0,4-7", [0, 4, 5, 6, 7]),
        ("7,0-1,0", [0, 1, 7]),
        ("3-3", [3]),
        (" 1 , 2-3 ", [1, 2, 3]),
        (str(2**64 - 1), [2**64 - 1]),
        (f"{2**64 - 2}-{2**64 - 1}", [2**64 - 2, 2**64 - 1]),
    ],
)
def test_ranges_are_sorted_distinct_numbers(text, numbers):
    assert parse_ranges(text, "--seeds") == numbers
    assert parse_ranges(5, "layers") == [5]  # from Python


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-1", "3-", "7-4", "1-2-3", "1.5", "1 - 3", "²", "9" * 5000])
def test_what_is_no_range_is_told(text):
    assert refusal(parse_ranges, text, "--seeds") == f"--seeds={text}: write whole numbers and ranges, such as 0,4-7"


def test_an_endless_range_is_refused_before_it_is_made():
    message = "--seeds=0-99999999999: that is more than 10,000,000 numbers"
    assert refusal(parse_ranges, "0-99999999999", "--seeds") == message


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 50)), min_size=1, max_size=6))
@settings(deadline=None)
def test_ranges_come_back_as_they_were_written(spans):
    text = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in spans)
    expected = sorted({low + step for low, more in spans for step in range(more + 1)})
    assert parse_ranges(text, "x") == expected
    assert parse_ranges(",".join(map(str, expected)), "x") == expected


@given(st.text(alphabet="0123456789,- ax", max_size=8))
@settings(deadline=None)
def test_any_text_is_a_range_or_refused(text):
    try:
        found = parse_ranges(text, "x")
    except UsageError:
        return
    assert found == sorted(set(found))
    assert found
