"""What has come of a transfer between replicas that has not come to its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from provider.keyvalue.cache.cells import Context, Dot
from provider.keyvalue.cache.messages import Floor, Part


class Coverage:
    """What has been taken in of a transfer so far: of some keys, all that the sender had when it began.

    Until the transfer is absorbed the own context does not say so. Without this, a late copy of an event would bring an
    item back that the sender had seen removed.
    """

    __slots__ = ("_keys", "_until", "context", "is_abandoned", "removals")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.is_abandoned = False
        self.removals: dict[str, tuple[list[Dot], list[Floor]]] = {}
        """By key, what has been removed here because of it."""
        self._keys: dict[str, None] = {}
        self._until: dict[str, Dot] = {}

    def add(self, part: Part) -> None:
        """Note a part that has been taken in; the parts of a key come in order."""
        if part.until is None:
            self._until.pop(part.key, None)
            self._keys[part.key] = None
        else:
            self._until[part.key] = part.until

    def note_removals(self, key: str, dots: Iterable[Dot], floors: Iterable[Floor] = ()) -> None:
        """Note what a part has removed: items, tallies by their starts, and what tallies had come to."""
        if dots or floors:
            noted = self.removals.setdefault(key, ([], []))
            noted[0].extend(dots)
            noted[1].extend(floors)

    def forget(self, key: str) -> None:
        """Note that what came of a key has been undone."""
        self._keys.pop(key, None)
        self._until.pop(key, None)

    @property
    def begun(self) -> list[str]:
        """The keys of which something has come."""
        return [*self._keys, *self._until]

    def has_key(self, key: str) -> bool:
        """Tell whether all of a key has come."""
        return key in self._keys

    def has(self, key: str, dot: Dot) -> bool:
        """Tell whether it is known what has become of an item or a tally."""
        if not self.context.has(*dot):
            return False
        return key in self._keys or (key in self._until and dot <= self._until[key])
