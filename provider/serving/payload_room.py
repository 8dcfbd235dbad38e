"""Room in memory for the payloads that travel through the object store: those that do not fit wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque

from provider import errors


class PayloadRoom:
    """A number of bytes that calls share, in the order in which they ask.

    It holds one payload of the greatest size, or several smaller ones. So memory is a small multiple of one call, however
    many are in flight.

    Args:
        size_bytes: Size of the room; no payload is larger.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int, deadline: float) -> None:
        """Wait for room. `give_back` must follow.

        Args:
            size_bytes: Size of the payload.
            deadline: Time on the event loop's clock.

        Raises:
            errors.NoRoomError: There was no room until the deadline.
        """
        if size_bytes <= self._free_bytes and not self._waiting:
            self._free_bytes -= size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()  # the ones behind it may fit
            else:  # its turn came at the same moment
                self.give_back(size_bytes)
            if isinstance(error, TimeoutError):
                raise errors.NoRoomError(size_bytes, self._size_bytes) from None
            raise

    def give_back(self, size_bytes: int) -> None:
        self._free_bytes += size_bytes
        self._serve()

    def _serve(self) -> None:
        """Give the room to those that wait, first come, first served: a large payload is not overtaken for ever."""
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            self._free_bytes -= size_bytes
            turn.set_result(None)
