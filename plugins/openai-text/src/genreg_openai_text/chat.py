"""``genreg chat``: a conversation with any model that takes ``messages``, kept in a transcript."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

HELP = "/undo takes the last turn back, /system TEXT sets instructions, /again asks once more, /quit ends (or Ctrl-D)"


@click.command("chat")
@click.argument("name")
@click.option("--system", help="Instructions that stand above the conversation.")
@click.option("--transcript", type=click.Path(path_type=Path), help="Keep the conversation here, and go on from there.")
@click.option("--given", multiple=True, metavar="K=V", help="A condition, such as temperature=0.7.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="How the model is loaded.")
@click.option("--registry", "registries", multiple=True, metavar="FILE", help="Read this registry file too.")
def chat(
    name: str,
    system: str | None,
    transcript: Path | None,
    given: tuple[str, ...],
    options: tuple[str, ...],
    registries: tuple[str, ...],
) -> int:
    """Keep a conversation with the model NAME: /undo, /system, /again, /quit; lines come from stdin in a pipe."""
    from genreg.api import load
    from genreg.cli.common import note, pairs
    from genreg.errors import Unsupported

    model = load(name, options=pairs(options, "--option"), registries=registries)
    if "messages" not in model.form.given.names:
        raise Unsupported(f"{name} is of the family {model.family.name}, which takes no messages: it cannot chat")
    talk = Talk.read(transcript, pairs(given, "--given"))
    talk.system = system if system is not None else talk.system
    model.given({"messages": [{"role": "user", "content": ""}]}, talk.given)  # what is wrong is told at once
    if sys.stdin.isatty():
        note(f"{name}: {HELP}")
    not_ok = 0
    for line in _lines():
        word, _, rest = line.partition(" ")
        if word == "/quit":
            break
        if word == "/undo":
            note("the last turn is taken back" if talk.undo() else "there is no turn to take back")
        elif word == "/system":
            talk.system = rest.strip() or None
        elif word.startswith("/") and word != "/again":
            note(f"there is no {word}: {HELP}")
            continue
        elif word != "/again" or talk.repeat():
            talk.messages += [{"role": "user", "content": line}] if word != "/again" else []
            not_ok += not talk.answer(model)
        talk.write()
    return 3 if not_ok else 0


@dataclass
class Talk:
    """What has been said, and where it is kept."""

    messages: list[dict[str, str]] = field(default_factory=list)
    system: str | None = None
    given: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | None, given: dict[str, str]) -> Talk:
        """A new conversation, or the one in a transcript: JSON Lines of {role, content}."""
        from genreg.errors import UsageError

        talk = cls(given=given, path=path)
        if path is None or not path.exists():
            return talk
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                message = json.loads(line)
                role, content = str(message["role"]), str(message["content"])
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{path}, line {number}: a transcript has a role and a content in each line") from None
            if role == "system":
                talk.system = content
            else:
                talk.messages.append({"role": role, "content": content})
        return talk

    def write(self) -> None:
        """Keep all of it, whole or not at all."""
        from genreg.files import new_file

        if self.path is None:
            return
        above = [{"role": "system", "content": self.system}] if self.system else []
        lines = [json.dumps(message, ensure_ascii=False) + "\n" for message in [*above, *self.messages]]
        with new_file(self.path, force=True) as temporary:
            temporary.write_text("".join(lines), "utf-8")

    def undo(self) -> bool:
        """Take the last turn back, question and answer; whether there was one."""
        before = len(self.messages)
        while self.messages and self.messages.pop()["role"] != "user":
            pass
        return len(self.messages) < before

    def repeat(self) -> bool:
        """Take the last answer back; whether there is a question to ask again."""
        while self.messages and self.messages[-1]["role"] != "user":
            self.messages.pop()
        return bool(self.messages)

    def answer(self, model: Any) -> bool:
        """Ask, print the answer as it comes, and remember it; whether it is a whole one."""
        from genreg.cli.common import note
        from genreg.printing import Live
        from genreg.running import OK

        system = {"system": self.system} if self.system and "system" in model.form.given.names else {}
        given = model.given({"messages": self.messages}, {**system, **self.given})
        live = Live.of(model.form.columns) or Live("text")
        rows = model.run(model.prepare(given, 1), []).rows(batch=1, watch=live.watch)
        batch = next(live.print_rows(rows))
        row = batch.to_pylist()[0]
        if row[live.column]:
            self.messages.append({"role": "assistant", "content": row[live.column]})
        outcome = row.get(model.form.outcome(True), "ok")
        if outcome != "ok":
            note(": ".join(filter(None, [outcome, row.get("note")])))
        return outcome in OK


def _lines() -> Iterator[str]:
    """What people type, or the lines of a pipe, without empty ones."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt) if prompt else sys.stdin.readline()
        except EOFError:
            return
        if not prompt and not line:
            return
        if line.strip():
            yield line.rstrip("\n")
