"""One text, member or element, with the event that added it. Pure."""

from __future__ import annotations

from msgspec import Struct

from provider.keyvalue.cache.causality import Dot

BOOKKEEPING_BYTES = 100
"""Size counted for an item, a tally or a key beyond its text: about what the objects that hold it take in memory."""


def size_of(value: str | bytes) -> int:
    """Return the size of a text in UTF-8, or of a binary value, in bytes."""
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())


class Item(Struct, gc=False):
    """A text, a member of a set or an element of a list.

    Attributes:
        replica: Replica that added it.
        count: That replica's counter; both together are the dot of the item.
        clock: Hybrid time of the event.
        value: Text of the item; a binary value in place of a text is bytes.
        expires_at_ms: Moment from which it is no longer seen, in milliseconds since 1970; 0: it does not expire.
    """

    replica: str
    count: int
    clock: int
    value: str | bytes
    expires_at_ms: int = 0

    @property
    def dot(self) -> Dot:
        return self.replica, self.count

    @property
    def order(self) -> tuple[int, str, int]:
        """Total order of items: by time, then by dot, so that it is the same on all replicas."""
        return self.clock, self.replica, self.count
