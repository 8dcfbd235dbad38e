"""The revisions that the client has seen, for the compare-and-set of its next writes. Pure."""

from __future__ import annotations

from provider.state_proxy.key_memory import MAX_BYTES, MAX_KEYS, KeyMemory

_GONE = -1
"""A revision that no entry has."""


class SeenRevisions:
    """The revisions that reads have shown, of the most recently used keys.

    Absence is seen too, as revision 0: a client that has found nothing and then writes must not overwrite an entry that
    another writer has created since. Above the limits, the least recently used keys are forgotten.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._revisions: KeyMemory[int] = KeyMemory(max_keys, max_bytes)

    def __len__(self) -> int:
        return len(self._revisions)

    def expected(self, key: str) -> int | None:
        """Return the revision that a write of a key requires; 0: no entry; `None`: any, because the key was never read."""
        return self._revisions.get(key)

    def read(self, key: str, revision: int) -> None:
        """Note the revision that a read has shown, in place of an earlier one."""
        self._revisions.put(key, revision)

    def found_absent(self, key: str) -> None:
        """Note that a lookup has not found a key. The revision of an earlier read stays."""
        if self._revisions.get(key) is None:
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
        self._revisions.replace_all(lambda revision: _GONE if revision else 0)

    def forget(self, key: str) -> None:
        """Drop a key, for example after a conflict."""
        self._revisions.drop(key)
