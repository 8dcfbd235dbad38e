"""The sending of messages in pieces, one piece after the other, so that calls are answered in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from provider.keyvalue.cache.messages import Piece
from provider.keyvalue.cache.pieces.cutting import MAX_TEXT_BYTES, Cut

_PAUSE_SECONDS = 0.002
"""Time between two pieces: 64 MiB a second. Servers drop a receiver for which more than that waits."""

_MAX_BYTES = 2 * MAX_TEXT_BYTES
"""Memory of the texts that are waiting. The others pull what finds no room."""


class OutgoingPieces:
    """The messages that are still to be sent in pieces.

    Args:
        send: Function that sends a piece to all replicas.
    """

    def __init__(self, send: Callable[[Piece], None]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Cut] = deque()
        self._waiting_bytes = 0
        self._next = 0
        """Number of the next piece of the first of them."""

    def add(self, cut: Cut) -> None:
        """Send a message after those that are waiting, unless there is no room for it."""
        if self._waiting and self._waiting_bytes + cut.size_bytes > _MAX_BYTES:
            return
        self._waiting.append(cut)
        self._waiting_bytes += cut.size_bytes
        if len(self._waiting) == 1:
            self._send_next()

    def _send_next(self) -> None:
        cut = self._waiting[0]
        self._send(cut.piece(self._next))
        self._next += 1
        if self._next == cut.count:
            self._waiting.popleft()
            self._waiting_bytes -= cut.size_bytes
            self._next = 0
        if self._waiting:
            self._loop.call_later(_PAUSE_SECONDS, self._send_next)
