"""``genreg chat``: history, instructions, undo, a transcript to go on from."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from genreg.errors import Unsupported, UsageError
from genreg_openai_text.chat import chat


def talk(*arguments: object, said: str):
    return CliRunner().invoke(chat, ["openai-text", *map(str, arguments)], input=said, standalone_mode=False)


def asked(server) -> list[list[tuple[str, str]]]:
    return [[(m["role"], m["content"]) for m in entry["body"]["messages"]] for entry in server.log]


def test_a_conversation_goes_on_and_can_be_taken_back(server, tmp_path):
    file = tmp_path / "talk.jsonl"
    done = talk(
        "--transcript", file, "--system", "Be brief.", said="你好\n/undo\n/undo\nHi\n\nMore\n/again\n/bad\n/quit\nx\n"
    )
    assert done.return_value == 0, done.exception
    first, second, third, again = asked(server)
    system = ("system", "Be brief.")
    assert first == [system, ("user", "你好")]
    assert second == [system, ("user", "Hi")]
    assert [role for role, _ in third] == ["system", "user", "assistant", "user"]
    assert again == third
    assert third[2][1] in done.output
    assert "there is no turn to take back" in done.output
    assert "there is no /bad: /undo takes the last turn back" in done.output
    kept = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [(message["role"], message["content"]) for message in kept[:-1]] == third
    server.state.log.clear()
    talk("--transcript", file, said="/system Sing.\nOn\n")
    assert asked(server)[0][0] == ("system", "Sing.")
    assert len(asked(server)[0]) == 6


def test_an_answer_that_is_not_ok_is_told_and_ends_with_3(server):
    server.fault("refusal")
    done = talk(said="Hi\n")
    assert done.return_value == 3
    assert "refused: I'm sorry, I can't help with that." in done.output


def test_a_family_without_messages_cannot_chat(server):
    done = CliRunner().invoke(chat, ["nb-iris"], input="", standalone_mode=False)
    assert isinstance(done.exception, Unsupported)
    assert "nb-iris is of the family nb, which takes no messages: it cannot chat" in str(done.exception)


@pytest.mark.parametrize("text", ["x", "[]", '{"role": "user"}'])
def test_a_file_that_is_no_transcript_is_refused(text, server, tmp_path):
    (tmp_path / "t").write_text(text)
    done = talk("--transcript", tmp_path / "t", said="Hi\n")
    assert isinstance(done.exception, UsageError)
    assert "t, line 1: a transcript has a role and a content in each line" in str(done.exception)
    assert server.log == []
