"""Texts to write that are given by their source: standard input or a file."""

from __future__ import annotations

import sys
from pathlib import Path

from provider.commands.errors import ArgumentsError


def read_value(argument: str) -> str:
    """Return the text to write: `-` is standard input, `@FILE` a file, `@@TEXT` the text `@TEXT`, anything else itself.

    Raises:
        ArgumentsError: The source cannot be read, or is not UTF-8. The text names the source.
    """
    if argument == "-":
        return _decoded(standard_input("VALUE is - but"), "standard input")
    if argument.startswith("@@"):
        return argument[1:]
    if argument.startswith("@"):
        try:
            return _decoded(Path(argument[1:]).read_bytes(), argument[1:])
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise ArgumentsError(f"{argument[1:]!r} cannot be read: {reason}; @@ begins a text with @") from None
    return argument


def standard_input(prefix: str) -> bytes:
    """Return all bytes of standard input.

    Args:
        prefix: Beginning of the error's text.

    Raises:
        ArgumentsError: Standard input is closed, or a terminal.
    """
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise ArgumentsError(f"{prefix} standard input is {state}")
    return sys.stdin.buffer.read()


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ArgumentsError(f"{source} is not UTF-8, and only texts can be written this way") from None
