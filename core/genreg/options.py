"""From a signature to key=value to typed values: the one place where text from the command line gets a type."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from genreg.errors import UsageError, did_you_mean

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """A knob: its name, annotation, default (MISSING where it must be given) and help."""

    name: str
    type: Any
    default: Any = MISSING
    help: str = ""

    @property
    def type_name(self) -> str:
        """The annotation as people write it: ``int``, ``float | list[float]``."""
        return _spelled(self.type)

    def described(self) -> dict[str, Any]:
        """The knob as JSON: name, type, default, help."""
        default = {} if self.default is MISSING else {"default": jsonable(self.default)}
        return {"name": self.name, "type": self.type_name, **default, **({"help": self.help} if self.help else {})}


def of_function(function: Callable[..., Any]) -> list[Option]:
    """The keyword-only parameters of a function as options."""
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters.values()
    own = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    return [Option(one.name, hints.get(one.name, str), one.default) for one in own]


def of_model(model: type[BaseModel]) -> list[Option]:
    """The fields of a pydantic model as options; fields named in ``internal`` are the family's own."""
    return [
        Option(
            name,
            field.annotation,
            MISSING if field.is_required() else field.get_default(call_default_factory=True),
            field.description or "",
        )
        for name, field in model.model_fields.items()
        if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("internal"))
    ]


def split_outside(text: str, separator: str) -> list[str]:
    """Split at the separator, but not within brackets or quotes.

    >>> split_outside("a=[1,2],b='x,y',c", ",")
    ['a=[1,2]', "b='x,y'", 'c']
    """
    parts, depth, quote, start = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth = max(depth - 1, 0)
        elif char == separator and not depth:
            parts.append(text[start:at])
            start = at + 1
    if quote:
        raise UsageError(f"{text}: the quote {quote} is not closed")
    return [*parts, text[start:]]


def split_pair(text: str, option: str) -> tuple[str, str]:
    """``key=value`` as a pair; raises UsageError that names the option."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{option} {text}: write NAME=VALUE")
    return key.strip(), value


def parse_call(text: str, option: str) -> tuple[str, dict[str, str]]:
    """``name:k=v,k2=v2`` as a name and its knobs, still text.

    >>> parse_call("truncate:psi=[0.7,0.5],cutoff=8", "--sampler")
    ('truncate', {'psi': '[0.7,0.5]', 'cutoff': '8'})
    """
    name, colon, rest = text.partition(":")
    pairs = [split_pair(part, f"{option} {name}:") for part in split_outside(rest, ",")] if colon else []
    knobs: dict[str, str] = {}
    for key, value in pairs:
        if key in knobs:
            raise UsageError(f"{option} {text}: {key} is given twice")
        knobs[key] = value
    return name.strip(), knobs


def typed(option: Option, text: Any, where: str) -> Any:
    """A value as the option's type: text verbatim where the type is text, else read as JSON or a bare word.

    A list of text is verbatim too, and one value may stand for a list of one.
    """
    adapter = TypeAdapter(option.type)
    reason = ""
    for value in _readings(text, option.type):
        try:
            found = adapter.validate_python(value)
        except ValidationError as error:
            reason = reason or error.errors()[0]["msg"]
            continue
        if isinstance(found, bool) or not isinstance(value, bool):
            return found  # pydantic takes true for the number 1
        reason = reason or "true and false are not numbers"
    raise UsageError(f"{where}{option.name}={text}: {_lower(reason)} (it takes {option.type_name})")


def bind(
    options: Sequence[Option],
    given: Mapping[str, Any],
    where: str,
    elsewhere: Callable[[str], str | None] = lambda _: None,
) -> dict[str, Any]:
    """Typed values for what is given; raises UsageError for an unknown, mistyped or missing option.

    ``elsewhere(name)`` may say where a control that is not an option here has its home.
    """
    known = {option.name: option for option in options}
    for name, value in given.items():
        if name not in known:
            told = elsewhere(name) or f"there is no {name}{did_you_mean(name, known)}"
            raise UsageError(f"{where}{name}={value}: {told}")
    for option in options:
        if option.default is MISSING and option.name not in given:
            raise UsageError(f"{where.rstrip(': ')}: {option.name}=… is needed ({option.type_name})")
    return {name: typed(known[name], value, where) for name, value in given.items()}


def build(
    model: type[BaseModel],
    given: Mapping[str, Any],
    where: str,
    elsewhere: Callable[[str], str | None] = lambda _: None,
) -> Any:
    """A pydantic model from given values; a field's own constraint gives the message."""
    values = bind(of_model(model), given, where, elsewhere)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        value = f"{name}={given.get(name.partition('.')[0], '')}" if name else ""
        raise UsageError(f"{(where + value).rstrip(': ')}: {_lower(first['msg'])}") from None


def parse_ranges(text: str, what: str) -> list[int]:
    """``0,4-7`` as sorted distinct whole numbers; raises UsageError naming ``what``.

    >>> parse_ranges("4-6,1", "layers")
    [1, 4, 5, 6]
    """
    numbers: set[int] = set()
    for part in str(text).split(","):
        low, dash, high = part.strip().partition("-")
        if len(part) > 50 or not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise UsageError(f"{what}={text}: write whole numbers and ranges, such as 0,4-7")
        if dash and int(high) - int(low) >= 10_000_000:
            raise UsageError(f"{what}={text}: that is more than 10,000,000 numbers")
        numbers.update(range(int(low), int(high or low) + 1))
    return sorted(numbers)


def jsonable(value: Any) -> Any:
    """A default or value as JSON can hold it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        return [_read(part) for part in _parts(bare)]
    return {"true": True, "yes": True, "false": False, "no": False, "none": None, "null": None}.get(
        bare.lower(), _unquoted(bare)
    )


def _readings(text: Any, type_: Any) -> list[Any]:
    """What a value may mean, the likeliest first."""
    if not isinstance(text, str):
        return [text]
    if type_ is str:
        return [_unquoted(text)]
    bare = text.strip()
    verbatim = [[_unquoted(part) for part in _parts(bare)]] if bare.startswith("[") and bare.endswith("]") else []
    return [_read(text), *verbatim, text, [_unquoted(bare)]]


def _parts(brackets: str) -> list[str]:
    inner = brackets[1:-1].strip()
    return [part.strip() for part in split_outside(inner, ",")] if inner else []


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:]


def _spelled(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " | ".join("none" if part is type(None) else _spelled(part) for part in parts)
    if origin is Annotated:
        return _spelled(parts[0])
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_spelled, parts))}]"
    return getattr(annotation, "__name__", str(annotation))
