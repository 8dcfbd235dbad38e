"""The end of a message of a bucket, as its headers tell it, and the values that a provider has to remove then. Pure.

A provider's value carries its own end, `Expires-At`, by which all reads decide. Another client tells the server a time to
live, `Nats-TTL`, in any of the forms that the server accepts.

The server removes an overwritten message without a durable trace. So once it has removed the newer one by its TTL, a kill of
the server can bring the older one back. A provider therefore leaves the removal to the server only where nothing older can
show: no message stood under the key, or one that the server itself removes no later than the new one. `Expires-By: server`
says so. Any other value stands after its end until a provider replaces it by a marker, which stays.

Source: ADR-43; nats-server issue 8505, server/filestore.go.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from provider.keyvalue.kinds import NEVER_MS
from provider.nats.buckets import NANOSECONDS_PER_MS, TTL_LEVEL
from provider.nats.headers import TTL, ttl_seconds

EXPIRES_AT = b"Expires-At"
EXPIRES_BY = b"Expires-By"
SERVER = b"server"
"""The only value of `Expires-By`."""

NEVER = b"never"
"""TTL of a message that outlives the maximum age of its bucket."""

_TIME_MS = re.compile(rb"[0-9]{1,13}\Z")
"""A time up to the year 2286: the seconds until then are within the range that a server accepts as a TTL."""

_LAST_MS = 10**13 - 1
"""The last such time. A longer TTL ends here."""


class End(NamedTuple):
    """The end of a message.

    Attributes:
        at_ms: The time, in milliseconds since 1970; 0: the message has no end; `NEVER_MS`: as for `values.Value`.
        is_servers: Whether the server removes the message then.
        is_safe: Whether nothing older can show once the server has removed it.
        age_ms: The time at which the message reaches the maximum age of its bucket; 0: never.
    """

    at_ms: int
    is_servers: bool = False
    is_safe: bool = False
    age_ms: int = 0


NO_END = End(0)


class Lifetimes(NamedTuple):
    """The properties of a bucket that decide how its messages end.

    Attributes:
        honors_ttl: Whether the server removes messages by their TTL. If not, a TTL has no meaning.
        max_age_ms: The maximum age of a message; 0: no limit.
    """

    honors_ttl: bool = False
    max_age_ms: int = 0


NO_LIFETIMES = Lifetimes()


def lifetimes_of(level: int, max_age_ns: int, *, allows_ttl: bool) -> Lifetimes:
    """Return the lifetimes of a stream's messages.

    Args:
        level: The server's API level; see `JetStream.level`.
        max_age_ns: The stream's maximum age, in nanoseconds; 0: no limit.
        allows_ttl: Whether the stream takes messages with a TTL.
    """
    return Lifetimes(level >= TTL_LEVEL and allows_ttl, max_age_ns // NANOSECONDS_PER_MS)


def end_of(headers: dict[bytes, bytes], time_ms: int, lifetimes: Lifetimes) -> End:
    """Return the end of a message.

    Args:
        headers: The message's headers by name; others than the three of the end may be left out.
        time_ms: When the message was stored; not needed for a provider's own end in a bucket without a maximum age.
        lifetimes: The ends that the bucket gives.
    """
    age_ms = time_ms + lifetimes.max_age_ms if lifetimes.max_age_ms else 0
    ttl = headers.get(TTL) if lifetimes.honors_ttl else None
    expires_at = headers.get(EXPIRES_AT)
    if expires_at is not None:
        is_safe = ttl is not None and headers.get(EXPIRES_BY) == SERVER
        return End(time_of(expires_at) or 0, ttl is not None, is_safe, age_ms)
    if ttl is None:
        return End(0, age_ms=age_ms) if age_ms else NO_END
    if ttl.lower() == NEVER:
        return End(NEVER_MS)
    seconds = ttl_seconds(ttl)
    return End(min(time_ms + seconds * 1000, _LAST_MS) if seconds else 0, seconds > 0, age_ms=age_ms)


def time_of(expires_at: bytes) -> int | None:
    """Return the time in an `Expires-At` header: 0 for never, `None` if no provider could have written the header."""
    return int(expires_at) if _TIME_MS.match(expires_at) else None


# --- the values that a provider has to remove

SERVER_GRACE_MS = 60_000
"""Time after its end for which a value is left to the server or to the process that has written it. Each process scans the
bucket in less time and then finds the marker, so that one of them writes it and not all."""


_MOST_PENDING = 16_384
"""Values that are remembered: some five megabytes with keys of usual length. The state-proxy has 32 for everything."""


class Due(NamedTuple):
    """A value to remove."""

    bucket_key: str
    revision: int


class Expirations:
    """The pending removals of one open bucket.

    Memory is bounded: of more values only those that end first are kept, and the bucket is scanned again before the first of
    the others ends.

    Args:
        most: Most values that are remembered.

    Attributes:
        scanned: Revision up to which the bucket has been scanned for values that end.
        marked: Number of values that were replaced by markers.
    """

    def __init__(self, most: int = _MOST_PENDING) -> None:
        self.scanned = 0
        self.marked = 0
        self._most = most
        self._pending: dict[str, tuple[int, int]] = {}
        """Revision and time of removal, by key."""
        self._earliest_ms = 0
        """No value is due before this time."""
        self._forgotten_ms = 0
        """The time at which the first of those that were not kept is due; 0: all were kept."""

    def note(self, bucket_key: str, revision: int, due_ms: int) -> None:
        """Remember that a revision of a key has to be removed at a time."""
        known = self._pending.get(bucket_key)
        if known is not None and (known[0] > revision or (known[0] == revision and known[1] <= due_ms)):
            return
        self._pending[bucket_key] = revision, due_ms
        self._earliest_ms = min(self._earliest_ms, due_ms) if len(self._pending) > 1 else due_ms
        if len(self._pending) > self._most:
            self._forget_the_later_half()

    def drop(self, bucket_key: str, revision: int) -> None:
        """Forget a key: this revision of it has no end that a provider looks after."""
        if self._pending and self._pending.get(bucket_key, (revision + 1, 0))[0] <= revision:
            del self._pending[bucket_key]

    def has(self, bucket_key: str) -> bool:
        """Tell whether a key is to be removed."""
        return bucket_key in self._pending

    def take_due(self, now_ms: int, most: int) -> list[Due]:
        """Return values that have to be removed now, and forget them."""
        if not self._pending or now_ms < self._earliest_ms:
            return []
        due: list[Due] = []
        earliest_ms = 0
        for bucket_key, (revision, due_ms) in self._pending.items():
            if due_ms <= now_ms and len(due) < most:
                due.append(Due(bucket_key, revision))
            elif not earliest_ms or due_ms < earliest_ms:
                earliest_ms = due_ms
        for bucket_key, _ in due:
            del self._pending[bucket_key]
        self._earliest_ms = earliest_ms
        return due

    def begin_scan(self, now_ms: int) -> int:
        """Return the revision after which to scan: from the beginning if a value that was not kept is due soon."""
        if self._forgotten_ms and self._forgotten_ms - SERVER_GRACE_MS <= now_ms:
            self.start_over()
        return self.scanned

    def start_over(self) -> None:
        """Let the next scan begin at the bucket's beginning."""
        self.scanned = self._forgotten_ms = 0

    def _forget_the_later_half(self) -> None:
        by_time = sorted(self._pending.items(), key=lambda item: item[1][1])
        middle = len(by_time) // 2
        first_ms = by_time[middle][1][1]
        self._pending = dict(by_time[:middle])
        self._forgotten_ms = min(self._forgotten_ms or first_ms, first_ms)
