"""Single keys from a terminal, while nothing else reads it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator

_KEYS = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"\r": "enter",
    b"\n": "enter",
    b"\x1b": "escape",
    b"\x7f": "escape",
}
"""Bytes that a terminal sends for a key, with its name. Other keys are named by their letter."""


@contextlib.contextmanager
def keys(press: Callable[[str], None]) -> Iterator[None]:
    """Call a function with the name of each key that is pressed; do nothing if standard input is no terminal.

    Interrupts stay as they are, and so does the terminal at the end.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def on_readable() -> None:
        data = os.read(descriptor, 64)
        if not data:  # the terminal is gone
            loop.remove_reader(descriptor)
            press("q")
        for name in names(data):
            press(name)

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, on_readable)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def names(data: bytes) -> Iterator[str]:
    """Yield the names of the keys in what a terminal has sent."""
    while data:
        sequence = max((known for known in _KEYS if data.startswith(known)), key=len, default=data[:1])
        data = data[len(sequence) :]
        yield _KEYS.get(sequence, sequence.decode(errors="replace"))
