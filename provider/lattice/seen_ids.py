"""The ids of accepted invocations, in bounded memory, so that none is served twice. Pure: the time is an argument."""

from __future__ import annotations

from array import array

from provider import errors

_FIRST_SLOTS = 64
"""Half a KiB for each second in which tokens were issued. The table doubles when it is half full."""

_FINGERPRINT_MASK = 2**64 - 1


class SeenIds:
    """The ids of accepted invocations, for as long as their tokens are accepted.

    An id is stored under the second in which its token was issued (`iat`), as a 64-bit fingerprint of 16 to 32 bytes.
    A token is refused if it is older than `window_seconds`, or further ahead, so an id may be forgotten once its second
    is older than that. If there are more than `maximum_ids`, the oldest seconds are forgotten early, and tokens of
    those seconds are refused from then on. So an invocation whose id was forgotten cannot be served twice.

    The fingerprint is Python's keyed hash of the id. Two different ids share one with a probability of 2**-64.
    """

    def __init__(self, window_seconds: int, maximum_ids: int) -> None:
        self._window_seconds = window_seconds
        self._maximum_ids = maximum_ids
        self._seconds: dict[int, _Fingerprints] = {}
        self._count = 0
        self._oldest_accepted = 0
        self._pruned_at = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, invocation_id: str, issued_at: int, now: float) -> None:
        """Remember the id of an invocation, or refuse the invocation.

        Args:
            invocation_id: Id of a verified invocation.
            issued_at: The `iat` of its token.
            now: Seconds since 1970.

        Raises:
            errors.ClaimsTooOldError: The token is older than the window, or so old that ids of its age were forgotten.
            errors.ClaimsTooEarlyError: The token is further ahead than the window.
            errors.ReplayedError: The id was remembered before.
        """
        # 1. Refuse tokens whose ids may have been forgotten: without the id, a replay could not be recognized.
        if now - issued_at > self._window_seconds or issued_at < self._oldest_accepted:
            accepted = min(self._window_seconds, int(now) - self._oldest_accepted)
            raise errors.ClaimsTooOldError(int(now - issued_at), max(accepted, 0))
        if issued_at - now > self._window_seconds:
            raise errors.ClaimsTooEarlyError(int(issued_at - now), self._window_seconds)
        # 2. Remember the id, or find that it is known. A fingerprint is never 0, which marks a free slot.
        seen = self._seconds.get(issued_at)
        if seen is None:
            seen = self._seconds[issued_at] = _Fingerprints()
        if not seen.add(hash(invocation_id) & _FINGERPRINT_MASK or 1):
            raise errors.ReplayedError
        self._count += 1
        # 3. Forget the oldest second if there are too many ids, and at most once a second those out of the window.
        if self._count > self._maximum_ids:
            self._forget(min(self._seconds))
        if self._pruned_at != int(now):
            self._pruned_at = int(now)
            for second in [second for second in self._seconds if now - second > self._window_seconds]:
                self._forget(second)

    def _forget(self, second: int) -> None:
        self._count -= len(self._seconds.pop(second))
        self._oldest_accepted = max(self._oldest_accepted, second + 1)


class _Fingerprints:
    """A set of 64-bit numbers other than 0: open addressing in one flat array, at most half full."""

    __slots__ = ("_count", "_slots")

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, fingerprint: int) -> bool:
        """Add a number and return whether it was new."""
        slots = self._slots
        mask = len(slots) - 1
        index = fingerprint & mask
        while found := slots[index]:
            if found == fingerprint:
                return False
            index = (index + 1) & mask
        slots[index] = fingerprint
        self._count += 1
        if self._count * 2 > mask:
            self._grow()
        return True

    def _grow(self) -> None:
        """Double the table. This is half of the work of a busy second, so it calls nothing for each number."""
        slots = array("Q", bytes(16 * len(self._slots)))
        mask = len(slots) - 1
        for fingerprint in filter(None, self._slots):
            index = fingerprint & mask
            while slots[index]:
                index = (index + 1) & mask
            slots[index] = fingerprint
        self._slots = slots
