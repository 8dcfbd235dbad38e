"""Interrupts while a command starts: modules are imported, which takes up to half a second, and an event loop is made."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let an interrupt end the process at once, without an exception in the middle of an import."""
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupted)


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Do as `asyncio.run`. An interrupt while the event loop is made would leave half of one, which complains at its end."""
    import asyncio

    with asyncio.Runner() as runner:
        with ending_at_once():
            runner.get_loop()
        return runner.run(work)
