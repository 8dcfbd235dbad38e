"""One text, member or element, with the event that added it. Pure."""

from __future__ import annotations

from msgspec import Struct

from contracts.long_values import LongBytes, LongText
from provider.keyvalue.cache.causality import Dot

BOOKKEEPING_BYTES = 100
"""Size counted for an item, a tally or a key beyond its text: about what the objects that hold it take in memory."""


ItemValue = str | bytes | LongBytes
"""A text, or a binary value in place of one; long ones are in parts."""


def size_of(value: ItemValue) -> int:
    """Return the size of a text in UTF-8, or of a binary value, in bytes."""
    return len(value) if not isinstance(value, str) or value.isascii() else len(value.encode())


def is_text(value: ItemValue) -> bool:
    """Tell whether a value is a text, short or long, and no binary value."""
    return isinstance(value, (str, LongText))


class Item(Struct, gc=False):
    """A text, a member of a set or an element of a list.

    Attributes:
        replica: Replica that added it.
        count: That replica's counter; both together are the dot of the item.
        clock: Hybrid time of the event.
        value: Text of the item, or a binary value in place of a text.
        expires_at_ms: Moment from which it is no longer seen, in milliseconds since 1970; 0: it does not expire.
    """

    replica: str
    count: int
    clock: int
    value: ItemValue
    expires_at_ms: int = 0

    @property
    def dot(self) -> Dot:
        return self.replica, self.count

    @property
    def order(self) -> tuple[int, str, int]:
        """Total order of items: by time, then by dot, so that it is the same on all replicas."""
        return self.clock, self.replica, self.count
