"""Texts to write that are given by their source: standard input or a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from provider.commands.errors import ArgumentsError


def read_value(argument: str) -> str:
    """Return the text to write: `-` is standard input, `@FILE` a file, `@@TEXT` the text `@TEXT`, anything else itself.

    Raises:
        ArgumentsError: The source cannot be read, or is not UTF-8. The text names the source.
    """
    source = "standard input" if argument == "-" else argument[1:]
    is_read = argument == "-" or (argument.startswith("@") and not argument.startswith("@@"))
    return _decoded(read_bytes(argument), source if is_read else "VALUE")


def read_bytes(argument: str) -> bytes:
    """Return the bytes to write, of a source as for `read_value`.

    Raises:
        ArgumentsError: The source cannot be read. The text names it.
    """
    if argument == "-":
        return standard_input("VALUE is - but")
    if argument.startswith("@") and not argument.startswith("@@"):
        try:
            return Path(argument[1:]).read_bytes()
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise ArgumentsError(f"{argument[1:]!r} cannot be read: {reason}; @@ begins a text with @") from None
    # A shell may pass bytes that are not UTF-8, which Python keeps as surrogates.
    return os.fsencode(argument.removeprefix("@") if argument.startswith("@@") else argument)


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
