"""Texts to write that are given by their source: standard input or a file."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from provider.commands.errors import ArgumentsError

_PART_BYTES = 256 * 1024
"""Most bytes that are read at once: four times what a pipe has."""


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
    text = argument.removeprefix("@") if argument.startswith("@@") else argument
    return text.encode(errors="surrogateescape")


def standard_input(prefix: str) -> bytes:
    """Return all bytes of standard input.

    Args:
        prefix: Beginning of the error's text.

    Raises:
        ArgumentsError: Standard input is closed, or a terminal.
    """
    check_standard_input(prefix)
    return sys.stdin.buffer.read()


def check_standard_input(prefix: str) -> None:
    """Raise an `ArgumentsError` if there is no standard input to read, likewise."""
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise ArgumentsError(f"{prefix} standard input is {state}")


async def parts_of_standard_input() -> AsyncIterator[bytes]:
    """Yield the bytes of standard input as they come, while the event loop goes on."""
    descriptor = sys.stdin.fileno()
    while True:
        await _readable(descriptor)
        part = os.read(descriptor, _PART_BYTES)
        if not part:
            return
        yield part


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read; a file never makes its reader wait."""
    loop, is_readable = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, is_readable.set)
    except PermissionError:
        return
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ArgumentsError(f"{source} is not UTF-8, and only texts can be written this way") from None
