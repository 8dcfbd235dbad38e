"""The revisions that the client has seen, for the compare-and-set of its next writes. Pure."""

from __future__ import annotations

from typing import NamedTuple

from provider.state_proxy.key_memory import MAX_BYTES, MAX_KEYS, KeyMemory

UNREAD_SECONDS = 20.0
"""Time after a conflict from which a key that was never read may be overwritten. It is longer than a handler that is at work
goes on, and short for a message that is tried again and again."""

_GONE = -1
"""A revision that no entry has."""

_FOREVER = float("inf")


class _Seen(NamedTuple):
    """The newest revision that the client has read or written.

    Attributes:
        revision: The revision; 0: no entry.
        is_read: Whether the client has read the key, not only written it.
        lapses_at: Time at which the revision is forgotten.
    """

    revision: int
    is_read: bool
    lapses_at: float = _FOREVER


class SeenRevisions:
    """The revisions that reads and the client's own writes have shown, of the most recently used keys.

    A write of such a key requires that revision. A conflict changes nothing, so that all writes conflict until the key has
    been read. Two cases would lock a client out for ever, since it cannot read: a key that another writer has removed, which may be
    created anew by the write after the conflict, and a client that only writes, which may overwrite after
    `UNREAD_SECONDS`. Above the limits, the least recently used keys are forgotten.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._seen: KeyMemory[_Seen] = KeyMemory(max_keys, max_bytes)

    def expected(self, key: str, now: float) -> int | None:
        """Return the revision that a write of a key requires; 0: no entry; `None`: any."""
        seen = self._seen.get(key)
        return seen.revision if seen is not None and now < seen.lapses_at else None

    def read(self, key: str, revision: int) -> None:
        """Note the revision of the content that the client gets, in place of an earlier one."""
        self._seen.put(key, _Seen(revision, is_read=True))

    def written(self, key: str, expected: int | None, revision: int) -> None:
        """Note a write of the client's own.

        Args:
            key: Key as stored.
            expected: Result of `expected` before the write. If a read has shown another revision since, the read counts.
            revision: Revision after the write.
        """
        seen = self._seen.get(key)
        if seen is None:
            self._seen.put(key, _Seen(revision, is_read=False))
        elif not seen.is_read:  # of two writes at the same time, the later one counts
            self._seen.put(key, _Seen(max(revision, seen.revision), is_read=False))
        elif seen.revision == expected:
            self._seen.put(key, _Seen(revision, is_read=True))

    def conflicted(self, key: str, found: int, now: float) -> None:
        """Note that a write did not find the expected revision, but another one; 0: no entry."""
        seen = self._seen.get(key)
        if seen is None:
            return
        if not found:
            self._seen.put(key, _Seen(0, seen.is_read))
        elif not seen.is_read and seen.lapses_at == _FOREVER:
            self._seen.put(key, seen._replace(lapses_at=now + UNREAD_SECONDS))

    def outdate(self) -> None:
        """Make the next write of every key that was read conflict: the bucket was recreated, and its revisions begin again.

        Absence stays as it is, since 0 means the same in every bucket. A key that was only written is forgotten.
        """
        for key, seen in self._seen.items():
            if not seen.is_read:
                self._seen.drop(key)
            elif seen.revision:
                self._seen.put(key, seen._replace(revision=_GONE))

    def forget(self, key: str) -> None:
        """Drop a key, after the client has deleted it."""
        self._seen.drop(key)
