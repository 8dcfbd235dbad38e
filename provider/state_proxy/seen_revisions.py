"""The revisions that the client has seen, for the compare-and-set of its next writes. Pure."""

from __future__ import annotations

from collections import OrderedDict

MAX_KEYS = 4096
"""An actor works on few files at a time; a key that is forgotten is written unconditionally."""

MAX_BYTES = 512 * 1024
"""Long keys count by their size: the connector has 32 MiB for everything."""

_GONE = -1
"""A revision that no entry has."""


class SeenRevisions:
    """The revisions that reads have shown, of the most recently used keys.

    Absence is seen too, as revision 0: a client that has found nothing and then writes must not overwrite an entry that
    another writer has created since. Above the limits, the least recently used keys are forgotten.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._revisions)

    def expected(self, key: str) -> int | None:
        """Return the revision that a write of a key requires; 0: no entry; `None`: any, because the key was never read."""
        return self._revisions.get(key)

    def read(self, key: str, revision: int) -> None:
        """Note the revision that a read has shown, in place of an earlier one."""
        self.forget(key)
        self._revisions[key] = revision
        self._bytes += len(key)
        while len(self._revisions) > self._max_keys or self._bytes > self._max_bytes:
            dropped, _ = self._revisions.popitem(last=False)
            self._bytes -= len(dropped)

    def found_absent(self, key: str) -> None:
        """Note that a lookup has not found a key. The revision of an earlier read stays."""
        if key not in self._revisions:
            self.read(key, 0)

    def written(self, key: str, expected: int | None, revision: int) -> None:
        """Note a write of the client's own. A key that was never read stays unread.

        Args:
            key: Key as stored.
            expected: Result of `expected` before the write. If a read has shown another revision since, the read counts.
            revision: Revision after the write; 0 after a deletion.
        """
        if expected is not None and self._revisions.get(key) == expected:
            self.read(key, revision)

    def outdate(self) -> None:
        """Make every write of a key that was read conflict: the bucket was recreated, and its revisions begin again.

        Absence stays as it is, since 0 means the same in every bucket.
        """
        for key, revision in self._revisions.items():
            if revision:
                self._revisions[key] = _GONE

    def forget(self, key: str) -> None:
        """Drop a key, for example after a conflict."""
        if self._revisions.pop(key, None) is not None:
            self._bytes -= len(key)
