"""Standard output of the commands: every line is flushed at once, and a reader that stops reading ends the command."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from provider.commands.errors import OutputError, UsageError
from provider.errors import ProviderError
from provider.help_pages.style import PLAIN, RED, has_colors
from provider.plain_text import parts, plain_json_line, printable


def without_seeds(text: str) -> str:
    """Return a text without seeds of nkeys, which a person may give where a file or a name is expected. No error shows one."""
    return re.sub(r"\bS[A-Z][A-Z2-7]{56}\b", "(a seed)", text)


def adapt_output() -> None:
    """Let the standard streams take every text: a character that the terminal's encoding lacks becomes an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Flush the output printed inside: the reader of a pipe is waiting for it.

    Raises:
        SystemExit: The reader closed the pipe, as `head` does. This is not an error; the exit code is 0.
        OutputError: The output cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        raise SystemExit(0) from None
    except OSError as error:
        discard(sys.stdout)
        raise OutputError((error.strerror or "error").lower()) from None


def print_line(text: str, kept: str = "\n\t") -> None:
    """Print a text. A terminal gets escapes in place of control characters; a pipe gets the text as it is.

    Args:
        text: The text, which may be an actor's.
        kept: Control characters that a terminal gets too.
    """
    is_terminal = sys.stdout.isatty()
    with flushed():
        for part in parts(text):
            sys.stdout.write(printable(part, kept) if is_terminal else part)
        sys.stdout.write("\n")


def print_object(fields: dict[str, Any]) -> None:
    """Print an object of texts, numbers, lists and objects as a line of JSON."""
    print_line(plain_json_line(fields))


def print_error(text: str) -> None:
    """Print a line on standard error, in red on a terminal. An actor may have chosen a part of the text."""
    line = printable(text, "\n")
    sys.stderr.write(f"{RED}{line}{PLAIN}\n" if has_colors(sys.stderr) else f"{line}\n")


def report(error: ProviderError) -> int:
    """Print an error and return its exit code, which counts also where it cannot be printed."""
    is_usage = isinstance(error, UsageError)
    try:
        print_error(f"{'usage' if is_usage else 'error'}: {without_seeds(str(error))}")
    except OSError:
        discard(sys.stderr)
    return 2 if is_usage else 1


def print_bytes(data: bytes) -> None:
    with flushed():
        sys.stdout.buffer.write(data)


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device: Python flushes its buffer at exit and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
