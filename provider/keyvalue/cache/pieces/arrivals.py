"""The messages that arrive in pieces without being asked for. Pure: times are seconds of a steady clock.

A replica publishes one message in pieces after the other. So there is one of each sender at a time, and a newer one replaces it.
Lost and dropped messages are pulled later, like any change that did not arrive.
"""

from __future__ import annotations

from provider.keyvalue.cache.messages import Deltas, Piece, TransferPage
from provider.keyvalue.cache.pieces.cutting import MAX_TEXT_BYTES, Whole
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError

_IDLE_SECONDS = 2.0
"""Time after which a message is dropped of which nothing more arrives: pieces follow each other within milliseconds."""

_MAX_SECONDS = 60.0
"""Time that all pieces of a message may take: 64 MiB at one MiB a second."""

_MAX_BYTES = 2 * MAX_TEXT_BYTES
"""Memory of all pieces that are kept: two of the largest texts, or many smaller ones."""

_MAX_ARRIVING = 64
"""Messages that arrive at once, as each costs memory however little of it has come."""


class _Arrival:
    def __init__(self, whole: Whole, now: float) -> None:
        self.whole = whole
        self.began_at = now
        self.last_at = now

    def is_over(self, now: float) -> bool:
        return now - self.last_at > _IDLE_SECONDS or now - self.began_at > _MAX_SECONDS


class Arrivals:
    """The pieces that have arrived of unfinished messages, by sender."""

    def __init__(self) -> None:
        self._arriving: dict[str, _Arrival] = {}

    @property
    def kept_bytes(self) -> int:
        """Size of all pieces that are kept."""
        return sum(arrival.whole.kept_bytes for arrival in self._arriving.values())

    def is_arriving(self, now: float) -> bool:
        """Tell whether further pieces of some message are expected."""
        self.drop_idle(now)
        return bool(self._arriving)

    def drop_idle(self, now: float) -> None:
        """Drop the messages of which nothing more arrives, or that have taken too long."""
        for sender in [sender for sender, arrival in self._arriving.items() if arrival.is_over(now)]:
            del self._arriving[sender]

    def add(self, sender: str, piece: Piece, now: float) -> Deltas | TransferPage | None:
        """Add a piece; return the message if it was the last one.

        Raises:
            ForeignMessageError: The piece does not fit to the others of its message, which is dropped.
        """
        self.drop_idle(now)
        arrival = self._arriving.get(sender)
        if arrival is None or arrival.whole.number < piece.whole:
            arrival = self._arriving[sender] = _Arrival(Whole(piece), now)
        elif arrival.whole.number > piece.whole:
            return None
        arrival.last_at = now
        try:
            is_whole = arrival.whole.add(piece)
        except ForeignMessageError:
            del self._arriving[sender]
            raise
        if is_whole:
            del self._arriving[sender]
            return arrival.whole.message()
        self._make_room(sender)
        return None

    def _make_room(self, sender: str) -> None:
        """Drop the messages of which nothing has arrived for longest; that of a given sender is the last to go."""
        while len(self._arriving) > _MAX_ARRIVING or self.kept_bytes > _MAX_BYTES:
            others = [name for name in self._arriving if name != sender]
            del self._arriving[min(others, key=lambda name: self._arriving[name].last_at, default=sender)]
