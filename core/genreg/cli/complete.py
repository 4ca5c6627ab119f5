"""What a shell may complete, from registry files and the verbs' declarations alone: as cheap as ``genreg list``.

A script (``genreg completion``) sets ``_GENREG_COMPLETE`` to its shell's name and passes the words up to the cursor,
the last one unfinished; bash passes its line, because it breaks words at ``:`` and ``=``. Answers are lines of kind,
value and help, with tabs between: ``word`` (a space follows), ``part`` (none does), ``file`` and ``dir`` (the shell's).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import click

from genreg.cli import VERBS, group
from genreg.errors import GenregError
from genreg.registry import Registry, read_registries, user_file

VARIABLE = "_GENREG_COMPLETE"
MAKES = ("table", "sequence", "text", "image")
FILES = {"FILE": "file", "OUT": "file", "FOLDER": "dir"}  # metavars
CALLS = {"samplers": "samplers", "preprocess": "preprocessors", "loader": "loaders"}  # parameters -> kinds of component


class Answer(NamedTuple):
    """One thing that may stand here."""

    kind: str
    value: str = ""
    help: str = ""


def main(words: list[str], shell: str) -> None:
    """Print the answers for the words after ``genreg``; a mistake in a file of the user's is no time for a message."""
    cut = 0
    if shell == "bash":
        words = split(os.environ.get("COMP_LINE", ""))[1:]
        breaks = [at for at, char in enumerate(words[-1]) if char in ":=" and char in os.environ["COMP_WORDBREAKS"]]
        cut = breaks[-1] + 1 if breaks else 0  # bash replaces what comes after its last word break
    try:
        for kind, value, text in answers(words):
            click.echo(f"{kind}\t{value[cut:]}\t{' '.join(text.split())}")
    except (GenregError, OSError):
        return


def split(line: str) -> list[str]:
    """A command line as words, the last one unfinished.

    >>> split("genreg run 'a b' --sampler trunc:p")
    ['genreg', 'run', 'a b', '--sampler', 'trunc:p']
    >>> split("genreg run ")
    ['genreg', 'run', '']
    """
    import shlex

    lexer = shlex.shlex(line, posix=True)
    words: list[str] = []
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words.extend(lexer)
    except ValueError:  # a quote is open: what is in it so far
        return [*words, lexer.token.lstrip("\"'")]
    return [*words, ""] if not words or line[-1:].isspace() else words


def answers(words: list[str]) -> Iterator[Answer]:
    """What may stand in place of the last word."""
    *before, current = words or [""]
    at = next((at for at, word in enumerate(before) if not word.startswith("-")), None)
    if at is None:
        verbs = [Answer("word", *pair) for pair in group.summaries(click.Context(group))]
        return _matching(current, [*_options(group), *verbs])
    verb = before[at]
    if verb in VERBS:
        return _of_verb(import_module(f"genreg.cli.{verb}").command, before[at + 1 :], current)
    return _of_plugin_verb(read_registries().offers["commands"].get(verb, {}), before[at + 1 :], current)


def _of_verb(command: click.Command, before: list[str], current: str) -> Iterator[Answer]:
    named = {name: p for p in command.params if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)}
    given: dict[str, str] = {"": str(command.name)}  # values of arguments and options so far; the verb
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    waiting: click.Parameter | None = None
    for word in before:
        if waiting is not None:
            given[str(waiting.name)], waiting = word, None
        elif word.startswith("--") and "=" in word:
            continue
        elif word in named:
            waiting = None if _is_flag(named[word]) else named[word]
        elif not word.startswith("-") and arguments:
            given[str(arguments[0].name)] = word
            arguments = arguments if arguments[0].nargs == -1 else arguments[1:]
    registries = [word for flag, word in pairwise(before) if flag == "--registry"]
    if waiting is not None:
        return _values(waiting, current, given, registries)
    name, equals, value = current.partition("=")
    if equals and name in named:
        found = _values(named[name], value, given, registries)
        return (answer._replace(value=f"{name}={answer.value}") if answer.value else answer for answer in found)
    if current.startswith("-"):
        return _matching(current, _options(command))
    return _values(arguments[0], current, given, registries) if arguments else iter(())


