"""Standard output of the commands: every line is flushed at once, and a reader that stops reading ends the command."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import typer

from provider.commands.errors import OutputError
from provider.interrupts import ending_at_once
from provider.plain_text import json_line, printable


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Flush the output printed inside: the reader of a pipe is waiting for it.

    Raises:
        typer.Exit: The reader closed the pipe, as `head` does. This is not an error; the exit code is 0.
        OutputError: The output cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        raise typer.Exit from None
    except OSError as error:
        discard(sys.stdout)
        raise OutputError((error.strerror or "error").lower()) from None


def print_line(text: str, kept: str = "\n\t") -> None:
    """Print a text. A terminal gets escapes in place of control characters; a pipe gets the text as it is.

    Args:
        text: The text, which may be an actor's.
        kept: Control characters that a terminal gets too.
    """
    with flushed():
        sys.stdout.write((printable(text, kept) if sys.stdout.isatty() else text) + "\n")


def print_object(fields: dict[str, Any]) -> None:
    print_line(json_line(fields))


def print_error(text: str) -> None:
    """Print a line on standard error, in red on a terminal. An actor may have chosen a part of the text."""
    if not sys.stderr.isatty():
        sys.stderr.write(printable(text, "\n") + "\n")
        return
    with ending_at_once():
        from provider.commands.output import stderr_console, write_line

        console = stderr_console()
    write_line(console, text, "red")


def print_bytes(data: bytes) -> None:
    with flushed():
        sys.stdout.buffer.write(data)


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device: Python flushes its buffer at exit and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
