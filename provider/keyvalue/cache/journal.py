"""Which key was last touched by which event of a replica. Pure."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable


class Journal:
    """By key, the last event of one replica that touched it; in the order of the events unless they came otherwise."""

    __slots__ = ("_counts", "_is_ordered", "_last")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last = 0
        self._is_ordered = True

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: str) -> int | None:
        return self._counts.get(key)

    def note(self, key: str, count: int) -> None:
        counts = self._counts
        if key in counts:
            if counts[key] >= count:
                return
            del counts[key]
        counts[key] = count
        if count > self._last:
            self._last = count
        else:
            self._is_ordered = False

    def forget(self, key: str) -> None:
        self._counts.pop(key, None)

    def after(self, count: int) -> Iterable[str]:
        """Return the keys touched by later events than one."""
        if count >= self._last:
            return ()
        if not self._is_ordered:
            return [key for key, touched in self._counts.items() if touched > count]
        return itertools.islice(self._counts, bisect.bisect_right(list(self._counts.values()), count), None)
