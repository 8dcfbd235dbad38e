"""The turns of calls with long parameters: so many have them at once as have room in memory together. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

_TURN_SECONDS = 30.0
"""Time for all of long parameters, for whose end other callers may wait: 64 MiB at two MiB a second."""

_Call = TypeVar("_Call", bound=Hashable)


class _Place(NamedTuple):
    """The place of a call: the size of its parameters, and the time until which it may wait, or may send."""

    size_bytes: int
    until: float


class Turns(Generic[_Call]):
    """The calls that have their turns, and those that wait for them, which begin in the order in which they came.

    Attributes:
        room_bytes: Size of the parameters that have room together. Larger ones go alone.
    """

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._present: dict[_Call, _Place] = {}
        self._present_bytes = 0
        self._waiting: dict[_Call, _Place] = {}

    def begin(self, call: _Call, size_bytes: int, now: float, hold_seconds: float) -> bool:
        """Begin the turn of a call, or have it wait for so many seconds; return whether it has its turn."""
        if self._waiting or not self._has_room(size_bytes):
            self._waiting[call] = _Place(size_bytes, now + hold_seconds)
            return False
        self._begin(call, size_bytes, now)
        return True

    def end(self, call: _Call, now: float) -> list[_Call]:
        """End the turn of a call, or its wait for one, if it has any; return the calls whose turns begin now."""
        if place := self._present.pop(call, None):
            self._present_bytes -= place.size_bytes
        self._waiting.pop(call, None)
        begun = []
        while self._waiting:  # also if others have given up that had waited before them
            first, (size_bytes, _) = next(iter(self._waiting.items()))
            if not self._has_room(size_bytes):
                break
            del self._waiting[first]
            self._begin(first, size_bytes, now)
            begun.append(first)
        return begun

    def is_late(self, call: _Call, now: float) -> bool:
        """Tell whether a call has had its turn for too long."""
        return call in self._present and self._present[call].until < now

    @property
    def next_due(self) -> float | None:
        """The time until which the first of the calls that wait does so; `None` if none waits."""
        return min((place.until for place in self._waiting.values()), default=None)

    def give_up(self, now: float) -> list[tuple[_Call, int]]:
        """Let the calls go that have waited for too long; return them with the sizes of their parameters."""
        late = [(call, place.size_bytes) for call, place in self._waiting.items() if place.until <= now]
        for call, _ in late:
            del self._waiting[call]
        return late

    def _has_room(self, size_bytes: int) -> bool:
        return not self._present or self._present_bytes + size_bytes <= self.room_bytes

    def _begin(self, call: _Call, size_bytes: int, now: float) -> None:
        self._present[call] = _Place(size_bytes, now + _TURN_SECONDS)
        self._present_bytes += size_bytes
