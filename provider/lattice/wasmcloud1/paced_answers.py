"""Large answers, sent one after the other and not faster than a host reads: its connection is lost otherwise.

A server keeps at most 64 MiB for a client that reads slowly, and then cuts it off (`max_pending`). wRPC has no word by which a
reader could ask for more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from provider.lattice.wasmcloud1.exchanges import Outgoing
from provider.nats.connection import Connection
from provider.tasks import TaskOwner

BYTES_PER_SECOND = 64 * 1024 * 1024
"""A host on a busy machine reads this fast. An answer of the greatest size takes a second."""

_FLUSH_SECONDS = 1.0
"""Time for the server to take one message."""


class PacedAnswers:
    """The messages of large answers that wait to be sent.

    Args:
        connection: Connection to the lattice.
        publish: Publishes messages.
        tasks: Owner of the task that sends them.
    """

    def __init__(self, connection: Connection, publish: Callable[[list[Outgoing]], None], tasks: TaskOwner) -> None:
        self._connection = connection
        self._publish = publish
        self._tasks = tasks
        self._waiting: deque[Outgoing] = deque()
        self._are_sent = asyncio.Event()
        self._are_sent.set()

    def send(self, messages: list[Outgoing]) -> None:
        """Send messages, after those that wait."""
        self._waiting.extend(messages)
        if self._are_sent.is_set():
            self._are_sent.clear()
            self._tasks.start(self._send_all(), "send large answers")

    def send_now(self) -> None:
        """Send what waits at once: the process ends."""
        messages, self._waiting = list(self._waiting), deque()
        self._publish(messages)

    async def sent(self) -> None:
        """Wait until nothing waits any more."""
        await self._are_sent.wait()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                message = self._waiting.popleft()
                self._publish([message])
                if message.payload:
                    await self._connection.flush(_FLUSH_SECONDS)
                    await asyncio.sleep(len(message.payload) / BYTES_PER_SECOND)
        finally:
            self._are_sent.set()