def _of_plugin_verb(offer: Mapping[str, Any], before: list[str], current: str) -> Iterator[Answer]:
    """The verbs and options that a registry file tells of; else files."""
    for word in before:
        offer = offer.get("commands", {}).get(word, offer)
    known = [Answer("word", name, str(one.get("summary", ""))) for name, one in offer.get("commands", {}).items()]
    known += [Answer("word", name) for name in offer.get("options", []) if current.startswith("-")]
    return _matching(current, known or [Answer("file")])


def _values(parameter: click.Parameter, current: str, given: Mapping[str, str], files: list[str]) -> Iterator[Answer]:
    """What a parameter of a verb may be: found by its name, its choices, or its metavar."""
    name = str(parameter.name).replace("names", "name")
    if isinstance(parameter.type, click.Choice):
        return _matching(current, [Answer("word", choice) for choice in parameter.type.choices])
    if name in ("name", "what", "family", "makes", "dist", "settings", "options", *CALLS):
        return _matching(current, _known(name, current, given, read_registries(files)))
    metavar = "FOLDER" if name == "folder" else str(parameter.metavar)
    kind = next((FILES[part] for part in metavar.split("|") if part in FILES), None)
    return iter([Answer(kind)] if kind else [])


def _known(name: str, current: str, given: Mapping[str, str], registry: Registry) -> list[Answer]:
    if name in CALLS:
        return _calls(registry.offers[CALLS[name]], current)
    if name in ("settings", "options"):
        family = given.get("family") or _family(given.get("name", ""), registry)
        return [Answer("part", f"{knob}=") for knob in registry.offers["families"].get(family, {}).get(name, [])]
    if name == "makes":
        return [Answer("word", one) for one in MAKES]
    if name == "dist":
        return [Answer("word", dist) for dist in registry.installed]
    entries = registry.entries.values()
    if name == "name" and given[""] == "add":  # a new one
        return []
    if name == "name":
        usable = [one for one in entries if (one.origin == user_file() if given[""] == "remove" else one.installed)]
        found = [Answer("word", one.name, one.summary) for one in usable]
        return [*found, Answer("dir")] if "/" in current else found
    kinds = ["families"] if name == "family" else ["families", "samplers", "loaders", "preprocessors"]
    offered = [item for kind in kinds for item in registry.offers[kind].items()]
    found = [Answer("word", one, str(offer["summary"])) for one, offer in offered]
    more = [Answer("word", one.name, one.summary) for one in entries]
    return found if name == "family" else [*more, *found, Answer("file")]


def _calls(known: Mapping[str, Mapping[str, Any]], current: str) -> list[Answer]:
    """``name`` or ``name:knob=…,knob=…`` as far as it is written."""
    name, colon, rest = current.partition(":")
    if not colon:
        return [Answer("part" if one["knobs"] else "word", name, str(one["summary"])) for name, one in known.items()]
    done, comma, _ = rest.rpartition(",")
    used = {pair.partition("=")[0] for pair in done.split(",")}
    head = f"{name}:{done}{comma}"
    return [Answer("part", f"{head}{knob}=") for knob in known.get(name, {}).get("knobs", []) if knob not in used]


def _family(name: str, registry: Registry) -> str:
    """The family of an entry, or of a checkpoint folder."""
    import json

    if name in registry.entries:
        return registry.entries[name].family
    try:
        with open(f"{name}/config.json", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs start-up
            return str(json.load(file)["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _options(command: click.Command) -> list[Answer]:
    own = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    found = [Answer("word", name, p.help or "") for p in own for name in p.opts]
    return [*found, Answer("word", "--help", "Show help")]


def _is_flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)


def _matching(current: str, known: Iterable[Answer]) -> Iterator[Answer]:
    """Those that begin as the word does; options only where a dash is written."""
    dashed = current.startswith("-")
    for answer in known:
        fits = answer.value.startswith(current) and (dashed or not answer.value.startswith("-"))
        if answer.kind in ("file", "dir") or fits:
            yield answer
