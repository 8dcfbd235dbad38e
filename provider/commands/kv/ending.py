"""How a command that goes on for ever is ended by a signal, whatever it is doing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from provider.commands.kv.printing import discard


class Ending:
    """SIGINT and SIGTERM from here on: they cancel a task, once there is one.

    Before that, and while a line is being written that nobody reads, they raise `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_writing = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def cancels(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write something inside; when a signal ends that, the rest of it goes nowhere."""
        self._is_writing = True
        try:
            yield
        except KeyboardInterrupt:
            discard(sys.stdout)
            discard(sys.stderr)
            raise
        finally:
            self._is_writing = False

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._task is None or self._is_writing:
            raise KeyboardInterrupt
        self._task.cancel()
        self._task.get_loop().call_soon_threadsafe(lambda: None)  # it may be waiting for messages
