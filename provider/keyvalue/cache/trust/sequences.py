"""The memory of the messages that have been received, by sender, so that none is taken twice. Pure.

A sender numbers its messages. Its id is new with each of its processes, so the numbers need not be kept for longer than a
message is believed: until its time is too old.
"""

from __future__ import annotations

_WINDOW = 1024
"""Messages of one sender that may overtake each other. They come over one connection, so few do."""

_MAX_SENDERS = 4096
"""Senders that are remembered: four times as many as a replica knows peers. Beyond that, the one idle longest goes."""

_CHECKS_PER_SECOND = 1000
"""Signatures checked in vain within a second: a twentieth of a core, and far more than mistakes make."""


class Budget:
    """A number of tries for each second; by default, of failed checks. Times are seconds of a steady clock."""

    __slots__ = ("_left", "_per_second", "_second")

    def __init__(self, per_second: int = _CHECKS_PER_SECOND) -> None:
        self._per_second = self._left = per_second
        self._second = 0

    def is_spent(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._left = int(now), self._per_second
        return self._left <= 0

    def spend(self) -> None:
        self._left -= 1


class SenderHistory:
    """The messages of one sender.

    Attributes:
        failures: Budget for messages in its name that it has not signed.
        last: Time at which the last message arrived, in seconds of a steady clock.
        ahead_ms: Time by which its clock was ahead of the own one then; negative: behind, or the message took long.
    """

    __slots__ = ("_highest", "_seen", "ahead_ms", "failures", "last")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0
        """Bit i: message `_highest` - i has been taken."""
        self.failures = Budget()
        self.last = 0.0
        self.ahead_ms = 0

    def is_new(self, sequence: int) -> bool:
        """Tell whether a message has not been taken. One that is too old to be remembered counts as taken."""
        age = self._highest - sequence
        return age < 0 or (age < _WINDOW and not self._seen >> age & 1)

    def take(self, sequence: int) -> None:
        """Note a message that is new and signed."""
        ahead = sequence - self._highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, _WINDOW) | 1) & _MASK
            self._highest = sequence
        else:
            self._seen |= 1 << -ahead


_MASK = (1 << _WINDOW) - 1


class Senders:
    """All senders that have signed a message."""

    def __init__(self) -> None:
        self._by_id: dict[str, SenderHistory] = {}

    def get(self, sender: str) -> SenderHistory | None:
        return self._by_id.get(sender)

    def add(self, sender_id: str, now: float) -> SenderHistory:
        """Add a sender; forget the one that has been idle longest if there are too many."""
        if len(self._by_id) >= _MAX_SENDERS:
            del self._by_id[min(self._by_id, key=lambda name: self._by_id[name].last)]
        sender = self._by_id[sender_id] = SenderHistory()
        sender.last = now
        return sender

    def greatest_drift_ms(self, since: float) -> int:
        """Return the greatest difference between the own clock and that of a sender that was heard since a given time."""
        return max((abs(sender.ahead_ms) for sender in self._by_id.values() if sender.last >= since), default=0)

    def drop_idle(self, now: float, seconds: float) -> None:
        """Forget the senders that have been idle for longer than any of their messages is believed."""
        for name in [name for name, sender in self._by_id.items() if now - sender.last > seconds]:
            del self._by_id[name]
