"""The messages that a replica does not take in: the error with its reason, and the count of each reason. Pure."""

from __future__ import annotations

import enum


class Refusal(enum.Enum):
    """The reason for which a message is refused, as logs and health name it."""

    FOREIGN = "not a message of a replica"
    VERSION = "another version of the format"
    ISSUER = "signed with an unknown key"
    SIGNATURE = "a wrong signature"
    TIME = "a clock that differs too much"
    REPEATED = "repeated"
    UNCHECKED = "more than can be checked"
    DAMAGED = "damaged"
    CONTENT = "content that no replica sends"
    NAME = "in the name of this instance"
    CLOCK = "times too far ahead"
    LIMIT = "over a limit"


SIGNS_OF_OTHERS = frozenset({Refusal.VERSION, Refusal.ISSUER, Refusal.SIGNATURE, Refusal.TIME})
"""The reasons that a replica with another key, release, setting or clock gives. It may have what this one lacks."""


class ForeignMessageError(ValueError):
    """Bytes that no replica of this version sends, or that this replica has no room for.

    Attributes:
        refusal: Reason for the refusal.
        version: Version of the format that they claim to be, if it is another one than this replica's; else None.
    """

    def __init__(self, text: str, refusal: Refusal = Refusal.CONTENT, version: int | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal
        self.version = version


_QUIET_SECONDS = 60.0
"""Time for which a refusal is shown, and between two log lines for the same reason."""


class Refusals:
    """The messages refused of late, by reason. Times are seconds of a steady clock.

    A count goes on as long as the next message is refused for the same reason within a minute.

    Attributes:
        totals: Number of messages by reason since the start.
    """

    def __init__(self) -> None:
        self.totals: dict[Refusal, int] = {}
        self._counts: dict[Refusal, int] = {}
        self._refused_at: dict[Refusal, float] = {}
        self._logged_at: dict[Refusal, float] = {}

    def note(self, refusal: Refusal, now: float) -> bool:
        """Count a message; return whether to log it, which is not more than one in a minute for each reason."""
        self._counts[refusal] = self._counts[refusal] + 1 if refusal in self.recent(now) else 1
        self.totals[refusal] = self.totals.get(refusal, 0) + 1
        self._refused_at[refusal] = now
        is_due = now - self._logged_at.get(refusal, -_QUIET_SECONDS) >= _QUIET_SECONDS
        if is_due:
            self._logged_at[refusal] = now
        return is_due

    def recent(self, now: float) -> dict[Refusal, int]:
        """Return the number of messages by reason, but for reasons that have been quiet for a minute."""
        return {
            refusal: count
            for refusal, count in self._counts.items()
            if now - self._refused_at[refusal] < _QUIET_SECONDS
        }

    def signs_of_others(self, now: float, seconds: float) -> list[Refusal]:
        """Return the reasons, in the last seconds, that a replica which this one cannot understand has given."""
        return [
            refusal
            for refusal, refused_at in self._refused_at.items()
            if refusal in SIGNS_OF_OTHERS and now - refused_at < seconds
        ]
