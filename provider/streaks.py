"""Failures in a row: work that always fails although all its parts seem to work. Health tells of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from provider import errors

_log = logging.getLogger(__name__)

_TOLD_FROM = 3
"""Failures that may have different reasons of their own; more of them without a success between have one in common."""

_TOLD_SECONDS = 300.0
"""Time after the last failure for which it still says something about the next call. Hosts ask for health every 30 s."""

_REFUSALS = (errors.StoreFullError, errors.StoreRefusedError)


class FailureStreak:
    """The failures of one kind of work since its last success.

    Args:
        work: Plural noun of the work, for health and log.
        clock: Clock in seconds, of any beginning.

    Attributes:
        count: Number of failures since the last success.
        is_refused: Whether the last failure was a refusal for good, which no repetition changes.
    """

    __slots__ = ("_clock", "_failed_at", "_text", "_work", "count", "is_refused")

    def __init__(self, work: str, clock: Callable[[], float]) -> None:
        self.count = 0
        self.is_refused = False
        self._work = work
        self._clock = clock
        self._failed_at = 0.0
        self._text = ""

    def succeeded(self) -> None:
        """Begin anew. Callers may leave this out while `count` is 0."""
        if self.count >= _TOLD_FROM:
            _log.info("works_again", extra={"work": self._work})
        self.count = 0

    def failed(self, error: errors.ProviderError) -> None:
        """Count a failure. Only its text is kept: the error would keep the frames of its call alive."""
        self.count += 1
        self.is_refused = isinstance(error, _REFUSALS)
        self._text = str(error)
        self._failed_at = self._clock()
        if self.count == _TOLD_FROM:
            _log.error("keeps_failing", extra={"work": self._work, "reason": self._text})

    @property
    def reason(self) -> str | None:
        """The text for health, or `None` as long as a failure may be one of a single call."""
        seconds = self._clock() - self._failed_at
        if self.count < _TOLD_FROM or seconds > _TOLD_SECONDS:
            return None
        return f"{self._work}: the last {self.count} failed, the latest {seconds:.0f} s ago: {self._text}"
