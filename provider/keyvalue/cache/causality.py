"""Causality between the events of replicas: dots, contexts and hybrid logical clocks. Pure.

Each change is an event, identified by its dot: the id of the replica that made it and that replica's event counter. A
context records which events a replica has applied. An item whose dot is in the context but not in the state has been
removed; no tombstone is needed to know it.

Source: Almeida, Shoker, Baquero, "Delta state replicated data types" (2018), for dots, version vectors and dot clouds;
Kulkarni et al., "Logical physical clocks" (2014), for the clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

Dot = tuple[str, int]
"""The id of a replica and the counter of one of its events, from 1."""

MAX_DRIFT_MS = 60_000
"""Time by which another replica's clock may be ahead of this machine's.

The latest write wins, so a clock in the future wins for that long. Synchronised machines differ by less than a second;
a minute leaves room for those that have just started.
"""

MAX_OBSERVED_DRIFT_MS = 30_000
"""Time by which another replica may move the own clock ahead.

Half of the time that others accept: a replica whose clock is 30 seconds behind still accepts the times that follow from it. A
change from further ahead is taken in, but later changes are not dated after it.
"""

_LOGICAL_BITS = 16
"""Bits of a time that count events within one millisecond: 65,536 before the time runs ahead of the wall clock."""


class HybridClock:
    """A hybrid logical clock: its times never go back and exceed every time that it has observed.

    Attributes:
        last: Last time given or observed: milliseconds since 1970, shifted left by 16 bits of a counter.
        ceiling_ms: Latest time that is observed, in milliseconds since 1970.
    """

    def __init__(self) -> None:
        self.last = 0
        self.ceiling_ms = 2**62

    def tick(self, now_ms: int) -> int:
        """Return the time of a new event."""
        self.last = max(self.last + 1, now_ms << _LOGICAL_BITS)
        return self.last

    def observe(self, time: int) -> None:
        """Make later events later than an event of another replica, unless that is beyond the ceiling."""
        if self.last < time and time >> _LOGICAL_BITS <= self.ceiling_ms:
            self.last = time

    def ahead_ms(self, now_ms: int) -> int:
        """Return the lead over a wall clock in milliseconds; it is large after the wall clock was set back."""
        return max((self.last >> _LOGICAL_BITS) - now_ms, 0)


def latest_time(now_ms: int) -> int:
    """Return the latest hybrid time that is not further in the future than clocks may differ."""
    return (now_ms + MAX_DRIFT_MS + 1 << _LOGICAL_BITS) - 1


class Context:
    """A causal context: the set of events that a replica has applied.

    Attributes:
        vector: Version vector: by replica, the counter up to which all its events have been applied.
        cloud: Dot cloud: by replica, the counters of applied events that follow a gap; empty while nothing is lost.
    """

    __slots__ = ("_changed", "_cloud_hashes", "_digest", "_hashes", "cloud", "vector")

    def __init__(self, vector: Mapping[str, int] | None = None, cloud: Mapping[str, set[int]] | None = None) -> None:
        self.vector = dict(vector or {})
        self.cloud = {replica: set(counts) for replica, counts in (cloud or {}).items() if counts}
        self._changed: set[str] = set()
        """Replicas whose events have changed since the digest was computed."""
        self._digest: int | None = None
        self._hashes: dict[str, int] = {}
        self._cloud_hashes: dict[str, int] = {}

    def has(self, replica: str, count: int) -> bool:
        return count <= self.vector.get(replica, 0) or (replica in self.cloud and count in self.cloud[replica])

    def has_any(self, replica: str) -> bool:
        """Tell whether there is any event of a replica."""
        return replica in self.vector or replica in self.cloud

    def add(self, replica: str, count: int) -> bool:
        """Add an event; return whether it is new."""
        known = self.vector.get(replica, 0)
        if count == known + 1:
            self.vector[replica] = count
            self._changed.add(replica)
            if self.cloud and replica in self.cloud:
                self._compact(replica)
            return True
        if count <= known:
            return False
        cloud = self.cloud.setdefault(replica, set())
        self._changed.add(replica)
        before = len(cloud)
        cloud.add(count)
        return len(cloud) > before

    def merge(self, other: Context) -> None:
        for replica, count in other.vector.items():
            if count > self.vector.get(replica, 0):
                self.vector[replica] = count
                self._changed.add(replica)
        self._changed.update(other.cloud)
        for replica, counts in other.cloud.items():
            self.cloud.setdefault(replica, set()).update(counts)
        for replica in list(self.cloud):
            self._compact(replica)

    def covers(self, other: Context) -> bool:
        """Tell whether each event of another context is in this one."""
        return all(self.vector.get(replica, 0) >= count for replica, count in other.vector.items()) and all(
            self.has(replica, count) for replica, counts in other.cloud.items() for count in counts
        )

    @property
    def size(self) -> int:
        """Number of entries: replicas in the vector, and events in the cloud."""
        return len(self.vector) + sum(map(len, self.cloud.values()))

    def digest(self, without: Iterable[str]) -> int:
        """Return a digest of the context, some replicas left out of its vector. The order of replicas does not matter.

        It is compared with each heartbeat, and a context may have thousands of replicas, so the hashes are kept. The texts
        that are hashed are part of the format of messages: all releases must compute the same digest.

        Args:
            without: Replicas that are left out, each once.
        """
        if self._digest is None:
            self._digest = 0
            self._changed = {*self.vector, *self.cloud}
        digest = self._digest
        for replica in self._changed:
            digest ^= self._hashes.pop(replica, 0) ^ self._cloud_hashes.pop(replica, 0)
            if replica in self.vector:
                found = self._hashes[replica] = _hash(f"{replica} {self.vector[replica]}")
                digest ^= found
            if replica in self.cloud:
                found = self._cloud_hashes[replica] = _hash(f"{replica} strays {sorted(self.cloud[replica])}")
                digest ^= found
        self._changed.clear()
        self._digest = digest
        for replica in without:
            digest ^= self._hashes.get(replica, 0)
        return digest

    def copy(self) -> Context:
        return Context(self.vector, self.cloud)

    def _compact(self, replica: str) -> None:
        """Move from the cloud to the vector the events that have no gap before them any more."""
        counts = self.cloud[replica]
        known = self.vector.get(replica, 0)
        while known + 1 in counts:
            known += 1
        if known:
            self.vector[replica] = known
        applied = [count for count in counts if count <= known]
        if applied:
            self._changed.add(replica)
            counts.difference_update(applied)
        if not counts:
            del self.cloud[replica]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.vector == other.vector and self.cloud == other.cloud

    __hash__ = None  # type: ignore[assignment]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def by_replica(dots: Iterable[Dot]) -> dict[str, list[int]]:
    """Return the counters of dots by replica."""
    counts: dict[str, list[int]] = {}
    for replica, count in dots:
        counts.setdefault(replica, []).append(count)
    return counts
