"""Texts to write, from the command line, standard input and files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from provider.commands.errors import ArgumentsError
from provider.commands.value_sources import read_value


class _Input(io.TextIOWrapper):
    def isatty(self) -> bool:
        return self.encoding == "ascii"


def given(monkeypatch: pytest.MonkeyPatch, data: bytes, *, is_terminal: bool = False) -> None:
    monkeypatch.setattr("sys.stdin", _Input(io.BytesIO(data), "ascii" if is_terminal else "utf-8"))


@pytest.mark.parametrize(("argument", "text"), [("v", "v"), ("", ""), ("--", "--"), ("@@v", "@v"), ("a@b", "a@b")])
def test_a_text_is_itself(argument: str, text: str) -> None:
    assert read_value(argument) == text


def test_a_file_and_standard_input_are_read_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes("caf\u00e9\r\n\n".encode())
    assert read_value(f"@{tmp_path / 'f'}") == "caf\u00e9\r\n\n"
    given(monkeypatch, b"from a pipe\n")
    assert read_value("-") == "from a pipe\n"


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentsError, match="absent' cannot be read: no such file or directory; @@ begins"):
        read_value(f"@{tmp_path / 'absent'}")
    with pytest.raises(ArgumentsError, match="cannot be read: is a directory"):
        read_value(f"@{tmp_path}")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ArgumentsError, match="binary is not UTF-8"):
        read_value(f"@{tmp_path / 'binary'}")
    given(monkeypatch, b"", is_terminal=True)
    with pytest.raises(ArgumentsError, match="standard input is a terminal"):
        read_value("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ArgumentsError, match="standard input is closed"):
        read_value("-")
