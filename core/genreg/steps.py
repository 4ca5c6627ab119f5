"""Steps as people write them: ``name:k=v,…``, or a YAML file of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from genreg.errors import UsageError
from genreg.options import parse_call


def read_calls(calls: Iterable[str], option: str = "--preprocess") -> list[str]:
    """The calls in order, those of a .yaml file in its place. Raises UsageError for a file that lists no steps.

    A file is a list; each of its steps is a name, a call as on the command line, or ``{name: {knob: value}}``.
    """
    found = []
    for call in calls:
        found += _of_file(Path(call), option) if call.lower().endswith((".yaml", ".yml")) else [call]
    return found


def spelled(name: str, knobs: Mapping[str, Any]) -> str:
    """A call as text, which parse_call reads again; raises UsageError for a value that cannot be quoted."""
    texts = {knob: _value(value) for knob, value in knobs.items()}
    text = name + ":" * bool(knobs) + ",".join(f"{knob}={value}" for knob, value in texts.items())
    with suppress(UsageError):
        if parse_call(text, "") == (name, texts):
            return text
    raise UsageError(f"{text}: a value has quotes of both kinds, or a bracket that is not closed")


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value and not set(value) & set(",\"'()[]{}"):
        return value
    return f"'{value}'" if "'" not in value else f'"{value}"'


def _of_file(path: Path, option: str) -> list[str]:
    import yaml

    try:
        steps = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UsageError(f"{option} {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(steps, list) or not steps:
        raise UsageError(f"{option} {path}: write a list of steps, such as - dedupe")
    return [_call(step, f"{option} {path}: step {number}") for number, step in enumerate(steps, 1)]


def _call(step: Any, where: str) -> str:
    if isinstance(step, str):
        return step
    if isinstance(step, dict) and len(step) == 1:
        ((name, knobs),) = step.items()
        if knobs is None or isinstance(knobs, dict):
            return spelled(str(name), {str(knob): value for knob, value in (knobs or {}).items()})
    raise UsageError(f"{where}: write a name, name:knob=value, or name: {{knob: value}}")
