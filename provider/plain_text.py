"""Texts that came from outside, made safe for one line of a log or a terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

_PART_CHARACTERS = 64 * 1024
"""Characters of a long text that are looked at together: a list of the characters of 64 MiB would take 500 MB."""

_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, kept: str = "") -> str:
    r"""Return a text in which no character controls a terminal or moves the text around it.

    Control characters, line and paragraph separators, marks that turn the direction of writing, and bytes that are not
    UTF-8 are shown as escapes, e.g. `\x1b`.

    Args:
        text: The text.
        kept: Characters to leave as they are, e.g. line breaks.
    """
    return _escaped(text, kept, _escape)


def is_printable(text: str, kept: str = "") -> bool:
    """Tell whether `printable` leaves a text as it is."""
    if text.isprintable():
        return True
    for char in kept:
        text = text.replace(char, "")
    return text.isprintable()


def parts(text: str) -> Iterator[str]:
    """Yield a text in parts, to be handled one after the other."""
    for start in range(0, len(text), _PART_CHARACTERS):
        yield text[start : start + _PART_CHARACTERS]


def cut(text: str, characters: int) -> str:
    """Return a text of at most about that many characters; one that was cut says how long it was."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]}… ({len(text)} characters)"


def json_line(value: object) -> str:
    """Return a value as JSON on one line, with escapes for the characters that control a terminal.

    To a program it is the same as without the escapes.
    """
    import msgspec  # takes longer to load than everything else that a help page needs

    return _printable_json(msgspec.json.encode(value, enc_hook=str).decode())


def plain_json_line(fields: dict[str, Any]) -> str:
    """Do the same for an object of texts, numbers, lists and objects, with what Python itself has for it."""
    return _printable_json(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))


def _printable_json(text: str) -> str:
    return _escaped(text, "", _json_escape)


def _escaped(text: str, kept: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        part
        if is_printable(part, kept)
        else "".join(char if char.isprintable() or char in kept else escape(char) for char in part)
        for part in parts(text)
    )


def _json_escape(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
