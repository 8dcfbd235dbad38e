"""Standard output of the commands: each line at once, and what becomes of a command when nobody takes it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import msgspec
import typer

from provider.commands.errors import OutputError
from provider.commands.output import stderr_console, write_line


def failed(error: Exception, code: int = 1) -> typer.Exit:
    """Say what went wrong and return what ends the command."""
    write_line(stderr_console(), f"{'usage' if code == 2 else 'error'}: {error}", "red")
    return typer.Exit(code)


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Have what is printed inside go out now: whoever reads a pipe waits for it.

    Raises:
        typer.Exit: With 0 when nobody reads on, as behind `head`; with 1, once it was said why, when it cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        raise typer.Exit from None
    except OSError as error:
        discard(sys.stdout)
        raise failed(OutputError((error.strerror or "error").lower())) from None


def print_line(text: str) -> None:
    with written():
        sys.stdout.write(text + "\n")


def print_object(fields: dict[str, Any]) -> None:
    print_line(msgspec.json.encode(fields).decode())


def print_bytes(data: bytes) -> None:
    with written():
        sys.stdout.buffer.write(data)


def discard(stream: TextIO) -> None:
    """Have what is still in a stream go nowhere: Python writes it out at the end, whatever became of it before."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
