"""The help pages: words for people, and nothing of the implementation."""

from __future__ import annotations

import re

import pytest

from provider.help_pages.style import styled
from tests.docs.help_pages import ROOT, commands, modules, page


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
    for group in (ROOT, ROOT.named("kv")):
        for entry in type(group).later:
            assert entry.help == group.named(entry.name).get_short_help_str(1000)


def test_the_stored_pages_are_up_to_date() -> None:
    for path, text in modules().items():
        assert path.read_text(encoding="utf-8") == text, "run: make docs"


def test_no_page_is_wider_than_a_terminal() -> None:
    assert [line for words in commands() for line in page(words).split("\n") if len(line) > 80] == []


def test_a_terminal_shows_names_in_color_and_the_same_text() -> None:
    for words in commands():
        colored = styled(page(words))
        assert re.sub(r"\x1b\[\d+m", "", colored) == page(words)
        assert "\x1b[1mOptions:\x1b[0m\n" in colored
    assert "  \x1b[36m-s, --nats, --server URL\x1b[0m  " in styled(page(("kv",)))
    assert "  \x1b[36mListKeys\x1b[0m  " in styled(page(("call",)))
