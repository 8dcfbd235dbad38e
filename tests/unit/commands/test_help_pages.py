"""The help pages: words for people, and nothing of the implementation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from provider.commands.app import app
from tests.docs.help_page import MODULE, module

ROOT: Any = get_command(app)
Context: Any = typer.Context


def commands(words: tuple[str, ...] = (), command: Any = ROOT) -> Iterator[tuple[str, ...]]:
    yield words
    for name in getattr(command, "commands", {}):
        yield from commands((*words, name), command.named(name))


def page(words: tuple[str, ...]) -> str:
    context, command = Context(ROOT, info_name="keyvalue-nats"), ROOT
    for word in words:
        command = command.named(word)
        context = Context(command, info_name=word, parent=context)
    return str(command.get_help(context))


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_help_page_names_no_type_of_the_implementation(words: tuple[str, ...]) -> None:
    assert re.findall(r"<(?!\w+\|)[a-z][^<>=]*>|list\[|\bNone\b|<\w*Enum", page(words)) == []


def test_the_options_of_the_connection_are_shown_once_and_pointed_to() -> None:
    assert "--tlscert FILE" in page(("kv",))
    for words in commands():
        if len(words) == 2 and words[0] == "kv":
            assert "--tlscert" not in page(words)
            assert "keyvalue-nats kv --help" in page(words)


def test_the_list_of_commands_says_of_each_what_its_own_page_says_first() -> None:
    for entry in type(ROOT).later:
        assert entry.help == ROOT.named(entry.name).get_short_help_str(1000)


def test_the_page_that_a_pipe_gets_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "")
    assert MODULE.read_text(encoding="utf-8") == module(), "run: make docs"
