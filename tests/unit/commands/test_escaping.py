"""Texts of actors on a terminal: none controls it, moves the text around it, or adds a line to a list."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.keyvalue import GetResponse
from provider.commands import call
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.output import event_line, stderr_console, write_line
from provider.commands.printing import print_line, print_object
from provider.commands.tables import aligned
from provider.plain_text import json_line, printable

EVIL = "\x1b]0;x\x07\x9b31m\x7f\u202e\u2066\u2028"


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


@given(st.text())
def test_an_escaped_text_is_printable_and_a_printable_one_is_unchanged(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
    assert printable(text, "\n").replace("\n", "").isprintable()


@pytest.mark.parametrize("end", [EVIL, "\n\n", "ß☃"])
def test_a_long_text_is_escaped_like_a_short_one(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    begin = "ß\n\t" * 100_000
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_line(begin + end)
    assert terminal.getvalue() == begin + printable(end, "\n\t") + "\n"
    assert printable(begin + end) == begin.replace("\n", "\\n").replace("\t", "\\t") + printable(end)
    assert json.loads(json_line([begin + end])) == [begin + end]
    assert json_line([begin + end]).isprintable()


@given(st.text(st.characters(codec="utf-8")))
def test_json_is_printable_and_the_same_to_a_program(text: str) -> None:
    assert json_line([text]).isprintable()
    assert json.loads(json_line([text])) == [text]


def test_a_terminal_gets_escapes_and_the_lines_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_line(f"a{EVIL}\n\tb")
    assert terminal.getvalue() == "a\\x1b]0;x\\x07\\x9b31m\\x7f\\u202e\\u2066\\u2028\n\tb\n"


def test_a_pipe_gets_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(EVIL)
    assert capsys.readouterr().out == f"{EVIL}\n"


def test_an_object_has_escapes_in_a_pipe_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_object({"key": EVIL})
    out = capsys.readouterr().out
    assert out.removesuffix("\n").isprintable()
    assert json.loads(out) == {"key": EVIL}


def test_a_value_may_have_lines_and_an_item_of_a_list_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    call._print(GetResponse(value="a\nb", exists=True))
    call._print([f"c\nd{EVIL}"])
    lines = terminal.getvalue().splitlines()
    assert lines[:2] == ["a", "b"]
    assert lines[2].startswith("c\\nd\\x1b")
    assert len(lines) == 3


def test_a_cell_of_a_table_adds_no_line() -> None:
    lines = aligned([["Key", "Value"], [f"a\nb{EVIL}", "c"]])
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_an_error_has_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    write_line(stderr_console(), f"error: {EVIL}", "red")
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("name", ["invocation_failed", "link_failed", "other"])
def test_the_live_view_has_escapes(name: str) -> None:
    fields = {"operation": f"KeyValue.{EVIL}", "key": EVIL, "error": EVIL, "reason": f"{EVIL}\nforged"}
    line = event_line(LogEvent(name, "error", fields), datetime.now(UTC))
    assert line is not None
    assert line.plain.isprintable()
