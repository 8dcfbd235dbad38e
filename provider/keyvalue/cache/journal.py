"""The keys that each replica's events changed, and the revisions of keys that follow from them. Pure.

A journal makes anti-entropy cheap: the keys that changed beyond another replica's context are found without comparing
states. A deleted key stays in the journals until its tombstone is discarded.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable

from provider.keyvalue.cache.causality import Context


class Journal:
    """By key, the last event of one replica that changed it, in the order of the events while they arrive in order."""

    __slots__ = ("_counts", "_is_ordered", "_last")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last = 0
        self._is_ordered = True

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def keys(self) -> Iterable[str]:
        """Keys that its events changed."""
        return self._counts

    def count(self, key: str) -> int:
        """Return the last event that changed a key that is in the journal."""
        return self._counts[key]

    def note(self, key: str, count: int) -> None:
        counts = self._counts
        if key in counts:
            if counts[key] >= count:
                return
            del counts[key]  # so that the key moves to the end, and the order of events is kept
        counts[key] = count
        if count > self._last:
            self._last = count
        else:
            self._is_ordered = False

    def forget(self, key: str) -> None:
        self._counts.pop(key, None)

    def keys_after(self, count: int) -> Iterable[str]:
        """Return the keys changed by later events than a given one."""
        if count >= self._last:
            return ()
        if not self._is_ordered:
            return [key for key, changed in self._counts.items() if changed > count]
        return itertools.islice(self._counts, bisect.bisect_right(list(self._counts.values()), count), None)


class Journals:
    """The journals of all replicas, as one replica keeps them.

    The version vector of a key names, by replica, the last event that changed it. The revision of a key is the sum of
    that vector, so it grows with every event. It must never be given twice, not even when the key was deleted and
    forgotten in between. Therefore a key that is new after a key was forgotten begins above every forgotten revision.
    """

    __slots__ = ("_authors", "_by_replica", "_first_revisions", "_forgotten_revision", "_new_key")

    def __init__(self) -> None:
        self._by_replica: dict[str, Journal] = {}
        self._authors: dict[str, str | set[str]] = {}
        """By key, the replica whose events changed it, or a set of several: there may be thousands of journals to search."""
        self._forgotten_revision = 0
        """Highest revision of a key that has been forgotten."""
        self._first_revisions: dict[str, int] = {}
        """By key, the offset of its revisions, if it is not 0."""
        self._new_key = ""
        """A key that has been begun and has no event yet."""

    def begin(self, key: str) -> None:
        """Expect the first event of a key that is new."""
        if self._forgotten_revision:
            self._new_key = key

    def note(self, key: str, replica: str, count: int) -> None:
        """Note that an event has changed a key."""
        journal = self._by_replica.get(replica)
        if journal is None:
            journal = self._by_replica[replica] = Journal()
        journal.note(key, count)
        authors = self._authors.get(key)
        if authors is None:
            self._authors[key] = replica
        elif isinstance(authors, set):
            authors.add(replica)
        elif authors != replica:
            self._authors[key] = {authors, replica}
        if self._new_key:
            self._raise_revision(key)

    def forget(self, key: str) -> None:
        """Forget a key whose tombstone is discarded."""
        self._forgotten_revision = max(self._forgotten_revision, self.revision(key))
        self._first_revisions.pop(key, None)
        for replica in self.vector(key):
            self._by_replica[replica].forget(key)
            if not self._by_replica[replica]:
                del self._by_replica[replica]
        self._authors.pop(key, None)

    def drop(self, replica: str) -> None:
        """Forget all events of a replica."""
        journal = self._by_replica.pop(replica, None)
        for key in journal.keys if journal is not None else ():
            authors = self._authors[key]
            if isinstance(authors, set):
                authors.discard(replica)
            else:
                del self._authors[key]

    def vector(self, key: str) -> dict[str, int]:
        """Return the version vector of a key: by replica, its last event that changed the key."""
        authors = self._authors.get(key, ())
        replicas = (authors,) if isinstance(authors, str) else authors
        return {replica: self._by_replica[replica].count(key) for replica in replicas}

    def revision(self, key: str) -> int:
        return self._first_revisions.get(key, 0) + sum(self.vector(key).values())

    def keys_beyond(self, context: Context) -> list[str]:
        """Return the keys changed by events beyond the version vector of a context."""
        keys: dict[str, None] = {}
        for replica, journal in self._by_replica.items():
            keys.update(dict.fromkeys(journal.keys_after(context.vector.get(replica, 0))))
        return list(keys)

    def _raise_revision(self, key: str) -> None:
        self._new_key = ""
        missing = self._forgotten_revision + 1 - self.revision(key)
        if missing > 0:
            self._first_revisions[key] = self._first_revisions.get(key, 0) + missing
