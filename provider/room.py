"""A share of the memory for large payloads: those that do not fit wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class TakesRoom(Protocol):
    """A call, or anything else that needs room for longer than a read takes."""

    async def take_room(self, size_bytes: int) -> None:
        """Wait for room, unless that much has been taken before.

        Raises:
            TimeoutError: There was no room in time.
        """
        ...


class Room:
    """A number of bytes that tasks share, in the order in which they ask.

    It holds one payload of the greatest size, or several smaller ones. So memory is bounded by the room, however many tasks
    want a part of it. A payload that is larger than the whole room goes alone.

    Args:
        size_bytes: Size of the room.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int, deadline: float | None = None) -> None:
        """Wait for room. `give_back` must follow.

        Args:
            size_bytes: Size of the payload.
            deadline: Time on the event loop's clock; `None`: no limit.

        Raises:
            TimeoutError: There was no room until the deadline.
        """
        size_bytes = min(size_bytes, self._size_bytes)
        if size_bytes <= self._free_bytes and not self._waiting:
            self._free_bytes -= size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()  # the ones behind it may fit
            else:  # its turn came at the same moment
                self.give_back(size_bytes)
            raise

    def give_back(self, size_bytes: int) -> None:
        self._free_bytes += min(size_bytes, self._size_bytes)
        self._serve()

    def _serve(self) -> None:
        """Give the room to those that wait, first come, first served: a large payload is not overtaken for ever."""
        for entry in list(self._waiting):
            size_bytes, turn = entry
            if turn.done():  # cancelled; its task is about to take it out
                continue
            if size_bytes > self._free_bytes:
                return
            self._waiting.remove(entry)
            self._free_bytes -= size_bytes
            turn.set_result(None)


class HeldRoom:
    """Room for a value that is used after it has been read; a `TakesRoom`.

    Args:
        room: The room of which it is a part.
        deadline: Time until which there must be room, on the event loop's clock.
    """

    def __init__(self, room: Room, deadline: float) -> None:
        self._room = room
        self._deadline = deadline
        self._size_bytes = 0

    async def take_room(self, size_bytes: int) -> None:
        if self._size_bytes < size_bytes:
            self.give_back()
            await self._room.take(size_bytes, self._deadline)
            self._size_bytes = size_bytes

    def give_back(self) -> None:
        size_bytes, self._size_bytes = self._size_bytes, 0
        if size_bytes:
            self._room.give_back(size_bytes)
