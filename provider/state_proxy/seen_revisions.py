"""The revisions that the client has seen, for the compare-and-set of its next writes. Pure."""

from __future__ import annotations

from provider.state_proxy.key_memory import MAX_BYTES, MAX_KEYS, KeyMemory

UNREAD_SECONDS = 20.0
"""Time after a conflict from which a key that was never read may be overwritten. It is longer than a handler that is at work
goes on, and short for a message that is tried again and again."""

_GONE = 2**63
"""A revision that no entry has."""

_FOREVER = float("inf")


class SeenRevisions:
    """The revisions that reads and the client's own writes have shown, of the most recently used keys.

    A write of such a key requires that revision. A conflict changes nothing, so that all writes conflict until the key has
    been read. Two cases would lock a client out for ever, since it cannot read: a key that another writer has removed, which may be
    created anew by the write after the conflict, and a client that only writes, which may overwrite after
    `UNREAD_SECONDS`. Above the limits, the least recently used keys are forgotten.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._seen: KeyMemory[int] = KeyMemory(max_keys, max_bytes)
        """The revision of each key that was read, and its complement, which is negative, if the key was only written. One
        number takes a fifth of the memory of an object."""
        self._lapses_at: KeyMemory[float] = KeyMemory(max_keys, max_bytes)
        """Times at which keys that were only written, and have conflicted, are forgotten."""

    def expected(self, key: str, now: float) -> int | None:
        """Return the revision that a write of a key requires; 0: no entry; `None`: any."""
        seen = self._seen.get(key)
        if seen is None or seen >= 0:
            return seen
        return ~seen if now < (self._lapses_at.get(key) or _FOREVER) else None

    def read(self, key: str, revision: int) -> None:
        """Note the revision of the content that the client gets, in place of an earlier one."""
        self._seen.put(key, revision)

    def written(self, key: str, expected: int | None, revision: int) -> None:
        """Note a write of the client's own.

        Args:
            key: Key as stored.
            expected: Result of `expected` before the write. If a read has shown another revision since, the read counts.
            revision: Revision after the write.
        """
        seen = self._seen.get(key)
        if seen is None or seen < 0:
            newest = max(revision, ~seen) if seen is not None else revision  # of two writes at the same time
            self._lapses_at.drop(key)
            self._seen.put(key, ~newest)
        elif seen == expected:
            self._seen.put(key, revision)

    def conflicted(self, key: str, found: int, now: float) -> None:
        """Note that a write did not find the expected revision, but another one; 0: no entry."""
        seen = self._seen.get(key)
        if seen is not None and not found:
            self._seen.put(key, 0)
        elif seen is not None and seen < 0 and self._lapses_at.get(key) is None:
            self._lapses_at.put(key, now + UNREAD_SECONDS)

    def outdate(self) -> None:
        """Make the next write of every key that was read conflict: the bucket was recreated, and its revisions begin again.

        Absence stays as it is, since 0 means the same in every bucket. A key that was only written is forgotten.
        """
        for key, seen in self._seen.items():
            if seen < 0:
                self._seen.drop(key)
            elif seen:
                self._seen.put(key, _GONE)

    def forget(self, key: str) -> None:
        """Drop a key, after the client has deleted it."""
        self._seen.drop(key)
